"""LSTM whose input and state gate each other before they enter it."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def mogrifier_lstm(x, h, C, *, Q, R, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """Mogrifier LSTM of two rounds (Melis et al. 2020)."""
    x_tilde = 2.0 * sigmoid(Q @ h) * x
    h_tilde = 2.0 * sigmoid(R @ x_tilde) * h
    f = sigmoid(W_f @ [h_tilde, x_tilde] + b_f)
    i = sigmoid(W_i @ [h_tilde, x_tilde] + b_i)
    C_tilde = tanh(W_C @ [h_tilde, x_tilde] + b_C)
    C = f * C + i * C_tilde
    o = sigmoid(W_o @ [h_tilde, x_tilde] + b_o)
    h = o * tanh(C)
    return h, C
