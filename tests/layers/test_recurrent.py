# ruff: noqa: F821 - the annotations of a cell name sizes
import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unrolled import Recurrent, UnrolledError, cell, tanh
from unrolled.cells import CELLS, gru, lstm, vanilla
from unrolled.engine import unroll


@cell
def low_rank(x, h, *, U: "hidden, rank", V: "rank, hidden", W, b):
    """A recurrent matrix of low rank."""
    h = tanh(U @ (V @ h) + W @ x + b)
    return h


@cell
def projected(x, h: "projection", C, *, W_C, b_C, P: "projection, hidden"):
    """Its output is smaller than its second state."""
    C = 0.5 * C + tanh(W_C @ [h, x] + b_C)
    h = P @ C
    return h, C


def test_parameters_carry_the_names_and_shapes_of_the_equations() -> None:
    layer = Recurrent(lstm, 3, 5)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        name: shape for gate in "fiCo" for name, shape in ((f"W_{gate}", (5, 8)), (f"b_{gate}", (5,)))
    }
    assert (layer.input_size, layer.output_size) == (3, 5)
    assert repr(layer) == "Recurrent(lstm, input=3, hidden=5)"


def test_sizes_that_the_cell_names_are_keyword_arguments() -> None:
    layer = Recurrent(low_rank, 3, 5, rank=2)
    assert [tuple(p.shape) for p in layer.parameters()] == [(5, 2), (2, 5), (5, 3), (5,)]
    assert repr(layer) == "Recurrent(low_rank, input=3, hidden=5, rank=2)"


def test_the_output_size_is_that_of_the_first_state() -> None:
    layer = Recurrent(projected, 3, 5, projection=2)
    outputs, (h, C) = layer(torch.zeros(4, 6, 3))
    assert (layer.output_size, outputs.shape, h.shape, C.shape) == (2, (4, 6, 2), (4, 2), (4, 5))


def test_a_recurrent_part_starts_orthogonal_an_input_part_as_glorot_and_a_bias_at_zero() -> None:
    torch.manual_seed(0)
    layer = Recurrent(lstm, 60, 100)
    recurrent, of_input = layer.W_i.detach()[:, :100], layer.W_i.detach()[:, 100:]
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(100), atol=1e-5, rtol=0)  # float32, sums of 100
    # Uniform with the deviation sqrt(2 / 160) = 0.112; that of 6000 draws differs by 0.6 % on average.
    assert of_input.abs().max() <= (6 / 160) ** 0.5
    assert of_input.std().item() == pytest.approx((2 / 160) ** 0.5, rel=0.05)
    assert (layer.b_i == 0).all()
    assert (layer.b_f == 1).all()


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_every_cell_starts_with_weights_that_differ_and_biases_that_it_names(program: Any) -> None:
    for name, parameter in Recurrent(program, 50, 40).named_parameters():
        if name in program.init:
            assert (parameter == program.init[name]).all()
        elif parameter.dim() == 2 or name in ("u", "p_f", "p_i", "p_o"):
            assert 0.01 < parameter.std().item() < 0.2
        else:
            assert (parameter == 0).all(), name


def test_start_values_follow_the_seed_and_can_be_drawn_anew() -> None:
    torch.manual_seed(1)
    layer = Recurrent(gru, 3, 5)
    first = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert not any(torch.equal(first[name], value) for name, value in layer.state_dict().items())
    torch.manual_seed(1)
    layer.reset_parameters()
    assert all(torch.equal(first[name], value) for name, value in layer.state_dict().items())


def test_a_layer_runs_its_cell_from_zero_or_from_the_state_given() -> None:
    torch.manual_seed(0)
    layer, x = Recurrent(lstm, 3, 5), torch.randn(2, 4, 3)
    zero = (torch.zeros(2, 5), torch.zeros(2, 5))
    expected, expected_state = unroll(lstm, dict(layer.named_parameters()), x, zero)
    for outputs, state in (layer(x), layer(x, zero), layer(x, list(zero))):
        assert torch.equal(outputs, expected)
        assert all(torch.equal(a, b) for a, b in zip(state, expected_state, strict=True))
    assert not torch.equal(layer(x, expected_state)[0], expected)


def test_nothing_is_remembered_between_calls() -> None:
    layer, x = Recurrent(lstm, 3, 5), torch.randn(2, 4, 3)
    before = copy.deepcopy(layer.state_dict())
    assert torch.equal(layer(x)[0], layer(x)[0])
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("lengths", [[3, 0], torch.tensor([3, 0], dtype=torch.int32)], ids=["list", "int32"])
def test_lengths_of_any_whole_type_count_steps(lengths: Any) -> None:
    layer, x = Recurrent(gru, 3, 5), torch.randn(2, 4, 3)
    outputs, (h,) = layer(x, None, lengths)
    assert torch.equal(h[0], outputs[0, 2])
    assert (outputs[0, :3] != 0).all()
    assert outputs[0, 3].abs().max() == outputs[1].abs().max() == h[1].abs().max() == 0


