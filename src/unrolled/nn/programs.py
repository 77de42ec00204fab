"""Which listed cell a module of torch.nn is, and what its options make of that cell: no biases, a projected output.

Equations are not written here: the options rewrite the Program of the listed cell.
"""

import functools
from dataclasses import replace

from unrolled.cells import torch_gru, torch_lstm, torch_rnn_relu, torch_rnn_tanh
from unrolled.equations import Instruction, Program, Variable

CELLS = {"LSTM": torch_lstm, "GRU": torch_gru, "RNN_TANH": torch_rnn_tanh, "RNN_RELU": torch_rnn_relu}
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


@functools.cache
def program_of(mode: str, bias: bool, projected: bool) -> Program:
    """The Program of one layer in one direction; `mode` is that of `torch.nn.RNNBase`."""
    program = CELLS[mode] if bias else without_biases(CELLS[mode])
    return with_projection(program) if projected else program


@functools.cache
def gates(mode: str, bias: bool, projected: bool) -> tuple[str, ...]:
    """The keys of torch's weights of one layer in one direction, whose gates stand under each other, as joined
    parameters.

    Parameters of the cell stand in torch's order, gate by gate; the projection comes last.
    """
    names, many = [p.name for p in program_of(mode, bias, projected).parameters], _GATES[mode]
    return tuple(" ".join(names[at : at + many]) for at in range(0, len(names), many))


def without_biases(program: Program) -> Program:
    """The Program with every bias, a vector among the parameters, taken out of the sums."""
    biases = {p.name for p in program.parameters if len(p.shape) == 1}
    stands_for: dict[object, str | float] = {}
    instructions = []
    for instruction in program.instructions:
        args = tuple(stands_for.get(a, a) for a in instruction.args)
        rest = [a for a in args if a not in biases]
        if len(rest) < len(args):
            (stands_for[instruction.name],) = rest
        else:
            instructions.append(replace(instruction, args=args))
    variables = tuple(v for v in program.variables if v.name not in biases)
    return replace(
        program, name=f"{program.name}_without_biases", variables=variables, instructions=tuple(instructions)
    )


def with_projection(program: Program) -> Program:
    """The Program whose output is a matrix W_hr times what it was (Sak et al. 2014; `proj_size` of `torch.nn.LSTM`)."""
    output = program.states[0]
    readers = {i.args[0] for i in program.instructions if i.op == "matmul" and i.args[1] == output.name}

    def variable(old: Variable) -> Variable:
        if old == output:
            return replace(old, shape=("projected",))
        return replace(old, shape=(old.shape[0], "projected")) if old.name in readers else old

    matrix = Variable("W_hr", "parameter", ("projected", *output.shape))
    product = Instruction("h_projected", "matmul", (matrix.name, program.outputs[0]), ("projected",))
    return replace(
        program,
        name=f"{program.name}_projected",
        variables=(*map(variable, program.variables), matrix),
        instructions=(*program.instructions, product),
        outputs=(product.name, *program.outputs[1:]),
    )
