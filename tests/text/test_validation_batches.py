from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import UnrolledError
from unrolled.text import validation_batches

passes = st.tuples(st.integers(2, 200), st.integers(1, 12), st.integers(1, 30))


@given(passes)
def test_every_token_but_the_first_is_a_target_once(numbers: tuple[int, int, int]) -> None:
    tokens, batch_size, window = numbers
    seen = []
    for inputs, targets, lengths in validation_batches(np.arange(tokens, dtype=np.uint16), batch_size, window):
        assert inputs.dtype == targets.dtype == np.int64
        counted = np.arange(inputs.shape[1]) < lengths[:, None]
        assert (targets[counted] == inputs[counted] + 1).all()
        assert not inputs[~counted].any()
        assert not targets[~counted].any()
        seen += targets[counted].tolist()
    assert sorted(seen) == list(range(1, tokens))


@given(passes)
def test_rows_continue_and_only_the_last_batch_is_ragged(numbers: tuple[int, int, int]) -> None:
    tokens, batch_size, window = numbers
    batches = list(validation_batches(np.arange(tokens), batch_size, window))
    for batch, following in pairwise(batches):
        assert (batch.lengths == window).all()
        assert batch.inputs.shape == (min(batch_size, tokens - 1), window)
        assert (following.inputs[:, 0] == batch.targets[:, -1]).all()
    assert batches[-1].lengths.min() >= 1
    assert batches[-1].lengths.max() == batches[-1].inputs.shape[1] <= window + 1


@pytest.mark.parametrize("tokens", [0, 1])
def test_too_few_tokens(tokens: int) -> None:
    with pytest.raises(UnrolledError, match=f"validation text has {tokens} tokens, at least 2 are needed"):
        validation_batches(np.arange(tokens), 4, 5)


@pytest.mark.parametrize(("batch_size", "window"), [(0, 5), (4, 0)])
def test_numbers_below_one(batch_size: int, window: int) -> None:
    with pytest.raises(UnrolledError, match=f"of at least 1, not {batch_size} and {window}"):
        validation_batches(np.arange(9), batch_size, window)
