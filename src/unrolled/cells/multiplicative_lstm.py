"""LSTM whose recurrent matrix is chosen by the input: the gates see m instead of h."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def multiplicative_lstm(x, h, C, *, W_mx, W_mh, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """Multiplicative LSTM (Krause et al. 2016)."""
    m = (W_mx @ x) * (W_mh @ h)
    f = sigmoid(W_f @ [m, x] + b_f)
    i = sigmoid(W_i @ [m, x] + b_i)
    C_tilde = tanh(W_C @ [m, x] + b_C)
    C = f * C + i * C_tilde
    o = sigmoid(W_o @ [m, x] + b_o)
    h = o * tanh(C)
    return h, C
