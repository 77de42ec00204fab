"""One step of a whole language model as one Program: embedding row -> every layer -> readout. Needs no torch.

The equations of each layer are the cell's own, with other names; nothing is written twice.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from unrolled.equations import Instruction, Program
from unrolled.equations.program import Operand, Shape, Variable
from unrolled.errors import UnrolledError

# The cells' own sizes can have no such names: they are arguments of LanguageModel.
EMBEDDING, VOCABULARY = "embedding_size", "vocabulary_size"
LOGITS = "logits"
_TABLE = "embedding.weight"


@dataclass(frozen=True)
class ModelStep:
    """The step of a language model: a Program from an embedding row and all states to the new states and logits.

    Each member has an input of its own, its part of the row. Logits stand as the last state, because a Program gives
    states; no instruction reads the old ones.
    """

    program: Program
    sizes: Mapping[str, int]
    """Of the Program's dimensions."""
    parameters: Mapping[str, str]
    """The Program's name of each weight, by the model file's name; not of the embedding table."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return self.sizes[VOCABULARY]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by the model file's name."""
        variables = {variable.name: variable for variable in self.program.parameters}
        sizes = dict(self.sizes)
        shapes = {name: self.program.shape_of(variables[own], sizes) for name, own in self.parameters.items()}
        return {_TABLE: (sizes[VOCABULARY], len(self.program.inputs) * sizes[EMBEDDING]), **shapes}

    def values(self, weights: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """The embedding table (vocabulary, embedding) and the parameters by the Program's names."""
        return weights[_TABLE], {own: weights[name] for name, own in self.parameters.items()}

    @staticmethod
    def from_json(text: str) -> "ModelStep":
        """The step of the model that `LanguageModel.to_json` described. Raises UnrolledError if that is damaged."""
        try:
            config = json.loads(text)
            cell = Program.from_json(config.pop("cell"))
            layers, dropout, members = config.pop("layers"), config.pop("dropout"), config.pop("members", 1)
            counts = [*config.items(), ("layers", layers), ("members", members)]
            whole = {name: size for name, size in counts if not _is_size(size)}
            if whole or not 0.0 <= dropout < 1.0:
                raise ValueError(f"sizes {whole}, dropout {dropout}")
            sizes = {**config, "hidden": config.pop("hidden_size")}
            sizes.pop("hidden_size", None)
            return model_step(cell, layers, sizes, members)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            if isinstance(error, UnrolledError):
                raise
            raise UnrolledError(f"the model's description is damaged ({error!r}); use a good copy.") from error


def model_step(cell: Program, layers: int, sizes: Mapping[str, int], members: int = 1) -> ModelStep:
    """The step of `members` times `layers` times `cell` between an embedding of size "embedding_size" and a readout."""
    variables = [Variable(f"token{member}", "input", (EMBEDDING,)) for member in range(members)]
    instructions: list[Instruction] = []
    outputs: list[str] = []
    parameters: dict[str, str] = {}
    tops: list[tuple[str, str]] = []
    for layer in range(members * layers):
        first = layer % layers == 0
        below, width = (f"token{layer // layers}", EMBEDDING) if first else tops.pop()
        part = _Renamed(cell, f"layer{layer}_", below, width)
        variables += part.variables
        instructions += part.instructions
        outputs += part.outputs
        parameters.update({f"layers.{layer}.{v.name}": part.name(v.name) for v in cell.parameters})
        output, size = part.outputs[0], part.dimension(cell.states[0].shape[0])
        if not first and size == width:
            instructions.append(Instruction(f"sum{layer}", "add", (below, output), (size,)))
            output = f"sum{layer}"
        tops.append((output, size))
    shape = (VOCABULARY,)
    variables += [
        Variable(LOGITS, "state", shape),
        Variable("W_hy", "parameter", (VOCABULARY, " + ".join(size for _, size in tops))),
        Variable("b_y", "parameter", shape),
    ]
    instructions.append(Instruction("readout", "matmul", ("W_hy", *(output for output, _ in tops)), shape))
    if members > 1:
        instructions.append(Instruction("mean", "mul", ("readout", 1 / members), shape))
    instructions.append(Instruction("logits_next", "add", (instructions[-1].name, "b_y"), shape))
    program = Program(f"{layers}_x_{cell.name}", tuple(variables), tuple(instructions), (*outputs, "logits_next"))
    parameters.update({"readout.weight": "W_hy", "readout.bias": "b_y"})
    return ModelStep(program, dict(sizes), parameters)


class _Renamed:
    """A cell as one layer of several: each name with a prefix, its input the output of the layer below."""

    def __init__(self, cell: Program, prefix: str, below: str, width: str) -> None:
        (input_,) = cell.inputs
        self._prefix, self._width = prefix, width
        self._given = {input_.name: below}
        self.variables = [
            Variable(self.name(v.name), v.role, self._shape(v.shape)) for v in cell.variables if v.role != "input"
        ]
        self.instructions = [
            Instruction(self.name(i.name), i.op, tuple(map(self._operand, i.args)), self._shape(i.shape))
            for i in cell.instructions
        ]
        self.outputs = [self.name(name) for name in cell.outputs]

    def name(self, name: str) -> str:
        """What a value of the cell is called in this layer."""
        return self._given.get(name, self._prefix + name)

    def dimension(self, dimension: str) -> str:
        """What a dimension of the cell is called in this layer."""
        return " + ".join(self._width if term == "input" else term for term in dimension.split(" + "))

    def _operand(self, argument: Operand) -> Operand:
        return self.name(argument) if isinstance(argument, str) else argument

    def _shape(self, shape: Shape) -> Shape:
        return tuple(map(self.dimension, shape))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
