"""Engines run a Program over time: the reference in torch defines what is right, the native one is fast."""

from unrolled.engine.choice import engine_for, unroll, use_engine
from unrolled.engine.reference import State

__all__ = ["State", "engine_for", "unroll", "use_engine"]
