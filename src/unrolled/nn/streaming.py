"""One step at a time without gradients: what a step needs is made ready once and used until a weight changes."""

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from unrolled.engine import autocast_bf16
from unrolled.engine.native.single_step import ReadyStep, state_of
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights

MOST_ROWS = 64  # larger batches spend their time in the products, not in getting ready
_KEPT = 64  # steps that are kept ready for one module: its layers and directions, by thread and batch size

_ready: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[tuple[int, ...], ReadyStep]]] = WeakKeyDictionary()


def run_step(
    module: nn.RNNBase, weights: Weights, x: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step of all layers: x (batch, input) to (1, batch, output) and new states like `states`."""
    before = list(zip(*(state.unbind(0) for state in states), strict=True))
    after: list[list[Tensor]] = []
    for _ in range(module.num_layers):
        outputs = []
        for _ in range(2 if module.bidirectional else 1):
            number = len(after)
            after.append(_ready_step(module, number, weights[number], x, before[number])(x, before[number]))
            outputs.append(after[-1][0])
        x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
    # What the steps left lies in memory that they will use again: results are copies.
    return torch.stack([x]), tuple(torch.stack(parts) for parts in zip(*after, strict=True))


def _ready_step(
    module: nn.RNNBase, number: int, weights: Sequence[Tensor], x: Tensor, state: Sequence[Tensor]
) -> ReadyStep:
    kept = _ready.setdefault(module, {})
    bf16 = autocast_bf16()
    # A ready step has memory of its own, so no two threads may share it, and runs on as many threads as torch had.
    key = (threading.get_ident(), torch.get_num_threads(), number, len(x), bf16)
    now = state_of(weights)
    found = kept.get(key)
    if found is not None and found[0] == now and now:
        return found[1]
    program = program_of(module.mode, module.bias, module.proj_size > 0)
    ready = ReadyStep(program, gates(module.mode, program, weights), x, state, bf16)
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = (now, ready)
    return ready
