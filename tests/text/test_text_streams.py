import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import UnrolledError
from unrolled.text import Streams, largest_batch

IDS = np.arange(1000, dtype=np.uint16)


@st.composite
def streams(draw: st.DrawFn) -> Streams:
    batch_size, window = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    tokens = draw(st.integers(batch_size * window + 1, 300))
    return Streams(np.arange(tokens, dtype=np.uint16), batch_size, window, seed=draw(st.integers(0, 2**40)))


@given(streams())
def test_targets_follow_inputs_and_rows_continue_from_step_to_step(text: Streams) -> None:
    before = None
    for step in range(2 * text.steps_per_epoch + 1):
        batch = text.batch(step)
        assert batch.inputs.shape == (text.batch_size, text.window)
        assert batch.inputs.dtype == batch.targets.dtype == np.int64
        assert (batch.targets == batch.inputs + 1).all()
        assert batch.epoch == step // text.steps_per_epoch
        assert batch.fresh == (step % text.steps_per_epoch == 0)
        if before is not None and not batch.fresh:
            assert (batch.inputs[:, 0] == before.targets[:, -1]).all()
        before = batch


@given(streams(), st.integers(0, 5))
def test_an_epoch_goes_once_through_all_but_a_little_of_the_text(text: Streams, epoch: int) -> None:
    steps = range(epoch * text.steps_per_epoch, (epoch + 1) * text.steps_per_epoch)
    targets = np.sort(np.concatenate([text.batch(step).targets.ravel() for step in steps]))
    assert (np.diff(targets) == 1).all()
    left_out = len(text.ids) - 1 - len(targets)
    assert left_out < text.batch_size * text.window + text.window


def test_any_step_can_be_asked_for_at_any_time() -> None:
    first = [Streams(IDS, 4, 7, seed=3).batch(step).inputs for step in range(80)]
    resumed = Streams(IDS, 4, 7, seed=3)
    for step in (79, 40, 0):
        assert (resumed.batch(step).inputs == first[step]).all()


def test_epochs_and_seeds_start_at_different_places() -> None:
    def starts(seed: int) -> list[int]:
        text = Streams(IDS, 4, 60, seed=seed)
        return [int(text.batch(epoch * text.steps_per_epoch).inputs[0, 0]) for epoch in range(20)]

    assert len(set(starts(0))) > 10
    assert starts(0) != starts(1)


def test_a_text_that_windows_fill_exactly_still_has_room_for_the_offset() -> None:
    text = Streams(np.arange(3 * 2 * 40 + 1), batch_size=2, window=40)
    assert text.steps_per_epoch == 2
    assert max(int(text.batch(2 * epoch).inputs[0, 0]) for epoch in range(20)) >= 40


def test_processes_share_the_rows_of_a_batch() -> None:
    whole = Streams(IDS, 6, 5, seed=1)
    shares = [Streams(IDS, 6, 5, seed=1, rank=rank, world=3) for rank in range(3)]
    for step in (0, 1, 50):
        together = np.concatenate([share.batch(step).inputs for share in shares])
        assert (together == whole.batch(step).inputs).all()


@given(st.integers(2, 500), st.integers(1, 60))
def test_the_largest_batch_fits_and_one_more_row_does_not(tokens: int, window: int) -> None:
    if tokens <= window:
        with pytest.raises(UnrolledError, match=f"has {tokens} tokens, but one window of {window} needs {window + 1}"):
            largest_batch(tokens, window)
        return
    rows = largest_batch(tokens, window)
    Streams(IDS[:tokens], rows, window).batch(0)
    with pytest.raises(UnrolledError, match=f"has {tokens} tokens, but {rows + 1} rows .* at most {rows} rows"):
        Streams(IDS[:tokens], rows + 1, window)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1"),
        ({"window": 0}, "window is 0"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        ({"world": 3}, "4 rows cannot be shared by 3 processes .* Choose a multiple of 3 rows"),
        ({"world": 2, "rank": 2}, "number 2 from 0"),
    ],
)
def test_numbers_out_of_range(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(UnrolledError, match=message):
        Streams(IDS, **({"batch_size": 4, "window": 5} | numbers))


def test_a_negative_step() -> None:
    with pytest.raises(UnrolledError, match="step is -1"):
        Streams(IDS, 4, 5).batch(-1)
