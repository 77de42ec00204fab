"""Whether more than autograd looks at a computation, so that it must be made of operations that torch knows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def followed(tensors: Sequence[Tensor]) -> bool:
    """Whether a compiler, a transform or a kind of tensor of its own follows what is computed with `tensors`."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or any(type(t) not in (Tensor, nn.Parameter) for t in tensors)
    )
