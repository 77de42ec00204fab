"""One layer, forward and forward+backward: the native engine beside torch.nn and a loop in Python, in turn; then
ONNX Runtime and Keras on JAX where they are installed, which have threads of their own.

`python -m benchmarks.layers --output FOLDER` prints ratios and writes layers.csv and layers.svg; `--quick` takes the
smallest size. Medians; GFLOP/s count the products alone, as a share of the fp32 peak that is measured first.
"""

import argparse
import csv
import os
import statistics
import time
from pathlib import Path

import torch

from benchmarks.memory import peak_of_training
from benchmarks.peak import peak
from benchmarks.peers import BUILT_IN, OWN_THREADS, Case, Run, runs
from unrolled.engine.native import library

SIZES = [(32, 64, 128, 256), (64, 128, 256, 256), (64, 128, 512, 512), (32, 64, 1024, 1024)]
BATCHES = 7  # ragged ones, each of other lengths
LOOPED = (32, 20, 256, 256)
LOOPED_CELLS = ("gru", "peephole_lstm", "minimal_gated_unit", "RNN", "GRU", "LSTM")
COLUMNS = (
    "what",
    "cell",
    "batch",
    "steps",
    "inputs",
    "hidden",
    "direction",
    "who",
    "ms",
    "gflops",
    "of_peak",
    "native",
)


def medians(sides: dict[str, Run], repeats: int) -> dict[str, float]:
    """Median seconds of each side, taking turns."""
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(
    what: str, case: Case, backward: bool, loops: bool, repeats: int, reached: float
) -> list[dict[str, object]]:
    """One row for everyone who ran the case, printed; `native` is how many times faster the native engine is."""
    sides = runs(case, backward, loops)
    apart = {name: sides.pop(name) for name in OWN_THREADS if name in sides}
    found = medians(sides, repeats)
    for name, run in apart.items():
        found |= medians({name: run}, repeats)
    rows: list[dict[str, object]] = []
    for who, seconds in found.items():
        speed = case.flops(backward) / seconds / 1e9
        sizes = (case.batch, case.steps, case.inputs, case.hidden)
        direction = "forward+backward" if backward else "forward"
        ratio = seconds / found["native"]
        values = (round(1e3 * seconds, 3), round(speed, 1), round(speed / reached, 3), round(ratio, 2))
        rows.append(dict(zip(COLUMNS, (what, case.cell, *sizes, direction, who, *values), strict=True)))
        print(
            f"{what:7} {case.cell:18} {sizes!s:22} {direction:16} {who:14} {1e3 * seconds:9.2f} ms "
            f"{speed:5.0f} GFLOP/s {speed / reached:4.0%} of peak  native is {ratio:6.2f}x",
            flush=True,
        )
    return rows


def tables(quick: bool, repeats: int) -> list[dict[str, object]]:
    """All rows of the benchmark."""
    reached = peak()
    print(f"{library.instruction_set()}, {torch.get_num_threads()} threads, fp32 peak {reached:.0f} GFLOP/s, "
          f"torch {torch.__version__}")  # fmt: skip
    rows: list[dict[str, object]] = []
    for size in SIZES[:1] if quick else SIZES:
        for cell in (*BUILT_IN, "gru"):
            for backward in (False, True):
                rows += measure("full", Case(cell, *size), backward, False, repeats, reached)
    generator = torch.Generator().manual_seed(0)
    for batch, steps, inputs, hidden in SIZES[:1] if quick else SIZES[:2]:
        lengths = tuple(torch.randint(steps // 8, steps + 1, (BATCHES, batch), generator=generator))
        for cell in BUILT_IN:
            for packed in (False, True):
                for backward in (False, True):
                    case = Case(cell, batch, steps, inputs, hidden, lengths, packed)
                    rows += measure("packed" if packed else "ragged", case, backward, False, repeats, reached)
    for cell in LOOPED_CELLS[:1] if quick else LOOPED_CELLS:
        rows += measure("loop", Case(cell, *LOOPED), True, True, repeats, reached)
    for cell in BUILT_IN:
        batch, steps, inputs, hidden = SIZES[0 if quick else 2]
        ours, theirs = (peak_of_training(who, cell, batch, steps, inputs, hidden) for who in ("native", "torch.nn"))
        print(f"memory  {cell:18} {SIZES[0 if quick else 2]!s:22} native {ours:.0f} MiB, torch.nn {theirs:.0f} MiB")
        for who, value in (("native", ours), ("torch.nn", theirs)):
            sizes = {"batch": batch, "steps": steps, "inputs": inputs, "hidden": hidden}
            rows.append({"what": "memory", "cell": cell, **sizes, "who": who, "mib": round(value, 1)})
    return rows


def write(rows: list[dict[str, object]], folder: Path) -> None:
    """layers.csv, and layers.svg: how many times faster forward+backward is than torch.nn."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "layers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "mib"))
        writer.writeheader()
        writer.writerows(rows)
    import matplotlib.pyplot as plt

    shown = [r for r in rows if r["who"] == "torch.nn" and r.get("direction") == "forward+backward"]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.3 * len(shown)), layout="constrained")
    names = [f"{r['what']} {r['cell']} {r['batch']}, {r['steps']}, {r['inputs']}, {r['hidden']}" for r in shown]
    axes.barh(names[::-1], [float(str(r["native"])) for r in shown][::-1], color="#4477aa")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("forward+backward, times faster than torch.nn (batch, steps, input, hidden)")
    figure.savefig(folder / "layers.svg")


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the smallest size and one cell as a loop")
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks"), help="folder of the CSV and the picture"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    write(tables(arguments.quick, arguments.repeats), arguments.output)


if __name__ == "__main__":
    main()
