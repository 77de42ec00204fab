"""One run of the quality benchmark, each in a process of its own: our defaults, or a plain loop over torch.nn.LSTM.

A run gives its models at several moments as (seconds since the process was asked for, path of a file); they are judged
when it is over, so that judging costs no run its time.
"""

import math
import shutil
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from unrolled.artifact import TextModel, load
from unrolled.cli.long_run import forget_what_stays, keep_freed_memory
from unrolled.text import Streams, character_tokenizer
from unrolled.training import Finished, Settings, Validated, train

Moments = list[tuple[float, Path]]
_POINTS = 12


def ours(train_text: Path, folder: Path, minutes: float, seed: int, started: float) -> Moments:
    """`unrolled train --minutes`, with every default."""
    output = folder / "model.safetensors"
    moments: Moments = []
    keep_freed_memory()
    forget_what_stays()
    events = train(train_text, output, settings=Settings(minutes=minutes, seed=seed), validation=0.0, started=started)
    for event in events:
        if isinstance(event, Finished) or (isinstance(event, Validated) and event.best):
            path = folder / f"at {event.step}.safetensors"
            shutil.copyfile(output, path)
            moments.append((time.monotonic() - started, path))
    return moments


class TorchModel(nn.Module):
    """Embedding, torch.nn.LSTM, linear: the loop that people write."""

    def __init__(self, vocabulary: int, embedding: int = 128, hidden: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrence = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.readout = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor, state: object = None, lengths: Tensor | None = None) -> tuple[Tensor, object]:
        """Logits and state, as our model gives them; steps past a row's length are computed and not looked at."""
        del lengths
        h, state = self.recurrence(self.embedding(tokens), state)
        return self.readout(h), state


def torch_nn(train_text: Path, folder: Path, minutes: float, seed: int, started: float) -> Moments:
    """AdamW at 0.004 with a cosine over the time there is, batch 32, window 64, carried state, no dropout."""
    torch.manual_seed(seed)
    text = train_text.read_text(encoding="utf-8")
    tokenizer = character_tokenizer(text, 8192)
    model = TorchModel(tokenizer.vocabulary_size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, fused=True)
    streams = Streams(tokenizer.encode(text), 32, 64, seed)
    moments: Moments = []
    state: tuple[Tensor, Tensor] | None = None
    step, share = 0, 0.0
    while share < 1:
        batch = streams.batch(step)
        state = None if batch.fresh or state is None else (state[0].detach(), state[1].detach())
        logits, state = model(torch.from_numpy(batch.inputs), state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 0.004 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        optimizer.step()
        step += 1
        seconds = time.monotonic() - started
        share = min(1.0, seconds / (60 * minutes))
        if share * _POINTS >= len(moments) + 1 or share == 1:
            path = folder / f"at {step}.pt"
            torch.save({"weights": model.state_dict(), "tokenizer": tokenizer.to_json()}, path)
            moments.append((seconds, path))
    return moments


def opened(path: Path) -> TextModel:
    """The model of one moment, ready to be judged."""
    if path.suffix == ".safetensors":
        return load(path)
    from unrolled.text import Tokenizer

    content = torch.load(path)
    tokenizer = Tokenizer.from_json(content["tokenizer"])
    model = TorchModel(tokenizer.vocabulary_size)
    model.load_state_dict(content["weights"])
    return TextModel(model.eval(), tokenizer)  # type: ignore[arg-type]


RUNS = {"unrolled": ours, "torch.nn": torch_nn}
