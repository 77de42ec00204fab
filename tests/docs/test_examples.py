"""Every example is short, runs, and shows what it promises."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> None:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_fits_on_a_screen(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_text_generation(capsys: pytest.CaptureFixture[str]) -> None:
    run("text_generation.py")
    lines = capsys.readouterr().out.splitlines()
    for cell, states in (("vanilla", "h"), ("lstm", "hC"), ("gru", "h")):
        first = lines.index(f"{cell}: logits of the last step (32, 1000)")
        shapes = [f"  final state {state} (32, 256)" for state in states]
        assert lines[first + 1 : first + 1 + len(states)] == shapes
        before, after = (float(line.split()[2]) for line in lines[first + 1 + len(states) :][:2])
        assert 6.5 < before < 7.5  # ln 1000 = 6.9: it knows nothing
        assert after < 1
    assert sum("101, 102, 103" in line for line in lines) == 3


def test_custom_cell(capsys: pytest.CaptureFixture[str]) -> None:
    run("custom_cell.py")
    printed = capsys.readouterr().out
    assert "hₜ = (1 - αₜ) ⊙ hₜ₋₁ + αₜ ⊙ h̃ₜ" in printed
    assert "merrily" in printed.lower()
    assert Path("leaky.safetensors").is_file()


def test_sequence_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    run("sequence_classifier.py")
    accuracy = float(capsys.readouterr().out.splitlines()[-1].split()[-2])
    assert accuracy > 90
