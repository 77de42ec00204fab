"""The native engine as operations of torch: `unrolled::unroll` and its backward.

They are registered with torch.library, so that torch.compile and torch.export see one operation each. Programs travel
as their JSON text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.engine.native import run
from unrolled.engine.native.arrays import vectors_of
from unrolled.engine.native.eager import differentiable, unroll_forward
from unrolled.engine.native.packs import packs_of
from unrolled.engine.native.programs import cell_of, program_of
from unrolled.engine.native.rows import rows_of
from unrolled.equations import Program


def _named(program: Program, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    return {p.name: value for p, value in zip(program.parameters, parameters, strict=True)}


@torch.library.custom_op("unrolled::unroll", mutates_args=())
def unroll(
    program: str,
    x: Tensor,
    state: list[Tensor],
    parameters: list[Tensor],
    lengths: Tensor | None,
    keep: bool,
    bf16: bool,
) -> list[Tensor]:
    """[outputs, *final states, trace for the backward pass]; `bf16` as in `cell_of`."""
    traced = program_of(program)
    outputs, final, trace, _ = unroll_forward(traced, x, state, _named(traced, parameters), lengths, keep, bf16)
    return [outputs.contiguous(), *final, trace]  # as the shapes below say, whatever the memory of x is like


@torch.library.custom_op("unrolled::unroll_backward", mutates_args=())
def _unroll_backward(
    program: str,
    x: Tensor,
    state: list[Tensor],
    parameters: list[Tensor],
    lengths: Tensor | None,
    trace: Tensor,
    d_outputs: Tensor,
    d_final: list[Tensor],
    of_input: bool,
    bf16: bool,
) -> list[Tensor]:
    """[gradient of x, empty unless `of_input`, *of the states, *of the parameters]."""
    traced = program_of(program)
    named = {name: p.contiguous() for name, p in _named(traced, parameters).items()}
    cell = cell_of(traced, x, state, named, bf16)
    rows = rows_of(x.shape[0], x.shape[1], lengths)
    packs = packs_of(cell, named)
    vectors = vectors_of(named)
    d_x, d_state, found = run.backward(cell, vectors, packs, rows, trace, d_outputs, d_final, named, of_input)
    return [d_x, *d_state, *found.values()]


@unroll.register_fake
def _unroll_shapes(
    program: str,
    x: Tensor,
    state: list[Tensor],
    parameters: list[Tensor],
    lengths: Tensor | None,
    keep: bool,
    bf16: bool,
) -> list[Tensor]:
    outputs = x.new_empty(x.shape[0], x.shape[1], state[0].shape[1])
    sizes: tuple[Any, ...] = x.shape  # numbers, or symbols where sizes are left open
    batch, time = sizes[:2]
    trace: Any = 0
    if keep and isinstance(batch, int) and isinstance(time, int):
        traced = program_of(program)
        cell = cell_of(traced, x, state, _named(traced, parameters), bf16)
        trace = run.trace_floats(cell, batch, batch * time)
    elif keep:  # which plans run depends on the sizes
        trace = torch.library.get_ctx().new_dynamic_size()
    return [outputs, *(s.new_empty(s.shape) for s in state), x.new_empty(trace)]


@_unroll_backward.register_fake
def _unroll_backward_shapes(
    program: str,
    x: Tensor,
    state: list[Tensor],
    parameters: list[Tensor],
    lengths: Tensor | None,
    trace: Tensor,
    d_outputs: Tensor,
    d_final: list[Tensor],
    of_input: bool,
    bf16: bool,
) -> list[Tensor]:
    return [x.new_empty(x.shape if of_input else (0,)), *(t.new_empty(t.shape) for t in (*state, *parameters))]


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    program, x, state, parameters, lengths, ctx.keep, ctx.bf16 = inputs
    ctx.program, ctx.states = program, len(state)
    ctx.set_materialize_grads(False)  # a gradient of zeros for the trace would be as large as the trace
    ctx.save_for_backward(x, *state, *parameters, output[-1], *([] if lengths is None else [lengths]))


def _backward(ctx: Any, gradients: Sequence[Tensor | None]) -> Any:
    x, *rest = ctx.saved_tensors
    count = len(program_of(ctx.program).parameters)
    state, parameters = rest[: ctx.states], rest[ctx.states : ctx.states + count]
    trace, *lengths = rest[ctx.states + count :]
    d_outputs, *given = gradients[:-1]
    if d_outputs is None:
        d_outputs = x.new_zeros(x.shape[0], x.shape[1], state[0].shape[1])
    d_final = [torch.zeros_like(s) if d is None else d for d, s in zip(given, state, strict=True)]
    of_input = ctx.needs_input_grad[1]
    if torch.is_grad_enabled():  # create_graph=True
        program = program_of(ctx.program)
        named = _named(program, parameters)
        inputs, seeds = [x, *state, *parameters], [d_outputs, *d_final]
        found = differentiable(program, x, state, named, inputs, lengths[0] if lengths else None, seeds)
        return None, found[0], found[1 : 1 + ctx.states], found[1 + ctx.states :], None, None, None
    d_x, *others = _unroll_backward(
        ctx.program,
        x,
        state,
        parameters,
        lengths[0] if lengths else None,
        trace,
        d_outputs,
        d_final,
        of_input,
        ctx.bf16,
    )
    return None, d_x if of_input else None, others[: ctx.states], others[ctx.states :], None, None, None


unroll.register_autograd(_backward, setup_context=_save)
