"""How an engine is held to the reference: same values and gradients, within a bound that float32 explains."""

import torch
from torch import Tensor

from unrolled.engine import reference
from unrolled.engine.native import autograd, rows
from unrolled.equations import Program

EPSILON = torch.finfo(torch.float32).eps


def random_case(program: Program, batch: int, time: int, sizes: dict[str, int], seed: int = 0):
    """Random parameters of a size that keeps the states in order, an input and initial states."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...], scale: float) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale).requires_grad_()

    parameters = {}
    for p in program.parameters:
        shape = program.shape_of(p, sizes)
        parameters[p.name] = draw(shape, 0.6 * shape[-1] ** -0.5 if len(shape) == 2 else 0.3)
    x = draw((batch, time, *program.shape_of(program.inputs[0], sizes)), 1.0)
    state = tuple(draw((batch, *program.shape_of(s, sizes)), 0.4) for s in program.states)
    return parameters, x, state


def table_case(case, words: int, seed: int = 0):
    """The same case with a table of so many rows as its input, and the tokens that name them."""
    generator = torch.Generator().manual_seed(seed)
    parameters, x, state = case
    table = torch.randn((words, x.shape[2]), generator=generator).requires_grad_()
    return (parameters, table, state), torch.randint(words, x.shape[:2], generator=generator)


def by_reference(program: Program, parameters, x: Tensor, state, lengths: Tensor | None, tokens=None, backwards=False):
    """The reference engine, with a table looked up."""
    return reference.unroll(program, parameters, x if tokens is None else x[tokens], state, lengths, backwards)


def run(unroll, program: Program, case, lengths: Tensor | None, dtype: torch.dtype, **options) -> dict[str, Tensor]:
    """Outputs, final states and all gradients of a fixed random function of them, by name; `options` of `unroll`."""
    leaves = {"x": case[1], **dict(zip((s.name for s in program.states), case[2], strict=True)), **case[0]}
    leaves = {name: value.detach().to(dtype).requires_grad_() for name, value in leaves.items()}
    state = tuple(leaves[s.name] for s in program.states)
    parameters = {p.name: leaves[p.name] for p in program.parameters}
    outputs, final = unroll(program, parameters, leaves["x"], state, lengths, **options)
    results = {"outputs": outputs, **{f"final {s.name}": f for s, f in zip(program.states, final, strict=True)}}
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(r.shape, generator=generator).to(dtype) for r in results.values()]
    loss = sum((r * w).sum() for r, w in zip(results.values(), weights, strict=True))
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    results.update({f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)})
    return {name: value.detach() for name, value in results.items()}


def assert_native_agrees(program: Program, case, lengths: Tensor | None = None, **options) -> None:
    """The native engine's error against float64 is of the size of the reference engine's own error in float32."""
    exact = run(by_reference, program, case, lengths, torch.float64, **options)
    plain = run(by_reference, program, case, lengths, torch.float32, **options)
    native = run(autograd.unroll, program, case, lengths, torch.float32, **options)
    assert native.keys() == exact.keys()
    for name, value in exact.items():
        assert native[name].shape == value.shape, name
        if value.numel():
            allowed = 8 * (plain[name] - value).abs().max() + 32 * EPSILON * value.abs().max() + 1e-30
            error = (native[name] - value).abs().max()
            assert error <= allowed, f"{program.name}, {name}: off by {error:.2e}, allowed {allowed:.2e}"
    with torch.no_grad():
        outputs, final = autograd.unroll(program, *case, lengths, **options)
    for name, got in zip(["outputs", *(f"final {s.name}" for s in program.states)], [outputs, *final], strict=True):
        torch.testing.assert_close(got, native[name], rtol=0, atol=0)


def take_pieces(size: int, monkeypatch) -> None:
    """From now on the steps are taken backwards in pieces of about so many rows."""
    monkeypatch.setattr(rows, "_PIECE", size)
    for cached in (rows._full, rows._ragged, rows._packed):
        cached.cache_clear()
