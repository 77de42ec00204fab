"""A cell of your own: its equations are all you write. Forward, gradients, training and the model file follow."""

from pathlib import Path

import unrolled
from unrolled import sigmoid, tanh
from unrolled.training import Finished, Planned, Settings

RHYME = """Row, row, row your boat,
Gently down the stream.
Merrily, merrily, merrily, merrily,
Life is but a dream.

"""


@unrolled.cell(init={"rate": 1.0})
def leaky(x, h, *, U, W, b, rate):
    """Leaky units: each one learns how fast it follows what it is told."""
    alpha = sigmoid(rate)
    h_tilde = tanh(U @ x + W @ h + b)
    h = (1 - alpha) * h + alpha * h_tilde
    return h


# Shapes are inferred from the equations: U multiplies x, `rate` acts on each unit alone.
print(unrolled.to_text(leaky))
print("parameters:", {p.name: p.shape for p in leaky.parameters})

# As a layer it works like any other.
layer = unrolled.Recurrent(leaky, input_size=3, hidden_size=5)
print(f"a layer of it has {sum(p.numel() for p in layer.parameters())} numbers to learn")

# Training; the same on the command line: unrolled train rhyme.txt -o leaky.safetensors --cell custom_cell.py:leaky
Path("rhyme.txt").write_text(RHYME * 50, encoding="utf-8")
settings = Settings(steps=150, hidden=64, layers=1, embedding=32, batch=8, window=32, learning_rate=0.02, dropout=0.0)
for event in unrolled.train("rhyme.txt", "leaky.safetensors", cell=leaky, settings=settings):
    if isinstance(event, Planned):
        print(f"a language model of it has {event.parameters:,}")
    if isinstance(event, Finished):
        print(f"after {event.step} steps: {event.bits_per_byte:.2f} bits per byte on the validation text")

# The file holds weights, tokenizer and equations, so it loads where this source is not.
text_model = unrolled.load("leaky.safetensors")
print("Row," + "".join(unrolled.generate(text_model, "Row,", characters=len(RHYME))))
