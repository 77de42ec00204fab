"""The exact bytes that every token stands for, read off a Hugging Face tokenizer."""

import json
import re

import tokenizers as huggingface

from unrolled.errors import UnrolledError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def bytes_of_tokens(tokenizer: huggingface.Tokenizer) -> list[bytes]:
    """For each id in order, the UTF-8 bytes of its token.

    Errors: `UnrolledError` if tokens do not stand for bytes one to one (the decoder adds, strips or replaces
    text), or if ids are missing.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    if [vocabulary[token] for token in tokens] != list(range(len(tokens))) or not tokens:
        raise UnrolledError(
            f"This tokenizer's {len(tokens)} token ids do not run from 0 without a gap. "
            "Renumber its vocabulary, or let unrolled learn a tokenizer."
        )
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    decode = {"ByteLevel": _decode_byte_level, "ByteFallback": _decode_byte_fallback}[_decoder_name(tokenizer)]
    return [token.encode() if token in added else decode(token) for token in tokens]


def _decoder_name(tokenizer: huggingface.Tokenizer) -> str:
    decoder = json.loads(tokenizer.to_str())["decoder"] or {"type": "none"}
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    names = [step["type"] for step in steps if step["type"] != "Fuse"]
    if names not in (["ByteLevel"], ["ByteFallback"]):
        raise UnrolledError(
            f"This tokenizer decodes with {' + '.join(names)}, so its tokens are not exact bytes of text. "
            "Give one that decodes with ByteLevel or ByteFallback, or let unrolled learn one."
        )
    return str(names[0])


def _decode_byte_fallback(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.encode()


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: visible Latin-1 for itself, the rest from U+0100 on in order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


_BYTE_LEVEL = _byte_level_alphabet()


def _decode_byte_level(token: str) -> bytes:
    try:
        return bytes(_BYTE_LEVEL[character] for character in token)
    except KeyError as error:
        raise UnrolledError(
            f"The token {token!r} of this byte-level tokenizer holds {error.args[0]!r}, which is no byte. "
            "The tokenizer.json is damaged; take it from its source again."
        ) from None
