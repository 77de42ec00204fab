"""All a run needs to go on exactly: weights, their average, optimizer, carried state, step. In memory or in a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unrolled.errors import UnrolledError
from unrolled.files import is_intact, save_tensors
from unrolled.models import LanguageModel
from unrolled.training.averaging import Average

# Raised whenever runs of before could not go on exactly.
FORMAT = 2


@dataclass(frozen=True)
class Record:
    """The part of a snapshot that is no tensor."""

    step: int
    best: float | None
    learning_rate_scale: float
    plan: str
    fingerprint: str
    threads: int
    seconds: float
    format: int = FORMAT


@dataclass(frozen=True)
class Snapshot:
    """A run at one step, in the memory of the CPU; `tensors` by names such as "model.readout.bias"."""

    record: Record
    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write to a file that is whole or not there."""
        metadata = {"format": "unrolled checkpoint", "record": json.dumps(vars(self.record))}
        save_tensors(path, self.tensors, metadata)

    @staticmethod
    def load(path: Path) -> "Snapshot":
        """Read what `save` wrote. Raises UnrolledError if the file is damaged or of a later version."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            record = json.loads(metadata["record"])
            if record["format"] != FORMAT:
                age = "a later" if record["format"] > FORMAT else "an earlier"
                raise UnrolledError(
                    f"{path} was written by {age} version of unrolled; resume it with that one, "
                    f"or delete {path.parent} and train again."
                )
            if not is_intact(metadata, tensors):
                raise ValueError("its checksum is not that of its content")
            return Snapshot(Record(**record), tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UnrolledError):
                raise
            raise UnrolledError(
                f"the checkpoint {path} is damaged ({error}); delete {path.parent} and train again."
            ) from error


def capture(model: LanguageModel, optimizer: torch.optim.Optimizer, average: Average, state: Any) -> dict[str, Tensor]:
    """Copies of the tensors of a run; `state` is the carried state of the whole batch, or None."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"average.{name}": mean for name, mean in average.tensors().items()}
    for number, tensor in enumerate(flat(state)):
        tensors[f"state.{number}"] = tensor
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def restore(
    tensors: dict[str, Tensor], model: LanguageModel, optimizer: torch.optim.Optimizer, average: Average
) -> list[Tensor]:
    """Put the tensors of `capture` back into model, optimizer and average; returns the carried state, flat."""
    model.load_state_dict(_under("model.", tensors))
    average.load(_under("average.", tensors))
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        for full, value in _under("optimizer.", tensors).items():
            key, _, owner = full.partition(".")
            if owner == name:
                optimizer.state[parameter][key] = value.clone() if key == "step" else value.clone().to(parameter.device)
    carried = _under("state.", tensors)
    return [carried[str(number)].clone() for number in range(len(carried))]


def flat(state: Any) -> list[Tensor]:
    """The tensors of a nested state, in order; none for None."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in flat(part)]


def nested(like: Any, tensors: list[Tensor]) -> Any:
    """The flat `tensors` in the nesting of `like`."""
    rest = iter(tensors)

    def build(part: Any) -> Any:
        return next(rest) if isinstance(part, Tensor) else tuple(build(p) for p in part)

    return build(like)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
