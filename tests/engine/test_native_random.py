"""Random equations, sizes and lengths: whatever is a cell, the native engine computes as the reference does."""

import hypothesis.strategies as st
import torch
from agreement import assert_native_agrees, random_case, table_case
from hypothesis import HealthCheck, Phase, given, settings

from unrolled.equations import Instruction, Program, Variable

# Smooth, or bent at most where a random number hits with probability zero.
UNARY = ["sigmoid", "tanh", "relu", "softplus", "neg", "abs"]
BINARY = ["add", "sub", "mul", "maximum", "minimum", "add", "mul"]


@st.composite
def programs(draw) -> Program:
    sizes = ["hidden", "input", "projection"]
    state_sizes = draw(st.lists(st.sampled_from(["hidden", "projection"]), min_size=1, max_size=3))
    variables = [Variable("x", "input", ("input",))]
    variables += [Variable(f"s{i}", "state", (size,)) for i, size in enumerate(state_sizes)]
    values = {size: [v.name for v in variables if v.shape == (size,)] for size in sizes}
    instructions: list[Instruction] = []

    def emit(op: str, args: tuple, size: str) -> str:
        name = f"v{len(instructions)}"
        instructions.append(Instruction(name, op, args, (size,)))
        values[size].append(name)
        return name

    def product(size: str) -> str:
        vectors = draw(st.lists(st.sampled_from([(s, v) for s in sizes for v in values[s]]), min_size=1, max_size=3))
        matrix = Variable(f"W{len(variables)}", "parameter", (size, " + ".join(s for s, _ in vectors)))
        variables.append(matrix)
        return emit("matmul", (matrix.name, *(v for _, v in vectors)), size)

    def value(size: str) -> str:
        return draw(st.sampled_from(values[size])) if values[size] else product(size)

    for _ in range(draw(st.integers(1, 14))):
        size = draw(st.sampled_from(sizes))
        kind = draw(st.sampled_from(["product", "unary", "binary", "parameter", "number", "quotient", "root"]))
        if kind == "product":
            emit("tanh", (product(size),), size)
        elif kind == "unary":
            emit(draw(st.sampled_from(UNARY)), (value(size),), size)
        elif kind == "binary":
            emit(draw(st.sampled_from(BINARY)), (value(size), value(size)), size)
        elif kind == "parameter":
            vector = Variable(f"b{len(variables)}", "parameter", (size,))
            variables.append(vector)
            emit(draw(st.sampled_from(BINARY)), (value(size), vector.name), size)
        elif kind == "number":
            emit(draw(st.sampled_from(BINARY)), (draw(st.sampled_from([0.5, -1.25])), value(size)), size)
        elif kind == "quotient":
            emit("div", (value(size), emit("exp", (emit("sigmoid", (value(size),), size),), size)), size)
        else:
            inside = emit("add", (emit("abs", (value(size),), size), 0.75), size)
            emit(draw(st.sampled_from(["sqrt", "log"])), (inside,), size)
    outputs = [emit("tanh", (value(size),), size) if draw(st.booleans()) else value(size) for size in state_sizes]
    return Program("random", tuple(variables), tuple(instructions), tuple(outputs))


@settings(
    max_examples=150, phases=[Phase.generate], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    programs(),
    st.integers(1, 29),
    st.integers(1, 5),
    st.tuples(*[st.sampled_from([1, 3, 16, 18, 33])] * 3),
    st.booleans(),
    st.sampled_from([None, 1, 7, 40]),
    st.integers(0, 1000),
)
def test_random_programs(program, batch, time, sizes, ragged, words, seed):
    named = dict(zip(["input", "hidden", "projection"], sizes, strict=True))
    lengths = torch.randint(0, time + 1, (batch,), generator=torch.Generator().manual_seed(seed)) if ragged else None
    case = random_case(program, batch, time, named, seed)
    case = ({name: 0.5 * p for name, p in case[0].items()}, *case[1:])
    case, tokens = (case, None) if words is None else table_case(case, words, seed)
    assert_native_agrees(program, case, lengths, tokens=tokens, backwards=seed % 2 > 0)
