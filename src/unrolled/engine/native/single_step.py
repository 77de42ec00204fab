"""One step of a cell for a batch, without gradients, made ready to be run often: memory and addresses are set up once.

Nothing is hoisted: there is no time to gain, and this way all products of a stage share one pass over the threads.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.engine.native import library
from unrolled.engine.native.arrays import Layout, of_vector, rows_view
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.draft import Draft
from unrolled.engine.native.packs import packed_places, packs_of
from unrolled.engine.native.plan import PARAMETER, Memory, Plan
from unrolled.engine.native.programs import cell_of
from unrolled.engine.native.recording import threads_for
from unrolled.engine.native.tape import Place, Tape
from unrolled.engine.native.workspace import slab
from unrolled.equations import Program
from unrolled.equations.columns import split_columns

_ROWS = Memory()


class ReadyStep:
    """`ready(x, state)` runs one step with the matrices that `parameters` held when it was made; vectors are read anew.

    See `state_of` for whether a matrix has changed. Only one thread at a time may run it.
    """

    def __init__(
        self, program: Program, parameters: Mapping[str, Tensor], x: Tensor, state: Sequence[Tensor], bf16: bool
    ) -> None:
        """`x` (batch, input) and `state` show the sizes; `bf16` as in `cell_of`."""
        parameters = {name: p.detach().contiguous() for name, p in parameters.items()}
        cell = cell_of(program, x.unsqueeze(1), state, [parameters[p.name] for p in program.parameters], bf16)
        self._plan, new = _plan(cell)
        self._batch = len(x)
        widths = {name: cell.width(name) for name in (cell.input, *cell.states)}
        widths.update({name: self._plan.widths[name] for name, m in self._plan.memory.items() if m != PARAMETER})
        layout = Layout("memory", {name: (self._batch, width) for name, width in widths.items()})
        with torch.inference_mode(False):  # or the memory could not be written outside of that mode
            self._memory = slab(layout.floats)
            vectors = {name: (p, of_vector(p)) for name, p in parameters.items() if p.dim() == 1}
        rows = {name: rows_view(self._memory, array, widths[name]) for name, array in layout.arrays.items()}
        self._given = [rows[name] for name in (cell.input, *cell.states)]
        self._results = [(rows[name], widths[name]) for name in new]
        self._copied = [(own[: len(p)], p) for p, own in vectors.values() if own.data_ptr() != p.data_ptr()]
        self._vectors = vectors
        self._packed = packs_of(cell, parameters).of(tuple(self._plan.matrices))
        self._tape = self._record(cell, layout)
        self._tape.place(
            {
                "memory": self._memory.data_ptr(),
                "packed": self._packed.data_ptr(),
                **{f"parameter {name}": own.data_ptr() for name, (_, own) in vectors.items()},
            }
        )

    def _record(self, cell: CompiledCell, layout: Layout) -> Tape:
        tape = Tape()
        places = {name: (array.place, array.rows) for name, array in layout.arrays.items()}
        places.update({n: (Place(f"parameter {n}"), 1) for n, m in self._plan.memory.items() if m == PARAMETER})
        packed, _ = packed_places(cell, self._plan.matrices, "packed")
        active, offsets = np.full(1, self._batch, np.int64), np.zeros((1, 1), np.int64)
        threads = min(torch.get_num_threads(), threads_for(self._plan, self._batch))
        self._plan.record(tape, active, offsets, places, packed, threads)
        return tape.finish()

    def __call__(self, x: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The new states, each (batch, size), in memory that the next call writes again."""
        for rows, value in zip(self._given, (x, *state), strict=True):
            _put(rows, value)
        for memory, value in self._copied:
            memory.copy_(value)
        self._tape.play()
        return [rows.flatten(1)[:, :width] for rows, width in self._results]


def _put(rows: Tensor, values: Tensor) -> None:
    """Write values (batch, width) to rows (batch, blocks, 16) of an array."""
    if len(values) == 1:
        rows.view(-1)[: values.shape[1]].copy_(values[0])
    else:
        whole = functional.pad(values, (0, -values.shape[1] % library.BLOCK))
        rows.copy_(whole.view(rows.shape))


def state_of(weights: Sequence[Tensor]) -> tuple[int, ...]:
    """Numbers that change when a matrix among `weights` changes or any weight moves; empty if that can't be told.

    Changes are seen as in `packs_of`: by torch's version counter and, where one goes round it, by a fingerprint.
    """
    fingerprint = library.library().unrolled_fingerprint
    seen: list[int] = []
    for weight in weights:
        if weight.is_inference() or not weight.is_contiguous():
            return ()
        address = weight.data_ptr()
        seen.append(address)
        if weight.dim() == 2:
            seen += (weight._version, fingerprint(address, weight.numel()))
    return tuple(seen)


@functools.lru_cache(maxsize=128)
def _plan(cell: CompiledCell) -> tuple[Plan, list[str]]:
    """The plan of the whole step, and the arrays of the new states."""
    program = cell.program
    split = split_columns(program)
    shapes = {v.name: v.shape for v in program.variables} | {i.name: i.shape for i in split.instructions}
    shapes.update({name: part.shape for name, part in split.columns.items()})
    vectors = [p.name for p in program.parameters if len(p.shape) == 1]
    outside = {**dict.fromkeys(vectors, PARAMETER), **dict.fromkeys((cell.input, *cell.states), _ROWS)}
    draft = Draft("step", split.instructions, shapes, outside)
    new: list[str] = []
    for state, output in zip(program.states, program.outputs, strict=True):
        new.append(draft.see(output, _ROWS, state.shape, taken=new))
    return draft.plan(cell.widths, 1, precision=cell.precision), new
