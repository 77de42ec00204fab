"""The native library through ctypes: finding it, its structures, its errors. Its header: native/include/unrolled.h."""

import ctypes
import functools
import os
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char, c_char_p, c_float, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from unrolled.errors import UnrolledError

ABI = 11
BLOCK = 16
MESSAGE = 256
OK, NO_MEMORY = 0, 2
COPY, ACCUMULATE = 0, 17
FP32, BF16 = 0, 1  # precisions of products
CALL_RUN, CALL_PACK, CALL_COPY, CALL_ADD, CALL_OUTER = range(5)  # calls of a list
ROWS, BROADCAST, PER_THREAD, INDEXED, OUTSIDE = range(5)  # addressings


class NativeError(UnrolledError):
    """The native engine cannot do this, or refused what it was given."""


class Array(Structure):
    """`unrolled_array` of the header."""

    _fields_ = [("addressing", c_int32), ("table", c_int32), ("width", c_int64), ("stride", c_int64)]


class Instruction(Structure):
    """`unrolled_instruction` of the header."""

    _fields_ = [(name, c_int32) for name in ("opcode", "destination", "a", "b")]


class Product(Structure):
    """`unrolled_product` of the header."""

    _fields_ = [(name, c_int32) for name in ("matrix", "vector", "destination", "accumulate")]


class Stage(Structure):
    """`unrolled_stage` of the header."""

    _fields_ = [
        ("units", c_int64),
        *((name, c_int32) for name in ("first_product", "products", "first_instruction", "instructions")),
    ]


class PlanDescription(Structure):
    """`unrolled_plan_description` of the header."""

    _fields_ = [
        *(
            (name, c_int32)
            for name in ("arrays", "matrices", "registers", "products", "instructions", "stages", "tables")
        ),
        ("independent", c_int32),
        ("precision", c_int32),
        ("array", POINTER(Array)),
        ("product", POINTER(Product)),
        ("instruction", POINTER(Instruction)),
        ("stage", POINTER(Stage)),
        ("matrix_rows", POINTER(c_int64)),
        ("matrix_columns", POINTER(c_int64)),
    ]


class RunArguments(Structure):
    """`unrolled_run_arguments` of the header."""

    _fields_ = [
        ("steps", c_int64),
        ("active", c_void_p),
        ("offsets", c_void_p),
        ("array", c_void_p),
        ("array_rows", c_void_p),
        ("matrix", c_void_p),
        ("threads", c_int32),
        ("index", c_void_p),
        ("index_rows", c_int64),
        ("row_stride", c_void_p),
    ]


class Rows(Structure):
    """`unrolled_rows` of the header."""

    _fields_ = [("data", c_void_p), ("index", c_void_p), ("row_stride", c_int64), ("block_stride", c_int64)]


class Matrix(Structure):
    """`unrolled_matrix` of the header."""

    _fields_ = [
        ("matrix", c_void_p),
        *((name, c_int64) for name in ("rows", "columns", "row_stride", "column_stride")),
        ("packed", c_void_p),
    ]


