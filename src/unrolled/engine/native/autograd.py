"""The native engine with the signature of the reference engine, differentiable.

A backward pass that is itself to be differentiated is run by the reference engine.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.followed import followed
from unrolled.engine.joined import separate
from unrolled.engine.native import operation
from unrolled.engine.native.eager import Unroll, unroll_forward
from unrolled.engine.native.programs import text_of
from unrolled.engine.packed import pack, pad, reverse
from unrolled.engine.reference import State
from unrolled.equations import Program


def unroll(
    program: Program,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    lengths: Tensor | None = None,
    bf16: bool = False,
    tokens: Tensor | None = None,
    backwards: bool = False,
) -> tuple[Tensor, State]:
    """As `reference.unroll`, for float32 on the CPU; `bf16` as in `cell_of`, joined `parameters` and `tokens` as in
    `choice.unroll`."""
    given = list(parameters.values())
    # A table with more rows than there are steps would be more work than it saves.
    if tokens is not None and (followed((x, *state, *given)) or len(x) >= tokens.numel()):
        x, tokens = reference.look_up(x, tokens), None
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *state, *given))
    if followed((x, *state, *given)):
        named = separate(parameters)
        in_order = [named[p.name] for p in program.parameters]
        packed = lengths if x.dim() == 2 else None
        steps = reverse(x, lengths) if backwards else x
        steps = steps if packed is None else pad(steps, packed)
        outputs, *final, _ = operation.unroll(text_of(program), steps, list(state), in_order, lengths, keep, bf16)
        outputs = outputs if packed is None else pack(outputs, packed)
        outputs = reverse(outputs, lengths) if backwards else outputs
    elif keep:
        names = tuple(parameters)
        outputs, *final = Unroll.apply(program, names, bf16, backwards, lengths, tokens, x, *state, *given)  # type: ignore[no-untyped-call]
    else:
        outputs, final, *_ = unroll_forward(program, x, state, parameters, lengths, False, bf16, tokens, backwards)
    return outputs, tuple(final)
