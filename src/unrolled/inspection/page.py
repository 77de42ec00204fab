"""The whole picture of a cell: rolled up and unrolled, its inside, its equations, each with a caption."""

from typing import Literal

from unrolled.equations import Program
from unrolled.inspection.canvas import Canvas, printable, text_width
from unrolled.inspection.cell_picture import CellPicture
from unrolled.inspection.equation_block import EquationBlock
from unrolled.inspection.unrolling import Unrolling

_TITLE_SIZE = 14.0
_CAPTION_SIZE = 11.0
_MARGIN = 0.4
_CAPTION = 0.45
_BETWEEN = 0.35


def page(program: Program, steps: int, file_format: Literal["svg", "png"]) -> bytes:
    """The picture of a cell as the bytes of a file."""
    canvas = Canvas()
    unrolling, inside = Unrolling(program, steps), CellPicture(program)
    equations = EquationBlock(program, max(unrolling.width, inside.width))
    parts: list[tuple[Unrolling | CellPicture | EquationBlock, str]] = [
        (unrolling, "(a)  The unit rolled up, and unrolled in time: every step has the same weights."),
        (inside, "(b)  One step inside the unit: boxes hold the weights, circles work element by element."),
        (equations, "(c)  The same as equations."),
    ]
    first_line = (program.doc.strip() or program.name).splitlines()[0]
    title = printable(first_line).replace("`", "").removesuffix(".")
    texts = [text_width(title, _TITLE_SIZE), *(text_width(caption, _CAPTION_SIZE) for _, caption in parts)]
    width = max([*texts, *(part.width for part, _ in parts)]) + 2 * _MARGIN
    canvas.text((width / 2, _MARGIN), title, _TITLE_SIZE)
    y = _MARGIN + 0.35
    for part, caption in parts:
        part.draw(canvas, (width - part.width) / 2, y)
        y += part.height + _CAPTION * 0.6
        canvas.text((width / 2, y), caption, _CAPTION_SIZE, style="italic")
        y += _CAPTION * 0.4 + _BETWEEN
    return canvas.saved(file_format, width, y - _BETWEEN + 0.1, title.replace(r"\$", "$"))
