"""The step of a model by the native engine: weights packed once, then tokens in and tokens out."""

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.native import library
from unrolled.engine.native.draft import Draft
from unrolled.engine.native.plan import PARAMETER, Memory, padded
from unrolled.engine.quantized import quantize
from unrolled.engine.step_parts import StepParts

_BEFORE, _AFTER, _INPUT = Memory(table=0), Memory(table=1), Memory(table=-1)
_WORTH_A_THREAD = 100_000  # multiply-adds of a step that take longer than the threads' waiting for each other

Floats = NDArray[np.float32]


class Stream(ctypes.Structure):
    """`unrolled_stream` of the header."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("state", "logits", "tokens")),
        *((name, ctypes.c_int64) for name in ("before", "wanted")),
        *((name, ctypes.c_double) for name in ("repetition_penalty", "temperature", "log_min_p", "top_p")),
        *((name, ctypes.c_int64) for name in ("repetition_window", "top_k")),
        *((name, ctypes.c_uint64) for name in ("seed", "counter")),
        *((name, ctypes.c_int64) for name in ("written", "bad_logits")),
    ]


class _Description(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("plan", "matrix", "fixed")),
        *((name, ctypes.c_int32) for name in ("states", "inputs", "logits", "state_stages", "int8")),
        *((name, ctypes.c_void_p) for name in ("state_before", "state_after", "input", "table")),
    ]


@dataclass
class Job:
    """One stream's part of a call of `write`; the arrays and `counter` change."""

    state: Floats
    """(state_size,)"""
    logits: Floats
    """(vocabulary,): of the next token."""
    recent: NDArray[np.int32]
    """The tokens before, which the repetition penalty looks at."""
    wanted: int
    """How many tokens to write."""
    settings: dict[str, float]
    """repetition_penalty, repetition_window, temperature, top_k, log_min_p, top_p, seed."""
    counter: int
    """How many random numbers were drawn before."""
    bad_logits: int = 0
    """After the call: how many logits were not finite; then fewer tokens than wanted came."""


