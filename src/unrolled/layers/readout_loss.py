"""The loss of a linear readout over a large vocabulary, with its logits in memory once.

The logits of a training step are its largest array. Here they become their own gradient in the forward pass, as in
Hsu et al. 2024 (Liger kernels), so that no other array of their size is made.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.engine import autocast_bf16, engine_for
from unrolled.engine.followed import followed
from unrolled.layers.linear import linear, product


def readout_loss(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The mean of cross_entropy(weight x + bias, target) in nats.

    `x` is (rows, in), `weight` (out, in), `bias` (out,), `targets` (rows,) int64.
    Under autocast the products are in bfloat16, and so are the logits.
    """
    given, autocast = (x, weight, bias), torch.is_autocast_enabled("cpu")
    suits = torch.is_grad_enabled() and len(x) and not followed(given) and {t.dtype for t in given} == {torch.float32}
    if not suits or engine_for(x)[0] != "native" or (autocast and not autocast_bf16()):
        return functional.cross_entropy(linear(x, weight, bias), targets)
    loss: Tensor = _ReadoutLoss.apply(x, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class _ReadoutLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        from unrolled.engine.native.around import cross_entropy_

        kind = torch.bfloat16 if autocast_bf16() else torch.float32
        rows, matrix = x.to(kind).contiguous(), weight.to(kind).contiguous()
        with torch.autocast("cpu", enabled=False):
            logits = product(rows, matrix, bias.to(kind))
        losses = cross_entropy_(logits, targets, 1 / len(x))
        ctx.save_for_backward(x, weight, bias, targets, rows, matrix, logits)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, targets, rows, matrix, d_logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            loss = functional.cross_entropy(functional.linear(x, weight, bias), targets)
            found = torch.autograd.grad(loss, (x, weight, bias), gradient, create_graph=True)
            return *found, None
        with torch.autocast("cpu", enabled=False):
            d_x = product(d_logits, matrix.t(), None)
            d_weight = product(d_logits.t(), rows.t(), None)
            # A product, since torch would make float32 of the whole array to sum it up.
            d_bias = product(d_logits.t(), d_logits.new_ones(1, len(d_logits)), None)[:, 0]
        gradients = [d.float() for d in (d_x, d_weight, d_bias)]
        if gradient != 1:  # that of a loss of its own is one
            gradients = [d * gradient for d in gradients]
        return *gradients, None
