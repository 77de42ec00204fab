"""A Program: one step of a recurrent network as data. Named variables, instructions in order, outputs.

It holds no tensor and runs nothing: engines run it, `printing.py` shows it, `trace.py` makes it from a function.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from unrolled.equations.ops import OPS
from unrolled.errors import UnrolledError

Shape = tuple[str, ...]  # ("hidden", "hidden + input"): sums of named sizes or whole numbers
Operand = str | float
ROLES = ("input", "state", "parameter")
FORMAT = 1


@dataclass(frozen=True)
class Variable:
    """A named input, state or parameter of the step, with its symbolic shape."""

    name: str
    role: str
    shape: Shape


@dataclass(frozen=True)
class Instruction:
    """`name = op(args)`; an argument is the name of an earlier value, or a number (element-wise operations only).

    `op` is a row of `OPS`, or "matmul": `args[0]` is a matrix, the others are vectors that stand under each other.
    """

    name: str
    op: str
    args: tuple[Operand, ...]
    shape: Shape


@dataclass(frozen=True)
class Program:
    """One step: `outputs = f(variables)`. `outputs` are value names, one per state, in the order of the states.

    `init` gives start values of parameters by name (a number; what it leaves out is drawn at random).
    """

    name: str
    variables: tuple[Variable, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[str, ...]
    doc: str = ""
    init: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check()

    def _role(self, role: str) -> tuple[Variable, ...]:
        return tuple(v for v in self.variables if v.role == role)

    @cached_property
    def inputs(self) -> tuple[Variable, ...]:
        """The inputs of one step; a cell has one, a model one for each member."""
        return self._role("input")

    @cached_property
    def states(self) -> tuple[Variable, ...]:
        """The states, in the order of the equations; the first one is the cell's output."""
        return self._role("state")

    @cached_property
    def parameters(self) -> tuple[Variable, ...]:
        """The parameters, shared by all steps."""
        return self._role("parameter")

    def size(self, dimension: str, sizes: dict[str, int]) -> int:
        """The number that `dimension` (such as "hidden + input") stands for, given the named sizes."""
        total = 0
        for term in dimension.split(" + "):
            if not term.isdigit() and term not in sizes:
                raise UnrolledError(f"cell {self.name}: the size '{term}' is not known; pass it as {term}=<number>.")
            total += int(term) if term.isdigit() else sizes[term]
        return total

    def size_names(self) -> tuple[str, ...]:
        """Every named size that the shapes mention, in order of appearance."""
        terms = [term for v in self.variables for dim in v.shape for term in dim.split(" + ")]
        return tuple(dict.fromkeys(term for term in terms if not term.isdigit()))

    def shape_of(self, variable: Variable, sizes: dict[str, int]) -> tuple[int, ...]:
        """The shape of a variable in numbers."""
        return tuple(self.size(dimension, sizes) for dimension in variable.shape)

    def _check(self) -> None:
        shapes: dict[str, Shape] = {}

        def define(name: str, shape: Shape) -> None:
            if not name.isidentifier():
                raise UnrolledError(f"program {self.name}: '{name}' is not a name.")
            if name in shapes:
                raise UnrolledError(f"program {self.name}: '{name}' is defined twice.")
            shapes[name] = shape

        for variable in self.variables:
            if variable.role not in ROLES:
                raise UnrolledError(f"program {self.name}: {variable.name} has the unknown role '{variable.role}'.")
            define(variable.name, variable.shape)
        for instruction in self.instructions:
            self._check_instruction(instruction, shapes)
            define(instruction.name, instruction.shape)
        if len(self.outputs) != len(self.states):
            raise UnrolledError(
                f"program {self.name}: {len(self.outputs)} outputs for {len(self.states)} states; one each is needed."
            )
        for output, state in zip(self.outputs, self.states, strict=True):
            if shapes.get(output) != state.shape:
                raise UnrolledError(
                    f"program {self.name}: output '{output}' has shape {shapes.get(output)}, "
                    f"its state {state.name} has {state.shape}."
                )

    def _check_instruction(self, instruction: Instruction, shapes: dict[str, Shape]) -> None:
        where = f"program {self.name}, {instruction.name} = {instruction.op}{instruction.args}"
        for argument in instruction.args:
            if isinstance(argument, str) and argument not in shapes:
                raise UnrolledError(f"{where}: '{argument}' is not defined before its use.")
        if instruction.op == "matmul":
            if len(instruction.args) < 2 or not all(isinstance(argument, str) for argument in instruction.args):
                raise UnrolledError(f"{where}: a product takes a matrix and named vectors.")
            matrix, *vectors = map(str, instruction.args)
            if any(len(shapes[vector]) != 1 for vector in vectors):
                raise UnrolledError(f"{where}: only vectors stand on the right of a product.")
            columns = " + ".join(shapes[vector][0] for vector in vectors)
            if shapes[matrix] != (*instruction.shape, columns) or len(instruction.shape) != 1:
                raise UnrolledError(f"{where}: matrix {shapes[matrix]} times vector ({columns}) do not fit.")
            return
        if instruction.op not in OPS:
            raise UnrolledError(f"{where}: unknown operation; this version knows matmul, {', '.join(OPS)}.")
        if len(instruction.args) != OPS[instruction.op].arity:
            raise UnrolledError(f"{where}: {instruction.op} takes {OPS[instruction.op].arity} arguments.")
        named = [argument for argument in instruction.args if isinstance(argument, str)]
        if not named or any(shapes[argument] != instruction.shape for argument in named):
            raise UnrolledError(f"{where}: the shapes of an element-wise operation must be equal.")

    def to_json(self) -> str:
        """The Program as JSON text; `from_json` gives an equal Program back."""
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "doc": self.doc,
                "variables": [[v.name, v.role, list(v.shape)] for v in self.variables],
                "instructions": [[i.name, i.op, list(i.args), list(i.shape)] for i in self.instructions],
                "outputs": list(self.outputs),
                "init": self.init,
            },
            ensure_ascii=False,
        )

    @staticmethod
    def from_json(text: str) -> "Program":
        """The Program that `to_json` wrote. Raises UnrolledError if the text is damaged or of a later version."""
        try:
            data = json.loads(text)
            if data["format"] > FORMAT:
                raise UnrolledError(
                    f"the equations are of format {data['format']}, this version reads up to {FORMAT}; update unrolled."
                )
            return Program(
                name=_text(data["name"]),
                doc=_text(data["doc"]),
                variables=tuple(Variable(_text(n), _text(r), _shape(s)) for n, r, s in data["variables"]),
                instructions=tuple(
                    Instruction(_text(n), _text(op), tuple(_operand(a) for a in args), _shape(shape))
                    for n, op, args, shape in data["instructions"]
                ),
                outputs=tuple(_text(name) for name in data["outputs"]),
                init={_text(name): float(value) for name, value in data["init"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, UnrolledError):
                raise
            raise UnrolledError(f"the equations are damaged ({error!r}); use a good copy of the file.") from error


_DIMENSION = re.compile(r"[^\W\d]\w*|\d+")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _shape(value: Any) -> Shape:
    shape = tuple(_text(dimension) for dimension in value)
    if not all(_DIMENSION.fullmatch(term) for dimension in shape for term in dimension.split(" + ")):
        raise ValueError(f"{value!r} is no shape")
    return shape


def _operand(value: Any) -> Operand:
    return value if isinstance(value, str) else float(value)
