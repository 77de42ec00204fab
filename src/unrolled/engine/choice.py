"""Which engine runs: the native one where it can, the reference elsewhere, and a word about why."""

import os
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.native.library import NativeError, library
from unrolled.engine.reference import State
from unrolled.equations import Program
from unrolled.errors import UnrolledError

ENGINES = ("auto", "native", "reference")
_wanted = "auto"
_told: set[str] = set()


def use_engine(name: str) -> None:
    """Choose the engine of this process: "native" or "reference", or "auto" for the native one where it can run.

    The environment variable UNROLLED_ENGINE says the same from outside; this call wins over it. Raises UnrolledError
    for another name, or for "native" where it is not built.
    """
    global _wanted
    if name not in ENGINES:
        raise UnrolledError(f"there is no engine '{name}'; choose one of {', '.join(ENGINES)}.")
    if name == "native":
        library()
    _wanted = name


def engine_for(x: Tensor) -> tuple[str, str]:
    """The engine that runs a cell on input `x`, and the reason why, for a person to read."""
    wanted = _wanted if _wanted != "auto" else os.environ.get("UNROLLED_ENGINE", "auto")
    if wanted not in ENGINES:
        raise UnrolledError(f"UNROLLED_ENGINE is '{wanted}'; it must be one of {', '.join(ENGINES)}.")
    if wanted == "reference":
        return "reference", "it was asked for"
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return "reference", f"the native engine runs float32 on the CPU, this is {x.dtype} on {x.device.type}"
    try:
        library()
    except NativeError as error:
        if wanted == "native":
            raise
        return "reference", str(error)
    return "native", "float32 on the CPU"


def unroll(
    program: Program, parameters: Mapping[str, Tensor], x: Tensor, state: State, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """As `reference.unroll`, by the engine of `engine_for`."""
    engine, reason = engine_for(x)
    if engine == "native":
        from unrolled.engine.native import autograd

        try:
            return autograd.unroll(program, parameters, x, state, lengths)
        except NativeError as error:
            _tell_once(f"cell {program.name} runs on the slower reference engine: {error}")
    elif "not built" in reason or "load" in reason:
        _tell_once(f"running on the slower reference engine: {reason}")
    return reference.unroll(program, parameters, x, state, lengths)


def _tell_once(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=4)
