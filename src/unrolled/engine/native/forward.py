"""A forward run as a tape; its slots are those of recording.py."""

import numpy as np

from unrolled.engine.native.arrays import Layout, array_rows, copy, tensor_rows
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.recording import Recorded, Recorder, Sizes, Strides, trace_layout
from unrolled.engine.native.rows import Frame, Rows


def record_forward(cell: CompiledCell, frame: Frame, keep: bool, threads: int, words: int | None) -> Recorded:
    """With `words` x is a table of so many rows."""
    recorder = Recorder(cell, frame, threads, words)
    tape, arrays, batch = recorder.tape, recorder.arrays, frame.batch
    width = cell.width(cell.states[0])
    outside = recorder.reaches(width)
    before, step = cell.forward_before(keep).plan, cell.forward(keep, outside)
    if outside:
        arrays[step.outputs] = recorder.outside("outputs", width)
    passing: Sizes = {}
    if keep:
        arrays.update(trace_layout(cell, batch, frame.capacity, words).arrays)
        arrays.update({new: arrays[old] for new, old in step.in_place.items()})
    else:
        passing = {f"states {name}": (2 * batch, cell.width(name)) for name in cell.states}
        passing[cell.input] = (recorder.given, cell.input_width)
    present = [*arrays, *passing, *cell.states, *step.states]
    passing |= recorder.missing(recorder.given, present, before)
    passing |= recorder.missing(frame.capacity, [*present, *passing], step.plan)
    work = Layout("work", passing)
    arrays.update(work.arrays)
    for name, new in zip(cell.states, step.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]
    matrices = recorder.pack(before, step.plan)

    total = recorder.total()
    x = recorder.places("x") if words is None else tensor_rows(tape, "x", recorder.stride("x"))
    copy(tape, array_rows(tape, arrays[cell.input]), x, words or total, cell.input_width, True, threads)
    recorder.each_row(before, "before", lambda rows: (0, words or rows.total), recorder.given, 1)
    for name in cell.states:
        start = recorder.sorted_places(f"state {name}")
        copy(tape, array_rows(tape, arrays[name]), start, batch, cell.width(name), True, threads)

    def tables(rows: Rows, of: Strides) -> list[np.ndarray]:
        return [*rows.forward_tables(keep), rows.step_places(*of["outputs"])]

    recorder.loop(step.plan, "loop", lambda rows: rows.active, tables)
    if not outside:
        made = array_rows(tape, arrays[cell.states[0]], batch) if keep else array_rows(tape, arrays[step.outputs])
        copy(tape, recorder.places("outputs"), made, total, width, False, threads)
    last = recorder.table("last", lambda rows, of: [rows.last(keep)])
    for name in cell.states:
        width = cell.width(name)
        final = recorder.sorted_places(f"final {name}", width)
        copy(tape, final, array_rows(tape, arrays[name], index=last), batch, width, False, threads)
    return recorder.finish(matrices, work.floats)
