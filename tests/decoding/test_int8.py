"""Precision int8: exact whole-number sums, the same on every machine, in company and from a file."""

import os
import subprocess
import sys

import numpy as np
import pytest
from decoding_models import made, parts_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unrolled import Decoder, Sampling, UnrolledError, cell, cells, load, save
from unrolled.artifact import read
from unrolled.artifact.precision import quantize_file
from unrolled.engine.native.decoder import NativeDecoder
from unrolled.engine.quantized import dequantized, quantize, row_scales


@cell
def linear(x, h, *, W, V):
    h = V @ (h + W @ [h, x])
    return h


@given(matrix=arrays(np.float32, (3, 9), elements=st.floats(-1024, 1024, width=32)))
def test_quantizing_twice_is_quantizing_once_and_no_number_moves_far(matrix):
    matrix[np.abs(matrix) < 1e-30] = 0  # whose scales float32 cannot hold
    once = dequantized(matrix)
    assert np.array_equal(dequantized(once), once)
    scales = row_scales(matrix)
    assert np.array_equal(quantize(once, row_scales(once)), quantize(matrix, scales))
    assert (np.abs(once - matrix) <= 0.5000001 * scales[:, None]).all()


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru", "multiplicative_lstm"])
def test_logits_are_those_of_whole_numbers_computed_exactly(name):
    """The readout by hand: rounded weights times the rounded state."""
    text_model = made(cells.CELLS[name], 37)
    parts = parts_of(text_model)
    decoder = NativeDecoder(parts, int8=True)
    state = np.zeros(decoder.state_size, np.float32)
    logits = decoder.read([state], np.array([[3, 1, 4, 1, 5]], np.int32))[0]
    weights = text_model.model.state_dict()
    W = weights["readout.weight"].numpy()
    h = state[:37]
    scale = np.float32(np.abs(h).max()) / np.float32(127)
    rounded = np.rint(h * (np.float32(127) / np.abs(h).max())).astype(np.int64)
    sums = quantize(W, row_scales(W)).astype(np.int64) @ rounded
    expected = sums * (row_scales(W) * scale).astype(np.float64) + weights["readout.bias"].numpy()
    assert np.abs(logits - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 9])
def test_a_state_that_is_not_finite_reaches_the_logits_of_its_row_alone(bad, rows):
    decoder = NativeDecoder(parts_of(made(linear, 40)), int8=True)
    states = [np.zeros(decoder.state_size, np.float32) for _ in range(rows)]
    states[0][17] = bad
    logits = decoder.read(states, np.ones((rows, 1), np.int32))
    assert not np.isfinite(logits[0]).any()
    assert np.isfinite(logits[1:]).all()


def test_alone_or_together_every_bit_is_the_same():
    decoder = NativeDecoder(parts_of(made(cells.CELLS["lstm"], 70, layers=2)), int8=True)
    ids = np.random.default_rng(0).integers(0, decoder.vocabulary_size, (27, 9)).astype(np.int32)
    together = [np.zeros(decoder.state_size, np.float32) for _ in ids]
    logits = decoder.read(together, ids)
    for row in (0, 3, 26):
        alone = np.zeros(decoder.state_size, np.float32)
        assert np.array_equal(decoder.read([alone], ids[row : row + 1])[0], logits[row])
        assert np.array_equal(alone, together[row])


READS = """
import sys, numpy as np
from unrolled import Decoder
model = Decoder.load(sys.argv[1])
for rows in (1, 3, 29):
    ids = np.random.default_rng(0).integers(0, model.engine.vocabulary_size, (rows, 6)).astype(np.int32)
    states = [np.zeros(model.engine.state_size, np.float32) for _ in ids]
    print(model.engine.read(states, ids).tobytes().hex(), np.stack(states).tobytes().hex())
"""


@pytest.mark.parametrize("hidden", [9, 50, 150])
def test_every_instruction_set_gives_the_same_bits(tmp_path, hidden):
    # Of a cell without tanh, whose last bit differs from set to set.
    save(tmp_path / "m", made(linear, hidden, layers=2))
    quantize_file(tmp_path / "m", tmp_path / "q")
    printed = set()
    for name in ("baseline", "avx2", "avx512"):
        environment = os.environ | {"UNROLLED_INSTRUCTION_SET": name}
        command = [sys.executable, "-c", READS, tmp_path / "q"]
        printed.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(printed) == 1


def test_a_quantized_file_gives_what_quantizing_on_loading_gives(tmp_path):
    text_model = made(cells.CELLS["gru"], 33, layers=2)
    save(tmp_path / "m", text_model)
    stored = quantize_file(tmp_path / "m", tmp_path / "q")
    asked, from_file = Decoder.load(tmp_path / "m", precision="int8"), Decoder.load(tmp_path / "q")
    assert asked.hash == from_file.hash != Decoder.load(tmp_path / "m").hash
    texts = [
        "".join(model.generate(model.start("a", Sampling(seed=2)), characters=300)) for model in (asked, from_file)
    ]
    assert texts[0] == texts[1]
    for name, tensor in load(tmp_path / "q").model.state_dict().items():
        assert np.array_equal(tensor.numpy(), stored.weights[name])
    assert stored.quantized() is stored
    with pytest.raises(UnrolledError, match=r"precision 'float32' is not to be had of a model of precision int8"):
        Decoder.load(tmp_path / "q", precision="float32")
    with pytest.raises(UnrolledError, match="ask for float32 or int8"):
        Decoder.load(tmp_path / "m", precision="int4")


def test_weights_that_are_not_finite_are_told(tmp_path):
    text_model = made(cells.CELLS["gru"], 8)
    text_model.model.readout.weight.data[0, 0] = float("nan")
    save(tmp_path / "m", text_model)
    with pytest.raises(UnrolledError, match=r"cannot be quantized: readout\.weight holds numbers"):
        quantize_file(tmp_path / "m", tmp_path / "q")
    assert not (tmp_path / "q").exists()
    with pytest.raises(UnrolledError, match=r"^the model cannot be quantized: readout\.weight holds numbers"):
        Decoder.load(tmp_path / "m", precision="int8")
    assert read(tmp_path / "m").precision == "float32"
