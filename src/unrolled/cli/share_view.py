"""How far a long calculation is, on standard error: what it gives goes to standard output."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_FIRST_SECONDS, _LINE_SECONDS = 2.0, 10.0


def duration(seconds: float) -> str:
    """A time as people say it: "2 min 05 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


@contextmanager
def share_view(what: str) -> Iterator[Callable[[float], None]]:
    """A function to be called with the share (0 to 1) of `what` that is done: shows it and the time left.

    On a terminal as a bar, elsewhere a line now and then; what ends within two seconds shows nothing.
    """
    view = _ShareView(what)
    try:
        yield view.show
    finally:
        view.close()


class _ShareView:
    def __init__(self, what: str) -> None:
        self._what, self._console = what, Console(stderr=True, highlight=False)
        self._first: tuple[float, float] | None = None  # when the first share came, and how much it was
        self._bar: Progress | None = None
        self._next_line = 0.0

    def show(self, share: float) -> None:
        now = time.monotonic()
        start, begun = self._first = self._first or (now, share)
        if share <= begun or now - start < _FIRST_SECONDS:
            return
        left = f"{duration((now - start) * (1 - share) / (share - begun))} left"
        if self._console.is_terminal:
            self._show_bar(share, left)
        elif now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self._console.print(f"{self._what}: {share:.0%}, {left}", soft_wrap=True)

    def _show_bar(self, share: float, left: str) -> None:
        if self._bar is None:
            columns = (TextColumn(self._what), BarColumn(bar_width=None), TextColumn("{task.percentage:3.0f} %"))
            left_column = TextColumn("{task.fields[left]}")
            self._bar = Progress(*columns, left_column, console=self._console, expand=True, transient=True)
            self._bar.add_task(self._what, total=1.0, left=left)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=share, left=left)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
