"""Layers without gradients whose weights have been looked at: as long as these stay the same, little is left to do."""

from collections.abc import Callable, Mapping, Sequence
from weakref import ref

from torch import Tensor

from unrolled.engine.native import library, run
from unrolled.engine.native.arrays import vectors_of
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.packs import Packs, packs_of
from unrolled.engine.native.programs import cell_of
from unrolled.engine.native.rows import rows_of
from unrolled.equations import Program


class ReadyLayer:
    """`ready(x, state, lengths, backwards)` runs one layer with the matrices that it held when it was made; vectors are
    read anew. All calls have the batch and the sizes of the first one."""

    def __init__(self, program: Program, parameters: Mapping[str, Tensor], bf16: bool) -> None:
        """`parameters` may be joined; `bf16` as in `cell_of`."""
        self._program, self._bf16 = program, bf16
        self._parameters = {key: value.detach().contiguous() for key, value in parameters.items()}
        self._cell: CompiledCell | None = None
        self._packs: Callable[[], Packs | None] = lambda: None  # weak: when weights change, their packs may go

    def __call__(
        self, x: Tensor, state: Sequence[Tensor], lengths: Tensor | None, backwards: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `reference.unroll`, the outputs in memory with time first if x is."""
        cell = self._cell = self._cell or cell_of(self._program, x, state, self._parameters, self._bf16)
        packs = self._packs() or packs_of(cell, self._parameters)
        self._packs = ref(packs)
        rows = rows_of(x.shape[0], x.shape[1], lengths, backwards)
        vectors, time_first = vectors_of(self._parameters), x.stride(0) < x.stride(1)
        outputs, final, _ = run.forward(cell, vectors, packs, rows, x, state, False, None, time_first)
        return outputs, tuple(final)


class Seen:
    """Weights as they are now, to be asked later whether they still are.

    Changes are seen as in `packs_of`: by torch's version counter and, where one goes round it, by a fingerprint.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._told = not any(w.is_inference() or not w.is_contiguous() for w in weights)
        self._fingerprint = library.library().unrolled_fingerprint
        self._seen: list[tuple[int, int, int, int]] = []  # address; of a matrix numbers, version and fingerprint
        for weight in weights if self._told else ():
            address, numbers = weight.data_ptr(), weight.numel() if weight.dim() == 2 else 0
            of_matrix = (weight._version, self._fingerprint(address, numbers)) if numbers else (0, 0)
            self._seen.append((address, numbers, *of_matrix))

    def unchanged(self, weights: Sequence[Tensor]) -> bool:
        """Whether no matrix has changed and no weight has moved; False if that can't be told. Of vectors, which are
        read anew in each step, other numbers in the same place are no change."""
        if not self._told or len(weights) != len(self._seen):
            return False
        for weight, (address, numbers, version, fingerprint) in zip(weights, self._seen, strict=True):
            if weight.data_ptr() != address or not weight.is_contiguous():
                return False
            if numbers and (weight.is_inference() or weight._version != version):
                return False
            if numbers and self._fingerprint(address, numbers) != fingerprint:
                return False
        return True
