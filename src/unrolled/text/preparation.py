"""From text files to a `Corpus` on disk: measure, learn the tokenizer, encode; never the whole in memory."""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unrolled.errors import UnrolledError
from unrolled.files import replacing
from unrolled.text.corpus import FORMAT, MARK, TOKENIZER, TRAIN, VALIDATION, Corpus, read_mark
from unrolled.text.encoding import encode_to_file, id_type
from unrolled.text.excerpts import excerpts
from unrolled.text.sources import Sources, TextFile, find_files
from unrolled.text.split import SplitText
from unrolled.text.tokenizers import Tokenizer, make_tokenizer, resolve_kind

FEWEST_TOKENS = 256
# Of a text that is larger than that for each token that the training will read, stretches are taken. A token of a large
# text has about four bytes.
_BYTES_PER_TOKEN_READ = 4
_LARGEST_VALIDATION = 0.1  # of that, if validation has sources of its own


def prepare(
    sources: Sources,
    directory: str | Path,
    *,
    tokenizer: str | Tokenizer = "auto",
    validation: float | Sources = 0.1,
    fewest_tokens: int = FEWEST_TOKENS,
    to_read: float = math.inf,
) -> Corpus:
    """Turns text into token ids in `directory`, or opens those made there from the same text and settings.

    sources: files, folders (all text files under them, in the order of their paths) and "-", standard input.
    directory: made if missing; a corpus of another text in it is replaced, other files are left alone.
    tokenizer: the name of one to learn from the training part (see `make_tokenizer`), or a finished one.
    validation: the share of the text's characters that is kept from its end, or sources of its own.
    to_read: how many tokens the training will read, all passes together; with it "auto" finds a tokenizer that suits,
        and of a text that is much larger only stretches from all over it are taken.
    fewest_tokens: how many tokens the training part must give at least.

    Errors: `UnrolledError` for sources that cannot be read or are not UTF-8, an empty or too short text, a
    share outside [0, 1), an unknown tokenizer, a directory that cannot be written.
    """
    directory = Path(directory)
    if isinstance(tokenizer, str):
        resolve_kind(tokenizer, 0, 0)  # a misspelt name should not cost a pass over the text
    with _spool_folder(directory) as spool:
        most = _BYTES_PER_TOKEN_READ * to_read
        files, skipped = _found(sources, spool, directory, most)
        if isinstance(validation, (int, float)):
            text = SplitText.by_share(files, validation)
        else:
            validation_files, more = _found(validation, spool, directory, most * _LARGEST_VALIDATION)
            text = SplitText.by_files(files, validation_files)
            skipped += more
        if isinstance(tokenizer, str):
            tokenizer = resolve_kind(tokenizer, text.bytes, text.characters, to_read)
        request = _request(text, tokenizer)
        record = read_mark(directory)
        if record is None or record["request"] != request:
            _write(text, directory, tokenizer, request, skipped, fewest_tokens)
    return Corpus.open(directory)


def _found(sources: Sources, spool: Path, directory: Path, most_bytes: float) -> tuple[list[TextFile], list[str]]:
    """The files or stretches of them, and a line for all that is not read."""
    files, skipped = find_files(sources, spool, leave_out=directory)
    files, left_out = excerpts(files, most_bytes)
    return files, [*skipped, *([left_out] if left_out else [])]


def _request(text: SplitText, tokenizer: str | Tokenizer) -> str:
    """What decides the ids; equal requests need no second preparation."""
    name = tokenizer if isinstance(tokenizer, str) else tokenizer.to_json()
    return hashlib.sha256(json.dumps([text.digest, name]).encode()).hexdigest()


def _write(
    text: SplitText,
    directory: Path,
    tokenizer: str | Tokenizer,
    request: str,
    skipped: list[str],
    fewest_tokens: int,
) -> None:
    (directory / MARK).unlink(missing_ok=True)
    name = tokenizer if isinstance(tokenizer, str) else ""
    if isinstance(tokenizer, str):
        tokenizer = make_tokenizer(tokenizer, text.train(), text.bytes)
    with replacing(directory / TOKENIZER) as temporary:
        temporary.write_bytes(tokenizer.to_json().encode())
    train = encode_to_file(text.train(), tokenizer, directory / TRAIN)
    validation = encode_to_file(text.validation(), tokenizer, directory / VALIDATION)
    if train.characters + validation.characters != text.characters:
        raise UnrolledError("The text changed while it was read. Start again when nothing writes to it.")
    if train.tokens < fewest_tokens:
        raise UnrolledError(
            f"The text is too short: its training part gives {train.tokens} tokens, and at least "
            f"{fewest_tokens} are needed. Give more text."
        )
    record = {
        "format": FORMAT,
        "request": request,
        "fingerprint": hashlib.sha256((train.digest + validation.digest).encode()).hexdigest(),
        "tokenizer": name,
        "dtype": id_type(tokenizer),
        "train": train.record(),
        "validation": validation.record(),
        "skipped": skipped,
    }
    with replacing(directory / MARK) as temporary:
        temporary.write_bytes(json.dumps(record, indent=2).encode())


@contextmanager
def _spool_folder(directory: Path) -> Iterator[Path]:
    """A folder for copies of streams, gone when the block ends; in `directory`, where room is expected."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        spool = tempfile.TemporaryDirectory(dir=directory, prefix=".spool-")
    except OSError as error:
        raise UnrolledError(
            f"Cannot write into {directory}: {error.strerror}. Choose another folder for the corpus."
        ) from None
    with spool as name:
        yield Path(name)
