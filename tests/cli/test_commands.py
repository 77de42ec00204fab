"""The commands in this process: what they print, their exit status, and each mistake as a line, not a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unrolled.artifact import load
from unrolled.cli.main import main
from unrolled.training import evaluate_files

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


WITHOUT = """
import sys
for name in ("torch", "matplotlib"):
    sys.modules[name] = None  # as if it were not installed
sys.argv[0] = "unrolled"
from unrolled.cli.main import main
main()
"""


def without_extras(folder: Path, *arguments: object) -> Result:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def test_generating_and_evaluating_need_no_torch(
    command: Command, model_file: Path, text_file: Path, tmp_path: Path
) -> None:
    generating = ("generate", model_file, "--prompt", "The", "-n", 50, "--seed", 3)
    assert without_extras(tmp_path, *generating) == command(*generating)
    code, out, err = without_extras(tmp_path, "evaluate", model_file, text_file)
    assert (code, err) == (0, "")
    expected = evaluate_files(load(model_file), [str(text_file)])
    printed = dict(zip(("bits", "nats"), (float(line.split()[-1]) for line in out.splitlines()), strict=False))
    # Four digits are printed, of sums in another order.
    assert abs(printed["bits"] - expected.bits_per_byte) < 1e-4
    assert abs(printed["nats"] - expected.nats_per_token) < 1e-4


def test_what_needs_an_extra_says_how_to_install_it(text_file: Path, tmp_path: Path) -> None:
    message = "unrolled: {} {}, which is not installed; install it with: pip install 'unrolled[{}]'.\n"
    cases = [
        (("train", text_file, "-o", "m"), "training and layers need torch", "train"),
        (("draw", "lstm", "-o", "a.svg"), "drawing needs matplotlib", "draw"),
    ]
    for arguments, need, extra in cases:
        purpose, _, what = need.rpartition(" ")
        assert without_extras(tmp_path, *arguments) == (2, "", message.format(purpose, what, extra))


def test_a_text_goes_on_from_a_saved_state(command: Command, model_file: Path, tmp_path: Path) -> None:
    settings = ("--prompt", "The", "--seed", 3, "--temperature", 1.1, "--repetition-penalty", 1.2)
    whole = command("generate", model_file, *settings, "-n", 60)[1]
    first = command("generate", model_file, *settings, "-n", 25, "--save-state", "s")[1]
    second = command("generate", model_file, "--state", "s", "-n", 35, "--save-state", "s")[1]
    assert first.removesuffix("\n") + second == whole
    once = command("generate", model_file, "--state", "s", "--seed", 4, "-n", 20)
    assert once == command("generate", model_file, "--state", "s", "--seed", 4, "-n", 20)
    assert once[1] != command("generate", model_file, "--state", "s", "--seed", 5, "-n", 20)[1]


def test_states_and_other_devices_are_refused_together(command: Command, model_file: Path) -> None:
    code, _, err = command("generate", model_file, "--device", "meta", "--save-state", "s")
    assert (code, err) == (2, "unrolled: --state, --save-state and --precision work on the cpu only, not on meta.\n")


def test_every_token_is_scored_as_json(command: Command, model_file: Path, text_file: Path, tmp_path: Path) -> None:
    code, out, err = command("evaluate", model_file, text_file, "--tokens", "-")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert set(lines[0]) == {"token", "text", "nats", "rank", "entropy"}
    assert "".join(line["text"] for line in lines) == text_file.read_bytes().decode()[1:]
    assert command("evaluate", model_file, text_file, "--tokens", "t.jsonl")[0] == 0
    assert (tmp_path / "t.jsonl").read_text(encoding="utf-8") == out


def test_a_quantized_model_is_small_and_nearly_as_good(command: Command, model_file: Path, text_file: Path) -> None:
    code, out, err = command("quantize", model_file, "-o", "q.safetensors")
    assert (code, err) == (0, "")
    assert "q.safetensors" in out
    asked = command("generate", model_file, "--precision", "int8", "-n", 50, "--seed", 1)
    assert command("generate", "q.safetensors", "-n", 50, "--seed", 1) == asked
    assert asked[0] == 0
    bits = [float(command("evaluate", m, text_file)[1].split()[3]) for m in (model_file, "q.safetensors")]
    assert abs(bits[1] / bits[0] - 1) < 0.005
    message = "unrolled: q.safetensors is of precision int8 already; nothing is left to quantize.\n"
    assert command("quantize", "q.safetensors", "-o", "r.safetensors") == (2, "", message)
    code, _, err = command("generate", model_file, "--precision", "int4")
    assert (code, err.count("\n")) == (2, 1) and "ask for float32 or int8" in err


def test_generate_learns_from_the_prompt(command: Command, model_file: Path) -> None:
    prompt = "zq xj vw! " * 300
    asked = ("generate", model_file, "-p", prompt, "-n", 200, "--seed", 1)
    code, learned, err = command(*asked, "--dynamic")
    assert (code, err) == (0, "") and learned.startswith(prompt)
    assert command(*asked, "--dynamic")[1] == learned  # the file stays as it was
    written, static = (text.removeprefix(prompt) for text in (learned, command(*asked)[1]))
    strange = "zqxjvw!"
    assert sum(map(written.count, strange)) > 2 * sum(map(static.count, strange))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("a", (), "which has 1 tokens; give it at least 2"),
        ("abc", ("--save-state", "s.state"), "leave --state, --save-state and --precision out"),
        ("abc", ("--precision", "int8"), "leave --state, --save-state and --precision out"),
    ],
)
def test_generate_dynamic_refuses_what_it_cannot_do(
    command: Command, model_file: Path, prompt: str, options: tuple[str, ...], message: str
) -> None:
    code, out, err = command("generate", model_file, "-p", prompt, "--dynamic", *options)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err


@pytest.mark.parametrize("option", [("--tokens", "t.jsonl"), ("--precision", "int8")])
def test_dynamic_evaluation_refuses_what_it_cannot_do(
    command: Command, model_file: Path, text_file: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    code, out, err = command("evaluate", model_file, text_file, "--dynamic", *option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("unrolled: --dynamic ") and f"leave {option[0]} out" in err
    assert not (tmp_path / "t.jsonl").exists()
