"""What a model takes in a process that never imports torch: little beyond its weights, and no more for a long text."""

import subprocess
import sys
from pathlib import Path

import pytest
from decoding_models import made

from unrolled import cells, save
from unrolled.text import bpe_tokenizer, byte_tokenizer

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux says what a process takes"
)
MEGABYTE = 2**20

RESIDENT = """
import sys
from pathlib import Path
import numpy, safetensors, tokenizers

def resident(what):
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what)) * 1024
"""

LOADS = (
    RESIDENT
    + """
imports = resident("VmRSS")
import unrolled
model = unrolled.Decoder.load(sys.argv[1], sys.argv[2])
for _ in model.generate(model.start("a"), tokens=2000):
    pass
assert "torch" not in sys.modules
tables = sum(table.nbytes for table in model.engine.tables)
print(resident("VmRSS") - imports - model.engine.weight_bytes - tables)
"""
)

READS = (
    RESIDENT
    + """
import unrolled
model = unrolled.Decoder.load(sys.argv[1])
model.start("the quick fox " * 20_000)
text = "the quick fox " * 100_000
Path("/proc/self/clear_refs").write_text("5")  # the highest use so far counts from here
before = resident("VmRSS")
model.start(text)
print(resident("VmHWM") - before)
"""
)


def printed(program, *arguments):
    result = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return int(result.stdout)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_loaded_model_takes_its_weights_and_at_most_20_megabytes(tmp_path, precision):
    save(tmp_path / "m", made(cells.CELLS["lstm"], 512, layers=2))
    assert printed(LOADS, tmp_path / "m", precision) < 20 * MEGABYTE


@pytest.mark.parametrize("tokenizer", [None, byte_tokenizer(), bpe_tokenizer("the quick fox " * 50, 300)])
def test_a_prompt_of_a_million_characters_takes_no_memory(tmp_path, tokenizer):
    save(tmp_path / "m", made(cells.CELLS["vanilla"], 2, tokenizer=tokenizer))
    # Its tokens alone would be 11 MB in int64; what the tokenizers library holds for a batch of words is a few.
    assert printed(READS, tmp_path / "m") < 6 * MEGABYTE
