"""One step at a time, T = 1, without gradients: a drop-in of unrolled.nn against torch.nn, taking turns in one run.

`python -m benchmarks.streaming`; microseconds a step, medians over the turns. The state goes in and comes out.
"""

import argparse
import platform
import statistics
import time

import torch
from torch import nn

import unrolled.nn

CASES = [
    ("LSTM", 512, 1, 1),
    ("LSTM", 512, 2, 1),
    ("LSTM", 1024, 1, 1),
    ("LSTM", 128, 1, 1),
    ("GRU", 512, 1, 1),
    ("RNN", 512, 1, 1),
    ("LSTM", 512, 1, 16),
]


def microseconds(module: nn.RNNBase, x: torch.Tensor, steps: int) -> float:
    """The time of one step, over so many."""
    state = None
    start = time.perf_counter()
    for _ in range(steps):
        _, state = module(x, state)
    return (time.perf_counter() - start) / steps * 1e6


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument(
        "--steps", type=int, default=300, help="steps of a turn; its first finds no weights in the caches"
    )
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("cell  hidden layers batch   torch.nn   unrolled    ratio (lowest, highest of the turns)")
    for kind, hidden, layers, batch in CASES:
        theirs = getattr(nn, kind)(hidden, hidden, layers)
        ours = getattr(unrolled.nn, kind)(hidden, hidden, layers)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(1, batch, hidden)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])
        turns = [[microseconds(m, x, arguments.steps) for m in (theirs, ours)] for _ in range(arguments.turns)]
        a, b = (statistics.median(side) for side in zip(*turns, strict=True))
        ratios = [first / second for first, second in turns]
        print(
            f"{kind:5} {hidden:6} {layers:6} {batch:5} {a:7.0f} us {b:7.0f} us  "
            f"{statistics.median(ratios):6.1f}x ({min(ratios):.1f}, {max(ratios):.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
