"""From a plain function to a Program: the function is called once on symbols, and what they wrote down is checked.

What no use decides about a size is "hidden".
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from itertools import count
from types import FrameType
from typing import Any, overload

from unrolled.equations.program import Instruction, Operand, Program, Shape, Variable
from unrolled.equations.symbols import Dimension, Symbol, Tracer


def trace(function: Callable[..., Any], init: Mapping[str, float] | None = None) -> Program:
    """Read the equations of `function` by calling it once on symbols.

    The first positional argument is the input, the others are the states (the first state is the output),
    keyword-only arguments are the parameters; it returns the new states in the same order. A shape that use does
    not decide is named in an annotation: `V: "rank, hidden"` or, for a state, `h: "projection"`.

    Raises CellError, with the line and the cure, for what is not a cell.
    """
    tracer = Tracer(function)
    arguments = inspect.signature(function).parameters.values()
    positional = [a for a in arguments if a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    keyword = [a for a in arguments if a.kind is a.KEYWORD_ONLY]
    if len(positional) < 2 or len(positional) + len(keyword) != len(arguments):
        tracer.fail(
            f"a cell takes its input, one or more states, then * and its parameters; this one takes "
            f"({', '.join(map(str, arguments))}).",
            "Write def cell(x, h, *, W, b).",
        )
    unknown = set(init or {}) - {a.name for a in keyword}
    if unknown:
        tracer.fail(f"init names {', '.join(sorted(unknown))}, which is no parameter.", "Name a keyword-only argument.")

    roles = ["input"] + ["state"] * (len(positional) - 1) + ["parameter"] * len(keyword)
    symbols: list[Symbol] = []
    for argument, role in zip([*positional, *keyword], roles, strict=True):
        default = {"input": ("input",), "state": ("hidden",), "parameter": None}[role]
        named = default if argument.annotation is argument.empty else _annotated(tracer, argument)
        dimensions = None if named is None else tuple(Dimension(name) for name in named)
        symbols.append(Symbol(tracer, argument.name, dimensions))
    variables = list(zip(symbols, roles, strict=True))
    states = symbols[1 : len(positional)]
    returned, local_names = _call(tracer, symbols[: len(positional)], symbols[len(positional) :])
    results = _returned_states(tracer, returned, states)
    _check_use(tracer, variables, results)
    return _program(tracer, variables, results, local_names, dict(init or {}))


def _annotated(tracer: Tracer, argument: inspect.Parameter) -> Shape:
    text = str(argument.annotation).strip("\"'() ")
    parts = tuple(" + ".join(term.strip() for term in part.split("+")) for part in text.split(",") if part.strip())
    terms = [term for part in parts for term in part.split(" + ")]
    if not 1 <= len(parts) <= 2 or not all(term.isidentifier() or term.isdigit() for term in terms):
        tracer.fail(
            f"the annotation {argument.annotation!r} of '{argument.name}' is no shape.",
            f'Write {argument.name}: "hidden" or {argument.name}: "rank, hidden".',
        )
    return parts


def _call(tracer: Tracer, positional: list[Symbol], keyword: list[Symbol]) -> tuple[Any, dict[str, Symbol]]:
    """Call the function on the symbols; also the names that its local variables gave to the values."""
    names: dict[str, Symbol] = {}

    def on_return(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "return" and frame.f_code is tracer.function.__code__:
            tracer.last_line = frame.f_lineno
            names.update({k: v for k, v in frame.f_locals.items() if isinstance(v, Symbol)})

    before = sys.getprofile()
    sys.setprofile(on_return)
    try:
        returned = tracer.function(*positional, **{symbol._name: symbol for symbol in keyword})
    finally:
        sys.setprofile(before)
    return returned, names


def _returned_states(tracer: Tracer, returned: Any, states: list[Symbol]) -> list[Symbol]:
    values = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    expected = ", ".join(map(repr, states))
    if len(values) != len(states) or not all(isinstance(value, Symbol) for value in values):
        got = "nothing" if returned is None else f"{len(values)} value(s)"
        tracer.fail(f"{got} returned, but there are {len(states)} states.", f"End with: return {expected}")
    for value, state in zip(values, states, strict=True):
        length, expected_length = tracer._vector(value, "a state"), tracer._vector(state, "a state")
        if not length.unite(expected_length):
            tracer.fail(
                f"the new '{state}' has length {length.name}, the state has {expected_length.name}.",
                "Bring it to the state's length with a matrix.",
            )
    return values


def _check_use(tracer: Tracer, variables: list[tuple[Symbol, str]], results: list[Symbol]) -> None:
    live = set(results)
    for result, _, args in reversed(tracer.instructions):
        if result in live:
            live.update(a for a in args if isinstance(a, Symbol))
    read = {a for result, _, args in tracer.instructions if result in live for a in args if isinstance(a, Symbol)}
    states = [symbol for symbol, role in variables if role == "state"]
    # A delay line hands one state on to the next; a state that only returns itself does nothing.
    read.update(result for result, state in zip(results, states, strict=True) if result is not state)
    for symbol, role in variables:
        if symbol not in read:
            verb = "read" if role == "state" else "used"
            tracer.fail(
                f"the {role} '{symbol}' is never {verb} by anything that is returned.",
                f"Use '{symbol}' in the equations or remove it.",
            )
    tracer.instructions = [step for step in tracer.instructions if step[0] in live]


def _program(
    tracer: Tracer,
    variables: list[tuple[Symbol, str]],
    results: list[Symbol],
    local_names: dict[str, Symbol],
    init: dict[str, float],
) -> Program:
    names = {symbol: symbol._name for symbol, _ in variables}
    taken = set(names.values())
    for local, symbol in local_names.items():
        if symbol not in names:
            name = local
            while name in taken:
                name += "_next"
            names[symbol] = name
            taken.add(name)
    free = (name for name in map("_{}".format, count(1)) if name not in taken)
    for (symbol, _, _), number in zip(tracer.instructions, free, strict=False):
        names.setdefault(symbol, number)

    def operand(argument: Symbol | float) -> Operand:
        return names[argument] if isinstance(argument, Symbol) else argument

    def shape(symbol: Symbol) -> Shape:
        first, *columns = (dimension.name or "hidden" for dimension in symbol._dimensions or ())
        return (first, " + ".join(columns)) if columns else (first,)

    return Program(
        name=tracer.function.__name__,
        doc=inspect.getdoc(tracer.function) or "",
        variables=tuple(Variable(names[symbol], role, shape(symbol)) for symbol, role in variables),
        instructions=tuple(
            Instruction(names[result], op, tuple(map(operand, args)), shape(result))
            for result, op, args in tracer.instructions
        ),
        outputs=tuple(names[result] for result in results),
        init=init,
    )


@overload
def cell(function: Callable[..., Any], /) -> Program: ...
@overload
def cell(*, init: Mapping[str, float] | None = None) -> Callable[[Callable[..., Any]], Program]: ...
def cell(
    function: Callable[..., Any] | None = None, /, *, init: Mapping[str, float] | None = None
) -> Program | Callable[[Callable[..., Any]], Program]:
    """Make a recurrent cell of a function that is its equations (see `trace` for the form).

    `init` gives start values of parameters by name, as in `@cell(init={"b_f": 1.0})`. The name now stands for a
    Program: print it, train it with `unrolled.Recurrent(cell, input_size, hidden_size)`, save it in a model file.
    """
    if function is not None:
        return trace(function)
    return lambda plain: trace(plain, init)
