"""What every cell of `unrolled.cells` must do; a new cell gets this suite by being listed."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import unrolled.cells
from unrolled import Program, to_latex, to_text
from unrolled.cells import CELLS
from unrolled.engine.reference import unroll

SIZES = {"input": 2, "hidden": 3}
BATCH, TIME = 2, 3
LENGTHS = torch.tensor([3, 1])
FOLDER = Path(unrolled.cells.__file__).parent

every_cell = pytest.mark.parametrize("program", CELLS.values(), ids=CELLS)


def tensors(program: Program) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor, ...]]:
    """Parameters, x and a state that is not zero, in float64, the judge's type."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parameters = {p.name: draw(*program.shape_of(p, SIZES)) for p in program.parameters}
    state = tuple(draw(BATCH, *program.shape_of(s, SIZES)) for s in program.states)
    return parameters, draw(BATCH, TIME, SIZES["input"]), state


@every_cell
def test_gradients_through_time_are_those_of_finite_differences(program: Program) -> None:
    parameters, x, state = tensors(program)
    names, given = list(parameters), [*parameters.values(), x, *state]

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        weights, (x, *state) = dict(zip(names, values, strict=False)), values[len(names) :]
        outputs, after = unroll(program, weights, x, tuple(state), LENGTHS)
        return outputs, *after

    # In float64 a central difference of step 1e-6 is right to about 1e-10; the weights are of size 1.
    assert torch.autograd.gradcheck(run, [v.requires_grad_() for v in given], eps=1e-6, atol=1e-8, rtol=1e-6)


@every_cell
def test_outputs_and_states_have_their_shapes_and_are_finite(program: Program) -> None:
    parameters, x, state = tensors(program)
    outputs, after = unroll(program, parameters, x, state, LENGTHS)
    assert outputs.shape == (BATCH, TIME, program.shape_of(program.states[0], SIZES)[0])
    assert [s.shape for s in after] == [s.shape for s in state]
    assert all(value.isfinite().all() and value.dtype == torch.float64 for value in (outputs, *after))


@every_cell
def test_the_first_state_is_the_output_and_depends_on_what_it_reads(program: Program) -> None:
    parameters, x, state = tensors(program)
    outputs, after = unroll(program, parameters, x, state)
    assert torch.equal(outputs[:, -1], after[0])
    others = [unroll(program, parameters, x + 1, state)[0]]
    others += [unroll(program, {**parameters, name: value + 1}, x, state)[0] for name, value in parameters.items()]
    for place in range(len(state)):
        moved = tuple(value + 1 if place == number else value for number, value in enumerate(state))
        others.append(unroll(program, parameters, x, moved)[0])
    assert not any(torch.equal(outputs, other) for other in others)


@every_cell
def test_two_runs_and_a_copy_from_json_agree_in_every_bit(program: Program) -> None:
    parameters, x, state = tensors(program)
    copy = Program.from_json(program.to_json())
    runs = [unroll(which, parameters, x, state, LENGTHS) for which in (program, program, copy)]
    for outputs, after in runs[1:]:
        assert torch.equal(outputs, runs[0][0])
        assert all(torch.equal(a, b) for a, b in zip(after, runs[0][1], strict=True))


@every_cell
def test_the_printed_equations_mention_every_variable(program: Program) -> None:
    data = json.loads(program.to_json())
    for variable in program.variables:
        renamed = json.loads(json.dumps(data).replace(f'"{variable.name}"', '"marker"'))
        other = Program.from_json(json.dumps(renamed | {"name": program.name}))
        assert "marker" in to_text(other)
        assert "marker" in to_latex(other)


@every_cell
def test_the_docstring_is_one_line_that_cites_authors_and_year(program: Program) -> None:
    author = r"[A-Z][\w'-]+"
    assert re.search(rf"\({author}( et al\.| & {author})? (19|20)\d\d", program.doc), program.doc
    assert "\n" not in program.doc


@every_cell
def test_a_cell_stands_in_the_file_of_its_name_and_has_at_most_eighty_lines(program: Program) -> None:
    source = (FOLDER / f"{program.name}.py").read_text()
    assert re.search(rf"^def {program.name}\(", source, re.MULTILINE)
    assert len(source.splitlines()) <= 80


@every_cell
def test_start_values_name_parameters_of_the_cell(program: Program) -> None:
    assert set(program.init) <= {parameter.name for parameter in program.parameters}
    forget_biases = {p.name for p in program.parameters if p.name == "b_f"}
    assert {name for name in program.init if program.init[name] == 1.0} == forget_biases


def test_every_file_beside_the_cells_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(CELLS)
    assert all(getattr(unrolled.cells, name) is program for name, program in CELLS.items())


def test_no_two_cells_are_the_same_function() -> None:
    def body(program: Program) -> Program:
        return dataclasses.replace(program, name="", doc="", init={})

    assert len({body(program) for program in CELLS.values()}) == len(CELLS)
