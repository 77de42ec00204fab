"""The forward pass of the drop-ins: whatever the native engine can take; the rest is left to torch.

None as a result means "torch's own forward": it takes what the engine does not, and refuses bad input in its words.
"""

import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import set_eval_frame
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import (
    autocast_bf16,
    bf16_products,
    engine_for,
    in_float32,
    lengths_of,
    tell_if_unusable,
    unroll,
    wanted_engine,
)
from unrolled.engine.followed import followed
from unrolled.engine.native.workspace import nothing
from unrolled.nn.again import run_again, run_ready
from unrolled.nn.layers import RunOne, over_time, run_layers
from unrolled.nn.programs import gates, program_of
from unrolled.nn.weights import Weights, weights_of

States = tuple[Tensor, ...]

_FEW_STEPS = {"RNN_TANH": 3, "RNN_RELU": 3, "GRU": 1}  # of which each costs torch less than one of its LSTM
_LITTLE = 1_000_000  # multiply-adds of a gate that do not tell against that


def forward(module: nn.RNNBase, input_: Any, hx: Any) -> tuple[Any, States] | None:
    """(output, final states) as torch's forward gives them, the states always as a tuple; None for torch's own."""
    if "torch._dynamo" in sys.modules:
        # torch.compile runs recurrent modules between its graphs, and must not trace what they call, unless told to.
        if torch.compiler.is_dynamo_compiling() and torch._dynamo.config.allow_rnn:
            return None
        if torch.compiler.is_dynamo_compiling() or _followed_by_compiler():
            return _untraced()(module, input_, hx)  # type: ignore[no-any-return]
    return _forward(module, input_, hx)


def _forward(module: nn.RNNBase, input_: Any, hx: Any) -> tuple[Any, States] | None:
    if _watched():
        return None
    dropping = module.training and module.dropout > 0 and module.num_layers > 1
    special = torch.is_autocast_enabled("cpu") or followed(())
    if torch.is_grad_enabled() and not special and _brief(module, input_) and wanted_engine() == "auto":
        return None
    again = None if special or dropping or torch.is_grad_enabled() else run_again(module, input_, hx)
    if again is not None:
        return again
    packed = isinstance(input_, PackedSequence)
    data, hx = in_float32(input_.data if packed else input_), in_float32(hx)
    if not _suits(data):
        return None
    weights = weights_of(module)
    if not all(map(_suits, chain(*weights))):
        return None
    if data.shape[-1] != module.input_size or 0 in data.shape or data.dim() not in ((2,) if packed else (2, 3)):
        return None
    lengths = lengths_of(input_.batch_sizes) if packed else None
    if packed and (lengths is None or lengths.total != len(data)):  # it may have been made by hand
        return None
    alone = not packed and data.dim() == 2
    batch = len(lengths.each) if lengths else 1 if alone else data.shape[0 if module.batch_first else 1]
    states = _states(module, data, hx, batch, alone)
    if states is None:
        return None
    engine = engine_for(data)
    if engine[0] != "native":
        tell_if_unusable(engine[1], "torch's own layers run in the place of unrolled.nn's")
        return None

    run_one = _each_layer(module, weights, engine)
    if lengths is not None:
        if hx is not None:
            states = tuple(_permuted(s, input_.sorted_indices) for s in states)
        if len(data) == batch * len(input_.batch_sizes):  # all are of one length
            steps, states = run_layers(module, run_one, data.unflatten(0, (-1, batch)), states, None)
            steps = steps.flatten(0, 1)
        else:
            steps, states = run_layers(module, run_one, data, states, lengths.each)
        output = PackedSequence(steps, input_.batch_sizes, input_.sorted_indices, input_.unsorted_indices)
        return output, tuple(_permuted(s, input_.unsorted_indices) for s in states)
    learning = torch.is_grad_enabled() and any(t.requires_grad for t in (data, *states, *chain(*weights)))
    if not (dropping or learning or followed((data,))):
        return run_ready(module, weights, data, states)
    return over_time(module, run_one, data, states)


def _each_layer(module: nn.RNNBase, weights: Weights, engine: tuple[str, str]) -> RunOne:
    kind = module.mode, module.bias, module.proj_size > 0
    program, keys = program_of(*kind), gates(*kind)

    def run_one(
        number: int, x: Tensor, state: States, lengths: Tensor | None, backwards: bool
    ) -> tuple[Tensor, States]:
        joined = dict(zip(keys, weights[number], strict=True))
        return unroll(program, joined, x, state, lengths, backwards=backwards, chosen=engine)

    return run_one


def _brief(module: nn.RNNBase, input_: Any) -> bool:
    """Whether torch learns from an input in less time than it takes to get to the engine and back."""
    if not isinstance(input_, Tensor) or input_.dim() not in (2, 3):
        return False
    steps = input_.shape[1 if module.batch_first and input_.dim() == 3 else 0]
    rows = input_.numel() // max(1, module.input_size)
    work = rows * module.hidden_size * (module.input_size + module.hidden_size)
    return steps <= _FEW_STEPS.get(module.mode, 0) and work < _LITTLE


def _followed_by_compiler() -> bool:
    # There is a function that only asks, but in some versions of torch it takes a reference to its answer away.
    follower = set_eval_frame(None)
    if follower is not None:
        set_eval_frame(follower)
    return follower is not None


def _untraced() -> Callable[..., Any]:
    if not _wrapped:  # at first use, for importing the compiler takes seconds
        _wrapped.append(torch.compiler.disable(_forward))  # type: ignore[no-untyped-call]
    return _wrapped[0]


_wrapped: list[Callable[..., Any]] = []


def _watched() -> bool:
    """Whether something follows the computation that only torch's own operations can tell what they do."""
    return (
        (torch.is_autocast_enabled("cpu") and not (autocast_bf16() and bf16_products()[0]))
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or ("torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export())
    )


def _suits(value: Any) -> bool:
    plain = type(value) in (Tensor, nn.Parameter) or (isinstance(value, Tensor) and torch.compiler.is_compiling())
    return plain and value.dtype == torch.float32 and value.is_cpu and value.layout == torch.strided


def _states(module: nn.RNNBase, data: Tensor, hx: Any, batch: int, alone: bool) -> States | None:
    """The initial states, each (layers x directions, batch, size), without the batch if `alone`; None if what came is
    not as torch wants it."""
    number = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size, *([module.hidden_size] if module.mode == "LSTM" else [])]
    shapes = [(number, size) if alone else (number, batch, size) for size in sizes]
    if hx is None:
        return tuple(data.new_zeros(shape) if followed((data,)) else nothing(*shape) for shape in shapes)
    given = hx if module.mode == "LSTM" else (hx,)
    if not isinstance(given, (tuple, list)) or len(given) != len(sizes) or not all(map(_suits, given)):
        return None
    return tuple(given) if [s.shape for s in given] == shapes else None


def _permuted(state: Tensor, order: Tensor | None) -> Tensor:
    return state if order is None else state.index_select(1, order)
