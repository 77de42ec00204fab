"""Dynamic evaluation: a model goes on learning from the text that it reads, after each part of it was judged.

The figure says how well a model adapts; it is not comparable with one of a model that stays as it is. The model that
has learned can go on writing in the manner of what it read.
Source: Krause et al. 2018, their rule with the root mean square of the gradients, here of those seen up to now.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unrolled.models import LanguageModel, detached
from unrolled.text import Told

_WINDOW = 32
_RATE = 1e-3
# The share of the way back to the trained weights that each step goes.
_RETURN = 1e-2


def dynamic_nats(
    model: LanguageModel, ids: NDArray[np.integer], device: str = "cpu", told: Told | None = None
) -> float:
    """The sum over all tokens of `ids` but the first of -ln p(token | those before it), in their order.

    `ids` is (tokens,); `model` stays as it is: a copy learns.
    """
    return _read(model, ids, device, told)[1]


def learned_from(
    model: LanguageModel, ids: NDArray[np.integer], device: str = "cpu", told: Told | None = None
) -> LanguageModel:
    """A copy of `model` that has learned from `ids` (tokens,) while it read them."""
    return _read(model, ids, device, told)[0]


def _read(
    model: LanguageModel, ids: NDArray[np.integer], device: str, told: Told | None
) -> tuple[LanguageModel, float]:
    learning = copy.deepcopy(model).eval()  # no dropout, which would only add noise to the figure
    parameters = list(learning.parameters())
    trained = [parameter.detach().clone() for parameter in parameters]
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    tokens = torch.from_numpy(np.asarray(ids).astype(np.int64)).to(device)
    total, state = 0.0, None
    for number, first in enumerate(range(0, len(tokens) - 1, _WINDOW)):
        targets = tokens[first + 1 : first + 1 + _WINDOW]
        logits, state = learning(tokens[first : first + len(targets)].unsqueeze(0), state)
        losses = functional.cross_entropy(logits[0], targets, reduction="none")
        total += float(losses.detach().double().sum())
        state = detached(state)
        gradients = torch.autograd.grad(losses.mean(), parameters)
        with torch.no_grad():
            for parameter, start, square, gradient in zip(parameters, trained, squares, gradients, strict=True):
                square.lerp_(gradient.square(), 1 / (number + 1))
                parameter.addcdiv_(gradient, square.sqrt().add_(1e-8), value=-_RATE)
                parameter.lerp_(start, _RETURN)
        if told is not None:
            told((first + len(targets)) / (len(tokens) - 1))
    return learning, total
