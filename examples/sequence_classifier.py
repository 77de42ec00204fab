"""Which wave is it? Noisy sines and square waves of different lengths, told apart by a bidirectional network.

No text anywhere: layers take numbers of shape (batch, time, feature) and know nothing of where they come from.
"""

import math

import torch
from torch import nn

import unrolled
from unrolled import cells


def waves(rows: int, longest: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Waves (rows, longest, 1), how many steps of each count (rows,), and their class (rows,): 1 is a square wave."""
    lengths = torch.randint(longest // 2, longest + 1, (rows,))
    classes = torch.randint(2, (rows,))
    period = 6 + 9 * torch.rand(rows, 1)
    phase = 2 * math.pi * torch.rand(rows, 1)
    sine = torch.sin(2 * math.pi * torch.arange(longest) / period + phase)
    square = sine.sign() * math.sqrt(0.5)  # the same power, so that loudness gives nothing away
    clean = torch.where(classes.unsqueeze(1) == 1, square, sine)
    return (clean + 0.2 * torch.randn(rows, longest)).unsqueeze(-1), lengths, classes


class Classifier(nn.Module):
    """The final states of both directions -> one logit a class."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layer = unrolled.Bidirectional(
            unrolled.Recurrent(cells.gru, 1, hidden), unrolled.Recurrent(cells.gru, 1, hidden)
        )
        self.readout = nn.Linear(2 * hidden, 2)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        _, ((ahead,), (back,)) = self.layer(x, lengths=lengths)
        return self.readout(torch.cat([ahead, back], dim=-1))


torch.manual_seed(0)
model = Classifier(hidden=16)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
for step in range(1, 121):
    x, lengths, classes = waves(64)
    loss = nn.functional.cross_entropy(model(x, lengths), classes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

x, lengths, classes = waves(1000)
with torch.inference_mode():
    accuracy = (model(x, lengths).argmax(dim=-1) == classes).float().mean().item()
print(f"accuracy on 1000 new waves: {100 * accuracy:.1f} %")
