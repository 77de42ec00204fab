"""Seeing what happens inside a cell and a model."""

from unrolled.inspection.drawing import draw

__all__ = ["draw"]
