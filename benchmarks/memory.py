"""Peak memory of training steps of one layer, in a process of its own."""

import subprocess
import sys
from pathlib import Path


def peak_of_training(who: str, *case: object) -> float:
    """MiB that three training steps of `who` (native or torch.nn) add to a process that has its tensors."""
    words = [sys.executable, "-m", "benchmarks.memory", who, *map(str, case)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _resident(what: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most since the last reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(what))


def main() -> None:
    """Print the MiB."""
    from benchmarks.peers import Case, runs

    who, cell, *sizes = sys.argv[1:]
    small = runs(Case(cell, 1, 1, *map(int, sizes[2:])), True, False)[who]
    run = runs(Case(cell, *map(int, sizes)), True, False)[who]
    small()  # libraries are loaded, threads started
    Path("/proc/self/clear_refs").write_text("5")  # the highest use so far counts from here
    before = _resident("VmRSS")
    for _ in range(3):
        run()
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    main()
