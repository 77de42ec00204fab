"""The GRU of `torch.nn.GRU`: two biases, the reset gate acts after the matrix, z = 1 keeps the old state."""

from unrolled.equations import cell, sigmoid, tanh


@cell
def torch_gru(x, h, *, W_ir, W_iz, W_in, W_hr, W_hz, W_hn, b_ir, b_iz, b_in, b_hr, b_hz, b_hn):
    """GRU as PyTorch computes it (Cho et al. 2014; conventions: PyTorch, `torch.nn.GRU`)."""
    r = sigmoid(W_ir @ x + b_ir + W_hr @ h + b_hr)
    z = sigmoid(W_iz @ x + b_iz + W_hz @ h + b_hz)
    n = tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))
    h = (1 - z) * n + z * h
    return h
