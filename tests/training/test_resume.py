"""A run that is killed and resumed ends with the same weights, bit for bit, as one that never was."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unrolled.engine import bf16_products

RUN = ["--steps", "150", "--hidden", "24", "--layers", "1", "--batch", "4", "--window", "16", "--dropout", "0.2"]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unrolled", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*arguments: str | Path) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def settings(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "bfloat16" and not bf16_products()[0]:
        pytest.skip(bf16_products()[1])
    return [*RUN, "--precision", request.param]


@pytest.fixture(scope="module")
def undisturbed(text_file: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "model.safetensors"
    finish(text_file, "-o", path, *settings)
    return path


def assert_same_run(path: Path, other: Path) -> None:
    for name in (Path(), Path("checkpoint.safetensors")):
        ours = path if name == Path() else path.with_suffix(".run") / name
        theirs = other if name == Path() else other.with_suffix(".run") / name
        left, right = load_file(ours), load_file(theirs)
        assert left.keys() == right.keys()
        for key in left:
            assert torch.equal(left[key], right[key]), f"{ours.name}: {key} differs"


def test_resuming_after_kill_9_at_random_moments_is_exact(
    text_file: Path, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    moments = random.Random(7)
    kills = 0
    process = start(text_file, "-o", path, *settings)
    while kills < 3:
        checkpoint = path.with_suffix(".run") / "checkpoint.safetensors"
        deadline = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5) + (2.0 if kills else 0.0))  # after a restart, past the imports
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start("-o", path, "--resume")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert kills, "the run was over before it could be killed"
    assert_same_run(path, undisturbed)


def test_ctrl_c_saves_says_how_to_go_on_and_resuming_is_exact(
    text_file: Path, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    process = start(text_file, "-o", path, *settings)
    checkpoint = path.with_suffix(".run") / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"go on with: unrolled train --resume -o {path}" in output
    assert "resuming at step" in finish("-o", path, "--resume")
    assert_same_run(path, undisturbed)


def test_an_unfinished_run_is_not_overwritten(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    process = start(text_file, "-o", path, *RUN)
    checkpoint = path.with_suffix(".run") / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = checkpoint.read_bytes()
    again = start(text_file, "-o", path, *RUN)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 2
    assert "holds an unfinished run" in output and "--resume" in output and "Traceback" not in output
    assert checkpoint.read_bytes() == before


def test_two_processes_learn_what_one_does(text_file: Path, tmp_path: Path) -> None:
    run = ["--steps", "6", "--hidden", "16", "--layers", "1", "--batch", "4", "--window", "16", "--dropout", "0"]
    run += ["--precision", "float32"]  # the processes' parts of a gradient would be rounded before they are added up
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    finish(text_file, "-o", one, *run)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "unrolled"]
    command = [sys.executable, *launcher, "train", str(text_file), "-o", str(two), *run]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("done in") == 1  # only the first process speaks
    left, right = load_file(one), load_file(two)
    for name in left:
        # The gradient is summed in another order; AdamW's first steps divide by its own size, so a relative
        # rounding error of a gradient near zero can move a weight by a part of the rate (here at most 0.016).
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=2e-3)
