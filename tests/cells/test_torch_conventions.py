"""The cells named torch_* against PyTorch's own layers with the same weights: values and gradients in float64."""

import pytest
import torch
from torch import Tensor, nn

from unrolled import Program
from unrolled.cells import torch_gru, torch_lstm, torch_rnn_relu, torch_rnn_tanh
from unrolled.engine import unroll

INPUT, HIDDEN, BATCH, TIME = 3, 5, 4, 7


@pytest.mark.parametrize(
    ("program", "layer"),
    [
        (torch_rnn_tanh, nn.RNN(INPUT, HIDDEN, batch_first=True)),
        (torch_rnn_relu, nn.RNN(INPUT, HIDDEN, nonlinearity="relu", batch_first=True)),
        (torch_lstm, nn.LSTM(INPUT, HIDDEN, batch_first=True)),
        (torch_gru, nn.GRU(INPUT, HIDDEN, batch_first=True)),
    ],
    ids=["torch_rnn_tanh", "torch_rnn_relu", "torch_lstm", "torch_gru"],
)
def test_a_cell_named_after_torch_equals_the_layer_of_torch(program: Program, layer: nn.RNNBase) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    layer = layer.double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(draw(*weight.shape))
    x, state = draw(BATCH, TIME, INPUT), tuple(draw(BATCH, HIDDEN) for _ in program.states)

    # The parameters of the cell stand in torch's order, gate by gate.
    gates = [part for weight in layer.parameters() for part in weight.chunk(weight.shape[0] // HIDDEN)]
    names = [parameter.name for parameter in program.parameters]
    outputs, after = unroll(program, dict(zip(names, gates, strict=True)), x, state)

    torch_state = tuple(part.unsqueeze(0) for part in state)
    expected, torch_after = layer(x, torch_state if len(torch_state) > 1 else torch_state[0])
    expected_after = torch_after if isinstance(torch_after, tuple) else (torch_after,)
    weight_of_outputs = draw(BATCH, TIME, HIDDEN)

    def all_values(outputs: Tensor, after: list[Tensor]) -> list[Tensor]:
        loss = (outputs * weight_of_outputs).sum() + sum(part.sum() for part in after)
        assert isinstance(loss, Tensor)
        return [outputs, *after, *torch.autograd.grad(loss, [x, *state, *layer.parameters()])]

    ours = all_values(outputs, list(after))
    theirs = all_values(expected, [part[0] for part in expected_after])
    for got, wanted in zip(ours, theirs, strict=True):
        # The same float64 sums in another order, of up to 20 here: 1e-14 was seen, 1e-12 leaves room for other CPUs.
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
