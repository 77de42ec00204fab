"""Drawing a cell as a textbook does: rolled up, unrolled in time, its inside and its equations, in one picture."""

from pathlib import Path
from typing import Literal

from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.files import replacing

_MOST_STEPS = 12


def draw(program: Program, path: str | Path, steps: int = 4) -> None:
    """Write a picture of a cell to `path`: SVG or PNG, by its suffix.

    It shows the unit with its loop, the same unrolled for `steps` steps of time (1 to 12), the dataflow of one step
    and the equations. Everything is derived from the Program, so a cell of your own is drawn like a listed one.
    The same call writes the same bytes.

    Errors: `UnrolledError` for another suffix, for a number of steps that cannot be drawn, and if the file cannot be
    written; an earlier file then stays as it was.

        from unrolled import cells, draw

        draw(cells.lstm, "lstm.svg")
    """
    path = Path(path)
    file_format = _format(path)
    if not 1 <= steps <= _MOST_STEPS:
        raise UnrolledError(f"{steps} steps cannot be drawn; give a number from 1 to {_MOST_STEPS}.")
    from unrolled.inspection.page import page  # brings matplotlib, which `import unrolled` must not wait for

    picture = page(program, steps, file_format)
    with replacing(path) as temporary:
        temporary.write_bytes(picture)


def _format(path: Path) -> Literal["svg", "png"]:
    suffix = path.suffix.lower()
    if suffix == ".svg":
        return "svg"
    if suffix == ".png":
        return "png"
    came = f"'{path.suffix}'" if path.suffix else "no suffix"
    raise UnrolledError(f"{path} has {came}; a cell can be drawn to a file that ends with .svg or .png.")
