"""A page on which symbols are drawn in inches, y growing downwards: matplotlib, without its global state."""

import io
import re
from functools import lru_cache
from typing import Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, Patch, PathPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath

Point = tuple[float, float]

INK = "#222222"
PAPER = "white"
_CORNER = 0.09
_POINTS_PER_INCH = 72


def _font(size: float, style: Literal["normal", "italic"] = "normal") -> FontProperties:
    return FontProperties(family=["STIXGeneral", "DejaVu Sans"], math_fontfamily="stix", size=size, style=style)


def printable(text: str) -> str:
    """Text that is no formula: what cannot be printed becomes a space, a dollar is a dollar."""
    return "".join(letter if letter.isprintable() else " " for letter in text).replace("$", r"\$")


def formula(latex: str) -> str:
    """LaTeX as matplotlib sets it best: no wide spaces in an index or before a bracket, bars of full height."""
    narrow = re.sub(r"\\(tanh|exp|log|max|min)\\left", r"\\mathrm{\1}\\left", latex.replace("t-1", "t{-}1"))
    return "$" + narrow.replace(r"\left|", "|").replace(r"\right|", "|") + "$"


@lru_cache(maxsize=1024)
def text_width(text: str, size: float) -> float:
    """The width of a text (math between dollars) in inches."""
    return float(TextPath((0, 0), text, prop=_font(size)).get_extents().width) / _POINTS_PER_INCH


class Canvas:
    """Collects symbols; `saved` is the picture of all of them."""

    def __init__(self) -> None:
        self._figure = Figure()
        FigureCanvasAgg(self._figure)
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()

    def text(
        self,
        at: Point,
        text: str,
        size: float,
        align: Literal["left", "center", "right"] = "center",
        base: Literal["center_baseline", "center", "baseline"] = "center_baseline",
        style: Literal["normal", "italic"] = "normal",
    ) -> None:
        """A text: `align` and `base` say which part of it stands at the point."""
        font = _font(size, style)
        self._axes.add_artist(Text(*at, text, color=INK, fontproperties=font, ha=align, va=base, zorder=5))

    def box(self, middle: Point, width: float, height: float, fill: str, rounding: float = 0.05) -> Patch:
        """A box with rounded corners; rounding of half its height makes it a circle or a pill."""
        path = _outline(middle, width, height, rounding)
        return self._axes.add_patch(PathPatch(path, facecolor=fill, edgecolor=INK, lw=1.0, zorder=3))

    def ground(self, middle: Point, width: float, height: float, fill: str) -> Patch:
        """A box on which others stand."""
        path = _outline(middle, width, height, 0.12)
        return self._axes.add_patch(PathPatch(path, facecolor=fill, edgecolor="#9AA99A", lw=0.8, zorder=0))

    def rim(self, corners: list[Point], on: Patch) -> None:
        """A rim for a line to come, in the colour of its ground: it lifts the line over the lines that it crosses."""
        path, colour = _rounded(corners), on.get_facecolor()
        rim = PathPatch(path, facecolor="none", edgecolor=colour, lw=5, capstyle="butt", zorder=1)
        self._axes.add_patch(rim)
        rim.set_clip_path(on)

    def line(self, corners: list[Point], arrow: bool = True) -> None:
        """A line with rounded corners, with an arrow head at its end."""
        style = "-|>,head_length=0.5,head_width=0.22" if arrow else "-"
        patch = FancyArrowPatch(
            path=_rounded(corners), arrowstyle=style, mutation_scale=11, color=INK, lw=1.15, zorder=1
        )
        patch.set(capstyle="butt", joinstyle="miter")
        self._axes.add_patch(patch)

    def saved(self, file_format: Literal["svg", "png"], width: float, height: float, title: str) -> bytes:
        """The picture, of this size in inches, as the bytes of a file; the same picture gives the same bytes."""
        self._figure.set_size_inches(width, height)
        self._axes.set(xlim=(0, width), ylim=(height, 0))
        file = io.BytesIO()
        metadata = {"Title": title, "Date": None} if file_format == "svg" else {"Title": title}
        with rc_context({"svg.hashsalt": "unrolled", "svg.fonttype": "path", "path.simplify": False}):
            self._figure.savefig(file, format=file_format, dpi=200, metadata=metadata, facecolor=PAPER)
        return file.getvalue()


def _outline(middle: Point, width: float, height: float, rounding: float) -> Path:
    (x, y), reach = middle, min(rounding, width / 2, height / 2)
    bend = reach * 0.5523  # cubic curves that are quarters of circles
    points, codes = [], []
    for across, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        corner = (x + across * width / 2, y + down * height / 2)
        beside = [(corner[0] - across * part, corner[1]) for part in (reach, reach - bend)]
        below = [(corner[0], corner[1] - down * part) for part in (reach - bend, reach)]
        points += [*beside, *below] if across * down < 0 else [*below[::-1], *beside[::-1]]
        codes += [int(Path.LINETO), *[int(Path.CURVE4)] * 3]
    return Path([*points, points[0]], [int(Path.MOVETO), *codes[1:], int(Path.CLOSEPOLY)])


def _rounded(corners: list[Point]) -> Path:
    points, codes = [corners[0]], [int(Path.MOVETO)]
    for before, corner, behind in zip(corners, corners[1:], corners[2:], strict=False):
        reach = min(_CORNER, _distance(before, corner) / 2, _distance(corner, behind) / 2)
        points += [_towards(corner, before, reach), corner, _towards(corner, behind, reach)]
        codes += [int(Path.LINETO), int(Path.CURVE3), int(Path.CURVE3)]
    return Path([*points, corners[-1]], [*codes, int(Path.LINETO)])


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])  # lines run along one axis


def _towards(start: Point, end: Point, reach: float) -> Point:
    share = reach / (_distance(start, end) or 1)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
