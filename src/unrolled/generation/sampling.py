"""The settings by which the next token is chosen; the rules that follow them are in `choice.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from unrolled.errors import UnrolledError


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token from a model's logits; the fields stand in the order they are applied.

    Errors: `UnrolledError` if a field is outside its range.

    >>> Sampling(temperature=0).top_p
    1.0
    """

    repetition_penalty: float = 1.0
    """0.01 to 100. Tokens of the window get less likely above 1, more likely below (Keskar et al. 2019, CTRL)."""
    repetition_window: int = 64
    """1 to 65,536. How many of the latest tokens, the prompt's included, `repetition_penalty` acts on."""
    temperature: float = 0.8
    """0 to 100. Below 1 the likely tokens gain, above 1 the unlikely ones; 0 always takes the likeliest."""
    top_k: int = 0
    """Keeps the k likeliest tokens; 0 keeps all."""
    min_p: float = 0.0
    """0 to 1. Keeps tokens at least this many times as likely as the likeliest (Nguyen et al. 2024)."""
    top_p: float = 1.0
    """Above 0, up to 1. Keeps the likeliest tokens that together have this share (Holtzman et al. 2020)."""
    seed: int = 0
    """0 to 2**64 - 1. Equal seeds give equal texts."""

    def __post_init__(self) -> None:
        for name, (kind, allows, expected) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) or not allows(value):
                raise UnrolledError(f"{name} is {value!r}; it must be {expected}.")


# Name -> type, test, and the words of the message. The bounds far out keep float64 from overflowing.
_RANGES: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "repetition_penalty": (
        Real,
        lambda value: 0.01 <= value <= 100,
        "a number from 0.01 to 100; 1 is no penalty, 1.2 a usual one",
    ),
    "repetition_window": (
        Integral,
        lambda value: 1 <= value <= 65_536,
        "a whole number from 1 to 65536; for no penalty set repetition_penalty to 1",
    ),
    "temperature": (
        Real,
        lambda value: 0 <= value <= 100,
        "a number from 0 to 100; 0 always takes the likeliest token, 0.8 is usual",
    ),
    "top_k": (Integral, lambda value: value >= 0, "a whole number of at least 0; 0 keeps all tokens"),
    "min_p": (Real, lambda value: 0 <= value <= 1, "a number from 0 to 1; 0 keeps all tokens"),
    "top_p": (Real, lambda value: 0 < value <= 1, "a number above 0 and up to 1; 1 keeps all tokens"),
    "seed": (Integral, lambda value: 0 <= value < 2**64, "a whole number from 0 to 18446744073709551615"),
}
