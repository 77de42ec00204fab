"""A backward run as a tape; its slots are those of recording.py, and for each piece what of the trace and of the
index is its own."""

import functools
from collections.abc import Callable

import numpy as np

from unrolled.engine.native.arrays import Layout, add, array_rows, copy, tensor_rows
from unrolled.engine.native.compiled import Backward, CompiledCell, gradient_from_later, gradient_from_loop
from unrolled.engine.native.outer import PREVIOUS, MatrixGradients, Part
from unrolled.engine.native.plan import SUM
from unrolled.engine.native.recording import Make, Recorded, Recorder, Sizes, Strides, trace_layout
from unrolled.engine.native.rows import Frame, Rows
from unrolled.engine.native.tape import Place


def record_backward(cell: CompiledCell, frame: Frame, of_input: bool, threads: int, words: int | None) -> Recorded:
    """`words` as in `record_forward`.

    The steps are taken piece by piece, and all that follows from the gradients of a piece is done before the next one:
    so they are read from the caches, and need no memory for all steps. Gradients of the rows of a table are summed up,
    and what comes before the loop follows at the end.
    """
    recorder = Recorder(cell, frame, threads, words)
    tape, arrays, batch = recorder.tape, recorder.arrays, frame.batch
    width, most = cell.width(cell.states[0]), frame.piece_rows
    output_outside = recorder.reaches(width)
    input_outside = of_input and words is None and cell.gives_input_gradient and recorder.reaches(cell.input_width)
    step, before = cell.backward(of_input, output_outside, input_outside), cell.backward_before(of_input)
    _add_trace(recorder)
    passing: Sizes = {f"d_states {name}": (2 * batch, cell.width(name)) for name in cell.states}
    if output_outside:
        arrays["d_output"] = recorder.outside("d_outputs", width)
    else:
        passing["d_output"] = (most, width)
    if input_outside:
        arrays[step.gradients[cell.input]] = recorder.outside("d_x", cell.input_width)
    if frame.ragged:
        passing[PREVIOUS] = (most, max(cell.width(name) for name in cell.states))
    seeds = {gradient_from_loop(c): step.gradients[c] for c in cell.hoisted.carried if c in step.gradients}
    of_seed = {gradient_from_loop(c): cell.width(c) for c in cell.hoisted.carried}
    turns = [gradient_from_later(name) for name in cell.states] + [step.gradients[name] for name in cell.states]
    present = [*arrays, *passing, *turns, *seeds]
    passing |= recorder.missing(most, present, step.plan)
    passing |= recorder.missing(most if words is None else words, [*present, *passing], before.plan)
    summed = {n: (threads, part.plan.widths[n]) for part in (step, before) for n in _sums(part)}
    if words is not None:
        summed.update({seed: (words, of_seed[seed]) for seed in seeds})
    sums, work = Layout("sums", summed), Layout("work", passing)
    arrays.update(work.arrays)
    arrays.update(sums.arrays)
    if words is None:
        arrays.update({seed: arrays[name] for seed, name in seeds.items() if name in arrays})
    matrices = recorder.pack(step.plan, before.plan)

    for name in cell.states:
        # The gradients of two steps take turns; a sequence whose end has not been reached finds its own in both.
        array = arrays[gradient_from_later(name)] = arrays[step.gradients[name]] = arrays[f"d_states {name}"]
        given = recorder.sorted_places(f"d_final {name}", cell.width(name))
        for first in (0, batch):
            copy(tape, array_rows(tape, array, first), given, batch, cell.width(name), True, threads)
    gradients = MatrixGradients(recorder)

    def finish(part: Part, d_x: Callable[[], Place]) -> None:
        """What is before the loop, backwards, of the rows of a part."""
        recorder.each_row(before.plan, f"before, {part.label}", part.bounds, part.most, 6)
        gradients.record(before, part)
        if of_input and not input_outside:
            made = array_rows(tape, arrays[before.gradients[cell.input]])
            copy(tape, d_x(), made, part.rows, cell.input_width, False, threads)

    for number in range(frame.pieces):
        piece = _piece(recorder, number)
        if not output_outside:
            d_outputs = recorder.places("d_outputs", number)
            copy(tape, array_rows(tape, arrays["d_output"]), d_outputs, piece.rows, width, True, threads)
        recorder.loop(step.plan, f"loop, {piece.label}", *_steps(number))
        gradients.record(step, piece)
        if words is None:
            finish(piece, functools.partial(recorder.places, "d_x", number))
            continue
        for seed, name in seeds.items():
            chosen = array_rows(tape, arrays[seed], index=Place(f"index, {piece.label}"))
            add(tape, chosen, array_rows(tape, arrays[name]), piece.rows, of_seed[seed], threads)
    if words is not None:
        whole = Part("table", words, words, "trace", lambda rows: (0, words))
        finish(whole, lambda: tensor_rows(tape, "d_x", cell.input_width))

    turn = recorder.table("first turn", lambda rows, of: [rows.first_turn])
    for name in cell.states:
        width, source = cell.width(name), array_rows(tape, arrays[f"d_states {name}"], index=turn)
        copy(tape, recorder.sorted_places(f"d_state {name}", width), source, batch, width, False, threads)
    begun: set[str] = set()
    for part in (step, before):
        for name, total in part.sums.items():
            width, gradient = part.plan.widths[total], tensor_rows(tape, f"gradient {name}", 0)
            fresh = int(name not in begun)
            if fresh:  # the first thread's sum is put there, the others' are added
                copy(tape, gradient, array_rows(tape, arrays[total]), 1, width, False, 1)
            if threads > fresh:
                add(tape, gradient, array_rows(tape, arrays[total], fresh), threads - fresh, width, 1)
            begun.add(name)
    return recorder.finish(matrices, work.floats, sums.floats, gradients.written | begun)


def _piece(recorder: Recorder, number: int) -> Part:
    label = f"piece {number}"

    def bounds(rows: Rows) -> tuple[int, int]:
        piece = rows.pieces[number]
        return piece.start, piece.rows

    count = recorder.table(f"rows of {label}", lambda rows, of: bounds(rows)[1])
    if recorder.frame.ragged:
        recorder.table(f"previous of {label}", lambda rows, of: [rows.previous(rows.pieces[number])])
    return Part(label, count, recorder.frame.piece_rows, f"trace, {label}", bounds)


def _steps(number: int) -> tuple[Callable[[Rows], np.ndarray], Make]:
    """Of the steps of a piece, the last one first, the rows and where they are."""

    def steps(rows: Rows) -> slice:
        piece = rows.pieces[number]
        return slice(piece.first, piece.last)

    def tables(rows: Rows, of: Strides) -> list[np.ndarray]:
        outside = [rows.step_places(*of[slot])[steps(rows)][::-1] for slot in ("d_outputs", "d_x")]
        return [*rows.backward_tables(rows.pieces[number]), *outside]

    return lambda rows: rows.active[steps(rows)][::-1], tables


def _add_trace(recorder: Recorder) -> None:
    """What the forward run left."""
    cell, frame, arrays = recorder.cell, recorder.frame, recorder.arrays
    forward = cell.forward(True)
    arrays.update(trace_layout(cell, frame.batch, frame.capacity, recorder.words).arrays)
    arrays.update({new: arrays[old] for new, old in forward.in_place.items()})
    for name, new in zip(cell.states, forward.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]


def _sums(part: Backward) -> list[str]:
    return [name for name, memory in part.plan.memory.items() if memory == SUM]
