"""What the equations of a cell are read with: symbols that write down what is done to them.

Every vector carries a dimension; element-wise use makes two dimensions one, a product makes its matrix (rows,
columns) fit. Whatever a symbol cannot do is an error that names the line and the cure.
"""

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from unrolled.errors import UnrolledError


class CellError(UnrolledError):
    """A mistake in the equations of a cell; the message names the line and the cure."""


class Dimension:
    """The length of a vector: known ("hidden"), or not yet; `unite` makes two one and the same."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._parent: Dimension | None = None

    def root(self) -> "Dimension":
        """The one that stands for all that were united with it."""
        return self if self._parent is None else self._parent.root()

    @property
    def name(self) -> str | None:
        """The name, as far as it is known."""
        return self.root()._name

    def unite(self, other: "Dimension") -> bool:
        """Make the two one; False if they are known and differ."""
        mine, theirs = self.root(), other.root()
        if mine is theirs:
            return True
        if mine._name is not None and theirs._name is not None and mine._name != theirs._name:
            return False
        mine._name = mine._name or theirs._name
        theirs._parent = mine
        return True


class Symbol:
    """A value inside a cell's equations: it has no number, only a name and a length."""

    __hash__ = object.__hash__

    def __init__(self, tracer: "Tracer", name: str, dimensions: tuple[Dimension, ...] | None) -> None:
        self._tracer = tracer
        self._name = name
        self._dimensions = dimensions  # None: a parameter not used so far; 1: vector; 2: matrix

    def __repr__(self) -> str:
        return self._name

    def __add__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("add", other, self)

    def __sub__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("mul", other, self)

    def __truediv__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self._tracer.elementwise("div", other, self)

    def __neg__(self) -> "Symbol":
        return self._tracer.elementwise("neg", self)

    def __abs__(self) -> "Symbol":
        return self._tracer.elementwise("abs", self)

    def __matmul__(self, other: Any) -> "Symbol":
        return self._tracer.product(self, other)

    def __rmatmul__(self, other: Any) -> NoReturn:
        self._tracer.fail("the matrix stands on the left of a product.", f"Write {self} @ {other}.")

    def __pow__(self, other: Any) -> NoReturn:
        self._tracer.fail("powers are not an operation.", f"Write {self} * {self}, sqrt(...) or exp(... * log(...)).")

    __rpow__ = __pow__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # Python and libraries probe for such names and expect this answer
            raise AttributeError(name)
        self._tracer.fail(
            f"'{self}' has no '{name}': it stands for a vector whose numbers come later.",
            "Use + - * /, a matrix @ and the operations of unrolled: sigmoid, tanh, exp, ...",
        )

    def _compare(self, _other: Any = None) -> NoReturn:
        self._tracer.fail(
            f"'{self}' has no value while the equations are read, so it cannot be compared or decide an if.",
            "Use maximum, minimum, relu or sign instead.",
        )

    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _compare
    __eq__ = __ne__ = _compare

    def _no_number(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        self._tracer.fail(
            f"'{self}' has no value while the equations are read, so functions of math, numpy or torch cannot take it.",
            "Use the operations of unrolled: from unrolled import sigmoid, tanh, exp, ...",
        )

    __float__ = __int__ = __index__ = __array__ = __array_ufunc__ = _no_number

    @classmethod
    def __torch_function__(cls, _function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        found = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Symbol)]
        found = found or [s for a in args if isinstance(a, (list, tuple)) for s in a if isinstance(s, Symbol)]
        found[0]._no_number()

    def _no_parts(self, *_args: Any) -> NoReturn:
        self._tracer.fail(f"'{self}' cannot be indexed, counted or split.", "Write one equation for the whole vector.")

    __iter__ = __len__ = __getitem__ = _no_parts


