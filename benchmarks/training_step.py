"""A whole training step of the language model, forward to optimizer, against the same model in torch.nn.

`python -m benchmarks.training_step`; medians of alternating runs. Prints one row per cell.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unrolled import LanguageModel, cells
from unrolled.engine import engine_for


class TorchModel(nn.Module):
    """Embedding, layers of torch.nn whose outputs are summed up, readout: the same model."""

    def __init__(self, kind: type[nn.RNNBase], vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        widths = [embedding] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(kind(width, hidden, batch_first=True) for width in widths)
        self.readout = nn.Linear(hidden, vocabulary)

    def loss(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, None]:
        """Mean cross-entropy."""
        h, _ = self.layers[0](self.embedding(tokens))
        for layer in self.layers[1:]:
            h = h + layer(h)[0]
        logits = self.readout(h)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), None


def stepper(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """One optimizer step of `model`, as a function."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(tokens, tokens)[0].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def alternate(ours: Callable[[], None], theirs: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Median seconds of each, run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 4:
        for side, call in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            call()
            side.append(time.perf_counter() - start)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"vocabulary": 65, "embedding": 128, "hidden": 256, "layers": 2, "batch": 32, "window": 64}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=10)
    a = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{a.layers} x {a.hidden}, batch {a.batch}, window {a.window}, vocabulary {a.vocabulary}")
    print(f"{'cell':8} {'engine':10} {'ours ms':>9} {'torch.nn ms':>12} {'ratio':>7} {'tokens/s':>10}")
    tokens = torch.randint(a.vocabulary, (a.batch, a.window))
    for cell, kind in ((cells.vanilla, nn.RNN), (cells.lstm, nn.LSTM), (cells.gru, nn.GRU)):
        model = LanguageModel(cell, a.vocabulary, a.embedding, a.hidden, layers=a.layers)
        peer = TorchModel(kind, a.vocabulary, a.embedding, a.hidden, a.layers)
        ours, theirs = alternate(stepper(model, tokens), stepper(peer, tokens), a.seconds)
        engine, _ = engine_for(torch.zeros(1))
        speed = a.batch * a.window / ours
        print(f"{cell.name:8} {engine:10} {1e3 * ours:9.1f} {1e3 * theirs:12.1f} {theirs / ours:6.2f}x {speed:10,.0f}")


if __name__ == "__main__":
    main()
