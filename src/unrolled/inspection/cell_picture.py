"""The picture of what happens inside a cell in one step: its dataflow, laid out and drawn."""

from typing import Literal

from unrolled.equations import Program
from unrolled.inspection.canvas import Canvas, Point, formula, text_width
from unrolled.inspection.dataflow import Kind, Node, dataflow
from unrolled.inspection.placing import Size
from unrolled.inspection.routing import Plan, plan

# Light tints that stay apart for colour-blind eyes and in grey print, where the shapes tell the kinds apart too.
_FILL: dict[Kind, str] = {
    "input": "#D6E6F4",
    "state": "#E7DDF0",
    "output": "#E7DDF0",
    "parameter": "#ECECEC",
    "product": "#FFFFFF",
    "function": "#FFE9A8",
    "pointwise": "#F8D9CF",
    "joint": "#222222",
}
_ROUND: set[Kind] = {"pointwise", "joint"}
_GROUND = "#EFF5ED"
_NAME_SIZE = 11.0
_MARGIN = 0.09


class CellPicture:
    """The inside of a cell; `width` and `height` are its room in inches."""

    def __init__(self, program: Program) -> None:
        self.nodes = dataflow(program)
        uses = [(source, node.kind) for node in self.nodes.values() for source in node.inputs]
        only_output = {key for key in self.nodes if all(kind == "output" for source, kind in uses if source == key)}
        self.names = {key: node.name for key, node in self.nodes.items() if node.name and key not in only_output}
        self.sizes = {key: _size(node, self.names.get(key, "")) for key, node in self.nodes.items()}
        self.plan: Plan = plan(
            {key: node.inputs for key, node in self.nodes.items()},
            self.sizes,
            last=[key for key, node in self.nodes.items() if node.kind == "output"],
            late=[key for key, node in self.nodes.items() if node.kind == "parameter"],
        )
        self.width, self.height = self.plan.width, self.plan.height + 2 * _MARGIN

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw it with its top left corner at a point."""
        top += _MARGIN
        ground = canvas.ground(*self._inside(left, top), _GROUND)
        for source in self.nodes:
            lines = [line for line in self.plan.lines if line.source == source]
            paths = [[(left + x, top + y) for x, y in line.corners] for line in lines]
            for path in paths:  # all before the first line, so that lines from one source do not cut each other
                canvas.rim(path, ground)
            for path, line in zip(paths, lines, strict=True):
                canvas.line(path, arrow=self.nodes[line.target].kind != "joint")
        for key, node in self.nodes.items():
            x, y = self.plan.middles[key]
            size = self.sizes[key]
            rounding = size.height / 2 if node.kind not in ("product", "function") else 0.05
            if node.kind == "function":
                rounding = 0.12
            canvas.box((left + x, top + y), size.width, size.height, _FILL[node.kind], rounding)
            if node.label:
                base: Literal["center", "center_baseline"] = "center" if node.kind == "pointwise" else "center_baseline"
                canvas.text((left + x, top + y), formula(node.label), _label_size(node.kind), base=base)
            if key in self.names:
                at = (left + x + size.width / 2 + 0.05, top + y - 0.07)
                canvas.text(at, formula(self.names[key]), _NAME_SIZE, align="left", base="baseline")

    def _inside(self, left: float, top: float) -> tuple[Point, float, float]:
        """The middle, width and height of the ground between the first and the last column."""
        ends = ("input", "state", "output")
        outer = {key: self.plan.middles[key][0] for key, node in self.nodes.items() if node.kind in ends}
        first = max(x + self.sizes[key].width / 2 for key, x in outer.items() if self.nodes[key].kind != "output")
        last = min(x - self.sizes[key].width / 2 for key, x in outer.items() if self.nodes[key].kind == "output")
        width = last - first - 2 * _MARGIN
        return (left + (first + last) / 2, top + self.plan.height / 2), width, self.height


def _label_size(kind: Kind) -> float:
    return {"product": 11.5, "input": 13.0, "state": 13.0, "output": 13.0}.get(kind, 12.0)


def _size(node: Node, name: str) -> Size:
    label = text_width(formula(name), _NAME_SIZE) + 0.06 if name else 0.0
    if node.kind == "joint":
        return Size(0.07, 0.07, round=True)
    width = text_width(formula(node.label), _label_size(node.kind))
    if node.kind == "pointwise":
        return Size(max(0.28, width + 0.16), 0.28, label, round=True)
    if node.kind in ("product", "function"):
        height = 0.34 + 0.2 * max(len(node.inputs) - 2, 0)
        return Size(max(0.42, width + 0.22), height, label)
    return Size(max(0.48, width + 0.2), 0.48, label)
