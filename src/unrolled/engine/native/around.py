"""What stands around the layers of a model: the loss of its readout, and dropout, without arrays in between."""

import torch
from torch import Tensor

from unrolled.engine.native import library
from unrolled.engine.native.workspace import empty


def cross_entropy_(logits: Tensor, targets: Tensor, scale: float) -> Tensor:
    """The cross-entropy (rows,) of each row; `logits` become the gradients of its sum times `scale`.

    `logits` (rows, classes), contiguous, float32 or bfloat16; `targets` (rows,) int64. Raises NativeError for a target
    that is no class.
    """
    losses = empty(len(logits))
    precision = library.BF16 if logits.dtype == torch.bfloat16 else library.FP32
    targets = targets.contiguous()
    rows, classes = logits.shape
    where = (logits.data_ptr(), precision, targets.data_ptr(), rows, classes)
    library.call("unrolled_cross_entropy", *where, scale, losses.data_ptr(), torch.get_num_threads())
    return losses


def dropout(x: Tensor, seed: int, dropped: int) -> Tensor:
    """`x`, contiguous float32, with zeros for a random `dropped` 256ths of it, the others scaled to make up for it.

    Which ones is a function of `seed` and the place alone.
    """
    result = torch.empty_like(x)
    library.call("unrolled_dropout", x.data_ptr(), result.data_ptr(), x.numel(), seed, dropped, torch.get_num_threads())
    return result
