"""A backward run as a tape; its slots are those of recording.py."""

import numpy as np

from unrolled.engine.native.arrays import Layout, add, array_rows, chosen_rows, copy, tensor_rows
from unrolled.engine.native.compiled import Backward, CompiledCell, gradient_from_later, gradient_from_loop
from unrolled.engine.native.outer import PREVIOUS, MatrixGradients
from unrolled.engine.native.plan import SUM
from unrolled.engine.native.recording import Recorded, Recorder, Sizes, trace_layout
from unrolled.engine.native.rows import Piece, Rows
from unrolled.engine.native.tape import Place

_PIECE = 1024  # rows whose gradients are at hand at a time: they stay in the last cache


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
    recorder = Recorder(cell, rows, threads, words)
    tape, arrays = recorder.tape, recorder.arrays
    width, to_input = cell.width(cell.states[0]), rows.dense(cell.input_width, time_first)
    output_outside = recorder.reaches(width)
    input_outside = of_input and words is None and cell.gives_input_gradient and recorder.reaches(cell.input_width)
    step, before = cell.backward(of_input, output_outside, input_outside), cell.backward_before(of_input)
    pieces = rows.pieces(_PIECE)
    most = max((piece.rows for piece in pieces), default=0)
    _add_trace(recorder, words)
    passing: Sizes = {f"d_states {name}": (2 * rows.batch, cell.width(name)) for name in cell.states}
    if output_outside:
        arrays["d_output"] = recorder.outside("d_outputs", width, strides)
    else:
        passing["d_output"] = (most, width)
    if input_outside:
        arrays[step.gradients[cell.input]] = recorder.outside("d_x", cell.input_width, to_input)
    if rows.lengths is not None:
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
        given = tensor_rows(tape, f"d_final {name}", 0, rows.sorted_places(cell.width(name)))
        for first in (0, rows.batch):
            copy(tape, array_rows(tape, array, first), given, rows.batch, cell.width(name), True, threads)
    gradients = MatrixGradients(recorder)
    from_outputs, input_places = rows.places(*strides), rows.places(*to_input)

    def finish(piece: Piece, d_x: Place) -> None:
        """What is before the loop, backwards, of the rows of a piece."""
        recorder.each_row(before.plan, piece, 6)
        gradients.record(before, piece)
        if of_input and not input_outside:
            made = array_rows(tape, arrays[before.gradients[cell.input]])
            copy(tape, d_x, made, piece.rows, cell.input_width, False, threads)

    for piece in pieces:
        own, steps = slice(piece.start, piece.start + piece.rows), slice(piece.first, piece.last)
        if not output_outside:
            d_outputs = tensor_rows(tape, "d_outputs", 0, from_outputs[own].copy())
            copy(tape, array_rows(tape, arrays["d_output"]), d_outputs, piece.rows, width, True, threads)
        outside = [rows.step_places(*of_caller)[steps][::-1] for of_caller in (strides, to_input)]
        tables = np.vstack([rows.backward_tables(piece), *outside])
        recorder.loop(step.plan, rows.active[steps][::-1].copy(), tables)
        gradients.record(step, piece)
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
    return Recorded(tape.finish(), matrices, work.floats, sums.floats, gradients.written | begun)


def _add_trace(recorder: Recorder, words: int | None) -> None:
    """What the forward run left."""
    cell, rows, arrays = recorder.cell, recorder.rows, recorder.arrays
    forward = cell.forward(True)
    arrays.update(trace_layout(cell, rows.batch, rows.total, words).arrays)
    arrays.update({new: arrays[old] for new, old in forward.in_place.items()})
    for name, new in zip(cell.states, forward.states, strict=True):
        arrays[name] = arrays[new] = arrays[f"states {name}"]


def _sums(part: Backward) -> list[str]:
    return [name for name, memory in part.plan.memory.items() if memory == SUM]
