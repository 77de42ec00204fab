"""From what a user types to a cell: the name of a listed one, or `file.py:name` for their own."""

import importlib.util
import sys
import traceback
from pathlib import Path

from unrolled.cells import CELLS
from unrolled.equations import Program
from unrolled.errors import UnrolledError


def find_cell(text: str) -> Program:
    """The cell that `text` names. Raises UnrolledError that says which cells there are."""
    if text in CELLS:
        return CELLS[text]
    path, colon, name = text.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise UnrolledError(
            f"there is no cell '{text}'. Choose one of {', '.join(CELLS)}, or give your own as file.py:name."
        )
    return _from_file(Path(path), name)


def _from_file(path: Path, name: str) -> Program:
    if not path.is_file():
        raise UnrolledError(f"the file {path} with the cell '{name}' does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except UnrolledError:
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise UnrolledError(f"{path} cannot be run: {type(error).__name__}: {error} (line {line}).") from error
    found = getattr(module, name, None)
    if not isinstance(found, Program):
        cells = [key for key, value in vars(module).items() if isinstance(value, Program)]
        known = f"it has {', '.join(cells)}" if cells else "no function in it has @unrolled.cell above it"
        raise UnrolledError(f"{path} has no cell named '{name}'; {known}.")
    return found
