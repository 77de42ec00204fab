"""A Program as four plans: what comes before the time loop and the loop itself, each forward and backward.

The products of the input may leave the loop or stay in it. Outside, each weight serves many steps at once; inside,
their results need no memory. So they stay where a step has rows enough to make up for reading all weights in each.

Here it is decided what the backward pass finds in memory: results of products and of the expensive functions are kept,
sums and element-wise products of kept values are computed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from unrolled.engine.native.draft import Draft
from unrolled.engine.native.library import FP32, INDEXED, OUTSIDE, NativeError
from unrolled.engine.native.plan import PARAMETER, SUM, Memory, Plan
from unrolled.engine.native.schedule import in_place
from unrolled.equations import Instruction, Program
from unrolled.equations.derive import Derivative, OuterProduct, derive
from unrolled.equations.hoist import hoist, whole
from unrolled.equations.program import Shape

# Rows of all steps; of states before and after a step; of gradients that go from step to step; and of the few steps
# that the backward pass has at hand at a time.
STEP, PREVIOUS, NEXT, GRADIENT_READ, GRADIENT_WRITTEN, PASSING = (Memory(table=table) for table in range(6))
CHOSEN = Memory(INDEXED, STEP.table)  # the rows of a table that the steps name
# Of the caller: outputs, their gradient, and that of the input.
OUTPUT, D_OUTPUT, D_INPUT = (Memory(OUTSIDE, table) for table in (3, 6, 7))
_CHEAP = {"add", "sub", "mul", "neg", "relu", "abs", "maximum", "minimum", "sign"}


@dataclass(frozen=True)
class Forward:
    """A forward plan; `states` are the arrays of the new states, `outputs` that of the outputs where states turn or
    where they go to the memory of the caller.

    `in_place` says which kept value takes the memory of which carried one.
    """

    plan: Plan
    states: tuple[str, ...] = ()
    outputs: str = ""
    in_place: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Backward:
    """A backward plan and the arrays of its results: `gradients` have the rows of the steps (those of states turn),
    `sums` one row per thread; the outer products name arrays of this plan or of the forward one, and those that share
    a vector and a size stand together."""

    plan: Plan
    gradients: dict[str, str]
    sums: dict[str, str]
    outer_products: tuple[tuple[OuterProduct, ...], ...]


@dataclass(frozen=True)
class Part:
    """The columns of a parameter from `first` on: a matrix of `rows` x `columns`."""

    parameter: str
    first: int
    rows: int
    columns: int


def gradient_from_later(state: str) -> str:
    """The array that brings the gradient of a state from the step after."""
    return f"d_{state} from t+1"


def gradient_from_loop(carried: str) -> str:
    """The array that brings the gradient of a carried value from the loop."""
    return f"d_{carried} from the loop"


class CompiledCell:
    """The plans of a Program at given sizes, made when first asked for. `hoisting`: input products leave the loop;
    `precision` is that of all products. `table`: the input of a step is a row of one, so what comes before the loop has
    the rows of the table, in which the loop finds those that an index names; then `hoisting` must be."""

    def __init__(
        self,
        program: Program,
        sizes: Mapping[str, int],
        hoisting: bool = True,
        precision: int = FP32,
        table: bool = False,
    ) -> None:
        self.program = program
        self.table = table
        self.precision = precision
        self.hoisted = hoist(program) if hoisting else whole(program)
        shapes = self.hoisted.shapes
        self.widths = {d: program.size(d, dict(sizes)) for shape in shapes.values() for d in shape}
        if min(self.widths.values()) < 1:
            raise NativeError(f"cell {program.name}: no vector may be empty, but the sizes are {dict(sizes)}.")
        (input_,) = program.inputs
        self.input = input_.name
        self.input_width = self.widths[input_.shape[0]]
        self.states = tuple(s.name for s in program.states)
        self._vectors = [p.name for p in program.parameters if len(p.shape) == 1]
        self._parameters = dict.fromkeys(self._vectors, PARAMETER)
        self.forward = cache(self._forward)
        self.forward_before = cache(self._forward_before)
        self.backward = cache(self._backward)
        self.backward_before = cache(self._backward_before)
        self.tapes: dict[tuple[object, ...], Any] = {}
        """What forward.py and backward.py made of these plans, by shapes."""

    def width(self, value: str) -> int:
        """The length of a value of the step."""
        return self.widths[self.hoisted.shapes[value][0]]

    def _derivative(self, of_input: bool) -> Derivative:
        seeds = [(self.program.outputs[0], "d_output")]
        seeds += [(o, gradient_from_later(s)) for o, s in zip(self.program.outputs, self.states, strict=True)]
        wanted = [*self.states, *self._carried(of_input), *self._vectors]
        return derive(self.hoisted.inside, self.hoisted.shapes, seeds, wanted)

    def _derivative_before(self, of_input: bool) -> Derivative:
        wanted = [*self._vectors, *([self.input] if of_input else [])]
        found = self._derivative(of_input).gradients
        seeds = [(c, gradient_from_loop(c)) for c in self._carried(of_input) if c in found]
        return derive(self.hoisted.before, self.hoisted.shapes, seeds, wanted)

    def _carried(self, of_input: bool) -> list[str]:
        """The carried values whose gradients are wanted."""
        return [c for c in self.hoisted.carried if of_input or c != self.input]

    @cached_property
    def columns(self) -> dict[str, int]:
        """The columns of each matrix among the parameters."""
        return {
            p.name: self.program.size(p.shape[1], self.widths) for p in self.program.parameters if len(p.shape) == 2
        }

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Where each matrix of the products is in the parameters."""
        found = {}
        for name, columns in self.hoisted.columns.items():
            first = sum(self.program.size(d, self.widths) for d in columns.before)
            found[name] = Part(columns.parameter, first, *(self.widths[d] for d in columns.shape))
        return found

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """What the loop leaves in memory for the backward pass, besides the states."""
        return kept(self.hoisted.inside, self._derivative(True).reads(), set(self.program.outputs))

    @cached_property
    def kept_before(self) -> tuple[str, ...]:
        """What the part before the loop leaves in memory for the backward pass, besides the carried values."""
        return kept(self.hoisted.before, self._derivative_before(True).reads(), set(self.hoisted.carried))

    def _forward_before(self, keep: bool) -> Forward:
        seen = [*self.hoisted.carried, *(self.kept_before if keep else ())]
        memory = {**self._parameters, self.input: STEP, **dict.fromkeys(seen, STEP)}
        draft = Draft("before", self.hoisted.before, self.hoisted.shapes, memory)
        return Forward(draft.plan(self.widths, 1, STEP, self.precision))

    def _outside(self) -> dict[str, Memory]:
        """Where the loop finds what it does not compute."""
        return {
            **self._parameters,
            **dict.fromkeys(self.states, PREVIOUS),
            **dict.fromkeys(self.hoisted.carried, CHOSEN if self.table else STEP),
        }

    def _forward(self, keep: bool, outside: bool = False) -> Forward:
        """`outside`: outputs are written into the memory of the caller."""
        draft = Draft("loop", self.hoisted.inside, self.hoisted.shapes, self._outside())
        states: list[str] = []
        for state, output in zip(self.program.states, self.program.outputs, strict=True):
            states.append(draft.see(output, NEXT, state.shape, taken=states))
        memory, outputs = OUTPUT if outside else STEP, ""
        if outside or not keep:
            outputs = draft.see(states[0], memory, self.program.states[0].shape)
        for name in self.kept if keep else ():
            draft.memory.setdefault(name, STEP)
        plan = draft.plan(self.widths, 4, precision=self.precision)
        if outside:
            return Forward(plan, tuple(states), outputs, self.forward(True).in_place if keep else {})
        return Forward(plan, tuple(states), outputs, self._in_place(plan) if keep and not self.table else {})

    def _in_place(self, plan: Plan) -> dict[str, str]:
        """Carried values that the backward pass does not read make room for kept ones."""
        shapes = self.hoisted.shapes
        dying = [c for c in self._carried(False) if c not in self.carried_read]
        taken: dict[str, str] = {}
        for shape in {shapes[c] for c in dying}:
            born = [k for k in self.kept if shapes[k] == shape]
            taken.update(in_place(plan.stages, [c for c in dying if shapes[c] == shape], born))
        return taken

    @cached_property
    def carried_read(self) -> set[str]:
        """The carried values that the backward pass reads."""
        backwards = (self.backward(True), self.backward_before(True))
        read = {name for b in backwards for name in (*b.plan.memory, *(terms[0].vector for terms in b.outer_products))}
        return read.intersection(self.hoisted.carried)

    @cached_property
    def gives_input_gradient(self) -> bool:
        """Whether the loop backwards makes the gradient of the input, and what is before it adds nothing."""
        before, name = self.backward_before(True), gradient_from_loop(self.input)
        return before.gradients[self.input] == name and name not in before.plan.memory

    def _backward(self, of_input: bool, output_outside: bool = False, input_outside: bool = False) -> Backward:
        """The gradients of outputs and input may be in the memory of the caller."""
        derivative = self._derivative(of_input)
        outside = {**self._outside(), **dict.fromkeys(self.kept, STEP)}
        outside["d_output"] = D_OUTPUT if output_outside else PASSING
        computed = {i.name for i in self.hoisted.inside}
        outside.update({o: NEXT for o in self.program.outputs if o in computed})
        outside.update({gradient_from_later(s): GRADIENT_READ for s in self.states})
        draft = _draft("loop backwards", self.hoisted.inside, derivative, self.hoisted.shapes, outside)
        gradients: dict[str, str] = {}
        for state in self.program.states:
            gradient = derivative.gradients.get(state.name, 0.0)
            taken = list(gradients.values())
            gradients[state.name] = draft.see(gradient, GRADIENT_WRITTEN, state.shape, taken)
        for name in self._carried(of_input):
            if name in derivative.gradients:
                memory = D_INPUT if input_outside and name == self.input else PASSING
                gradients[name] = draft.see(derivative.gradients[name], memory, self.hoisted.shapes[name])
        return self._finish(draft, derivative, gradients, None)

    def _backward_before(self, of_input: bool) -> Backward:
        derivative = self._derivative_before(of_input)
        seen = [self.input, *self.hoisted.carried, *self.kept_before]
        found = self._derivative(of_input).gradients
        given = [gradient_from_loop(c) for c in self._carried(of_input) if c in found]
        outside = {**self._parameters, **dict.fromkeys(seen, STEP), **dict.fromkeys(given, PASSING)}
        draft = _draft("before backwards", self.hoisted.before, derivative, self.hoisted.shapes, outside)
        gradients: dict[str, str] = {}
        if of_input:
            shape = self.program.inputs[0].shape
            gradients[self.input] = draft.see(derivative.gradients.get(self.input, 0.0), PASSING, shape)
        return self._finish(draft, derivative, gradients, PASSING)

    def _finish(
        self, draft: Draft, derivative: Derivative, gradients: dict[str, str], independent: Memory | None
    ) -> Backward:
        shapes = {**draft.shapes, **derivative.shapes}
        found = {p: derivative.gradients[p] for p in self._vectors if p in derivative.gradients}
        added = {  # two biases of one sum have one gradient
            gradient: draft.append("accumulate", gradient, SUM, shapes[p])
            for gradient, p in {gradient: p for p, gradient in found.items()}.items()
        }
        sums = {p: added[gradient] for p, gradient in found.items()}
        sharing: dict[tuple[str, Shape], list[OuterProduct]] = {}
        for term in derivative.outer_products:
            if term.vector in self._parameters:
                raise NativeError(f"cell {self.program.name}: the product of {term.matrix} with a parameter.")
            rows, columns = self.hoisted.shapes[term.matrix]
            gradient = draft.see(term.gradient, PASSING, (rows,))
            recomputed = term.vector in {i.name for i in draft.instructions}
            vector = draft.see(term.vector, PASSING, (columns,)) if recomputed else term.vector
            sharing.setdefault((vector, (rows, columns)), []).append(OuterProduct(term.matrix, gradient, vector))
        outer_products = tuple(map(tuple, sharing.values()))
        plan = draft.plan(self.widths, 8 if independent is None else 6, independent, self.precision)
        return Backward(plan, gradients, sums, outer_products)


