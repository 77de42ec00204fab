"""Linear against torch.nn's, and the statistics of dropout."""

import math

import pytest
import torch
from torch import nn

from unrolled.engine import use_engine
from unrolled.layers import Dropout, Linear
from unrolled.layers import linear as module


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [((32, 40), 70, 33), ((7,), 130, 65), ((1, 1), 3, 2)])
def test_linear_agrees_with_torch(rows, inputs, outputs, monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 0)
    ours, theirs = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(*rows, inputs, requires_grad=True)
    seed = torch.randn(*rows, outputs)
    for layer in (ours, theirs):
        assert layer(x).shape == (*rows, outputs)
    came = []
    product = module.product
    monkeypatch.setattr(module, "product", lambda *given: came.append(given) or product(*given))
    got = torch.autograd.grad(ours(x), [x, *ours.parameters()], seed)
    expected = torch.autograd.grad(theirs(x), [x, *theirs.parameters()], seed)
    assert len(came) == (3 if torch.backends.mkldnn.is_available() else 0)  # forward, and two products backward
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    for a, b in zip(got, expected, strict=True):  # sums of at most 1280 products of normal numbers, in another order
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4)


def test_linear_in_float64_and_without_bias_is_torchs_own():
    x = torch.randn(3, 5, dtype=torch.float64)
    layer = Linear(5, 4).double()
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    without = Linear(5, 4, bias=False)
    torch.testing.assert_close(without(x.float()), nn.functional.linear(x.float(), without.weight))


def test_linear_under_autocast_is_torchs_in_bfloat16_and_gives_float32():
    ours, theirs = Linear(70, 33), nn.Linear(70, 33)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 70)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, rounded = ours(x), theirs(x)
    assert got.dtype == torch.float32 and rounded.dtype == torch.bfloat16
    assert torch.equal(got, rounded.float())


def test_second_derivatives_of_linear(monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 0)
    layer = Linear(4, 3)
    x = torch.randn(5, 4, requires_grad=True)

    def second(y):
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), layer.weight)[0]

    expected = second(nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(second(layer(x)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_the_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    size = 100 * 101 * 97  # no multiple of 8
    outputs, state = Dropout(p)(torch.ones(100, 101, 97))
    assert state == ()
    zeroed = (outputs == 0).float().mean().item()
    # Rounding to 256ths, and five standard deviations of a mean of so many.
    assert abs(zeroed - p) < 1 / 512 + 5 * math.sqrt(p * (1 - p) / size)
    kept = outputs[outputs != 0]
    assert (kept == kept[0]).all()
    assert abs(outputs.mean().item() - 1) < 5 * math.sqrt(p / (1 - p) / size)
    neighbours = (outputs.view(-1)[:-1] == 0).float() * (outputs.view(-1)[1:] == 0)
    assert abs(neighbours.mean().item() - zeroed**2) < 5 * math.sqrt(1 / size)


def test_dropout_that_does_nothing():
    x = torch.randn(2, 3, 4)
    assert Dropout(0.5).eval()(x)[0] is x
    assert Dropout(0.0)(x)[0] is x
    assert torch.equal(Dropout(1.0)(x)[0], torch.zeros_like(x))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_has_one_mask_forward_and_backward_on_any_number_of_threads(p):
    x = torch.randn(70, 33, 41, requires_grad=True)
    seen = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        y = Dropout(p)(x)[0]
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        torch.testing.assert_close(y, x * gradient, rtol=1e-6, atol=0)
        assert 0 < (gradient == 0).float().mean() < 1
        seen.append(y)
    assert torch.equal(*seen)
    assert not torch.equal(Dropout(p)(x)[0], seen[0])


def test_dropout_on_the_reference_engine():
    use_engine("reference")
    try:
        y = Dropout(0.25)(torch.ones(50, 40, 30))[0]
    finally:
        use_engine("auto")
    assert sorted(y.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert abs((y == 0).float().mean().item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / y.numel())


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_variational_dropout_has_one_fate_for_all_steps(engine):
    use_engine(engine)
    try:
        x = torch.randn(40, 7, 300, requires_grad=True)
        y = Dropout(0.25, variational=True)(x)[0]
        (gradient,) = torch.autograd.grad(y.sum(), x)
    finally:
        use_engine("auto")
    torch.testing.assert_close(y, x * gradient)
    assert torch.equal(gradient, gradient[:, :1].expand_as(gradient))
    assert not torch.equal(gradient[0], gradient[1])
    share = (gradient[:, 0] == 0).float().mean().item()
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / gradient[:, 0].numel())
