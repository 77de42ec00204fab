"""Which decoder runs a stored model: the native one where it can, numpy elsewhere, and a word about why."""

import os
import warnings
from typing import TypeAlias

from unrolled.engine.native.decoder import NativeDecoder
from unrolled.engine.native.library import NativeError
from unrolled.engine.numpy_decoder import NumpyDecoder
from unrolled.engine.step_parts import StepParts

StepDecoder: TypeAlias = NativeDecoder | NumpyDecoder


def decoder_for(parts: StepParts, *, int8: bool = False) -> StepDecoder:
    """The decoder of a model's step; UNROLLED_ENGINE=reference takes numpy, =native nothing else than native.

    `int8`: products in whole numbers of 8 bits; numpy takes the rounded weights as they are.
    """
    wanted = os.environ.get("UNROLLED_ENGINE", "auto")
    if wanted == "reference":
        return NumpyDecoder(parts)
    try:
        return NativeDecoder(parts, int8=int8)
    except NativeError as error:
        if wanted == "native":
            raise
        warnings.warn(f"decoding with numpy, which is slower: {error}", RuntimeWarning, stacklevel=4)
        return NumpyDecoder(parts)
