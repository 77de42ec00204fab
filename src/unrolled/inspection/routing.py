"""From a graph to a drawing plan: where every node stands, and the corners of every line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unrolled.inspection.layering import Columns, Link, Slot, columns
from unrolled.inspection.placing import Heights, Size, bend, heights
from unrolled.inspection.uncrossing import uncross

Point = tuple[float, float]

_TRACK = 0.13  # inches between two vertical pieces
_BEFORE_TRACKS = 0.12
_BEHIND_TRACKS = 0.26  # room for an arrow head


@dataclass(frozen=True)
class Line:
    """One line from a node to an input of another."""

    source: str
    target: str
    corners: list[Point]


@dataclass(frozen=True)
class Plan:
    """Middles of the nodes and lines between them, in inches from the top left corner; y grows downwards."""

    middles: dict[str, Point]
    lines: list[Line]
    width: float
    height: float


def plan(
    inputs: Mapping[str, tuple[str, ...]], sizes: dict[str, Size], last: Iterable[str] = (), late: Iterable[str] = ()
) -> Plan:
    """Lay a graph out from left to right; see `columns` for the arguments."""
    graph = columns(inputs, last, late)
    uncross(graph, lambda ordered: bend(ordered, sizes))
    placed = heights(graph, sizes)
    starts, tracks, width = _widths(graph, placed, sizes)
    halves = {key: sizes[key].height / 2 for key in inputs}
    top = min(placed.middle[key, graph.column_of[key]] - halves[key] for key in inputs)
    bottom = max(placed.middle[key, graph.column_of[key]] + halves[key] for key in inputs)
    reached = [placed.middle[link.target] + shift for link, shift in placed.port.items()]
    top, bottom = min([top, *reached]), max([bottom, *reached])

    middles = {key: (starts[column], placed.middle[key, column] - top) for key, column in graph.column_of.items()}
    ends = {link.target: link for links in graph.links for link in links if link.place is None}
    lines = [
        Line(
            link.source[0],
            link.target[0],
            [(x, y - top) for x, y in _corners(link, ends, placed, starts, tracks, sizes)],
        )
        for links in graph.links
        for link in links
        if link.place is not None
    ]
    return Plan(middles, lines, width, bottom - top)


def _widths(graph: Columns, placed: Heights, sizes: dict[str, Size]) -> tuple[list[float], dict[Slot, float], float]:
    """The x of every column's middle, of every vertical piece (by the slot its line comes from), and of the end."""
    middles: list[float] = []
    tracks: dict[Slot, float] = {}
    x = 0.0
    for column, slots in enumerate(graph.slots):
        nodes = [sizes[slot[0]] for slot in slots if not graph.is_lane(slot)]
        left = max(size.width for size in nodes) / 2
        middles.append(x + left)
        x += left + max(size.width / 2 + size.label for size in nodes)
        if column < len(graph.links):
            order = _order_of_tracks(graph.links[column], placed)
            x += _BEFORE_TRACKS
            tracks.update({slot: x + _TRACK * place for place, slot in enumerate(order)})
            x += _TRACK * max(len(order) - 1, 0) + _BEHIND_TRACKS
    return middles, tracks, x


def _order_of_tracks(links: list[Link], placed: Heights) -> list[Slot]:
    """The lines that bend between two columns, from left to right so that they cross little and never overlap."""
    reached: dict[Slot, list[float]] = {}
    for link in links:
        reached.setdefault(link.source, []).append(placed.middle[link.target] + placed.port[link])
    starts = {slot: placed.middle[slot] for slot in reached}
    order = [slot for slot, ys in reached.items() if any(abs(y - starts[slot]) > 1e-6 for y in ys)]
    spans = {slot: (min(reached[slot] + [starts[slot]]), max(reached[slot] + [starts[slot]])) for slot in order}

    def cost(left: Slot, right: Slot) -> float:
        meets = [(y, right) for y in reached[left]] + [(starts[right], left)]
        crossings = sum(spans[other][0] - 0.01 < y < spans[other][1] + 0.01 for y, other in meets)
        overlaps = sum(abs(y - starts[right]) < 0.05 for y in reached[left])
        return crossings + 100 * overlaps

    def total() -> float:
        return sum(cost(a, b) for place, a in enumerate(order) for b in order[place + 1 :])

    order.sort(key=lambda slot: starts[slot])
    least, improved = total(), True
    while improved:
        improved = False
        for first in range(len(order)):
            for second in range(first):
                order[first], order[second] = order[second], order[first]
                if total() < least:
                    least, improved = total(), True
                else:
                    order[first], order[second] = order[second], order[first]
    return order


def _corners(
    link: Link,
    lanes: dict[Slot, Link],
    placed: Heights,
    middles: list[float],
    tracks: dict[Slot, float],
    sizes: dict[str, Size],
) -> list[Point]:
    """The corners of a whole line, from the right side of its source to the edge of its target."""
    pieces = [link]
    while pieces[0].source in lanes:
        pieces.insert(0, lanes[pieces[0].source])
    source, target = sizes[link.source[0]], sizes[link.target[0]]
    start = pieces[0].source
    corners = [(middles[start[1]] + source.width / 2, placed.middle[start])]
    for piece in pieces:
        y = placed.middle[piece.target] + placed.port[piece]
        if abs(y - corners[-1][1]) > 1e-6:
            corners += [(tracks[piece.source], corners[-1][1]), (tracks[piece.source], y)]
    x, y, shift = middles[link.target[1]], placed.middle[link.target], placed.port[link]
    if target.round and shift:
        return [*corners, (x, y + shift), (x, y + target.height / 2 * (1 if shift > 0 else -1))]
    return [*corners, (x - target.width / 2, y + shift)]
