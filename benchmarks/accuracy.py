"""The largest error of each vectorised function, in units in the last place, over every float32 there is.

`python -m benchmarks.accuracy [exp tanh ...]` takes about a minute for a function, on two cores. Judged by float64.
Numbers below the normal ones count as zero, so arguments and results below the smallest normal float are left out.
"""

import argparse
import ctypes
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from rich.progress import track

from unrolled.engine.native import library
from unrolled.equations import OPS

EXACT = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "log": np.log,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "sqrt": np.sqrt,
}
POSITIVE = ("log", "sqrt")
_CHUNK = 2**22
_TINY, _HUGE = (float(value) for value in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


def native(op: str, values: np.ndarray) -> np.ndarray:
    """The operation on float32 numbers by the native engine."""
    values = np.ascontiguousarray(values, np.float32)
    result = np.empty_like(values)
    floats = ctypes.POINTER(ctypes.c_float)
    a, y = values.ctypes.data_as(floats), result.ctypes.data_as(floats)
    library.call("unrolled_pointwise", OPS[op].opcode, a, a, y, len(values))
    return result


def largest_error(op: str, values: np.ndarray) -> tuple[float, float]:
    """The largest error over float32 `values`, in units in the last place of the exact result, and where it is."""
    magnitudes = np.abs(values)
    values = values[(magnitudes >= _TINY) & (magnitudes <= _HUGE)]
    with np.errstate(all="ignore"):
        exact = EXACT[op](values.astype(np.float64))
    normal = (np.abs(exact) >= 2 * _TINY) & (np.abs(exact) <= _HUGE)
    values, exact = values[normal], exact[normal]
    if len(values) == 0:
        return 0.0, 0.0
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    errors = np.abs(native(op, values).astype(np.float64) - exact) / ulp
    worst = int(np.argmax(errors))
    return float(errors[worst]), float(values[worst])


def _of_chunk(task: tuple[str, int]) -> tuple[float, float]:
    op, first = task
    return largest_error(op, np.arange(first, first + _CHUNK, dtype=np.uint32).view(np.float32))


def main() -> None:
    """Print the largest errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", nargs="*", help=f"some of {', '.join(EXACT)}; all if none is given")
    functions = parser.parse_args().functions or list(EXACT)
    if unknown := set(functions) - set(EXACT):
        parser.error(f"no function {', '.join(sorted(unknown))}; there are {', '.join(EXACT)}")
    print(f"{library.instruction_set()}: largest error over all float32, in units in the last place")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for op in functions:
            firsts = range(0, 2**31 if op in POSITIVE else 2**32, _CHUNK)
            chunks = pool.map(_of_chunk, [(op, first) for first in firsts])
            error, where = max(track(chunks, op, total=len(firsts), transient=True))
            print(f"{op:8} {error:6.3f} at {where!r}", flush=True)


if __name__ == "__main__":
    main()
