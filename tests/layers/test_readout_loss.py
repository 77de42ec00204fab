"""The readout's loss in the memory of its logits, against torch's operations in float64."""

import pytest
import torch
from torch.nn import functional

from unrolled.engine import bf16_products, use_engine
from unrolled.errors import UnrolledError
from unrolled.layers.readout_loss import readout_loss


def _given(rows, inputs, classes, spread=1.0):
    torch.manual_seed(rows + classes)
    tensors = torch.randn(rows, inputs), torch.randn(classes, inputs) * spread, torch.randn(classes)
    return tuple(t.requires_grad_() for t in tensors), torch.randint(classes, (rows,))


def _judged(given, targets, factor):
    """Loss and gradients of `factor` times the loss, in float64."""
    wide = [t.detach().double().requires_grad_() for t in given]
    loss = functional.cross_entropy(functional.linear(*wide), targets)
    return loss, torch.autograd.grad(loss * factor, wide)


@pytest.mark.parametrize("sizes", [(2048, 64, 512), (100, 7, 65), (3, 5, 2), (1, 1, 1), (33, 16, 1001)])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_loss_and_gradients_agree_with_float64(sizes, spread):
    given, targets = _given(*sizes, spread)
    loss = readout_loss(*given, targets)
    assert "ReadoutLoss" in type(loss.grad_fn).__name__
    expected, gradients = _judged(given, targets, 0.3)
    # Logits of up to about spread * sqrt(inputs) * 4, each with the rounding of a sum of `inputs` products.
    rounding = 2**-23 * sizes[1] ** 0.5 * (1 + spread * 4 * sizes[1] ** 0.5)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=rounding)
    for got, wanted in zip(torch.autograd.grad(loss * 0.3, given), gradients, strict=True):
        largest = float(wanted.abs().max())
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=max(rounding * largest, 1e-7))


@pytest.mark.skipif(not bf16_products()[0], reason="products in bfloat16 need AVX512_BF16")
def test_under_autocast_the_products_are_rounded_and_nothing_more():
    given, targets = _given(300, 64, 130, 1 / 8)  # logits of about 1, each rounded to 8 bits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = readout_loss(*given, targets)
    assert loss.dtype == torch.float32
    expected, gradients = _judged(given, targets, 1.0)
    torch.testing.assert_close(loss.double(), expected, rtol=2**-8, atol=0)
    for got, wanted in zip(torch.autograd.grad(loss, given), gradients, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=2**-6 * float(wanted.abs().max()))


def test_large_logits_and_what_is_not_a_number():
    (x, weight, bias), targets = _given(4, 3, 5)
    with torch.no_grad():
        bias[:] = torch.tensor([1e4, -1e4, 0.0, 3e38, -3e38])
    targets[:] = torch.tensor([3, 0, 4, 3])
    loss = readout_loss(x, weight, bias, targets)
    torch.testing.assert_close(loss, functional.cross_entropy(functional.linear(x, weight, bias), targets))
    (d_bias,) = torch.autograd.grad(loss, bias)
    torch.testing.assert_close(d_bias, torch.tensor([-0.25, 0.0, 0.0, 0.5, -0.25]))
    with torch.no_grad():
        x[1, 0] = torch.nan
    assert readout_loss(x, weight, bias, targets).isnan()


def test_gradients_of_gradients():
    given, targets = _given(6, 4, 9)
    (first,) = torch.autograd.grad(readout_loss(*given, targets), given[0], create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), given[1])
    wide = [t.detach().double().requires_grad_() for t in given]
    loss = functional.cross_entropy(functional.linear(*wide), targets)
    (expected_first,) = torch.autograd.grad(loss, wide[0], create_graph=True)
    (expected,) = torch.autograd.grad(expected_first.pow(2).sum(), wide[1])
    torch.testing.assert_close(second.double(), expected, rtol=1e-4, atol=1e-6)


def test_without_gradients_or_the_native_engine_it_is_torchs_own():
    given, targets = _given(20, 8, 11)
    expected = functional.cross_entropy(functional.linear(*given), targets)
    with torch.no_grad():
        torch.testing.assert_close(readout_loss(*given, targets), expected)
    use_engine("reference")
    try:
        loss = readout_loss(*given, targets)
    finally:
        use_engine("auto")
    assert "ReadoutLoss" not in type(loss.grad_fn).__name__
    torch.testing.assert_close(loss, expected)


def test_a_target_that_is_no_class_is_refused():
    given, targets = _given(20, 8, 11)
    targets[7] = 11
    with pytest.raises(UnrolledError, match="target 11 of row 7; there are 11 classes"):
        readout_loss(*given, targets)
