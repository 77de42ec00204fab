"""A text of many files in two parts, one to learn from and one to judge by; each can be read many times."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unrolled.errors import UnrolledError
from unrolled.text.pieces import head, read_pieces, tail
from unrolled.text.sources import TextFile


@dataclass(frozen=True)
class SplitText:
    """Two parts of a text and what was measured on the first pass over its files."""

    files: Sequence[TextFile]
    """Their first `train_characters` characters are the training part."""
    validation_files: Sequence[TextFile]
    """The validation part; if there are none, it is the rest of `files`."""
    train_characters: int
    characters: int
    """Unicode code points of both parts."""
    bytes: int
    """UTF-8 bytes of both parts."""
    digest: str
    """Equal exactly if both parts are equal."""

    @classmethod
    def by_share(cls, files: Sequence[TextFile], share: float) -> "SplitText":
        """Keeps the last `share` of the characters for validation: training has `int(n * (1 - share))`.

        Errors: `UnrolledError` if `share` is outside [0, 1), or a file is empty or unreadable or not UTF-8.
        """
        if not 0 <= share < 1:
            raise UnrolledError(f"The validation share is {share}. It must be 0 or more and below 1, such as 0.1.")
        characters, text_bytes, digest = _measure(files)
        train_characters = int(characters * (1 - share))
        return cls(files, [], train_characters, characters, text_bytes, f"{digest} {train_characters}")

    @classmethod
    def by_files(cls, files: Sequence[TextFile], validation_files: Sequence[TextFile]) -> "SplitText":
        """Takes each part whole from its own files.

        Errors: `UnrolledError` if a part is empty, or a file is unreadable or not UTF-8.
        """
        characters, text_bytes, digest = _measure(files)
        more_characters, more_bytes, more_digest = _measure(validation_files)
        return cls(
            files,
            validation_files,
            characters,
            characters + more_characters,
            text_bytes + more_bytes,
            f"{digest} {characters} {more_digest}",
        )

    def train(self) -> Iterator[str]:
        """The training part in pieces."""
        return head(read_pieces(self.files), self.train_characters)

    def validation(self) -> Iterator[str]:
        """The validation part in pieces."""
        if self.validation_files:
            return read_pieces(self.validation_files)
        return tail(read_pieces(self.files), self.train_characters)


def _measure(files: Sequence[TextFile]) -> tuple[int, int, str]:
    """Characters, UTF-8 bytes and SHA-256 of the text of `files`; an empty text is an error."""
    characters = text_bytes = 0
    digest = hashlib.sha256()
    for piece in read_pieces(files):
        encoded = piece.encode()
        characters += len(piece)
        text_bytes += len(encoded)
        digest.update(encoded)
    if not characters:
        names = files[0].name if len(files) == 1 else f"each of the {len(files)} files"
        raise UnrolledError(f"There is no text to read: {names} is empty. Give a file with text in it.")
    return characters, text_bytes, digest.hexdigest()
