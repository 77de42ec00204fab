"""What a saved model costs without torch: memory beyond that of the imports, and seconds to the first token.

`python -m benchmarks.loading`; LSTM 2 x 512, 65 symbols, in processes of their own that never import torch.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.decoding import text_model_of, tokenizer_of

REPEATS = 7

MEMORY = """
import sys
from pathlib import Path
import numpy, safetensors, tokenizers

def resident():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

imports = resident()
import unrolled
model = unrolled.Decoder.load(*sys.argv[1:])
for _ in model.generate(model.start("a"), tokens=2000):
    pass
assert "torch" not in sys.modules
tables = sum(table.nbytes for table in model.engine.tables)
print(imports, resident() - imports, (model.engine.weight_bytes + tables) / 2**20)
"""


def memory(path: Path, precision: str) -> tuple[float, float, float]:
    """MiB of the imports, of the loaded model that has generated, and of its weights and tables alone."""
    printed = subprocess.run(
        [sys.executable, "-c", MEMORY, path, precision], check=True, capture_output=True, text=True
    )
    imports, loaded, weights = map(float, printed.stdout.split())
    return imports, loaded, weights


def first_token(path: Path) -> float:
    """Seconds of `unrolled generate` for one token, from a cold process."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "unrolled", "generate", path, "--tokens", "1"], check=True, capture_output=True
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    import unrolled

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        unrolled.save(path, text_model_of("lstm", 2, 512, tokenizer_of(65)))
        for precision in ("float32", "int8"):
            runs = [memory(path, precision) for _ in range(REPEATS)]
            imports, loaded, weights = (median(values) for values in zip(*runs, strict=True))
            print(
                f"{precision}: {loaded:.1f} MiB beyond the {imports:.1f} of python, numpy, tokenizers and safetensors: "
                f"weights and tables {weights:.1f}, the rest {loaded - weights:.1f}"
            )
        print(f"cold start to the first token: {median(first_token(path) for _ in range(REPEATS)):.2f} s")


if __name__ == "__main__":
    main()
