# ruff: noqa: F821 - the annotations of a cell name sizes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unrolled.equations import CellError, maximum, sigmoid, tanh, trace


def two_states_one_returned(x, h, C, *, W):
    return tanh(W @ [h, C, x])


def nothing_returned(x, h, *, W):
    tanh(W @ [h, x])


def condition(x, h, *, W):
    return tanh(W @ [h, x]) if h > 0 else h


def builtin_max(x, h, *, W):
    return max(W @ [h, x], 0)


def from_math(x, h, *, W):
    return math.tanh(W @ [h, x])


def from_numpy(x, h, *, W):
    return np.tanh(W @ [h, x])


def from_torch(x, h, *, W):
    return torch.tanh(W @ [h, x])


def concatenated(x, h, *, W):
    return tanh(W @ torch.cat([h, x]))


def method(x, h, *, W):
    return (W @ [h, x]).tanh()


def power(x, h, *, W):
    return W @ [h, x] - h**2


def power_of_a_number(x, h, *, W):
    return W @ [h, x] - 2**h


def matrix_on_the_right(x, h, *, W, U):
    return tanh(h @ W + U @ x)


def matrix_right_of_a_list(x, h, *, W):
    return tanh([h, x] @ W)


def unused_parameter(x, h, *, W, b):
    return tanh(W @ [h, x])


def parameter_of_dead_code(x, h, *, W, b):
    h + b
    return tanh(W @ [h, x])


def state_never_read(x, h, C, *, W):
    C = tanh(W @ [h, x])
    return C, C


def state_only_returned(x, h, C, *, W):
    return tanh(W @ [h, x]), C


def lengths_contradict(x, h, *, W):
    return tanh(W @ [h, x]) * (h + x)


def new_state_has_another_length(x, h, *, W: "rank, hidden + input"):
    return tanh(W @ [h, x])


def list_in_a_function(x, h, *, W):
    return W @ tanh([h, x])


def list_in_a_sum(x, h, *, W):
    return W @ ([h, x] + h)  # noqa: RUF005


def matrix_of_two_lengths(x, h, *, W):
    return tanh(W @ h + W @ x)


def matrix_element_wise(x, h, *, W):
    return tanh(W @ [h, x]) * W


def matrix_into_a_function(x, h, *, W):
    return tanh(W @ [h, x]) + tanh(W)


def empty_product(x, h, *, W):
    return tanh(W @ [])


def indexed(x, h, *, W):
    return tanh(W @ [h, x])[0]


def array_added(x, h, *, W):
    return tanh(W @ [h, x]) + [1.0]  # noqa: RUF005


def text_added(x, h, *, W):
    return tanh(W @ [h, x]) + "1"


_NO_VALUE = "has no value while the equations are read, so"
_MISTAKES = [
    (two_states_one_returned, "1 value(s) returned, but there are 2 states. End with: return h, C"),
    (nothing_returned, "nothing returned, but there are 1 states. End with: return h"),
    (condition, f"'h' {_NO_VALUE} it cannot be compared or decide an if. Use maximum, minimum, relu or sign"),
    (builtin_max, "Use maximum, minimum, relu or sign instead."),
    (from_math, "functions of math, numpy or torch cannot take it. Use the operations of unrolled"),
    (from_numpy, "functions of math, numpy or torch cannot take it. Use the operations of unrolled"),
    (from_torch, "functions of math, numpy or torch cannot take it. Use the operations of unrolled"),
    (concatenated, f"'h' {_NO_VALUE} functions of math, numpy or torch cannot take it."),
    (method, "has no 'tanh': it stands for a vector whose numbers come later. Use + - * /, a matrix @ and"),
    (power, "powers are not an operation. Write h * h, sqrt(...) or exp(... * log(...))."),
    (power_of_a_number, "powers are not an operation."),
    (matrix_on_the_right, "'h' is a vector, so it cannot multiply 'W'. The matrix stands on the left, W @ h;"),
    (matrix_right_of_a_list, "the matrix stands on the left of a product. Write W @ [h, x]."),
    (unused_parameter, "the parameter 'b' is never used by anything that is returned. Use 'b' in the equations or"),
    (parameter_of_dead_code, "the parameter 'b' is never used by anything that is returned."),
    (state_never_read, "the state 'C' is never read by anything that is returned. Use 'C' in the equations or"),
    (state_only_returned, "the state 'C' is never read by anything that is returned."),
    (lengths_contradict, "'h' has length hidden and 'x' has length input; add needs equal lengths. Bring one to the"),
    (new_state_has_another_length, "the new 'h' has length rank, the state has hidden. Bring it to the state's"),
    (list_in_a_function, "[a, b] can stand only on the right of a product. Write W @ [a, b]."),
    (list_in_a_sum, "[a, b] can stand only on the right of a product. Write W @ [a, b]."),
    (array_added, "[a, b] can stand only on the right of a product. Write W @ [a, b]."),
    (matrix_of_two_lengths, "'W' has hidden columns by its earlier use, but here it multiplies a vector of length"),
    (matrix_element_wise, "'W' is a matrix; mul takes vectors. Multiply it first: W @ x."),
    (matrix_into_a_function, "'W' is a matrix; tanh takes vectors. Multiply it first: W @ x."),
    (empty_product, "'W @ []' has nothing to multiply. Put the vectors between the brackets."),
    (indexed, "cannot be indexed, counted or split. Write one equation for the whole vector."),
    (text_added, "add takes symbols and numbers, not str. Make it a parameter or a number."),
]


@pytest.mark.parametrize(("function", "message"), _MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_mistake_is_told_with_its_place_and_its_cure(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(CellError) as error:
        trace(function)
    first = function.__code__.co_firstlineno
    places = [f"cell {function.__name__}, {__file__}:{line}" for line in range(first, first + 3)]
    assert any(str(error.value).startswith(place) for place in places)
    assert message in str(error.value)


def test_the_line_itself_is_shown() -> None:
    with pytest.raises(CellError, match=r"test_mistakes\.py:\d+ \(return W @ \[h, x\] - h\*\*2\): powers"):
        trace(power)


def test_a_cell_has_an_input_a_state_and_named_parameters() -> None:
    def collects(x, h, *parameters): ...

    def anything(x, h, **parameters): ...

    def stateless(x, *, W): ...

    for function in (collects, anything, stateless):
        with pytest.raises(CellError, match=r"this one takes \(x.*\)\. Write def cell\(x, h, \*, W, b\)\."):
            trace(function)


def test_a_shape_that_is_none() -> None:
    def cubic(x, h, *, W: "a, b, c"): ...

    with pytest.raises(CellError, match=r"annotation 'a, b, c' of 'W' is no shape\. Write W: \"hidden\" or"):
        trace(cubic)


def test_operations_take_no_numbers() -> None:
    with pytest.raises(CellError, match=r"sigmoid\(float\): the operations of unrolled write equations inside"):
        sigmoid(0.5)
    with pytest.raises(CellError, match=r"maximum\(Tensor, int\): .* use the function of the same name in torch"):
        maximum(torch.zeros(2), 0)
