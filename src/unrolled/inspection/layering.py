"""A graph in columns: every node behind its inputs, lines of equal length, and as few crossings as a search finds.

A line that passes a column takes a place in it (a lane), so that no line runs through a node.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Slot = tuple[str, int]  # (node, column): the node itself in its own column, its lane in a later one


@dataclass(frozen=True)
class Link:
    """A piece of a line from one column to the next; `place` is which input of a node it reaches, or None."""

    source: Slot
    target: Slot
    place: int | None = None


@dataclass
class Columns:
    """The slots of each column from top to bottom, and between each two columns the links."""

    slots: list[list[Slot]]
    links: list[list[Link]]
    column_of: dict[str, int]

    def is_lane(self, slot: Slot) -> bool:
        """Whether only a line stands there."""
        return self.column_of[slot[0]] != slot[1]


def columns(inputs: Mapping[str, tuple[str, ...]], last: Iterable[str], late: Iterable[str]) -> Columns:
    """Put the nodes (by key, with the keys of their inputs, each after its inputs) in columns.

    `last` go to the last column; `late` stand just before their first use instead of in the first column.
    """
    column_of: dict[str, int] = {}
    for key, sources in inputs.items():
        column_of[key] = max((column_of[source] + 1 for source in sources), default=0)
    end = max(column_of.values(), default=0)
    column_of.update(dict.fromkeys(last, end))
    for key in late:
        column_of[key] = min(column_of[user] for user, sources in inputs.items() if key in sources) - 1

    slots: list[list[Slot]] = [[] for _ in range(end + 1)]
    links: list[list[Link]] = [[] for _ in range(end)]
    reached = {key: column_of[key] for key in inputs}
    for key in inputs:
        slots[column_of[key]].append((key, column_of[key]))
    for key, sources in inputs.items():
        for place, source in enumerate(sources):
            before = column_of[key] - 1
            for column in range(reached[source], before):
                slots[column + 1].append((source, column + 1))
                links[column].append(Link((source, column), (source, column + 1)))
            reached[source] = max(reached[source], before)
            links[before].append(Link((source, before), (key, column_of[key]), place))
    return Columns(slots, links, column_of)
