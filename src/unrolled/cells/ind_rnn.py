"""A recurrent network whose hidden units do not see each other within a layer."""

from unrolled.equations import cell, relu


@cell
def ind_rnn(x, h, *, W, u, b):
    """Independently recurrent network, IndRNN (Li et al. 2018)."""
    h = relu(W @ x + u * h + b)
    return h
