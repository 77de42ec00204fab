"""Values and gradients of the drop-ins against torch.nn, over all options and shapes of the call."""

import pytest
import torch
from drop_ins import assert_agree, pair, parts, ran_native
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from unrolled.engine.native.library import has_bf16

# torch says once that its projections are not the fast ones.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

KINDS = {
    "LSTM": ("LSTM", {}),
    "LSTM projected": ("LSTM", {"proj_size": 3}),
    "GRU": ("GRU", {}),
    "RNN tanh": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
OPTIONS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "deep": {"num_layers": 3, "bidirectional": True, "dropout": 0.4},
    "no biases": {"bias": False, "num_layers": 2, "batch_first": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def states_of(module, batch: int | None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size, *([module.hidden_size] if module.mode == "LSTM" else [])]
    return [torch.randn(rows, *([] if batch is None else [batch]), s, generator=generator) * 0.4 for s in sizes]


def call_with_state(module, x, *state):
    return module(x, state if module.mode == "LSTM" else state[0])


def call(module, x):
    return module(x)


@every_kind
@every_option
def test_full_batches_agree(kind: str, options: dict) -> None:
    theirs, ours = pair(KINDS[kind][0], 5, 7, **KINDS[kind][1], **options)
    x = torch.randn(6, 4, 5)
    assert ran_native(parts(ours(x))[0])
    assert_agree(theirs, ours, call, [x])
    assert_agree(theirs, ours, call_with_state, [x, *states_of(ours, 6 if ours.batch_first else 4)])


@every_kind
@every_option
def test_one_sequence_without_a_batch_agrees(kind: str, options: dict) -> None:
    theirs, ours = pair(KINDS[kind][0], 5, 7, **KINDS[kind][1], **options)
    x = torch.randn(6, 5)
    assert_agree(theirs, ours, call, [x])
    assert_agree(theirs, ours, call_with_state, [x, *states_of(ours, None)])


@every_kind
@every_option
@pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [2, 6, 1, 4], [5, 5, 5, 5]], ids=str)
def test_packed_sequences_agree(kind: str, options: dict, lengths: list[int]) -> None:
    theirs, ours = pair(KINDS[kind][0], 5, 7, **KINDS[kind][1], **options)
    sorted_ = lengths == sorted(lengths, reverse=True)

    def packed(module, x, *state):
        sequence = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=sorted_)
        return call_with_state(module, sequence, *state) if state else module(sequence)

    x = torch.randn(4, 6, 5)
    assert ran_native(parts(packed(ours, x))[0])
    assert_agree(theirs, ours, packed, [x])
    assert_agree(theirs, ours, packed, [x, *states_of(ours, 4)])


def test_lengths_that_inference_saw_first_can_be_learned_from() -> None:
    _, ours = pair("GRU", 5, 7)
    sequence = pack_sequence([torch.randn(n, 5) for n in (9, 8, 3)])
    with torch.inference_mode():
        ours(sequence)
    ours(sequence)[0].data.sum().backward()


def test_a_packed_output_keeps_the_order_of_the_input() -> None:
    theirs, ours = pair("GRU", 5, 7)
    sequence = pack_sequence([torch.randn(n, 5) for n in (2, 6, 1)], enforce_sorted=False)
    wanted, got = theirs(sequence)[0], ours(sequence)[0]
    assert isinstance(got, PackedSequence)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(got, name), getattr(wanted, name))


@settings(max_examples=25)
@given(
    kind=st.sampled_from(list(KINDS)),
    sizes=st.tuples(st.integers(1, 20), st.integers(4, 20)),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    layers=st.integers(1, 2),
    flags=st.fixed_dictionaries({f: st.booleans() for f in ("bias", "batch_first", "bidirectional")}),
)
def test_any_sizes_agree(kind, sizes, shape, layers, flags) -> None:
    theirs, ours = pair(KINDS[kind][0], *sizes, num_layers=layers, **KINDS[kind][1], **flags)
    assert_agree(theirs, ours, call, [torch.randn(*shape, sizes[0])])


def test_dropout_is_for_training_only_and_draws_the_mask_of_torch() -> None:
    theirs, ours = pair("LSTM", 5, 7, num_layers=2, dropout=0.5)
    x = torch.randn(6, 4, 5)
    torch.manual_seed(4)
    first, second = ours(x)[0], ours(x)[0]
    torch.manual_seed(4)
    torch.testing.assert_close(first, theirs(x)[0])
    assert not torch.equal(first, second)
    assert torch.equal(ours.eval()(x)[0], ours(x)[0])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [1, 6])
def test_results_may_be_viewed_and_changed_as_those_of_torch(batch_first: bool, steps: int) -> None:
    theirs, ours = pair("LSTM", 5, 7, batch_first=batch_first)
    x = torch.randn(4, steps, 5) if batch_first else torch.randn(steps, 4, 5)
    with torch.no_grad():
        output, (h, c) = ours(x)
        assert not batch_first <= theirs(x)[0].is_contiguous() or output.is_contiguous()
        kept = [h.clone(), c.clone(), output.clone()]
        output.zero_()
        ours(x + 1)
        assert torch.equal(h, kept[0])
        assert torch.equal(c, kept[1])
        assert h.is_contiguous()
        assert c.is_contiguous()
        assert not output.any()


def test_training_both_with_adam_goes_the_same_way() -> None:
    theirs, ours = pair("GRU", 6, 16, num_layers=2)
    x, target = torch.randn(12, 8, 6), torch.randn(12, 8, 16)
    losses = []
    for module in (theirs, ours):
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            loss = (module(x)[0] - target).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    # Twenty steps let the rounding of float32, 1e-7, grow by Adam's division by small numbers; 1e-6 was seen.
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("mode", "steps", "batch", "native"),
    [
        ("RNN", 3, 1, False),
        ("RNN", 4, 1, True),
        ("RNN", 3, 1100, True),
        ("GRU", 1, 1, False),
        ("GRU", 2, 1, True),
        ("LSTM", 1, 1, True),
    ],
)
@pytest.mark.parametrize("batch_first", [False, True])
def test_few_steps_that_torch_learns_from_sooner_are_its_own(
    mode: str, steps: int, batch: int, native: bool, batch_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = pair(mode, 5, 16, batch_first=batch_first)
    shape = (batch, steps, 5) if batch_first else (steps, batch, 5)
    assert ran_native(ours(torch.randn(shape))[0]) == native
    if batch == 1:
        assert ran_native(ours(torch.randn(steps, 5))[0]) == native
    if has_bf16():  # where torch would give bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ran_native(ours(torch.randn(shape))[0])
    monkeypatch.setenv("UNROLLED_ENGINE", "native")  # asked for, it runs
    assert ran_native(ours(torch.randn(shape))[0])