def kept(step: Sequence[Instruction], read: set[str], available: set[str]) -> tuple[str, ...]:
    """The values of `step` to keep so that all that is `read` can be had; `available` ones are in memory anyway."""
    again = {i.name for i in recomputed(step, read, available)}
    needed = read | {a for i in step if i.name in again for a in i.args if isinstance(a, str)}
    return tuple(i.name for i in step if i.name in needed - again - available)


def recomputed(step: Sequence[Instruction], read: set[str], available: set[str]) -> tuple[Instruction, ...]:
    """The instructions of `step` that the backward pass runs again to have what it reads."""
    products = {i.name for i in step if i.op == "matmul"}
    needed = set(read)
    again = []
    for instruction in reversed(step):
        cheap = instruction.op in _CHEAP and products.isdisjoint(instruction.args)
        if instruction.name in needed and instruction.name not in available and cheap:
            again.append(instruction)
            needed.update(a for a in instruction.args if isinstance(a, str))
    return tuple(reversed(again))


def _draft(
    label: str,
    step: Sequence[Instruction],
    derivative: Derivative,
    shapes: Mapping[str, Shape],
    outside: Mapping[str, Memory],
) -> Draft:
    again = recomputed(step, derivative.reads(), set(outside))
    return Draft(label, [*again, *derivative.instructions], {**shapes, **derivative.shapes}, outside)
