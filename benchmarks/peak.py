"""The fp32 peak of this machine: what its cores reach in multiply-adds on registers, measured by the native library."""

import ctypes
import time

import torch

from unrolled.engine.native import library


def peak(seconds: float = 1.0) -> float:
    """GFLOP/s of as many threads as torch uses: the best of many short runs."""
    measure = library.library().unrolled_multiply_adds
    measure.argtypes = [ctypes.c_int64, ctypes.c_int32]
    measure.restype = ctypes.c_double
    rounds, best = 200_000, 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        operations = measure(rounds, torch.get_num_threads())
        best = max(best, operations / (time.perf_counter() - start) / 1e9)
    return best
