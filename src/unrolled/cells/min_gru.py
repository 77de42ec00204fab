"""A GRU whose gate and candidate see only the input, so that time is a scan."""

from unrolled.equations import cell, sigmoid


@cell
def min_gru(x, h, *, W_z, b_z, W_h, b_h):
    """Minimal GRU, minGRU (Feng et al. 2024)."""
    z = sigmoid(W_z @ x + b_z)
    h_tilde = W_h @ x + b_h
    h = (1 - z) * h + z * h_tilde
    return h
