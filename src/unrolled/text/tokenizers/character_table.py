"""Encoding by one table look-up a character: the ids the library gives, without its objects a token."""

import json
from dataclasses import dataclass

import numpy as np
import tokenizers as huggingface
from numpy.typing import NDArray


@dataclass(frozen=True)
class CharacterTable:
    """Ids by code point and by byte. An entry of -1 says: no token."""

    ids: NDArray[np.int64]
    """(largest known code point + 2,); the last entry, -1, answers for all code points above."""
    byte_ids: NDArray[np.int64]
    """(256,)"""

    def encode(self, text: str) -> NDArray[np.int64]:
        """The ids of `text`, shape (tokens,); an unknown character gives one id for each of its UTF-8 bytes.

        Errors: `UnicodeEncodeError` if `text` holds half of a surrogate pair.
        """
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        ids: NDArray[np.int64] = self.ids[np.minimum(points, len(self.ids) - 1)]
        unknown = ids < 0
        if not unknown.any():
            return ids
        rest = points[unknown]
        lengths = np.ones(len(ids), np.int64)
        lengths[unknown] += (rest >= 0x80).astype(np.int64) + (rest >= 0x800) + (rest >= 0x10000)
        ids = np.repeat(ids, lengths)
        utf8 = rest.tobytes().decode("utf-32-le").encode()
        ids[ids < 0] = self.byte_ids[np.frombuffer(utf8, np.uint8)]
        return ids


def character_table(tokenizer: huggingface.Tokenizer) -> CharacterTable | None:
    """The table that encodes exactly as `tokenizer` does, or None if it does more than look up characters."""
    description = json.loads(tokenizer.to_str())
    model = description["model"]
    if model["type"] != "BPE" or not model["byte_fallback"]:
        return None
    more = [description[step] for step in ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")]
    more += [model[key] for key in ("merges", "dropout", "continuing_subword_prefix", "end_of_word_suffix")]
    if any(more):
        return None
    characters = {ord(token): index for token, index in model["vocab"].items() if len(token) == 1}
    ids = np.full(max(characters, default=-1) + 2, -1, np.int64)
    ids[list(characters)] = list(characters.values())
    byte_ids = np.array([model["vocab"].get(f"<0x{byte:02X}>", -1) for byte in range(256)], np.int64)
    needed = np.array([byte for byte in range(0xF5) if byte not in (0xC0, 0xC1) and byte not in characters])
    return CharacterTable(ids, byte_ids) if (byte_ids[needed] >= 0).all() else None
