"""One step at a time without gradients: what a step needs is made ready once and used until a weight changes.

A step like one before it, in kind and shapes, with the same weights and engine, needs no further check: `step_again`.
"""

import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from unrolled.engine import autocast_bf16, separate, wanted_engine
from unrolled.engine.native.single_step import ReadyStep, Seen
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights, weights_of

MOST_ROWS = 64  # larger batches spend their time in the products, not in getting ready
_KEPT = 64  # steps that are kept ready for one module, by thread and sizes

Key = tuple[Any, ...]

_ready: WeakKeyDictionary[nn.Module, dict[Key, tuple[Seen, ReadyStep]]] = WeakKeyDictionary()


def run_step(
    module: nn.RNNBase, weights: Weights, x: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step of all layers: x and states as torch.nn takes them, with one step, to output and new states."""
    kept, key = _ready.setdefault(module, {}), _key(module, x, states)
    flat = list(chain.from_iterable(weights))
    found = kept.get(key)
    if found is None or not found[0].unchanged(flat):
        if len(kept) >= _KEPT:
            kept.clear()
        found = kept[key] = (Seen(flat), _ready_step(module, weights, x, states, autocast_bf16()))
    return found[1](x, states)


def step_again(module: nn.RNNBase, x: Any, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """The step as `run_step` if one just like it is ready, else None. Without gradients, dropout or autocast."""
    kept, states = _ready.get(module), hx if module.mode == "LSTM" else (hx,)
    if kept is None or type(states) is not tuple or not all(map(_plain, (x, *states))):
        return None
    found = kept.get(_key(module, x, states))
    if found is None or wanted_engine() == "reference":
        return None
    return found[1](x, states) if found[0].unchanged(list(chain.from_iterable(weights_of(module)))) else None


def _key(module: nn.RNNBase, x: Tensor, states: Sequence[Tensor]) -> Key:
    # A ready step has memory of its own, so no two threads may share it, and runs on as many threads as torch had.
    thread, threads = threading.get_ident(), torch.get_num_threads()
    kind = (module.batch_first, torch.is_autocast_enabled("cpu"))
    return thread, threads, kind, x.shape, *[state.shape for state in states]


def _plain(value: Any) -> bool:
    return type(value) is Tensor and value.dtype is torch.float32 and value.is_cpu and value.layout is torch.strided


def _ready_step(module: nn.RNNBase, weights: Weights, x: Tensor, states: Sequence[Tensor], bf16: bool) -> ReadyStep:
    kind = module.mode, module.bias, module.proj_size > 0
    program, keys = program_of(*kind), gates(*kind)
    named = [separate(dict(zip(keys, layer, strict=True))) for layer in weights]
    directions = 2 if module.bidirectional else 1
    layers = [named[first : first + directions] for first in range(0, len(named), directions)]
    return ReadyStep(program, layers, x, states, bf16)
