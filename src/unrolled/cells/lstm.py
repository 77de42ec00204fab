"""Long short-term memory."""

from unrolled.equations import cell, sigmoid, tanh


@cell(init={"b_f": 1.0})
def lstm(x, h, C, *, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)."""
    f = sigmoid(W_f @ [h, x] + b_f)
    i = sigmoid(W_i @ [h, x] + b_i)
    C_tilde = tanh(W_C @ [h, x] + b_C)
    C = f * C + i * C_tilde
    o = sigmoid(W_o @ [h, x] + b_o)
    h = o * tanh(C)
    return h, C
