"""Every page does what it shows: python blocks run in order, console blocks marked `<!-- run -->` run, links lead on.

A `text` block right after a python block is what that block prints; `<!-- file: NAME -->` makes a block a file.
"""

import math
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from unrolled.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(p.relative_to(ROOT)) for p in PAGES]
FENCE = re.compile(r"(?:<!-- (?P<mark>run|file: [^ ]+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.S | re.M)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    kind: str
    mark: str
    body: str
    line: int
    output: str | None
    """The body of a `text` block that follows with nothing between."""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    blocks = []
    for this, following in zip(found, [*found, None][1:], strict=True):
        adjacent = following is not None and not text[this.end() : following.start()].strip()
        output = following["body"] if adjacent and following["kind"] == "text" else None
        line = text.count("\n", 0, this.start("body")) + 1
        blocks.append(Block(this["kind"], this["mark"] or "", this["body"], line, output))
    return blocks


def check_output(shown: str, printed: str) -> None:
    """Equal but for `...` (anything) and for fractions, whose last digits other processors round differently."""
    pattern = "(.*?)".join(map(re.escape, NUMBER.sub("\0", shown).split("...")))
    pattern = pattern.replace("\0", f"({NUMBER.pattern})").replace("(.*?)", "(?:.|\n)*?")
    match = re.fullmatch(pattern, printed)
    assert match, f"the page shows\n{shown}\nbut the code prints\n{printed}"
    for left, right in zip(NUMBER.findall(shown), match.groups(), strict=True):
        digits = len(left.partition(".")[2]) if "e" not in left else 0
        close = math.isclose(float(left), float(right), rel_tol=0.05, abs_tol=10**-digits if digits else 0.0)
        same = left == right if left.lstrip("-").isdigit() else close
        assert same, f"the page shows {left}, printed is {right}"


def run_command(line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "unrolled"
    result = CliRunner().invoke(app, arguments, prog_name="unrolled", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.mark.startswith("file: "):
            Path(block.mark.removeprefix("file: ")).write_text(block.body, encoding="utf-8")
        elif block.kind == "python":
            printed = StringIO()
            source = "\n" * (block.line - 1) + block.body  # so that a failure names the line of the page
            with redirect_stdout(printed):
                exec(compile(source, str(page), "exec"), namespace)
            check_output(block.output or "", printed.getvalue())
        elif block.mark == "run":
            assert block.kind == "console"
            for part in re.split(r"^\$ ", block.body, flags=re.M)[1:]:
                command, _, shown = part.partition("\n")
                printed_text = run_command(command)
                if shown:
                    check_output(shown.rstrip(), printed_text.rstrip())


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_shown_are_commands(page: Path) -> None:
    """Every `unrolled ...` in a console block has a sub-command and options that exist."""
    group = typer.main.get_command(app)
    for block in blocks_of(page):
        if block.kind != "console":
            continue
        for line in block.body.replace("\\\n", " ").splitlines():
            command = re.search(r"(?:^\$ (?:.* )?|-m )unrolled (\w.*)", line)
            if command:
                name, *arguments = shlex.split(command[1].split(" | ")[0].split(" < ")[0], comments=True)
                group.commands[name].make_context(name, arguments).close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)", text) + re.findall(r"""(?:src|href)="([^"#]+)""", text):
        if not target.startswith("https:"):
            assert (page.parent / target).exists(), f"{target} does not exist"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
            ahead += [(page.parent / link).resolve() for link in links if not link.startswith("https:")]
    assert set(PAGES) <= reached


def build(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "docs.build", *arguments], cwd=root, capture_output=True, text=True)


def test_generated_parts_are_up_to_date() -> None:
    checked = build("--check")
    assert checked.returncode == 0, checked.stderr


def test_a_stale_page_is_found_and_mended(tmp_path: Path) -> None:
    """On a copy of the pages, without the pictures, which take long to draw."""
    for path in [*PAGES, *(ROOT / "docs").glob("*.py")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    page = tmp_path / "docs" / "tutorial" / "04-the-three-cells.md"
    good = page.read_text(encoding="utf-8")
    page.write_text(good.replace("<!-- equations: gru -->\n", "<!-- equations: gru -->\nh = 0\n"), encoding="utf-8")
    (tmp_path / "docs" / "cells.md").unlink()
    checked = build("--check", "--pages", root=tmp_path)
    assert checked.returncode != 0
    assert "docs/cells.md, docs/tutorial/04-the-three-cells.md" in checked.stderr
    assert "make docs" in checked.stderr
    build("--pages", root=tmp_path)
    assert page.read_text(encoding="utf-8") == good
    assert build("--check", "--pages", root=tmp_path).returncode == 0
