"""The definition of right: a Program run by torch, one step after the other, on any device and in any dtype.

Every faster engine must equal this one, values and gradients (which here are torch's own autograd).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.engine.packed import pack, pad, reverse
from unrolled.equations import OPS, Program
from unrolled.errors import UnrolledError

State = tuple[Tensor, ...]


def step(program: Program, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run one step: `values` holds every variable by name, vectors as (batch, size), matrices as (rows, columns).

    Returns all values by name, the variables included.
    """
    known: dict[str, Tensor] = dict(values)
    for instruction in program.instructions:
        args = [known[a] if isinstance(a, str) else a for a in instruction.args]
        if instruction.op == "matmul":
            matrix, *vectors = (known[str(a)] for a in instruction.args)
            if len(vectors) > 1:  # of which a parameter, as in W @ [x, b], is the same for every row of the batch
                rows = torch.broadcast_shapes(*(vector.shape[:-1] for vector in vectors))  # type: ignore[no-untyped-call]
                vectors = [torch.cat([vector.expand(*rows, -1) for vector in vectors], dim=-1)]
            known[instruction.name] = vectors[0] @ matrix.T
        else:
            args = [a if isinstance(a, Tensor) else stacked_number(a, known) for a in args]
            known[instruction.name] = OPS[instruction.op].value(torch, *args)
    return known


def stacked_number(number: object, known: Mapping[str, Tensor]) -> Tensor:
    """A number as a 0-d tensor that broadcasts in the dtype and on the device of the step."""
    like = next(iter(known.values()))
    return torch.tensor(number, dtype=like.dtype, device=like.device)


def unroll(
    program: Program,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    lengths: Tensor | None = None,
    backwards: bool = False,
) -> tuple[Tensor, State]:
    """Run the step over time with the same parameters at every step.

    `x` is (batch, time, input), `state` one (batch, size) tensor per state, `lengths` (batch,) or None for full
    rows. Returns outputs (batch, time, size of the first state) and the final state. Past a row's length outputs
    are zero and the state stands still. With lengths in descending order `x` may be packed, see `packed`, and then so
    are the outputs. `backwards`: from each row's end to its start, every output at the place of its input.
    """
    if backwards:
        ahead, state = unroll(program, parameters, reverse(x, lengths), state, lengths)
        return reverse(ahead, lengths), state
    if lengths is not None and x.dim() == 2:
        padded, state = unroll(program, parameters, pad(x, lengths), state, lengths)
        return pack(padded, lengths), state
    (input_,) = program.inputs
    if lengths is not None:  # what stands past a row's end, be it NaN, must not reach a gradient either
        past = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        x = x.masked_fill(past.unsqueeze(-1), 0)
    outputs = []
    for t in range(x.shape[1]):
        named = dict(zip((s.name for s in program.states), state, strict=True))
        known = step(program, {input_.name: x[:, t], **named, **parameters})
        new = tuple(known[name].expand_as(old) for name, old in zip(program.outputs, state, strict=True))
        if lengths is None:
            outputs.append(new[0])
            state = new
        else:
            active = (lengths > t).unsqueeze(-1)
            outputs.append(torch.where(active, new[0], torch.zeros_like(new[0])))
            state = tuple(torch.where(active, n, old) for n, old in zip(new, state, strict=True))
    if not outputs:
        return x.new_zeros(x.shape[0], 0, state[0].shape[-1]), state
    return torch.stack(outputs, dim=1), state


def look_up(table: Tensor, tokens: Tensor) -> Tensor:
    """table[tokens]: `table` (words, size), `tokens` int64 of any shape.

    Raises UnrolledError for a token that is no row.
    """
    try:
        return torch.nn.functional.embedding(tokens, table)
    except IndexError as error:
        reach = f"from {int(tokens.min())} to {int(tokens.max())}"
        raise UnrolledError(f"tokens reach {reach}; the table has {len(table)} rows, numbered from 0.") from error
