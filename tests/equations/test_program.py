import dataclasses
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.cells import CELLS, lstm, vanilla
from unrolled.equations import Instruction, Program, Variable, to_latex, to_text
from unrolled.errors import UnrolledError

_SIZES = {"input": 3, "hidden": 5}


@pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)
def test_json_gives_an_equal_program_back(program: Program) -> None:
    copy = Program.from_json(program.to_json())
    assert copy == program
    assert hash(copy) == hash(program)


def test_variables_have_roles_and_shapes() -> None:
    assert [variable.name for variable in lstm.inputs] == ["x"]
    assert [variable.name for variable in lstm.states] == ["h", "C"]
    assert [variable.name for variable in vanilla.parameters] == ["W_hh", "W_xh", "b_h"]
    assert lstm.size_names() == ("input", "hidden")
    assert lstm.shape_of(lstm.parameters[0], _SIZES) == (5, 8)
    assert lstm.size("hidden + 2", _SIZES) == 7


def test_a_size_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(UnrolledError, match=r"cell lstm: the size 'rank' is not known; pass it as rank=<number>\."):
        lstm.size("hidden + rank", _SIZES)


_VECTOR = ("hidden",)
_MATRIX = ("hidden", "hidden")
_STEP = Program(
    name="step",
    variables=(
        Variable("x", "input", ("input",)),
        Variable("h", "state", _VECTOR),
        Variable("W", "parameter", _MATRIX),
        Variable("U", "parameter", ("hidden", "hidden + input")),
    ),
    instructions=(Instruction("a", "matmul", ("W", "h"), _VECTOR), Instruction("b", "tanh", ("a",), _VECTOR)),
    outputs=("b",),
)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (Instruction("c", "tanh", ("q",), _VECTOR), "'q' is not defined before its use"),
        (Instruction("c", "tanh", ("c",), _VECTOR), "'c' is not defined before its use"),
        (Instruction("a", "tanh", ("b",), _VECTOR), "'a' is defined twice"),
        (Instruction("h", "tanh", ("b",), _VECTOR), "'h' is defined twice"),
        (Instruction("not a name", "tanh", ("b",), _VECTOR), "'not a name' is not a name"),
        (Instruction("c", "cosh", ("b",), _VECTOR), "unknown operation; this version knows matmul, add, sub"),
        (Instruction("c", "tanh", ("b", "a"), _VECTOR), "tanh takes 1 arguments"),
        (Instruction("c", "add", ("b",), _VECTOR), "add takes 2 arguments"),
        (Instruction("c", "add", ("b", "x"), _VECTOR), "the shapes of an element-wise operation must be equal"),
        (Instruction("c", "tanh", ("b",), ("input",)), "the shapes of an element-wise operation must be equal"),
        (Instruction("c", "add", (1.0, 2.0), _VECTOR), "the shapes of an element-wise operation must be equal"),
        (Instruction("c", "matmul", ("W", "x"), _VECTOR), r"times vector \(input\) do not fit"),
        (Instruction("c", "matmul", ("W", "h", "x"), _VECTOR), r"times vector \(hidden \+ input\) do not fit"),
        (Instruction("c", "matmul", ("W", "h"), ("input",)), "do not fit"),
        (Instruction("c", "matmul", ("W", "h"), ()), "do not fit"),
        (Instruction("c", "matmul", ("h", "h"), _VECTOR), "do not fit"),
        (Instruction("c", "matmul", ("U", "W"), _VECTOR), "only vectors stand on the right of a product"),
        (Instruction("c", "matmul", (), _VECTOR), "a product takes a matrix and named vectors"),
        (Instruction("c", "matmul", ("W",), _VECTOR), "a product takes a matrix and named vectors"),
        (Instruction("c", "matmul", ("W", 2.0), _VECTOR), "a product takes a matrix and named vectors"),
        (Instruction("c", "matmul", (2.0, "h"), _VECTOR), "a product takes a matrix and named vectors"),
    ],
)
def test_an_instruction_that_makes_no_sense(instruction: Instruction, message: str) -> None:
    with pytest.raises(UnrolledError, match=message) as error:
        dataclasses.replace(_STEP, instructions=(*_STEP.instructions, instruction))
    assert "program step" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": ()}, "0 outputs for 1 states; one each is needed"),
        ({"outputs": ("q",)}, "output 'q' has shape None, its state h has"),
        ({"outputs": ("x",)}, r"output 'x' has shape \('input',\), its state h has \('hidden',\)"),
        ({"variables": (*_STEP.variables, Variable("c", "weight", _VECTOR))}, "c has the unknown role 'weight'"),
        ({"variables": (*_STEP.variables, Variable("x", "input", _VECTOR))}, "'x' is defined twice"),
    ],
)
def test_a_program_that_makes_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnrolledError, match=message):
        dataclasses.replace(_STEP, **change)


def test_equations_of_a_later_version() -> None:
    data = json.loads(vanilla.to_json()) | {"format": 99}
    with pytest.raises(UnrolledError, match="of format 99, this version reads up to 1; update unrolled"):
        Program.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"format": 1}', "[" * 100_000, '{"format": "1"}'])
def test_text_that_is_no_program(text: str) -> None:
    with pytest.raises(UnrolledError, match=r"the equations are damaged \(.*\); use a good copy of the file"):
        Program.from_json(text)


def test_a_number_beyond_all_floats() -> None:
    data = json.loads(lstm.to_json()) | {"init": {"b_f": 10**400}}
    with pytest.raises(UnrolledError, match="damaged"):
        Program.from_json(json.dumps(data))


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in items for place in _places(value, (*path, key)))]


_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["x", "h", "tanh", "matmul", "hidden", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(program=st.sampled_from([*CELLS.values()]), seed=st.integers(0, 2**32), junk=_JUNK, delete=st.booleans())
@settings(max_examples=200, deadline=None)
def test_damaged_json_is_refused_or_is_a_program_that_still_works(
    program: Program, seed: int, junk: Any, delete: bool
) -> None:
    data = json.loads(program.to_json())
    *path, last = random.Random(seed).choice(_places(data)[1:])
    owner = data
    for key in path:
        owner = owner[key]
    if delete:
        del owner[last]
    else:
        owner[last] = junk
    try:
        found = Program.from_json(json.dumps(data))
    except UnrolledError:
        return
    assert Program.from_json(found.to_json()).to_json() == found.to_json()
    assert to_text(found)
    assert to_latex(found)


@given(text=st.text(max_size=40), program=st.sampled_from([*CELLS.values()]), place=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_text_pasted_into_the_json_never_breaks_the_reader(text: str, program: Program, place: float) -> None:
    json_text = program.to_json()
    cut = round(place * len(json_text))
    try:
        Program.from_json(json_text[:cut] + text + json_text[cut + len(text) :])
    except UnrolledError as error:
        assert str(error)
