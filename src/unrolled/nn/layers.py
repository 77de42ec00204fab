"""All layers and directions of a module of torch.nn, each one run of the engine over time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

States = tuple[Tensor, ...]
RunOne = Callable[[int, Tensor, States, Tensor | None, bool], tuple[Tensor, States]]
"""One layer in one direction, by its number: x, state, lengths, and whether backwards, to outputs and final state."""


def run_layers(
    module: nn.RNNBase, run_one: RunOne, steps: Tensor, states: States, lengths: Tensor | None
) -> tuple[Tensor, States]:
    """Steps of the input, (time, batch, feature) or with `lengths` packed, to steps of the top layer, and the final
    states, each (layers x directions, batch, size).

    Dropout falls on the steps between layers in the order of memory that torch.nn has: the same seed, the same mask.
    """
    directions = 2 if module.bidirectional else 1
    final: list[States] = []
    for layer in range(module.num_layers):
        x, outputs = steps if steps.dim() == 2 else steps.transpose(0, 1), []
        for backwards in range(directions):
            number = len(final)
            of_layer = tuple(state[number] for state in states)
            found, after = run_one(number, x, of_layer, lengths, backwards > 0)
            outputs.append(found if found.dim() == 2 else found.transpose(0, 1))
            final.append(after)
        steps = torch.cat(outputs, -1) if directions > 1 else outputs[0]
        if module.dropout > 0 and module.training and layer < module.num_layers - 1:
            steps = dropout(steps.contiguous(), module.dropout)
    return steps, tuple(map(_stacked, zip(*final, strict=True)))


def over_time(module: nn.RNNBase, run_one: RunOne, x: Tensor, states: States) -> tuple[Tensor, States]:
    """`run_layers` for x and states as torch.nn takes them: a full batch, or one sequence alone."""
    if x.dim() == 2:
        states = tuple(s.unsqueeze(1) for s in states)
        steps, states = run_layers(module, run_one, x.unsqueeze(1), states, None)
        return steps.squeeze(1), tuple(s.squeeze(1) for s in states)
    steps, states = run_layers(module, run_one, x.transpose(0, 1) if module.batch_first else x, states, None)
    return steps.transpose(0, 1) if module.batch_first else steps.contiguous(), states


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)
