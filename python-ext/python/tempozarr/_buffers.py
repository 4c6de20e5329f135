"""Memory of batches, used again: fresh pages cost as much as filling them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Batch = dict[str, NDArray[Any]]
    Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


class Buffers:
    """Gives memory for batches, that of former ones where it may.

    Parameters
    ----------
    shapes
        Shape and data type of each array of a batch.
    most
        Batches whose memory is kept: those that may be in use at once, which are ready, and the
        consumer's.
    reuse
        Whether a batch is the consumer's only until it takes the next one. If not, its memory is
        used again when nobody refers to it any more: no array, view, tensor or buffer.
    allocate
        Makes new memory: an array that is no view of another one, whose references would be
        counted instead of its own.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
        most: int,
        *,
        reuse: bool,
        allocate: Allocate = np.empty,
    ) -> None:
        self._shapes = shapes
        self._most = most
        self._reuse = reuse
        self._allocate = allocate
        self._batches: list[Batch] = []
        self._next = 0

    def take(self) -> Batch:
        """Give memory for a batch."""
        for _ in range(len(self._batches)):
            batch = self._batches[self._next]
            if self._reuse and len(self._batches) < self._most:
                break
            self._next = (self._next + 1) % len(self._batches)
            if self._reuse or _references(batch) <= _OURS:
                return batch
        batch = {name: self._allocate(*shape) for name, shape in self._shapes.items()}
        if len(self._batches) < self._most:
            self._batches.append(batch)
        return batch


def _references(batch: Batch) -> int:
    """Count the references to the array that has most: of a batch, or one that such is a view of.

    A view of a view refers to the array that owns the memory, so that has to be asked, too.
    """
    most = 0
    for name in batch:
        memory: Any = batch[name]
        while isinstance(memory, np.ndarray):
            most = max(most, sys.getrefcount(memory))
            memory = memory.base
    return most


# Those to an array that nobody else has.
_OURS = _references({"": np.empty(0)})
