"""Products in bfloat16: the factors are rounded to it and nothing else is; where there are none, all is float32."""

import os
import subprocess
import sys

import pytest
import torch
from agreement import EPSILON, random_case, run, take_pieces
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unrolled import Recurrent, cells
from unrolled.cells import CELLS
from unrolled.engine import bf16_products, engine_for, reference, use_engine
from unrolled.engine.native import autograd, programs
from unrolled.engine.native.library import has_bf16
from unrolled.equations import cell

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no AVX512_BF16")
SIZES = [(1, 1, 1, 1), (3, 7, 5, 7), (37, 4, 17, 33), (26, 3, 64, 65), (8, 40, 33, 16)]  # batch, time, input, hidden


def rounded(value: Tensor) -> Tensor:
    return value.float().bfloat16().to(value.dtype)


class _RoundedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return rounded(a) @ rounded(b)

    @staticmethod
    def backward(ctx, gradient):
        a, b = map(rounded, ctx.saved_tensors)
        return rounded(gradient) @ b.T, a.T @ rounded(gradient)


class RoundedFactors(TorchFunctionMode):
    """Within it the factors of every product, those of the backward pass too, are rounded to bfloat16."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.matmul or function.__name__ == "__matmul__":
            return _RoundedProduct.apply(*args)
        return function(*args, **(kwargs or {}))


def emulated(*arguments):
    with RoundedFactors():
        return reference.unroll(*arguments)


def native(*arguments):
    return autograd.unroll(*arguments, bf16=True)


@cell
def linear(x, h, *, W):
    """A product and nothing else."""
    return W @ [h, x]


@needs_bf16
@pytest.mark.parametrize("size", [*SIZES, (1100, 1, 5, 18)], ids=str)
def test_a_product_rounds_its_factors_once(size):
    batch, _, inputs, hidden = size
    case = random_case(linear, batch, 1, {"input": inputs, "hidden": hidden})
    got, wanted = run(native, linear, case, None, torch.float32), run(emulated, linear, case, None, torch.float64)
    # Each term is added with an error of half a unit in the last place, at most, of the sum of all terms' sizes.
    W, x, h = case[0]["W"].detach().abs(), case[1].detach()[:, 0].abs(), case[2][0].detach().abs()
    generator = torch.Generator().manual_seed(1)  # that of `run`
    seeds = [torch.randn(shape, generator=generator) for shape in ((batch, 1, hidden), (batch, hidden))]
    left = (seeds[0][:, 0] + seeds[1]).abs()
    sums = {
        "outputs": (torch.cat([h, x], 1) @ W.T, inputs + hidden),
        "gradient of x": (left @ W[:, hidden:], hidden),
        "gradient of h": (left @ W[:, :hidden], hidden),
        "gradient of W": (left.T @ torch.cat([h, x], 1), batch),
    }
    for name, (size_of_sum, terms) in sums.items():
        error = (got[name] - wanted[name]).abs().view(size_of_sum.shape)
        assert (error <= (terms + 2) * 2.0**-24 * 1.01 * size_of_sum).all(), name


@needs_bf16
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ragged", [False, True])
def test_cells_round_the_factors_of_their_products_and_nothing_else(name, size, ragged):
    batch, time, inputs, hidden = size
    program = CELLS[name]
    case = random_case(program, batch, time, {"input": inputs, "hidden": hidden})
    lengths = torch.arange(batch) % (time + 1) if ragged else None
    exact = run(reference.unroll, program, case, lengths, torch.float64)
    wanted = run(emulated, program, case, lengths, torch.float64)
    got = run(native, program, case, lengths, torch.float32)
    for key, value in wanted.items():
        # float32 is 2^16 times finer than what rounding to 8 bits changes, but now and then it puts a number on the
        # other side of the middle of two of bfloat16. A product rounded otherwise would change the mean by a third.
        noise, error = (value - exact[key]).abs(), (got[key] - value).abs()
        if value.numel():
            float32 = 32 * EPSILON * exact[key].abs().max()
            assert error.max() <= noise.max() + float32, key
            assert error.mean() <= 0.1 * noise.mean() + float32, key


def shifts(rows: int, columns: int) -> Tensor:
    """Two ones in each row, in another column each."""
    matrix = torch.zeros(rows, columns)
    for row in range(rows):
        matrix[row, row % columns] += 1.0
        matrix[row, (3 * row + 1) % columns] -= 1.0
    return matrix


@needs_bf16
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("hoisting", [False, True])
@pytest.mark.parametrize("size", [*SIZES, (61, 3, 130, 100)], ids=str)
@pytest.mark.parametrize("ragged", [False, True])
def test_whole_numbers_of_few_bits_come_out_exactly(size, ragged, hoisting, threads, monkeypatch):
    """Wherever a factor stands in its array: a wrong one changes a whole number."""
    monkeypatch.setattr(programs, "ROWS_INSIDE", 10**6 if hoisting else 0)
    take_pieces(45, monkeypatch)
    batch, time, inputs, hidden = size
    time = min(time, 4)  # so that no sum needs more than 8 bits
    parameters = {"W": torch.cat([shifts(hidden, hidden), shifts(hidden, inputs)], 1).requires_grad_()}
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).float()

    x, h = draw(batch, time, inputs).requires_grad_(), draw(batch, hidden).requires_grad_()
    lengths = torch.arange(batch) % (time + 1) if ragged else None
    seeds = [draw(batch, time, hidden), draw(batch, hidden)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = []
        for unroll in (native, autograd.unroll):
            outputs, (final,) = unroll(linear, parameters, x, (h,), lengths)
            found.append([outputs, final, *torch.autograd.grad([outputs, final], [x, h, parameters["W"]], seeds)])
    finally:
        torch.set_num_threads(before)
    assert found[0][0].abs().max() <= 256
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_bf16
def test_runs_are_deterministic():
    program = CELLS["lstm"]
    case = random_case(program, 40, 12, {"input": 30, "hidden": 50})
    first = run(native, program, case, None, torch.float32)
    for _ in range(3):
        again = run(native, program, case, None, torch.float32)
        assert all(torch.equal(first[name], again[name]) for name in first)


@needs_bf16
def test_a_factor_that_is_no_number_spoils_what_it_meets_and_nothing_else():
    parameters = {"W": torch.ones(17, 34)}
    x = torch.ones(3, 1, 17)
    x[1, 0, 16] = torch.nan
    outputs, _ = native(linear, parameters, x, (torch.zeros(3, 17),))
    assert outputs[1].isnan().all() and (outputs[[0, 2]] == 17).all()


def layer_and_input() -> tuple[Recurrent, Tensor]:
    torch.manual_seed(0)
    return Recurrent(cells.gru, 20, 33), torch.randn(9, 5, 20)


@needs_bf16
@pytest.mark.parametrize("keep", [False, True])
def test_under_autocast_a_layer_has_products_in_bfloat16_and_all_else_in_float32(keep):
    layer, x = layer_and_input()
    plain, _ = layer(x)
    with torch.set_grad_enabled(keep):
        wanted, _ = native(layer.cell, dict(layer.named_parameters()), x, layer.initial_state(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs, state = layer(x)
            assert engine_for(x) == ("native", "float32 on the CPU, with products in bfloat16")
    assert torch.equal(outputs, wanted) and not torch.equal(outputs, plain)
    assert outputs.dtype == state[0].dtype == torch.float32
    if keep:  # the backward pass is in the precision of its forward pass, wherever it is called
        outside = torch.autograd.grad(outputs.sum(), list(layer.parameters()))
        for got, value in zip(outside, torch.autograd.grad(wanted.sum(), list(layer.parameters())), strict=True):
            assert torch.equal(got, value)


def test_a_layer_takes_what_autocast_rounded():
    layer, x = layer_and_input()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = (torch.zeros(9, 33, dtype=torch.bfloat16),)
        outputs, after = layer(x.bfloat16(), state)
        assert torch.equal(outputs, layer(x.bfloat16().float())[0])
    assert outputs.dtype == after[0].dtype == torch.float32


def test_the_reference_engine_stays_in_float32_under_autocast():
    layer, x = layer_and_input()
    try:
        use_engine("reference")
        wanted, _ = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x)[0], wanted)
        can, reason = bf16_products()
    finally:
        use_engine("auto")
    assert (
        not can
        and reason == "only the native engine has products in bfloat16, and the reference runs: it was asked for"
    )


@needs_bf16
def test_a_second_derivative_under_autocast():
    layer, x = layer_and_input()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(x.requires_grad_())
        (first,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), list(layer.parameters()))
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in second)


_WITHOUT = """
import torch, unrolled
from unrolled.engine import bf16_products, engine_for
torch.manual_seed(0)
layer = unrolled.Recurrent(unrolled.cells.lstm, 20, 33)
x = torch.randn(9, 5, 20)
plain, _ = layer(x)
gradients = torch.autograd.grad(plain.sum(), list(layer.parameters()))
with torch.autocast("cpu", dtype=torch.bfloat16):
    print(engine_for(x))
    outputs, _ = layer(x)
    found = torch.autograd.grad(outputs.sum(), list(layer.parameters()))
print(bf16_products())
print(torch.equal(plain, outputs) and all(map(torch.equal, gradients, found)))
"""


def test_a_processor_without_it_computes_in_float32_and_says_so():
    environment = os.environ | {"UNROLLED_INSTRUCTION_SET": "avx2"}
    done = subprocess.run([sys.executable, "-c", _WITHOUT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "('native', 'float32 on the CPU')",
        "(False, 'this processor has no AVX512_BF16, or its kernels of AVX-512 are not in use')",
        "True",
    ]
