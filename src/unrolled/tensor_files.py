"""Safetensors files as raw bytes with a type: what numpy and torch both read, bfloat16 included, and without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError

if TYPE_CHECKING:
    from torch import Tensor

# The format's names of types -> those of numpy and torch.
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
}


@dataclass(frozen=True)
class RawTensor:
    """The bytes of a tensor, in C order."""

    dtype: str
    """As numpy and torch call it: "float32", "bfloat16", ..."""
    shape: tuple[int, ...]
    data: Any
    """A buffer of bytes."""

    @staticmethod
    def of(tensor: "NDArray[Any] | Tensor") -> "RawTensor":
        """The bytes of an array of numpy or a tensor of torch on the CPU."""
        if isinstance(tensor, np.ndarray):
            return RawTensor(str(tensor.dtype), tensor.shape, np.ascontiguousarray(tensor).reshape(-1).view(np.uint8))
        import torch

        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()  # as bytes: numpy knows no bfloat16
        return RawTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data)

    @property
    def is_floating_point(self) -> bool:
        """True for the types that weights may have."""
        return "float" in self.dtype

    def numpy(self) -> NDArray[Any]:
        """The same as an array of numpy. Raises UnrolledError for types that numpy has not."""
        if self.dtype == "bfloat16":
            raise UnrolledError("numpy has no bfloat16; take float32().")
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def float32(self) -> NDArray[np.float32]:
        """The values in float32, which holds every bfloat16 and float16 exactly."""
        if self.dtype != "bfloat16":
            return self.numpy().astype(np.float32, copy=False)
        return (np.frombuffer(self.data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(self.shape)

    def torch(self) -> "Tensor":
        """The same as a tensor of torch, in memory of its own."""
        import torch

        kind = getattr(torch, self.dtype)
        if len(self.data) == 0:
            return torch.empty(self.shape, dtype=kind)
        return torch.frombuffer(bytearray(self.data), dtype=kind).reshape(self.shape)


def read_tensors(path: Path, what: str, example: str) -> tuple[dict[str, str], dict[str, RawTensor]]:
    """The metadata and tensors of a file that should be a `what`, such as `example` names.

    Raises UnrolledError if it is missing, cannot be read or is no whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise UnrolledError(f"{path} {state}; name a {what} file, {example}.")
        with safe_open(path, framework="np") as file:  # which checks the header and the length
            metadata: Mapping[str, str] = file.metadata() or {}
        return dict(metadata), _tensors(_content(path))
    except OSError as error:
        raise UnrolledError(f"cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        if isinstance(error, UnrolledError):
            raise
        raise UnrolledError(
            f"{path} is no {what} file, or it is damaged or cut short ({error}); use a good copy."
        ) from error


def _content(path: Path) -> memoryview:
    """The bytes of a file, in memory that goes back to the system as soon as nobody looks at it any more."""
    with path.open("rb") as file:
        memory = mmap(-1, path.stat().st_size)
        file.readinto(memory)
        return memoryview(memory)


def _tensors(content: memoryview) -> dict[str, RawTensor]:
    """The tensors of a safetensors file: a length, that much JSON, and then the bytes of all tensors."""
    first = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:first]))
    tensors = {}
    for name, part in header.items():
        if name != "__metadata__":
            begin, end = part["data_offsets"]
            data = content[first + begin : first + end]
            tensors[name] = RawTensor(_TYPES.get(part["dtype"], part["dtype"]), tuple(part["shape"]), data)
    return tensors
