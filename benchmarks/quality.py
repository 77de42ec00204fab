"""The model that a text and some minutes give: `unrolled train` by its defaults against a plain torch.nn.LSTM loop.

`python -m benchmarks.quality --minutes 1.5 3 10 --seeds 3 CORPUS`. The first 90 % of the text are for training (ours
holds out its own part of them to choose by), the last 10 % are for judging only. Writes quality.csv with all moments of
every run and quality.svg with the losses over time, and prints the medians over the seeds.
"""

import argparse
import csv
import statistics
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.protocols import carried, cold
from benchmarks.quality_runs import RUNS, opened

FIELDS = ["model", "minutes", "seed", "seconds", "last", "carried", "cold"]
Row = dict[str, object]


def measure(name: str, minutes: float, seed: int, train_text: Path, judged: str) -> list[Row]:
    """One run in a new process, whose start counts; all its moments, judged."""
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        started = time.monotonic()
        moments = pool.submit(RUNS[name], train_text, Path(folder), minutes, seed, started).result()
        rows = []
        for number, (seconds, path) in enumerate(moments):
            model = opened(path)
            row: Row = {"model": name, "minutes": minutes, "seed": seed, "seconds": round(seconds, 2)}
            row |= {"last": number == len(moments) - 1, "carried": round(carried(model, judged), 4)}
            rows.append(row | {"cold": round(cold(model, judged), 4)})
        return rows


def draw(rows: list[Row], path: Path) -> None:
    """Losses over time, a line for each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        runs[row["model"], row["minutes"], row["seed"]].append(row)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for (name, _, _), moments in runs.items():
        colour = "C0" if name == "unrolled" else "C1"
        axes.plot([m["seconds"] for m in moments], [m["carried"] for m in moments], color=colour, linewidth=1)
    for colour, name in (("C0", "unrolled"), ("C1", "torch.nn")):
        axes.plot([], [], color=colour, label=name)
    best = min(float(str(row["carried"])) for row in rows)
    axes.set(xscale="log", ylim=(best - 0.02, best + 0.4), xlabel="seconds, all included", ylabel="nats per character")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.5, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    a = parser.parse_args()
    text = a.corpus.read_bytes().decode("utf-8")
    split = int(0.9 * len(text))
    a.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    print(
        f"{'model':10} {'minutes':>8} {'seconds':>8} {'(s)':>8} {'(w)':>8}   median of {a.seeds} seeds, nats/character"
    )
    with TemporaryDirectory() as folder:
        train_text = Path(folder) / "train.txt"
        train_text.write_bytes(text[:split].encode("utf-8"))
        for minutes in a.minutes:
            for name in a.models:
                found = [measure(name, minutes, seed, train_text, text[split:]) for seed in range(a.seeds)]
                rows += [row for moments in found for row in moments]
                ends = [[float(str(moments[-1][key])) for moments in found] for key in ("seconds", "carried", "cold")]
                seconds, stateful, windows = (statistics.median(values) for values in ends)
                print(f"{name:10} {minutes:8g} {seconds:8.1f} {stateful:8.4f} {windows:8.4f}", flush=True)
                with (a.output / "quality.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    writer.writeheader()
                    writer.writerows(rows)
    draw(rows, a.output / "quality.svg")


if __name__ == "__main__":
    main()
