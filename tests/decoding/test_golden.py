"""One text through every door: the reference in torch, numpy, the native engine, the command line, a program in C."""

import os
import shutil
import subprocess
import sys
from codecs import getincrementaldecoder
from pathlib import Path

import pytest
from decoding_models import made

from unrolled import Decoder, Sampling, UnrolledError, cells, generate, load, save
from unrolled.engine.native import library

EXAMPLE = Path(__file__).parents[2] / "examples" / "c" / "generate.c"
GREEDY = Sampling(temperature=0)
PROMPT, TOKENS = "Once upon", 120


@pytest.fixture(scope="module", params=[("lstm", 1), ("gru", 1), ("min_lstm", 1), ("lstm", 3)])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "model"
    cell, members = request.param
    save(path, made(cells.CELLS[cell], 40, layers=2, members=members, scale=3.0))
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    output = tmp_path_factory.mktemp("c") / "generate"
    built = next(path for path in library.candidates() if path.is_file())
    include = EXAMPLE.parents[2] / "native" / "include"
    command = [compiler, "-Wall", "-Werror", EXAMPLE, "-I", include, built, f"-Wl,-rpath,{built.parent}", "-o", output]
    subprocess.run(command, check=True)
    return output


def test_every_door_gives_one_text(path, program, monkeypatch):
    expected = "".join(generate(load(path), PROMPT, tokens=TOKENS, sampling=GREEDY))
    assert len(set(expected)) > 4
    for engine in ("native", "reference"):
        monkeypatch.setenv("UNROLLED_ENGINE", engine)
        model = Decoder.load(path)
        assert "".join(model.generate(model.start(PROMPT, GREEDY), tokens=TOKENS)) == expected
    monkeypatch.delenv("UNROLLED_ENGINE")
    command = [sys.executable, "-m", "unrolled", "generate", path, "-p", PROMPT, "--tokens", str(TOKENS), "--greedy"]
    printed = subprocess.run(command, capture_output=True, check=True, env=os.environ).stdout.decode()
    assert printed == PROMPT + expected + "\n"
    for precision in ("float32", "int8"):
        model = Decoder.load(path, precision)
        model.export(path.with_name("flat"))
        ran = subprocess.run([program, path.with_name("flat"), PROMPT, str(TOKENS)], capture_output=True, check=True)
        expected = "".join(model.generate(model.start(PROMPT, GREEDY), tokens=TOKENS))
        # The program prints bytes; half a character at the end is left out elsewhere.
        assert getincrementaldecoder("utf-8")("replace").decode(ran.stdout) == expected


@pytest.mark.parametrize("size", [0, 7, 127, 200, 1000, 9000])
def test_a_flat_file_cut_short_is_an_error_of_the_program(path, program, size):
    flat = path.with_name("cut")
    Decoder.load(path).export(flat)
    flat.write_bytes(flat.read_bytes()[:size])
    ran = subprocess.run([program, flat, PROMPT, "3"], capture_output=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"generate: ")


def test_without_the_native_engine_nothing_is_exported(path, monkeypatch):
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    with pytest.raises(UnrolledError, match="is not built"):
        Decoder.load(path).export(path.with_name("flat"))
