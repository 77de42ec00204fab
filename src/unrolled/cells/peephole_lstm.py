"""LSTM whose gates also look at the cell state."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def peephole_lstm(x, h, C, *, W_f, p_f, b_f, W_i, p_i, b_i, W_C, b_C, W_o, p_o, b_o):
    """Peephole LSTM (Gers & Schmidhuber 2000)."""
    f = sigmoid(W_f @ [h, x] + p_f * C + b_f)
    i = sigmoid(W_i @ [h, x] + p_i * C + b_i)
    C_tilde = tanh(W_C @ [h, x] + b_C)
    C = f * C + i * C_tilde
    o = sigmoid(W_o @ [h, x] + p_o * C + b_o)
    h = o * tanh(C)
    return h, C
