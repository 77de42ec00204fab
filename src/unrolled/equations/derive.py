"""Reverse mode over one step: from instructions and the gradients of some values to the instructions of the others.

The derivative is written in the operations of the same table, with two more: `matmul_transposed`, the gradient that a
product hands to its vector, and, kept apart because it waits until all steps are done, the outer product that is the
gradient of a matrix. Expressions that occur twice are computed once, those of the step itself included.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.equations.hoist import live
from unrolled.equations.ops import OPS
from unrolled.equations.program import Instruction, Operand, Shape


@dataclass(frozen=True)
class OuterProduct:
    """A term of a matrix's gradient: `gradient` (its rows) times `vector` (its columns), summed over steps."""

    matrix: str
    gradient: str
    vector: str


@dataclass(frozen=True)
class Derivative:
    """The backward instructions of a step. They read values of the step by name.

    `gradients` says, for each wanted vector that has one, which value is its gradient; `outer_products` are the
    gradients of the matrices; `shapes` are those of the seeds and the new values.
    """

    instructions: tuple[Instruction, ...]
    gradients: dict[str, str]
    outer_products: tuple[OuterProduct, ...]
    shapes: dict[str, Shape]

    def reads(self) -> set[str]:
        """The values from outside that the instructions and the outer products need."""
        made = {i.name for i in self.instructions}
        read = {a for i in self.instructions for a in i.args if isinstance(a, str)}
        read.update(name for p in self.outer_products for name in (p.gradient, p.vector))
        read.update(self.gradients.values())
        return read - made


def derive(
    instructions: Sequence[Instruction],
    shapes: Mapping[str, Shape],
    seeds: Iterable[tuple[str, str]],
    wanted: Iterable[str],
) -> Derivative:
    """Differentiate `instructions` backwards.

    `seeds` are pairs (value, name of its gradient), `wanted` the vectors whose gradients are asked for; the gradients
    of all matrices are. A value may have several seeds; they add up. `shapes` has every value of the step.
    """
    builder = _Builder(instructions, shapes)
    for value, seed in seeds:
        builder.shapes[seed] = builder.seeds[seed] = shapes[value]
        builder.contribute(value, _Value(builder, seed))
    outer_products: list[tuple[str, _Value, str]] = []
    for instruction in reversed(instructions):
        gradient = builder.gradients.get(instruction.name)
        if gradient is None:
            continue
        if instruction.op == "matmul":
            matrix, vector = map(str, instruction.args)
            outer_products.append((matrix, gradient, vector))
            back = builder.record("matmul_transposed", (matrix, gradient.name), (shapes[matrix][1],))
            builder.contribute(vector, back)
            continue
        args = [a if isinstance(a, float) else _Value(builder, a) for a in map(_operand, instruction.args)]
        result = _Value(builder, instruction.name)
        parts = OPS[instruction.op].derivative(builder, gradient, result, *args)
        for argument, part in zip(instruction.args, parts, strict=True):
            if isinstance(argument, str) and isinstance(part, _Value):
                builder.contribute(argument, part)
    return builder.finish(set(wanted), outer_products)


def _operand(argument: Operand) -> Operand:
    return argument if isinstance(argument, str) else float(argument)


class _Value:
    """A value of the derivative under construction; its operators write instructions."""

    def __init__(self, builder: "_Builder", name: str) -> None:
        self.builder = builder
        self.name = name

    def __add__(self, other: Any) -> Any:
        return self.builder.elementwise("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self.builder.elementwise("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self.builder.elementwise("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.builder.elementwise("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self.builder.elementwise("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.builder.elementwise("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.builder.elementwise("div", self, other)

    def __neg__(self) -> Any:
        return self.builder.elementwise("neg", self)


class _Builder:
    """Records instructions, each expression once; its attributes `sigmoid`, `sign`, ... are the operations by name."""

    def __init__(self, step: Sequence[Instruction], shapes: Mapping[str, Shape]) -> None:
        self.shapes: dict[str, Shape] = dict(shapes)
        self.instructions: list[Instruction] = []
        self.seeds: dict[str, Shape] = {}
        self.gradients: dict[str, _Value] = {}
        self._known: dict[tuple[str, tuple[Operand, ...]], str] = {(i.op, i.args): i.name for i in step}

    def __getattr__(self, op: str) -> Any:
        if op not in OPS:
            raise AttributeError(op)
        return lambda *args: self.elementwise(op, *args)

    def elementwise(self, op: str, *args: Any) -> "_Value":
        operands = tuple(a.name if isinstance(a, _Value) else float(a) for a in args)
        named = next(a for a in operands if isinstance(a, str))
        return self.record(op, operands, self.shapes[named])

    def record(self, op: str, args: tuple[Operand, ...], shape: Shape) -> "_Value":
        if (op, args) not in self._known:
            name = f"g{len(self.instructions) + 1}"
            while name in self.shapes:
                name += "_"
            self._known[op, args] = name
            self.shapes[name] = shape
            self.instructions.append(Instruction(name, op, args, shape))
        return _Value(self, self._known[op, args])

    def contribute(self, value: str, gradient: "_Value") -> None:
        before = self.gradients.get(value)
        self.gradients[value] = gradient if before is None else before + gradient

    def finish(self, wanted: set[str], outer_products: list[tuple[str, "_Value", str]]) -> Derivative:
        gradients = {value: g.name for value, g in self.gradients.items() if value in wanted}
        needed = {*gradients.values(), *(gradient.name for _, gradient, _ in outer_products)}
        kept = live(tuple(self.instructions), needed)
        renamed = self._readable_names(kept)

        def name(value: str) -> str:
            return renamed.get(value, value)

        instructions = tuple(
            Instruction(name(i.name), i.op, tuple(name(a) if isinstance(a, str) else a for a in i.args), i.shape)
            for i in kept
        )
        return Derivative(
            instructions=instructions,
            gradients={value: name(g) for value, g in gradients.items()},
            outer_products=tuple(OuterProduct(matrix, name(g.name), vector) for matrix, g, vector in outer_products),
            shapes={**self.seeds, **{i.name: i.shape for i in instructions}},
        )

    def _readable_names(self, kept: Sequence[Instruction]) -> dict[str, str]:
        """The gradient of `f` is called d_f, where it is a value of its own."""
        made = {i.name for i in kept}
        renamed: dict[str, str] = {}
        for value, gradient in self.gradients.items():
            name = f"d_{value}"
            while name in self.shapes:
                name += "_"
            if gradient.name in made:
                renamed.setdefault(gradient.name, name)
        return renamed
