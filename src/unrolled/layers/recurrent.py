"""One recurrent layer: a cell's Program with its parameters as tensors, run over time by an engine."""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import State, in_float32, unroll
from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.layers.initialization import initialize
from unrolled.layers.lengths import checked_lengths


class Recurrent(nn.Module):
    """A cell unrolled in time.

    `Recurrent(cell, input_size, hidden_size)`; sizes that a cell names beside these two are keyword arguments.
    The parameters carry the names of the equations and start as `initialization.py` says, except where the cell
    says otherwise (`@cell(init=...)`).

    >>> import torch, unrolled
    >>> layer = unrolled.Recurrent(unrolled.cells.lstm, 3, 5)
    >>> outputs, (h, C) = layer(torch.zeros(2, 7, 3))
    >>> outputs.shape, h.shape
    (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    """

    def __init__(self, cell: Program, input_size: int, hidden_size: int, **sizes: int) -> None:
        super().__init__()
        if not isinstance(cell, Program):
            raise UnrolledError(
                f"the cell must be a Program such as unrolled.cells.lstm, not {cell!r}; "
                "put @unrolled.cell above the function with the equations."
            )
        self.cell = cell
        self.sizes = {"input": input_size, "hidden": hidden_size, **sizes}
        for name, size in self.sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise UnrolledError(f"the {name} size must be a whole number of at least 1, not {size!r}.")
        unknown = set(sizes) - (set(cell.size_names()) - {"input", "hidden"})
        if unknown:
            raise UnrolledError(f"cell {cell.name} has no size named {', '.join(sorted(unknown))}.")
        for variable in cell.parameters:
            shape = cell.shape_of(variable, self.sizes)
            self.register_parameter(variable.name, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @property
    def input_size(self) -> int:
        """Features of one step of the input."""
        return self.sizes["input"]

    @property
    def output_size(self) -> int:
        """Features of one step of the output, which is the first state."""
        return self.cell.shape_of(self.cell.states[0], self.sizes)[0]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        initialize(self.cell, dict(self.named_parameters()), self.sizes)

    def initial_state(self, x: Tensor) -> State:
        """The state before the first step, h_0 = 0: one (batch, size) tensor per state, of the kind of x."""
        return tuple(x.new_zeros(x.shape[0], *self.cell.shape_of(s, self.sizes)) for s in self.cell.states)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        tokens: Tensor | None = None,
        backwards: bool = False,
    ) -> tuple[Tensor, State]:
        """Run over time.

        `x` is (batch, time, input); `state` a tuple with one (batch, size) tensor per state in the order of the
        equations, zero if left out; `lengths` (batch,) the steps that count in each row. Returns outputs
        (batch, time, hidden), zero past a row's length, and the state after each row's last step. Under
        `torch.autocast("cpu", dtype=torch.bfloat16)` only products are in bfloat16, see `engine.bf16_products`.

        With `tokens` (batch, time) int64, `x` is a table (words, input) and stands for x[tokens]. What the cell makes
        of its input alone is then made once for each row of the table, in the place of once for each step.
        `backwards`: from each row's last step to its first; an output stands at the step that it was made from.
        Raises UnrolledError for shapes, types or lengths that do not fit.
        """
        parameters = dict(self.named_parameters())
        like = next(iter(parameters.values()), x)
        if like.dtype == torch.float32:
            x, state = in_float32(x), in_float32(state)
        self._check_input(x, tokens, like)
        steps = x if tokens is None else tokens
        if state is None:
            state = self.initial_state(x.new_empty(steps.shape[0], 0))
        self._check_state(state, steps.shape[0], x)
        return unroll(self.cell, parameters, x, tuple(state), checked_lengths(lengths, steps), tokens, backwards)

    def _check_input(self, x: Tensor, tokens: Tensor | None, like: Tensor) -> None:
        if tokens is not None and (tokens.dim() != 2 or tokens.dtype != torch.int64 or tokens.device != x.device):
            raise UnrolledError(
                f"tokens must be (batch, time) of int64 on {x.device}, they are {tuple(tokens.shape)} "
                f"of {tokens.dtype} on {tokens.device}."
            )
        if tokens is not None and (x.dim() != 2 or x.shape[-1] != self.input_size):
            raise UnrolledError(f"with tokens x must be a table (words, {self.input_size}), it is {tuple(x.shape)}.")
        if tokens is None and (x.dim() != 3 or x.shape[-1] != self.input_size):
            raise UnrolledError(
                f"x must be (batch, time, {self.input_size}), it is {tuple(x.shape)}."
                + (" For one sequence alone use x.unsqueeze(0)." if x.dim() == 2 else "")
            )
        if x.dtype != like.dtype or x.device != like.device:
            raise UnrolledError(
                f"x is {x.dtype} on {x.device}, the layer is {like.dtype} on {like.device}; "
                "bring both together with .to(...)."
            )

    def _check_state(self, state: Any, batch: int, x: Tensor) -> None:
        shapes = [(batch, *self.cell.shape_of(s, self.sizes)) for s in self.cell.states]
        expected = [(shape, x.dtype, x.device) for shape in shapes]
        parts = list(state) if isinstance(state, (tuple, list)) else []
        if [(tuple(s.shape), s.dtype, s.device) if isinstance(s, Tensor) else s for s in parts] != expected:
            came = [f"{tuple(s.shape)} {s.dtype}" if isinstance(s, Tensor) else type(s).__name__ for s in parts]
            raise UnrolledError(
                f"the state must be a tuple ({', '.join(s.name for s in self.cell.states)},) of tensors "
                f"{', '.join(map(str, shapes))} of {x.dtype} on {x.device}; it is "
                f"{', '.join(came) if parts else type(state).__name__}."
            )

    def extra_repr(self) -> str:
        """Cell and sizes, for printing."""
        return f"{self.cell.name}, " + ", ".join(f"{name}={size}" for name, size in self.sizes.items())
