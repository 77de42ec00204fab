"""One layer, forward+backward and forward alone: the native engine against torch.nn, taking turns in one run.

GFLOP/s count 3 (forward alone: 1) x 2 T B G H (I + H); the peak is that of the engine's own weight-gradient product.
"""

import argparse
import statistics
import time

import torch

from unrolled.cells import CELLS
from unrolled.engine.native import autograd, library

SIZES = [(32, 64, 128, 256), (64, 128, 256, 256), (64, 128, 512, 512), (32, 64, 1024, 1024)]
CELLS_OF = {"RNN": ("torch_rnn_tanh", 1), "GRU": ("torch_gru", 3), "LSTM": ("torch_lstm", 4)}


def peak(n: int = 1536) -> float:
    """GFLOP/s of the largest product that this machine is measured with."""
    a, b, c = (torch.randn(n, n) for _ in range(3))
    stride = library.integers([n])
    left, result = (library.addresses([t.data_ptr()]) for t in (a, c))
    arguments = (1, left, stride, b.data_ptr(), n, n, n, n, result, stride, torch.get_num_threads())
    return 2 * n**3 / 1e9 / min(_timed(lambda: library.call("unrolled_outer", *arguments)) for _ in range(15))


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sides(kind: str, batch: int, steps: int, inputs: int, hidden: int, backward: bool):
    """The same layer with equal work, twice: (torch.nn's run, the engine's run)."""
    name, _ = CELLS_OF[kind]
    program = CELLS[name]
    module = getattr(torch.nn, kind)(inputs, hidden, batch_first=True)
    sizes = {"input": inputs, "hidden": hidden}
    parameters = {
        p.name: torch.empty(program.shape_of(p, sizes)).uniform_(-(hidden**-0.5), hidden**-0.5).requires_grad_()
        for p in program.parameters
    }
    x = torch.randn(batch, steps, inputs, requires_grad=True)
    state = tuple(torch.zeros(batch, hidden) for _ in program.states)
    weight = torch.randn(batch, steps, hidden)

    def run(call, leaves):
        if not backward:
            with torch.no_grad():
                call()
            return
        torch.autograd.backward(call(), weight)
        for leaf in leaves:
            leaf.grad = None
        with torch.no_grad():  # an optimizer's step, so that packing the weights is paid for
            next(iter(leaves)).mul_(1.0)

    return (
        lambda: run(lambda: module(x)[0], [*module.parameters(), x]),
        lambda: run(lambda: autograd.unroll(program, parameters, x, state)[0], [*parameters.values(), x]),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--forward", action="store_true", help="forward alone, without gradients")
    parser.add_argument("--cells", nargs="*", default=list(CELLS_OF))
    arguments = parser.parse_args()
    reached = peak()
    print(f"{library.instruction_set()}, {torch.get_num_threads()} threads, peak {reached:.0f} GFLOP/s")
    for size in SIZES:
        for kind in arguments.cells:
            theirs, ours = sides(kind, *size, backward=not arguments.forward)
            theirs(), ours()
            times = [(_timed(theirs), _timed(ours)) for _ in range(arguments.repeats)]
            a, b = (statistics.median(side) for side in zip(*times, strict=True))
            batch, steps, inputs, hidden = size
            flops = (1 if arguments.forward else 3) * 2 * steps * batch * CELLS_OF[kind][1] * hidden * (inputs + hidden)
            print(
                f"{size!s:22} {kind:5} torch.nn {a * 1e3:8.1f} ms {flops / a / 1e9:5.0f}   "
                f"native {b * 1e3:8.1f} ms {flops / b / 1e9:5.0f} GFLOP/s ({flops / b / 1e9 / reached:4.0%} of peak)   "
                f"{a / b:5.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
