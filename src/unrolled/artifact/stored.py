"""A model file read without torch: the weights as numpy arrays, the step of the model as a Program, the tokenizer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.quantized import dequantized
from unrolled.errors import UnrolledError
from unrolled.files import is_intact
from unrolled.models.step_program import ModelStep
from unrolled.tensor_files import RawTensor, read_tensors
from unrolled.text import Tokenizer

if TYPE_CHECKING:
    from unrolled.artifact.text_model import TextModel

FORMAT = 1
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class StoredModel:
    """A model as its file has it: enough to decode, nothing to train with."""

    step: ModelStep
    weights: Mapping[str, NDArray[np.float32]]
    """By the names of the file."""
    tokenizer: Tokenizer
    notes: Mapping[str, Any]
    description: str
    """As `LanguageModel.to_json` has it."""
    precision: str
    """"float32", or "int8" where the matrices are whole numbers of 8 bits times a scale for each row."""
    hash: str
    """Of equations, sizes, weights and tokenizer: equal for models that are the same, whatever their notes."""

    @staticmethod
    def of(text_model: "TextModel") -> "StoredModel":
        """The same model, taken from torch; later changes of its weights do not reach this one."""
        tensors = {name: tensor.detach().cpu() for name, tensor in text_model.model.state_dict().items()}
        raw = {name: RawTensor.of(tensor) for name, tensor in tensors.items()}
        return _stored(text_model.model.to_json(), text_model.tokenizer, text_model.notes, raw, "float32")

    def quantized(self) -> "StoredModel":
        """The same in precision "int8": its weights are rounded. Errors as of `check_quantizable`."""
        if self.precision == "int8":
            return self
        self.check_quantizable()
        weights = {n: dequantized(w) if is_matrix(n, w.ndim) else w for n, w in self.weights.items()}
        raw = {name: RawTensor.of(weight) for name, weight in weights.items()}
        return _stored(self.description, self.tokenizer, self.notes, raw, "int8")

    def check_quantizable(self) -> None:
        """Raises UnrolledError if some weights are not finite numbers."""
        infinite = [name for name, weight in self.weights.items() if not np.isfinite(weight).all()]
        if infinite:
            raise UnrolledError(
                f"the model cannot be quantized: {', '.join(infinite)} holds numbers that are not finite. "
                "Its training went astray: train again with a lower learning rate, or use an earlier checkpoint."
            )


def read(path: str | Path) -> StoredModel:
    """Read a model file without torch.

    Raises UnrolledError if the file is missing, damaged, foreign or of a later version.
    """
    path = Path(path)
    metadata, tensors = read_tensors(path, "model", f"as written by: unrolled train TEXT -o {path.name}")
    check_format(path, metadata)
    try:
        if not is_intact(metadata, tensors):
            raise UnrolledError("its checksum is not that of its content.")
        tokenizer = Tokenizer.from_json(metadata["tokenizer"])
        precision = metadata.get("precision", "float32")
        return _stored(metadata["model"], tokenizer, json.loads(metadata["notes"]), restored(tensors), precision)
    except (KeyError, json.JSONDecodeError, UnrolledError) as error:
        raise damaged(path, error) from error


def check_format(path: Path, metadata: Mapping[str, str]) -> None:
    """Raises UnrolledError unless the file says that it is a model of this version."""
    if metadata.get("format") != "unrolled":
        raise UnrolledError(
            f"{path} is a safetensors file, but not a model of unrolled; make one with: unrolled train."
        )
    if metadata.get("version") != str(FORMAT):
        version = metadata.get("version", "none")
        raise UnrolledError(f"{path} has format version {version}, this unrolled reads {FORMAT}; update unrolled.")


def damaged(path: Path, error: Exception) -> UnrolledError:
    """What to say about a model file whose content is wrong."""
    reason = f"its {error.args[0]} is missing." if isinstance(error, KeyError) else error
    return UnrolledError(f"{path} is damaged: {reason} Use a good copy or train again.")


def check_fit(expected: Mapping[str, tuple[int, ...]], came: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UnrolledError unless the weights have the names and shapes that the description asks for."""
    if expected != came:
        wrong = sorted(name for name in expected.keys() | came.keys() if expected.get(name) != came.get(name))
        raise UnrolledError(f"the weights {', '.join(wrong)} do not fit its description.")


def is_matrix(name: str, dimensions: int) -> bool:
    """True for weights that precision "int8" rounds: all matrices but the embedding, of which a step reads one row."""
    return dimensions == 2 and name != "embedding.weight"


def scale_name(name: str) -> str:
    """What a file calls the scales (rows,) of the 8-bit matrix `name`."""
    return f"{name}.scale"


def restored(tensors: Mapping[str, RawTensor]) -> dict[str, RawTensor]:
    """The weights of a file, those of 8 bits times their scales."""
    weights: dict[str, RawTensor] = {}
    for name, tensor in tensors.items():
        scale = tensors.get(scale_name(name))
        if tensor.dtype == "int8" and scale is not None and scale.shape == tensor.shape[:1]:
            weights[name] = RawTensor.of(tensor.numpy().astype(np.float32) * scale.float32()[:, None])
        elif tensors.get(name.removesuffix(".scale"), tensor).dtype != "int8":
            weights[name] = tensor
    return weights


def _stored(
    description: str,
    tokenizer: Tokenizer,
    notes: Mapping[str, Any],
    tensors: Mapping[str, RawTensor],
    precision: str,
) -> StoredModel:
    step = ModelStep.from_json(description)
    check_fit(step.shapes(), {name: tensor.shape for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        if not tensor.is_floating_point:
            raise UnrolledError(f"the weight {name} holds torch.{tensor.dtype}, not floating-point numbers.")
    if tokenizer.vocabulary_size != step.vocabulary_size:
        raise UnrolledError("the tokenizer and the model have different vocabularies.")
    if precision not in PRECISIONS:
        raise UnrolledError(f"its precision is {precision!r}, not one of {', '.join(PRECISIONS)}.")
    digest = hashlib.sha256(json.dumps([precision, json.loads(description), json.loads(tokenizer.to_json())]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.data)
    weights = {name: tensor.float32() for name, tensor in tensors.items()}
    return StoredModel(step, weights, tokenizer, notes, description, precision, digest.hexdigest())
