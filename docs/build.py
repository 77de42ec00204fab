"""Writes the parts of the documentation that come from the code: `python -m docs.build`.

That is every section between `<!-- equations: CELL -->` (LaTeX) or `<!-- text: CELL -->` and `<!-- end -->`, the
pages `cells.md` and `command-line.md`, and the pictures. `--check` writes nothing and fails if a page is stale.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from typer.testing import CliRunner

from unrolled import Program, to_latex, to_text
from unrolled.cells import CELLS
from unrolled.cli.main import app
from unrolled.equations import Variable

DOCS = Path(__file__).parent
PICTURES = ("vanilla", "lstm", "gru")
_SECTION = re.compile(
    r"(?P<open><!-- (?P<form>equations|text): (?P<cell>\w+) -->\n).*?(?P<end><!-- end -->)", flags=re.DOTALL
)
_NUMBER = re.compile(r"\d+\.\d+")
_CLIP_PATH = re.compile(r"p[0-9a-f]{10}")


def pages() -> dict[Path, str]:
    """Every page as it should be, by its path."""
    whole = {DOCS / "cells.md": _cells_page(), DOCS / "command-line.md": _command_line_page()}
    written = [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")]
    return whole | {path: filled(path.read_text(encoding="utf-8")) for path in written if path not in whole}


def filled(text: str) -> str:
    """`text` with its marked sections written anew."""

    def section(match: re.Match[str]) -> str:
        block = {"equations": _math, "text": _plain}[match["form"]](CELLS[match["cell"]])
        return f"{match['open']}{block}\n{match['end']}"

    return _SECTION.sub(section, text)


def _math(cell: Program) -> str:
    return f"```math\n{to_latex(cell)}\n```"


def _plain(cell: Program) -> str:
    return f"```text\n{to_text(cell)}\n```"


def _cells_page() -> str:
    parts = [
        "# The cells",
        "Each cell is one file of equations in `src/unrolled/cells/`. This page is printed from them; in a terminal, "
        "`unrolled cells` lists them and `unrolled cells NAME` prints one. The first state of a cell is its output; "
        "`⊙` is the element-wise product; `[a, b]` is a over b. A parameter starts at a random value near zero "
        "unless the table says otherwise.",
    ]
    for cell in CELLS.values():
        states = ", ".join(f"`{state.name}`" for state in cell.states)
        rows = [f"| `{p.name}` | {_shape(p)} | {cell.init.get(p.name, 'random')} |" for p in cell.parameters]
        table = "\n".join(["| parameter | shape | starts at |", "|---|---|---|", *rows])
        parts += [f"## {cell.name}", cell.doc, f"States: {states}.", _plain(cell), _math(cell), table]
    return "\n\n".join(parts) + "\n"


def _shape(parameter: Variable) -> str:
    return " × ".join(f"({size})" if "+" in size else size for size in parameter.shape)


def _command_line_page() -> str:
    command = typer.main.get_command(app)
    names = list(command.commands)  # type: ignore[attr-defined]
    parts = [
        "# The command line",
        "Every command does what a call in Python does as well (see [the Python API](python-api.md)). A mistake in "
        "what was given is one line on standard error and exit status 2; Ctrl-C gives 130.",
        _help(),
    ]
    for name in names:
        parts += [f"## unrolled {name}", _help(name)]
    return "\n\n".join(parts) + "\n"


def _help(*command: str) -> str:
    settings = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, [*command, "--help"], prog_name="unrolled", env=settings)
    assert result.exit_code == 0, result.output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    lines = "\n".join(line.strip() if not line.startswith(("╭", "│", "╰")) else line for line in plain.splitlines())
    return f"```text\n{lines.strip()}\n```"


def _pictures(folder: Path) -> list[Path]:
    """Draw the pictures of the pages into `folder`."""
    from unrolled import draw

    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.svg" for name in PICTURES]
    for name, path in zip(PICTURES, paths, strict=True):
        draw(CELLS[name], path)
    return paths


def _same_picture(path: Path, other: Path) -> bool:
    """Equal but for the last digits of coordinates, which another processor may round differently, and the names of
    clip paths, which are hashes of them."""
    if not path.exists():
        return False
    (words, numbers), (other_words, other_numbers) = (
        (_NUMBER.split(text), list(map(float, _NUMBER.findall(text))))
        for text in (_CLIP_PATH.sub("clip", p.read_text(encoding="utf-8")) for p in (path, other))
    )
    return words == other_words and all(abs(a - b) < 0.01 for a, b in zip(numbers, other_numbers, strict=True))


def main() -> None:
    """Write what is stale, or only say it; `--pages` leaves the pictures out."""
    check, only_pages = "--check" in sys.argv, "--pages" in sys.argv
    stale = {
        path: text.encode()
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if not only_pages:
        with TemporaryDirectory() as folder:
            for drawn in _pictures(Path(folder)):
                path = DOCS / "pictures" / drawn.name
                if not _same_picture(path, drawn):
                    stale[path] = drawn.read_bytes()
    names = ", ".join(str(path.relative_to(DOCS.parent)) for path in sorted(stale))
    if check and stale:
        sys.exit(f"stale: {names}; write them anew with: make docs")
    for path, content in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    sys.stdout.write(f"wrote {names}\n" if stale else "all pages and pictures are up to date\n")


if __name__ == "__main__":
    main()
