import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from unrolled.cells import CELLS, gru, lstm, multiplicative_lstm, vanilla
from unrolled.equations import OPS, CellError, Program, functions, tanh, to_latex, to_text, trace


def test_the_textbook_cells_print_as_in_the_textbook() -> None:
    assert to_text(vanilla) == "hₜ = tanh(W_hh·hₜ₋₁ + W_xh·xₜ + b_h)"
    assert to_text(lstm).splitlines() == [
        "fₜ = σ(W_f·[hₜ₋₁, xₜ] + b_f)",
        "iₜ = σ(W_i·[hₜ₋₁, xₜ] + b_i)",
        "C̃ₜ = tanh(W_C·[hₜ₋₁, xₜ] + b_C)",
        "Cₜ = fₜ ⊙ Cₜ₋₁ + iₜ ⊙ C̃ₜ",
        "oₜ = σ(W_o·[hₜ₋₁, xₜ] + b_o)",
        "hₜ = oₜ ⊙ tanh(Cₜ)",
    ]
    assert to_text(gru).splitlines() == [
        "zₜ = σ(W_z·[hₜ₋₁, xₜ])",
        "rₜ = σ(W_r·[hₜ₋₁, xₜ])",
        "h̃ₜ = tanh(W·[rₜ ⊙ hₜ₋₁, xₜ])",
        "hₜ = (1 - zₜ) ⊙ hₜ₋₁ + zₜ ⊙ h̃ₜ",
    ]


def test_latex() -> None:
    assert to_latex(vanilla).splitlines() == [
        r"\begin{aligned}",
        r"h_{t} &= \tanh\left(W_{hh} \, h_{t-1} + W_{xh} \, x_{t} + b_{h}\right)",
        r"\end{aligned}",
    ]
    assert r"\tilde{h}_{t} &= \tanh\left(W \, [r_{t} \odot h_{t-1}, x_{t}]\right) \\" in to_latex(gru).splitlines()


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_matplotlib_reads_every_line_of_the_latex(program: Program) -> None:
    lines = to_latex(program).splitlines()[1:-1]
    assert len(lines) == len(to_text(program).splitlines())
    for line in lines:
        MathTextParser("path").parse(f"${line.removesuffix(chr(92) * 2).replace('&', '')}$")


def _text(equations: Any) -> str:
    return to_text(trace(equations))


def test_a_matrix_product_beside_an_element_wise_one_stands_in_brackets() -> None:
    assert to_text(multiplicative_lstm).splitlines()[0] == "mₜ = (W_mx·xₜ) ⊙ (W_mh·hₜ₋₁)"


def test_two_signs_never_meet() -> None:
    assert _text(lambda x, h, *, W: W @ x + -h * h - (-h)) == "hₜ = W·xₜ + (-hₜ₋₁ ⊙ hₜ₋₁) - (-hₜ₋₁)"
    assert _text(lambda x, h, *, W: W @ x - -2 * h * -3) == "hₜ = W·xₜ - (-2 ⊙ hₜ₋₁ ⊙ (-3))"
    assert _text(lambda x, h, *, W: -(0 - -(W @ [h, x]))) == "hₜ = -(0 - (-(W·[hₜ₋₁, xₜ])))"


@pytest.mark.parametrize("name", OPS)
def test_every_operation_has_a_latex_form(name: str) -> None:
    printed = OPS[name].latex.format("a", "b")
    assert "{0}" not in printed
    MathTextParser("path").parse(f"${printed}$")


def test_a_name_can_be_greek_primed_or_missing() -> None:
    def fancy(x, h, *, W_alpha, lambda_):
        h_tilde = tanh(W_alpha @ [h, x])
        h = h_tilde * lambda_ + h_tilde
        h_tilde = h * h
        return h_tilde + (h_tilde - 0.25) * h

    assert _text(fancy).splitlines() == [
        "v_2ₜ = tanh(W_alpha·[hₜ₋₁, xₜ])",
        "h'ₜ = v_2ₜ ⊙ λ + v_2ₜ",
        "h̃ₜ = h'ₜ ⊙ h'ₜ",
        "hₜ = h̃ₜ + (h̃ₜ - 0.25) ⊙ h'ₜ",
    ]


def test_a_state_that_is_another_value_gets_its_line() -> None:
    def shared(x, h, C, *, W):
        h = tanh(W @ [h, C, x])
        return h, h

    assert _text(shared).splitlines() == ["hₜ = tanh(W·[hₜ₋₁, Cₜ₋₁, xₜ])", "Cₜ = hₜ"]


_TREES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(("a", "b", "c", 2.0, -3.0, 0.5)),
    lambda inner: (
        st.tuples(st.sampled_from(["add", "sub", "mul", "div"]), inner, inner)
        | st.tuples(st.sampled_from(["neg", "relu"]), inner)
        | st.tuples(st.just("maximum"), inner, inner)
    ),
    max_leaves=12,
)


_EXACT: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "relu": lambda a: max(a, Fraction(0)),
    "maximum": max,
}


def _cell_of(tree: Any) -> Program:
    def build(tree: Any, leaves: dict[str, Any]) -> Any:
        if not isinstance(tree, tuple):
            return leaves.get(tree, tree)
        name, *arguments = tree
        built = [build(argument, leaves) for argument in arguments]
        if all(isinstance(value, float) for value in built):
            return float(_EXACT[name](*map(Fraction, built)))
        return getattr(functions, name, _EXACT.get(name))(*built)

    def expression(x, h, a, b, c, *, W):
        return build(tree, {"a": a, "b": b, "c": c}), W @ [x, h, a, b, c], a, b

    return trace(expression)


@given(tree=_TREES)
@settings(max_examples=300, deadline=None)
def test_the_printed_text_has_the_value_of_the_program(tree: Any) -> None:
    """Fractions make the order of multiplying and dividing irrelevant, as it is to a reader; brackets are not."""
    values: dict[str, Fraction] = {"a": Fraction(3, 7), "b": Fraction(-5, 3), "c": Fraction(11, 13)}
    try:
        program = _cell_of(tree)
        for instruction in program.instructions:
            if instruction.op != "matmul":
                operands = [values[a] if isinstance(a, str) else Fraction(str(a)) for a in instruction.args]
                values[instruction.name] = _EXACT[instruction.op](*operands)
    except (ZeroDivisionError, CellError):  # an expression of numbers alone is no equation
        assume(False)
    line = next(line for line in to_text(program).splitlines() if line.startswith("hₜ = "))
    python = line.removeprefix("hₜ = ").replace("⊙", "*").replace("ₜ₋₁", "")
    python = re.sub(r"[\d.]+(e-?\d+)?", r"Fraction('\g<0>')", python)
    names = {"Fraction": Fraction, "relu": _EXACT["relu"], "max": max, **values}
    assert eval(python, names) == values[program.outputs[0]]