def candidates() -> list[Path]:
    """Where the library may be: named by UNROLLED_NATIVE_LIBRARY, beside this file, or in a checkout's build folder."""
    named = os.environ.get("UNROLLED_NATIVE_LIBRARY")
    here = Path(__file__).resolve().parent
    found = [Path(named)] if named else []
    return [*found, here / "libunrolled.so", here.parents[3] / "build" / "native" / "libunrolled.so"]


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises NativeError with the reason where there is none."""
    path = next((path for path in candidates() if path.is_file()), None)
    if path is None:
        raise NativeError("the native engine is not built; with a C++ compiler and cmake, install again: pip install .")
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeError(f"the native engine at {path} does not load ({error}); build it again.") from error
    loaded.unrolled_instruction_set.restype = c_char_p
    if loaded.unrolled_abi() != ABI:
        raise NativeError(f"the native engine at {path} is of another version; build it again.")
    loaded.unrolled_packed_size.restype = c_int64
    loaded.unrolled_packed_size.argtypes = [c_int64, c_int64, c_int32]
    loaded.unrolled_fingerprint.restype = c_uint64
    loaded.unrolled_fingerprint.argtypes = [c_void_p, c_int64]
    loaded.unrolled_pack.argtypes = [c_void_p, *[c_int64] * 4, c_void_p, c_int32, c_char_p]
    loaded.unrolled_pack_all.argtypes = [c_void_p, c_int64, c_int32, c_int32, c_char_p]
    loaded.unrolled_copy_rows.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int32, c_int32, c_char_p]
    loaded.unrolled_add_rows.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int32, c_char_p]
    outer: list[Any] = [c_int32, *[c_void_p] * 3, *[c_int64] * 4, *[c_void_p] * 2, *[c_int32] * 3, c_char_p]
    loaded.unrolled_outer.argtypes = outer
    losses: list[Any] = [c_void_p, c_int32, c_void_p, c_int64, c_int64, c_float, c_void_p, c_int32, c_char_p]
    loaded.unrolled_cross_entropy.argtypes = losses
    loaded.unrolled_dropout.argtypes = [c_void_p, c_void_p, c_int64, c_uint64, c_int32, c_int32, c_char_p]
    decoder: list[Any] = [c_void_p, c_int64, c_int64, c_void_p, POINTER(c_void_p), c_void_p, c_int32, c_int32, c_char_p]
    loaded.unrolled_decoder_create.argtypes = [c_void_p, POINTER(c_void_p), c_char_p]
    loaded.unrolled_decoder_destroy.argtypes = [c_void_p]
    loaded.unrolled_decoder_destroy.restype = None
    loaded.unrolled_decoder_read.argtypes = decoder
    loaded.unrolled_decoder_write.argtypes = [c_void_p, POINTER(c_void_p), c_int64, c_int32, c_char_p]
    loaded.unrolled_int8_size.restype = c_int64
    loaded.unrolled_int8_size.argtypes = [c_int64, c_int64]
    loaded.unrolled_int8_pack.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_char_p]
    loaded.unrolled_choose.argtypes = [c_void_p, c_int64, c_void_p]
    loaded.unrolled_plan_create.argtypes = [POINTER(PlanDescription), POINTER(c_void_p), c_char_p]
    loaded.unrolled_plan_destroy.argtypes = [c_void_p]
    loaded.unrolled_plan_destroy.restype = None
    loaded.unrolled_plan_run.argtypes = [c_void_p, c_void_p, c_char_p]
    loaded.unrolled_play.argtypes = [c_void_p, c_int64, c_void_p, c_char_p]
    floats = POINTER(c_float)
    loaded.unrolled_pointwise.argtypes = [c_int32, floats, floats, floats, c_int64, c_char_p]
    return loaded


def instruction_set() -> str:
    """The instruction set the kernels were chosen for: baseline, avx2 or avx512."""
    return str(library().unrolled_instruction_set().decode())


def has_bf16() -> bool:
    """Whether this machine has products of bfloat16: AVX512_BF16, and the kernels of AVX-512 chosen."""
    return bool(library().unrolled_bf16())


def call(function: str, *arguments: object) -> None:
    """Call a function of the library that returns a status, and `check` it."""
    message = ctypes.create_string_buffer(MESSAGE)
    check(function, getattr(library(), function)(*arguments, message), message)


def check(function: str, status: int, message: "ctypes.Array[c_char]") -> None:
    """Raise NativeError with the library's message if a call failed, MemoryError where the system gave no memory."""
    if status != OK:
        kind = MemoryError if status == NO_MEMORY else NativeError
        raise kind(f"native engine, {function}: {message.value.decode(errors='replace')}.")


def addresses(values: Sequence[int]) -> ctypes.Array[c_void_p]:
    """A C array of pointers."""
    return (c_void_p * len(values))(*values)
