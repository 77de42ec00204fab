import math

import numpy as np
import pytest

from unrolled.errors import UnrolledError
from unrolled.generation import Sampling


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("repetition_penalty", 0, "0; it must be a number from 0.01 to 100; 1 is no penalty, 1.2 a usual one."),
        ("repetition_penalty", math.nan, "nan; it must be a number from 0.01 to 100"),
        ("repetition_window", 0, "0; it must be a whole number from 1 to 65536; for no penalty set"),
        ("repetition_window", 2.5, "2.5; it must be a whole number"),
        ("temperature", -0.5, "-0.5; it must be a number from 0 to 100; 0 always takes the likeliest token"),
        ("temperature", math.nan, "nan; it must be a number"),
        ("temperature", math.inf, "inf; it must be a number"),
        ("temperature", 10**400, "it must be a number"),
        ("temperature", "hot", "'hot'; it must be a number"),
        ("temperature", None, "None; it must be a number"),
        ("top_k", -1, "-1; it must be a whole number of at least 0; 0 keeps all tokens."),
        ("top_k", 4.0, "4.0; it must be a whole number"),
        ("top_k", True, "True; it must be a whole number"),
        ("min_p", 1.1, "1.1; it must be a number from 0 to 1; 0 keeps all tokens."),
        ("min_p", math.nan, "nan; it must be a number"),
        ("top_p", 0, "0; it must be a number above 0 and up to 1; 1 keeps all tokens."),
        ("top_p", 1.5, "1.5; it must be a number"),
        ("seed", -1, "-1; it must be a whole number from 0 to 18446744073709551615."),
        ("seed", 2**64, "it must be a whole number"),
    ],
)
def test_absurd_settings_say_what_came_and_what_is_expected(name: str, value: object, message: str) -> None:
    with pytest.raises(UnrolledError) as error:
        Sampling(**{name: value})
    assert str(error.value).startswith(f"{name} is ")
    assert message in str(error.value)


def test_the_ends_of_the_ranges_and_numpy_numbers_are_allowed() -> None:
    Sampling(temperature=0, top_k=0, min_p=0, top_p=1, seed=0, repetition_window=1, repetition_penalty=0.01)
    Sampling(temperature=100, top_k=10**30, min_p=1, top_p=1e-300, seed=2**64 - 1, repetition_window=65_536)
    Sampling(temperature=np.float32(0.5), top_k=np.int64(3), seed=np.uint64(2**64 - 1))
