"""Text from a trained model: what is chosen next, and the stream of it."""

from unrolled.generation.decoder import Decoder
from unrolled.generation.generate import generate
from unrolled.generation.prefixes import Prefixes
from unrolled.generation.sampling import Sampling
from unrolled.generation.scoring import TokenScore
from unrolled.generation.state import State
from unrolled.generation.stream import Stream

__all__ = ["Decoder", "Prefixes", "Sampling", "State", "Stream", "TokenScore", "generate"]
