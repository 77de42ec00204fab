"""The LSTM of `torch.nn.LSTM`: two biases, gates in the order i, f, g, o."""

from unrolled.equations import cell, sigmoid, tanh


@cell
def torch_lstm(
    x, h, c, *, W_ii, W_if, W_ig, W_io, W_hi, W_hf, W_hg, W_ho, b_ii, b_if, b_ig, b_io, b_hi, b_hf, b_hg, b_ho
):
    """LSTM as PyTorch computes it (Hochreiter & Schmidhuber 1997; conventions: PyTorch, `torch.nn.LSTM`)."""
    i = sigmoid(W_ii @ x + b_ii + W_hi @ h + b_hi)
    f = sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)
    g = tanh(W_ig @ x + b_ig + W_hg @ h + b_hg)
    o = sigmoid(W_io @ x + b_io + W_ho @ h + b_ho)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c
