"""The running average of a model's weights, which is judged and kept in the place of the weights themselves.

Source: Polyak & Juditsky 1992; with an exponential window: Tarvainen & Valpola 2017.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The mean of the weights that `module` had after the last steps, of which about `horizon` count."""

    def __init__(self, module: nn.Module) -> None:
        self._parameters = dict(module.named_parameters())
        self._means = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def add(self, step: int, horizon: float) -> None:
        """Take in the weights after step number `step`, from 0; before `horizon` steps all count alike."""
        share = 1 / min(step + 1.0, max(horizon, 1.0))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._means.values()), list(self._parameters.values()), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the module has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights by the parameters' names."""
        return dict(self._means)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors()` gave."""
        for name, mean in self._means.items():
            mean.copy_(tensors[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            own = parameter.clone()
            parameter.copy_(self._means[name])
            self._means[name].copy_(own)
