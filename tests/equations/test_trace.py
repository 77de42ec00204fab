# ruff: noqa: F821 - the annotations of a cell name sizes
import sys
from collections.abc import Callable
from typing import Any

import pytest

from unrolled.equations import (
    CellError,
    Instruction,
    Variable,
    cell,
    sigmoid,
    tanh,
    to_text,
    trace,
)


def lstm(x, h, C, *, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """Long short-term memory."""
    f = sigmoid(W_f @ [h, x] + b_f)
    i = sigmoid(W_i @ [h, x] + b_i)
    candidate = tanh(W_C @ [h, x] + b_C)
    C = f * C + i * candidate
    o = sigmoid(W_o @ [h, x] + b_o)
    h = o * tanh(C)
    return h, C


def test_the_equations_become_the_program_that_they_say() -> None:
    program = cell(init={"b_f": 1.0})(lstm)

    def gate(name: str, letter: str, count: int, op: str = "sigmoid") -> list[Instruction]:
        return [
            Instruction(f"_{count}", "matmul", (f"W_{letter}", "h", "x"), ("hidden",)),
            Instruction(f"_{count + 1}", "add", (f"_{count}", f"b_{letter}"), ("hidden",)),
            Instruction(name, op, (f"_{count + 1}",), ("hidden",)),
        ]

    matrices = {f"W_{letter}": ("hidden", "hidden + input") for letter in "fiCo"}
    biases = {f"b_{letter}": ("hidden",) for letter in "fiCo"}
    names = [f"{kind}_{letter}" for letter in "fiCo" for kind in "Wb"]
    assert program.name == "lstm"
    assert program.doc == "Long short-term memory."
    assert program.init == {"b_f": 1.0}
    assert program.variables == (
        Variable("x", "input", ("input",)),
        Variable("h", "state", ("hidden",)),
        Variable("C", "state", ("hidden",)),
        *(Variable(name, "parameter", (matrices | biases)[name]) for name in names),
    )
    assert program.instructions == (
        *gate("f", "f", 1),
        *gate("i", "i", 4),
        *gate("candidate", "C", 7, "tanh"),
        Instruction("_10", "mul", ("f", "C"), ("hidden",)),
        Instruction("_11", "mul", ("i", "candidate"), ("hidden",)),
        Instruction("C_next", "add", ("_10", "_11"), ("hidden",)),
        *gate("o", "o", 13),
        Instruction("_16", "tanh", ("C_next",), ("hidden",)),
        Instruction("h_next", "mul", ("o", "_16"), ("hidden",)),
    )
    assert program.outputs == ("h_next", "C_next")


def _shapes(function: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    return {variable.name: variable.shape for variable in trace(function).variables}


def test_what_no_use_decides_is_hidden() -> None:
    def deep(x, h, *, W, U, V):
        return tanh(W @ (U @ [h, x]) + V @ h)

    assert _shapes(deep) == {
        "x": ("input",),
        "h": ("hidden",),
        "W": ("hidden", "hidden"),
        "U": ("hidden", "hidden + input"),
        "V": ("hidden", "hidden"),
    }


def test_an_annotation_names_a_size() -> None:
    def low_rank(x, h, *, U, V: "rank, hidden", W, b):
        return tanh(U @ (V @ h) + W @ x + b)

    shapes = _shapes(low_rank)
    assert (shapes["U"], shapes["V"]) == (("hidden", "rank"), ("rank", "hidden"))
    assert trace(low_rank).size_names() == ("input", "hidden", "rank")


def test_a_state_can_have_its_own_size() -> None:
    def projected(x, h: "projection", C, *, W, W_h, b):
        C = tanh(W @ [h, x] + b) + C
        return W_h @ C, C

    shapes = _shapes(projected)
    assert shapes["h"] == ("projection",)
    assert shapes["W"] == ("hidden", "projection + input")
    assert shapes["W_h"] == ("projection", "hidden")


def test_an_annotation_may_say_what_the_use_says_too() -> None:
    def annotated(x, h, *, W: "hidden, hidden + input", b: "hidden"):
        return tanh(W @ [h, x] + b)

    assert _shapes(annotated)["W"] == ("hidden", "hidden + input")


def test_a_state_may_be_handed_on_as_it_is() -> None:
    def delayed(x, h, older, *, W):
        return tanh(W @ [older, x]), h

    assert trace(delayed).outputs == ("_2", "h")
    assert to_text(trace(delayed)) == "hₜ = tanh(W·[olderₜ₋₁, xₜ])\nolderₜ = hₜ₋₁"


def test_names_of_the_author_never_clash_with_made_up_ones() -> None:
    def awkward(x, h, *, _1, W):
        _2 = W @ [h, x]
        h_next = _2 + _1
        h = h_next * h
        return h

    names = [instruction.name for instruction in trace(awkward).instructions]
    assert len({*names, "_1"}) == 4


def test_what_is_not_used_by_the_result_is_not_in_the_program() -> None:
    def wordy(x, h, *, W):
        tanh(h)
        return tanh(W @ [h, x])

    assert [instruction.op for instruction in trace(wordy).instructions] == ["matmul", "tanh"]


def test_init_of_an_unknown_parameter() -> None:
    with pytest.raises(CellError, match=r"init names b_g, which is no parameter\. Name a keyword-only argument\."):
        cell(init={"b_g": 1.0})(lstm)


def test_a_debugger_keeps_its_hook() -> None:
    def hook(*_: object) -> None: ...

    sys.setprofile(hook)
    try:
        trace(lstm)
        assert sys.getprofile() is hook
    finally:
        sys.setprofile(None)
