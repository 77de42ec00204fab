"""The orders of the columns of a layered graph in which the fewest lines cross, found by a seeded search."""

import random
from collections.abc import Callable

from unrolled.inspection.layering import Columns, Slot

_STARTS = 40
_SWEEPS = 8
_KEPT = 6  # orders with equally few crossings among which the tidiest is chosen

Order = list[list[Slot]]


def uncross(graph: Columns, untidiness: Callable[[Columns], float]) -> None:
    """Order the slots of each column: fewest crossings first, then the least `untidiness`."""
    given = [list(column) for column in graph.slots]
    draw = random.Random(0)
    found: dict[int, list[Order]] = {}
    for start in range(_STARTS):
        graph.slots[:] = [list(column) for column in given]
        if start:
            for column in graph.slots:
                draw.shuffle(column)
        for sweep in range(_SWEEPS):
            _sweep(graph, rightwards=sweep % 2 == 0)
            _swap_neighbours(graph)
        equals = found.setdefault(_crossings(graph), [])
        order = [list(column) for column in graph.slots]
        if order not in equals:
            equals.append(order)

    def measure(order: Order) -> float:
        graph.slots[:] = order
        return untidiness(graph)

    best: Order = min(found[min(found)][:_KEPT], key=measure)
    upside_down: Order = [column[::-1] for column in best]
    if _out_of_order(upside_down, given) < _out_of_order(best, given):
        best = upside_down
    graph.slots[:] = best


def _out_of_order(order: Order, given: Order) -> int:
    """How many pairs of the first and the last column stand the other way round than they were given."""
    places = [
        [column.index(slot) for slot in wanted] for column, wanted in ((order[0], given[0]), (order[-1], given[-1]))
    ]
    return sum(a > b for column in places for n, a in enumerate(column) for b in column[n + 1 :])


def _sweep(graph: Columns, rightwards: bool) -> None:
    """Sort every column by the mean place of its neighbours in the column before it (or behind it)."""
    last = len(graph.slots) - 1
    for column in range(1, last + 1) if rightwards else range(last - 1, -1, -1):
        other = column - 1 if rightwards else column + 1
        rank = {slot: place for place, slot in enumerate(graph.slots[other])}
        near: dict[Slot, list[int]] = {slot: [] for slot in graph.slots[column]}
        for link in graph.links[min(column, other)]:
            mine, theirs = (link.target, link.source) if rightwards else (link.source, link.target)
            near[mine].append(rank[theirs])
        own = {slot: float(place) for place, slot in enumerate(graph.slots[column])}
        own.update({slot: sum(places) / len(places) for slot, places in near.items() if places})
        graph.slots[column].sort(key=own.__getitem__)


def _swap_neighbours(graph: Columns) -> None:
    """Swap slots that stand one under the other as long as that leaves fewer crossings."""
    improved = True
    while improved:
        improved = False
        for column, slots in enumerate(graph.slots):
            near = _neighbours(graph, column)
            for place in range(len(slots) - 1):
                upper, lower = near[slots[place]], near[slots[place + 1]]
                now = sum(a > b for side in (0, 1) for a in upper[side] for b in lower[side])
                then = sum(b > a for side in (0, 1) for a in upper[side] for b in lower[side])
                if then < now:
                    slots[place], slots[place + 1] = slots[place + 1], slots[place]
                    improved = True


def _neighbours(graph: Columns, column: int) -> dict[Slot, tuple[list[int], list[int]]]:
    """The places of each slot's neighbours in the column before and in the one behind."""
    near: dict[Slot, tuple[list[int], list[int]]] = {slot: ([], []) for slot in graph.slots[column]}
    if column > 0:
        rank = {slot: place for place, slot in enumerate(graph.slots[column - 1])}
        for link in graph.links[column - 1]:
            near[link.target][0].append(rank[link.source])
    if column < len(graph.links):
        rank = {slot: place for place, slot in enumerate(graph.slots[column + 1])}
        for link in graph.links[column]:
            near[link.source][1].append(rank[link.target])
    return near


def _crossings(graph: Columns) -> int:
    total = 0
    for column, links in enumerate(graph.links):
        left = {slot: place for place, slot in enumerate(graph.slots[column])}
        right = {slot: place for place, slot in enumerate(graph.slots[column + 1])}
        ends = [(left[link.source], right[link.target]) for link in links]
        total += sum((a - c) * (b - d) < 0 for a, b in ends for c, d in ends) // 2
    return total
