"""Bad input: the same error as torch.nn, in the same words. What the engine does not run: torch's own results."""

import pytest
import torch
from drop_ins import pair, ran_native
from torch.nn.utils.rnn import PackedSequence

import unrolled
from unrolled import UnrolledError
from unrolled.engine import choice

BAD_CALLS = {
    "input of 1 dimension": lambda m: m(torch.randn(5)),
    "input of 4 dimensions": lambda m: m(torch.randn(2, 3, 4, 5)),
    "wrong features": lambda m: m(torch.randn(3, 2, 6)),
    "no steps": lambda m: m(torch.randn(0, 2, 5)),
    "no tensor": lambda m: m([1.0, 2.0]),
    "float64 input": lambda m: m(torch.randn(3, 2, 5, dtype=torch.float64)),
    "whole numbers": lambda m: m(torch.ones(3, 2, 5, dtype=torch.int64)),
    "state of another batch": lambda m: m(torch.randn(3, 2, 5), state(m, 1, 4, 7)),
    "state of another size": lambda m: m(torch.randn(3, 2, 5), state(m, 1, 2, 6)),
    "state of too many layers": lambda m: m(torch.randn(3, 2, 5), state(m, 2, 2, 7)),
    "state without a batch": lambda m: m(torch.randn(3, 2, 5), state(m, 1, 7)),
    "state with a batch": lambda m: m(torch.randn(3, 5), state(m, 1, 1, 7)),
    "float64 state": lambda m: m(torch.randn(3, 2, 5), state(m, 1, 2, 7, dtype=torch.float64)),
}
# torch.nn.LSTM does not check these.
BAD_PACKED_CALLS = {
    "packed, wrong features": lambda m: m(torch.nn.utils.rnn.pack_sequence([torch.randn(3, 6)])),
    "packed, state of another batch": lambda m: m(
        torch.nn.utils.rnn.pack_sequence([torch.randn(3, 5)]), state(m, 1, 4, 7)
    ),
}
HAND_MADE = {
    "fewer steps than the sizes say": (8, [3, 2, 2, 1, 1]),
    "sizes that grow": (9, [1, 2, 3, 3]),
}


def state(module, *shape: int, dtype: torch.dtype = torch.float32):
    h = torch.zeros(*shape, dtype=dtype)
    return (h, h.clone()) if module.mode == "LSTM" else h


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bad", BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_bad_call_fails_as_with_torch(kind: str, bad) -> None:
    assert_fails_alike(kind, bad)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("bad", BAD_PACKED_CALLS.values(), ids=BAD_PACKED_CALLS)
def test_a_bad_packed_call_fails_as_with_torch(kind: str, bad) -> None:
    assert_fails_alike(kind, bad)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("steps", "sizes"), HAND_MADE.values(), ids=HAND_MADE)
def test_a_packed_sequence_that_does_not_fit_itself_fails_as_with_torch(kind: str, steps: int, sizes: list) -> None:
    assert_fails_alike(kind, lambda m: m(PackedSequence(torch.randn(steps, 5), torch.tensor(sizes))))


def assert_fails_alike(kind: str, bad) -> None:
    theirs, ours = pair(kind, 5, 7)
    with torch.no_grad():
        with pytest.raises(Exception) as expected:
            bad(theirs)
        with pytest.raises(type(expected.value)) as got:
            bad(ours)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("options", [{"dropout": 2}, {"hidden_size": 0}, {"bias": 1}, {"num_layers": 0}])
def test_a_bad_constructor_call_fails_as_with_torch(options: dict) -> None:
    arguments = {"input_size": 5, "hidden_size": 7, **options}
    with pytest.raises((ValueError, TypeError)) as expected:
        torch.nn.LSTM(**arguments)
    with pytest.raises(type(expected.value)) as got:
        unrolled.nn.LSTM(**arguments)
    assert str(got.value) == str(expected.value)


def test_an_empty_batch_gives_what_torch_gives() -> None:
    theirs, ours = pair("GRU", 5, 7)
    assert ours(torch.randn(3, 0, 5))[0].shape == theirs(torch.randn(3, 0, 5))[0].shape


def test_float64_is_torchs_own() -> None:
    theirs, ours = (module.double() for module in pair("LSTM", 5, 7))
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    assert torch.equal(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_is_torchs_own_where_the_engine_has_no_such_products(dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_bf16", lambda: False)
    theirs, ours = pair("GRU", 5, 7)
    x = torch.randn(3, 2, 5)
    with torch.autocast("cpu", dtype=dtype):
        wanted, got = theirs(x)[0], ours(x)[0]
    assert got.dtype == wanted.dtype
    assert torch.equal(got, wanted)


def test_the_reference_engine_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = pair("GRU", 5, 7)
    x = torch.randn(3, 2, 5)
    assert ran_native(ours(x)[0])
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    assert not ran_native(ours(x)[0])
    assert torch.equal(ours(x)[0], theirs(x)[0])


def test_accelerate_wants_a_module() -> None:
    with pytest.raises(UnrolledError, match=r"^accelerate takes a model, a torch.nn.Module; dict came\.$"):
        unrolled.accelerate({})
