"""A cell's forward and backward run of certain shapes, as tapes: which arrays there are, and the calls in their order.

Slots of a tape: "x", "state NAME", "parameter NAME" and what comes out of it, "outputs", "final NAME" and so on, are
the caller's; "trace" is what a forward run leaves for the backward one, a single piece of memory cut into arrays in a
fixed order; "work" and "sums" are needed only while it is played.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.engine.native.arrays import Array, Layout, array_rows, copy, tensor_rows
from unrolled.engine.native.compiled import CompiledCell, gradient_from_later, gradient_from_loop
from unrolled.engine.native.outer import PREVIOUS, record_outer_products
from unrolled.engine.native.packs import Key, packed_places
from unrolled.engine.native.plan import PARAMETER, SUM, Plan
from unrolled.engine.native.rows import Rows
from unrolled.engine.native.tape import Place, Tape

_CHUNK = 96  # rows of the input product that a thread takes at a time: they stay in its second cache
_WORTH_A_THREAD = 250_000  # multiply-adds that take longer than waking a thread and waiting for it

Sizes = dict[str, tuple[int, int]]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Recorded:
    """A tape, the matrices that it wants packed in its slot "packed", and the floats of its other memory."""

    tape: Tape
    matrices: tuple[Key, ...]
    work: int
    sums: int = 0
    totals: tuple[tuple[str, Array], ...] = ()
    """The arrays in "sums" whose rows add up to the gradient of a vector parameter."""


@functools.lru_cache(maxsize=256)
def trace_layout(cell: CompiledCell, batch: int, total: int) -> Layout:
    """The arrays of the trace for so many sequences and rows of all steps together."""
    in_place = cell.forward(True).in_place
    carried = [c for c in cell.hoisted.carried if c in cell.carried_read or c in in_place.values()]
    steps = dict.fromkeys([cell.input, *carried, *(k for k in cell.kept if k not in in_place), *cell.kept_before])
    sizes = {name: (total, cell.width(name)) for name in steps}
    sizes.update({f"states {s}": (batch + total, cell.width(s)) for s in cell.states})
    return Layout("trace", sizes)


def record_forward(
    cell: CompiledCell, rows: Rows, strides: tuple[int, int], state_strides: Sequence[int], keep: bool, threads: int
) -> Recorded:
    """`strides` are those of batch and time of x, `state_strides` those of the batch of the states."""
    tape = Tape()
    before, step = cell.forward_before(keep).plan, cell.forward(keep)
    arrays = _vectors(cell)
    passing: Sizes = {}
    if keep:
        arrays.update(trace_layout(cell, rows.batch, rows.total).arrays)
        arrays.update({new: arrays[old] for new, old in step.in_place.items()})
    else:
        passing = {f"states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
        passing[cell.input] = (rows.total, cell.input_width)
    passing |= _missing(rows, [*arrays, *passing, *cell.states, *step.states], before, step.plan)
    work = Layout("work", passing)
    arrays.update(work.arrays)
    for name, new in zip(cell.states, step.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    matrices = tuple(dict.fromkeys([*before.matrices, *step.plan.matrices]))
    packed, _ = packed_places(cell, matrices, "packed")

    x = tensor_rows(tape, "x", 0, rows.places(*strides))
    copy(tape, array_rows(tape, arrays[cell.input]), x, rows.total, cell.input_width, True, threads)
    _record_rows(tape, before, rows, arrays, packed, threads)
    for name, stride in zip(cell.states, state_strides, strict=True):
        start = tensor_rows(tape, f"state {name}", stride, rows.sorted_places(stride))
        copy(tape, array_rows(tape, arrays[name]), start, rows.batch, cell.width(name), True, threads)
    _record(tape, step.plan, rows.active, rows.forward_tables(keep), arrays, packed, threads)

    width = cell.width(cell.states[0])
    outputs = tensor_rows(tape, "outputs", 0, rows.places(rows.time * width, width))
    made = array_rows(tape, arrays[cell.states[0]], rows.batch) if keep else array_rows(tape, arrays[step.outputs])
    copy(tape, outputs, made, rows.total, width, False, threads)
    for name in cell.states:
        width = cell.width(name)
        final = tensor_rows(tape, f"final {name}", width, rows.sorted_places(width))
        copy(tape, final, array_rows(tape, arrays[name], index=rows.last(keep)), rows.batch, width, False, threads)
    return Recorded(tape.finish(), matrices, work.floats)


def record_backward(cell: CompiledCell, rows: Rows, strides: tuple[int, int], of_input: bool, threads: int) -> Recorded:
    """`strides` are those of batch and time of the gradient of the outputs."""
    tape = Tape()
    forward, step, before = cell.forward(True), cell.backward(of_input), cell.backward_before(of_input)
    arrays = {**_vectors(cell), **trace_layout(cell, rows.batch, rows.total).arrays}
    arrays.update({new: arrays[old] for new, old in forward.in_place.items()})
    for name, new in zip(cell.states, forward.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    passing: Sizes = {f"d_states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
    passing["d_output"] = (rows.total, cell.width(cell.states[0]))
    if rows.lengths is not None:
        passing[PREVIOUS] = (rows.total, max(cell.width(name) for name in cell.states))
    seeds = {gradient_from_loop(c): step.gradients[c] for c in cell.hoisted.carried if c in step.gradients}
    turns = [gradient_from_later(name) for name in cell.states] + [step.gradients[name] for name in cell.states]
    passing |= _missing(rows, [*arrays, *passing, *turns, *seeds], step.plan, before.plan)
    sums = Layout("sums", {n: (threads, plan.widths[n]) for plan in (step.plan, before.plan) for n in _sums(plan)})
    work = Layout("work", passing)
    arrays.update(work.arrays)
    arrays.update(sums.arrays)
    matrices = tuple(dict.fromkeys([*step.plan.matrices, *before.plan.matrices]))
    packed, _ = packed_places(cell, matrices, "packed")

    width = cell.width(cell.states[0])
    d_outputs = tensor_rows(tape, "d_outputs", 0, rows.places(*strides))
    copy(tape, array_rows(tape, arrays["d_output"]), d_outputs, rows.total, width, True, threads)
    for name in cell.states:
        # The gradients of two steps take turns; a sequence whose end has not been reached finds its own in both.
        array = arrays[gradient_from_later(name)] = arrays[step.gradients[name]] = arrays[f"d_states {name}"]
        given = tensor_rows(tape, f"d_final {name}", 0, rows.sorted_places(cell.width(name)))
        for first in (0, rows.batch):
            copy(tape, array_rows(tape, array, first), given, rows.batch, cell.width(name), True, threads)
    _record(tape, step.plan, rows.active[::-1].copy(), rows.backward_tables(), arrays, packed, threads)
    arrays.update({seed: arrays[name] for seed, name in seeds.items()})
    _record_rows(tape, before.plan, rows, arrays, packed, threads)

    first = len(rows.active) % 2 * rows.batch
    for name in cell.states:
        width = cell.width(name)
        d_state = tensor_rows(tape, f"d_state {name}", 0, rows.sorted_places(width))
        source = array_rows(tape, arrays[f"d_states {name}"], first)
        copy(tape, d_state, source, rows.batch, width, False, threads)
    widths = {p.name: cell.program.size(p.shape[1], cell.widths) for p in cell.program.parameters if len(p.shape) == 2}
    for part in (step, before):
        record_outer_products(tape, cell, part, rows, arrays, widths, threads)
    if of_input:
        d_x = tensor_rows(tape, "d_x", 0, rows.places(rows.time * cell.input_width, cell.input_width))
        made = array_rows(tape, arrays[before.gradients[cell.input]])
        copy(tape, d_x, made, rows.total, cell.input_width, False, threads)
    totals = tuple((name, arrays[total]) for part in (step, before) for name, total in part.sums.items())
    return Recorded(tape.finish(), matrices, work.floats, sums.floats, totals)


def _vectors(cell: CompiledCell) -> Arrays:
    return {p.name: Array(Place(f"parameter {p.name}"), 1) for p in cell.program.parameters if len(p.shape) == 1}


def _missing(rows: Rows, present: Sequence[str], *plans: Plan) -> Sizes:
    """The arrays of the plans that are not `present`, sums and parameters apart."""
    sizes: Sizes = {}
    for plan in plans:
        for name, memory in plan.memory.items():
            if name not in present and memory not in (PARAMETER, SUM):
                sizes[name] = (rows.batch if memory.table < 0 else rows.total, plan.widths[name])
    return sizes


def _sums(plan: Plan) -> list[str]:
    return [name for name, memory in plan.memory.items() if memory == SUM]


def _record_rows(tape: Tape, plan: Plan, rows: Rows, arrays: Arrays, packed: Mapping[Key, Place], threads: int) -> None:
    """Record a plan that knows no time, on all rows, in chunks."""
    chunk = max(1, min(_CHUNK, -(-rows.total // threads)))
    starts = np.arange(0, rows.total, chunk, dtype=np.int64)
    _record(tape, plan, np.minimum(chunk, rows.total - starts), starts[None].copy(), arrays, packed, threads)


def _record(
    tape: Tape,
    plan: Plan,
    active: np.ndarray,
    tables: np.ndarray,
    arrays: Arrays,
    packed: Mapping[Key, Place],
    threads: int,
) -> None:
    if plan.stages and len(active):
        places = {name: (arrays[name].place, arrays[name].rows) for name in plan.memory}
        shared = active.sum() if plan.independent else active.max()  # rows between two moments of waiting
        plan.record(tape, active, tables, places, packed, min(threads, threads_for(plan, int(shared))))


def threads_for(plan: Plan, rows: int) -> int:
    """As many threads as so many rows of the plan are worth."""
    return 1 + rows * plan.work // _WORTH_A_THREAD
