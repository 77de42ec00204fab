"""The native engine equals the reference: every listed cell, odd sizes, ragged batches, values and gradients."""

import gc
import weakref

import pytest
import torch
from agreement import assert_native_agrees, by_reference, random_case, table_case, take_pieces

from unrolled.cells import CELLS
from unrolled.engine.native import autograd, packs, programs
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.forward import record_forward
from unrolled.engine.native.rows import rows_of
from unrolled.engine.native.schedule import readers_follow
from unrolled.engine.packed import pack
from unrolled.equations import Instruction, cell, maximum, relu, sigmoid, tanh
from unrolled.errors import UnrolledError

SIZES = [(3, 4, 5, 7), (37, 9, 20, 48), (1, 1, 1, 1), (2, 1, 33, 16), (26, 3, 4, 65), (9, 4, 32, 16)]


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients(name, size):
    batch, time, inputs, hidden = size
    program = CELLS[name]
    assert_native_agrees(program, random_case(program, batch, time, {"input": inputs, "hidden": hidden}))


@cell
def gated_input(x, h, *, W_g: "input, hidden", W, b):  # noqa: F821
    """The loop reads the input itself, as a Mogrifier's does (Melis et al. 2020)."""
    return tanh(W @ [h, sigmoid(W_g @ h) * x] + b)


@pytest.mark.parametrize("batch", [3, 30])
@pytest.mark.parametrize("ragged", [False, True])
def test_an_input_that_is_read_in_the_loop(batch, ragged):
    lengths = torch.arange(batch) % 6 if ragged else None
    assert_native_agrees(gated_input, random_case(gated_input, batch, 5, {"input": 9, "hidden": 20}), lengths)


@cell
def used_twice(x, h, *, W_h: "hidden, hidden", W_x: "hidden, input"):  # noqa: F821
    """The gradient of W_h has two terms."""
    return tanh(W_h @ tanh(W_h @ h + W_x @ x))


@pytest.mark.parametrize("time", [0, 1, 6])
@pytest.mark.parametrize("batch", [3, 30])
@pytest.mark.parametrize("piece", [10, 1000])
def test_the_gradient_of_a_matrix_has_several_terms(time, batch, piece, monkeypatch):
    """The first one is written into fresh memory, the others are added."""
    take_pieces(piece, monkeypatch)
    assert_native_agrees(used_twice, random_case(used_twice, batch, time, {"input": 9, "hidden": 20}))


FIRST = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "maximum": maximum}
THEN = {
    **{name: FIRST[name] for name in ("add", "sub", "mul")},
    "subtract from": lambda a, c: c - a,
    "with itself": lambda a, c: a * a - c,
    "sigmoid": lambda a, c: sigmoid(a),
    "tanh": lambda a, c: tanh(a),
    "relu": lambda a, c: relu(a),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("batch", [1, 7, 40])
def test_an_instruction_and_its_reader(first, then, batch):
    """The engine runs some pairs of neighbours as one."""

    @cell
    def pair(x: "hidden", h):  # noqa: F821
        return tanh(THEN[then](FIRST[first](x, h), x) + THEN[then](FIRST[first](h, x), 0.5))

    assert_native_agrees(pair, random_case(pair, batch, 3, {"hidden": 35}))


def test_values_stand_before_their_only_reader():
    def made(name, *args):
        return Instruction(name, "add", args, ("hidden",))

    listed = [made("a", "x", "x"), made("b", "x", 1.0), made("c", "a", "a"), made("d", "c", "x"), made("e", "b", "d")]
    assert [i.name for i in readers_follow(listed, {"e"})] == ["a", "c", "d", "b", "e"]
    assert [i.name for i in readers_follow(listed, {"e", "b", "d"})] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("hoisting", [False, True])
def test_input_products_in_the_loop_or_before_it(name, hoisting, monkeypatch):
    monkeypatch.setattr(programs, "ROWS_INSIDE", 100 if hoisting else 0)
    take_pieces(30, monkeypatch)  # of 52 rows and more: several pieces
    program = CELLS[name]
    for batch, lengths in ((2, None), (26, None), (26, torch.arange(26) % 5)):
        assert_native_agrees(program, random_case(program, batch, 5, {"input": 18, "hidden": 35}), lengths)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("lengths", [[3, 6, 0, 1, 6], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5], [6, 6, 6, 6, 6]], ids=str)
def test_ragged_batches(name, lengths):
    program = CELLS[name]
    case = random_case(program, 5, 6, {"input": 3, "hidden": 17})
    assert_native_agrees(program, case, torch.tensor(lengths))


@pytest.mark.parametrize("name", ["lstm", "min_gru"])
@pytest.mark.parametrize("piece", [5, 1000])
def test_ragged_batches_one_after_the_other(name, piece, monkeypatch):
    """What was recorded for some lengths is used for others too."""
    take_pieces(piece, monkeypatch)
    program = CELLS[name]
    for each in ([3, 6, 1, 5], [3, 6, 1, 5], [6, 3, 1, 5], [5, 5, 5, 5], [0, 2, 6, 6], [3, 6, 1, 5]):
        assert_native_agrees(program, random_case(program, 4, 6, {"input": 5, "hidden": 32}), torch.tensor(each))


