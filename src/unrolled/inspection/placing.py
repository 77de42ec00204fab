"""Heights of the slots of a layered graph, such that as many lines as possible run straight. y grows downwards."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from unrolled.inspection.layering import Columns, Link, Slot

_GAP = 0.2  # inches between two symbols, or two lines, of a column
_NEARLY = 0.07  # a bend smaller than this looks like a mistake
_PORT = 0.2  # inches between two lines that enter one box


@dataclass(frozen=True)
class Size:
    """Room that a node takes, in inches. `label` is the room for the name on its line, at its right.

    A `round` node takes its first line from the left and the others from above or below.
    """

    width: float
    height: float
    label: float = 0.0
    round: bool = False


@dataclass(frozen=True)
class Heights:
    """The y of every slot's middle, and how far from it each link enters its target (negative: above)."""

    middle: dict[Slot, float]
    port: dict[Link, float]


def heights(graph: Columns, sizes: dict[str, Size]) -> Heights:
    """Place the slots of every column, in the order they have."""
    port = _ports(graph, sizes)
    above, below = _reach(graph, sizes, port)
    gaps = [[below[first] + _GAP + above[second] for first, second in pairwise(column)] for column in graph.slots]
    middle = {
        slot: y
        for column, distances in zip(graph.slots, gaps, strict=True)
        for slot, y in zip(column, accumulate([0.0, *distances]), strict=True)
    }
    pulls = _pulls(graph, port)
    middle = _balanced(middle, pulls, _all_gaps(graph, gaps))
    _straighten(graph, middle, pulls, gaps)
    _snap(middle, pulls)
    _open_sides(graph, sizes, middle, port, above, below)
    return Heights(middle, port)


def bend(graph: Columns, sizes: dict[str, Size]) -> float:
    """How far the lines of a graph go up and down in all, in inches."""
    placed = heights(graph, sizes)
    return sum(
        abs(placed.middle[link.target] + placed.port[link] - placed.middle[link.source])
        for links in graph.links
        for link in links
    )


def _ports(graph: Columns, sizes: dict[str, Size]) -> dict[Link, float]:
    port: dict[Link, float] = {}
    for column, links in enumerate(graph.links):
        rank = {slot: place for place, slot in enumerate(graph.slots[column])}
        for slot in graph.slots[column + 1]:
            entering = sorted((link for link in links if link.target == slot), key=lambda link: rank[link.source])
            size = sizes[slot[0]]
            if size.round and not graph.is_lane(slot):
                straight = next((n for n, link in enumerate(entering) if link.place == 0), 0)
                step = size.height / 2 + _PORT
                port.update({link: (n - straight) * step for n, link in enumerate(entering)})
            else:
                first = -(len(entering) - 1) / 2
                port.update({link: (first + n) * _PORT for n, link in enumerate(entering)})
    return port


def _reach(
    graph: Columns, sizes: dict[str, Size], port: dict[Link, float]
) -> tuple[dict[Slot, float], dict[Slot, float]]:
    """How far each slot, with the lines that enter it, extends above and below its middle."""
    above = {
        slot: 0.0 if graph.is_lane(slot) else sizes[slot[0]].height / 2 for column in graph.slots for slot in column
    }
    below = dict(above)
    for link, shift in port.items():
        above[link.target] = max(above[link.target], -shift)
        below[link.target] = max(below[link.target], shift)
    return above, below


def _pulls(graph: Columns, port: dict[Link, float]) -> list[tuple[Link, float, float]]:
    """Every link, with the y from its source to its target that makes it straight, and how much that matters."""
    pulls = []
    for links in graph.links:
        for link in links:
            lanes = graph.is_lane(link.source) + graph.is_lane(link.target)
            enters_straight = not port[link] and link.place in (0, None)
            alone = sum(link.source == other.source for other in links) == 1
            weight = (1.0, 3.0, 8.0)[lanes] * (2.0 if enters_straight else 0.5) * (2.0 if alone else 1.0)
            pulls.append((link, -port[link], weight))
    return pulls


def _all_gaps(graph: Columns, gaps: list[list[float]]) -> list[tuple[Slot, Slot, float]]:
    return [
        (first, second, gap)
        for column, distances in zip(graph.slots, gaps, strict=True)
        for first, second, gap in zip(column, column[1:], distances, strict=False)
    ]


