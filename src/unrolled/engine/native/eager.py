"""The native engine in torch's autograd where nothing but autograd looks on: the same as operation.py with less between
the caller and the engine."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.joined import separate
from unrolled.engine.native import run
from unrolled.engine.native.arrays import Vectors, vectors_of
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.packs import Packs, packs_of
from unrolled.engine.native.programs import cell_of
from unrolled.engine.native.rows import Rows, packed_rows, rows_of
from unrolled.engine.native.workspace import nothing
from unrolled.equations import Program


class Setting(NamedTuple):
    """What a forward run and its backward one have in common."""

    cell: CompiledCell
    packs: "ref[Packs]"  # a loss that is kept must not keep the packed weights of its step
    rows: Rows
    vectors: Vectors
    table_index: np.ndarray | None  # as `run.index_of`
    time_first: bool  # the input is in memory with time first, and so are the outputs and the gradient of the input


def unroll_forward(
    program: Program,
    x: Tensor,
    state: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    lengths: Tensor | None,
    keep: bool,
    bf16: bool,
    tokens: Tensor | None = None,
    backwards: bool = False,
) -> tuple[Tensor, list[Tensor], Tensor, Setting]:
    """Outputs, in memory with time first if x is; final states; and what the backward pass takes: the trace, empty
    unless `keep`, and the setting.

    `parameters` may be joined as in `separate`; `bf16` as in `cell_of`; `backwards` as in `reference.unroll`. With
    `tokens` (batch, time), x is a table.
    """
    parameters = {key: value.contiguous() for key, value in parameters.items()}
    cell = cell_of(program, x, state, parameters, bf16, tokens is not None)
    rows = _rows(x, tokens, lengths, backwards)
    index = None if tokens is None else run.index_of(rows, tokens, len(x))
    packs = packs_of(cell, parameters)
    vectors, time_first = vectors_of(parameters), tokens is None and x.stride(0) < x.stride(1)
    setting = Setting(cell, ref(packs), rows, vectors, index, time_first)
    return *run.forward(cell, vectors, packs, rows, x, state, keep, index, time_first), setting


def _rows(x: Tensor, tokens: Tensor | None, lengths: Tensor | None, backwards: bool) -> Rows:
    if lengths is not None and tokens is None and x.dim() == 2:
        return packed_rows(x, lengths, backwards)
    steps = x if tokens is None else tokens
    return rows_of(steps.shape[0], steps.shape[1], lengths, backwards)


class Unroll(torch.autograd.Function):
    """`Unroll.apply(program, names, bf16, backwards, lengths, tokens, x, *state, *parameters)` gives (outputs, *final);
    the parameters of these `names` may be joined as in `separate`."""

    @staticmethod
    def forward(
        ctx: Any,
        program: Program,
        names: tuple[str, ...],
        bf16: bool,
        backwards: bool,
        lengths: Tensor | None,
        tokens: Tensor | None,
        x: Tensor,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        """The run, which leaves its trace in the context."""
        states = len(program.states)
        joined = dict(zip(names, given[states:], strict=True))
        outputs, final, trace, ctx.setting = unroll_forward(
            program, x, given[:states], joined, lengths, True, bf16, tokens, backwards
        )
        ctx.program, ctx.names = program, names
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, tokens, trace, x, *given)
        return outputs, *final

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor | None, *d_final: Tensor | None) -> Any:
        """The gradients; those of gradients by the reference engine."""
        program = ctx.program
        lengths, tokens, trace, x, *given = ctx.saved_tensors
        state, parameters = given[: len(program.states)], given[len(program.states) :]
        joined = dict(zip(ctx.names, parameters, strict=True))
        if d_outputs is None:
            d_outputs = x.new_zeros(*(x.shape[:-1] if tokens is None else tokens.shape), state[0].shape[1])
        d_states = [nothing(*s.shape) if d is None else d for d, s in zip(d_final, state, strict=True)]
        if torch.is_grad_enabled():  # create_graph=True
            seeds = [d_outputs, *d_states]
            inputs = [x, *state, *parameters]
            backwards = ctx.setting.rows.backwards
            found = differentiable(program, x, state, separate(joined), inputs, lengths, seeds, tokens, backwards)
            return None, None, None, None, None, None, *found
        setting: Setting = ctx.setting
        of_input = ctx.needs_input_grad[6]
        words = None if tokens is None else len(x)
        packs = setting.packs() or packs_of(setting.cell, {name: value.contiguous() for name, value in joined.items()})
        common = (setting.cell, setting.vectors, packs, setting.rows)
        table = (setting.table_index, words, setting.time_first)
        d_x, d_state, gradients = run.backward(*common, trace, d_outputs, d_states, joined, of_input, *table)
        return None, None, None, None, None, None, d_x if of_input else None, *d_state, *gradients.values()


def differentiable(
    program: Program,
    x: Tensor,
    state: Sequence[Tensor],
    named: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    gradients: Sequence[Tensor],
    tokens: Tensor | None = None,
    backwards: bool = False,
) -> list[Tensor | None]:
    """The gradients of `inputs`, which are x, states and tensors that the `named` parameters are parts of, with a graph
    behind them, by the reference engine in float32."""
    wanted = [value for value in inputs if value.requires_grad]
    with torch.autocast("cpu", enabled=False):
        steps = x if tokens is None else reference.look_up(x, tokens)
        outputs, final = reference.unroll(program, named, steps, tuple(state), lengths, backwards)
        found = torch.autograd.grad((outputs, *final), wanted, gradients, create_graph=True, allow_unused=True)
    by_identity = {id(value): gradient for value, gradient in zip(wanted, found, strict=True)}
    return [by_identity.get(id(value)) for value in inputs]
