"""The vanilla recurrent network."""

from unrolled.equations import cell, tanh


@cell
def vanilla(x, h, *, W_hh, W_xh, b_h):
    """Vanilla recurrent network (Elman 1990)."""
    h = tanh(W_hh @ h + W_xh @ x + b_h)
    return h
