"""Engines run a Program over time: the reference in torch defines what is right, the native one is fast.

Decoding (`decoders.py`) needs no torch, so nothing here imports it before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.engine.choice import (
        autocast_bf16,
        bf16_products,
        engine_for,
        in_float32,
        lengths_of,
        look_up,
        reverse,
        separate,
        tell_if_unusable,
        unroll,
        use_engine,
        wanted_engine,
    )
    from unrolled.engine.reference import State

__all__ = [
    "State",
    "autocast_bf16",
    "bf16_products",
    "engine_for",
    "in_float32",
    "lengths_of",
    "look_up",
    "reverse",
    "separate",
    "tell_if_unusable",
    "unroll",
    "use_engine",
    "wanted_engine",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from unrolled.engine import choice

    return getattr(choice, name)
