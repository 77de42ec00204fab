"""A decoder as a flat file that a C program reads with a page of code: memory as the engine wants it.

"UNROLLED", a version and 14 counts (int64: 128 bytes), then blocks: a length in bytes (int64, in 64 bytes of its own)
and the block, filled up to 64 bytes. `examples/c/generate.c` reads it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.engine.native.decoder import NativeDecoder
from unrolled.files import replacing

VERSION = 1
_LINE = 64


def write_flat(path: str | Path, decoder: NativeDecoder, tokens: Sequence[bytes]) -> None:
    """Write `decoder` and the bytes of each of its `tokens`. Raises UnrolledError if that is not possible."""
    plan = decoder.plan.description
    counts = [plan.arrays, plan.matrices, plan.registers, plan.products, plan.instructions, plan.stages, plan.tables]
    description = decoder.description
    counts += [plan.independent, description.states, description.inputs, description.logits]
    counts += [description.state_stages, description.int8, len(tokens)]
    ends = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    blocks: list[Any] = [*decoder.plan.lists, *decoder.lists, *decoder.matrices]
    blocks += [b"" if row is None else row for row in decoder.fixed]
    blocks += [*decoder.tables, ends, b"".join(tokens)]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"UNROLLED" + np.array([VERSION, *counts], np.int64).tobytes())
        file.writelines(_padded(blocks))


def _padded(blocks: Iterable[Any]) -> Iterable[bytes]:
    for block in blocks:
        data = block.tobytes() if isinstance(block, np.ndarray) else bytes(block)
        yield np.int64(len(data)).tobytes().ljust(_LINE, b"\0")
        yield data.ljust(-(-len(data) // _LINE) * _LINE, b"\0")
