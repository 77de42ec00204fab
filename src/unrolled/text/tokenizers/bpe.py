"""Byte-pair encoding over bytes (Sennrich et al. 2016; the byte-level form: Radford et al. 2019)."""

from collections.abc import Iterable

from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from unrolled.errors import UnrolledError
from unrolled.text.tokenizers.tokenizer import Tokenizer


def bpe_tokenizer(texts: str | Iterable[str], vocabulary_size: int) -> Tokenizer:
    """The 256 bytes and the `vocabulary_size` - 256 most useful merges of them in `texts`; deterministic.

    A text with too few repetitions gives fewer tokens than asked for.

    Errors: `UnrolledError` if `vocabulary_size` is below 256.

    >>> bpe_tokenizer("the then them " * 9, 258).encode("the").size
    1
    """
    if vocabulary_size < 256:
        raise UnrolledError(
            f"A BPE vocabulary of {vocabulary_size} tokens has no room for the 256 bytes. Ask for more."
        )
    tokenizer = HuggingFaceTokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=vocabulary_size, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([texts] if isinstance(texts, str) else texts, trainer)
    return Tokenizer(tokenizer)
