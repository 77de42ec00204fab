import pytest
import torch

from unrolled.equations import OPS, functions

# Zeros of both arguments, ties, both signs, and values where a naive formula would overflow.
_VALUES = [-800.0, -3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 35.0, 800.0]
_DOMAIN = {"log": [0.25, 1.0, 35.0], "sqrt": [0.0, 0.25, 1.0, 35.0], "exp": [-800.0, -1.0, 0.0, 2.0, 35.0]}


def _arguments(name: str) -> list[torch.Tensor]:
    values = torch.tensor(_DOMAIN.get(name, _VALUES), dtype=torch.float64)
    pairs = [values] if OPS[name].arity == 1 else torch.meshgrid(values, values, indexing="ij")
    arguments = [argument.flatten() for argument in pairs]
    if name == "div":
        arguments = [argument[arguments[1] != 0] for argument in arguments]
    return [argument.clone().requires_grad_() for argument in arguments]


@pytest.mark.parametrize("name", OPS)
def test_the_derivative_is_the_one_that_autograd_finds(name: str) -> None:
    op, arguments = OPS[name], _arguments(name)
    assert len(arguments) == op.arity
    result = op.value(torch, *arguments)
    gradient = torch.linspace(-1.5, 2.0, result.numel(), dtype=torch.float64)
    expected = torch.autograd.grad(result, arguments, gradient)
    with torch.no_grad():
        found = op.derivative(torch, gradient, result, *arguments)
    assert len(found) == op.arity
    for mine, theirs in zip(found, expected, strict=True):
        mine = torch.as_tensor(mine, dtype=torch.float64).expand_as(theirs)
        # Both round to float64; the longest derivative has four operations.
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_shares_the_gradient(name: str) -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert OPS[name].derivative(torch, one, one, one, one) == (0.5 * one, 0.5 * one)


def test_every_row_stands_for_itself() -> None:
    assert all(row.name == name for name, row in OPS.items())
    assert len({row.opcode for row in OPS.values()}) == len(OPS)
    operators = {"add", "sub", "mul", "div", "neg", "abs"}
    assert all(callable(getattr(functions, name)) for name in OPS.keys() - operators)
