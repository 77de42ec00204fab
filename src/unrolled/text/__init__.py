"""Text to token ids on disk to batches of streams. Knows no model and no torch: arrays are numpy."""

from unrolled.text.batches import Batch, Streams, largest_batch
from unrolled.text.corpus import Corpus, Part
from unrolled.text.evaluation import Evaluation, Told, scored
from unrolled.text.preparation import prepare
from unrolled.text.sources import Sources
from unrolled.text.tokenizers import (
    TOKENIZERS,
    StreamDecoder,
    Tokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    character_tokenizer,
    make_tokenizer,
)
from unrolled.text.validation import ValidationBatch, validation_batches

__all__ = [
    "TOKENIZERS",
    "Batch",
    "Corpus",
    "Evaluation",
    "Part",
    "Sources",
    "StreamDecoder",
    "Streams",
    "Tokenizer",
    "Told",
    "ValidationBatch",
    "bpe_tokenizer",
    "byte_tokenizer",
    "character_tokenizer",
    "largest_batch",
    "make_tokenizer",
    "prepare",
    "scored",
    "validation_batches",
]
