"""Text generation at the textbook's sizes, with each of the three cells: tokens -> embedding -> recurrence -> logits.

The "text" here is made of numbers that count up, so that a few steps of training are enough to see it learn.
"""

import torch

import unrolled
from unrolled import cells

VOCABULARY, EMBEDDING, HIDDEN, BATCH, STEPS = 1000, 128, 256, 32, 20
TRAINING_STEPS = 20


def counting(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets (rows, STEPS): each row counts up from a random start; a target is the next input."""
    start = torch.randint(VOCABULARY - STEPS, (rows, 1))
    text = start + torch.arange(STEPS + 1)
    return text[:, :-1], text[:, 1:]


for cell in (cells.vanilla, cells.lstm, cells.gru):
    torch.manual_seed(0)
    model = unrolled.LanguageModel(cell, VOCABULARY, EMBEDDING, HIDDEN)

    # Forward: a batch of texts in, the logits of the next token after every step out, and the final state.
    inputs, targets = counting(BATCH)
    logits, state = model(inputs)
    (layer_state,) = state  # one layer
    print(f"{cell.name}: logits of the last step {tuple(logits[:, -1].shape)}")
    for variable, value in zip(cell.states, layer_state, strict=True):
        print(f"  final state {variable.name} {tuple(value.shape)}")

    # Training: the loss of every step, backpropagated through time.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for step in range(TRAINING_STEPS):
        inputs, targets = counting(BATCH)
        loss, _ = model.loss(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, TRAINING_STEPS - 1):
            print(f"  step {step}: {loss.item():.2f} nats per token")

    # Generation: one token in, one out, the state carried along.
    token, state, ids = torch.tensor([[100]]), None, []
    with torch.inference_mode():
        for _ in range(10):
            logits, state = model(token, state)
            token = torch.multinomial((logits[:, -1] / 0.5).softmax(dim=-1), 1)
            ids.append(token.item())
    print(f"  after 100 it writes {ids}")
