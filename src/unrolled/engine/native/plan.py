"""From scheduled stages to a plan of the native library: numbers for names, registers for what needs no memory."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.engine.native import library
from unrolled.engine.native.schedule import Schedule, Stage, schedule
from unrolled.engine.native.tape import Place, Tape
from unrolled.equations import OPS, Instruction
from unrolled.equations.program import Operand, Shape

_OPCODES = {"copy": library.COPY, "accumulate": library.ACCUMULATE, **{name: op.opcode for name, op in OPS.items()}}


@dataclass(frozen=True)
class Memory:
    """How a value's rows are found in its array: see the addressings and tables of the header."""

    addressing: int = library.ROWS
    table: int = -1


@dataclass(frozen=True)
class Array:
    """An array of so many rows at a place; of memory outside of the engine its floats, and those between two rows."""

    place: Place
    rows: int
    floats: Place | None = None
    row_stride: Place | int = 0


PARAMETER = Memory(library.BROADCAST)
SUM = Memory(library.PER_THREAD)


def blocks(width: int) -> int:
    """The blocks of an array of so many units."""
    return -(-width // library.BLOCK)


def padded(width: int) -> int:
    """Units of an array with what pads them."""
    return blocks(width) * library.BLOCK


class Plan:
    """A plan in the native library. Its caller gives it the arrays of `memory` and the packed `matrices`."""

    def __init__(
        self,
        instructions: Sequence[Instruction],
        shapes: Mapping[str, Shape],
        widths: Mapping[str, int],
        memory: Mapping[str, Memory],
        tables: int,
        independent: Memory | None,
        precision: int,
    ) -> None:
        """`memory` places the values that come from outside and those the caller wants to keep;
        `widths` are the sizes of the dimensions. Where steps are `independent` they may run at the same time, so each
        has scratch rows of its own, placed like that. `precision` is that of the products."""
        made = {i.name for i in instructions}
        cut = schedule(instructions, shapes, {name for name in memory if name in made})
        read = {a for s in cut.stages for i in s.instructions for a in i.args if isinstance(a, str)}
        read |= {p.vector for s in cut.stages for p in s.products}
        self.memory = {name: place for name, place in memory.items() if name in made or name in read}
        self.memory.update(dict.fromkeys(cut.scratch, independent or Memory()))
        self.widths = {name: widths[shapes[name][0]] for name in self.memory}
        self.scratch = cut.scratch
        self.stages = cut.stages
        self.independent = independent is not None
        self.matrices: list[tuple[str, bool]] = list(
            dict.fromkeys((p.matrix, p.transposed) for s in cut.stages for p in s.products)
        )
        # What a row costs, roughly in multiply-adds; an instruction on a unit counts as four.
        self.work = sum(
            widths[shapes[p.matrix][0]] * widths[shapes[p.matrix][1]] for s in cut.stages for p in s.products
        )
        self.work += sum(4 * widths[s.dimension] * len(s.instructions) for s in cut.stages)
        self._constants: dict[tuple[float, int], np.ndarray] = {}
        self._handle = ctypes.c_void_p()
        self._create(cut, widths, shapes, tables, precision)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library.library().unrolled_plan_destroy(self._handle)

    @property
    def handle(self) -> ctypes.c_void_p:
        """The plan in the native library, which lives as long as this object."""
        return self._handle

    @property
    def constants(self) -> "tuple[np.ndarray, ...]":
        """The arrays of the constants, which come after those of `memory`."""
        return tuple(self._constants.values())

    def _create(
        self, cut: Schedule, widths: Mapping[str, int], shapes: Mapping[str, Shape], tables: int, precision: int
    ) -> None:
        numbers = _Numbers(self.memory)
        stages: list[library.Stage] = []
        products: list[library.Product] = []
        code: list[library.Instruction] = []
        for stage in cut.stages:
            units = widths[stage.dimension]
            numbers.start(stage, units)
            first_product, first_instruction = len(products), len(code)
            for p in stage.products:
                matrix = self.matrices.index((p.matrix, p.transposed))
                products.append(library.Product(matrix, numbers[p.vector], numbers.write(p.result), p.accumulate))
            for place, i in enumerate(stage.instructions):
                a, b = [numbers[argument] for argument in (i.args if len(i.args) == 2 else (*i.args, i.args[0]))]
                numbers.release(place)
                code.append(library.Instruction(_OPCODES[i.op], numbers.write(i.name), a, b))
            stages.append(
                library.Stage(units, first_product, len(stage.products), first_instruction, len(stage.instructions))
            )
        self._constants = numbers.constants
        self._constant_addresses = [values.ctypes.data for values in self.constants]
        arrays = [
            library.Array(m.addressing, m.table, self.widths[name], padded(self.widths[name]))
            for name, m in self.memory.items()
        ]
        arrays += [library.Array(library.BROADCAST, -1, w, padded(w)) for _, w in self._constants]
        # Registers come after the arrays, whose number is known only now.
        for product in products:
            product.destination = numbers.resolve(product.destination, len(arrays))
            product.vector = numbers.resolve(product.vector, len(arrays))
        for line in code:
            line.destination, line.a, line.b = (
                numbers.resolve(n, len(arrays)) for n in (line.destination, line.a, line.b)
            )
        shape = [tuple(widths[d] for d in shapes[m][:: -1 if transposed else 1]) for m, transposed in self.matrices]
        self.lists = (
            (library.Array * len(arrays))(*arrays),
            (library.Product * len(products))(*products),
            (library.Instruction * len(code))(*code),
            (library.Stage * len(stages))(*stages),
            (ctypes.c_int64 * len(shape))(*(rows for rows, _ in shape)),
            (ctypes.c_int64 * len(shape))(*(columns for _, columns in shape)),
        )
        """The lists of `description`, in its order."""
        description = library.PlanDescription(
            *(len(arrays), len(shape), numbers.registers, len(products), len(code), len(stages), tables),
            *(self.independent, precision),
            *self.lists,
        )
        self.description = description
        """As the library got it."""
        library.call("unrolled_plan_create", description, ctypes.byref(self._handle))

    def record(
        self,
        tape: Tape,
        steps: int | Place,
        active: np.ndarray | Place,
        offsets: np.ndarray | Place,
        arrays: Mapping[str, Array],
        matrices: Mapping[tuple[str, bool], Place],
        threads: int,
        index: Place | None = None,
        index_rows: int | Place = 0,
    ) -> None:
        """Record a run of the steps: `active` (steps,) rows of each, `offsets` (tables, steps) where they start, both
        int64; `index` the rows of indexed arrays."""
        given = [arrays[name] for name in self.memory]
        addresses = tape.put(*(array.place for array in given), *self._constant_addresses)
        rows = tape.put(*(array.floats or array.rows for array in given), *(1 for _ in self._constant_addresses))
        outside = any(memory.addressing == library.OUTSIDE for memory in self.memory.values())
        strides = tape.put(*(array.row_stride for array in given)) if outside else None
        packed = tape.put(*(matrices[key] for key in self.matrices))
        arguments = tape.put(steps, active, offsets, addresses, rows, packed, threads, index, index_rows, strides)
        tape.call(library.CALL_RUN, self._handle.value or 0, arguments)
        tape.hold(self)


class _Numbers:
    """Operand numbers: an array counts from 0; a register is negative until the number of arrays is known."""

    def __init__(self, memory: Mapping[str, Memory]) -> None:
        self._arrays = {name: number for number, name in enumerate(memory)}
        self.constants: dict[tuple[float, int], np.ndarray] = {}
        self.registers = 0

    def start(self, stage: Stage, units: int) -> None:
        """Begin a stage: its registers are free, and the last reader of each value is known."""
        self._units = units
        self._held: dict[str, int] = {}
        self._free: list[int] = list(range(self.registers))
        self._last = {a: place for place, i in enumerate(stage.instructions) for a in i.args}

    def __getitem__(self, operand: Operand) -> int:
        if not isinstance(operand, str):
            key = (float(operand), self._units)
            if key not in self.constants:
                self.constants[key] = np.full(padded(self._units), operand, np.float32)
            return len(self._arrays) + list(self.constants).index(key)
        if operand in self._arrays:
            return self._arrays[operand]
        return -1 - self._held[operand]

    def write(self, name: str) -> int:
        if name in self._arrays:
            return self._arrays[name]
        if name not in self._held:
            if not self._free:
                self._free.append(self.registers)
                self.registers += 1
            self._held[name] = self._free.pop(0)
        return -1 - self._held[name]

    def release(self, place: int) -> None:
        """Free the registers whose last reader is the instruction at `place`."""
        for name in [n for n in self._held if self._last.get(n) == place]:
            self._free.insert(0, self._held.pop(name))

    def resolve(self, number: int, arrays: int) -> int:
        return number if number >= 0 else arrays + (-1 - number)
