"""The native engine as an operation of torch: what torch itself checks, compilation, and what it refuses."""

import pytest
import torch
from agreement import random_case

from unrolled.cells import CELLS
from unrolled.engine import reference
from unrolled.engine.native import autograd

SIZES = {"input": 3, "hidden": 6}


@pytest.fixture
def case():
    return random_case(CELLS["lstm"], 4, 5, SIZES)


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 2, 0, 3])], ids=["full", "ragged"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("time_first", [False, True])
def test_torch_checks_the_operation(case, lengths, bf16, time_first):
    parameters, x, state = case
    if time_first:
        x = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    arguments = (CELLS["lstm"].to_json(), x, list(state), list(parameters.values()), lengths, True, bf16)
    torch.library.opcheck(
        torch.ops.unrolled.unroll.default,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_compiled_without_a_graph_break(case):
    parameters, x, state = case

    def loss(x, *given):
        outputs, final = autograd.unroll(CELLS["lstm"], dict(zip(parameters, given, strict=True)), x * 2.0, state)
        return outputs.square().mean() + final[1].sum()

    given = list(parameters.values())
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    plain = torch.autograd.grad(loss(x, *given), [x, *given])
    fast = torch.autograd.grad(compiled(x, *given), [x, *given])
    for a, b in zip(plain, fast, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 0, 5])])
@pytest.mark.parametrize("sizes", [{"input": 4, "hidden": 20}, {"input": 16, "hidden": 32}], ids=str)
def test_memory_with_time_first_stays_so(lengths, sizes):
    """Who has time first in memory reads the outputs, and adds up the gradient of the input, without a copy."""
    program = CELLS["lstm"]
    parameters, x, state = random_case(program, 3, 5, sizes)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    results = []
    for given in (x, turned):
        leaf = given.detach().requires_grad_()
        outputs, _ = autograd.unroll(program, parameters, leaf, state, lengths)
        outputs.square().sum().backward()
        results.append((outputs, leaf.grad))
        assert outputs.transpose(0, 1).is_contiguous() == leaf.grad.transpose(0, 1).is_contiguous() == (given is turned)
    for plain, other in zip(*results, strict=True):
        assert torch.equal(plain, other)


@pytest.mark.parametrize("batch", [2, 9])  # with few sequences the input's products leave the loop
def test_a_gradient_that_is_a_part_of_a_tensor(batch):
    program = CELLS["lstm"]
    parameters, x, state = random_case(program, batch, 4, {"input": 32, "hidden": 16})
    wide = torch.randn(4, batch, 50).transpose(0, 1)[..., 3:19]
    leaves = [x, *state, *parameters.values()]
    results = []
    for gradient in (wide, wide.contiguous(), wide.sum(0, keepdim=True).expand(batch, 4, 16)):
        outputs, _ = autograd.unroll(program, parameters, x, state)
        results.append(torch.autograd.grad(outputs, leaves, gradient))
    for part, whole in zip(*results[:2], strict=True):
        assert torch.equal(part, whole)
    outputs, _ = autograd.unroll(program, parameters, x, state)
    same = torch.autograd.grad(outputs, leaves, wide.sum(0, keepdim=True).repeat(batch, 1, 1))
    for one, repeated in zip(results[2], same, strict=True):
        assert torch.equal(one, repeated)


def test_exported_program_holds_one_operation(case):
    parameters, x, state = case
    state = tuple(s.detach() for s in state)

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.ParameterDict(parameters)

        def forward(self, x):
            return autograd.unroll(CELLS["lstm"], dict(self.weights.items()), x, state)[0]

    layer = Layer()
    exported = torch.export.export(layer, (x.detach(),))
    assert sum("unrolled.unroll" in str(node.target) for node in exported.graph.nodes) == 1
    torch.testing.assert_close(exported.module()(x.detach()), layer(x))


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 2, 0, 3])], ids=["full", "ragged"])
def test_a_second_derivative_is_that_of_the_reference(case, lengths):
    parameters, x, state = case
    leaves = [x, *state, *parameters.values()]

    def second(unroll):
        outputs, final = unroll(CELLS["lstm"], parameters, x, state, lengths)
        first = torch.autograd.grad(outputs.square().sum() + final[1].sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), leaves)

    for a, b in zip(second(autograd.unroll), second(reference.unroll), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # two passes of float32, sums of some dozen values


def test_weights_changed_before_the_backward_pass_are_an_error(case):
    parameters, x, state = case
    outputs, _ = autograd.unroll(CELLS["lstm"], parameters, x, state)
    with torch.no_grad():
        parameters["W_f"].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_memory_does_not_grow(case):
    from unrolled.engine.native import workspace

    parameters, x, state = case

    def step(time: int) -> None:
        outputs, _ = autograd.unroll(CELLS["lstm"], parameters, x[:, :time], state)
        outputs.sum().backward()

    def slabs(steps: int) -> int:
        for count in range(steps):
            step(1 + count % 5)
        return len(workspace._POOL._slabs)

    settled = slabs(20)
    assert slabs(200) <= settled


def test_memory_is_used_again_for_a_batch_of_almost_the_same_size():
    from unrolled.engine.native import workspace

    first = workspace.result(1000, 300)
    address = first.data_ptr()
    del first
    assert workspace.result(1040, 300).data_ptr() == address
