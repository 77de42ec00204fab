"""A gated unit with one gate, which both resets and updates."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def minimal_gated_unit(x, h, *, W_f, b_f, W_h, b_h):
    """Minimal gated unit (Zhou et al. 2016)."""
    f = sigmoid(W_f @ [h, x] + b_f)
    h_tilde = tanh(W_h @ [f * h, x] + b_h)
    h = (1 - f) * h + f * h_tilde
    return h
