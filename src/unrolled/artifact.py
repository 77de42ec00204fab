"""The model file: one safetensors file with the weights, in its metadata sizes, equations and tokenizer.

Any safetensors tool reads it, loading it runs no code of its own, and it holds all that generating needs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unrolled.errors import UnrolledError
from unrolled.files import is_intact, save_tensors
from unrolled.models import LanguageModel
from unrolled.text import Tokenizer

FORMAT = 1


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
    metadata, tensors = _read(path)
    if metadata.get("format") != "unrolled":
        raise UnrolledError(
            f"{path} is a safetensors file, but not a model of unrolled; make one with: unrolled train."
        )
    if metadata.get("version") != str(FORMAT):
        version = metadata.get("version", "none")
        raise UnrolledError(f"{path} has format version {version}, this unrolled reads {FORMAT}; update unrolled.")
    try:
        if not is_intact(metadata, tensors):
            raise UnrolledError("its checksum is not that of its content.")
        # On the meta device sizes cost no memory, so they are compared with the weights before any is spent.
        with torch.device("meta"):
            model = LanguageModel.from_json(metadata["model"])
        tokenizer = Tokenizer.from_json(metadata["tokenizer"])
        notes = json.loads(metadata["notes"])
        _fit(model, tensors)
        if tokenizer.vocabulary_size != model.config["vocabulary_size"]:
            raise UnrolledError("the tokenizer and the model have different vocabularies.")
    except (KeyError, json.JSONDecodeError, UnrolledError) as error:
        reason = f"its {error.args[0]} is missing." if isinstance(error, KeyError) else error
        raise UnrolledError(f"{path} is damaged: {reason} Use a good copy or train again.") from error
    model.load_state_dict(tensors, assign=True)
    return TextModel(model.to(device).eval(), tokenizer, notes)


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise UnrolledError(f"{path} {what}; name a model file, as written by: unrolled train TEXT -o {path.name}.")
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UnrolledError(f"cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        if isinstance(error, UnrolledError):
            raise
        raise UnrolledError(
            f"{path} is no model file, or it is damaged or cut short ({error}); use a good copy."
        ) from error


def _fit(model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    came = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != came:
        wrong = sorted(name for name in expected.keys() | came.keys() if expected.get(name) != came.get(name))
        raise UnrolledError(f"the weights {', '.join(wrong)} do not fit its description.")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UnrolledError(f"the weight {name} holds {tensor.dtype}, not floating-point numbers.")
