"""The model file: what is saved comes back whole, here or elsewhere, and damage is always noticed."""

import json
import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from unrolled import LanguageModel, Program, TextModel, UnrolledError, cell, load, save, tanh
from unrolled.cells import CELLS, gru, lstm
from unrolled.text import Tokenizer, bpe_tokenizer, byte_tokenizer, character_tokenizer

TEXT = "Es war einmal ein süßes Mädchen. 敏捷的狐狸 🦊\n" * 3
CHARACTERS = character_tokenizer("ab \n")


@cell(init={"b": 0.5})
def home_made(x, h, memory, *, U: "hidden, rank", V: "rank, hidden", W, b):  # noqa: F821
    """A cell that stands in no package."""
    memory = 0.5 * (memory + h)
    h = tanh(U @ (V @ memory) + W @ x + b)
    return h, memory


def made(program: Program = gru, tokenizer: Tokenizer = CHARACTERS, layers: int = 2, **sizes: Any) -> TextModel:
    torch.manual_seed(0)
    model = LanguageModel(program, tokenizer.vocabulary_size, 2, 3, layers, **sizes)
    return TextModel(model.eval(), tokenizer, {"steps": 7, "text": "süß 🦊"})


def content(text_model: TextModel) -> tuple[Any, ...]:
    """All that a model file holds, comparable."""
    weights = [(name, str(v.dtype), v.tolist()) for name, v in text_model.model.state_dict().items()]
    return weights, text_model.model.config, text_model.tokenizer.to_json(), text_model.notes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("program", "dtype"),
    [(program, torch.float32) for program in (*CELLS.values(), home_made)]
    + [(gru, torch.float64), (gru, torch.bfloat16)],
    ids=lambda value: value.name if isinstance(value, Program) else str(value),
)
def test_what_is_saved_is_loaded_in_every_bit(path: Path, program: Program, dtype: torch.dtype) -> None:
    text_model = made(program, **({"rank": 2} if program is home_made else {}))
    text_model.model.to(dtype)
    save(path, text_model)
    loaded = load(path)
    assert content(loaded) == content(text_model)
    tokens = torch.tensor([[0, 1, 2]])
    assert torch.equal(loaded.model(tokens)[0], text_model.model(tokens)[0])


@pytest.mark.parametrize(
    "tokenizer", [CHARACTERS, bpe_tokenizer(TEXT, 300), byte_tokenizer()], ids=["characters", "bpe", "bytes"]
)
def test_the_tokenizer_comes_with_the_model(path: Path, tokenizer: Tokenizer) -> None:
    save(path, made(tokenizer=tokenizer))
    loaded = load(str(path)).tokenizer
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert loaded.decode(loaded.encode(TEXT)) == TEXT


