"""The walls between the floors, the sizes of the files, and the public door."""

import ast
import graphlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import unrolled

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "unrolled"
FILES = sorted(SOURCE.rglob("*.py"))

LINES_OF_A_CELL, LINES_OF_A_FILE, LINES_OF_THE_MEDIAN_FILE = 80, 300, 120
# A file that is longer for a good reason stands here, with the reason.
LONGER: dict[str, str] = {}

# What `import unrolled` must not wait for: importing torch alone takes over a second.
SLOW_TO_IMPORT = {"torch", "numpy", "matplotlib", "safetensors", "tokenizers", "typer", "rich"}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_imports_go_down_only_as_the_contracts_say() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("unrolled", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) == len(FILES)
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle


def test_cells_files_and_the_median_file_stay_small() -> None:
    sizes = {path.relative_to(SOURCE).as_posix(): lines(path) for path in FILES}
    cells = {name: size for name, size in sizes.items() if name.startswith("cells/")}
    assert {name: size for name, size in cells.items() if size > LINES_OF_A_CELL} == {}
    assert {name for name, size in sizes.items() if size > LINES_OF_A_FILE} == set(LONGER)
    assert statistics.median(sizes.values()) <= LINES_OF_THE_MEDIAN_FILE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_file_says_what_it_is_and_prints_only_at_the_door(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    prints = [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert not prints or path.relative_to(SOURCE).parts[0] == "cli"


def test_the_public_names_are_these() -> None:
    assert (
        dir(unrolled)
        == unrolled.__all__
        == [
            *("Bidirectional", "Decoder", "Dropout", "LanguageModel", "Program", "Recurrent", "Sampling", "Stack"),
            *("State", "TextModel", "UnrolledError", "accelerate", "cell", "cells", "draw", "evaluate", "exp"),
            *("generate", "load", "log", "maximum", "minimum", "nn", "relu", "save", "sigmoid", "sign", "softplus"),
            *("sqrt", "tanh", "to_latex", "to_text", "train"),
        ]
    )


@pytest.mark.parametrize("name", unrolled.__all__)
def test_a_public_name_can_be_imported_and_explains_itself(name: str) -> None:
    value = getattr(unrolled, name)
    doc = value.__doc__
    assert doc
    assert doc.strip()
    # A dataclass without a docstring of its own gets its signature as one.
    assert not doc.startswith(f"{name}(")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'unrolled' has no attribute 'Lstm'$"):
        unrolled.Lstm  # noqa: B018


def test_importing_unrolled_and_printing_a_cell_imports_nothing_slow() -> None:
    script = (
        "import sys, json, unrolled; unrolled.to_text(unrolled.cells.lstm); "
        "print(json.dumps([module for module in sys.modules if '.' not in module]))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = json.loads(result.stdout)
    assert "unrolled" in imported
    assert SLOW_TO_IMPORT.isdisjoint(imported)
