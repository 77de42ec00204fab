"""Products split by columns: `W @ [h, x]` becomes `W[0] @ h + W[1] @ x`, so that each vector can go its own way."""

from dataclasses import dataclass

from unrolled.equations.program import Instruction, Program, Shape, Variable


@dataclass(frozen=True)
class Columns:
    """The columns of a parameter that multiply one vector; `before` are the dimensions that stand to their left."""

    parameter: str
    before: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class SplitProgram:
    """The instructions of a Program in which every product has one vector; `columns` says what its matrix is."""

    instructions: tuple[Instruction, ...]
    columns: dict[str, Columns]


def split_columns(program: Program) -> SplitProgram:
    """Split every product of several vectors into a sum of products."""
    values: list[Variable | Instruction] = [*program.variables, *program.instructions]
    shapes = {value.name: value.shape for value in values}
    columns: dict[str, Columns] = {}
    instructions: list[Instruction] = []
    for instruction in program.instructions:
        if instruction.op != "matmul":
            instructions.append(instruction)
            continue
        matrix, *vectors = map(str, instruction.args)
        widths = [shapes[vector][0] for vector in vectors]
        total = ""
        for place, vector in enumerate(vectors):
            whole = len(vectors) == 1
            part = matrix if whole else f"{matrix}[{place}]"
            columns[part] = Columns(matrix, tuple(widths[:place]), (*instruction.shape, widths[place]))
            name = instruction.name if whole else f"{instruction.name}[{place}]"
            instructions.append(Instruction(name, "matmul", (part, vector), instruction.shape))
            if place > 0:
                last = place == len(vectors) - 1
                added = instruction.name if last else f"{instruction.name}[:{place + 1}]"
                instructions.append(Instruction(added, "add", (total, name), instruction.shape))
                name = added
            total = name
    return SplitProgram(tuple(instructions), columns)
