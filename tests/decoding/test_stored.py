"""A model file read without torch: the same weights and the same refusals as with torch."""

import numpy as np
import pytest
import torch
from decoding_models import made
from safetensors.torch import save_file

from unrolled import Decoder, UnrolledError, cells, load, save
from unrolled.artifact import read
from unrolled.text import byte_tokenizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_every_type_of_weights_is_read(tmp_path, dtype):
    text_model = made(cells.CELLS["gru"], 8)
    text_model.model.to(dtype)
    save(tmp_path / "m", text_model)
    stored = read(tmp_path / "m")
    for name, tensor in text_model.model.state_dict().items():
        assert np.array_equal(stored.weights[name], tensor.float().numpy())
    assert stored.notes == text_model.notes
    decoder = Decoder(stored)
    assert len("".join(decoder.generate(decoder.start("a"), characters=9))) == 9


def without_a_weight(text_model):
    del text_model.model.readout


def with_a_layer_more(text_model):
    text_model.model.config = text_model.model.config | {"layers": 2}


def with_other_sizes(text_model):
    text_model.model.config = text_model.model.config | {"hidden_size": 9}


def with_whole_numbers(text_model):
    ids = torch.zeros_like(text_model.model.readout.bias, dtype=torch.int64)
    text_model.model.readout.bias = torch.nn.Parameter(ids, requires_grad=False)


def with_another_tokenizer(text_model):
    text_model.tokenizer = byte_tokenizer()


def with_a_size_that_is_no_number(text_model):
    text_model.model.config = text_model.model.config | {"embedding_size": "2"}


CHANGES = [without_a_weight, with_a_layer_more, with_other_sizes, with_whole_numbers, with_another_tokenizer]


@pytest.mark.parametrize("change", CHANGES)
def test_parts_that_do_not_belong_together_are_refused_in_the_same_words(tmp_path, change):
    text_model = made(cells.CELLS["gru"], 8)
    change(text_model)
    save(tmp_path / "m", text_model)
    messages = []
    for reading in (read, load):
        with pytest.raises(UnrolledError) as error:
            reading(tmp_path / "m")
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_damaged_description_is_refused(tmp_path):
    text_model = made(cells.CELLS["gru"], 8)
    with_a_size_that_is_no_number(text_model)
    save(tmp_path / "m", text_model)
    with pytest.raises(UnrolledError, match=r"is damaged: the model's description is damaged \("):
        read(tmp_path / "m")


def refusal(reading, path):
    """What the error says, "" if there is none."""
    try:
        reading(path)
    except UnrolledError as error:
        return str(error)
    return ""


def test_bytes_that_changed_a_file_cut_short_and_other_files_are_refused_in_the_same_words(tmp_path):
    path = tmp_path / "m"
    save(path, made(cells.CELLS["gru"], 8))
    data = path.read_bytes()
    random = np.random.default_rng(0)
    contents = [b"", b"text", data[:-1], data[: len(data) // 2], data + b"0"]
    places = random.integers(0, len(data), 60)
    contents += [data[:at] + bytes([data[at] ^ int(random.integers(1, 256))]) + data[at + 1 :] for at in places]
    save_file({"a": torch.zeros(3)}, path)
    contents.append(path.read_bytes())
    refused = 0
    for content in contents:
        path.write_bytes(content)
        assert refusal(read, path) == refusal(load, path)
        refused += refusal(read, path) != ""
    assert refused >= len(contents) - 6  # padding and the spelling of JSON strings may change
