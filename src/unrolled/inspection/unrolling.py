"""The picture of the recurrence: one unit with its loop, and the same unit once for every step of time."""

from unrolled.equations import Program, latex_name
from unrolled.inspection.canvas import Canvas, Point, formula, printable, text_width

_CELL = "#DDEBDA"
_INPUT = "#D6E6F4"
_OUTPUT = "#E7DDF0"
_NAME_SIZE = 11.0
_RADIUS = 0.24
_STEM = 0.36  # the arrows from an input and to an output
_STATES_APART = 0.28
_GAP = 0.62  # between two units
_FIRST_LOOP = 0.28
_END = 0.45  # the arrows that enter the first unit and leave the last one


class Unrolling:
    """Both pictures side by side, for a number of steps; `width` and `height` are its room in inches."""

    def __init__(self, program: Program, steps: int) -> None:
        self.program = program
        self.steps = steps
        self.states = [state.name for state in program.states]
        self.lines = _lines(program.name)
        self.box_width = max([0.8, *(text_width(line, _NAME_SIZE) + 0.2 for line in self.lines)])
        self.box_height = max(0.7, 0.25 * len(self.lines) + 0.2, _STATES_APART * len(self.states) + 0.3)
        names = [formula(latex_name(state)) for state in self.states]
        self.loop = max(text_width(name, 12) for name in names) + 0.2
        self.loops = _FIRST_LOOP + self.loop * len(self.states)
        self.gap = max([_GAP, *(text_width(formula(latex_name(state, "10")), 10) + 0.4 for state in self.states)])
        self.pitch = self.box_width + self.gap
        self.rolled_width = self.box_width + self.loops
        self.unrolled_left = self.rolled_width + 0.8
        self.first = max(text_width(formula(latex_name(state, "0")), 12) for state in self.states) + 0.08 + _END
        self.width = self.unrolled_left + 2 * self.first + self.pitch * steps - self.gap
        self.height = self.box_height + 2 * (_STEM + 2 * _RADIUS)

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw both with their top left corner at a point."""
        y = top + self.height / 2
        self._loops(canvas, (left + self.box_width / 2, y))
        self._unit(canvas, (left + self.box_width / 2, y), "t")
        canvas.text((left + self.rolled_width + 0.4, y), "$=$", 24)
        start = left + self.unrolled_left + self.first + self.box_width / 2
        for step in range(1, self.steps + 1):
            self._unit(canvas, (start + self.pitch * (step - 1), y), str(step))
        for state, height in zip(self.states, self._heights(y), strict=True):
            self._passing(canvas, state, start, height)

    def _heights(self, y: float) -> list[float]:
        """Where the states run, the output (the first state) lowest."""
        middle = (len(self.states) - 1) / 2
        return [y + (middle - place) * _STATES_APART for place in range(len(self.states))]

    def _unit(self, canvas: Canvas, middle: Point, time: str) -> None:
        x, y = middle
        edge = self.box_height / 2
        canvas.box(middle, self.box_width, self.box_height, _CELL, rounding=0.08)
        for place, line in enumerate(self.lines):
            canvas.text((x, y + 0.2 * (place - (len(self.lines) - 1) / 2)), line, _NAME_SIZE)
        names = ", ".join(latex_name(variable.name, time) for variable in self.program.inputs)
        if names:
            canvas.line([(x, y + edge + _STEM), (x, y + edge)])
            self._symbol(canvas, (x, y + edge + _STEM + _RADIUS), names, _INPUT)
        canvas.line([(x, y - edge), (x, y - edge - _STEM)])
        self._symbol(canvas, (x, y - edge - _STEM - _RADIUS), latex_name(self.states[0], time), _OUTPUT)

    def _symbol(self, canvas: Canvas, middle: Point, name: str, fill: str) -> None:
        width = max(2 * _RADIUS, text_width(formula(name), 13) + 0.2)
        canvas.box(middle, width, 2 * _RADIUS, fill, rounding=_RADIUS)
        canvas.text(middle, formula(name), 13)

    def _loops(self, canvas: Canvas, middle: Point) -> None:
        x, y = middle[0] + self.box_width / 2, middle[1]
        for place, state in enumerate(self.states):
            reach = _FIRST_LOOP + self.loop * place
            half = self.box_height / 2 * (place + 1) / (len(self.states) + 0.6)
            canvas.line([(x, y - half), (x + reach, y - half), (x + reach, y + half), (x, y + half)])
            canvas.text((x + reach + 0.08, y), formula(latex_name(state)), 12, align="left")

    def _passing(self, canvas: Canvas, state: str, start: float, y: float) -> None:
        left, right = start - self.box_width / 2, start + self.box_width / 2
        canvas.text((left - _END - 0.06, y), formula(latex_name(state, "0")), 12, align="right")
        canvas.line([(left - _END, y), (left, y)])
        for step in range(1, self.steps):
            x = right + self.pitch * (step - 1)
            canvas.line([(x, y), (x + self.gap, y)])
            name = formula(latex_name(state, str(step)))
            canvas.text((x + self.gap / 2 - 0.03, y - 0.07), name, 10, base="baseline")
        x = right + self.pitch * (self.steps - 1)
        canvas.line([(x, y), (x + _END, y)])
        canvas.text((x + _END + 0.06, y), formula(latex_name(state, str(self.steps))), 12, align="left")


def _lines(name: str) -> list[str]:
    """The words of a cell's name, a line each, short ones together."""
    lines: list[str] = []
    for word in printable(name).replace("_", " ").split() or ["A"]:
        if lines and len(lines[-1]) + len(word) < 9:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
