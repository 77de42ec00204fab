"""Instructions cut into stages: what a product reads must be complete, over all units, before the stage starts.

A stage has the units of one dimension, some products, and the instructions on their results. Products that are added
up share one sum. A value that another stage or a product reads needs memory; the others live in registers.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from unrolled.equations import Instruction
from unrolled.equations.program import Operand, Shape

PRODUCTS = ("matmul", "matmul_transposed")


@dataclass(frozen=True)
class Product:
    """`result` = (accumulate: itself +) matrix (or its transpose) times vector."""

    matrix: str
    transposed: bool
    vector: str
    result: str
    accumulate: bool


@dataclass
class Stage:
    """Products and then instructions, all of vectors of one dimension."""

    dimension: str
    products: list[Product] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    """Stages in order, and the values that need memory beyond those the caller stores."""

    stages: tuple[Stage, ...]
    scratch: tuple[str, ...]


Key = tuple[int, str]


def schedule(instructions: Sequence[Instruction], shapes: Mapping[str, Shape], stored: set[str]) -> Schedule:
    """Cut `instructions` into stages. `stored` values have memory already."""
    level = _levels(instructions)
    stage_of: dict[str, Key] = {i.name: (level[i.name], shapes[i.name][0]) for i in instructions}
    scratch: list[str] = []
    for instruction in instructions:
        for argument in _vectors(instruction):
            crosses = instruction.op in PRODUCTS or stage_of.get(argument) != stage_of[instruction.name]
            if argument in stage_of and argument not in stored and argument not in scratch and crosses:
                scratch.append(argument)
    stages: dict[Key, Stage] = {}
    for key in sorted(dict.fromkeys(stage_of.values()), key=lambda k: k[0]):
        members = [i for i in instructions if stage_of[i.name] == key]
        stages[key] = _stage(key[1], members, instructions, stored | set(scratch))
        stages[key].instructions = readers_follow(stages[key].instructions, stored | set(scratch))
    return Schedule(tuple(stages.values()), tuple(scratch))


def in_place(stages: Sequence[Stage], dying: Sequence[str], born: Sequence[str]) -> dict[str, str]:
    """Which `born` value may take the memory of which `dying` one: born in the stage that reads it last, and later."""
    taken: dict[str, str] = {}
    for stage in stages:
        place = {i.name: at for at, i in enumerate(stage.instructions)}
        last = {a: at for at, i in enumerate(stage.instructions) for a in i.args if isinstance(a, str)}
        elsewhere = {a for s in stages if s is not stage for i in s.instructions for a in i.args}
        elsewhere |= {p.vector for s in stages for p in s.products}
        for value in dying:
            after = [b for b in born if b in place and b not in taken and place[b] >= last.get(value, len(place))]
            if value not in elsewhere and after:
                taken[after[0]] = value
    return taken


def readers_follow(instructions: Sequence[Instruction], stored: Collection[str]) -> list[Instruction]:
    """The instructions in another order: a value that is read once, and not `stored`, stands right before its reader.

    Of two such values the longer calculation comes first. The engine runs an instruction and its reader as one.
    """
    uses = Counter(a for i in instructions for a in i.args)
    waiting: dict[Operand, list[Instruction]] = {}  # the calculation of a value that waits for its reader
    ordered: list[Instruction] = []
    for instruction in instructions:
        before = sorted((waiting.pop(a) for a in instruction.args if a in waiting), key=len, reverse=True)
        calculation = [*(i for part in before for i in part), instruction]
        if uses[instruction.name] == 1 and instruction.name not in stored:
            waiting[instruction.name] = calculation
        else:
            ordered += calculation
    return ordered + [i for calculation in waiting.values() for i in calculation]


def _vectors(instruction: Instruction) -> list[str]:
    args = instruction.args[1:] if instruction.op in PRODUCTS else instruction.args
    return [a for a in args if isinstance(a, str)]


def _levels(instructions: Sequence[Instruction]) -> dict[str, int]:
    level: dict[str, int] = {}
    for instruction in instructions:
        sources = [level[a] for a in _vectors(instruction) if a in level]
        after = 1 if instruction.op in PRODUCTS else 0
        level[instruction.name] = max((source + after for source in sources), default=0)
    # A product waits for its first reader, where its sum may have company and its result needs no memory.
    for product in instructions:
        if product.op in PRODUCTS:
            readers = [level[i.name] - (i.op in PRODUCTS) for i in instructions if product.name in _vectors(i)]
            level[product.name] = max(level[product.name], min(readers, default=0))
    return level


def _stage(dimension: str, members: list[Instruction], everything: Sequence[Instruction], stored: set[str]) -> Stage:
    stage = Stage(dimension)
    uses = [a for i in everything for a in _vectors(i)]
    made = {i.name: i for i in members}

    def private(value: Operand) -> bool:  # made here, read once, and that by an addition
        return isinstance(value, str) and value in made and value not in stored and uses.count(value) == 1

    def terms(value: Operand, root: bool) -> list[Operand]:
        if isinstance(value, str) and value in made and made[value].op == "add" and (root or private(value)):
            return [t for a in made[value].args for t in terms(a, False)]
        return [value]

    def is_product(value: Operand) -> bool:
        return private(value) and made[str(value)].op in PRODUCTS

    adds = [i for i in members if i.op == "add"]
    partial = {a for i in adds for a in i.args if private(a) and made[str(a)].op == "add"}
    sums = {i.name: terms(i.name, True) for i in adds if i.name not in partial}
    sums = {name: parts for name, parts in sums.items() if any(map(is_product, parts))}
    absorbed = {t for parts in sums.values() for t in parts if is_product(t)}
    absorbed |= {a for name in sums for a in _partial_sums(name, made, partial)}
    for instruction in members:
        name = instruction.name
        if name in absorbed:
            continue
        if instruction.op in PRODUCTS:
            result = f"{name}'" if name in stored else name
            stage.products.append(_product(instruction, result, False))
            if name in stored:
                stage.instructions.append(Instruction(name, "copy", (result,), instruction.shape))
        elif name in sums:
            products = [made[str(t)] for t in sums[name] if is_product(t)]
            rest = [t for t in sums[name] if not is_product(t)]
            total = products[0].name if rest or name in stored else name
            stage.products.extend(_product(p, total, place > 0) for place, p in enumerate(products))
            if not rest and name in stored:
                stage.instructions.append(Instruction(name, "copy", (total,), instruction.shape))
            for place, term in enumerate(rest, 1):
                subtotal = name if place == len(rest) else f"{name}+{place}"
                stage.instructions.append(Instruction(subtotal, "add", (total, term), instruction.shape))
                total = subtotal
        else:
            stage.instructions.append(instruction)
    return stage


def _partial_sums(name: Operand, made: Mapping[str, Instruction], partial: set[Operand]) -> list[str]:
    """The partial sums below the sum `name`."""
    below = [str(a) for a in made[str(name)].args if a in partial]
    return [*below, *(deeper for a in below for deeper in _partial_sums(a, made, partial))]


def _product(instruction: Instruction, result: str, accumulate: bool) -> Product:
    matrix, vector = map(str, instruction.args)
    return Product(matrix, instruction.op == "matmul_transposed", vector, result, accumulate)
