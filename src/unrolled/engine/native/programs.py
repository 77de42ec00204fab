"""From Programs and tensors to compiled cells: Programs by their JSON text, and the plans that suit the sizes."""

import functools
from collections.abc import Mapping, Sequence

from torch import Tensor

from unrolled.engine.joined import separate
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.library import BF16, FP32, has_bf16
from unrolled.equations import Program

# The input's products stay in the loop (see compiled.py) from so many sequences on and up to so many weights, which
# then stay in the last cache from step to step.
ROWS_INSIDE = 8
WEIGHTS_INSIDE = 4_000_000

Parameters = Mapping[str, Tensor]


def cell_of(
    program: Program, x: Tensor, state: Sequence[Tensor], parameters: Parameters, bf16: bool, table: bool = False
) -> CompiledCell:
    """The plans of a Program at the sizes that the shapes show; the parameters may be joined; `bf16`: products in
    bfloat16, if the machine has it; `table`: x is one."""
    text = text_of(program)
    sizes = {program.inputs[0].shape[0]: int(x.shape[-1])}
    sizes.update({s.shape[0]: int(value.shape[1]) for s, value in zip(program.states, state, strict=True)})
    if further := _further_sizes(text):
        own = separate(parameters)
        sizes.update({dimension: int(own[name].shape[axis]) for dimension, name, axis in further})
    weights = sum(value.numel() for value in parameters.values() if value.dim() == 2)
    hoisting = table or state[0].shape[0] < ROWS_INSIDE or weights > WEIGHTS_INSIDE
    return _compiled(text, tuple(sizes.items()), hoisting, BF16 if bf16 and has_bf16() else FP32, table)


@functools.lru_cache(maxsize=128)
def _further_sizes(program: str) -> list[tuple[str, str, int]]:
    """The named sizes that neither input nor states have: of which parameter and in which of its dimensions."""
    traced = program_of(program)
    known = {v.shape[0] for v in (*traced.inputs, *traced.states)}
    places = [(name, p.name, axis) for p in traced.parameters for axis, name in enumerate(p.shape)]
    return [place for place in places if place[0].isidentifier() and place[0] not in known]


@functools.lru_cache(maxsize=128)
def _compiled(
    program: str, sizes: tuple[tuple[str, int], ...], hoisting: bool, precision: int, table: bool
) -> CompiledCell:
    return CompiledCell(program_of(program), dict(sizes), hoisting, precision, table)


_texts: dict[int, tuple[Program, str]] = {}


def text_of(program: Program) -> str:
    """The JSON text of a Program, worked out once for each object."""
    found = _texts.get(id(program))
    if found is None or found[0] is not program:
        if len(_texts) > 256:  # cells made in a loop
            _texts.clear()
        found = _texts[id(program)] = (program, program.to_json())
    return found[1]


@functools.lru_cache(maxsize=128)
def program_of(text: str) -> Program:
    """The Program of a JSON text, one object for each text."""
    program = Program.from_json(text)
    _texts[id(program)] = (program, text)
    return program
