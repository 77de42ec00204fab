"""The same recurrent layer by everyone who can run it here: a name, and one call that runs it."""

import importlib.util
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import unrolled.nn
from unrolled import Recurrent
from unrolled.cells import CELLS
from unrolled.engine import reference
from unrolled.engine.native import autograd

BUILT_IN = {"RNN": "torch_rnn_tanh", "GRU": "torch_gru", "LSTM": "torch_lstm"}
OWN_THREADS = ("onnxruntime", "keras, jax")  # theirs go on spinning for a while, and slow down whoever comes next
COMPILED_AT_MOST = 20  # steps: torch.compile takes minutes for a longer loop
Run = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """A cell by its name in `unrolled.cells` (or RNN, GRU, LSTM: the modules of torch.nn) and the sizes.

    `lengths` are those of several ragged batches, which take turns, for in training no batch is like the one before;
    `packed`: their sequences are in a PackedSequence already.
    """

    cell: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    lengths: tuple[Tensor, ...] = ()
    packed: bool = False

    @property
    def program(self):
        """The equations."""
        return CELLS[BUILT_IN.get(self.cell, self.cell)]

    def flops(self, backward: bool) -> float:
        """2 for each weight, row and step, and twice that again with gradients."""
        sizes = {"input": self.inputs, "hidden": self.hidden}
        shapes = [self.program.shape_of(p, sizes) for p in self.program.parameters]
        weights = sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)
        rows = self.batch * self.steps
        if self.lengths:
            rows = sum(int(each.sum()) for each in self.lengths) / len(self.lengths)
        return (3.0 if backward else 1.0) * 2 * rows * weights


def runs(case: Case, backward: bool, loops: bool) -> dict[str, Run]:
    """Everyone's run of the case by name; `loops` adds the loop over time in Python, plain and compiled."""
    torch.manual_seed(0)
    sizes = {"input": case.inputs, "hidden": case.hidden}
    bound = case.hidden**-0.5
    parameters = {
        p.name: torch.nn.Parameter(torch.empty(case.program.shape_of(p, sizes)).uniform_(-bound, bound))
        for p in case.program.parameters
    }
    x = torch.randn(case.batch, case.steps, case.inputs, requires_grad=True)
    state = tuple(torch.zeros(case.batch, case.hidden) for _ in case.program.states)
    seed = torch.randn(case.batch, case.steps, case.hidden)
    leaves = [*parameters.values(), x]

    def with_engine(engine: Callable[..., tuple[Tensor, object]]) -> Run:
        return _run(lambda: (engine(case.program, parameters, x, state)[0], seed), leaves, backward)

    if case.cell in BUILT_IN and not loops:
        found = _modules(case, backward)
    else:
        found = {"native": with_engine(autograd.unroll)}
    if loops:
        found["loop"] = with_engine(reference.unroll)
        if case.steps <= COMPILED_AT_MOST:
            found["loop, compiled"] = with_engine(torch.compile(reference.unroll))
    if not backward and case.cell in BUILT_IN and not case.lengths and _installed("onnxruntime", "onnx"):
        found["onnxruntime"] = _onnxruntime(case, x)
    if case.cell in BUILT_IN and not case.lengths and _installed("keras", "jax"):
        found["keras, jax"] = _keras(case, x, seed, backward)
    return found


def _installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


def _run(call: Callable[[], tuple[Tensor, Tensor]], leaves: list[Tensor], backward: bool) -> Run:
    """`call` gives the outputs and the seed of their gradients."""

    def run() -> None:
        if not backward:
            with torch.no_grad():
                call()
            return
        outputs, seed = call()
        torch.autograd.backward(outputs, seed)
        for leaf in leaves:
            leaf.grad = None
        with torch.no_grad():  # what an optimizer does to all weights, so that packing them is paid for
            for leaf in leaves:
                if isinstance(leaf, torch.nn.Parameter):
                    leaf.mul_(1.0)

    return run


def _modules(case: Case, backward: bool) -> dict[str, Run]:
    """The drop-in and torch's module, as people use them: time first, or a PackedSequence.

    A batch that is padded is packed and unpacked around torch's module; our own layers take it with its lengths.
    """
    rnn, batch, time = torch.nn.utils.rnn, case.batch, case.steps
    theirs = getattr(torch.nn, case.cell)(case.inputs, case.hidden)
    ours = getattr(unrolled.nn, case.cell)(case.inputs, case.hidden)
    ours.load_state_dict(theirs.state_dict())
    layer = Recurrent(case.program, case.inputs, case.hidden)
    x, seed = torch.randn(time, batch, case.inputs), torch.randn(time, batch, case.hidden)
    batches = [rnn.pack_padded_sequence(x, lengths, enforce_sorted=False) for lengths in case.lengths]
    leaves = [packed.data.clone() for packed in batches] if case.packed else [x]
    seeds = [torch.randn(len(steps), case.hidden) for steps in leaves] if case.packed else [seed]
    for leaf in leaves:
        leaf.requires_grad_()

    def run(module: torch.nn.Module) -> Run:
        turns = itertools.cycle(range(max(1, len(batches))))

        def call() -> tuple[Tensor, Tensor]:
            turn = next(turns)
            if not batches:
                return module(x)[0], seed
            if case.packed:
                sizes, order, back = batches[turn][1:]
                return module(rnn.PackedSequence(leaves[turn], sizes, order, back))[0].data, seeds[turn]
            if module is layer:
                return layer(x.transpose(0, 1), None, case.lengths[turn])[0].transpose(0, 1), seed
            given = rnn.pack_padded_sequence(x, case.lengths[turn], enforce_sorted=False)
            return rnn.pad_packed_sequence(module(given)[0], total_length=time)[0], seed

        return _run(call, [*module.parameters(), *leaves], backward)

    return {"native": run(layer if case.lengths and not case.packed else ours), "torch.nn": run(theirs)}


def _onnxruntime(case: Case, x: Tensor) -> Run:
    import io

    import onnxruntime

    file = io.BytesIO()
    module = getattr(torch.nn, case.cell)(case.inputs, case.hidden, batch_first=True)
    torch.onnx.export(module, (x.detach(),), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    name, values = session.get_inputs()[0].name, x.detach().numpy()
    return lambda: session.run(None, {name: values}) and None


def _keras(case: Case, x: Tensor, seed: Tensor, backward: bool) -> Run:
    """Keras on JAX, compiled; with gradients those of the weights and of the input."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    kind = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}[case.cell]
    layer = kind(case.hidden, return_sequences=True)
    given, wanted = jax.numpy.asarray(x.detach().numpy()), jax.numpy.asarray(seed.numpy())
    layer.build(given.shape)
    weights, fixed = ([v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))

    def call(weights, given):
        return layer.stateless_call(weights, fixed, given)[0]

    def loss(weights, given):
        return (call(weights, given) * wanted).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1)) if backward else call)

    def run() -> None:
        jax.block_until_ready(compiled(weights, given))

    return run
