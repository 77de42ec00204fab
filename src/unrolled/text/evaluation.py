"""What a model's losses on a text amount to, in units that can be compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Losses of a text: `nats_per_token` (natural logarithm) and `bits_per_byte` of its UTF-8 form."""

    tokens: int
    bytes: int
    nats_per_token: float
    bits_per_byte: float

    @property
    def perplexity(self) -> float:
        """exp(nats per token): as many equally likely tokens would be as surprising."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf


Told = Callable[[float], object]
"""Is called now and then with the share of a calculation (0 to 1) that is done."""


def scored(total: float, ids: NDArray[np.integer[Any]], tokenizer: Tokenizer, text_bytes: int) -> Evaluation:
    """The losses of a text of `text_bytes` bytes whose tokens after the first cost `total` nats together."""
    predicted = text_bytes - len(tokenizer.token_bytes(int(ids[0])))
    return Evaluation(len(ids) - 1, predicted, total / (len(ids) - 1), total / math.log(2) / max(1, predicted))
