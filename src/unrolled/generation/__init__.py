"""Text from a trained model: what is chosen next, and the stream of it."""

from unrolled.generation.generate import generate
from unrolled.generation.sampling import Sampling

__all__ = ["Sampling", "generate"]
