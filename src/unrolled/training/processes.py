"""Several processes under `torchrun`: who this one is, and what they tell each other. Alone, all of it is trivial."""

import os
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


class Processes:
    """This process among those that `torchrun` started; `rank` 0 writes the files and speaks to the user."""

    def __init__(self, device: str) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device
        if self.world > 1:
            if device == "cuda":
                self.device = f"cuda:{os.environ['LOCAL_RANK']}"
                torch.cuda.set_device(self.device)
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if device == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def shared(self, value: T) -> T:
        """The value that the first process has, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return float(tensor) / self.world

    def gathered(self, tensor: Tensor) -> Tensor:
        """The rows of all processes under each other, in the order of their ranks."""
        if self.world == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def own_rows(self, tensor: Tensor) -> Tensor:
        """This process's rows of a tensor that `gathered` made."""
        return tensor.chunk(self.world)[self.rank]

    def wait(self) -> None:
        """Go on when all processes are here: one that leaves while others still work takes them down."""
        if self.world > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
