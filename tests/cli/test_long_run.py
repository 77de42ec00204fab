"""What a long run asks of the C library, in processes of their own: it holds for all that follows."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from unrolled.cli.long_run import forget_what_stays, keep_freed_memory
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(10 * 2**20).sum()
start = faults()
for _ in range(10):
    torch.ones(10 * 2**20).sum()  # 40 MiB: more than the C library ever keeps by itself
print(faults() - start)
"""


def page_faults(before: str) -> int:
    script = FAULTS.format(before=before)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_freed_memory_is_used_again_without_page_faults():
    plain, kept = page_faults(""), page_faults("keep_freed_memory()")
    assert kept * 4 < plain, f"{kept} page faults with, {plain} without"


def test_what_stays_is_collected_no_more():
    script = "import gc; from unrolled.cli.long_run import forget_what_stays; import torch\n"
    script += "forget_what_stays(); print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1_000)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True"]
