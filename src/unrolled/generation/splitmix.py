"""SplitMix64: random numbers as a function of a seed and a counter."""

from dataclasses import dataclass

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


@dataclass
class Random:
    """A stream of random numbers; its whole state is the two integers `seed` and `counter`.

    A copy made by `copy.copy`, or a new one with the same two integers, continues with the same numbers.

    seed: from 0 to 2**64 - 1; other integers count modulo 2**64.
    counter: how many numbers were drawn before.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"; the constants of
    Vigna's public `splitmix64.c`.

    >>> Random(seed=1234567).bits()
    6457827717110365317
    """

    seed: int
    counter: int = 0

    def bits(self) -> int:
        """The next 64 random bits as an integer from 0 to 2**64 - 1."""
        self.counter += 1
        mixed = (self.seed + self.counter * _GOLDEN_GAMMA) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def uniform(self) -> float:
        """The next number in [0, 1): the top 53 of the next 64 bits, so every value is an exact float64."""
        return (self.bits() >> 11) * 2.0**-53
