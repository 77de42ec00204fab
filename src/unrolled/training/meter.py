"""What a run measures of itself between two reports: means of the losses, and its speed."""

import time

_FIRST_REPORTS = 4


class Meter:
    """Means since the last report, and the speed over the last reports."""

    def __init__(self, step: int) -> None:
        self._marks = [(time.monotonic(), step)]
        self._values: list[tuple[float, float]] = []

    def add(self, loss: float, norm: float) -> None:
        """Take in one step."""
        self._values.append((loss, norm))

    def seconds(self) -> float:
        """Since the last report."""
        return time.monotonic() - self._marks[-1][0]

    def loss(self) -> float:
        """The mean loss since the last report."""
        return sum(loss for loss, _ in self._values) / len(self._values)

    def norm(self) -> float:
        """The mean gradient norm since the last report."""
        return sum(norm for _, norm in self._values) / len(self._values)

    def steps_per_second(self, step: int) -> float:
        """Over about the last twenty reports, judging and saving included."""
        then, before = self._marks[0]
        return max(step - before, 1) / max(time.monotonic() - then, 1e-9)

    @property
    def settled(self) -> bool:
        """True once the speed rests on more than the first few reports, in which everything is slower."""
        return len(self._marks) > _FIRST_REPORTS

    def next(self, step: int) -> None:
        """The next report's means begin here."""
        self._marks = [*self._marks[-20:], (time.monotonic(), step)]
        self._values = []
