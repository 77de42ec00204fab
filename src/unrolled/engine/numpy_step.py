"""A Program's instructions run by numpy: slow and plain, for where there is neither torch nor the native engine."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.equations import OPS, Instruction


def _sigmoid(a: NDArray[Any]) -> NDArray[Any]:
    e = np.exp(-np.abs(a))  # never overflows, and a tiny result stays above zero
    return np.asarray(np.where(a >= 0, 1, e) / (1 + e), e.dtype)


def _softplus(a: NDArray[Any], threshold: float) -> NDArray[Any]:
    del threshold  # where torch gives the argument itself; logaddexp is exact there too
    return np.asarray(np.logaddexp(a, a.dtype.type(0)))


def _relu(a: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.maximum(a, 0))


# What the table of operations asks of an array namespace, under torch's names.
_NUMPY = SimpleNamespace(
    sigmoid=_sigmoid,
    tanh=np.tanh,
    relu=_relu,
    exp=np.exp,
    log=np.log,
    sqrt=np.sqrt,
    sign=np.sign,
    maximum=np.maximum,
    minimum=np.minimum,
    nn=SimpleNamespace(functional=SimpleNamespace(softplus=_softplus)),
)


def execute(instructions: Iterable[Instruction], values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All values by name after the instructions, `values` included; vectors are (rows, size) or (size,)."""
    known = dict(values)
    kind = next((value.dtype.type for value in known.values()), np.float32)
    with np.errstate(all="ignore"):  # an infinity is a value; sampling tells when it reaches the logits
        for instruction in instructions:
            args: list[Any] = [known[a] if isinstance(a, str) else kind(a) for a in instruction.args]
            if instruction.op == "matmul":
                matrix, *vectors = args
                rows = max((vector.shape[:-1] for vector in vectors), key=len)
                joined = [np.broadcast_to(vector, (*rows, vector.shape[-1])) for vector in vectors]
                known[instruction.name] = (joined[0] if len(joined) == 1 else np.concatenate(joined, -1)) @ matrix.T
            else:
                known[instruction.name] = OPS[instruction.op].value(_NUMPY, *args)
    return known
