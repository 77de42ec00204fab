"""Weights as whole numbers of 8 bits with a scale for each row: a quarter of the memory that decoding waits for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCALE_BITS = 12  # of a scale: so few that scale times number is exact, and quantizing twice is quantizing once


def row_scales(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """(rows,): what 1 stands for in each row; 127 stands for the row's largest number, or just above."""
    fraction, exponent = np.frexp(np.abs(matrix).max(axis=1, initial=0.0).astype(np.float64) / 127)
    scale = np.ldexp(np.ceil(np.ldexp(fraction, _SCALE_BITS)), exponent - _SCALE_BITS).astype(np.float32)
    return np.asarray(np.where(scale > 0, scale, np.float32(1)), np.float32)


def quantize(matrix: NDArray[Any], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """The whole numbers from -127 to 127 that times `scales` (rows,) are nearest to `matrix` (rows, columns)."""
    return np.clip(np.rint(matrix / scales[:, None]), -127, 127).astype(np.int8)


def dequantized(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """What is left of `matrix`, of finite numbers, when it is quantized."""
    scales = row_scales(matrix)
    return quantize(matrix, scales).astype(np.float32) * scales[:, None]
