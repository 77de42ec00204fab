"""One step of stacked layers for a batch, without gradients, made ready to be run often: memory and calls are set up
once.

Nothing is hoisted: there is no time to gain, and this way all products of a stage share one pass over the threads.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.native import library
from unrolled.engine.native.arrays import Layout, array_rows, copy, of_vector
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.draft import Draft
from unrolled.engine.native.packs import packed_places, packs_of
from unrolled.engine.native.plan import PARAMETER, Array, Memory, Plan
from unrolled.engine.native.programs import cell_of
from unrolled.engine.native.recording import threads_for
from unrolled.engine.native.tape import Place, Tape
from unrolled.engine.native.workspace import empty, slab
from unrolled.equations import Program
from unrolled.equations.columns import split_columns

_ROWS = Memory()

Parameters = Mapping[str, Tensor]


class ReadyStep:
    """`ready(x, states)` runs one step with the matrices that the layers held when it was made; vectors are read anew.

    See `Seen` for whether a matrix has changed. Only one thread at a time may run it.
    """

    def __init__(
        self, program: Program, layers: Sequence[Sequence[Parameters]], x: Tensor, states: Sequence[Tensor], bf16: bool
    ) -> None:
        """`layers[depth][direction]` are the parameters; `x` and `states`, as in a call, show the sizes; `bf16` as in
        `cell_of`."""
        batch, width = x.numel() // x.shape[-1], x.shape[-1]
        self._layers: list[list[_Layer]] = []
        for directions in layers:
            self._layers.append([_Layer(program, own, batch, width, states, bf16) for own in directions])
            width = sum(layer.output_width for layer in self._layers[-1])
        self._output = empty(*x.shape[:-1], width)  # what an output is like
        self._states = [(f"state {s.name}", f"new {s.name}") for s in program.states]
        self._copied = [pair for directions in self._layers for layer in directions for pair in layer.copied]
        self._tape = self._record(batch)

    def _record(self, batch: int) -> Tape:
        flat = [layer for directions in self._layers for layer in directions]
        sizes = {f"{n} {name}": (batch, width) for n, layer in enumerate(flat) for name, width in layer.widths.items()}
        for depth, directions in enumerate(self._layers):
            sizes[f"outputs {depth}"] = (batch, sum(layer.output_width for layer in directions))
        layout = Layout("memory", sizes)
        with torch.inference_mode(False):  # or the memory could not be written outside of that mode
            self._memory = slab(layout.floats)
        tape, source, number = Tape(), Place("x"), 0
        addresses = {"memory": self._memory.data_ptr()}
        for depth, directions in enumerate(self._layers):
            last, first, whole = depth == len(self._layers) - 1, 0, sizes[f"outputs {depth}"][1]
            target = Place("output") if last else layout.arrays[f"outputs {depth}"].place
            for layer in directions:
                arrays = {name: layout.arrays[f"{number} {name}"] for name in layer.widths}
                made = layer.record(tape, batch, number, source, arrays)
                _to_tensor(tape, target.after(4 * first), whole, made, batch, layer.output_width)
                addresses |= layer.addresses(number)
                first += layer.output_width
                number += 1
            source = target
        moving = dict.fromkeys(("x", "output", *(slot for pair in self._states for slot in pair)), 0)
        tape.finish().place(addresses | moving)
        return tape

    def __call__(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (..., batch, input) and the states, each (layers x directions, batch, size), to the output
        (..., batch, size) and the new states; one sequence alone may lack the dimension of the batch."""
        for own, given in self._copied:
            own.copy_(given)
        x, output = x.contiguous(), torch.empty_like(self._output)
        move = self._tape.move
        move("x", x.data_ptr())
        move("output", output.data_ptr())
        before = [state.contiguous() for state in states]
        after = tuple(map(torch.empty_like, before))
        for (old_slot, new_slot), old, new in zip(self._states, before, after, strict=True):
            move(old_slot, old.data_ptr())
            move(new_slot, new.data_ptr())
        self._tape.play()
        return output, after


class _Layer:
    """One layer in one direction."""

    def __init__(
        self, program: Program, parameters: Parameters, batch: int, width: int, states: Sequence[Tensor], bf16: bool
    ) -> None:
        parameters = {name: p.detach().contiguous() for name, p in parameters.items()}
        x, state = empty(batch, 1, width), [empty(batch, s.shape[-1]) for s in states]
        self._cell = cell_of(program, x, state, parameters, bf16)
        self._plan, self._new = _plan(self._cell)
        self._packed = packs_of(self._cell, parameters).of(tuple(self._plan.matrices))
        with torch.inference_mode(False):
            self._vectors = {name: (of_vector(p), p) for name, p in parameters.items() if p.dim() == 1}
        self.copied = [(own[: len(p)], p) for own, p in self._vectors.values() if own.data_ptr() != p.data_ptr()]
        self.widths = {name: self._cell.width(name) for name in (self._cell.input, *self._cell.states)}
        self.widths |= {n: self._plan.widths[n] for n, memory in self._plan.memory.items() if memory != PARAMETER}
        self.output_width = self._cell.width(self._cell.states[0])

    def addresses(self, number: int) -> dict[str, int]:
        """Where the slots lie that are this layer's own."""
        own = {f"{number} {name}": vector.data_ptr() for name, (vector, _) in self._vectors.items()}
        return {f"{number} packed": self._packed.data_ptr(), **own}

    def record(self, tape: Tape, batch: int, number: int, source: Place, arrays: dict[str, Array]) -> Array:
        """Record the step from `source` (batch, input) and the slots of the states; the array of the output."""
        cell = self._cell

        def place(slot: str, state: str) -> Place:
            return Place(f"{slot} {state}", 4 * number * batch * self.widths[state])

        given = {cell.input: source, **{state: place("state", state) for state in cell.states}}
        made = {new: (state, place("new", state)) for state, new in zip(cell.states, self._new, strict=True)}
        for name, where in given.items():
            if _is_array(batch, self.widths[name]):
                arrays[name] = Array(where, 1)
            else:
                _to_array(tape, arrays[name], where, batch, self.widths[name])
        direct = [n for n, (s, _) in made.items() if n not in given and _is_array(batch, self.widths[s])]
        arrays.update({new: Array(made[new][1], 1) for new in direct})
        places = arrays | {name: Array(Place(f"{number} {name}"), 1) for name in self._vectors}
        packed = packed_places(cell, self._plan.matrices, f"{number} packed")
        active, offsets = np.full(1, batch, np.int64), np.zeros((1, 1), np.int64)
        threads = min(torch.get_num_threads(), threads_for(self._plan, batch))
        self._plan.record(tape, 1, active, offsets, places, packed, threads)
        for new, (state, where) in made.items():
            if new not in direct:
                _to_tensor(tape, where, self.widths[state], arrays[new], batch, self.widths[state])
        return arrays[self._new[0]]


def _is_array(batch: int, width: int) -> bool:
    """Whether a tensor (batch, width) lies in memory as an array does."""
    return batch == 1 and width % library.BLOCK == 0


def _to_array(tape: Tape, array: Array, place: Place, batch: int, width: int) -> None:
    copy(tape, array_rows(tape, array), tape.put(place, None, width, library.BLOCK), batch, width, True, 1)


def _to_tensor(tape: Tape, place: Place, stride: int, array: Array, batch: int, width: int) -> None:
    copy(tape, tape.put(place, None, stride, library.BLOCK), array_rows(tape, array), batch, width, False, 1)


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
