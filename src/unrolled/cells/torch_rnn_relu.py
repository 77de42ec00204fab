"""The recurrent network of `torch.nn.RNN(nonlinearity="relu")`: two biases."""

from unrolled.equations import cell, relu


@cell
def torch_rnn_relu(x, h, *, W_ih, W_hh, b_ih, b_hh):
    """Rectified recurrent network as PyTorch computes it (Le et al. 2015; conventions: PyTorch, `torch.nn.RNN`)."""
    h = relu(W_ih @ x + b_ih + W_hh @ h + b_hh)
    return h
