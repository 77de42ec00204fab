"""What a run will about reach, said before it starts: from how well a common compressor packs the text."""

import bz2
import math

from unrolled.text import Corpus
from unrolled.training.plan import Plan

_SAMPLE_TOKENS = 300_000
# Fitted by eye to runs on prose and on program text, which fell within a quarter of it (docs/recipe.md).
_SHARE_OF_BZIP2, _START, _DECAY = 0.9, 0.3, 0.6


def expected_bits_per_byte(plan: Plan, corpus: Corpus) -> float:
    """A guess, good to about a quarter: below bzip2's rate in the end, above it while little has been read."""
    sample = corpus.tokenizer.decode(corpus.train.ids[:_SAMPLE_TOKENS]).encode()
    packed = 8 * len(bz2.compress(sample)) / len(sample)
    megabytes = plan.steps * plan.batch * plan.window * corpus.train.bytes / len(corpus.train.ids) / 1e6
    return min(8.0, _SHARE_OF_BZIP2 * packed + _START * math.pow(megabytes, -_DECAY))
