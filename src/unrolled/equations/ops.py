"""The table of operations: one row each, with its value, its derivative, its printed forms and its native opcode.

To add an element-wise operation, add a row here and a function of its name to `functions.py`; everything else
(reference run, derivative, printing, JSON) reads this table. The only operation that is not element-wise is
`matmul`, whose arguments are a matrix and one or more vectors that stand one under the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# A derivative gets the namespace `m` of the operations it calls (`m.sigmoid`, `m.sign`), the gradient `g` of the
# result, the result `y` and the arguments; it returns one gradient per argument, in the operations of this table.
Derivative = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Op:
    """One operation.

    `value(m, *args)` computes it in an array namespace `m` (the torch module is one); `derivative(m, g, y, *args)`
    is reverse mode on anything that overloads the operators, symbols included; `text` and `latex` are format
    strings over the printed arguments; `binding` is how tightly the printed form holds together (for brackets):
    1 a sum, 2 a matrix product, 3 an element-wise product, 4 a negation, 9 what needs none.
    """

    name: str
    arity: int
    opcode: int
    value: Callable[..., Any]
    derivative: Derivative
    text: str
    latex: str
    binding: int = 9


def _call(name: str, latex: str | None = None) -> tuple[str, str]:
    # Both become format strings, so the braces of LaTeX are doubled.
    return f"{name}({{0}})", (latex or f"\\{name}").replace("{", "{{").replace("}", "}}") + r"\left({0}\right)"


_ROWS = [
    Op("add", 2, 1, lambda m, a, b: a + b, lambda m, g, y, a, b: (g, g), "{0} + {1}", "{0} + {1}", 1),
    Op("sub", 2, 2, lambda m, a, b: a - b, lambda m, g, y, a, b: (g, -g), "{0} - {1}", "{0} - {1}", 1),
    Op("mul", 2, 3, lambda m, a, b: a * b, lambda m, g, y, a, b: (g * b, g * a), "{0} ⊙ {1}", r"{0} \odot {1}", 3),
    Op("div", 2, 4, lambda m, a, b: a / b, lambda m, g, y, a, b: (g / b, -(g * y / b)), "{0} / {1}", "{0} / {1}", 3),
    Op("neg", 1, 5, lambda m, a: -a, lambda m, g, y, a: (-g,), "-{0}", "-{0}", 4),
    Op("sigmoid", 1, 6, lambda m, a: m.sigmoid(a), lambda m, g, y, a: (g * (y * (1.0 - y)),), *_call("σ", r"\sigma")),
    Op("tanh", 1, 7, lambda m, a: m.tanh(a), lambda m, g, y, a: (g * (1.0 - y * y),), *_call("tanh")),
    Op("relu", 1, 8, lambda m, a: m.relu(a), lambda m, g, y, a: (g * m.sign(y),), *_call("relu", r"\mathrm{relu}")),
    Op(
        "softplus",
        1,
        9,
        lambda m, a: m.nn.functional.softplus(a, threshold=40),  # exact to float64 where the default is not
        lambda m, g, y, a: (g * m.sigmoid(a),),
        *_call("softplus", r"\mathrm{softplus}"),
    ),
    Op("exp", 1, 10, lambda m, a: m.exp(a), lambda m, g, y, a: (g * y,), *_call("exp")),
    Op("log", 1, 11, lambda m, a: m.log(a), lambda m, g, y, a: (g / a,), *_call("log")),
    Op("sqrt", 1, 12, lambda m, a: m.sqrt(a), lambda m, g, y, a: (0.5 * g / y,), *_call("sqrt", r"\mathrm{sqrt}")),
    Op("abs", 1, 13, lambda m, a: abs(a), lambda m, g, y, a: (g * m.sign(a),), "|{0}|", r"\left|{0}\right|"),
    Op(
        "maximum",
        2,
        14,
        lambda m, a, b: m.maximum(a, b),
        # At a tie each argument gets half, as torch has it.
        lambda m, g, y, a, b: (g * (0.5 + 0.5 * m.sign(a - b)), g * (0.5 - 0.5 * m.sign(a - b))),
        "max({0}, {1})",
        r"\max\left({0}, {1}\right)",
    ),
    Op(
        "minimum",
        2,
        15,
        lambda m, a, b: m.minimum(a, b),
        lambda m, g, y, a, b: (g * (0.5 - 0.5 * m.sign(a - b)), g * (0.5 + 0.5 * m.sign(a - b))),
        "min({0}, {1})",
        r"\min\left({0}, {1}\right)",
    ),
    # Zero almost everywhere: that is the derivative of a step.
    Op("sign", 1, 16, lambda m, a: m.sign(a), lambda m, g, y, a: (0.0,), *_call("sign", r"\mathrm{sign}")),
]

OPS: dict[str, Op] = {row.name: row for row in _ROWS}
