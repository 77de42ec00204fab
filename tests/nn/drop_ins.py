"""A module of torch.nn beside its drop-in with the same weights, and how the two are compared."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import unrolled.nn

EPSILON = torch.finfo(torch.float32).eps


def pair(kind: str, *sizes: int, **options) -> tuple[nn.RNNBase, nn.RNNBase]:
    """torch's module and the drop-in; the weights go through a state_dict."""
    theirs = getattr(nn, kind)(*sizes, **options)
    ours = getattr(unrolled.nn, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def parts(value) -> list[Tensor]:
    """The tensors of a result of a recurrent module, of any nesting."""
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in parts(part)]


def results(model: nn.Module, call, leaves: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What `call(model, *leaves)` gives, and the gradients of a fixed random function of it.

    The model is left as it is; dropout draws from one seed.
    """
    model = model.to(dtype)
    leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    torch.manual_seed(1)
    found = parts(call(model, *leaves))
    generator = torch.Generator().manual_seed(2)
    loss = torch.stack([(f * torch.randn(f.shape, generator=generator).to(dtype)).sum() for f in found]).sum()
    wanted = [*leaves, *model.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    model.float()
    return [value.detach() for value in (*found, *gradients)]


def assert_agree(theirs: nn.Module, ours: nn.Module, call, leaves: list[Tensor]) -> None:
    """The drop-in's error against torch in float64 is of the size of torch's own error in float32."""
    plain, fast = results(theirs, call, leaves), results(ours, call, leaves)
    exact = results(theirs, call, leaves, torch.float64)
    assert len(fast) == len(exact)
    for number, (value, torchs, got) in enumerate(zip(exact, plain, fast, strict=True)):
        assert got.shape == torchs.shape, number
        # As for the engine itself: sums in another order may err a few times more than torch's happen to.
        allowed = 8 * (torchs - value).abs().max() + 32 * EPSILON * value.abs().max() + 1e-30
        error = (got - value).abs().max()
        assert error <= allowed, f"result {number}: off by {error:.2e}, allowed {allowed:.2e}"


def ran_native(output: Tensor) -> bool:
    """Whether the native engine stands in the graph behind a result."""
    ahead, seen = [output.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
    return any("UnrollBackward" in str(node.name()) for node in seen)
