"""Drop-ins for torch.nn.RNN, LSTM and GRU that run on the native engine, and `accelerate`, which puts them in place."""

from typing import Any, TypeVar

from torch import nn

from unrolled.errors import UnrolledError
from unrolled.nn.forward import forward
from unrolled.nn.replace import replace_classes

__all__ = ["GRU", "LSTM", "RNN", "accelerate"]

Module = TypeVar("Module", bound=nn.Module)


class RNN(nn.RNN):
    """`torch.nn.RNN` on the native engine: the same constructor, weights, shapes and errors."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """As `torch.nn.RNN.forward`."""
        result = forward(self, input, hx)
        return super().forward(input, hx) if result is None else (result[0], result[1][0])


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` on the native engine: the same constructor, weights, shapes and errors."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """As `torch.nn.LSTM.forward`."""
        result = forward(self, input, hx)
        return super().forward(input, hx) if result is None else result


class GRU(nn.GRU):
    """`torch.nn.GRU` on the native engine: the same constructor, weights, shapes and errors."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """As `torch.nn.GRU.forward`."""
        result = forward(self, input, hx)
        return super().forward(input, hx) if result is None else (result[0], result[1][0])


def accelerate(module: Module) -> Module:
    """Turn every `torch.nn.RNN`, `LSTM` and `GRU` in a model into the drop-in of this package, in place.

    Weights (the same Parameter objects), hooks, parametrizations and the training mode stay as they are, and so does
    every other module; classes that somebody derived from torch's are left alone. Returns `module`, which may be such
    a layer itself. Raises UnrolledError if it is no `torch.nn.Module`.

    >>> import torch, unrolled
    >>> model = unrolled.accelerate(torch.nn.Sequential(torch.nn.LSTM(8, 16)))
    >>> type(model[0]).__module__
    'unrolled.nn'
    """
    if not isinstance(module, nn.Module):
        raise UnrolledError(f"accelerate takes a model, a torch.nn.Module; {type(module).__name__} came.")
    replace_classes(module, {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU})
    return module
