"""The recurrent network of `torch.nn.RNN(nonlinearity="tanh")`: two biases."""

from unrolled.equations import cell, tanh


@cell
def torch_rnn_tanh(x, h, *, W_ih, W_hh, b_ih, b_hh):
    """Recurrent network as PyTorch computes it (Elman 1990; conventions: PyTorch, `torch.nn.RNN`)."""
    h = tanh(W_ih @ x + b_ih + W_hh @ h + b_hh)
    return h