class NativeDecoder:
    """Reads tokens into states, and writes tokens. Raises NativeError where the library is not there."""

    def __init__(self, parts: StepParts, *, int8: bool = False) -> None:
        """`int8`: products in whole numbers of 8 bits, of weights and of rounded vectors."""
        program = parts.program
        *states, logits = program.states
        outside = {
            **dict.fromkeys(parts.vectors, PARAMETER),
            **{state.name: _BEFORE for state in states},
            **dict.fromkeys(parts.tables, _INPUT),
        }
        draft = Draft("step", parts.instructions, parts.shapes, outside)
        after: list[str] = []
        for state, output in zip(program.states, program.outputs, strict=True):
            after.append(draft.see(output, _AFTER, state.shape, taken=after))
        self.plan = plan = draft.plan(parts.widths, 2)
        self.vocabulary_size = parts.width(logits.name)
        self.state_size = sum(parts.state_widths)
        self.threads = thread_count()
        """At most so many threads run a step."""
        self._keep: list[Any] = []
        self._handle = ctypes.c_void_p()

        names = list(plan.memory)
        if any(state.name not in names for state in states):
            raise library.NativeError("a state that no equation reads")
        own = [_rows(parts.vectors[n][None]) if m == PARAMETER else None for n, m in plan.memory.items()]
        self.fixed: list[Floats | None] = [*own, *plan.constants]
        pack = _packed_int8 if int8 else _packed
        self.matrices = [pack(parts.matrices[name], parts.scales[name]) for name, _ in plan.matrices]
        self.tables = [_rows(table) for table in parts.tables.values()]
        self.lists = tuple(
            np.array([names.index(name) for name in some], np.int32)
            for some in ([state.name for state in states], after[:-1], list(parts.tables))
        )
        stages = [stage.dimension == logits.shape[0] for stage in plan.stages]
        last = stages.index(True) if stages == sorted(stages) and any(stages) else len(stages)
        self.description = description = _Description(
            plan.handle,
            self._pointers(self.matrices),
            self._pointers(self.fixed),
            *(len(states), len(self.tables), names.index(after[-1]), last, int(int8)),
            *(line.ctypes.data for line in self.lists),
            self._pointers(self.tables),
        )
        self.weight_bytes = sum(array.nbytes for array in [*self.matrices, *self.fixed] if array is not None)
        """What a step reads: packed matrices and vectors, without the table."""
        library.call("unrolled_decoder_create", ctypes.byref(description), ctypes.byref(self._handle))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library.library().unrolled_decoder_destroy(self._handle)

    def read(self, states: Sequence[Floats], tokens: NDArray[np.int32], *, every: bool = False) -> Floats:
        """As `NumpyDecoder.read`."""
        rows, steps = tokens.shape
        tokens = np.ascontiguousarray(tokens, np.int32)
        logits = np.empty((rows, steps, self.vocabulary_size) if every else (rows, self.vocabulary_size), np.float32)
        places = library.addresses([_address(state, self.state_size) for state in states])
        library.call(
            "unrolled_decoder_read",
            *(self._handle, rows, steps, ctypes.c_void_p(tokens.ctypes.data), places),
            *(ctypes.c_void_p(logits.ctypes.data), int(every), self._threads(rows)),
        )
        return logits

    def write(self, jobs: Sequence[Job]) -> list[NDArray[np.int32]]:
        """The next tokens of each job, advanced together; what a job gets does not depend on the others."""
        tokens = [np.concatenate([job.recent, np.zeros(job.wanted, np.int32)]).astype(np.int32) for job in jobs]
        streams = [
            Stream(
                state=_address(job.state, self.state_size),
                logits=_address(job.logits, self.vocabulary_size),
                tokens=line.ctypes.data,
                before=len(job.recent),
                wanted=job.wanted,
                counter=job.counter,
                **job.settings,
            )
            for job, line in zip(jobs, tokens, strict=True)
        ]
        places = library.addresses([ctypes.addressof(stream) for stream in streams])
        library.call("unrolled_decoder_write", self._handle, places, len(jobs), self._threads(len(jobs)))
        for job, stream in zip(jobs, streams, strict=True):
            job.counter, job.bad_logits = stream.counter, stream.bad_logits
        return [line[s.before : s.before + s.written] for line, s in zip(tokens, streams, strict=True)]

    def _threads(self, rows: int) -> int:
        return max(1, min(self.threads, rows * self.plan.work // _WORTH_A_THREAD))

    def _pointers(self, arrays: Sequence[Floats | None]) -> int:
        self._keep.append(library.addresses([0 if a is None else a.ctypes.data for a in arrays]))
        return ctypes.addressof(self._keep[-1])


def choose(logits: Floats, job: Job) -> int:
    """The token that the engine chooses for `job` from `logits`; -1 if some are not finite."""
    recent = np.ascontiguousarray(job.recent, np.int32)
    stream = Stream(tokens=recent.ctypes.data, before=len(recent), counter=job.counter, **job.settings)
    logits = np.ascontiguousarray(logits, np.float32)
    function = library.library().unrolled_choose
    token = function(ctypes.c_void_p(logits.ctypes.data), ctypes.c_int64(len(logits)), ctypes.byref(stream))
    job.counter, job.bad_logits = stream.counter, stream.bad_logits
    return int(token)


def thread_count() -> int:
    """As many threads as torch has, where it runs; else UNROLLED_THREADS, OMP_NUM_THREADS or the cores at hand."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    for name in ("UNROLLED_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit() and int(os.environ[name]) > 0:
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _address(array: Floats, size: int) -> int:
    if array.dtype != np.float32 or array.shape != (size,) or not array.flags.c_contiguous or not array.flags.writeable:
        raise library.NativeError(f"an array of {size} float32 was expected, {array.dtype} {array.shape} came.")
    return int(array.ctypes.data)


def _aligned(floats: int) -> Floats:
    """Zeros on pages of their own; among what loading leaves on the heap, they would keep that in memory."""
    return np.frombuffer(mmap(-1, max(1, 4 * floats)), np.float32, floats)


def _rows(values: NDArray[Any]) -> Floats:
    """The rows (n, width) in the engine's padded form."""
    rows, width = values.shape
    result = _aligned(rows * padded(width)).reshape(rows, padded(width))
    result[:, :width] = values
    return result


def _packed_int8(matrix: NDArray[Any], scales: Floats) -> Floats:
    if not np.isfinite(matrix).all():
        raise library.NativeError("weights that are not finite numbers have no 8-bit form")
    values = quantize(matrix, scales)
    result = _aligned(-(-library.library().unrolled_int8_size(*values.shape) // 4))
    library.call(
        *("unrolled_int8_pack", values.ctypes.data, scales.ctypes.data),
        *(*values.shape, values.shape[1], result.ctypes.data),
    )
    return result


def _packed(matrix: NDArray[Any], _scales: Floats) -> Floats:
    matrix = matrix.astype(np.float32, copy=False)
    result = _aligned(library.library().unrolled_packed_size(*matrix.shape, library.FP32))
    strides = [stride // 4 for stride in matrix.strides]
    library.call("unrolled_pack", matrix.ctypes.data, *matrix.shape, *strides, result.ctypes.data, thread_count())
    return result
