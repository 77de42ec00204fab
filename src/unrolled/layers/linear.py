"""A linear layer whose products use the faster of torch's two ways on a CPU.

torch computes products of float32 by its BLAS library; its oneDNN library, which it carries too, is twice as fast on
processors that the BLAS library was not written for (2048 x 256 x 513 on an AMD EPYC Zen 5: 1.0 against 2.3 ms).
"""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import in_float32
from unrolled.engine.followed import followed

_WORTH = 1_000_000  # multiply-adds below which getting there takes as long


class Linear(nn.Linear):
    """As torch.nn.Linear: y = W x + b."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(..., in_features) -> (..., out_features); for autocast see `linear`."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As torch.nn.functional.linear: `x` (..., in) and `weight` (out, in) -> (..., out).

    Under autocast the products are rounded as torch does it, but what comes out is float32 all the same.
    """
    # Contiguous: oneDNN takes a thousand times as long for a matrix that is some columns of another.
    rows, weight = x.reshape(-1, x.shape[-1]).contiguous(), weight.contiguous()
    if bias is None or not _suits(rows, weight):
        product: Tensor = in_float32(nn.functional.linear(x, weight, bias))
        return product
    outputs: Tensor = _Product.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return outputs.view(*x.shape[:-1], weight.shape[0])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        d_bias = gradient.sum(0)
        if torch.is_grad_enabled():  # create_graph=True: with operations that torch can differentiate
            return gradient @ weight, gradient.t() @ rows, d_bias
        d_rows = product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        return d_rows, product(gradient.t(), rows.t(), None), d_bias


def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`rows` (n, in) times `weight` (out, in), transposed, + `bias`: by oneDNN where that is worth it; no gradients."""
    if not _suits(rows, weight):
        return nn.functional.linear(rows, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def _suits(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.shape[0] * weight.numel() >= _WORTH
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (rows, weight))
        and not torch.is_autocast_enabled("cpu")
        and not followed((rows, weight))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
