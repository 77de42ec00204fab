"""The drop-ins inside what torch does with modules: functional calls, compilation, export, tracing, processes."""

import gc
from pathlib import Path

import pytest
import torch
from drop_ins import pair, ran_native
from torch import nn
from torch.func import functional_call, grad
from torch.utils.checkpoint import checkpoint

import unrolled


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(4, 5)
            self.recurrent = nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True)
            self.after = nn.Linear(14, 3)

        def forward(self, x):
            return self.after(self.recurrent(self.before(x))[0])

    return unrolled.accelerate(Model())


@pytest.fixture
def x():
    return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))


def gradients(model: nn.Module, output) -> list[torch.Tensor]:
    return list(torch.autograd.grad(output.square().sum(), list(model.parameters())))


@pytest.mark.parametrize("steps", [1, 6])
def test_functional_call_uses_the_weights_it_is_given(model, x, steps: int) -> None:
    weights = {name: value.detach() * 1.5 for name, value in model.named_parameters()}
    before = model(x[:, :steps])
    with torch.no_grad():
        got = functional_call(model, weights, (x[:, :steps],))
        model.load_state_dict(weights)
        torch.testing.assert_close(got, model(x[:, :steps]))
    assert (got - before).abs().max() > 1e-2


def test_transforms_of_torch_func_are_torchs_own(model, x) -> None:
    found = grad(lambda weights: functional_call(model, weights, (x,)).square().sum())(dict(model.named_parameters()))
    for got, wanted in zip(found.values(), gradients(model, model(x)), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("steps", [1, 6])
def test_compiled_it_still_runs_on_the_engine(model, x, steps: int) -> None:
    compiled = torch.compile(model, backend="aot_eager")
    output = compiled(x[:, :steps])
    assert ran_native(output)
    torch.testing.assert_close(output, model(x[:, :steps]))
    for got, wanted in zip(gradients(model, output), gradients(model, model(x[:, :steps])), strict=True):
        torch.testing.assert_close(got, wanted)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x[:, :steps]), model(x[:, :steps]))


def test_exported_with_sizes_left_open(model, x) -> None:
    sizes = {"x": {0: torch.export.Dim("batch", min=2, max=64), 1: torch.export.Dim("time", min=2, max=100)}}
    exported = torch.export.export(model, (x,), dynamic_shapes=sizes)
    assert sum("unrolled.unroll" in str(node.target) for node in exported.graph.nodes) == 4
    other = torch.randn(5, 9, 4)
    torch.testing.assert_close(exported.module()(other), model(other))


@pytest.mark.filterwarnings("ignore")  # that tracing is deprecated, and what it can't see in torch's own forward
def test_traced_it_is_torchs_own(model, x) -> None:
    traced = torch.jit.trace(model, (x,))
    other = torch.randn(3, 6, 4)
    torch.testing.assert_close(traced(other), model(other))


def test_checkpointing_runs_it_twice(model, x) -> None:
    wanted = gradients(model, model(x))
    for got, value in zip(gradients(model, checkpoint(model, x, use_reentrant=False)), wanted, strict=True):
        assert torch.equal(got, value)


def test_a_process_group_of_one(model, x, tmp_path: Path) -> None:
    wanted = gradients(model, model(x))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        wrapped(x).square().sum().backward()
        # torch's reducer holds the group, whose end waits for a thread that may want Python's lock: it must not be the
        # last to let go of it, with the lock in hand.
        del wrapped
        gc.collect()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, value in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, value)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_second_derivative_agrees(kind: str) -> None:
    found = []
    x = torch.randn(4, 2, 3, requires_grad=True)
    for module in pair(kind, 3, 5):
        (first,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *module.parameters()]))
    for got, wanted in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, wanted)
