"""The commands in this process: what they print, their exit status, and each mistake as a line, not a traceback."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unrolled.cli.main import main

Result = tuple[int, str, str]
Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["unrolled", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


CELL_FILE = '''
from unrolled import cell, tanh

@cell
def mine(x, h, *, A, B):
    """My cell (me 2026)."""
    h = tanh(A @ h + B @ x)
    return h
'''


def test_train_generate_evaluate(command: Command, text_file: Path, tmp_path: Path) -> None:
    sizes = ["--steps", 12, "--hidden", 16, "--layers", 1, "--batch", 4, "--window", 16, "--tensorboard"]
    code, out, err = command("train", text_file, "-o", "m.safetensors", *sizes)
    assert code == 0, err
    assert "--layers 1 --hidden 16" in out and "done in" in out and "bits per byte" in out
    lines = [json.loads(line) for line in (tmp_path / "m.run" / "metrics.jsonl").read_text().splitlines()]
    assert {line["event"] for line in lines} == {"progress", "validated"}
    assert lines[-1]["step"] == 12
    assert any((tmp_path / "m.run" / "tensorboard").iterdir())

    code, out, err = command("generate", "m.safetensors", "--prompt", "Привет", "-n", 40, "--seed", 5)
    assert code == 0, err
    assert out.startswith("Привет") and len(out) == len("Привет") + 40 + 1
    assert command("generate", "m.safetensors", "--prompt", "Привет", "-n", 40, "--seed", 5)[1] == out
    assert command("generate", "m.safetensors", "--prompt", "Привет", "-n", 40, "--seed", 6)[1] != out

    code, out, err = command("evaluate", "m.safetensors", text_file)
    assert code == 0, err
    assert "bits per byte" in out and "perplexity" in out


def test_a_cell_of_the_users_own_file_trains_and_its_model_needs_the_file_no_more(
    command: Command, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_cells.py").write_text(CELL_FILE)
    code, out, err = command(
        "train", text_file, "-o", "m.safetensors", "--cell", "my_cells.py:mine", "--steps", 3, "--hidden", 8
    )
    assert code == 0, err
    assert "mine, --layers" in out
    (tmp_path / "my_cells.py").unlink()
    assert command("generate", "m.safetensors", "-n", 10, "--seed", 1)[0] == 0


def test_cells_lists_and_prints(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("cells")
    assert code == 0 and "minimal_gated_unit" in out
    code, out, _ = command("cells", "gru")
    assert code == 0 and "hₜ = (1 - zₜ) ⊙ hₜ₋₁ + zₜ ⊙ h̃ₜ" in out
    assert r"\tilde{h}_{t}" in command("cells", "gru", "--latex")[1]
    (tmp_path / "my_cells.py").write_text(CELL_FILE)
    assert "hₜ = tanh(A·hₜ₋₁ + B·xₜ)" in command("cells", "my_cells.py:mine")[1]


def test_draw_writes_the_picture(command: Command, tmp_path: Path) -> None:
    code, _, err = command("draw", "vanilla", "-o", "v.svg", "--steps", 3)
    assert code == 0, err
    assert (tmp_path / "v.svg").read_text().startswith("<?xml")


def test_version(command: Command) -> None:
    assert command("--version")[1].startswith("unrolled 0.")


MISTAKES = [
    (["train"], "there is no text to train on"),
    (["train", "missing.txt"], "missing.txt"),
    (["train", "empty.txt"], "empty"),
    (["train", "latin1.txt"], "UTF-8"),
    (["train", "short.txt"], "too short"),
    (["train", "short.txt", "-o", "nowhere/m.safetensors"], "does not exist; make it first"),
    (["train", "short.txt", "--cell", "lsmt"], "there is no cell 'lsmt'. Choose one of"),
    (["train", "short.txt", "--cell", "missing.py:mine"], "missing.py with the cell 'mine' does not exist"),
    (["train", "short.txt", "--cell", "broken.py:mine"], "broken.py cannot be run: NameError"),
    (["train", "short.txt", "--cell", "other.py:mine"], "has no cell named 'mine'; it has other"),
    (["train", "short.txt", "--cell", "wrong.py:wrong"], "wrong.py:5 (return h, h)"),
    (["train", "short.txt", "--minutes", "-3"], "minutes must be a number above 0"),
    (["train", "short.txt", "--tokenizer", "words"], "no tokenizer 'words'"),
    (["train", "short.txt", "--validation", "1.5"], "1.5"),
    (["train", "--resume", "-o", "new.safetensors"], "there is no run to resume"),
    (["generate", "missing.safetensors"], "does not exist"),
    (["generate", "short.txt"], "short.txt"),
    (["generate", "MODEL", "--temperature", "nan"], "temperature"),
    (["generate", "MODEL", "--top-p", "2"], "top_p"),
    (["generate", "MODEL", "-n", "-1"], "characters"),
    (["evaluate", "MODEL", "missing.txt"], "missing.txt"),
    (["evaluate", "MODEL", "empty.txt"], "empty"),
    (["cells", "nonsense"], "there is no cell 'nonsense'"),
    (["draw", "lstm", "-o", "lstm.jpeg"], "jpeg"),
    (["draw", "lstm", "-o", "lstm.svg", "--steps", "0"], "steps"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_clear_message(
    arguments: list[str], message: str, command: Command, model_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin1.txt").write_bytes("Grüße aus Köln ".encode("latin-1") * 100)
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "broken.py").write_text("undefined_name\n")
    (tmp_path / "other.py").write_text(CELL_FILE.replace("mine", "other"))
    header = "from unrolled import cell\n@cell\ndef wrong(x, h, *, W):\n    h = W @ [h, x]\n"
    (tmp_path / "wrong.py").write_text(header + "    return h, h\n")
    before = {path.name for path in tmp_path.iterdir()}
    code, out, err = command(*[str(model_file) if word == "MODEL" else word for word in arguments])
    assert code == 2
    assert message in err
    assert err.startswith("unrolled: ") and err.count("\n") <= 2 and "Traceback" not in out + err
    left = {path.name for path in tmp_path.iterdir()} - before - {"__pycache__"}
    assert not left, "something half-written is left behind"
