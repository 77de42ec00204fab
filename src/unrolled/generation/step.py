"""One step of decoding with torch: tokens and a state in, the next token's logits and the state out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

State: TypeAlias = Any
"""What the model returns as its state, nested tuples of tensors; None before the first token."""


def step(model: "nn.Module", tokens: NDArray[np.int64], state: State = None) -> tuple[NDArray[np.float64], State]:
    """Reads `tokens`, shape (time,), after `state`; the logits, shape (vocabulary,), are of what follows them.

    Evaluation mode and inference mode hold during the call only, so a caller that trains the same model
    between two tokens notices nothing.
    """
    import torch

    device = next((parameter.device for parameter in model.parameters()), None)
    with torch.inference_mode(), _evaluation(model):
        logits, state = model(torch.from_numpy(tokens)[None].to(device), state)
        return logits[0, -1].cpu().double().numpy(), state


@contextmanager
def _evaluation(model: "nn.Module") -> Iterator[None]:
    # Each module's own flag comes back: a part that was frozen in evaluation mode stays so.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
