"""Running a cell over time in the native library: memory for the plans, forward and backward.

What a forward run leaves for the backward one is a single tensor, its trace, cut into arrays in a fixed order.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.native.arrays import buffer, of_vector, to_vector
from unrolled.engine.native.compiled import CompiledCell, gradient_from_later, gradient_from_loop
from unrolled.engine.native.outer import add_outer_products
from unrolled.engine.native.packs import Packs, packs_of
from unrolled.engine.native.plan import PARAMETER, SUM, Plan
from unrolled.engine.native.rows import Extent, Rows
from unrolled.engine.native.workspace import cut, floats_of, slab

_CHUNK = 96  # rows of the input product that a thread takes at a time: they stay in its second cache

_WORTH_A_THREAD = 250_000  # multiply-adds that take longer than waking a thread and waiting for it

Arrays = dict[str, Tensor]
Sizes = dict[str, tuple[int, int]]
Parameters = Mapping[str, Tensor]


def forward(
    cell: CompiledCell, parameters: Parameters, rows: Rows, x: Tensor, state: Sequence[Tensor], keep: bool
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Outputs (batch, time, size), final states (batch, size) and the trace, empty unless `keep`."""
    packs = packs_of(cell, parameters)
    before, step = cell.forward_before(keep).plan, cell.forward(keep)
    lasting = _trace_sizes(cell, rows) if keep else {}
    trace = slab(trace_floats(cell, Extent(rows.batch, rows.batch * rows.time)) if keep else 0)
    arrays = {**_vectors(parameters), **(cut(trace, lasting) if keep else {})}
    arrays.update({new: arrays[old] for new, old in step.in_place.items()})
    passing = {} if keep else {f"states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
    passing |= {} if keep else {cell.input: (rows.total, cell.input_width)}
    passing |= _missing(rows, arrays, before, step.plan, given=(*cell.states, *step.states))
    arrays.update(cut(None, passing))

    rows.pack(x, arrays[cell.input])
    _run_rows(before, rows, arrays, packs)
    for name, new, start in zip(cell.states, step.states, state, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
        rows.sort(start, arrays[name])
    _run(step.plan, rows.active, rows.forward_tables(keep), arrays, packs)

    width = cell.width(cell.states[0])
    outputs = (
        rows.unpack(arrays[cell.states[0]], width, rows.batch) if keep else rows.unpack(arrays[step.outputs], width)
    )
    return outputs, [rows.final(arrays[name], keep, cell.width(name)) for name in cell.states], trace


def backward(
    cell: CompiledCell,
    parameters: Parameters,
    rows: Rows,
    trace: Tensor,
    d_outputs: Tensor,
    d_final: Sequence[Tensor],
    of_input: bool,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """The gradients of the input (empty unless asked for), of the initial states and of the parameters."""
    packs = packs_of(cell, parameters)
    step, before = cell.backward(of_input), cell.backward_before(of_input)
    arrays = {**_vectors(parameters), **cut(trace, _trace_sizes(cell, rows))}
    arrays.update({new: arrays[old] for new, old in cell.forward(True).in_place.items()})
    following = list(cell.forward(True).states)
    for name, new in zip(cell.states, following, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    passing = {f"d_states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
    passing["d_output"] = (rows.total, d_outputs.shape[2])
    seeds = {gradient_from_loop(c): step.gradients[c] for c in cell.hoisted.carried if c in step.gradients}
    turns = [gradient_from_later(name) for name in cell.states] + [step.gradients[name] for name in cell.states]
    passing |= _missing(rows, arrays | dict.fromkeys(passing), step.plan, before.plan, given=(*turns, *seeds))
    arrays.update(cut(None, passing))
    for name in _sums(step.plan, before.plan):
        arrays[name].zero_()

    rows.pack(d_outputs, arrays["d_output"])
    for name, gradient in zip(cell.states, d_final, strict=True):
        # The gradients of two steps take turns; a sequence whose end has not been reached finds its own in both.
        memory = arrays[gradient_from_later(name)] = arrays[step.gradients[name]] = arrays[f"d_states {name}"]
        for first in (0, rows.batch):
            rows.sort(gradient, memory, first)
    _run(step.plan, rows.active[::-1].copy(), rows.backward_tables(), arrays, packs)
    arrays.update({seed: arrays[name] for seed, name in seeds.items()})
    _run_rows(before.plan, rows, arrays, packs)

    first = len(rows.active) % 2 * rows.batch
    d_state = [rows.unsort(arrays[f"d_states {name}"], cell.width(name), first=first) for name in cell.states]
    gradients = {name: torch.zeros(p.shape) for name, p in parameters.items()}
    for part in (step, before):
        for name, total in part.sums.items():
            gradients[name] += to_vector(arrays[total].sum(1), len(gradients[name]))
        add_outer_products(cell, part, rows, arrays, gradients)
    d_x = rows.unpack(arrays[before.gradients[cell.input]], cell.input_width) if of_input else torch.empty(0)
    return d_x, d_state, gradients


def trace_floats(cell: CompiledCell, extent: Extent) -> int:
    """The size of the trace of a full batch; a ragged one uses less of it."""
    return floats_of(_trace_sizes(cell, extent))


def _trace_sizes(cell: CompiledCell, rows: Rows | Extent) -> Sizes:
    """The arrays of the trace, in order."""
    in_place = cell.forward(True).in_place
    carried = [c for c in cell.hoisted.carried if c in cell.carried_read or c in in_place.values()]
    steps = dict.fromkeys([cell.input, *carried, *(k for k in cell.kept if k not in in_place), *cell.kept_before])
    sizes = {name: (rows.total, cell.width(name)) for name in steps}
    sizes.update({f"states {s}": (rows.batch + rows.total, cell.width(s)) for s in cell.states})
    return sizes


def _missing(rows: Rows, present: Mapping[str, object], *plans: Plan, given: Sequence[str]) -> Sizes:
    """The arrays of the plans that are neither `present` nor `given` under another name."""
    sizes: Sizes = {}
    for plan in plans:
        for name, memory in plan.memory.items():
            if name in present or name in given or memory == PARAMETER:
                continue
            step_rows = rows.batch if memory.table < 0 else rows.total
            sizes[name] = (torch.get_num_threads() if memory == SUM else step_rows, plan.widths[name])
    return sizes


def _vectors(parameters: Parameters) -> Arrays:
    return {name: of_vector(p) for name, p in parameters.items() if p.dim() == 1}


def _sums(*plans: Plan) -> list[str]:
    return [name for plan in plans for name, memory in plan.memory.items() if memory == SUM]


def _run_rows(plan: Plan, rows: Rows, arrays: Arrays, packs: Packs) -> None:
    """Run a plan that knows no time on all rows, in chunks."""
    chunk = max(1, min(_CHUNK, -(-rows.total // torch.get_num_threads())))
    starts = np.arange(0, rows.total, chunk, dtype=np.int64)
    _run(plan, np.minimum(chunk, rows.total - starts), starts[None].copy(), arrays, packs)


def _run(plan: Plan, active: np.ndarray, tables: np.ndarray, arrays: Arrays, packs: Packs) -> None:
    if plan.stages and len(active):
        buffers = {name: buffer(arrays[name]) for name in plan.memory}
        shared = active.sum() if plan.independent else active.max()  # rows between two moments of waiting
        plan.run(active, tables, buffers, packs[plan.matrices], threads_for(plan, int(shared)))


def threads_for(plan: Plan, rows: int) -> int:
    """As many threads as so many rows of the plan are worth, at most torch's."""
    return min(torch.get_num_threads(), 1 + rows * plan.work // _WORTH_A_THREAD)
