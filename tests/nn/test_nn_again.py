"""Calls again and again without gradients, of a step or of several: the same as torch's, weights packed once, and a
changed weight is noticed."""

import threading

import pytest
import torch
from drop_ins import pair

import unrolled.nn
from unrolled.engine.native import packs


def stream(module, x, at_once=1):
    """The outputs of a loop over x (time, batch, feature), so many steps at once."""
    state, outputs = None, []
    with torch.no_grad():
        for steps in x.split(at_once):
            output, state = module(steps, state)
            outputs.append(output)
    return torch.cat(outputs), state


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("hidden", [7, 32])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "proj_size": 3}])
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_a_loop_over_steps_agrees_with_torch(hidden: int, options: dict, at_once: int) -> None:
    theirs, ours = pair("LSTM", 5, hidden, **options)
    x = torch.randn(6 * at_once - 1, 3, 5)
    wanted, wanted_state = stream(theirs, x, at_once)
    got, state = stream(ours, x, at_once)
    # Values below 1 after six steps of sums of up to 40 numbers: float32 rounding, with room, is 1e-6.
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)
    for a, b in zip(state, wanted_state, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


CHANGES = {
    "in place": lambda w: w.mul_(0.5),
    "copied": lambda w: w.copy_(0.2 * torch.randn_like(w)),
    "through .data": lambda w: w.data.mul_(0.5),
    "new .data": lambda w: setattr(w, "data", w.data * 0.5),
    "one gate through .data": lambda w: w.data[: len(w) // 3].mul_(0.5),
    "through numpy": lambda w: w.detach().numpy().__imul__(0.5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("hidden", [7, 32])
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_changed_weight_is_noticed(change, hidden: int, name: str, at_once: int) -> None:
    theirs, ours = pair("GRU", 5, hidden)
    x = torch.randn(6, 1, 5)
    before, _ = stream(ours, x, at_once)
    with torch.no_grad():
        change(getattr(ours, name))
    theirs.load_state_dict(ours.state_dict())
    after, _ = stream(ours, x, at_once)
    torch.testing.assert_close(after, stream(theirs, x)[0], rtol=0, atol=2e-6)
    assert not torch.equal(after, before)


def test_an_optimizer_step_and_a_loaded_state_are_noticed() -> None:
    theirs, ours = pair("GRU", 5, 16)
    x = torch.randn(3, 1, 5)
    stream(ours, x)
    ours(x)[0].sum().backward()
    torch.optim.SGD(ours.parameters(), lr=1.0).step()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(stream(ours, x)[0], stream(theirs, x)[0], rtol=0, atol=2e-6)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(stream(ours, x)[0], stream(theirs, x)[0], rtol=0, atol=2e-6)


def test_unchanged_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = pair("LSTM", 5, 16)
    packed = []
    keep = packs.Packs.keep
    monkeypatch.setattr(packs.Packs, "keep", lambda self, *key: packed.append(key) or keep(self, *key))
    stream(ours, torch.randn(4, 1, 5))
    assert len(packed) == 1  # all matrices at once
    stream(ours, torch.randn(4, 1, 5))
    assert len(packed) == 1


def test_steps_in_inference_mode_and_outside_of_it_take_turns() -> None:
    _, ours = pair("GRU", 5, 7)
    x = torch.randn(1, 2, 5)
    with torch.inference_mode():
        first = ours(x)[0].clone()
    with torch.no_grad():
        second = ours(x)[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize("at_once", [1, 3])
def test_two_threads_do_not_disturb_each_other(at_once: int) -> None:
    _, ours = pair("LSTM", 5, 64)
    xs = [torch.randn(200, 1, 5) for _ in range(2)]
    alone = [stream(ours, x, at_once)[0] for x in xs]
    found: dict[int, torch.Tensor] = {}

    def run(number: int) -> None:
        found[number] = stream(ours, xs[number], at_once)[0]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, wanted in enumerate(alone):
        assert torch.equal(found[number], wanted)


def test_nothing_stays_when_a_module_goes() -> None:
    from unrolled.nn import again

    before = len(again._ready)
    module = unrolled.nn.GRU(5, 7)
    stream(module, torch.randn(2, 1, 5))
    assert len(again._ready) == before + 1
    del module
    assert len(again._ready) == before


@pytest.mark.parametrize(
    "shape", [(1, 16), (1, 1, 16), (1, 3, 16), (1, 3, 7), (4, 16), (4, 3, 16), (4, 3, 7), (1, 70, 16)]
)
@pytest.mark.parametrize("strange", [False, True])
def test_results_are_the_callers_own_and_what_comes_in_stays_as_it_is(shape: tuple[int, ...], strange: bool) -> None:
    theirs, ours = pair("LSTM", shape[-1], 16, num_layers=2)
    x = torch.randn(*shape, 2)[..., 0] if strange else torch.randn(shape)  # or with gaps between its numbers
    given = tuple(
        torch.randn(2, *shape[1:-1], 16, 2)[..., 0] if strange else torch.randn(2, *shape[1:-1], 16) for _ in "hC"
    )
    copies = [value.clone() for value in (x, *given)]
    with torch.no_grad():
        wanted, wanted_state = theirs(x, given)
        got, state = ours(x, given)
        ours(torch.randn(shape), tuple(torch.randn_like(s) for s in state))  # must not write to the results again
    for a, b in zip((got, *state), (wanted, *wanted_state), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)
    assert all(torch.equal(value, copy) for value, copy in zip((x, *given), copies, strict=True))
    assert len({value.data_ptr() for value in (got, *state)}) == 3


@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_calls_of_many_kinds_take_turns(mode: str, batch_first: bool) -> None:
    """What is ready for one call serves those of other lengths, and no others."""
    theirs, ours = pair(mode, 5, 16, batch_first=batch_first, bidirectional=True)
    shapes = [(4, 3, 5), (2, 3, 5), (3, 4, 5), (1, 1, 5), (7, 5), (1, 5), (4, 3, 5)]
    for shape in 2 * shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            wanted, state = theirs(x)
            got, own = ours(x)
            torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)
            torch.testing.assert_close(own, state, rtol=0, atol=2e-6)
            torch.testing.assert_close(ours(x, state)[0], theirs(x, state)[0], rtol=0, atol=2e-6)
    for wrong in ((3, 0, 5) if batch_first else (0, 3, 5), (4, 3, 6), (4, 3, 5, 1), (5,)):
        with torch.no_grad(), pytest.raises((RuntimeError, ValueError, IndexError)) as refused:
            theirs(torch.randn(wrong))
        with torch.no_grad(), pytest.raises(refused.type):
            ours(torch.randn(wrong))