class Tracer:
    """Writes down what is done to the symbols of one cell."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.instructions: list[tuple[Symbol, str, tuple[Symbol | float, ...]]] = []
        self.last_line: int | None = None  # where the function returned

    def where(self) -> str:
        """The line of the cell's function that is being read."""
        code = self.function.__code__
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        line = frame.f_lineno if frame else self.last_line or code.co_firstlineno
        source = linecache.getline(code.co_filename, line).strip()
        return f"cell {self.function.__name__}, {code.co_filename}:{line}" + (f" ({source})" if source else "")

    def fail(self, what: str, cure: str) -> NoReturn:
        """Raise the CellError of a mistake in the line that is being read."""
        raise CellError(f"{self.where()}: {what} {cure}")

    def record(self, op: str, args: tuple[Symbol | float, ...], dimension: Dimension) -> Symbol:
        """Write down one instruction; its result, a vector of this length."""
        result = Symbol(self, f"_{len(self.instructions) + 1}", (dimension,))
        self.instructions.append((result, op, args))
        return result

    def _vector(self, value: Any, use: str) -> Dimension:
        if not isinstance(value, Symbol):
            self.fail(f"{use} takes symbols, not {type(value).__name__} ({value!r}).", "Make it a parameter.")
        if value._dimensions is None:
            value._dimensions = (Dimension(),)
        if len(value._dimensions) != 1:
            self.fail(f"'{value}' is a matrix; {use} takes vectors.", f"Multiply it first: {value} @ x.")
        return value._dimensions[0]

    def elementwise(self, op: str, *args: Any) -> Symbol:
        """An operation on vectors of one length and numbers."""
        for argument in args:
            if isinstance(argument, (list, tuple)):
                self.fail("[a, b] can stand only on the right of a product.", "Write W @ [a, b].")
        operands = [a if isinstance(a, Symbol) else self._number(a, op) for a in args]
        symbols = [a for a in operands if isinstance(a, Symbol)]
        dimensions = [self._vector(symbol, op) for symbol in symbols]
        for symbol, dimension in zip(symbols[1:], dimensions[1:], strict=True):
            if not dimensions[0].unite(dimension):
                self.fail(
                    f"'{symbols[0]}' has length {dimensions[0].name} and '{symbol}' has length {dimension.name}; "
                    f"{op} needs equal lengths.",
                    "Bring one to the other's length with a matrix: W @ x.",
                )
        return self.record(op, tuple(operands), dimensions[0])

    def _number(self, value: Any, op: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(
                f"{op} takes symbols and numbers, not {type(value).__name__}.", "Make it a parameter or a number."
            )
        return float(value)

    def product(self, matrix: Symbol, right: Any) -> Symbol:
        """A matrix times a vector, or times a list of vectors that stand one under the other."""
        vectors = list(right) if isinstance(right, (list, tuple)) else [right]
        if not vectors:
            self.fail(f"'{matrix} @ []' has nothing to multiply.", "Put the vectors between the brackets.")
        if matrix._dimensions is not None and len(matrix._dimensions) == 1:
            self.fail(
                f"'{matrix}' is a vector, so it cannot multiply '{right}'.",
                f"The matrix stands on the left, {right} @ {matrix}; element-wise products are written with *.",
            )
        dimensions = [self._vector(vector, "a product") for vector in vectors]
        if matrix._dimensions is None:
            matrix._dimensions = (Dimension(), *dimensions)
        rows, *columns = matrix._dimensions
        had = " + ".join(c.name or "?" for c in columns)
        got = " + ".join(d.name or "?" for d in dimensions)
        fits = len(columns) == len(dimensions) and all(a.unite(b) for a, b in zip(columns, dimensions, strict=True))
        # An annotation names all columns at once ("hidden + input"), so equal known names fit too.
        if not fits and (had != got or "?" in had):
            self.fail(
                f"'{matrix}' has {had} columns by its earlier use, but here it multiplies a vector of length {got}.",
                "Use two matrices.",
            )
        return self.record("matmul", (matrix, *vectors), rows)
