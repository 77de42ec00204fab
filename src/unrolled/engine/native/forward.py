"""A forward run as a tape; its slots are those of recording.py."""

from collections.abc import Sequence

import numpy as np

from unrolled.engine.native.arrays import Layout, array_rows, copy, tensor_rows
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.recording import Recorded, Recorder, Sizes, trace_layout
from unrolled.engine.native.rows import Piece, Rows


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
    recorder = Recorder(cell, rows, threads, words)
    tape, arrays, given = recorder.tape, recorder.arrays, recorder.given
    width = cell.width(cell.states[0])
    to_outputs = rows.dense(width, time_first)
    outside = recorder.reaches(width)
    before, step = cell.forward_before(keep).plan, cell.forward(keep, outside)
    if outside:
        arrays[step.outputs] = recorder.outside("outputs", width, to_outputs)
    passing: Sizes = {}
    if keep:
        arrays.update(trace_layout(cell, rows.batch, rows.total, words).arrays)
        arrays.update({new: arrays[old] for new, old in step.in_place.items()})
    else:
        passing = {f"states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
        passing[cell.input] = (given, cell.input_width)
    present = [*arrays, *passing, *cell.states, *step.states]
    passing |= recorder.missing(given, present, before)
    passing |= recorder.missing(rows.total, [*present, *passing], step.plan)
    work = Layout("work", passing)
    arrays.update(work.arrays)
    for name, new in zip(cell.states, step.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    matrices = recorder.pack(before, step.plan)

    x = tensor_rows(tape, "x", strides[0], rows.places(*strides) if words is None else None)
    copy(tape, array_rows(tape, arrays[cell.input]), x, given, cell.input_width, True, threads)
    recorder.each_row(before, Piece(0, 1, 0, given), 1)
    for name, stride in zip(cell.states, state_strides, strict=True):
        start = tensor_rows(tape, f"state {name}", stride, rows.sorted_places(stride))
        copy(tape, array_rows(tape, arrays[name]), start, rows.batch, cell.width(name), True, threads)
    recorder.loop(step.plan, rows.active, np.vstack([rows.forward_tables(keep), rows.step_places(*to_outputs)]))

    if not outside:
        outputs = tensor_rows(tape, "outputs", 0, rows.places(*to_outputs))
        made = array_rows(tape, arrays[cell.states[0]], rows.batch) if keep else array_rows(tape, arrays[step.outputs])
        copy(tape, outputs, made, rows.total, width, False, threads)
    for name in cell.states:
        width = cell.width(name)
        final = tensor_rows(tape, f"final {name}", width, rows.sorted_places(width))
        copy(tape, final, array_rows(tape, arrays[name], index=rows.last(keep)), rows.batch, width, False, threads)
    return Recorded(tape.finish(), matrices, work.floats)
