"""One step at a time without gradients: what a step needs is made ready once and used until a weight changes."""

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from unrolled.engine import autocast_bf16, separate
from unrolled.engine.native.single_step import ReadyStep, state_of
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights

MOST_ROWS = 64  # larger batches spend their time in the products, not in getting ready
_KEPT = 64  # steps that are kept ready for one module, by thread and batch size

_ready: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[tuple[int, ...], ReadyStep]]] = WeakKeyDictionary()


def run_step(
    module: nn.RNNBase, weights: Weights, x: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step of all layers: x and states as torch.nn takes them, with one step, to output and new states."""
    kept = _ready.setdefault(module, {})
    bf16 = autocast_bf16()
    # A ready step has memory of its own, so no two threads may share it, and runs on as many threads as torch had.
    key = (threading.get_ident(), torch.get_num_threads(), x.numel(), bf16)
    now = state_of([weight for layer in weights for weight in layer])
    found = kept.get(key)
    if found is None or found[0] != now or not now:
        if len(kept) >= _KEPT:
            kept.clear()
        found = kept[key] = (now, _ready_step(module, weights, x, states, bf16))
    return found[1](x, states)


def _ready_step(module: nn.RNNBase, weights: Weights, x: Tensor, states: Sequence[Tensor], bf16: bool) -> ReadyStep:
    program = program_of(module.mode, module.bias, module.proj_size > 0)
    named = [separate(gates(module.mode, program, layer)) for layer in weights]
    directions = 2 if module.bidirectional else 1
    layers = [named[first : first + directions] for first in range(0, len(named), directions)]
    return ReadyStep(program, layers, x, states, bf16)
