"""Parameters that stand under each other in one tensor, as the gates of torch.nn's layers do."""

import functools
from collections.abc import Mapping

from torch import Tensor


def separate(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every parameter by its own name, as a view.

    A key may be several names with blanks between: of parameters of one shape, whose rows are those of the tensor, one
    parameter after the other.
    """
    found: dict[str, Tensor] = {}
    for key, value in parameters.items():
        names = key.split()
        found.update(zip(names, value.chunk(len(names)) if len(names) > 1 else (value,), strict=True))
    return found


def addresses(kind: str, parameters: Mapping[str, Tensor]) -> dict[str, int]:
    """Where each of the contiguous parameters begins in memory, by "KIND NAME", without the views of `separate`."""
    found: dict[str, int] = {}
    for key, value in parameters.items():
        names = names_of(kind, key)
        first, size = value.data_ptr(), value.element_size() * value.numel()
        found.update(zip(names, range(first, first + size, size // len(names)), strict=True))
    return found


@functools.lru_cache(maxsize=4096)
def names_of(kind: str, key: str) -> tuple[str, ...]:
    """ "KIND NAME" for every name in a key."""
    return tuple(f"{kind} {name}" for name in key.split())
