"""Running a cell over time in the native library: memory for the tapes of its shapes, forward and backward."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.joined import addresses as addresses_of
from unrolled.engine.joined import names_of
from unrolled.engine.native.arrays import Vectors
from unrolled.engine.native.backward import record_backward
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.forward import record_forward
from unrolled.engine.native.library import BLOCK
from unrolled.engine.native.packs import Packs
from unrolled.engine.native.recording import Recorded, trace_layout
from unrolled.engine.native.rows import Rows, capacity_of
from unrolled.engine.native.workspace import empty, result, slab, zeros
from unrolled.errors import UnrolledError

_KEPT = 64  # tapes that are kept for one cell, those used last

Parameters = Mapping[str, Tensor]


def forward(
    cell: CompiledCell,
    vectors: Vectors,
    packs: Packs,
    rows: Rows,
    x: Tensor,
    state: Sequence[Tensor],
    keep: bool,
    index: np.ndarray | None = None,
    time_first: bool = False,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Outputs (batch, time, size), in memory with time first if `time_first`, or packed as x is; final states
    (batch, size); the trace, empty unless `keep`. `vectors` are those of the parameters.

    With an `index`, from `index_of`, x is a table.
    """
    x = _dense(x)
    state = [_dense(s) for s in state]
    threads, words = torch.get_num_threads(), None if index is None else len(x)
    width = cell.width(cell.states[0])
    outputs = _zeros_where_short(rows, width, time_first)
    recorded = _recorded(cell, record_forward, (rows.frame, keep, threads, words))
    final = [empty(rows.batch, cell.width(name)) for name in cell.states]
    room = rows.total if rows.packed else rows.batch * rows.time
    trace = slab(trace_floats(cell, rows.batch, room, words) if keep else 0)
    work = slab(recorded.work)
    of_states = zip(names_of("state", " ".join(cell.states)), (s.stride()[:1] for s in state), strict=True)
    strides = (("x", x.stride()[:2]), ("outputs", rows.dense(width, time_first)), *of_states)
    addresses = _addresses(index) | {
        "x": x.data_ptr(),
        "outputs": outputs.data_ptr(),
        "trace": trace.data_ptr(),
        "work": work.data_ptr(),
    }
    addresses.update(vectors.addresses)
    addresses.update(_of_states("state", cell, state))
    addresses.update(_of_states("final", cell, final))
    tables = recorded.of_rows(rows, strides)  # kept until the tape has been played: other threads use the rows too
    addresses.update(tables.addresses)
    _play(recorded, packs, addresses)
    return outputs, final, trace


def backward(
    cell: CompiledCell,
    vectors: Vectors,
    packs: Packs,
    rows: Rows,
    trace: Tensor,
    d_outputs: Tensor,
    d_final: Sequence[Tensor],
    like: Parameters,
    of_input: bool,
    index: np.ndarray | None = None,
    words: int | None = None,
    time_first: bool = False,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """The gradients of the input (empty unless asked for), the initial states and the parameters, which are joined
    as those of `like` are.

    With an `index`, that of the input is the gradient of a table of so many `words`; else it is in memory with time
    first if `time_first`.
    """
    d_outputs = _dense(d_outputs)
    d_final = [d.contiguous() for d in d_final]
    threads = torch.get_num_threads()
    d_x = empty(0)
    if of_input and words is None:
        d_x = _zeros_where_short(rows, cell.input_width, time_first)
    elif of_input:
        d_x = empty(words or 0, cell.input_width)
    recorded = _recorded(cell, record_backward, (rows.frame, of_input, threads, words))
    d_state = [empty(rows.batch, cell.width(name)) for name in cell.states]
    gradients = {key: _gradient(key, value, recorded.written) for key, value in like.items()}
    work, sums = slab(recorded.work), zeros(recorded.sums)
    addresses = _addresses(index) | {
        "d_outputs": d_outputs.data_ptr(),
        "d_x": d_x.data_ptr(),
        "trace": trace.data_ptr(),
    }
    addresses.update({"work": work.data_ptr(), "sums": sums.data_ptr()})
    addresses.update(vectors.addresses)
    addresses.update(addresses_of("gradient", gradients))
    addresses.update(_of_states("d_final", cell, d_final))
    addresses.update(_of_states("d_state", cell, d_state))
    strides = (("d_outputs", d_outputs.stride()[:2]), ("d_x", rows.dense(cell.input_width, time_first)))
    tables = recorded.of_rows(rows, strides)
    addresses.update(tables.addresses)
    for number, piece in enumerate(rows.pieces):
        addresses[f"trace, piece {number}"] = addresses["trace"] + 4 * BLOCK * piece.start
        addresses[f"index, piece {number}"] = addresses.get("index", 0) + 8 * piece.start
    _play(recorded, packs, addresses)
    return d_x, d_state, gradients


def trace_floats(cell: CompiledCell, batch: int, total: int, words: int | None = None) -> int:
    """The size of a trace of so many sequences, and rows of all steps together."""
    return trace_layout(cell, batch, capacity_of(total), words).floats


def index_of(rows: Rows, tokens: Tensor, words: int) -> np.ndarray:
    """(rows,): of each packed row of `tokens` (batch, time) the row of a table.

    Raises UnrolledError for a token that is no row of `words`.
    """
    packed = tokens.contiguous().numpy().reshape(-1)[rows.places((rows.time, 1))]
    if len(packed) and not 0 <= int(packed.min()) <= int(packed.max()) < words:
        reach = f"from {packed.min()} to {packed.max()}"
        raise UnrolledError(f"tokens reach {reach}; the table has {words} rows, numbered from 0.")
    return np.asarray(packed)


def _recorded(cell: CompiledCell, record: Callable[..., Recorded], shape: tuple[Any, ...]) -> Recorded:
    """The tape of these shapes, kept for each Python thread its own."""
    kept = cell.tapes
    key = (record, shape, threading.get_ident())
    found: Recorded = kept.pop(key, None) or record(cell, *shape)
    kept[key] = found
    if len(kept) > _KEPT:
        oldest, *_ = kept
        kept.pop(oldest, None)
    return found


def _play(recorded: Recorded, packs: Packs, addresses: dict[str, int]) -> None:
    packed, there = packs.find(recorded.matrices)
    addresses["packed"] = packed.data_ptr()
    addresses.update(packs.addresses)
    recorded.tape.place(addresses)
    recorded.tape.play(1 if there else 0)
    if not there:
        packs.keep(recorded.matrices, packed)


def _addresses(index: np.ndarray | None) -> dict[str, int]:
    return {} if index is None else {"index": index.ctypes.data}


def _of_states(kind: str, cell: CompiledCell, states: Sequence[Tensor]) -> "zip[tuple[str, int]]":
    return zip(names_of(kind, " ".join(cell.states)), map(Tensor.data_ptr, states), strict=True)


def _dense(values: Tensor) -> Tensor:
    """`values`, or a copy, with neighbours of the last dimension side by side."""
    return values if values.stride(-1) == 1 else values.contiguous()


def _zeros_where_short(rows: Rows, width: int, time_first: bool) -> Tensor:
    """Memory for (batch, time, width), zero where a sequence is shorter, or for packed rows."""
    if rows.packed:
        return result(rows.total, width)
    if time_first:
        values = result(rows.time, rows.batch, width).transpose(0, 1)
    else:
        values = result(rows.batch, rows.time, width)
    return values.zero_() if rows.total < rows.batch * rows.time else values


def _gradient(key: str, like: Tensor, written: frozenset[str]) -> Tensor:
    return empty(*like.shape) if written.issuperset(key.split()) else zeros(*like.shape)
