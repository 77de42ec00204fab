"""An LSTM whose gates and candidate see only the input, so that time is a scan."""

from unrolled.equations import cell, sigmoid


@cell(init={"b_f": 1.0})
def min_lstm(x, h, *, W_f, b_f, W_i, b_i, W_h, b_h):
    """Minimal LSTM, minLSTM, with normalised gates (Feng et al. 2024)."""
    f = sigmoid(W_f @ x + b_f)
    i = sigmoid(W_i @ x + b_i)
    h_tilde = W_h @ x + b_h
    h = f / (f + i) * h + i / (f + i) * h_tilde
    return h
