"""A model's step prepared for decoding: what depends on the token alone becomes a table, one row a token.

The table takes the place of the embedding and of every product with it, so that reading a token costs a row. Where the
vocabulary is too large for that, the table is the embedding itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.numpy_step import execute
from unrolled.engine.quantized import row_scales
from unrolled.equations import Program
from unrolled.equations.hoist import hoist

_LARGEST_TABLE = 2_000_000  # floats: 8 MB, which stay in the cache where a text uses few of the rows


class StepParts:
    """Instructions of one step, with everything they read."""

    def __init__(
        self,
        program: Program,
        sizes: Mapping[str, int],
        parameters: Mapping[str, NDArray[Any]],
        embedding: NDArray[Any],
    ) -> None:
        """`parameters` by the Program's names; a row of `embedding` has the inputs of a step, side by side."""
        hoisted = hoist(program)
        self.program = program
        self.shapes = hoisted.shapes
        self.widths = {d: program.size(d, dict(sizes)) for shape in hoisted.shapes.values() for d in shape}
        self.vectors = {name: value for name, value in parameters.items() if value.ndim == 1}
        """The parameters that are vectors."""
        self.matrices: dict[str, NDArray[Any]] = {}
        """The matrices of the products: parameters, or some columns of one."""
        self.scales: dict[str, NDArray[np.float32]] = {}
        """Of the rows of each matrix, as 8-bit numbers; whole parameters decide, however they are cut."""
        for name, part in hoisted.columns.items():
            self.scales[name] = row_scales(parameters[part.parameter])
            first = sum(self.widths[d] for d in part.before)
            self.matrices[name] = parameters[part.parameter][:, first : first + self.widths[part.shape[1]]]
        carried = sum(self.widths[hoisted.shapes[name][0]] for name in hoisted.carried)
        self.instructions = hoisted.inside
        """What is left to compute at each step."""
        names = [input_.name for input_ in program.inputs]
        ends = np.cumsum([self.width(name) for name in names])[:-1]
        known: Mapping[str, NDArray[Any]] = dict(zip(names, np.split(embedding, ends, 1), strict=True))
        if len(embedding) * carried <= _LARGEST_TABLE:
            known = execute(hoisted.before, {**known, **self.matrices, **self.vectors})
        else:
            self.instructions = (*hoisted.before, *hoisted.inside)
        made = {i.name for i in self.instructions}
        read = {a for i in self.instructions for a in i.args if isinstance(a, str)} | set(program.outputs)
        tabled = [name for name in (*names, *hoisted.carried) if name in read - made]
        self.tables = {name: np.broadcast_to(known[name], (len(embedding), self.width(name))) for name in tabled}
        """(vocabulary, width): for each token the values that the step reads."""

    def width(self, value: str) -> int:
        """The length of a value of the step."""
        return self.widths[self.shapes[value][0]]

    @property
    def state_widths(self) -> tuple[int, ...]:
        """The lengths of the states that go from step to step; the last one, the logits, does not."""
        return tuple(self.width(state.name) for state in self.program.states[:-1])