def _balanced(
    start: dict[Slot, float], pulls: list[tuple[Link, float, float]], gaps: list[tuple[Slot, Slot, float]]
) -> dict[Slot, float]:
    """Heights with nearly the smallest weighted sum of bends: least squares, re-weighted until they are distances."""
    import numpy as np

    index = {slot: place for place, slot in enumerate(start)}
    y = np.array(list(start.values()))
    for step in range(120):
        softness = max(0.5 * 0.93**step, 1e-3)
        matrix, right = np.eye(len(y)) * 1e-6, y * 1e-6

        def spring(a: int, b: int, length: float, weight: float, matrix: Any = matrix, right: Any = right) -> None:
            matrix[[a, b], [a, b]] += weight
            matrix[[a, b], [b, a]] -= weight
            right[a] -= weight * length
            right[b] += weight * length

        for link, length, weight in pulls:
            a, b = index[link.source], index[link.target]
            spring(a, b, length, weight / (abs(y[b] - y[a] - length) + softness))
        for first, second, gap in gaps:
            a, b = index[first], index[second]
            if y[b] - y[a] < gap + 1e-9:
                spring(a, b, gap, 3e4)
        y = np.linalg.solve(matrix, right)
    return dict(zip(start, map(float, y), strict=True))


def _straighten(
    graph: Columns, middle: dict[Slot, float], pulls: list[tuple[Link, float, float]], gaps: list[list[float]]
) -> None:
    """Move the slots of one column after the other to where most of their lines are exactly straight."""
    wishes: dict[Slot, list[tuple[Slot, float, float]]] = {slot: [] for slot in middle}
    for link, length, weight in pulls:
        wishes[link.source].append((link.target, -length, weight))
        wishes[link.target].append((link.source, length, weight))
    forwards = list(range(len(graph.slots)))
    for column in (forwards + forwards[::-1]) * 10:
        slots = graph.slots[column]
        samples = [[(middle[other] + shift, weight) for other, shift, weight in wishes[slot]] for slot in slots]
        middle.update(zip(slots, _nearest(samples, gaps[column]), strict=True))


def _snap(middle: dict[Slot, float], pulls: list[tuple[Link, float, float]]) -> None:
    """Make lines straight that are nearly so, the weightiest first: what is joined by straight lines moves together."""
    group = {slot: [slot] for slot in middle}
    for link, length, _ in sorted(pulls, key=lambda pull: -pull[2]):
        source, target = group[link.source], group[link.target]
        short_by = middle[link.source] + length - middle[link.target]
        if source is target or abs(short_by) > _NEARLY:
            continue
        moved, shift = (target, short_by) if len(target) <= len(source) else (source, -short_by)
        for slot in moved:
            middle[slot] += shift
        joined = source + target
        group.update(dict.fromkeys(joined, joined))


def _open_sides(
    graph: Columns,
    sizes: dict[str, Size],
    middle: dict[Slot, float],
    port: dict[Link, float],
    above: dict[Slot, float],
    below: dict[Slot, float],
) -> None:
    """A line from further above (or below) a round node runs straight until it is over the node, if it has room."""
    for link, shift in port.items():
        distance = middle[link.source] - middle[link.target]
        if not (sizes[link.target[0]].round and shift and link.place is not None and distance / shift > 1):
            continue
        column = graph.slots[link.target[1]]
        place = column.index(link.target) + (1 if shift > 0 else -1)
        other = column[place] if 0 <= place < len(column) else link.target
        own_lane = other[0] == link.source[0] and abs(middle[other] - middle[link.source]) < 1e-9
        if other != link.target and not own_lane:
            edge = middle[other] - above[other] if shift > 0 else middle[other] + below[other]
            if abs(edge - middle[link.target]) < abs(distance) + _GAP / 2:
                continue
        port[link] = distance


def _nearest(samples: list[list[tuple[float, float]]], gaps: list[float]) -> list[float]:
    """Heights at least `gaps` apart with the smallest sum of weighted distances to the samples (pool adjacent
    violators: neighbours that would overlap become one block, which goes to the median of its samples)."""
    shifts = list(accumulate([0.0, *gaps]))
    blocks: list[tuple[float, list[tuple[float, float]], int]] = []
    for wishes, shift in zip(samples, shifts, strict=True):
        moved = [(value - shift, weight) for value, weight in wishes]
        block = (_median(moved), moved, 1)
        while blocks and blocks[-1][0] > block[0]:
            _, earlier, count = blocks.pop()
            merged = earlier + block[1]
            block = (_median(merged), merged, count + block[2])
        blocks.append(block)
    bases = [base for base, _, count in blocks for _ in range(count)]
    return [base + shift for base, shift in zip(bases, shifts, strict=True)]


def _median(samples: list[tuple[float, float]]) -> float:
    """The weighted median; the middle if every value between two is one."""
    ordered = sorted(samples)
    half = sum(weight for _, weight in ordered) / 2
    total = 0.0
    for place, (value, weight) in enumerate(ordered):
        total += weight
        if total > half + 1e-9:
            return value
        if total > half - 1e-9:
            return (value + ordered[place + 1][0]) / 2
    return ordered[-1][0]
