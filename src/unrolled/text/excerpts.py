"""Stretches from all over a text, for a training that has no time to read the whole."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from unrolled.text.sources import TextFile

_STRETCH = 1 << 18  # bytes that are read at one place: many pages, so that contexts stay whole
_FEWEST = 4  # stretches; a text that is no larger than these is read whole, however few minutes there are


def excerpts(files: Sequence[TextFile], most_bytes: float) -> tuple[list[TextFile], str]:
    """The files, or if they are larger than `most_bytes` together, stretches of them at equal distances.

    Also a line that says what was left out, empty if nothing was.
    """
    ends = list(accumulate(file.path.stat().st_size for file in files))
    whole = ends[-1] if ends else 0
    if whole <= max(most_bytes, _FEWEST * _STRETCH):
        return list(files), ""
    count = max(_FEWEST, int(most_bytes) // _STRETCH)
    stretches = [part for i in range(count) for part in _stretch(files, ends, whole * i // count)]
    line = (
        f"all but {count * _STRETCH / 1e6:,.0f} of {whole / 1e6:,.0f} MB, which is more than the minutes are good for: "
        f"{count:,} stretches from all over the text are read"
    )
    return stretches, line


def _stretch(files: Sequence[TextFile], ends: Sequence[int], first: int) -> list[TextFile]:
    """The parts of files between the bytes `first` and `first` + _STRETCH of all of them."""
    last = min(first + _STRETCH, ends[-1])
    parts = []
    number = bisect_right(ends, first)
    while number < len(files) and first < last:
        begin = ends[number - 1] if number else 0
        stop = last - begin if last < ends[number] else None
        parts.append(replace(files[number], start=first - begin, stop=stop))
        first = ends[number]
        number += 1
    return parts
