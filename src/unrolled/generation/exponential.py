"""exp written down to the last bit, so that sampling gives equal texts on every machine and in every language.

The exp of numpy and of C libraries differ in their last bits from machine to machine.
"""

from math import factorial

import numpy as np
from numpy.typing import NDArray

_LOWEST = -708.0  # below, the result would leave the normal numbers; it counts as zero
_LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first exact in few bits, so that x - n ln 2 loses nothing.
_LN_2_HIGH, _LN_2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_COEFFICIENTS = [1.0 / factorial(n) for n in range(13, -1, -1)]


def exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(x) for x <= 0, minus infinity included; within 2 units in the last place.

    x = n ln 2 + r with a whole number n, and exp(r) by its Taylor series up to r**13, from the highest term down.

    >>> exponential(np.array([0.0, -1.0, -1000.0])).tolist()
    [1.0, 0.36787944117144233, 0.0]
    """
    inside = np.maximum(x, _LOWEST)
    n = np.rint(inside * _LOG2_E)
    r = (inside - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = np.full_like(r, _COEFFICIENTS[0])
    for coefficient in _COEFFICIENTS[1:]:
        p = p * r + coefficient
    return np.where(x >= _LOWEST, np.ldexp(p, n.astype(np.int32)), 0.0)
