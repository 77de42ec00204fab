"""Equations as data: the operations, the tracing of a cell, the Program it becomes, and its printed forms."""

from unrolled.equations.functions import (
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    tanh,
)
from unrolled.equations.ops import OPS, Op
from unrolled.equations.printing import latex_name, to_latex, to_text
from unrolled.equations.program import Instruction, Program, Variable
from unrolled.equations.symbols import CellError
from unrolled.equations.trace import cell, trace

__all__ = [
    "OPS",
    "CellError",
    "Instruction",
    "Op",
    "Program",
    "Variable",
    "cell",
    "exp",
    "latex_name",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "tanh",
    "to_latex",
    "to_text",
    "trace",
]
