"""How much text at most, and what a model reads when there is no prompt."""

import sys

from unrolled.errors import UnrolledError

START = "\n"
"""A text may begin wherever a line may."""

_DEFAULT_CHARACTERS = 1000


def limits(characters: int | None, tokens: int | None) -> tuple[int, int]:
    """The limits of characters and tokens; without any, 1,000 characters.

    Raises UnrolledError if one is no whole number of at least 0.
    """
    for name, limit in (("characters", characters), ("tokens", tokens)):
        good = isinstance(limit, int) and not isinstance(limit, bool) and 0 <= limit <= sys.maxsize
        if limit is not None and not good:
            raise UnrolledError(f"{name} is {limit!r}; it must be a whole number from 0 to {sys.maxsize}.")
    if characters is None:
        characters = _DEFAULT_CHARACTERS if tokens is None else sys.maxsize
    return characters, sys.maxsize if tokens is None else tokens
