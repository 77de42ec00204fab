"""What makes a picture of a cell readable: nothing overlaps, no line runs through a symbol, few lines cross."""

from itertools import combinations

import pytest

from unrolled.cells import CELLS
from unrolled.equations import Program
from unrolled.inspection.cell_picture import CellPicture
from unrolled.inspection.dataflow import dataflow

_PICTURES: dict[str, CellPicture] = {}


def _picture(program: Program) -> CellPicture:
    return _PICTURES.setdefault(program.name, CellPicture(program))


def _boxes(picture: CellPicture) -> dict[str, tuple[float, float, float, float]]:
    boxes = {}
    for key, (x, y) in picture.plan.middles.items():
        width, height = picture.sizes[key].width, picture.sizes[key].height
        boxes[key] = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return boxes


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_symbols_keep_their_distance(program: Program) -> None:
    for first, second in combinations(_boxes(_picture(program)).values(), 2):
        apart = max(second[0] - first[2], first[0] - second[2], second[1] - first[3], first[1] - second[3])
        assert apart > 0.05


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_no_line_runs_through_a_symbol(program: Program) -> None:
    picture = _picture(program)
    for key, (left, top, right, bottom) in _boxes(picture).items():
        for line in picture.plan.lines:
            for (x1, y1), (x2, y2) in zip(line.corners, line.corners[1:], strict=False):
                inside_x = max(x1, x2) > left + 0.01 and min(x1, x2) < right - 0.01
                inside_y = max(y1, y2) > top + 0.01 and min(y1, y2) < bottom - 0.01
                assert not (inside_x and inside_y), f"{line.source} -> {line.target} runs through {key}"


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_every_piece_of_a_line_is_level_or_upright(program: Program) -> None:
    for line in _picture(program).plan.lines:
        for (x1, y1), (x2, y2) in zip(line.corners, line.corners[1:], strict=False):
            assert abs(x1 - x2) < 1e-6 or abs(y1 - y2) < 1e-6


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_lines_of_two_sources_never_lie_on_each_other(program: Program) -> None:
    pieces = [
        (line.source, line.target, first, second)
        for line in _picture(program).plan.lines
        for first, second in zip(line.corners, line.corners[1:], strict=False)
    ]
    for (a, a_end, p, q), (b, b_end, r, s) in combinations(pieces, 2):
        if a == b or a_end == b_end:  # lines may fork, and may meet where they arrive
            continue
        for axis in (0, 1):
            along = 1 - axis
            parallel = abs(p[axis] - q[axis]) < 1e-6 and abs(r[axis] - s[axis]) < 1e-6
            shared = min(max(p[along], q[along]), max(r[along], s[along])) - max(
                min(p[along], q[along]), min(r[along], s[along])
            )
            assert not (parallel and abs(p[axis] - r[axis]) < 0.03 and shared > 0.03)


def test_the_nodes_of_the_gru_are_those_of_its_equations() -> None:
    nodes = dataflow(CELLS["gru"])
    kinds = [node.kind for node in nodes.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "state": 1,
        "input": 1,
        "joint": 1,
        "product": 3,
        "function": 3,
        "pointwise": 5,
        "output": 1,
    }
    assert nodes["joint:h,x"].inputs == ("h", "x")
    assert (nodes["h_tilde"].label, nodes["h_tilde"].name) == (r"\tanh", r"\tilde{h}_{t}")


def test_what_is_computed_twice_is_drawn_once() -> None:
    reciprocals = [node for node in dataflow(CELLS["min_lstm"]).values() if node.label == r"1 / \cdot"]
    assert len(reciprocals) == 1
