"""The model file with torch: one safetensors file with the weights, in its metadata sizes, equations and tokenizer.

Any safetensors tool reads it, loading it runs no code of its own, and it holds all that generating needs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from unrolled.artifact.stored import FORMAT, check_fit, check_format, damaged, restored
from unrolled.errors import UnrolledError
from unrolled.files import is_intact, save_tensors
from unrolled.models import LanguageModel
from unrolled.tensor_files import read_tensors
from unrolled.text import Tokenizer


@dataclass
class TextModel:
    """A language model with its tokenizer, which belong together; `notes` say how it came to be."""

    model: LanguageModel
    tokenizer: Tokenizer
    notes: dict[str, object] = field(default_factory=dict)


def save(path: str | Path, text_model: TextModel) -> None:
    """Write the model file. It is whole or not there; an older one stays until the new one is complete."""
    metadata = {
        "format": "unrolled",
        "version": str(FORMAT),
        "model": text_model.model.to_json(),
        "tokenizer": text_model.tokenizer.to_json(),
        "notes": json.dumps(text_model.notes),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in text_model.model.state_dict().items()}
    save_tensors(path, tensors, metadata)


def load(path: str | Path, device: str = "cpu") -> TextModel:
    """Read a model file, ready to generate (evaluation mode) on `device`.

    Raises UnrolledError if the file is missing, damaged, foreign or of a later version.
    """
    path = Path(path)
    metadata, raw = read_tensors(path, "model", f"as written by: unrolled train TEXT -o {path.name}")
    check_format(path, metadata)
    try:
        if not is_intact(metadata, raw):
            raise UnrolledError("its checksum is not that of its content.")
        # On the meta device sizes cost no memory, so they are compared with the weights before any is spent.
        with torch.device("meta"):
            model = LanguageModel.from_json(metadata["model"])
        tokenizer = Tokenizer.from_json(metadata["tokenizer"])
        notes = json.loads(metadata["notes"])
        tensors = {name: tensor.torch() for name, tensor in restored(raw).items()}
        _fit(model, tensors)
        if tokenizer.vocabulary_size != model.config["vocabulary_size"]:
            raise UnrolledError("the tokenizer and the model have different vocabularies.")
    except (KeyError, json.JSONDecodeError, UnrolledError) as error:
        raise damaged(path, error) from error
    model.load_state_dict(tensors, assign=True)
    return TextModel(model.to(device).eval(), tokenizer, notes)


def _fit(model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> None:
    check_fit(_shapes(model.state_dict()), _shapes(tensors))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UnrolledError(f"the weight {name} holds {tensor.dtype}, not floating-point numbers.")


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
