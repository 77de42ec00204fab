"""The element-wise operations as functions, for use inside a cell's equations."""

from typing import Any

from unrolled.equations.symbols import CellError, Symbol


def _apply(op: str, *args: Any) -> Symbol:
    for argument in args:
        # Also inside a list, so that the tracer can say at which line a list is out of place.
        for part in argument if isinstance(argument, (list, tuple)) else (argument,):
            if isinstance(part, Symbol):
                return part._tracer.elementwise(op, *args)
    raise CellError(
        f"{op}({', '.join(type(a).__name__ for a in args)}): the operations of unrolled write equations inside an "
        "@cell function; to compute numbers use the function of the same name in torch or numpy."
    )


def sigmoid(a: Any) -> Symbol:
    """Logistic function 1 / (1 + exp(-a))."""
    return _apply("sigmoid", a)


def tanh(a: Any) -> Symbol:
    """Hyperbolic tangent."""
    return _apply("tanh", a)


def relu(a: Any) -> Symbol:
    """Rectifier max(a, 0); its derivative at 0 is 0."""
    return _apply("relu", a)


def softplus(a: Any) -> Symbol:
    """log(1 + exp(a)), without overflow."""
    return _apply("softplus", a)


def exp(a: Any) -> Symbol:
    """Exponential function."""
    return _apply("exp", a)


def log(a: Any) -> Symbol:
    """Natural logarithm."""
    return _apply("log", a)


def sqrt(a: Any) -> Symbol:
    """Square root."""
    return _apply("sqrt", a)


def sign(a: Any) -> Symbol:
    """-1, 0 or 1; its derivative is 0."""
    return _apply("sign", a)


def maximum(a: Any, b: Any) -> Symbol:
    """The larger of two, element by element; at a tie each gets half of the gradient."""
    return _apply("maximum", a, b)


def minimum(a: Any, b: Any) -> Symbol:
    """The smaller of two, element by element; at a tie each gets half of the gradient."""
    return _apply("minimum", a, b)
