"""A whole training step of the language model, forward to optimizer, against the same model in torch.nn, and in bf16.

`python -m benchmarks.training_step`; medians of alternating runs. Prints one row per cell.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unrolled import LanguageModel, cells
from unrolled.engine import bf16_products, engine_for


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


def stepper(model: nn.Module, tokens: Tensor, bf16: bool = False) -> Callable[[], None]:
    """One optimizer step of `model`, as a function; `bf16`: under autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss, _ = model.loss(tokens, tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def alternate(calls: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """Median seconds of each, run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 4:
        for own, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


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
    print(f"products in bf16: {bf16_products()[1]}")
    heads = f"{'torch.nn ms':>12} {'ours ms':>9} {'ratio':>7} {'bf16 ms':>9} {'ratio':>7} {'tokens/s':>10}"
    print(f"{'cell':8} {'engine':10} {heads}")
    tokens = torch.randint(a.vocabulary, (a.batch, a.window))
    for cell, kind in ((cells.vanilla, nn.RNN), (cells.lstm, nn.LSTM), (cells.gru, nn.GRU)):
        model = LanguageModel(cell, a.vocabulary, a.embedding, a.hidden, layers=a.layers)
        peer = TorchModel(kind, a.vocabulary, a.embedding, a.hidden, a.layers)
        calls = [stepper(peer, tokens), stepper(model, tokens), stepper(model, tokens, bf16_products()[0])]
        theirs, ours, bf16 = alternate(calls, a.seconds)
        engine, _ = engine_for(torch.zeros(1))
        print(
            f"{cell.name:8} {engine:10} {1e3 * theirs:12.1f} {1e3 * ours:9.1f} {theirs / ours:6.2f}x "
            f"{1e3 * bf16:9.1f} {theirs / bf16:6.2f}x {a.batch * a.window / bf16:10,.0f}"
        )


if __name__ == "__main__":
    main()
