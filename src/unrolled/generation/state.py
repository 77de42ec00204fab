"""All that a model remembers of a text, as a value: to go on from, to copy, to save and to load."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError
from unrolled.files import is_intact, save_tensors
from unrolled.generation.sampling import Sampling
from unrolled.tensor_files import read_tensors

FORMAT = 1
LONGEST_WINDOW = 65_536  # of Sampling.repetition_window


@dataclass
class State:
    """A model after some text. Generating and reading change it; `fork` first to keep what was.

    Going on from a state, from a copy of it or from its file in another process gives the same text.
    """

    model: str
    """The hash of the model that it belongs to."""
    vector: NDArray[np.float32]
    """(state_size,): the states of all layers, one after the other."""
    logits: NDArray[np.float32]
    """(vocabulary,): of the next token."""
    recent: NDArray[np.int32]
    """The latest tokens, at most 65,536, which the repetition penalty looks at."""
    sampling: Sampling = field(default_factory=Sampling)
    counter: int = 0
    """How many random numbers of the seed were used."""
    pending: bytes = b""
    """The bytes of a character that is not complete yet."""
    unread: str = ""
    """Text that is generated and not handed out yet."""

    def fork(self) -> "State":
        """A copy that goes its own way."""
        return replace(self, vector=self.vector.copy(), logits=self.logits.copy(), recent=self.recent.copy())

    def resample(self, sampling: Sampling) -> None:
        """Choose tokens by `sampling` from here on, with its seed from the beginning."""
        self.sampling, self.counter = sampling, 0

    def read(self, tokens: NDArray[np.integer]) -> None:
        """Note that `tokens` came."""
        new = np.asarray(tokens[-LONGEST_WINDOW:], np.int32)
        self.recent = np.concatenate([self.recent[max(0, len(self.recent) + len(new) - LONGEST_WINDOW) :], new])

    def become(self, other: "State") -> None:
        """Take over all that `other` is, which must not be used any more."""
        self.__dict__.update(other.__dict__)

    def save(self, path: str | Path) -> None:
        """Write the state to a file, a few kilobytes. Raises UnrolledError if that is not possible."""
        metadata = {
            "format": "unrolled state",
            "version": str(FORMAT),
            "model": self.model,
            "sampling": json.dumps(asdict(self.sampling)),
            "counter": str(self.counter),
            "pending": self.pending.hex(),
            "unread": self.unread,
        }
        save_tensors(path, {"vector": self.vector, "logits": self.logits, "recent": self.recent}, metadata)

    @staticmethod
    def load(path: str | Path) -> "State":
        """Read what `save` wrote. Raises UnrolledError if the file is missing, damaged, foreign or later."""
        path = Path(path)
        how = "unrolled generate MODEL --save-state"
        metadata, tensors = read_tensors(path, "state", f"as written by: {how} {path.name}")
        if metadata.get("format") != "unrolled state":
            raise UnrolledError(f"{path} is a safetensors file, but not a state; make one with: {how} FILE.")
        if metadata.get("version") != str(FORMAT):
            came = metadata.get("version", "none")
            raise UnrolledError(f"{path} has state version {came}, this unrolled reads {FORMAT}; update unrolled.")
        try:
            if not is_intact(metadata, tensors):
                raise UnrolledError("its checksum is not that of its content.")
            vector = tensors["vector"].float32().copy()
            if not np.isfinite(vector).all():
                raise UnrolledError("it holds numbers that are not finite.")
            return State(
                model=metadata["model"],
                vector=vector,
                logits=tensors["logits"].float32().copy(),
                recent=tensors["recent"].numpy().astype(np.int32),
                sampling=Sampling(**json.loads(metadata["sampling"])),
                counter=int(metadata["counter"]),
                pending=bytes.fromhex(metadata["pending"]),
                unread=metadata["unread"],
            )
        except (KeyError, ValueError, TypeError) as error:
            reason = f"its {error.args[0]} is missing." if isinstance(error, KeyError) else error
            raise UnrolledError(f"{path} is damaged: {reason} Read the text again from its beginning.") from error
