"""The equations of a cell, typeset in one or two columns with their equals signs in line."""

from unrolled.equations import Program, to_latex
from unrolled.inspection.canvas import Canvas, formula, text_width

_SIZE = 13.0
_LINE = 0.34
_COLUMNS_APART = 0.6
_MANY = 4  # more equations than this stand in two columns


class EquationBlock:
    """Typeset equations; `width` and `height` are their room in inches, given the room there is in width."""

    def __init__(self, program: Program, room: float) -> None:
        lines = to_latex(program).splitlines()[1:-1]
        pairs = [line.removesuffix(r" \\").split(" &= ", 1) for line in lines]
        equations = [(formula(left), formula(rf"=\ {right}")) for left, right in pairs]
        half = -(-len(equations) // 2)
        self.columns = [equations[:half], equations[half:]] if len(equations) > _MANY else [equations]
        if sum(map(_column_width, self.columns)) + _COLUMNS_APART > room:
            self.columns = [equations]
        self.width = sum(map(_column_width, self.columns)) + _COLUMNS_APART * (len(self.columns) - 1)
        self.height = _LINE * max(map(len, self.columns))

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw them with their top left corner at a point."""
        for column in self.columns:
            equals = left + _left_width(column)
            for place, (name, right) in enumerate(column):
                y = top + _LINE * (place + 0.7)
                canvas.text((equals, y), name, _SIZE, align="right", base="baseline")
                canvas.text((equals + 0.07, y), right, _SIZE, align="left", base="baseline")
            left += _column_width(column) + _COLUMNS_APART


def _left_width(column: list[tuple[str, str]]) -> float:
    return max(text_width(left, _SIZE) for left, _ in column)


def _column_width(column: list[tuple[str, str]]) -> float:
    return _left_width(column) + 0.07 + max(text_width(right, _SIZE) for _, right in column)
