"""What a process that will run for minutes asks of the C library and of Python."""

import ctypes
import gc
import os
import platform
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Ask the C library to give memory back to the system only in blocks of a gigabyte, from now on.

    What it gives back comes again with a page fault for every 4 KiB: a log_softmax of 2048 x 512 floats in a training
    step takes 3.1 ms, of which 2.4 are page faults.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for parameter, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 1 << 26)):
        library.mallopt(parameter, value)


def forget_what_stays() -> None:
    """Tell the collector of garbage that all there is by now stays.

    It would look at the objects of all imported modules again and again: 3 % of the time of training a layer.
    """
    gc.collect()
    gc.freeze()


def end_among_others(status: int) -> None:
    """Under torchrun, end this process now, files being closed; alone, do nothing.

    DistributedDataParallel leaves threads of the process group behind, also when it and the group are gone. One that
    runs while Python takes itself apart may abort the process; torchrun then ends the others and reports a failure.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
