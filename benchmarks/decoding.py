"""Decoding token by token against a loop in torch, and against the bandwidth of this machine; ratios of one run.

`python -m benchmarks.decoding [--quick]`. The torch loop is embedding, nn.LSTM or nn.GRU, linear, softmax and
multinomial under inference mode, of the same sizes; weights are random. The ceiling is the bandwidth at which torch
sums as many bytes as a token reads, with as many threads.
"""

import string
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

import unrolled
from unrolled.generation.stream import advance
from unrolled.text import Tokenizer, bpe_tokenizer, character_tokenizer

EMBEDDING = 64
QUICK = "--quick" in sys.argv
REPEATS = 3 if QUICK else 7


class TorchLoop:
    """What a person writes in torch."""

    def __init__(self, kind: str, layers: int, hidden: int, vocabulary: int, batch: int) -> None:
        torch.manual_seed(0)
        self.embedding = nn.Embedding(vocabulary, EMBEDDING)
        self.recurrence = getattr(nn, kind)(EMBEDDING, hidden, layers, batch_first=True)
        self.readout = nn.Linear(hidden, vocabulary)
        self.token = torch.zeros(batch, 1, dtype=torch.long)
        self.state = None

    def run(self, steps: int) -> None:
        """So many tokens of each row."""
        with torch.inference_mode():
            for _ in range(steps):
                h, self.state = self.recurrence(self.embedding(self.token), self.state)
                self.token = torch.multinomial(torch.softmax(self.readout(h[:, -1]) / 0.8, -1), 1)


def tokenizer_of(vocabulary: int) -> Tokenizer:
    """Any tokenizer of that size."""
    if vocabulary == 65:
        return character_tokenizer(string.ascii_letters + string.digits + " \n.", 65)
    letters = string.ascii_lowercase
    words = (a + b + c + d for a in letters for b in letters for c in letters for d in letters[:6])
    return bpe_tokenizer(" ".join(words), vocabulary)


def text_model_of(cell: str, layers: int, hidden: int, tokenizer: Tokenizer) -> unrolled.TextModel:
    """A model of random weights."""
    torch.manual_seed(0)
    program = unrolled.cells.CELLS[cell]
    model = unrolled.LanguageModel(program, tokenizer.vocabulary_size, EMBEDDING, hidden, layers)
    return unrolled.TextModel(model.eval(), tokenizer)


def decoder_of(cell: str, layers: int, hidden: int, tokenizer: Tokenizer, precision: str) -> unrolled.Decoder:
    """The same, ready to generate."""
    return unrolled.Decoder.of(text_model_of(cell, layers, hidden, tokenizer), precision)


def running(model: unrolled.Decoder, streams: int, sampling: unrolled.Sampling) -> Callable[[int], None]:
    """A function that writes so many tokens of each of `streams` streams."""
    under_way = [model.stream(model.start("a", sampling), tokens=10**9) for _ in range(streams)]

    def run(steps: int) -> None:
        for _ in range(0, steps, 32):
            advance(model.engine, under_way, 32)

    return run


def rates(runs: dict[str, tuple[Callable[[int], None], int, int]]) -> dict[str, float]:
    """Tokens/s of each, measured in turns: (run, steps of a turn, tokens of a step)."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run, steps, _ in runs.values():
        run(steps)
    for _ in range(REPEATS):
        for name, (run, steps, _) in runs.items():
            start = time.perf_counter()
            run(steps)
            seconds[name].append((time.perf_counter() - start) / steps)
    return {name: tokens / median(seconds[name]) for name, (_, _, tokens) in runs.items()}


def bandwidth(size: int) -> float:
    """Bytes/s at which `size` bytes are summed again and again by all threads, read as float32."""
    values = torch.ones(size // 4)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        values.sum()
        times.append(time.perf_counter() - start)
    return size / median(times)


def main() -> None:
    """Measure and print."""
    characters = tokenizer_of(65)
    threads = torch.get_num_threads()
    print(f"{threads} threads, torch {torch.__version__}, {REPEATS} turns, medians; tokens/s")
    cases = [("LSTM", "lstm", 2, 512), ("GRU", "torch_gru", 2, 512), ("LSTM", "lstm", 1, 1024)]
    for kind, cell, layers, hidden in cases:
        sampling = unrolled.Sampling(temperature=0.8)
        models = {p: decoder_of(cell, layers, hidden, characters, p) for p in ("float32", "int8")}
        runs = {"torch": (TorchLoop(kind, layers, hidden, 65, 1).run, 32, 1)}
        runs |= {p: (running(model, 1, sampling), 256, 1) for p, model in models.items()}
        runs["torch x 64"] = (TorchLoop(kind, layers, hidden, 65, 64).run, 32, 64)
        runs |= {f"{p} x 64": (running(model, 64, sampling), 32, 64) for p, model in models.items()}
        found = rates(runs)
        size = models["float32"].engine.weight_bytes
        ceiling = bandwidth(size) / size
        print(f"{kind} {layers} x {hidden}: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in found.items()))
        times = {name: rate / found["torch x 64" if "x 64" in name else "torch"] for name, rate in found.items()}
        print(
            f"  one stream: float32 {times['float32']:.1f}x torch, int8 {times['int8']:.1f}x; "
            f"float32 is {found['float32'] / ceiling:.0%} of the ceiling"
        )
        print(
            f"  64 streams: float32 {times['float32 x 64']:.1f}x torch, int8 {times['int8 x 64']:.1f}x; "
            f"float32 {found['float32 x 64'] / found['float32']:.1f}x one stream"
        )
    tokenizer = tokenizer_of(32_000)
    model = decoder_of("lstm", 1, 512, tokenizer, "float32")
    strict = unrolled.Sampling(temperature=0.8, top_k=40, top_p=0.95)
    greedy = unrolled.Sampling(temperature=0)
    state = np.zeros(model.engine.state_size, np.float32)
    token = np.zeros((1, 1), np.int32)

    def step_only(steps: int) -> None:
        for _ in range(steps):  # one by one: of many at once the readout would be a product of many rows
            model.engine.read([state], token)

    found = rates(
        {
            "sampled": (running(model, 1, strict), 64, 1),
            "greedy": (running(model, 1, greedy), 64, 1),
            "step": (step_only, 64, 1),
        }
    )
    share = 1 - found["sampled"] / found["step"]
    print(f"vocabulary {tokenizer.vocabulary_size}: {found['sampled']:,.0f} tokens/s, sampling {share:.0%} of the time")


if __name__ == "__main__":
    main()
