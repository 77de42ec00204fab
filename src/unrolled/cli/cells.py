"""`unrolled cells` and `unrolled draw`: the equations, printed and drawn."""

from pathlib import Path
from typing import Annotated

import typer

from unrolled.cells import CELLS
from unrolled.cli.find_cell import find_cell
from unrolled.equations import to_latex, to_text

Name = Annotated[str, typer.Argument(metavar="CELL", help="A listed cell, or file.py:name for your own.")]


def cells(
    name: Annotated[str | None, typer.Argument(metavar="[CELL]", help="A listed cell, or file.py:name.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print the equations as LaTeX.")] = False,
) -> None:
    """List the cells, or print the equations of one."""
    if name is None:
        width = max(map(len, CELLS))
        for cell in CELLS.values():
            typer.echo(f"{cell.name:{width}}  {cell.doc.splitlines()[0]}")
        return
    cell = find_cell(name)
    if latex:
        typer.echo(to_latex(cell))
        return
    if cell.doc:
        typer.echo(f"{cell.doc}\n")
    typer.echo(to_text(cell))
    shapes = (f"{p.name} ({', '.join(p.shape)})" for p in cell.parameters)
    typer.echo(f"\nparameters: {', '.join(shapes)}")


def draw(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write: .svg or .png.")],
    steps: Annotated[int, typer.Option(help="How many steps of time to unroll.")] = 4,
) -> None:
    """Draw a cell rolled up, unrolled in time, and from inside."""
    from unrolled.inspection import draw as draw_cell

    draw_cell(find_cell(name), output, steps=steps)
    typer.echo(f"wrote {output}")
