"""The vectorised functions of the native engine: maximum error in units in the last place, and the special values."""

import math

import numpy as np
import pytest
from benchmarks.accuracy import POSITIVE, largest_error, native

# Largest error seen over the points below, rounded up: a looser bound would hide a worse polynomial.
MOST_ULPS = {"exp": 2.0, "sigmoid": 3.0, "tanh": 2.5, "log": 2.0, "softplus": 3.0, "sqrt": 0.5}


def points(op: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 400_000, dtype=np.uint32).view(np.float32)  # every magnitude alike
    near = rng.normal(0, 4, 400_000).astype(np.float32)
    values = np.concatenate([bits[np.isfinite(bits)], near, np.linspace(-20, 20, 100_001, dtype=np.float32)])
    return np.abs(values) if op in POSITIVE else values


@pytest.mark.parametrize("op", MOST_ULPS)
def test_error_in_ulps(op):
    error, where = largest_error(op, points(op))
    assert error <= MOST_ULPS[op], f"{op}: {error:.3f} ulp at {where}"


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("exp", math.inf, math.inf),
        ("exp", -math.inf, 0.0),
        ("sigmoid", -math.inf, 0.0),
        ("sigmoid", math.inf, 1.0),
        ("tanh", -math.inf, -1.0),
        ("tanh", 1e30, 1.0),
        ("log", 0.0, -math.inf),
        ("log", math.inf, math.inf),
        ("softplus", math.inf, math.inf),
        ("softplus", -math.inf, 0.0),
    ],
)
def test_limits(op, value, expected):
    assert native(op, np.array([value]))[0] == expected


@pytest.mark.parametrize("op", [*MOST_ULPS, "relu", "abs", "neg", "maximum", "minimum"])
def test_not_a_number_stays(op):
    assert np.isnan(native(op, np.array([math.nan]))[0])


def test_negative_numbers_have_no_logarithm():
    assert np.isnan(native("log", np.array([-1.0]))[0])
