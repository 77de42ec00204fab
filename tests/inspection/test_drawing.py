import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from unrolled.cells import CELLS, lstm, vanilla
from unrolled.equations import Program, cell, exp, maximum, sigmoid, softplus, sqrt
from unrolled.errors import UnrolledError
from unrolled.inspection import draw


def _drawn(program: Program, path: Path, steps: int = 4) -> str:
    """The drawn SVG; matplotlib leaves every text it turned into shapes as a comment beside them."""
    draw(program, path, steps)
    text = path.read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    return text


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_every_cell_is_drawn(program: Program, tmp_path: Path) -> None:
    svg = _drawn(program, tmp_path / "cell.svg", steps=2)
    name = program.states[0].name
    for label in ("x_{t}", "x_{1}", "x_{2}", f"{name}_{{0}}", f"{name}_{{2}}", f"{name}_{{t{{-}}1}}"):
        assert f"<!-- ${label}$ -->" in svg


def test_the_lstm_holds_its_gates_both_states_and_its_source(tmp_path: Path) -> None:
    svg = _drawn(lstm, tmp_path / "lstm.svg")
    gates = ["f_{t}", "i_{t}", r"\tilde{C}_{t}", "o_{t}"]
    states = [f"{state}_{{{step}}}" for state in "hC" for step in range(5)]
    for label in [*gates, *states, r"\sigma", r"\tanh", r"\times", "+"]:
        assert f"<!-- ${label}$ -->" in svg
    assert svg.count(r"<!-- $\sigma$ -->") == 3
    assert r"<!-- $W_{f}\, [h_{t{-}1}, x_{t}] + b_{f}$ -->" in svg
    assert "Long short-term memory (Hochreiter &amp; Schmidhuber 1997; forget gate: Gers et al. 2000)" in svg
    assert "x_{5}" not in svg


def test_png(tmp_path: Path) -> None:
    draw(vanilla, str(tmp_path / "cell.PNG"), steps=1)
    assert (tmp_path / "cell.PNG").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_home_made_cell_with_every_kind_of_symbol(tmp_path: Path) -> None:
    @cell
    def home_made(x, state, memory, old, *, W, U, V: "rank, hidden", alpha, b):  # noqa: F821
        """It costs 5 $ & has no <source>."""
        candidate = maximum(W @ [state, x], 0.25) + U @ (V @ old)
        g = sigmoid(alpha) * candidate - 0.5 * memory
        memory = abs(g - memory) / (1 + exp(-candidate)) + b
        return softplus(memory * b) * sqrt(memory * memory), memory, state

    svg = _drawn(home_made, tmp_path / "cell.svg", steps=1)
    for label in (r"\alpha", "0.5 \\odot", r"1 / \cdot", r"+\,b", r"\mathrm{softplus}", r"U\, (\cdot)", "-"):
        assert f"<!-- ${label}$ -->" in svg
    assert "It costs 5 $ &amp; has no &lt;source&gt;" in svg


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    draw(vanilla, tmp_path / "here.svg")
    program = "from unrolled import cells, draw; draw(cells.vanilla, 'there.svg')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)  # with other hash seeds
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "there.svg").read_bytes()


@pytest.mark.parametrize(("name", "came"), [("cell.pdf", "'.pdf'"), ("cell", "no suffix"), (".svg", "no suffix")])
def test_another_suffix(name: str, came: str, tmp_path: Path) -> None:
    with pytest.raises(UnrolledError) as error:
        draw(vanilla, tmp_path / name)
    assert f"{name} has {came}; a cell can be drawn to a file that ends with .svg or .png." in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [-1, 0, 13])
def test_steps_that_cannot_be_drawn(steps: int, tmp_path: Path) -> None:
    with pytest.raises(UnrolledError, match=f"^{steps} steps cannot be drawn; give a number from 1 to 12.$"):
        draw(vanilla, tmp_path / "cell.svg", steps)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnrolledError, match=r"Cannot write .*cell.svg: there is no folder .*; make it or choose"):
        draw(vanilla, tmp_path / "missing" / "cell.svg", steps=1)


def test_what_cannot_be_written_leaves_the_earlier_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cell.svg"
    path.write_text("earlier")

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnrolledError, match=r"Cannot write .*cell.svg: No space left on device; make room"):
        draw(vanilla, path, steps=1)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_drawing_changes_no_setting_of_matplotlib(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(vanilla, tmp_path / "cell.svg", steps=1)
    assert dict(matplotlib.rcParams) == before
