"""Under autocast to bfloat16 the drop-ins have products in it; what comes out, and all states, are float32."""

import pytest
import torch
from drop_ins import pair, parts, ran_native
from torch.nn.utils.rnn import pack_sequence

from unrolled.engine.native.library import has_bf16

pytestmark = pytest.mark.skipif(not has_bf16(), reason="this processor has no AVX512_BF16")


def under_autocast(call):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return call()


def largest_error(got, wanted) -> float:
    """The largest error of results, as a share of the largest number among what is wanted."""
    assert all(tensor.dtype == torch.float32 for tensor in parts(got))
    pairs = zip(parts(got), parts(wanted), strict=True)
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)


# Each of some dozen factors is rounded by at most 2^-9, in few steps of two layers, and the errors add up like those of
# independent numbers; that something was rounded at all shows against float32, which errs by 1e-6.
LEAST, MOST = 1e-5, 2e-2


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
def test_results_and_gradients(kind: str, options: dict) -> None:
    torch.manual_seed(0)
    theirs, ours = pair(kind, 19, 33, **options)
    x = torch.randn(6, 7, 19)
    got, wanted = under_autocast(lambda: ours(x)), theirs(x)
    assert ran_native(got[0])
    assert LEAST < largest_error(got, wanted) < MOST
    both = ((got, ours), (wanted, theirs))
    gradients = [torch.autograd.grad(result[0].square().sum(), list(model.parameters())) for result, model in both]
    assert LEAST < largest_error(*gradients) < MOST


def test_input_and_states_that_are_bfloat16() -> None:
    theirs, ours = pair("LSTM", 19, 33)
    x, states = torch.randn(7, 6, 19).bfloat16(), tuple(torch.randn(1, 6, 33).bfloat16() for _ in range(2))
    got = under_autocast(lambda: ours(x, states))
    assert LEAST < largest_error(got, theirs(x.float(), tuple(s.float() for s in states))) < MOST


def test_packed_sequences() -> None:
    theirs, ours = pair("GRU", 19, 33)
    packed = pack_sequence([torch.randn(length, 19) for length in (3, 7, 1)], enforce_sorted=False)
    assert LEAST < largest_error(under_autocast(lambda: ours(packed)), theirs(packed)) < MOST


def test_steps_one_by_one_know_their_precision() -> None:
    theirs, ours = pair("GRU", 19, 33)
    x = torch.randn(1, 4, 19)
    with torch.no_grad():
        exact, wanted = ours(x), theirs(x)
        got = under_autocast(lambda: ours(x))
        assert torch.equal(ours(x)[0], exact[0])
    assert LEAST < largest_error(got, wanted) < MOST


def test_compiled() -> None:
    _, ours = pair("LSTM", 19, 33)
    x = torch.randn(7, 6, 19)
    compiled = torch.compile(ours, backend="aot_eager")
    got, wanted = (under_autocast(lambda model=model: model(x)[0]) for model in (compiled, ours))
    assert torch.equal(got, wanted)