def test_a_layer_can_be_doubled_copied_pickled_and_filled_from_a_state_dict() -> None:
    torch.manual_seed(0)
    layer, x = Recurrent(lstm, 3, 5).double(), torch.randn(2, 4, 3, dtype=torch.float64)
    expected = layer(x)[0]
    assert expected.dtype == torch.float64
    filled = Recurrent(lstm, 3, 5).double()
    assert not torch.equal(filled(x)[0], expected)
    filled.load_state_dict(layer.state_dict())
    for other in (filled, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x)[0], expected)


def test_training_a_layer_follows_the_gradient_of_every_parameter() -> None:
    torch.manual_seed(0)
    layer, x = Recurrent(vanilla, 3, 5), torch.randn(2, 4, 3)
    before = layer(x)[0].square().sum()
    before.backward()
    assert all(p.grad is not None and (p.grad != 0).all() for p in layer.parameters())
    torch.optim.SGD(layer.parameters(), lr=1e-3).step()
    assert layer(x)[0].square().sum() < before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Recurrent("lstm", 3, 5),  # type: ignore[arg-type]
            "the cell must be a Program such as unrolled.cells.lstm, not 'lstm'; "
            "put @unrolled.cell above the function with the equations.",
        ),
        (lambda: Recurrent(lstm, 3, 0), "the hidden size must be a whole number of at least 1, not 0."),
        (lambda: Recurrent(lstm, -1, 5), "the input size must be a whole number of at least 1, not -1."),
        (lambda: Recurrent(lstm, 3, 5.0), "the hidden size must be a whole number of at least 1, not 5.0."),  # type: ignore[arg-type]
        (lambda: Recurrent(lstm, 3, True), "the hidden size must be a whole number of at least 1, not True."),
        (lambda: Recurrent(low_rank, 3, 5, rank=0), "the rank size must be a whole number of at least 1, not 0."),
        (lambda: Recurrent(lstm, 3, 5, rank=2), "cell lstm has no size named rank."),
        (lambda: Recurrent(lstm, 3, 5, input=4), "cell lstm has no size named input."),
        (
            lambda: Recurrent(low_rank, 3, 5),
            "cell low_rank: the size 'rank' is not known; pass it as rank=<number>.",
        ),
    ],
)
def test_a_layer_that_cannot_be_made_says_why(make: Callable[[], Recurrent], message: str) -> None:
    with pytest.raises(UnrolledError, match=f"^{re.escape(message)}$"):
        make()


X = torch.zeros(2, 7, 3)
H = torch.zeros(2, 5)
STATE = "the state must be a tuple (h, C,) of tensors (2, 5), (2, 5) of torch.float32 on cpu; it is "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0],), "x must be (batch, time, 3), it is (7, 3). For one sequence alone use x.unsqueeze(0)."),
        ((X[None],), "x must be (batch, time, 3), it is (1, 2, 7, 3)."),
        ((X[..., :2],), "x must be (batch, time, 3), it is (2, 7, 2)."),
        (
            (X.double(),),
            "x is torch.float64 on cpu, the layer is torch.float32 on cpu; bring both together with .to(...).",
        ),
        (
            (X.long(),),
            "x is torch.int64 on cpu, the layer is torch.float32 on cpu; bring both together with .to(...).",
        ),
        (
            (X.to("meta"),),
            "x is torch.float32 on meta, the layer is torch.float32 on cpu; bring both together with .to(...).",
        ),
        ((X, H), STATE + "Tensor."),
        ((X, (H,)), STATE + "(2, 5) torch.float32."),
        ((X, (H, H[:1])), STATE + "(2, 5) torch.float32, (1, 5) torch.float32."),
        ((X, (H, H.double())), STATE + "(2, 5) torch.float32, (2, 5) torch.float64."),
        ((X, (H, None)), STATE + "(2, 5) torch.float32, NoneType."),
        (
            (X, None, torch.tensor([7])),
            "lengths must be 2 whole numbers, one for each row of x; they are int64 of shape (1,).",
        ),
        (
            (X, None, torch.tensor([7.0, 3.0])),
            "lengths must be 2 whole numbers, one for each row of x; they are float32 of shape (2,).",
        ),
        (
            (X, None, torch.ones(2, dtype=torch.bool)),
            "lengths must be 2 whole numbers, one for each row of x; they are bool of shape (2,).",
        ),
        (
            (X, None, np.ones((2, 7), np.int64)),
            "lengths must be 2 whole numbers, one for each row of x; they are int64 of shape (2, 7).",
        ),
        (
            (X, None, torch.tensor([8, 3])),
            "lengths must lie between 0 and the 7 steps of x; they reach from 3 to 8.",
        ),
        (
            (X, None, torch.tensor([-1, 3])),
            "lengths must lie between 0 and the 7 steps of x; they reach from -1 to 3.",
        ),
    ],
)
def test_what_does_not_fit_a_layer_is_said_with_what_would(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UnrolledError, match=f"^{re.escape(message)}$"):
        Recurrent(lstm, 3, 5)(*arguments)
