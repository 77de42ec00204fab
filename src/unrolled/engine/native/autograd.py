"""The native engine as operations of torch, with the signature of the reference engine.

`unrolled::unroll` and its backward are registered with torch.library, so that torch.compile and torch.export see one
operation each. Programs travel as their JSON text. A backward pass that is itself to be differentiated is run by the
reference engine.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.native import run
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.rows import rows_of
from unrolled.engine.reference import State
from unrolled.equations import Program

# The input's products stay in the loop (see compiled.py) from so many sequences on and up to so many weights, which
# then stay in the last cache from step to step.
_ROWS_INSIDE = 24
_WEIGHTS_INSIDE = 5_000_000


def unroll(
    program: Program, parameters: Mapping[str, Tensor], x: Tensor, state: State, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """As `reference.unroll`, for float32 on the CPU."""
    given = [parameters[p.name] for p in program.parameters]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *state, *given))
    if keep or torch.compiler.is_compiling():
        outputs, *final, _ = _unroll(_text(program), x, list(state), given, lengths, keep)
    else:
        outputs, final, _ = _forward(program, x, state, given, lengths, keep=False)
    return outputs, tuple(final)


def _forward(
    program: Program, x: Tensor, state: Sequence[Tensor], given: Sequence[Tensor], lengths: Tensor | None, keep: bool
) -> tuple[Tensor, list[Tensor], Tensor]:
    cell = cell_of(program, x, state, given)
    rows = rows_of(x.shape[0], x.shape[1], lengths)
    return run.forward(cell, _named(program, given), rows, x, state, keep)


@torch.library.custom_op("unrolled::unroll", mutates_args=())
def _unroll(
    program: str, x: Tensor, state: list[Tensor], parameters: list[Tensor], lengths: Tensor | None, keep: bool
) -> list[Tensor]:
    """[outputs, *final states, trace for the backward pass]."""
    outputs, final, trace = _forward(_program(program), x, state, parameters, lengths, keep)
    return [outputs, *final, trace]


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
) -> list[Tensor]:
    """[gradient of x, empty unless `of_input`, *of the states, *of the parameters]."""
    traced = _program(program)
    cell = cell_of(traced, x, state, parameters)
    rows = rows_of(x.shape[0], x.shape[1], lengths)
    named = _named(traced, parameters)
    d_x, d_state, found = run.backward(cell, named, rows, trace, d_outputs, d_final, of_input)
    return [d_x, *d_state, *(found[p.name] for p in traced.parameters)]


@_unroll.register_fake
def _unroll_shapes(
    program: str, x: Tensor, state: list[Tensor], parameters: list[Tensor], lengths: Tensor | None, keep: bool
) -> list[Tensor]:
    outputs = x.new_empty(x.shape[0], x.shape[1], state[0].shape[1])
    sizes: tuple[Any, ...] = x.shape  # numbers, or symbols where sizes are left open
    batch, time = sizes[:2]
    trace: Any = 0
    if keep and isinstance(batch, int) and isinstance(time, int):
        cell = cell_of(_program(program), x, state, parameters)
        trace = run.trace_floats(cell, batch, time)
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
) -> list[Tensor]:
    return [x.new_empty(x.shape if of_input else (0,)), *(t.new_empty(t.shape) for t in (*state, *parameters))]


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    program, x, state, parameters, lengths, keep = inputs
    ctx.program, ctx.states, ctx.keep = program, len(state), keep
    ctx.set_materialize_grads(False)  # a gradient of zeros for the trace would be as large as the trace
    ctx.save_for_backward(x, *state, *parameters, output[-1], *([] if lengths is None else [lengths]))


def _backward(ctx: Any, gradients: Sequence[Tensor | None]) -> Any:
    x, *rest = ctx.saved_tensors
    count = len(_program(ctx.program).parameters)
    state, parameters = rest[: ctx.states], rest[ctx.states : ctx.states + count]
    trace, *lengths = rest[ctx.states + count :]
    d_outputs, *given = gradients[:-1]
    if d_outputs is None:
        d_outputs = x.new_zeros(x.shape[0], x.shape[1], state[0].shape[1])
    d_final = [torch.zeros_like(s) if d is None else d for d, s in zip(given, state, strict=True)]
    of_input = ctx.needs_input_grad[1]
    if torch.is_grad_enabled():  # create_graph=True
        found = _differentiable(ctx, x, state, parameters, lengths[0] if lengths else None, [d_outputs, *d_final])
        return None, found[0], found[1 : 1 + ctx.states], found[1 + ctx.states :], None, None
    d_x, *others = _unroll_backward(
        ctx.program, x, state, parameters, lengths[0] if lengths else None, trace, d_outputs, d_final, of_input
    )
    return None, d_x if of_input else None, others[: ctx.states], others[ctx.states :], None, None


def _differentiable(
    ctx: Any,
    x: Tensor,
    state: Sequence[Tensor],
    parameters: Sequence[Tensor],
    lengths: Tensor | None,
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients of x, states and parameters with a graph behind them."""
    program = _program(ctx.program)
    named = {p.name: value for p, value in zip(program.parameters, parameters, strict=True)}
    outputs, final = reference.unroll(program, named, x, tuple(state), lengths)
    inputs = [x, *state, *parameters]
    wanted = [value for value in inputs if value.requires_grad]
    found = torch.autograd.grad((outputs, *final), wanted, gradients, create_graph=True, allow_unused=True)
    by_identity = {id(value): gradient for value, gradient in zip(wanted, found, strict=True)}
    return [by_identity.get(id(value)) for value in inputs]


_unroll.register_autograd(_backward, setup_context=_save)


def _named(program: Program, given: Sequence[Tensor]) -> dict[str, Tensor]:
    return {p.name: value.contiguous() for p, value in zip(program.parameters, given, strict=True)}


def cell_of(program: Program, x: Tensor, state: Sequence[Tensor], given: Sequence[Tensor]) -> CompiledCell:
    """The plans of a Program at the sizes that the shapes show."""
    sizes = {program.inputs[0].shape[0]: int(x.shape[2])}
    sizes.update({s.shape[0]: int(value.shape[1]) for s, value in zip(program.states, state, strict=True)})
    for parameter, value in zip(program.parameters, given, strict=True):
        for dimension, size in zip(parameter.shape, value.shape, strict=True):
            if dimension.isidentifier():
                sizes.setdefault(dimension, int(size))
    weights = sum(value.numel() for value in given if value.dim() == 2)
    hoisting = x.shape[0] < _ROWS_INSIDE or weights > _WEIGHTS_INSIDE
    return _compiled(_text(program), tuple(sizes.items()), hoisting)


@functools.lru_cache(maxsize=128)
def _compiled(program: str, sizes: tuple[tuple[str, int], ...], hoisting: bool) -> CompiledCell:
    return CompiledCell(_program(program), dict(sizes), hoisting)


_texts: dict[int, tuple[Program, str]] = {}


def _text(program: Program) -> str:
    """The JSON text of a Program, worked out once for each object."""
    found = _texts.get(id(program))
    if found is None or found[0] is not program:
        if len(_texts) > 256:  # cells made in a loop
            _texts.clear()
        found = _texts[id(program)] = (program, program.to_json())
    return found[1]


@functools.lru_cache(maxsize=128)
def _program(text: str) -> Program:
    program = Program.from_json(text)
    _texts[id(program)] = (program, text)
    return program
