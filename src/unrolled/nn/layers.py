"""All layers and directions of a module of torch.nn, each one run of the engine over time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from unrolled.engine import unroll
from unrolled.nn.layout import Layout
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights


def run_layers(
    module: nn.RNNBase, weights: Weights, steps: Tensor, states: tuple[Tensor, ...], layout: Layout
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Steps of the input to steps of the top layer, and the final states, each (layers x directions, batch, size).

    Dropout falls on the steps between layers in the order of memory that torch.nn has: the same seed, the same mask.
    """
    kind = module.mode, module.bias, module.proj_size > 0
    program, keys = program_of(*kind), gates(*kind)
    directions = 2 if module.bidirectional else 1
    final: list[tuple[Tensor, ...]] = []
    for layer in range(module.num_layers):
        outputs = []
        for backwards in range(directions):
            number = len(final)
            batch, after = unroll(
                program,
                dict(zip(keys, weights[number], strict=True)),
                layout.batch_of(steps, bool(backwards)),
                tuple(state[number] for state in states),
                layout.lengths,
            )
            outputs.append(layout.steps_of(batch, bool(backwards)))
            final.append(after)
        steps = torch.cat(outputs, -1) if directions > 1 else outputs[0]
        if module.dropout > 0 and module.training and layer < module.num_layers - 1:
            steps = dropout(steps.contiguous(), module.dropout)
    return steps, tuple(map(_stacked, zip(*final, strict=True)))


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)
