"""Parameters that stand under each other in one tensor, as the gates of torch.nn's layers do."""

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


def addresses(parameters: Mapping[str, Tensor]) -> dict[str, int]:
    """Where each parameter begins in memory, by its own name: what `separate` would show, without its views."""
    found: dict[str, int] = {}
    for key, value in parameters.items():
        names = key.split()
        first, size = value.data_ptr(), value.element_size() * value.stride(0) * (len(value) // len(names))
        found.update((name, first + at * size) for at, name in enumerate(names))
    return found
