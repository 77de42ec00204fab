"""Where the parameters of a cell start.

Matrices are drawn part by part, as `W @ [h, x]` multiplies them: a square part is orthogonal, so that what passes
through it again and again neither grows nor fades (Saxe et al. 2014), any other is uniform with a variance of
2 / (rows + columns) (Glorot & Bengio 2010). Biases start at zero; vectors that multiply are uniform in ±1/sqrt(size).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from unrolled.equations import Program
from unrolled.equations.columns import split_columns


def initialize(cell: Program, parameters: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Draw the parameters of `cell` anew, in place; those that it names itself (`@cell(init=...)`) get its value."""
    if any(parameter.is_meta for parameter in parameters.values()):
        return  # sizes only: there is nothing to draw
    split = split_columns(cell)
    factors = {argument for i in split.instructions if i.op in ("mul", "div") for argument in i.args}
    for name, parameter in parameters.items():
        if name in cell.init:
            nn.init.constant_(parameter, cell.init[name])
        elif parameter.dim() == 1 and name not in factors:
            nn.init.zeros_(parameter)
        elif parameter.dim() == 1:
            bound = len(parameter) ** -0.5
            nn.init.uniform_(parameter, -bound, bound)
    drawn: set[tuple[str, tuple[str, ...]]] = set()
    for part in split.columns.values():
        if part.parameter in cell.init or (part.parameter, part.before) in drawn:
            continue
        drawn.add((part.parameter, part.before))
        first = sum(cell.size(d, dict(sizes)) for d in part.before)
        width = cell.size(part.shape[1], dict(sizes))
        block = parameters[part.parameter].detach()[:, first : first + width]
        if part.shape[0] == part.shape[1]:
            nn.init.orthogonal_(block)
        else:
            nn.init.xavier_uniform_(block)
