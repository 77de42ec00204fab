"""The reference engine: lengths, empty sequences, carried state, and random programs against plain numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from unrolled import Program
from unrolled.cells import CELLS, lstm
from unrolled.engine.packed import pack, pad, reverse
from unrolled.engine.reference import unroll
from unrolled.equations import Instruction, Variable

SIZES = {"input": 3, "hidden": 4}

every_cell = pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)


def problem(
    program: Program, batch: int, time: int, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = {p.name: draw(*program.shape_of(p, SIZES)) for p in program.parameters}
    state = tuple(draw(batch, *program.shape_of(s, SIZES)) for s in program.states)
    return parameters, draw(batch, time, SIZES["input"]), state


@every_cell
def test_a_row_with_a_length_equals_the_row_cut_there_and_run_alone(program: Program) -> None:
    parameters, x, state = problem(program, batch=4, time=5)
    lengths = torch.tensor([5, 0, 3, 1])
    outputs, after = unroll(program, parameters, x, state, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, alone_after = unroll(program, parameters, x[[row], :length], tuple(s[[row]] for s in state))
        # One row and four rows may be summed in another order; values of size 10 keep 1e-12 with room.
        torch.testing.assert_close(outputs[row, :length], alone[0], rtol=0, atol=1e-12)
        assert torch.equal(outputs[row, length:], torch.zeros_like(outputs[row, length:]))
        for got, wanted in zip(after, alone_after, strict=True):
            torch.testing.assert_close(got[row], wanted[0], rtol=0, atol=1e-12)


def test_a_row_of_length_zero_keeps_its_state_and_gets_no_gradient() -> None:
    parameters, x, state = problem(lstm, batch=2, time=3)
    x.requires_grad_()
    outputs, after = unroll(lstm, parameters, x, state, torch.tensor([0, 2]))
    for before, now in zip(state, after, strict=True):
        assert torch.equal(before[0], now[0])
        assert not torch.equal(before[1], now[1])
    (gradient,) = torch.autograd.grad(outputs.sum() + sum(part.sum() for part in after), x)
    assert gradient[0].abs().max() == 0
    assert gradient[1, 2].abs().max() == 0
    assert (gradient[1, :2] != 0).all()


def test_what_stands_past_the_length_changes_neither_values_nor_gradients_even_if_it_is_not_a_number() -> None:
    parameters, x, state = problem(lstm, batch=2, time=4)
    lengths = torch.tensor([2, 4])
    spoiled = x.clone()
    spoiled[0, 2:] = torch.nan
    results = []
    for given_x in (x, spoiled):
        weights = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        outputs, after = unroll(lstm, weights, given_x, state, lengths)
        loss = outputs.sum() + sum(part.sum() for part in after)
        results.append([outputs, *after, *torch.autograd.grad(loss, list(weights.values()))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(value.isfinite().all() for value in results[1])


def test_full_lengths_and_no_lengths_are_the_same_run() -> None:
    parameters, x, state = problem(lstm, batch=3, time=4)
    outputs, after = unroll(lstm, parameters, x, state)
    same, same_after = unroll(lstm, parameters, x, state, torch.full((3,), 4))
    assert torch.equal(outputs, same)
    assert all(torch.equal(a, b) for a, b in zip(after, same_after, strict=True))


@pytest.mark.parametrize("lengths", [None, torch.zeros(2, dtype=torch.int64)], ids=["full", "lengths"])
@every_cell
def test_a_sequence_of_no_steps_gives_no_outputs_and_the_state_it_got(program: Program, lengths: Tensor | None) -> None:
    parameters, x, state = problem(program, batch=2, time=0)
    outputs, after = unroll(program, parameters, x, state, lengths)
    assert outputs.shape == (2, 0, SIZES["hidden"])
    assert outputs.dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(after, state, strict=True))


@every_cell
def test_a_batch_of_no_rows_gives_empty_outputs_and_states(program: Program) -> None:
    parameters, x, state = problem(program, batch=0, time=3)
    outputs, after = unroll(program, parameters, x, state, torch.zeros(0, dtype=torch.int64))
    assert outputs.shape == (0, 3, SIZES["hidden"])
    assert [part.shape for part in after] == [part.shape for part in state]


@every_cell
def test_float32_stays_float32_and_comes_near_float64(program: Program) -> None:
    exact, exact_after = unroll(program, *problem(program, batch=2, time=5))
    outputs, after = unroll(program, *problem(program, batch=2, time=5, dtype=torch.float32))
    for got, wanted in zip((outputs, *after), (exact, *exact_after), strict=True):
        assert got.dtype == torch.float32
        # float32 has 24 bits, 6e-8; five steps with weights of size 1 multiply that by about a hundred.
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


@every_cell
def test_two_halves_with_the_state_carried_over_are_one_run(program: Program) -> None:
    parameters, x, state = problem(program, batch=2, time=7)
    whole, whole_after = unroll(program, parameters, x, state)
    first, between = unroll(program, parameters, x[:, :3], state)
    second, after = unroll(program, parameters, x[:, 3:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert all(torch.equal(a, b) for a, b in zip(after, whole_after, strict=True))


def test_cutting_the_gradient_between_halves_leaves_the_value_and_truncates_the_gradient() -> None:
    parameters, x, state = problem(lstm, batch=2, time=6)
    x.requires_grad_()
    _, between = unroll(lstm, parameters, x[:, :3], state)
    through, _ = unroll(lstm, parameters, x[:, 3:], between)
    cut, _ = unroll(lstm, parameters, x[:, 3:], tuple(part.detach() for part in between))
    assert torch.equal(through, cut)
    (full,) = torch.autograd.grad(through.sum(), x)
    (truncated,) = torch.autograd.grad(cut.sum(), x)
    assert torch.equal(full[:, 3:], truncated[:, 3:])
    assert (full[:, :3] != 0).all()
    assert truncated[:, :3].abs().max() == 0


# Random programs. Every instruction is followed by tanh, so values stay in [-1, 1] and rounding cannot grow;
# operations with steps or poles (sign, div, log, sqrt) are judged one by one in tests/equations.
Array = NDArray[np.float64]
DIRECT = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0),
    "softplus": lambda a: np.log(1 + np.exp(a)),
    "exp": np.exp,
    "abs": np.abs,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
ARITY = {"add": 2, "sub": 2, "mul": 2, "maximum": 2, "minimum": 2}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    states = [f"s{number}" for number in range(draw(st.integers(1, 3)))]
    variables = [Variable("x", "input", ("input",)), *(Variable(s, "state", ("hidden",)) for s in states)]
    vectors, instructions = [*states, "b"], []
    variables.append(Variable("b", "parameter", ("hidden",)))
    for number in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(["matmul", *DIRECT]))
        args: list[Any]
        if op == "matmul":
            parts = draw(st.lists(st.sampled_from(["x", *vectors]), min_size=1, max_size=3))
            columns = " + ".join("input" if part == "x" else "hidden" for part in parts)
            variables.append(Variable(f"W{number}", "parameter", ("hidden", columns)))
            args = [f"W{number}", *parts]
        else:
            constant = st.floats(-2, 2)
            args = [draw(st.sampled_from(vectors))]
            args += [draw(st.sampled_from(vectors) | constant) for _ in range(ARITY.get(op, 1) - 1)]
            args = draw(st.permutations(args))
        instructions.append(Instruction(f"raw{number}", op, tuple(args), ("hidden",)))
        instructions.append(Instruction(f"v{number}", "tanh", (f"raw{number}",), ("hidden",)))
        vectors.append(f"v{number}")
    outputs = tuple(draw(st.sampled_from(vectors)) for _ in states)
    return Program("random", tuple(variables), tuple(instructions), outputs)


def direct(program: Program, values: dict[str, Array]) -> list[Array]:
    """The new states of one row: each value from its own equation, on demand, with plain numpy."""
    equations = {instruction.name: instruction for instruction in program.instructions}

    def value(argument: str | float) -> Array | float:
        if not isinstance(argument, str) or argument in values:
            return values[argument] if isinstance(argument, str) else argument
        equation = equations[argument]
        args = [value(part) for part in equation.args]
        if equation.op == "matmul":
            return np.asarray(args[0]) @ np.concatenate([np.asarray(part) for part in args[1:]])
        return np.asarray(DIRECT[equation.op](*args))

    return [np.asarray(value(output)) for output in program.outputs]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=programs(), seed=st.integers(0, 2**31))
def test_a_random_program_over_time_equals_its_equations_evaluated_row_by_row(program: Program, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, time = 2, 3
    parameters = {p.name: rng.normal(size=program.shape_of(p, SIZES)) for p in program.parameters}
    x = rng.normal(size=(batch, time, SIZES["input"]))
    state = [rng.normal(size=(batch, SIZES["hidden"])) for _ in program.states]
    lengths = rng.integers(time + 1, size=batch)
    outputs, after = unroll(
        program,
        {name: torch.from_numpy(value) for name, value in parameters.items()},
        torch.from_numpy(x),
        tuple(map(torch.from_numpy, state)),
        torch.from_numpy(lengths),
    )
    expected = np.zeros((batch, time, SIZES["hidden"]))
    for row in range(batch):
        current = [part[row] for part in state]
        for t in range(lengths[row]):
            named = dict(zip((s.name for s in program.states), current, strict=True))
            current = direct(program, {"x": x[row, t], **named, **parameters})
            expected[row, t] = current[0]
        for got, wanted in zip(after, current, strict=True):
            # Rounding of 1e-16 through at most 6 x 3 bounded operations with weights of size 1 stays far below.
            np.testing.assert_allclose(got[row].numpy(), wanted, rtol=0, atol=1e-10)
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=0, atol=1e-10)


def test_packed_steps():
    lengths = torch.tensor([4, 2, 2, 0])
    sequences = [[10, 11, 12, 13], [20, 21], [30, 31], []]
    steps = torch.tensor([[10], [20], [30], [11], [21], [31], [12], [13]])
    padded = torch.tensor([s + [0] * (4 - len(s)) for s in sequences]).unsqueeze(-1)
    assert torch.equal(pad(steps, lengths), padded)
    assert torch.equal(pack(padded, lengths), steps)
    assert reverse(steps, lengths).flatten().tolist() == [13, 21, 31, 12, 20, 30, 11, 10]
    none = torch.tensor([0, 0])
    assert pad(steps[:0], none).shape == (2, 0, 1)
    assert pack(padded[:2, :0], none).shape == (0, 1)
