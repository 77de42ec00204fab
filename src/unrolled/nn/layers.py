"""All layers and directions of a module of torch.nn, each one run of the engine over time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from unrolled.nn.layout import Full, Layout

States = tuple[Tensor, ...]
RunOne = Callable[[int, Tensor, States, Tensor | None], tuple[Tensor, States]]
"""One layer in one direction, by its number: x, state and lengths, to outputs and final state."""


def run_layers(
    module: nn.RNNBase, run_one: RunOne, steps: Tensor, states: States, layout: Layout
) -> tuple[Tensor, States]:
    """Steps of the input to steps of the top layer, and the final states, each (layers x directions, batch, size).

    Dropout falls on the steps between layers in the order of memory that torch.nn has: the same seed, the same mask.
    """
    directions = 2 if module.bidirectional else 1
    final: list[States] = []
    for layer in range(module.num_layers):
        outputs = []
        for backwards in range(directions):
            number = len(final)
            of_layer = tuple(state[number] for state in states)
            batch, after = run_one(number, layout.batch_of(steps, bool(backwards)), of_layer, layout.lengths)
            outputs.append(layout.steps_of(batch, bool(backwards)))
            final.append(after)
        steps = torch.cat(outputs, -1) if directions > 1 else outputs[0]
        if module.dropout > 0 and module.training and layer < module.num_layers - 1:
            steps = dropout(steps.contiguous(), module.dropout)
    return steps, tuple(map(_stacked, zip(*final, strict=True)))


def over_time(module: nn.RNNBase, run_one: RunOne, x: Tensor, states: States) -> tuple[Tensor, States]:
    """`run_layers` for x and states as torch.nn takes them: a full batch, or one sequence alone."""
    if x.dim() == 2:
        states = tuple(s.unsqueeze(1) for s in states)
        steps, states = run_layers(module, run_one, x.unsqueeze(1), states, Full())
        return steps.squeeze(1), tuple(s.squeeze(1) for s in states)
    steps, states = run_layers(module, run_one, x.transpose(0, 1) if module.batch_first else x, states, Full())
    return steps.transpose(0, 1) if module.batch_first else steps.contiguous(), states


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)