def test_batches_of_other_lengths_share_tapes():
    program = CELLS["gru"]
    parameters, x, state = random_case(program, 4, 30, {"input": 5, "hidden": 16})
    for longest in range(24, 30):  # with the others 30 to 35 rows: room for 30, 32 or 36
        lengths = torch.tensor([longest, 1, 2, 3])
        autograd.unroll(program, parameters, x, state, lengths)[0].sum().backward()
    cell = programs.cell_of(program, x, state, parameters, False)
    assert len(cell.tapes) == 2 * 3


@pytest.mark.parametrize("name", ["lstm", "min_gru", "torch_rnn_tanh"])
@pytest.mark.parametrize("lengths", [[6, 6, 3, 1, 0], [0, 0], [4, 4, 4], [2] * 40], ids=str)
@pytest.mark.parametrize("sizes", [{"input": 9, "hidden": 20}, {"input": 16, "hidden": 32}], ids=str)
def test_packed_batches(name, lengths, sizes):
    program = CELLS[name]
    parameters, x, state = random_case(program, len(lengths), 6, sizes)
    lengths = torch.tensor(lengths)
    steps = pack(x[:, : lengths.max()], lengths).detach().requires_grad_()
    assert_native_agrees(program, (parameters, steps, state), lengths)
    padded, _ = autograd.unroll(program, parameters, x[:, : lengths.max()], state, lengths)
    packed, _ = autograd.unroll(program, parameters, steps, state, lengths)
    assert torch.equal(pack(padded, lengths), packed)


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
@pytest.mark.parametrize("sizes", [{"input": 9, "hidden": 20}, {"input": 16, "hidden": 32}], ids=str)
@pytest.mark.parametrize("piece", [7, 1000])
def test_from_the_end_to_the_start(name, sizes, piece, monkeypatch):
    """Also of packed steps, and of tokens."""
    take_pieces(piece, monkeypatch)
    program, lengths = CELLS[name], torch.tensor([6, 6, 4, 1, 0])
    parameters, x, state = case = random_case(program, len(lengths), 6, sizes)
    for some in (None, lengths, lengths.flip(0)):
        assert_native_agrees(program, case, some, backwards=True)
        table, tokens = table_case(case, 7)
        assert_native_agrees(program, table, some, tokens=tokens, backwards=True)
    steps = pack(x, lengths).detach().requires_grad_()
    assert_native_agrees(program, (parameters, steps, state), lengths, backwards=True)


@pytest.mark.parametrize("lengths", [[3, 2], [1, 2, 3], [7]], ids=str)
def test_packed_steps_of_other_lengths_are_refused(lengths):
    parameters, _, state = random_case(CELLS["lstm"], len(lengths), 2, {"input": 9, "hidden": 20})
    with pytest.raises(UnrolledError, match="6 steps came with lengths"):
        autograd.unroll(CELLS["lstm"], parameters, torch.randn(6, 9), state, torch.tensor(lengths))


@pytest.mark.parametrize(("batch", "time"), [(0, 3), (3, 0), (0, 0)])
def test_empty_batches_and_no_time(batch, time):
    assert_native_agrees(CELLS["lstm"], random_case(CELLS["lstm"], batch, time, {"input": 3, "hidden": 5}))


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 30, 61])
def test_any_number_of_threads(threads, batch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        program = CELLS["gru"]
        case = random_case(program, batch, 5, {"input": 9, "hidden": 70})
        assert_native_agrees(program, case, torch.arange(batch) % 6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", [*CELLS, "gated_input"])
@pytest.mark.parametrize("ragged", [False, True])
def test_a_table_that_tokens_read(name, ragged, monkeypatch):
    take_pieces(30, monkeypatch)
    program = CELLS.get(name, gated_input)
    for batch, inputs, words in ((26, 18, 11), (7, 5, 34), (1, 16, 3), (3, 4, 90), (0, 3, 2)):  # 90: more than steps
        case, tokens = table_case(random_case(program, batch, 5, {"input": inputs, "hidden": 35}), words)
        lengths = torch.arange(batch) % 6 if ragged else None
        assert_native_agrees(program, case, lengths, tokens=tokens)


def test_a_tape_keeps_its_plans():
    """Two threads that need a plan at the same time make two, of which the cell keeps one."""
    sizes = {"input": 16, "hidden": 16}
    cell, frame = CompiledCell(CELLS["lstm"], sizes), rows_of(2, 3, None).frame
    plan = weakref.ref(cell.forward(False, True).plan)
    recorded = record_forward(cell, frame, False, 1, None)
    del cell
    packs._layout.cache_clear()
    gc.collect()
    assert plan() is not None
    del recorded
    gc.collect()
    assert plan() is None


def test_tokens_that_are_no_rows_are_refused():
    program = CELLS["lstm"]
    for words in (7, 70):  # a table that is read, and one that is looked up since it is larger than the run
        case, tokens = table_case(random_case(program, 3, 5, {"input": 4, "hidden": 6}), words)
        for wrong in (words, -1):
            tokens[1, 2] = wrong
            with pytest.raises(UnrolledError, match=rf"tokens reach .*{wrong}\b.*the table has {words} rows"):
                autograd.unroll(program, *case, tokens=tokens)


def test_gradients_of_the_gradient_of_a_table():
    program = CELLS["gru"]
    case, tokens = table_case(random_case(program, 4, 6, {"input": 3, "hidden": 5}), 7)
    table, weight = case[1], next(iter(case[0].values()))

    def second(unroll):
        outputs, _ = unroll(program, *case, None, tokens=tokens)
        (first,) = torch.autograd.grad(outputs.pow(2).sum(), table, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), weight)[0]

    torch.testing.assert_close(second(autograd.unroll), second(by_reference), rtol=1e-4, atol=1e-5)


def test_runs_are_deterministic():
    program = CELLS["lstm"]
    parameters, x, state = random_case(program, 40, 12, {"input": 30, "hidden": 50})
    leaves = [x, *state, *parameters.values()]

    def once():
        outputs, final = autograd.unroll(program, parameters, x, state)
        return [outputs, *final, *torch.autograd.grad(outputs.sum() + sum(f.sum() for f in final), leaves)]

    first = once()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, once(), strict=True))


