"""A text on disk as token ids: what `prepare` writes and training reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError
from unrolled.text.tokenizers import Tokenizer

# Raised whenever the same text would give other ids or other files.
FORMAT = 2
TRAIN, VALIDATION, TOKENIZER, MARK = "train.bin", "validation.bin", "tokenizer.json", "corpus.json"


@dataclass(frozen=True)
class Part:
    """The training or the validation part of a text."""

    ids: NDArray[np.unsignedinteger[Any]]
    """(tokens,), uint16 or uint32, mapped from disk: only what is indexed is read."""
    characters: int
    """Unicode code points of the text."""
    bytes: int
    """UTF-8 bytes of the text, for losses in bits per byte."""


@dataclass(frozen=True)
class Corpus:
    """A text as token ids in files under `directory`, with the tokenizer that made them."""

    directory: Path
    tokenizer: Tokenizer
    tokenizer_name: str
    """As `prepare` takes it, such as "bpe:512"; empty for one that was given finished."""
    train: Part
    validation: Part
    """Has no tokens if no validation was asked for."""
    fingerprint: str
    """64 hexadecimal digits; equal exactly if all token ids and the split are equal."""
    skipped: tuple[str, ...]
    """A line for each file of a folder that was left out, with the reason."""

    @classmethod
    def open(cls, directory: str | Path) -> "Corpus":
        """Opens what `prepare` has written into `directory`, without the text it was made from.

        Errors: `UnrolledError` if there is no finished corpus in it, or its files are damaged.
        """
        directory = Path(directory)
        record = read_mark(directory)
        if record is None:
            raise UnrolledError(f"There is no finished corpus in {directory}. Prepare it again from its text.")
        try:
            json_text = (directory / TOKENIZER).read_text(encoding="utf-8")
        except OSError as error:
            raise _damaged(directory / TOKENIZER, str(error.strerror)) from None
        return cls(
            directory=directory,
            tokenizer=Tokenizer.from_json(json_text),
            tokenizer_name=record["tokenizer"],
            train=_open_part(directory / TRAIN, record["dtype"], **record["train"]),
            validation=_open_part(directory / VALIDATION, record["dtype"], **record["validation"]),
            fingerprint=record["fingerprint"],
            skipped=tuple(record["skipped"]),
        )


def read_mark(directory: Path) -> dict[str, Any] | None:
    """The record that says that the corpus in `directory` is finished, or None.

    It is written last and removed first, so files without it are leftovers of an interrupted run.
    """
    try:
        record = json.loads((directory / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def _open_part(path: Path, dtype: str, tokens: int, characters: int, bytes: int) -> Part:  # noqa: A002
    expected = tokens * np.dtype(dtype).itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from None
    if size != expected:
        raise _damaged(path, f"it has {size} bytes where {expected} were written")
    # An empty file cannot be mapped.
    ids = np.memmap(path, dtype=dtype, mode="r") if tokens else np.empty(0, dtype)
    return Part(ids, characters, bytes)


def _damaged(path: Path, reason: str) -> UnrolledError:
    return UnrolledError(
        f"The corpus file {path} is damaged: {reason}. Delete {path.parent / MARK} and prepare it again."
    )
