"""What leaves the time loop: every value that depends on the input but on no state is computed for all steps at once.

A sum of terms of both kinds is split: `W_h @ h + W_x @ x + b` keeps one product in the loop and reads the sum
`W_x @ x + b`. Values of parameters alone are cheap and stay where they are read. Or nothing leaves: `whole`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unrolled.equations.columns import Columns, split_columns
from unrolled.equations.program import Instruction, Program, Shape, Variable


@dataclass(frozen=True)
class Hoisted:
    """A Program cut in two: `before` the loop and `inside` it. `carried` are the values of the first that the second
    reads, and the input if it is read inside.

    `columns` names the matrices (whole parameters or some of their columns), `shapes` every value.
    """

    program: Program
    before: tuple[Instruction, ...]
    inside: tuple[Instruction, ...]
    carried: tuple[str, ...]
    columns: dict[str, Columns]
    shapes: dict[str, Shape]


def hoist(program: Program) -> Hoisted:
    """Cut a Program into what is computed before the time loop and what inside it."""
    split = split_columns(program)
    depends = _dependence(program, split.instructions)
    instructions = _regroup_sums(split.instructions, set(program.outputs), depends)
    depends = _dependence(program, instructions)
    inside = live(instructions, set(program.outputs), lambda i: "input" not in depends[i.name] or _in_loop(depends, i))
    read = {a for i in inside for a in i.args if isinstance(a, str)} | set(program.outputs)
    hoisted = {i.name for i in instructions if "input" in depends[i.name] and not _in_loop(depends, i)}
    carried = tuple(i.name for i in instructions if i.name in hoisted & read)
    before = live(instructions, set(carried), lambda i: not _in_loop(depends, i))
    carried = (*(x.name for x in program.inputs if x.name in read), *carried)
    return Hoisted(program, before, inside, carried, split.columns, _shapes(program, instructions, split.columns))


def whole(program: Program) -> Hoisted:
    """Nothing leaves the loop: all of the step is inside."""
    split = split_columns(program)
    carried = tuple(x.name for x in program.inputs)
    shapes = _shapes(program, split.instructions, split.columns)
    return Hoisted(program, (), split.instructions, carried, split.columns, shapes)


def _shapes(program: Program, instructions: tuple[Instruction, ...], columns: dict[str, Columns]) -> dict[str, Shape]:
    values: list[Variable | Instruction] = [*program.variables, *instructions]
    return {value.name: value.shape for value in values} | {name: part.shape for name, part in columns.items()}


def live(
    instructions: tuple[Instruction, ...], wanted: set[str], allowed: Callable[[Instruction], bool] = lambda _: True
) -> tuple[Instruction, ...]:
    """The allowed instructions that `wanted` values need, in order."""
    needed = set(wanted)
    kept = []
    for instruction in reversed(instructions):
        if instruction.name in needed and allowed(instruction):
            kept.append(instruction)
            needed.update(a for a in instruction.args if isinstance(a, str))
    return tuple(reversed(kept))


Dependence = dict[str, frozenset[str]]


def _in_loop(depends: Dependence, instruction: Instruction) -> bool:
    return "state" in depends[instruction.name]


def _dependence(program: Program, instructions: tuple[Instruction, ...]) -> Dependence:
    """Which of "input" and "state" each value is computed from."""
    depends: Dependence = {}
    for variable in program.variables:
        depends[variable.name] = frozenset() if variable.role == "parameter" else frozenset({variable.role})
    for instruction in instructions:
        sources = (depends.get(a, frozenset()) for a in instruction.args if isinstance(a, str))
        depends[instruction.name] = frozenset().union(*sources)
    return depends


def _regroup_sums(
    instructions: tuple[Instruction, ...], outputs: set[str], depends: Dependence
) -> tuple[Instruction, ...]:
    made = {i.name: i for i in instructions}
    uses = [a for i in instructions for a in i.args if isinstance(a, str)]
    mixed = {i.name for i in instructions if i.op == "add" and depends[i.name] == {"input", "state"}}

    def absorbed(value: str, user: str) -> bool:  # a partial sum that nobody but the sum `user` reads
        return user in mixed and made[value].op == "add" and uses.count(value) == 1 and value not in outputs

    inner = {a for i in instructions for a in i.args if isinstance(a, str) and a in made and absorbed(a, i.name)}

    def terms(value: "str | float", root: bool) -> "list[str | float]":
        if isinstance(value, str) and (root or value in inner):
            return [t for a in made[value].args for t in terms(a, False)]
        return [value]

    result: list[Instruction] = []
    for instruction in instructions:
        if instruction.name in inner:
            continue
        if instruction.name in mixed:
            result.extend(_cut_sum(instruction, terms(instruction.name, True), depends))
        else:
            result.append(instruction)
    return tuple(result)


def _cut_sum(instruction: Instruction, terms: "list[str | float]", depends: Dependence) -> list[Instruction]:
    """The sum of `terms` as the terms of the loop plus one hoisted sum."""

    def role(term: "str | float") -> frozenset[str]:
        return depends[term] if isinstance(term, str) else frozenset()

    outside = [t for t in terms if "state" not in role(t)]
    if not any("input" in role(t) for t in outside):
        outside = []
    loop = [t for t in terms if t not in outside]
    name, shape = instruction.name, instruction.shape
    result = _sum(f"{name}[before]", outside, shape)
    hoisted = [result[-1].name] if result else outside
    return [*result, *_sum(name, [*loop, *hoisted], shape)]


def _sum(name: str, terms: "list[str | float]", shape: Shape) -> list[Instruction]:
    """`terms` added from left to right; nothing for fewer than two."""
    result: list[Instruction] = []
    total = terms[0] if terms else 0.0
    for place, term in enumerate(terms[1:], 2):
        partial = name if place == len(terms) else f"{name}[:{place}]"
        result.append(Instruction(partial, "add", (total, term), shape))
        total = partial
    return result