def test_backward_twice_through_a_retained_graph():
    program = CELLS["gru"]
    parameters, x, state = random_case(program, 4, 5, {"input": 3, "hidden": 6})
    loss = autograd.unroll(program, parameters, x, state)[0].square().sum()
    first = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    second = torch.autograd.grad(loss, list(parameters.values()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_weights_that_go_elsewhere_before_the_backward_pass():
    """The gradients are those of the forward run, and nothing is read where the weights no longer are."""
    program = CELLS["peephole_lstm"]  # whose backward pass reads vectors
    parameters, x, state = random_case(program, 3, 4, {"input": 16, "hidden": 32})
    wanted = torch.autograd.grad(autograd.unroll(program, parameters, x, state)[0].sum(), list(parameters.values()))
    outputs, _ = autograd.unroll(program, parameters, x, state)
    for parameter in parameters.values():
        parameter.data = torch.full_like(parameter, torch.nan)
    reused = [torch.full((32,), torch.nan) for _ in range(1000)]
    got = torch.autograd.grad(outputs.sum(), list(parameters.values()))
    del reused
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_a_changed_weight_is_noticed():
    program = CELLS["vanilla"]
    parameters, x, state = random_case(program, 2, 3, {"input": 3, "hidden": 6})
    with torch.no_grad():
        before, _ = autograd.unroll(program, parameters, x, state)
        parameters["W_hh"].mul_(-1.0)
        after, _ = autograd.unroll(program, parameters, x, state)
    assert not torch.equal(before, after)


def test_input_that_is_not_contiguous():
    program = CELLS["gru"]
    parameters, x, state = random_case(program, 4, 5, {"input": 3, "hidden": 6})
    turned = x.detach().transpose(0, 1).contiguous().transpose(0, 1)
    with torch.no_grad():
        assert torch.equal(
            autograd.unroll(program, parameters, turned, state)[0], autograd.unroll(program, parameters, x, state)[0]
        )


@pytest.mark.parametrize("ragged", [False, True])
def test_the_defaults_of_torch_change_nothing(ragged):
    """The engine's own memory is float32 on the CPU, whatever torch makes of a tensor without a type and a device."""
    program = CELLS["torch_lstm"]
    lengths = torch.tensor([4, 1, 3]) if ragged else None
    wanted = _results(program, lengths)
    for dtype, device in ((torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")):
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                got = _results(program, lengths)
        finally:
            torch.set_default_dtype(torch.float32)
        for value, expected in zip(got, wanted, strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=0)


def _results(program, lengths):
    """Outputs, states and gradients; hidden 20, so that biases need memory that is padded."""
    generator = torch.Generator("cpu").manual_seed(0)
    sizes = {"input": 16, "hidden": 20}

    def draw(*shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") * 0.3
        return values.requires_grad_()

    parameters = {p.name: draw(*program.shape_of(p, sizes)) for p in program.parameters}
    x, state = draw(3, 4, 16), (draw(3, 20), draw(3, 20))
    with torch.no_grad():
        without, _ = autograd.unroll(program, parameters, x, state, lengths)
    outputs, final = autograd.unroll(program, parameters, x, state, lengths)
    seeds = [torch.ones_like(value) for value in (outputs, *final)]
    leaves = [x, *state, *parameters.values()]
    return [without, outputs, *final, *torch.autograd.grad((outputs, *final), leaves, seeds)]
