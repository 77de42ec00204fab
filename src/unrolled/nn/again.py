"""Calls without gradients: what they need is made ready once and used until a weight changes.

A call like one before it, in kind and shapes, with the same weights and engine, needs no further check: `run_again`.
"""

import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from unrolled.engine import autocast_bf16, separate, wanted_engine
from unrolled.engine.native.ready import ReadyLayer, Seen
from unrolled.engine.native.single_step import ReadyStep
from unrolled.engine.native.workspace import nothing
from unrolled.nn.layers import over_time
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights, weights_of

_MOST_ROWS = 64  # of a step by itself; larger batches spend their time in the products, not in getting ready
_KEPT = 64  # calls that are kept ready for one module, by thread and sizes

Key = tuple[Any, ...]
States = tuple[Tensor, ...]


class _Steps:
    """All layers over time, ready for any number of steps."""

    def __init__(self, module: nn.RNNBase, weights: Weights, states: States, bf16: bool) -> None:
        program, keys = _equations(module)
        self._layers = [ReadyLayer(program, dict(zip(keys, layer, strict=True)), bf16) for layer in weights]
        self._zeros = tuple(nothing(*state.shape) for state in states)

    def __call__(self, module: nn.RNNBase, x: Tensor, states: States) -> tuple[Tensor, States]:
        return over_time(module, lambda number, *given: self._layers[number](*given), x, states or self._zeros)


class _Step:
    """One step of all layers."""

    def __init__(self, module: nn.RNNBase, weights: Weights, x: Tensor, states: States, bf16: bool) -> None:
        program, keys = _equations(module)
        named = [separate(dict(zip(keys, layer, strict=True))) for layer in weights]
        directions = 2 if module.bidirectional else 1
        layers = [named[first : first + directions] for first in range(0, len(named), directions)]
        self._ready = ReadyStep(program, layers, x, states, bf16)
        self._zeros = tuple(nothing(*state.shape) for state in states)

    def __call__(self, _module: nn.RNNBase, x: Tensor, states: States) -> tuple[Tensor, States]:
        return self._ready(x, states or self._zeros)


_ready: WeakKeyDictionary[nn.Module, dict[Key, tuple[Seen, _Step | _Steps]]] = WeakKeyDictionary()


def run_ready(module: nn.RNNBase, weights: Weights, x: Tensor, states: States) -> tuple[Tensor, States]:
    """All layers without gradients: x and states as torch.nn takes them, to output and new states."""
    kept, (key, one_step) = _ready.setdefault(module, {}), _key(module, x, states)
    flat = list(chain.from_iterable(weights))
    found = kept.get(key)
    if found is None or not found[0].unchanged(flat):
        if len(kept) >= _KEPT:
            kept.clear()
        bf16 = autocast_bf16()
        made = _Step(module, weights, x, states, bf16) if one_step else _Steps(module, weights, states, bf16)
        found = kept[key] = kept[_key(module, x, ())[0]] = (Seen(flat), made)
    return found[1](module, x, states)


def run_again(module: nn.RNNBase, x: Any, hx: Any) -> tuple[Tensor, States] | None:
    """As `run_ready` if a call just like this is ready, else None. Without gradients, dropout or autocast."""
    kept, states = _ready.get(module), () if hx is None else hx if module.mode == "LSTM" else (hx,)
    if kept is None or type(states) is not tuple or not all(map(_plain, (x, *states))):
        return None
    found = kept.get(_key(module, x, states)[0]) if x.dim() > 1 else None
    if found is None or wanted_engine() == "reference":
        return None
    weights = list(chain.from_iterable(weights_of(module)))
    return found[1](module, x, states) if found[0].unchanged(weights) else None


def _key(module: nn.RNNBase, x: Tensor, states: Sequence[Tensor]) -> tuple[Key, bool]:
    """What a call must have in common with one that is ready, and whether it is of one step by itself."""
    sizes: tuple[Any, ...] = x.shape
    time = 1 if module.batch_first and len(sizes) == 3 else 0
    one_step = sizes[time] < 2 and (len(sizes) == 2 or sizes[1 - time] <= _MOST_ROWS or sizes[time] == 0)
    if not one_step:  # any number of steps but 0, which torch refuses
        sizes = (None, *sizes[:time], *sizes[time + 1 :])
    # Ready calls have memory of their own, so no two threads may share one, and run on as many threads as torch had.
    thread, threads = threading.get_ident(), torch.get_num_threads()
    kind = (module.batch_first, torch.is_autocast_enabled("cpu"))
    return (thread, threads, kind, sizes, *[state.shape for state in states]), one_step


def _equations(module: nn.RNNBase) -> tuple[Any, tuple[str, ...]]:
    kind = module.mode, module.bias, module.proj_size > 0
    return program_of(*kind), gates(*kind)


def _plain(value: Any) -> bool:
    return type(value) is Tensor and value.dtype is torch.float32 and value.is_cpu and value.layout is torch.strided
