"""A Program as the graph that a textbook draws: products in boxes, functions, and circles for + and ×.

What stands between two brackets of the equation (`W_f [h, x] + b_f`) is one box; a difference is a sum with a
minus on the way, a quotient a product with a reciprocal, so that no circle depends on the order of its inputs.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from unrolled.equations import OPS, Instruction, Program, latex_name
from unrolled.equations.program import Operand

Kind = Literal["input", "state", "parameter", "output", "product", "function", "pointwise", "joint"]

_BEFORE = {"add": "{0} +", "sub": "{0} -", "mul": r"{0} \odot", "div": "{0} /"}
_BEHIND = {"add": r"+\,{0}", "sub": r"-\,{0}", "mul": r"\odot\,{0}", "div": r"/\,{0}"}


@dataclass(frozen=True)
class Node:
    """One symbol of the picture. `inputs` are keys of other nodes, the one that carries the state on first."""

    key: str
    kind: Kind
    label: str
    inputs: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class _Term:
    """A summand of a box: what it prints, and the values it multiplies by matrices or element by element."""

    sign: str
    label: str
    by_matrix: tuple[str, ...] = ()
    by_vector: tuple[str, ...] = ()


def dataflow(program: Program) -> dict[str, Node]:
    """The nodes of one step by key, each after its inputs."""
    return _Builder(program).nodes


class _Builder:
    def __init__(self, program: Program) -> None:
        self.nodes: dict[str, Node] = {}
        self.carries_state: set[str] = set()
        self.parameters = {variable.name for variable in program.parameters}
        self.same_as, self.definitions = _without_repetitions(program)
        outputs = [self.same_as.get(output, output) for output in program.outputs]
        self.uses = Counter([a for i in self.definitions.values() for a in i.args] + list(outputs))
        self.names = _names(program, outputs)
        for variable in (*reversed(program.states), *program.inputs):
            self.add(Node(variable.name, "state" if variable.role == "state" else "input", self.names[variable.name]))
        self.carries_state.update(state.name for state in program.states)
        joints = Counter(self.sources(value) for value in self.definitions if self.is_box(value))
        self.joints = {sources for sources, count in joints.items() if len(sources) > 1 and count > 1}
        for value in filter(self.names.__contains__, self.definitions):  # in the order that the author wrote
            self.node(value)
        for state, output in zip(reversed(program.states), reversed(outputs), strict=True):
            key = f"output:{state.name}"
            self.add(Node(key, "output", latex_name(state.name, "t"), (self.node(output),)))

    def add(self, node: Node) -> str:
        return self.nodes.setdefault(node.key, node).key

    def name(self, value: Operand) -> str:
        """How a value is called inside a box: by its name, by a short expression, or by a dot."""
        if not isinstance(value, str):
            return f"{value:g}"
        if value in self.names:
            return self.names[value]
        step = self.definitions[value]
        if step.op in OPS and all(argument in self.names for argument in step.args):
            return OPS[step.op].latex.format(*(self.names[str(argument)] for argument in step.args))
        return r"\cdot"

    def is_box(self, value: str) -> bool:
        terms = self.terms(value, outermost=True)
        return terms is not None and any(term.by_matrix for term in terms) and not self.is_inside_a_box(value)

    def is_inside_a_box(self, value: str) -> bool:
        users = [step for step in self.definitions.values() if value in step.args and step.op in ("add", "sub")]
        return any(self.terms(value) and self.terms(user.name, outermost=True) for user in users)

    def terms(self, value: Operand, outermost: bool = False) -> list[_Term] | None:
        """The summands of a value that is a sum of products with parameters, or None if it is anything else."""
        if not isinstance(value, str):
            return [_Term("-" if value < 0 else "+", self.name(abs(value)))]
        if value in self.parameters:
            return [_Term("+", self.name(value))]
        step = self.definitions.get(value)
        if step is None or (not outermost and (value in self.names or self.uses[value] > 1)):
            return None
        if step.op == "matmul":
            matrix, *vectors = map(str, step.args)
            names = ", ".join(map(self.name, vectors))
            bracketed = f"[{names}]" if len(vectors) > 1 else names if vectors[0] in self.names else f"({names})"
            return [_Term("+", rf"{self.name(matrix)}\, {bracketed}", by_matrix=tuple(vectors))]
        if step.op == "mul":
            first, second = step.args if step.args[0] in self.parameters else reversed(step.args)
            if first in self.parameters and second in self.names and second not in self.parameters:
                return [_Term("+", rf"{self.name(first)} \odot {self.name(second)}", by_vector=(str(second),))]
        if step.op in ("add", "sub"):
            left, right = (self.terms(argument) for argument in step.args)
            if left is not None and right is not None:
                turn = {"+": "-", "-": "+"} if step.op == "sub" else {"+": "+", "-": "-"}
                return left + [_Term(turn[t.sign], t.label, t.by_matrix, t.by_vector) for t in right]
        return None

    def sources(self, value: str) -> tuple[str, ...]:
        found = {source for term in self.terms(value, outermost=True) or () for source in term.by_matrix}
        return tuple(sorted(found))

    def node(self, value: str) -> str:
        """The key of the node that holds a value; it and all before it are added if they are new."""
        value = self.same_as.get(value, value)
        if value in self.nodes:
            return value
        name = self.names.get(value, "")
        if value in self.parameters:
            return self.add(Node(value, "parameter", name))
        step = self.definitions[value]
        if self.is_box(value):
            return self.box(value, name)
        if step.op in _BEFORE:
            return self.pointwise(step, name)
        if step.op == "neg":
            return self.add(Node(value, "pointwise", "-", (self.node(str(step.args[0])),), name))
        return self.function(step, name)

    def box(self, value: str, name: str) -> str:
        terms = self.terms(value, outermost=True) or []
        label = " ".join(f"{term.sign} {term.label}" for term in terms).removeprefix("+ ")
        sources = self.sources(value)
        inputs = [self.node(source) for source in sources]
        if sources in self.joints:
            inputs = [self.add(Node("joint:" + ",".join(sources), "joint", "", tuple(inputs)))]
        inputs += [self.node(source) for term in terms for source in term.by_vector]
        return self.add(Node(value, "product", label, tuple(dict.fromkeys(inputs)), name))

    def pointwise(self, step: Instruction, name: str) -> str:
        first, second = step.args
        fixed = [not isinstance(a, str) or a in self.parameters for a in step.args]
        if all(fixed):  # a number stays in the label; a parameter beside it becomes a node
            fixed = [not isinstance(a, str) for a in step.args]
        if fixed[0]:
            return self.along(step, _BEFORE[step.op].format(self.name(first)), second, name)
        if fixed[1]:
            return self.along(step, _BEHIND[step.op].format(self.name(second)), first, name)
        inputs = [self.node(str(first)), self.node(str(second))]
        if step.op == "sub":
            inputs[1] = self.add(Node(f"minus:{inputs[1]}", "pointwise", "-", (inputs[1],)))
        if step.op == "div":
            inputs[1] = self.add(Node(f"inverse:{inputs[1]}", "pointwise", r"1 / \cdot", (inputs[1],)))
        inputs.sort(key=lambda key: key not in self.carries_state)
        if inputs[0] in self.carries_state:
            self.carries_state.add(step.name)
        label = "+" if step.op in ("add", "sub") else r"\times"
        return self.add(Node(step.name, "pointwise", label, tuple(inputs), name))

    def along(self, step: Instruction, label: str, value: Operand, name: str) -> str:
        """A pointwise operation with one input; the number or parameter stands in its label."""
        return self.add(Node(step.name, "pointwise", label, (self.node(str(value)),), name))

    def function(self, step: Instruction, name: str) -> str:
        numbers = [argument for argument in step.args if not isinstance(argument, str)]
        shown = [r"\cdot" if isinstance(argument, str) else self.name(argument) for argument in step.args]
        label = OPS[step.op].latex.format(*shown)
        if not numbers:
            label = label.split(r"\left(")[0]
        inputs = tuple(self.node(argument) for argument in step.args if isinstance(argument, str))
        return self.add(Node(step.name, "function", label, inputs, name))


def _without_repetitions(program: Program) -> tuple[dict[str, str], dict[str, Instruction]]:
    """What is computed twice is drawn once: values by the value they equal, and the instructions that remain."""
    same_as: dict[str, str] = {}
    definitions: dict[str, Instruction] = {}
    known: dict[tuple[str, tuple[Operand, ...]], str] = {}
    for step in program.instructions:
        args = tuple(same_as.get(a, a) if isinstance(a, str) else a for a in step.args)
        first = known.setdefault((step.op, args), step.name)
        if first == step.name or not step.name.startswith("_"):
            definitions[step.name] = Instruction(step.name, step.op, args, step.shape)
        else:
            same_as[step.name] = first
    return same_as, definitions


def _names(program: Program, outputs: list[str]) -> dict[str, str]:
    """LaTeX of everything that has a name: variables, new states, and what the author named."""
    time = {"input": "t", "state": "t-1", "parameter": ""}
    names = {variable.name: latex_name(variable.name, time[variable.role]) for variable in program.variables}
    for state, output in zip(program.states, outputs, strict=True):
        names.setdefault(output, latex_name(state.name, "t"))
    for step in program.instructions:
        if not step.name.startswith("_"):
            names.setdefault(step.name, latex_name(step.name.replace("_next", "'"), "t"))
    return names
