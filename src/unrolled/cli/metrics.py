"""The numbers of a run in files: one JSON object a line, and for TensorBoard on request."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from unrolled.errors import UnrolledError
from unrolled.training import Event, Planned, Progress, Recovered, Validated

NAME = "metrics.jsonl"


class Metrics:
    """Writes `folder/metrics.jsonl`; a resumed run drops the lines after the step that it goes on from."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self._board: Any = _board_writer(folder) if tensorboard else None

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_details: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, event: Event) -> None:
        """Add what `event` measured."""
        if os.environ.get("RANK", "0") != "0":
            return
        if isinstance(event, Planned):
            self._file = _continued(self._folder / NAME, event.step)
        if self._file is None or not isinstance(event, (Progress, Validated, Recovered)):
            return
        kind = type(event).__name__.lower()
        self._file.write(json.dumps({"event": kind, **asdict(event)}) + "\n")
        self._file.flush()
        if self._board is not None and isinstance(event, (Progress, Validated)):
            part = "train" if isinstance(event, Progress) else "validation"
            self._board.add_scalar(f"bits_per_byte/{part}", event.bits_per_byte, event.step)
            self._board.add_scalar(f"nats_per_token/{part}", event.nats_per_token, event.step)
            if isinstance(event, Progress):
                self._board.add_scalar("learning_rate", event.learning_rate, event.step)
                self._board.add_scalar("tokens_per_second", event.tokens_per_second, event.step)


def _continued(path: Path, step: int) -> IO[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if _step(line) <= step] if step else []
    file = path.open("w", encoding="utf-8")
    file.writelines(line + "\n" for line in kept)
    return file


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line that a kill cut short


def _board_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UnrolledError(
            "--tensorboard needs the package tensorboard; install it with: pip install 'unrolled[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
