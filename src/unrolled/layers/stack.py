"""Layers on top of each other: the outputs of one are the input of the next."""

from typing import Any

from torch import Tensor, nn

from unrolled.errors import UnrolledError


class Stack(nn.Module):
    """`Stack(layer, layer, ...)`, from the input upwards; the state is a tuple of the layers' states.

    Any layer with `outputs, state = layer(x, state, lengths)` fits: Recurrent, Bidirectional, Dropout, a Stack.
    Raises UnrolledError if the sizes of neighbours do not fit.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        if not layers:
            raise UnrolledError("a Stack needs at least one layer.")
        self.layers = nn.ModuleList(layers)
        below: int | None = None
        for number, layer in enumerate(layers):
            takes = getattr(layer, "input_size", None)
            if None not in (below, takes) and below != takes:
                raise UnrolledError(f"layer {number} of the Stack takes {takes} features, the one below gives {below}.")
            below = getattr(layer, "output_size", below)
        self._output_size = below

    @property
    def input_size(self) -> int | None:
        """Features of one step of the input."""
        return next((layer.input_size for layer in self.layers if hasattr(layer, "input_size")), None)  # type: ignore[return-value]

    @property
    def output_size(self) -> int | None:
        """Features of one step of the output."""
        return self._output_size

    def forward(
        self, x: Tensor, state: tuple[Any, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """`x` (batch, time, input) -> outputs (batch, time, output) and one state per layer."""
        if state is not None and len(state) != len(self.layers):
            raise UnrolledError(
                f"the state of this Stack has {len(self.layers)} parts, one a layer; {len(state)} came."
            )
        new = []
        for layer, own in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, after = layer(x, own, lengths)
            new.append(after)
        return x, tuple(new)
