"""The three textbook cells against formulas written a second time, in plain numpy: values and gradients."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unrolled import Program
from unrolled.cells import gru, lstm, vanilla
from unrolled.engine import unroll

Array = NDArray[np.float64]
Weights = dict[str, Array]
INPUT, HIDDEN, TIME, TOKENS = 3, 4, 6, 5


def logistic(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def vanilla_formulas(w: Weights, x: Array, h: Array) -> tuple[list[Array], tuple[Array, ...]]:
    outputs = []
    for x_t in x:
        h = np.tanh(w["W_hh"] @ h + w["W_xh"] @ x_t + w["b_h"])
        outputs.append(h)
    return outputs, (h,)


def lstm_formulas(w: Weights, x: Array, h: Array, C: Array) -> tuple[list[Array], tuple[Array, ...]]:
    outputs = []
    for x_t in x:
        hx = np.concatenate([h, x_t])
        f = logistic(w["W_f"] @ hx + w["b_f"])
        i = logistic(w["W_i"] @ hx + w["b_i"])
        o = logistic(w["W_o"] @ hx + w["b_o"])
        C = f * C + i * np.tanh(w["W_C"] @ hx + w["b_C"])
        h = o * np.tanh(C)
        outputs.append(h)
    return outputs, (h, C)


def gru_formulas(w: Weights, x: Array, h: Array) -> tuple[list[Array], tuple[Array, ...]]:
    outputs = []
    for x_t in x:
        z = logistic(w["W_z"] @ np.concatenate([h, x_t]))
        r = logistic(w["W_r"] @ np.concatenate([h, x_t]))
        new = np.tanh(w["W"] @ np.concatenate([r * h, x_t]))
        h = (1 - z) * h + z * new
        outputs.append(h)
    return outputs, (h,)


textbook = pytest.mark.parametrize(
    ("program", "formulas", "states"),
    [(vanilla, vanilla_formulas, 1), (lstm, lstm_formulas, 2), (gru, gru_formulas, 1)],
    ids=["vanilla", "lstm", "gru"],
)
Formulas = Callable[..., tuple[list[Array], tuple[Array, ...]]]

SHAPES = {
    "vanilla": {"W_hh": (HIDDEN, HIDDEN), "W_xh": (HIDDEN, INPUT), "b_h": (HIDDEN,)},
    "lstm": {f"W_{g}": (HIDDEN, HIDDEN + INPUT) for g in "fiCo"} | {f"b_{g}": (HIDDEN,) for g in "fiCo"},
    "gru": dict.fromkeys(("W_z", "W_r", "W"), (HIDDEN, HIDDEN + INPUT)),
}


def problem(program: Program, states: int) -> tuple[Weights, Array, list[Array]]:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape) for name, shape in SHAPES[program.name].items()}
    return weights, rng.normal(size=(TIME, INPUT)), [rng.normal(size=HIDDEN) for _ in range(states)]


def batch_of_one(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).unsqueeze(0)


@textbook
def test_a_textbook_cell_has_the_parameters_of_the_book(program: Program, formulas: Formulas, states: int) -> None:
    sizes = {"input": INPUT, "hidden": HIDDEN}
    assert {p.name: program.shape_of(p, sizes) for p in program.parameters} == SHAPES[program.name]
    assert [s.name for s in program.states] == ["h", "C"][:states]


@textbook
def test_a_textbook_cell_computes_the_formulas_of_the_book(program: Program, formulas: Formulas, states: int) -> None:
    weights, x, state = problem(program, states)
    expected, expected_state = formulas(weights, x, *state)
    outputs, after = unroll(
        program,
        {name: torch.from_numpy(value) for name, value in weights.items()},
        batch_of_one(x),
        tuple(map(batch_of_one, state)),
    )
    # Six steps of float64 on values of size 1: rounding stays below 1e-14; 1e-12 leaves room for another libm.
    np.testing.assert_allclose(outputs[0].numpy(), expected, rtol=0, atol=1e-12)
    for got, wanted in zip(after, expected_state, strict=True):
        np.testing.assert_allclose(got[0].numpy(), wanted, rtol=0, atol=1e-12)


@textbook
def test_backpropagation_through_time_gives_the_slopes_of_the_loss(
    program: Program, formulas: Formulas, states: int
) -> None:
    """The loss of the book: L = sum over t of the cross-entropy of y_t = W_hy h_t + b_y."""
    weights, x, state = problem(program, states)
    rng = np.random.default_rng(1)
    weights |= {"W_hy": rng.normal(size=(TOKENS, HIDDEN)), "b_y": rng.normal(size=TOKENS)}
    targets = rng.integers(TOKENS, size=TIME)

    def loss() -> float:
        outputs, _ = formulas(weights, x, *state)
        logits = [weights["W_hy"] @ h + weights["b_y"] for h in outputs]
        return float(sum(np.log(np.exp(y).sum()) - y[target] for y, target in zip(logits, targets, strict=True)))

    tensors = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in weights.items()}
    outputs, _ = unroll(program, tensors, batch_of_one(x), tuple(map(batch_of_one, state)))
    logits = outputs[0] @ tensors["W_hy"].T + tensors["b_y"]
    total = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets), reduction="sum")
    assert total.item() == pytest.approx(loss(), abs=1e-12)  # as above: sums of a dozen float64 numbers
    total.backward()

    step = 1e-5
    for name, value in weights.items():
        slopes = np.empty_like(value)
        for place in np.ndindex(value.shape):
            before = value[place]
            value[place] = before + step
            above = loss()
            value[place] = before - step
            below = loss()
            value[place] = before
            slopes[place] = (above - below) / (2 * step)
        gradient = tensors[name].grad
        assert gradient is not None
        # Central differences err by step**2 times the third derivative and by 1e-15 / step: about 1e-9 here.
        np.testing.assert_allclose(gradient.numpy(), slopes, rtol=0, atol=1e-8, err_msg=name)
