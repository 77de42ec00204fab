"""Pieces of text to token ids in a flat file."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unrolled.files import replacing
from unrolled.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class Encoded:
    """What was written, with the SHA-256 of the ids in `digest`."""

    tokens: int
    characters: int
    bytes: int
    digest: str

    def record(self) -> dict[str, int]:
        """The counts alone, for the record of the corpus."""
        return {"tokens": self.tokens, "characters": self.characters, "bytes": self.bytes}


def id_type(tokenizer: Tokenizer) -> str:
    """The smallest little-endian numpy type that holds every id of `tokenizer`."""
    return "<u2" if tokenizer.vocabulary_size <= 0x10000 else "<u4"


def encode_to_file(pieces: Iterable[str], tokenizer: Tokenizer, path: Path) -> Encoded:
    """Writes the ids of `pieces` to `path`, which is replaced only when all are written.

    Errors: `UnrolledError` if the system refuses to write.
    """
    tokens = characters = text_bytes = 0
    dtype = id_type(tokenizer)
    digest = hashlib.sha256(dtype.encode())
    with replacing(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            ids = tokenizer.encode(piece)
            stored = ids.astype(dtype).tobytes()
            file.write(stored)
            digest.update(stored)
            tokens += len(ids)
            characters += len(piece)
            text_bytes += int(tokenizer.byte_lengths[ids].sum())
    return Encoded(tokens, characters, text_bytes, digest.hexdigest())
