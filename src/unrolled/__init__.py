"""Recurrent neural networks, from equation to product.

Write a cell as its equations (`cell`, `sigmoid`, `tanh`, ...) or take one of `cells`, unroll it in time
(`Recurrent`, `Stack`, `Bidirectional`), train a `LanguageModel`, `load` it again and `generate`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from unrolled import cells
from unrolled.equations import (
    Program,
    cell,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    tanh,
    to_latex,
    to_text,
)
from unrolled.errors import UnrolledError, missing_extra

if TYPE_CHECKING:
    from unrolled import nn
    from unrolled.artifact import TextModel, load, save
    from unrolled.generation import Decoder, Sampling, State, generate
    from unrolled.inspection import draw
    from unrolled.layers import Bidirectional, Dropout, Recurrent, Stack
    from unrolled.models import LanguageModel
    from unrolled.nn import accelerate
    from unrolled.training import evaluate, train

__version__ = "0.1.0"

# What needs torch or matplotlib is imported when it is first asked for, so that `import unrolled` is fast.
_LAZY = {
    "Bidirectional": "layers",
    "Decoder": "generation",
    "Dropout": "layers",
    "LanguageModel": "models",
    "Recurrent": "layers",
    "Sampling": "generation",
    "Stack": "layers",
    "State": "generation",
    "TextModel": "artifact",
    "accelerate": "nn",
    "draw": "inspection",
    "evaluate": "training",
    "generate": "generation",
    "load": "artifact",
    "save": "artifact",
    "train": "training",
}

__all__ = [
    "Bidirectional",
    "Decoder",
    "Dropout",
    "LanguageModel",
    "Program",
    "Recurrent",
    "Sampling",
    "Stack",
    "State",
    "TextModel",
    "UnrolledError",
    "accelerate",
    "cell",
    "cells",
    "draw",
    "evaluate",
    "exp",
    "generate",
    "load",
    "log",
    "maximum",
    "minimum",
    "nn",
    "relu",
    "save",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "tanh",
    "to_latex",
    "to_text",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "nn":  # importing a module sets it as an attribute
        return importlib.import_module("unrolled.nn")
    if name not in _LAZY:
        raise AttributeError(f"module 'unrolled' has no attribute '{name}'")
    try:
        value = getattr(importlib.import_module(f"unrolled.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        message = missing_extra(error)
        if message is None:
            raise
        raise ModuleNotFoundError(f"unrolled.{name}: {message}.", name=error.name) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
