"""`WindowDataset`: what a `WindowLoader` delivers, as tensors of PyTorch."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import islice
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from tempozarr._loader import WindowLoader

try:
    import torch
    from torch import distributed
    from torch.utils.data import IterableDataset, get_worker_info
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        f"tempozarr.torch needs PyTorch, and found no {e.name}: pip install 'tempozarr[torch]'",
        name=e.name,
    ) from e

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tempozarr._buffers import Batch

    Tensors = dict[str, torch.Tensor]

__all__ = ["WindowDataset"]

# What all processes see of a dataset: the epoch and the position where its loops begin, whether
# they run in workers, and for each worker whether it came to the end.
_EPOCH, _BEGIN, _IN_WORKERS, _OVER = range(4)
_MOST_WORKERS = 1024


class WindowDataset(IterableDataset):
    """Batches of windows as dicts of tensors, in the order of the loader.

    Iterate over it directly, or give it to a `torch.utils.data.DataLoader` with `batch_size=None`,
    as it has batches already. The loader has threads of its own, so that worker processes are not
    needed; with `num_workers=n`, each of them makes every nth batch and the order stays the same.

    Every loop delivers the same epoch in the same order until `set_epoch` names another one, as
    with torch's `DistributedSampler`.

    Parameters
    ----------
    loader
        What to deliver. If its `world_size` is 1 and `torch.distributed` is initialised, now or
        when a loop begins, rank and world size are those of the process group; use
        `drop_last=True`, so that all ranks have equally many batches. Loops begin where it is.
    pin_memory
        Whether batches are in page-locked memory, for copies to a GPU in the background. By
        default, if there is CUDA. Not in workers: there it is the business of `DataLoader`.

    Raises
    ------
    TypeError
        If that is no loader, or if torch lacks the data type of a field.
    ValueError
        If memory is to be page-locked, and there is no CUDA.

    Notes
    -----
    Tensors share the memory of the loader's batches. It is used again when nobody refers to it any
    more (with `reuse=True`, which workers ignore, as soon as the next batch is taken). A worker
    copies each batch once, into memory that it shares with the consumer.
    """

    def __init__(self, loader: WindowLoader, *, pin_memory: bool | None = None) -> None:
        super().__init__()
        if not isinstance(loader, WindowLoader):
            raise TypeError(f"expected a tempozarr.WindowLoader, got {loader!r}")
        for name, window in loader._windows.items():
            try:
                _dtype(window.dtype)
            except TypeError as e:
                raise TypeError(
                    f"arrays[{name!r}]: torch has no data type like {window.dtype}; leave it out, "
                    "or iterate over the loader itself"
                ) from e
        if pin_memory and not torch.cuda.is_available():
            raise ValueError("pin_memory: expected None or False, as there is no CUDA, got True")
        self._given = loader
        self._pin_memory = pin_memory
        self._brains = {name for name, w in loader._windows.items() if w.cast == "bfloat16"}
        self._shared = torch.zeros(_OVER + _MOST_WORKERS, dtype=torch.int64).share_memory_()
        self._begin_at(loader.state_dict())

    @property
    def loader(self) -> WindowLoader:
        """The loader; one for our rank, if that comes from `torch.distributed`.

        Its `stats()` are those of loops in this process, without workers.
        """
        if (
            self._given._settings.world_size == 1
            and distributed.is_available()
            and distributed.is_initialized()
            and distributed.get_world_size() > 1
        ):
            rank, world_size = distributed.get_rank(), distributed.get_world_size()
            self._given = self._given.with_rank(rank, world_size)
        return self._given

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Tensors]:
        """Begin the epoch; or go on where a loaded state left it.

        Raises
        ------
        RuntimeError
            If a loop has finished what a state left of the epoch, and `set_epoch` named no other.
        """
        # All of it when the first batch is asked for: persistent workers do not survive an error
        # while a loop begins.
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if self._shared[_BEGIN] and self._shared[_OVER + worker]:
            raise RuntimeError(
                "expected set_epoch() before another loop: the epoch that a state continued is over"
            )
        self._shared[_IN_WORKERS] = info is not None
        loader, pinned = self.loader, False
        if info is None:
            pinned = self._pin_memory is not False and torch.cuda.is_available()
        else:
            # A queue may still hold a batch when the next one is made. And in a process that was
            # forked, a thread of the other one may hold a lock for ever.
            loader = loader._with(settings=dataclasses.replace(loader._settings, reuse=False))
        loader.load_state_dict(self._state(loader, 0))
        batches = (
            loader.iterate(allocate=_page_locked, keep=False)
            if pinned
            else loader.iterate(worker, workers)
        )
        yield from map(partial(self._tensors, pinned=pinned), batches)
        self._shared[_OVER + worker] = 1

    def _tensors(self, batch: Batch, *, pinned: bool) -> Tensors:
        make = _owner if pinned else torch.from_numpy
        tensors = {name: make(values) for name, values in batch.items()}
        return tensors | {name: tensors[name].view(torch.bfloat16) for name in self._brains}

    @property
    def epoch(self) -> int:
        """Number of the epoch that loops deliver."""
        return int(self._shared[_EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Deliver this epoch in the next loop, from its beginning unless it is the current one.

        Call it before each loop. Workers see it too, also those that persist.
        """
        self.loader.set_epoch(epoch)
        if epoch != self.epoch:
            self._begin_at({"epoch": epoch, "position": 0})

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Give what is needed to go on behind the last batch that was delivered: a little JSON.

        It is that of `WindowLoader.state_dict`: the same on all ranks after as many batches, good
        for any number of ranks and workers.

        Parameters
        ----------
        batches
            How many batches the current loop took. Needed with workers, which are ahead of the
            consumer.

        Raises
        ------
        ValueError
            If `batches` is needed, or more than there are.
        """
        if batches is not None:
            return self._state(self.loader, batches)
        if self._shared[_IN_WORKERS]:
            raise ValueError(
                "expected state_dict(batches=n), the number of batches that the loop took: workers "
                "are ahead of it"
            )
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the next loop.

        Raises
        ------
        ValueError
            As `WindowLoader.load_state_dict`.
        """
        self.loader.load_state_dict(state)
        self._begin_at(state)

    def _begin_at(self, state: Mapping[str, Any]) -> None:
        self._shared.zero_()
        self._shared[_EPOCH], self._shared[_BEGIN] = state["epoch"], state["position"]

    def _state(self, loader: WindowLoader, batches: int) -> dict[str, Any]:
        """State after so many batches of a loop."""
        begin = int(self._shared[_BEGIN])
        steps = islice(loader._steps(begin), max(0, index(batches)))
        ends = [begin, *(end for *_, end in steps)]
        if len(ends) != batches + 1:
            raise ValueError(f"batches: expected as many as a loop has taken, got {batches}")
        return loader.state_dict() | {"epoch": self.epoch, "position": ends[-1]}

    def __getstate__(self) -> dict[str, Any]:
        """Give what a worker gets, which has no process group to ask for its rank."""
        return self.__dict__ | {"_given": self.loader}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._shared.share_memory_()  # a copy too has one for its workers

    def __repr__(self) -> str:
        return f"<tempozarr.torch.WindowDataset of {self.loader!r}>"


def _dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Data type of torch."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _page_locked(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory from torch, which uses it again only after all copies to a GPU have ended."""
    memory: NDArray[Any] = torch.empty(shape, dtype=_dtype(dtype), pin_memory=True).numpy()
    return memory


def _owner(values: NDArray[Any]) -> torch.Tensor:
    """Give the tensor of `_page_locked` whose first windows these are.

    Not another one of the same memory: torch would not know when a copy from that has ended.
    """
    memory: Any = values.base
    return memory.base[: len(values)]
