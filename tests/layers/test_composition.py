"""Stack, Bidirectional and Dropout: layers made of layers."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from unrolled import Bidirectional, Dropout, Recurrent, Stack, UnrolledError
from unrolled.cells import gru, lstm, torch_lstm, vanilla


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_a_stack_feeds_each_layer_with_the_outputs_of_the_one_below() -> None:
    lower, upper, x = Recurrent(gru, 3, 4).double(), Recurrent(lstm, 4, 5).double(), draw(2, 6, 3)
    lengths = torch.tensor([6, 2])
    stack = Stack(lower, Dropout(0.5), upper).eval()
    outputs, state = stack(x, None, lengths)
    between, lower_state = lower(x, None, lengths)
    expected, upper_state = upper(between, None, lengths)
    assert torch.equal(outputs, expected)
    assert torch.equal(state[0][0], lower_state[0])
    assert state[1] == ()
    assert all(torch.equal(a, b) for a, b in zip(state[2], upper_state, strict=True))
    assert (stack.input_size, stack.output_size) == (3, 5)


def test_the_state_of_a_stack_or_of_both_directions_is_carried_over() -> None:
    x = draw(2, 6, 3)
    stack = Stack(Recurrent(gru, 3, 4), Stack(Dropout(0.0), Recurrent(lstm, 4, 5))).double()
    whole, whole_state = stack(x)
    first, between = stack(x[:, :2])
    second, state = stack(x[:, 2:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(state[1][1][1], whole_state[1][1][1])
    both = Bidirectional(Recurrent(gru, 3, 4), Recurrent(vanilla, 3, 2)).double()
    outputs, (ahead, back) = both(x, ((draw(2, 4),), (draw(2, 2),)))
    assert torch.equal(ahead[0], both.forwards(x, (draw(2, 4),))[1][0])
    assert torch.equal(back[0], both.backwards(x.flip(1), (draw(2, 2),))[1][0])
    assert not torch.equal(outputs, both(x)[0])


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 2]), torch.tensor([0, 5])], ids=str)
def test_the_backward_layer_may_be_any_layer(lengths: torch.Tensor | None) -> None:
    """A Recurrent reads from the end itself, a Stack is given the input turned around."""
    one, x = Recurrent(gru, 3, 4).double(), draw(2, 6, 3)
    alone, (_, back) = Bidirectional(one, one)(x, None, lengths)
    stacked, (_, wrapped) = Bidirectional(one, Stack(one))(x, None, lengths)
    assert torch.equal(alone, stacked)
    assert torch.equal(back[0], wrapped[0][0])
    if lengths is None:
        assert torch.equal(alone[:, :, 4:], one(x.flip(1))[0].flip(1))


def test_a_backward_layer_of_ones_own_is_given_the_input_turned_around() -> None:
    class Doubled(Recurrent):
        def forward(self, x, state=None, lengths=None):
            return super().forward(2 * x, state, lengths)

    ahead, back, x = Recurrent(gru, 3, 4).double(), Doubled(gru, 3, 4).double(), draw(2, 6, 3)
    assert torch.equal(Bidirectional(ahead, back)(x)[0][:, :, 4:], back(x.flip(1))[0].flip(1))


def test_layers_whose_sizes_do_not_fit_are_not_stacked() -> None:
    message = r"^layer 2 of the Stack takes 5 features, the one below gives 4\.$"
    with pytest.raises(UnrolledError, match=message):
        Stack(Recurrent(gru, 3, 4), Dropout(0.1), Recurrent(gru, 5, 4))
    with pytest.raises(UnrolledError, match=r"^layer 1 of the Stack takes 4 features, the one below gives 8\.$"):
        Stack(Bidirectional(Recurrent(gru, 3, 4), Recurrent(gru, 3, 4)), Recurrent(gru, 4, 4))
    with pytest.raises(UnrolledError, match=r"^a Stack needs at least one layer\.$"):
        Stack()
    with pytest.raises(UnrolledError, match=r"^both directions read one input, but .* 3 and 4 features\.$"):
        Bidirectional(Recurrent(gru, 3, 4), Recurrent(gru, 4, 4))


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_state_with_another_number_of_parts_is_refused(parts: int) -> None:
    h: Any = (torch.zeros(2, 4),)
    both = [Recurrent(gru, 3, 4), Recurrent(gru, 3, 4)]
    with pytest.raises(UnrolledError, match=rf"^the state of this Stack has 2 parts, one a layer; {parts} came\.$"):
        Stack(Recurrent(gru, 3, 4), Recurrent(gru, 4, 4))(torch.zeros(2, 6, 3), (h,) * parts)
    with pytest.raises(
        UnrolledError, match=re.escape(f"the state of a Bidirectional is (forward, backward); {parts} parts came.")
    ):
        Bidirectional(*both)(torch.zeros(2, 6, 3), (h,) * parts)


def test_an_input_without_a_batch_is_refused_by_every_composition() -> None:
    for layer in (Stack(Recurrent(gru, 3, 4)), Bidirectional(Recurrent(gru, 3, 4), Recurrent(gru, 3, 4))):
        with pytest.raises(UnrolledError, match=r"x must be \(batch, time, 3\), it is \(6, 3\)\. For one sequence"):
            layer(torch.zeros(6, 3))


def test_both_directions_over_ragged_rows_equal_each_row_reversed_by_hand() -> None:
    torch.manual_seed(0)
    layer = Bidirectional(Recurrent(lstm, 3, 4), Recurrent(gru, 3, 5)).double()
    x, lengths = draw(4, 6, 3), [6, 0, 1, 4]
    outputs, (ahead_state, back_state) = layer(x, None, torch.tensor(lengths))
    assert outputs.shape == (4, 6, layer.output_size) == (4, 6, 9)
    for row, length in enumerate(lengths):
        alone = x[[row], :length]
        ahead, (h, C) = layer.forwards(alone)
        back, (g,) = layer.backwards(alone[:, list(range(length))[::-1]])
        expected = torch.cat([ahead, back[:, list(range(length))[::-1]]], dim=-1)[0]
        # A row alone may be summed in another order than in its batch: float64 rounding of values below 1.
        torch.testing.assert_close(outputs[row, :length], expected, rtol=0, atol=1e-13)
        assert torch.equal(outputs[row, length:], torch.zeros(6 - length, 9, dtype=torch.float64))
        for got, wanted in zip((*ahead_state, *back_state), (h, C, g), strict=True):
            torch.testing.assert_close(got[row], wanted[0], rtol=0, atol=1e-13)


def test_two_bidirectional_layers_of_torch_lstm_cells_equal_the_lstm_of_torch_on_ragged_rows() -> None:
    torch.manual_seed(0)
    INPUT, HIDDEN = 3, 4
    theirs = nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True, batch_first=True).double()
    ours = Stack(
        *(
            Bidirectional(Recurrent(torch_lstm, width, HIDDEN), Recurrent(torch_lstm, width, HIDDEN))
            for width in (INPUT, 2 * HIDDEN)
        )
    ).double()
    # Both list their parameters layer by layer, forwards before backwards; torch has the four gates in one matrix.
    gates = [gate for weight in theirs.parameters() for gate in weight.detach().chunk(4)]
    with torch.no_grad():
        for parameter, gate in zip(ours.parameters(), gates, strict=True):
            parameter.copy_(gate)
    x, lengths = draw(3, 7, INPUT), torch.tensor([7, 2, 5])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed_outputs, (h, C) = theirs(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
    outputs, state = ours(x, None, lengths)

    # The same float64 sums in another order, over seven steps and two layers, of values below 1.
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(outputs, expected, **close)
    ends = [direction for layer in state for direction in layer]
    torch.testing.assert_close(torch.stack([end[0] for end in ends]), h, **close)
    torch.testing.assert_close(torch.stack([end[1] for end in ends]), C, **close)

    weight = draw(*outputs.shape)
    (outputs * weight).sum().backward()
    (expected * weight).sum().backward()
    their_gradients = [gate for p in theirs.parameters() if p.grad is not None for gate in p.grad.chunk(4)]
    for parameter, gradient in zip(ours.parameters(), their_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(10, 100, 50)
    outputs, state = layer(x, (), None)
    assert state == ()
    kept = outputs[outputs != 0]
    assert (kept == 1 / 0.75).all()
    # 50,000 draws of probability 0.75: the deviation of the share is 0.002, and five of them are allowed.
    assert len(kept) / x.numel() == pytest.approx(0.75, abs=0.01)
    assert torch.equal(layer.eval()(x)[0], x)
