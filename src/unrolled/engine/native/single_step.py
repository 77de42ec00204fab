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
from unrolled.engine.native.arrays import buffer, of_vector
from unrolled.engine.native.autograd import cell_of
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.draft import Draft
from unrolled.engine.native.packs import packs_of
from unrolled.engine.native.plan import PARAMETER, Memory, Plan
from unrolled.engine.native.run import threads_for
from unrolled.engine.native.workspace import cut
from unrolled.equations import Program
from unrolled.equations.columns import split_columns

_ROWS = Memory()


class ReadyStep:
    """`ready(x, state)` runs one step with the matrices that `parameters` held when it was made; vectors are read anew.

    See `state_of` for whether a matrix has changed. Only one thread at a time may run it.
    """

    def __init__(self, program: Program, parameters: Mapping[str, Tensor], x: Tensor, state: Sequence[Tensor]) -> None:
        """`x` (batch, input) and `state` show the sizes."""
        parameters = {name: p.detach().contiguous() for name, p in parameters.items()}
        cell = cell_of(program, x.unsqueeze(1), state, [parameters[p.name] for p in program.parameters])
        self._plan, new = _plan(cell)
        self._batch = len(x)
        widths = {name: cell.width(name) for name in (cell.input, *cell.states)}
        widths.update({name: self._plan.widths[name] for name, m in self._plan.memory.items() if m != PARAMETER})
        vectors = {name: p for name, p in parameters.items() if p.dim() == 1}
        with torch.inference_mode(False):  # or the memory could not be written outside of that mode
            arrays = cut(None, {name: (self._batch, width) for name, width in widths.items()})
            arrays.update({name: of_vector(vector) for name, vector in vectors.items()})
        self._given = [arrays[name] for name in (cell.input, *cell.states)]
        self._results = [(arrays[name], widths[name]) for name in new]
        self._copied = [
            (arrays[name].view(-1)[: len(vector)], vector)
            for name, vector in vectors.items()
            if arrays[name].data_ptr() != vector.data_ptr()
        ]
        self._packs = packs_of(cell, parameters)
        self._arrays = arrays
        self._run = self._plan.bound(
            np.full(1, self._batch, np.int64),
            np.zeros((1, 1), np.int64),
            {name: buffer(arrays[name]) for name in self._plan.memory},
            self._packs[self._plan.matrices],
        )

    def __call__(self, x: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The new states, each (batch, size), in memory that the next call writes again."""
        for array, value in zip(self._given, (x, *state), strict=True):
            _put(array, value)
        for memory, value in self._copied:
            memory.copy_(value)
        self._run(threads_for(self._plan, self._batch))
        return [_rows(array, width) for array, width in self._results]


def _put(array: Tensor, values: Tensor) -> None:
    """Write (batch, width) to an array of batch rows."""
    width = values.shape[1]
    if len(values) == 1:
        array.view(-1)[:width].copy_(values[0])
    else:
        whole = functional.pad(values, (0, -width % library.BLOCK))
        array.transpose(0, 1).copy_(whole.view(len(values), -1, library.BLOCK))


def _rows(array: Tensor, width: int) -> Tensor:
    """The rows of an array as (batch, width); of a single row the array's own memory."""
    return array.transpose(0, 1).flatten(1)[:, :width]


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
    return draft.plan(cell.widths, 1, False), new