def test_a_loaded_model_is_ready_to_generate_and_to_train_on(path: Path) -> None:
    save(path, made(dropout=0.5))
    model = load(path).model
    assert not any(module.training for module in model.modules())
    loss, _ = model.loss(torch.tensor([[0, 1]]), torch.tensor([[1, 2]]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_saving_does_not_change_the_model_and_replaces_an_older_file(path: Path) -> None:
    save(path, made(lstm))
    text_model = made(gru)
    before = content(text_model)
    save(path, text_model)
    assert content(text_model) == before == content(load(path))
    assert list(path.parent.iterdir()) == [path]


def test_any_safetensors_tool_reads_weights_equations_tokenizer_and_notes(path: Path) -> None:
    text_model = made(lstm, layers=1)
    save(path, text_model)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(text_model.model.state_dict())
        weight = file.get_tensor("layers.0.W_f")
    assert weight.tolist() == text_model.model.state_dict()["layers.0.W_f"].tolist()
    assert set(metadata) == {"format", "version", "model", "tokenizer", "notes", "checksum"}
    assert (metadata["format"], metadata["version"]) == ("unrolled", "1")
    assert Program.from_json(json.loads(metadata["model"])["cell"]) == lstm
    assert json.loads(metadata["tokenizer"])["model"]["type"] == "BPE"
    assert json.loads(metadata["notes"]) == {"steps": 7, "text": "süß 🦊"}


LOADS_TWICE = """
import json, sys, torch
from unrolled import load
load(sys.argv[1])  # all imports are done
ran = []
suspicious = ("exec", "compile", "import", "marshal", "pickle", "subprocess", "os.system", "ctypes", "socket")
sys.addaudithook(lambda event, _: ran.append(event) if event.startswith(suspicious) else None)
text_model = load(sys.argv[1])
found = list(ran)
compile("1", "the hook is awake", "eval")
logits = text_model.model(torch.tensor([text_model.tokenizer.encode("a ba").tolist()]))[0]
print(json.dumps([found, len(ran) > len(found), logits.tolist()]))
"""


def test_a_home_made_cell_runs_in_a_process_without_its_source_and_loading_executes_no_code(path: Path) -> None:
    text_model = made(home_made, rank=2)
    save(path, text_model)
    command = [sys.executable, "-c", LOADS_TWICE, path.name]
    result = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    found, awake, logits = json.loads(result.stdout)
    assert found == []
    assert awake
    tokens = torch.tensor([text_model.tokenizer.encode("a ba").tolist()])
    assert torch.equal(torch.tensor(logits), text_model.model(tokens)[0])


# What is no model file.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "{path} does not exist; name a model file, as written by: unrolled train TEXT -o model."),
        (Path.mkdir, "{path} is a folder; name a model file, as written by: unrolled train TEXT -o model."),
        (lambda path: path.write_text("Once upon a time"), "{path} is no model file, or it is damaged or cut short ("),
        (Path.touch, "{path} is no model file, or it is damaged or cut short ("),
        (
            lambda path: save_file({"a": torch.zeros(3)}, path),
            "{path} is a safetensors file, but not a model of unrolled; make one with: unrolled train.",
        ),
        (
            lambda path: save_file({"a": torch.zeros(3)}, path, {"format": "pt"}),
            "{path} is a safetensors file, but not a model of unrolled; make one with: unrolled train.",
        ),
        (
            lambda path: save_file({}, path, {"format": "unrolled", "version": "2"}),
            "{path} has format version 2, this unrolled reads 1; update unrolled.",
        ),
        (
            lambda path: save_file({}, path, {"format": "unrolled"}),
            "{path} has format version none, this unrolled reads 1; update unrolled.",
        ),
        (
            lambda path: save_file({}, path, {"format": "unrolled", "version": "1"}),
            "{path} is damaged: its checksum is missing. Use a good copy or train again.",
        ),
    ],
    ids=["missing", "folder", "text", "empty", "foreign", "other format", "later", "no version", "no checksum"],
)
def test_a_file_that_is_no_model_is_refused_in_plain_words(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "model"
    make(path)
    with pytest.raises(UnrolledError, match="^" + re.escape(message.format(path=path))):
        load(path)


def test_a_model_file_that_may_not_be_read_says_so(path: Path) -> None:
    with pytest.raises(UnrolledError, match=r"^cannot read .*a: File name too long\.$"):
        load(path.with_name("a" * 300))
    save(path, made())
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may read everything, so the test becomes nobody
            os.seteuid(65534)
        with pytest.raises(UnrolledError, match=r"^cannot read .*model\.safetensors: Permission denied\.$"):
            load(path)
    finally:
        os.seteuid(user)


# Damage. A file may be read differently only if it says the same.


def check_damaged(path: Path, data: bytes, good: tuple[Any, ...]) -> bool:
    """Whether loading `data` is refused, and in the right way; otherwise its content must be the good one."""
    path.write_bytes(data)
    try:
        loaded = load(path)
    except UnrolledError as error:
        assert str(path) in str(error)
        return True
    assert content(loaded) == good
    return False


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, tuple[Any, ...], int]:
    """The bytes of a good model file, what it holds, and where its weights begin."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save(path, made())
    data = path.read_bytes()
    return data, content(load(path)), 8 + int.from_bytes(data[:8], "little")


def test_a_changed_byte_anywhere_is_noticed(path: Path, saved: tuple[bytes, tuple[Any, ...], int]) -> None:
    data, good, weights = saved
    random_ = random.Random(0)
    index = data.index(b'"embedding.weight"')  # names, types, shapes and places of the tensors, up to the weights
    regions = [(0, 8, 40), (8, weights, 100), (index, weights, 100), (weights, len(data), 60)]
    for start, end, tries in regions:
        noticed = 0
        for _ in range(tries):
            place, change = random_.randrange(start, end), random_.randrange(1, 256)
            damaged = bytearray(data)
            damaged[place] ^= change
            noticed += check_damaged(path, bytes(damaged), good)
        # Padding and the spelling of JSON strings can change without a change of meaning; weights cannot.
        assert noticed >= tries * (1 if start in (0, weights) else 0.95)


def test_a_file_cut_short_or_with_more_at_its_end_is_noticed(
    path: Path, saved: tuple[bytes, tuple[Any, ...], int]
) -> None:
    data, good, weights = saved
    random_ = random.Random(1)
    sizes = [0, 1, 7, 8, 9, weights - 1, weights, weights + 1, len(data) - 1]
    for size in sizes + [random_.randrange(len(data)) for _ in range(60)]:
        assert check_damaged(path, data[:size], good), size
    for more in (b"\0", b"{}", random_.randbytes(1000), data):
        assert check_damaged(path, data + more, good)


def test_blocks_of_noise_zeros_and_other_files_are_noticed(
    path: Path, saved: tuple[bytes, tuple[Any, ...], int]
) -> None:
    data, good, _ = saved
    random_ = random.Random(2)
    for _ in range(50):
        start, size = random_.randrange(len(data)), random_.randrange(1, 200)
        for block in (random_.randbytes(size), bytes(size), b"\xff" * size):
            damaged = data[:start] + block + data[start + size :]
            if damaged != data:
                assert check_damaged(path, damaged, good)
    for size in (0, 2**31, 2**63, 2**64 - 1):
        assert check_damaged(path, size.to_bytes(8, "little") + data[8:], good)


def test_a_checksum_failure_is_told_from_other_damage(path: Path, saved: tuple[bytes, tuple[Any, ...], int]) -> None:
    data = bytearray(saved[0])
    data[-1] ^= 1
    path.write_bytes(data)
    message = f"{path} is damaged: its checksum is not that of its content. Use a good copy or train again."
    with pytest.raises(UnrolledError, match=f"^{re.escape(message)}$"):
        load(path)


def test_weights_said_to_be_of_another_type_of_the_same_size_are_noticed(path: Path) -> None:
    text_model = made()
    text_model.model.bfloat16()
    save(path, text_model)
    data = path.read_bytes()
    other = data.replace(b'"dtype":"BF16"', b'"dtype": "F16"')
    assert other != data
    assert check_damaged(path, other, content(text_model))


# Files with a right checksum whose parts do not belong together.


def with_sizes(text_model: TextModel, **sizes: Any) -> None:
    text_model.model.config = text_model.model.config | sizes


def without_readout(text_model: TextModel) -> None:
    del text_model.model.readout


def with_more(text_model: TextModel) -> None:
    text_model.model.extra = nn.Linear(2, 2, bias=False)


def with_whole_numbers(text_model: TextModel) -> None:
    ids = torch.zeros_like(text_model.model.readout.bias, dtype=torch.int64)
    text_model.model.readout.bias = nn.Parameter(ids, requires_grad=False)


def with_another_tokenizer(text_model: TextModel) -> None:
    text_model.tokenizer = byte_tokenizer()


EVERY_RECURRENT_WEIGHT = ", ".join(f"layers.{n}.{w}" for n in (0, 1) for w in ("W", "W_r", "W_z"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_readout, "the weights readout.bias, readout.weight do not fit its description."),
        (with_more, "the weights extra.weight do not fit its description."),
        (with_whole_numbers, "the weight readout.bias holds torch.int64, not floating-point numbers."),
        (with_another_tokenizer, "the tokenizer and the model have different vocabularies."),
        (
            lambda text_model: with_sizes(text_model, hidden_size=4),
            f"the weights {EVERY_RECURRENT_WEIGHT}, readout.weight do not fit its description.",
        ),
        (
            lambda text_model: with_sizes(text_model, layers=1),
            "the weights layers.1.W, layers.1.W_r, layers.1.W_z do not fit",
        ),
        (lambda text_model: with_sizes(text_model, layers=0), "a language model needs at least 1 layer, token, embed"),
        (lambda text_model: with_sizes(text_model, colour=3), "cell gru has no size named colour."),
        (
            lambda text_model: with_sizes(text_model, embedding_size="2"),
            "the model's description is damaged (",
        ),
        (lambda text_model: with_sizes(text_model, cell="{}"), "the equations are damaged (KeyError('format'));"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(
    path: Path, change: Callable[[TextModel], None], message: str
) -> None:
    text_model = made()
    change(text_model)
    save(path, text_model)
    with pytest.raises(UnrolledError, match=f"^{re.escape(f'{path} is damaged: {message}')}"):
        load(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says and limits what a process takes")
@pytest.mark.parametrize("sizes", [{"hidden_size": 5000}, {"vocabulary_size": 10**8}, {"embedding_size": 10**15}])
def test_huge_sizes_in_a_description_take_no_memory(path: Path, sizes: dict[str, int]) -> None:
    text_model = made()
    with_sizes(text_model, **sizes)
    save(path, text_model)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    # The smallest of these models takes 900 MB; it must be refused by its shapes, not for want of memory.
    resource.setrlimit(resource.RLIMIT_AS, (taken + 200_000_000, limits[1]))
    try:
        with pytest.raises(UnrolledError, match=r"do not fit its description\."):
            load(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_full_disk_leaves_the_older_model_in_place(path: Path) -> None:
    save(path, made(lstm))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UnrolledError, match=r"^Cannot write .*model\.safetensors: .*File too large"):
            save(path, made(gru))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(load(path)) == content(made(lstm))
    assert list(path.parent.iterdir()) == [path]
