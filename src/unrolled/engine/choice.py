"""Which engine runs: the native one where it can, the reference elsewhere, and a word about why."""

import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.joined import separate as separate
from unrolled.engine.native import autograd
from unrolled.engine.native.library import NativeError, has_bf16, library
from unrolled.engine.packed import lengths_of as lengths_of
from unrolled.engine.packed import reverse as reverse
from unrolled.engine.reference import State
from unrolled.engine.reference import look_up as look_up
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


def wanted_engine() -> str:
    """The engine that was asked for, or "auto"."""
    wanted = _wanted if _wanted != "auto" else os.environ.get("UNROLLED_ENGINE", "auto")
    if wanted not in ENGINES:
        raise UnrolledError(f"UNROLLED_ENGINE is '{wanted}'; it must be one of {', '.join(ENGINES)}.")
    return wanted


def engine_for(x: Tensor) -> tuple[str, str]:
    """The engine that runs a cell on input `x`, and the reason why, for a person to read."""
    wanted = wanted_engine()
    if wanted == "reference":
        return "reference", "it was asked for"
    if x.dtype != torch.float32 or not x.is_cpu:
        return "reference", f"the native engine runs float32 on the CPU, this is {x.dtype} on {x.device.type}"
    try:
        library()
    except NativeError as error:
        if wanted == "native":
            raise
        return "reference", str(error)
    return "native", "float32 on the CPU" + (", with products in bfloat16" if autocast_bf16() and has_bf16() else "")


def bf16_products(device: str = "cpu") -> tuple[bool, str]:
    """Whether products can be in bfloat16 on a device, and the reason why, for a person to read.

    Where they can be, they are under `torch.autocast("cpu", dtype=torch.bfloat16)`; all else stays float32.
    """
    engine, reason = engine_for(torch.empty(0, dtype=torch.float32, device=device))
    if engine != "native":
        return False, f"only the native engine has products in bfloat16, and the reference runs: {reason}"
    if not has_bf16():
        return False, "this processor has no AVX512_BF16, or its kernels of AVX-512 are not in use"
    return True, "this processor has AVX512_BF16"


def autocast_bf16() -> bool:
    """Whether torch is told to use bfloat16 on the CPU."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def in_float32(value: Any) -> Any:
    """A tensor, or a tuple or list of them, in float32 where autocast on the CPU had made 16 bits of it."""
    if isinstance(value, (tuple, list)):
        return tuple(map(in_float32, value))
    rounded = isinstance(value, Tensor) and value.is_cpu and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if rounded and torch.is_autocast_enabled("cpu") else value


def unroll(
    program: Program,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    lengths: Tensor | None = None,
    tokens: Tensor | None = None,
    backwards: bool = False,
    chosen: tuple[str, str] | None = None,
) -> tuple[Tensor, State]:
    """As `reference.unroll`, by the engine of `engine_for`, or the `chosen` one; for autocast see `bf16_products`.

    `parameters` may be joined, see `separate`. With `tokens` (batch, time), x is a table (words, input), whose rows
    they name: the input of a step is a row.
    """
    engine, reason = chosen or engine_for(x)
    bf16 = autocast_bf16()
    with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
        if engine == "native":
            try:
                return autograd.unroll(program, parameters, x, state, lengths, bf16, tokens, backwards)
            except NativeError as error:
                _tell_once(f"cell {program.name} runs on the slower reference engine: {error}")
        else:
            tell_if_unusable(reason, "running on the slower reference engine")
        steps = x if tokens is None else reference.look_up(x, tokens)
        return reference.unroll(program, separate(parameters), steps, state, lengths, backwards)


def tell_if_unusable(reason: str, instead: str) -> None:
    """Warn, once in a process, what runs `instead` if the `reason` of `engine_for` is that there is no native library
    that can be used."""
    try:
        library()
    except NativeError as error:
        if reason == str(error):
            _tell_once(f"{instead}: {reason}")


def _tell_once(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=4)
