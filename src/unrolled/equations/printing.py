"""A Program as equations that a person reads: Unicode text for the terminal, LaTeX for a paper.

Values the author gave a name get a line each; the others stand where they are used. Names follow three habits:
`W_hh` has the subscript hh, `C_tilde` is C with a tilde, a Greek name is its letter.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.equations.ops import OPS
from unrolled.equations.program import Instruction, Operand, Program

_GREEK = dict(
    zip(
        (
            *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu"),
            *("nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
        ),
        "αβγδεζηθκλμνξπρστφχψω",
        strict=True,
    )
)
_PRODUCT_BINDING = 2


@dataclass(frozen=True)
class _Style:
    name: Callable[[str, str], str]  # (the author's name, time index) -> printed
    product: Callable[[str, list[str]], str]
    bracket: str
    op_format: Callable[[str], str]


def to_text(program: Program) -> str:
    """The equations in Unicode, one a line: `hₜ = tanh(W_hh·hₜ₋₁ + W_xh·xₜ + b_h)`."""
    product = _Style(
        name=_text_name,
        product=lambda matrix, vectors: f"{matrix}·{_joined(vectors)}",
        bracket="({0})",
        op_format=lambda op: OPS[op].text,
    )
    return "\n".join(f"{left} = {right}" for left, right in _equations(program, product))


def to_latex(program: Program) -> str:
    """The equations as a LaTeX `aligned` block (needs amsmath)."""
    style = _Style(
        name=latex_name,
        product=lambda matrix, vectors: rf"{matrix} \, {_joined(vectors)}",
        bracket=r"\left({0}\right)",
        op_format=lambda op: OPS[op].latex,
    )
    lines = [f"{left} &= {right}" for left, right in _equations(program, style)]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _joined(vectors: list[str]) -> str:
    return vectors[0] if len(vectors) == 1 else f"[{', '.join(vectors)}]"


def _equations(program: Program, style: _Style) -> list[tuple[str, str]]:
    printed: dict[str, str] = {}
    for variable in program.variables:
        time = {"input": "t", "state": "t-1", "parameter": ""}[variable.role]
        printed[variable.name] = style.name(variable.name, time)
    for state, output in zip(program.states, program.outputs, strict=True):
        printed.setdefault(output, style.name(state.name, "t"))
    uses = [argument for instruction in program.instructions for argument in instruction.args]
    inline: dict[str, tuple[str, int]] = {}
    lines: list[tuple[str, str]] = []
    for instruction in program.instructions:
        right, binding = _expression(instruction, printed, inline, style)
        name = instruction.name
        if name.startswith("_") and name not in program.outputs and uses.count(name) == 1:
            inline[name] = (right, binding)
            continue
        if name not in printed:
            # A value without a name that is used more than once gets one: a bare number would read as a factor.
            printed[name] = style.name(re.sub(r"^_+", "v_", name.replace("_next", "'")), "t")
        lines.append((printed[name], right))
    for state, output in zip(program.states, program.outputs, strict=True):
        if printed[output] != style.name(state.name, "t"):  # two states share a value, or a state is a variable
            lines.append((style.name(state.name, "t"), printed[output]))
    return lines


def _expression(
    instruction: Instruction, printed: dict[str, str], inline: dict[str, tuple[str, int]], style: _Style
) -> tuple[str, int]:
    def operand(argument: Operand, at_least: int, after_sign: bool = False) -> str:
        if isinstance(argument, str):
            text, binding = inline.get(argument, (printed.get(argument, argument), 9))
        else:
            text, binding = _number(argument), 9
        two_signs = after_sign and text.startswith("-")
        return style.bracket.format(text) if binding < at_least or two_signs else text

    if instruction.op == "matmul":
        matrix, *vectors = instruction.args
        alone = len(vectors) == 1
        return style.product(operand(matrix, 9), [operand(v, 9 if alone else 0) for v in vectors]), _PRODUCT_BINDING
    op = OPS[instruction.op]
    infix = op.binding < 9
    # The right side of a difference or a quotient needs brackets also when it binds just as tightly.
    stricter = 1 if instruction.op in ("sub", "div") else 0
    wanted = [op.binding + (stricter if place else 0) if infix else 0 for place in range(op.arity)]
    parts = [
        operand(argument, least, after_sign=infix and (place > 0 or op.arity == 1))
        for place, (argument, least) in enumerate(zip(instruction.args, wanted, strict=True))
    ]
    return style.op_format(instruction.op).format(*parts), op.binding


def _number(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _split(name: str) -> tuple[str, bool, str]:
    """(base, has a tilde, subscript) of an author's name."""
    plain = name.rstrip("'")
    base, _, rest = plain.partition("_")
    parts = [part for part in rest.split("_") if part]
    tilde = "tilde" in parts
    return (base or plain) + name[len(plain) :], tilde, ",".join(part for part in parts if part != "tilde")


def _text_name(name: str, time: str) -> str:
    base, tilde, subscript = _split(name)
    letter = base.rstrip("'")
    base = _GREEK.get(letter, letter) + base[len(letter) :]
    base = base[0] + "\u0303" + base[1:] if tilde else base
    index = {"": "", "t": "ₜ", "t-1": "ₜ₋₁"}[time]
    return base + (f"_{subscript}" if subscript else "") + index


def latex_name(name: str, time: str = "") -> str:
    """An author's name as LaTeX, at a time if one is given: `C_tilde` at "t" is `\\tilde{C}_{t}`."""
    base, tilde, subscript = _split(name)
    letter = base.rstrip("'")
    base, prime = letter, base[len(letter) :]
    if base in _GREEK:
        base = f"\\{base}"
    elif len(base) > 1 and not re.fullmatch(r"[A-Za-z]\d*", base):
        base = rf"\mathrm{{{base}}}"
    base = rf"\tilde{{{base}}}" if tilde else base
    index = ",".join(part for part in (subscript, time) if part)
    return base + prime + (f"_{{{index}}}" if index else "")
