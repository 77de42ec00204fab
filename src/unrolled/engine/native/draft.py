"""Instructions on the way to a plan: values that the caller wants to find in memory get a place there."""

from collections.abc import Collection, Mapping, Sequence

from unrolled.engine.native.library import FP32
from unrolled.engine.native.plan import Memory, Plan
from unrolled.equations import Instruction
from unrolled.equations.program import Operand, Shape


class Draft:
    """A list of instructions that grows, with the places of values from outside and of values to be seen."""

    def __init__(
        self,
        label: str,
        instructions: Sequence[Instruction],
        shapes: Mapping[str, Shape],
        outside: Mapping[str, Memory],
    ) -> None:
        """`label` tells the new arrays of this plan from those of the others."""
        self._label = label
        self.instructions = list(instructions)
        self.shapes = dict(shapes)
        self.memory = dict(outside)

    def see(self, value: Operand, memory: Memory, shape: Shape, taken: Collection[str] = ()) -> str:
        """The array in which `value` will be found, placed as `memory` says and not one of `taken`.

        A value that lies elsewhere already is copied.
        """
        made = {i.name for i in self.instructions}
        if isinstance(value, str) and value not in taken:
            if value in made:
                self.memory.setdefault(value, memory)
            if self.memory.get(value) == memory:
                return value
        return self.append("copy", value, memory, shape)

    def append(self, op: str, value: Operand, memory: Memory, shape: Shape) -> str:
        """The new array of `op(value)`."""
        name = f"{op} {value} ({self._label} {len(self.instructions)})"
        self.instructions.append(Instruction(name, op, (value,), shape))
        self.shapes[name] = shape
        self.memory[name] = memory
        return name

    def plan(
        self, widths: Mapping[str, int], tables: int, independent: Memory | None = None, precision: int = FP32
    ) -> Plan:
        """The finished plan; see there."""
        return Plan(self.instructions, self.shapes, widths, self.memory, tables, independent, precision)
