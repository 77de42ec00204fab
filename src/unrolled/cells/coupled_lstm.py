"""LSTM that writes exactly as much as it forgets."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def coupled_lstm(x, h, C, *, W_f, b_f, W_C, b_C, W_o, b_o):
    """Coupled input and forget gate LSTM (Greff et al. 2015)."""
    f = sigmoid(W_f @ [h, x] + b_f)
    C_tilde = tanh(W_C @ [h, x] + b_C)
    C = f * C + (1 - f) * C_tilde
    o = sigmoid(W_o @ [h, x] + b_o)
    h = o * tanh(C)
    return h, C
