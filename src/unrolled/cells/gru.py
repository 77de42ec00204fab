"""The gated recurrent unit: no biases, the reset gate acts before the matrix, z = 1 takes the new state."""

from unrolled.equations import cell, sigmoid, tanh


@cell
def gru(x, h, *, W_z, W_r, W):
    """Gated recurrent unit (Cho et al. 2014)."""
    z = sigmoid(W_z @ [h, x])
    r = sigmoid(W_r @ [h, x])
    h_tilde = tanh(W @ [r * h, x])
    h = (1 - z) * h + z * h_tilde
    return h
