"""Files that are either whole or not there: written beside their place, flushed to disk, then moved into it."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.errors import UnrolledError
from unrolled.tensor_files import RawTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file to write, which takes the place of `path` when the block ends well and vanishes otherwise.

    At every moment, power failure included, `path` holds the old content or the new one. Raises UnrolledError if
    the folder is missing or the system refuses to write.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise UnrolledError(f"Cannot write {path}: it is a folder; name a file in it.")
        if not path.parent.is_dir():
            raise UnrolledError(f"Cannot write {path}: there is no folder {path.parent}; make it or choose another.")
        try:
            temporary.touch(exist_ok=False)
            permissions = temporary.stat().st_mode  # what the umask gives; a library that writes may give less
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(permissions)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UnrolledError(
            f"Cannot write {path}: {error.strerror or error}; make room or choose another folder."
        ) from error


def save_tensors(
    path: str | Path, tensors: "Mapping[str, NDArray[Any]] | Mapping[str, Tensor]", metadata: Mapping[str, str]
) -> None:
    """Write arrays of numpy, or tensors of torch, as a safetensors file with a checksum, whole or not there.

    Raises UnrolledError if that is not possible.
    """
    from safetensors import SafetensorError

    content: dict[str, Any] = dict(tensors)
    raw = {name: RawTensor.of(tensor) for name, tensor in content.items()}
    kind = "numpy" if all(isinstance(tensor, np.ndarray) for tensor in content.values()) else "torch"
    library = import_module(f"safetensors.{kind}")
    with replacing(path) as temporary:
        try:
            library.save_file(content, temporary, {**metadata, "checksum": _checksum(metadata, raw)})
        except SafetensorError as error:  # what the library makes of a full disk
            raise OSError(str(error)) from error
        _sort_metadata(temporary)


def is_intact(metadata: Mapping[str, str], tensors: "Mapping[str, RawTensor | Tensor]") -> bool:
    """True if a file of `save_tensors` holds what was written. Raises KeyError if it has no checksum."""
    rest = {name: text for name, text in metadata.items() if name != "checksum"}
    raw = {name: t if isinstance(t, RawTensor) else RawTensor.of(t) for name, t in tensors.items()}
    return metadata["checksum"] == _checksum(rest, raw)


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, RawTensor]) -> str:
    """SHA-256 of all that the file says, in the order of the names."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} torch.{tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, whose order is left to chance: equal content gives equal bytes."""
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(size))


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
