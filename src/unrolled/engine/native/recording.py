"""A cell's forward and backward run of certain shapes, as tapes: which arrays there are, and the calls in their order.

With a table the input of a step is a row of it, named by a token: what comes before the loop has the rows of the table.

Slots of a tape: "x", "index" and "offsets" (of each packed row the row of the table, and its
first float), "state NAME", "parameter NAME" and what comes out of it, "outputs", "final NAME" and so on, are
the caller's; "trace" is what a forward run leaves for the backward one, a single piece of memory cut into arrays in a
fixed order; "work" and "sums" are needed only while it is played.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.engine.native.arrays import Layout, add, array_rows, chosen_rows, copy, tensor_rows
from unrolled.engine.native.compiled import CompiledCell, gradient_from_later, gradient_from_loop
from unrolled.engine.native.library import BLOCK
from unrolled.engine.native.outer import PREVIOUS, record_outer_products
from unrolled.engine.native.packs import Key, packed_places
from unrolled.engine.native.plan import PARAMETER, SUM, Array, Plan
from unrolled.engine.native.rows import Piece, Rows
from unrolled.engine.native.tape import Place, Tape

_CHUNK = 96  # rows of the input product that a thread takes at a time: they stay in its second cache
_PIECE = 1024  # rows whose gradients the backward pass has at hand at a time: they stay in the last cache
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
    written: frozenset[str] = frozenset()
    """The parameters whose gradients are put into their slots; to what is in the other slots they are added."""


@functools.lru_cache(maxsize=256)
def trace_layout(cell: CompiledCell, batch: int, total: int, words: int | None = None) -> Layout:
    """The arrays of the trace for so many sequences, rows of all steps together, and rows of a table."""
    in_place = cell.forward(True).in_place
    needed = {*cell.carried_read, *in_place.values()}
    carried = [c for c in cell.hoisted.carried if words is not None or c in needed]
    before = dict.fromkeys([cell.input, *carried, *cell.kept_before])
    sizes = {name: (total if words is None else words, cell.width(name)) for name in before}
    sizes.update({name: (total, cell.width(name)) for name in cell.kept if name not in in_place})
    sizes.update({f"states {s}": (batch + total, cell.width(s)) for s in cell.states})
    return Layout("trace", sizes)


def record_forward(
    cell: CompiledCell,
    rows: Rows,
    strides: tuple[int, int],
    state_strides: Sequence[int],
    time_first: bool,
    keep: bool,
    threads: int,
    words: int | None,
) -> Recorded:
    """`strides` are those of batch and time of x, or the first that of the rows of a table of so many `words`;
    `state_strides` those of the batch of the states; the outputs are in memory with time first if `time_first`."""
    tape = Tape()
    width = cell.width(cell.states[0])
    to_outputs = rows.dense(width, time_first)
    outside = _reached(rows, width)
    before, step = cell.forward_before(keep).plan, cell.forward(keep, outside)
    arrays = _vectors(cell)
    if outside:
        arrays[step.outputs] = _outside("outputs", rows, width, to_outputs)
    passing: Sizes = {}
    given = rows.total if words is None else words
    if keep:
        arrays.update(trace_layout(cell, rows.batch, rows.total, words).arrays)
        arrays.update({new: arrays[old] for new, old in step.in_place.items()})
    else:
        passing = {f"states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
        passing[cell.input] = (given, cell.input_width)
    present = [*arrays, *passing, *cell.states, *step.states]
    passing |= _missing(rows.batch, given, present, before)
    passing |= _missing(rows.batch, rows.total, [*present, *passing], step.plan)
    work = Layout("work", passing)
    arrays.update(work.arrays)
    for name, new in zip(cell.states, step.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    matrices = tuple(dict.fromkeys([*before.matrices, *step.plan.matrices]))
    packed = packed_places(cell, matrices, "packed")

    x = tensor_rows(tape, "x", strides[0], rows.places(*strides) if words is None else None)
    copy(tape, array_rows(tape, arrays[cell.input]), x, given, cell.input_width, True, threads)
    _record_rows(tape, before, Piece(0, 1, 0, given), 1, arrays, packed, threads)
    for name, stride in zip(cell.states, state_strides, strict=True):
        start = tensor_rows(tape, f"state {name}", stride, rows.sorted_places(stride))
        copy(tape, array_rows(tape, arrays[name]), start, rows.batch, cell.width(name), True, threads)
    index = (None, 0) if words is None else (Place("index"), rows.total)
    tables = np.vstack([rows.forward_tables(keep), rows.step_places(*to_outputs)])
    _record(tape, step.plan, rows.active, tables, arrays, packed, threads, *index)

    if not outside:
        outputs = tensor_rows(tape, "outputs", 0, rows.places(*to_outputs))
        made = array_rows(tape, arrays[cell.states[0]], rows.batch) if keep else array_rows(tape, arrays[step.outputs])
        copy(tape, outputs, made, rows.total, width, False, threads)
    for name in cell.states:
        width = cell.width(name)
        final = tensor_rows(tape, f"final {name}", width, rows.sorted_places(width))
        copy(tape, final, array_rows(tape, arrays[name], index=rows.last(keep)), rows.batch, width, False, threads)
    return Recorded(tape.finish(), matrices, work.floats)


def record_backward(
    cell: CompiledCell,
    rows: Rows,
    strides: tuple[int, int],
    of_input: bool,
    time_first: bool,
    threads: int,
    words: int | None,
) -> Recorded:
    """`strides` are those of batch and time of the gradient of the outputs; the gradient of the input is in memory with
    time first if `time_first`; `words` as in `record_forward`.

    The steps are taken piece by piece, and all that follows from the gradients of a piece is done before the next one:
    so they are read from the caches, and need no memory for all steps. Gradients of the rows of a table are summed up,
    and what comes before the loop follows at the end.
    """
    tape = Tape()
    width, to_input = cell.width(cell.states[0]), rows.dense(cell.input_width, time_first)
    output_outside = _reached(rows, width)
    input_outside = of_input and words is None and cell.gives_input_gradient and _reached(rows, cell.input_width)
    step = cell.backward(of_input, output_outside, input_outside)
    forward, before = cell.forward(True), cell.backward_before(of_input)
    pieces = rows.pieces(_PIECE)
    most = max((piece.rows for piece in pieces), default=0)
    arrays = {**_vectors(cell), **trace_layout(cell, rows.batch, rows.total, words).arrays}
    arrays.update({new: arrays[old] for new, old in forward.in_place.items()})
    for name, new in zip(cell.states, forward.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    passing: Sizes = {f"d_states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
    if output_outside:
        arrays["d_output"] = _outside("d_outputs", rows, width, strides)
    else:
        passing["d_output"] = (most, width)
    if input_outside:
        arrays[step.gradients[cell.input]] = _outside("d_x", rows, cell.input_width, to_input)
    if rows.lengths is not None:
        passing[PREVIOUS] = (most, max(cell.width(name) for name in cell.states))
    seeds = {gradient_from_loop(c): step.gradients[c] for c in cell.hoisted.carried if c in step.gradients}
    of_seed = {gradient_from_loop(c): cell.width(c) for c in cell.hoisted.carried}
    turns = [gradient_from_later(name) for name in cell.states] + [step.gradients[name] for name in cell.states]
    present = [*arrays, *passing, *turns, *seeds]
    passing |= _missing(rows.batch, most, present, step.plan)
    passing |= _missing(rows.batch, most if words is None else words, [*present, *passing], before.plan)
    summed = {n: (threads, plan.widths[n]) for plan in (step.plan, before.plan) for n in _sums(plan)}
    if words is not None:
        summed.update({seed: (words, of_seed[seed]) for seed in seeds})
    sums = Layout("sums", summed)
    work = Layout("work", passing)
    arrays.update(work.arrays)
    arrays.update(sums.arrays)
    if words is None:
        arrays.update({seed: arrays[name] for seed, name in seeds.items() if name in arrays})
    matrices = tuple(dict.fromkeys([*step.plan.matrices, *before.plan.matrices]))
    packed = packed_places(cell, matrices, "packed")

    for name in cell.states:
        # The gradients of two steps take turns; a sequence whose end has not been reached finds its own in both.
        array = arrays[gradient_from_later(name)] = arrays[step.gradients[name]] = arrays[f"d_states {name}"]
        given = tensor_rows(tape, f"d_final {name}", 0, rows.sorted_places(cell.width(name)))
        for first in (0, rows.batch):
            copy(tape, array_rows(tape, array, first), given, rows.batch, cell.width(name), True, threads)
    widths = {p.name: cell.program.size(p.shape[1], cell.widths) for p in cell.program.parameters if len(p.shape) == 2}
    parts_of = {p: [name for name, part in cell.parts.items() if part.parameter == p] for p in widths}
    disjoint = {p for p, names in parts_of.items() if sum(cell.parts[n].columns for n in names) == widths[p]}
    begun = {name for p, names in parts_of.items() if p not in disjoint for name in names}
    from_outputs, input_places = rows.places(*strides), rows.places(*to_input)

    def finish(piece: Piece, d_x: Place) -> None:
        """What is before the loop, backwards, of the rows of a piece."""
        _record_rows(tape, before.plan, piece, 6, arrays, packed, threads)
        record_outer_products(tape, cell, before, rows, piece, arrays, widths, begun, threads)
        if of_input and not input_outside:
            made = array_rows(tape, arrays[before.gradients[cell.input]])
            copy(tape, d_x, made, piece.rows, cell.input_width, False, threads)

    for piece in pieces:
        own = slice(piece.start, piece.start + piece.rows)
        if not output_outside:
            d_outputs = tensor_rows(tape, "d_outputs", 0, from_outputs[own].copy())
            copy(tape, array_rows(tape, arrays["d_output"]), d_outputs, piece.rows, width, True, threads)
        steps = slice(piece.first, piece.last)
        active = rows.active[steps][::-1].copy()
        outside = [rows.step_places(*of_caller)[steps][::-1] for of_caller in (strides, to_input)]
        index = (None, 0) if words is None else (Place("index"), rows.total)
        tables = np.vstack([rows.backward_tables(piece), *outside])
        _record(tape, step.plan, active, tables, arrays, packed, threads, *index)
        record_outer_products(tape, cell, step, rows, piece, arrays, widths, begun, threads)
        if words is None:
            finish(piece, tensor_rows(tape, "d_x", 0, input_places[own].copy()))
            continue
        for seed, name in seeds.items():
            chosen = chosen_rows(tape, arrays[seed], Place("offsets", 8 * piece.start))
            add(tape, chosen, array_rows(tape, arrays[name]), piece.rows, of_seed[seed], threads)
    if words is not None:
        finish(Piece(0, 1, 0, words), tensor_rows(tape, "d_x", cell.input_width))

    first = len(rows.active) % 2 * rows.batch
    for name in cell.states:
        width = cell.width(name)
        d_state = tensor_rows(tape, f"d_state {name}", 0, rows.sorted_places(width))
        source = array_rows(tape, arrays[f"d_states {name}"], first)
        copy(tape, d_state, source, rows.batch, width, False, threads)
    for part in (step, before):
        for name, total in part.sums.items():
            of_threads, width = array_rows(tape, arrays[total]), part.plan.widths[total]
            add(tape, tensor_rows(tape, f"gradient {name}", 0), of_threads, threads, width, 1)
    written = frozenset(p for p in disjoint if begun.issuperset(parts_of[p]))
    return Recorded(tape.finish(), matrices, work.floats, sums.floats, written)


def _reached(rows: Rows, width: int) -> bool:
    """Whether instructions can reach the rows of a tensor of the caller themselves."""
    return rows.order is None and width % BLOCK == 0 and rows.total > 0


def _outside(slot: str, rows: Rows, width: int, strides: tuple[int, int]) -> Array:
    """A tensor of the caller with these strides of batch and time, or of its packed rows, as an array."""
    of_sequence, of_step = strides
    last = (rows.total - 1) * of_sequence if rows.packed else (rows.batch - 1) * of_sequence + (rows.time - 1) * of_step
    return Array(Place(slot), last + width, of_sequence)


def _vectors(cell: CompiledCell) -> Arrays:
    return {p.name: Array(Place(f"parameter {p.name}"), 1) for p in cell.program.parameters if len(p.shape) == 1}


def _missing(batch: int, total: int, present: Sequence[str], *plans: Plan) -> Sizes:
    """The arrays of the plans that are not `present`, sums and parameters apart: of `batch` rows or of `total`."""
    sizes: Sizes = {}
    for plan in plans:
        for name, memory in plan.memory.items():
            if name not in present and memory not in (PARAMETER, SUM):
                sizes[name] = (batch if memory.table < 0 else total, plan.widths[name])
    return sizes


def _sums(plan: Plan) -> list[str]:
    return [name for name, memory in plan.memory.items() if memory == SUM]


def _record_rows(
    tape: Tape,
    plan: Plan,
    piece: Piece,
    tables: int,
    arrays: Arrays,
    packed: Mapping[Key, Place],
    threads: int,
) -> None:
    """Record a plan that knows no time on the rows of a piece, in chunks; its last table has the rows within it."""
    chunk = max(1, min(_CHUNK, -(-piece.rows // threads)))
    within = np.arange(0, piece.rows, chunk, dtype=np.int64)
    offsets = np.stack([*[piece.start + within] * max(tables - 1, 1), *[within] * (tables > 1)])
    _record(tape, plan, np.minimum(chunk, piece.rows - within), offsets, arrays, packed, threads)


def _record(
    tape: Tape,
    plan: Plan,
    active: np.ndarray,
    tables: np.ndarray,
    arrays: Arrays,
    packed: Mapping[Key, Place],
    threads: int,
    index: Place | None = None,
    index_rows: int = 0,
) -> None:
    if plan.stages and len(active):
        places = {name: arrays[name] for name in plan.memory}
        shared = active.sum() if plan.independent else active.max()  # rows between two moments of waiting
        threads = min(threads, threads_for(plan, int(shared)))
        plan.record(tape, active, tables, places, packed, threads, index, index_rows)


def threads_for(plan: Plan, rows: int) -> int:
    """As many threads as so many rows of the plan are worth."""
    return 1 + rows * plan.work // _WORTH_A_THREAD
