"""Which engine runs, the reason given, and that both say the same."""

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from unrolled import Recurrent, UnrolledError, cells
from unrolled.engine import engine_for, use_engine
from unrolled.engine.native.library import instruction_set


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    use_engine("auto")


def test_float32_on_the_cpu_runs_natively_and_the_rest_on_the_reference() -> None:
    assert engine_for(torch.zeros(1)) == ("native", "float32 on the CPU")
    engine, reason = engine_for(torch.zeros(1, dtype=torch.float64))
    assert engine == "reference" and "float64" in reason
    engine, reason = engine_for(torch.zeros(1, device="meta"))
    assert engine == "reference" and "meta" in reason


def test_the_choice_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    use_engine("reference")
    assert engine_for(torch.zeros(1)) == ("reference", "it was asked for")
    use_engine("auto")
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    assert engine_for(torch.zeros(1))[0] == "reference"
    use_engine("native")
    assert engine_for(torch.zeros(1))[0] == "native"


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnrolledError, match="there is no engine 'gpu'; choose one of auto, native, reference"):
        use_engine("gpu")
    monkeypatch.setenv("UNROLLED_ENGINE", "fast")
    with pytest.raises(UnrolledError, match="UNROLLED_ENGINE is 'fast'; it must be one of"):
        engine_for(torch.zeros(1))


@pytest.mark.parametrize("name", sorted(cells.CELLS))
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]])
def test_both_engines_give_the_same_values_and_gradients(name: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    layer = Recurrent(cells.CELLS[name], 7, 11)
    x = torch.randn(3, 5, 7, requires_grad=True)
    weights = torch.randn(3, 5, 11)
    found = []
    for engine in ("native", "reference"):
        use_engine(engine)
        outputs, state = layer(x, lengths=None if lengths is None else torch.tensor(lengths))
        loss = (outputs * weights).sum() + sum(part.square().sum() for part in state)
        gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
        found.append([outputs, *state, *gradients])
    for native, reference in zip(*found, strict=True):
        # Sums of at most 18 float32 products over 5 steps, in another order: a few hundred units in the last place.
        torch.testing.assert_close(native, reference, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("layer", "instead"),
    [
        ("unrolled.Recurrent(unrolled.cells.lstm, 4, 8)", "running on the slower reference engine"),
        ("unrolled.nn.LSTM(4, 8)", "torch's own layers run in the place of unrolled.nn's"),
    ],
)
def test_a_library_that_cannot_be_used_is_told_once(layer: str, instead: str) -> None:
    """One built for another version, as after an update without a build."""
    program = f"""
import torch, unrolled, unrolled.nn
from unrolled.engine.native import library
library.ABI = -1
layer = {layer}
for _ in range(3):
    assert layer(torch.zeros(2, 3, 4))[0].shape == (2, 3, 8)
layer.double()(torch.zeros(2, 3, 4).double())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr.count("RuntimeWarning") == 1
    assert f"{instead}: the native engine at" in ran.stderr and "is of another version; build it again" in ran.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler to build it with")
def test_the_engine_is_built_where_there_is_a_compiler() -> None:
    assert instruction_set() in ("baseline", "avx2", "avx512")
