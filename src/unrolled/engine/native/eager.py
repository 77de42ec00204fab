"""The native engine in torch's autograd where nothing but autograd looks on: the same as operation.py with less between
the caller and the engine."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.native import run
from unrolled.engine.native.programs import cell_of, named_of
from unrolled.engine.native.rows import rows_of
from unrolled.equations import Program


def unroll_forward(
    program: Program,
    x: Tensor,
    state: Sequence[Tensor],
    given: Sequence[Tensor],
    lengths: Tensor | None,
    keep: bool,
    bf16: bool,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Outputs, final states, and the trace for the backward pass, empty unless `keep`; `bf16` as in `cell_of`."""
    cell = cell_of(program, x, state, given, bf16)
    rows = rows_of(x.shape[0], x.shape[1], lengths)
    return run.forward(cell, named_of(program, given), rows, x, state, keep)


class Unroll(torch.autograd.Function):
    """`Unroll.apply(program, bf16, lengths, x, *state, *parameters)` gives (outputs, *final states)."""

    @staticmethod
    def forward(
        ctx: Any, program: Program, bf16: bool, lengths: Tensor | None, x: Tensor, *given: Tensor
    ) -> tuple[Tensor, ...]:
        """The run, which leaves its trace in the context."""
        states = len(program.states)
        outputs, final, trace = unroll_forward(program, x, given[:states], given[states:], lengths, True, bf16)
        ctx.program, ctx.bf16 = program, bf16
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, trace, x, *given)
        return outputs, *final

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor | None, *d_final: Tensor | None) -> Any:
        """The gradients; those of gradients by the reference engine."""
        program = ctx.program
        lengths, trace, x, *given = ctx.saved_tensors
        state, parameters = given[: len(program.states)], given[len(program.states) :]
        if d_outputs is None:
            d_outputs = x.new_zeros(x.shape[0], x.shape[1], state[0].shape[1])
        d_states = [torch.zeros_like(s) if d is None else d for d, s in zip(d_final, state, strict=True)]
        if torch.is_grad_enabled():  # create_graph=True
            return None, None, None, *differentiable(program, x, state, parameters, lengths, [d_outputs, *d_states])
        cell = cell_of(program, x, state, parameters, ctx.bf16)
        rows = rows_of(x.shape[0], x.shape[1], lengths)
        of_input = ctx.needs_input_grad[3]
        named = named_of(program, parameters)
        d_x, d_state, found = run.backward(cell, named, rows, trace, d_outputs, d_states, of_input)
        return None, None, None, d_x if of_input else None, *d_state, *(found[p.name] for p in program.parameters)


def differentiable(
    program: Program,
    x: Tensor,
    state: Sequence[Tensor],
    parameters: Sequence[Tensor],
    lengths: Tensor | None,
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients of x, states and parameters with a graph behind them, by the reference engine in float32."""
    named = {p.name: value for p, value in zip(program.parameters, parameters, strict=True)}
    inputs = [x, *state, *parameters]
    wanted = [value for value in inputs if value.requires_grad]
    with torch.autocast("cpu", enabled=False):
        outputs, final = reference.unroll(program, named, x, tuple(state), lengths)
        found = torch.autograd.grad((outputs, *final), wanted, gradients, create_graph=True, allow_unused=True)
    by_identity = {id(value): gradient for value, gradient in zip(wanted, found, strict=True)}
    return [by_identity.get(id(value)) for value in inputs]
