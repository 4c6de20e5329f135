"""Who reads windows of rows, as training does: 64 at random for a batch, or an epoch, shuffled.

One that decides itself what it reads (an epoch) does not say where its windows begin; of those,
each window of an epoch must have come once.
"""

import itertools
import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore
import zarr
import zarrista
from zarrista.store import FilesystemStore

import tempozarr
from cases import Case
from measuring import DifferenceError, Tiled, check_equal
from readers import (
    BASELINE,
    DROPIN,
    PIPELINES,
    Reader,
    Rust,
    Turn,
    dropin,
    open_tensorstore,
    pipeline,
    threads,
)

WINDOW = 512  # rows
BATCH = 64  # windows
STRIDE = 64  # rows between the windows of an epoch
WORKERS = 2  # processes, where there are any


class Batch(NamedTuple):
    """Windows, and their first rows if the reader was told, or tells, them."""

    starts: np.ndarray | None
    windows: np.ndarray


class Session(NamedTuple):
    """An array that was opened for reading windows, and how many bytes that has decoded."""

    batches: Iterator[Batch]
    decoded: Callable[[], int | None] = lambda: None


class Done(NamedTuple):
    """What a turn has read; the bytes decoded, if they are known."""

    windows: int
    decoded: int | None


@dataclass
class Job:
    """The windows to read of a case, and whether they were."""

    case: Case
    tiled: Tiled
    count: int  # of random windows
    checks: bool = False

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """First rows of random windows."""
        shape = max(self.count // BATCH, 1), BATCH
        return list(np.random.default_rng(0).integers(0, self.tiled.rows - WINDOW, shape))

    @cached_property
    def epoch(self) -> np.ndarray:
        """First rows of the windows of an epoch."""
        return np.arange(0, self.tiled.rows - WINDOW + 1, STRIDE)

    @property
    def cache_bytes(self) -> int:
        """Bytes for those who can keep what they decoded: a quarter of all."""
        return self.tiled.nbytes // 4

    def chunks(self, starts: np.ndarray) -> list[int]:
        """Return the chunks that windows have rows of, each once."""
        reach = np.arange(0, WINDOW + self.case.rows - 1, self.case.rows)
        rows = np.minimum(starts[:, None] + reach, starts[:, None] + WINDOW - 1)
        chunks: list[int] = np.unique(rows // self.case.rows).tolist()
        return chunks

    def decoded(self, *, together: bool) -> int:
        """Bytes of the chunks of the random windows, of each batch together or of each window."""
        windows = self.batches if together else np.concatenate(self.batches)[:, None]
        chunk = self.case.rows * self.tiled.base[0].nbytes
        return sum(len(self.chunks(starts)) for starts in windows) * chunk

    def check(self, batch: Batch, crcs: list[int]) -> None:
        """Compare windows with the data; or add their CRC-32 to `crcs`."""
        if batch.starts is not None:
            for start, window in zip(batch.starts.tolist(), batch.windows, strict=True):
                check_equal(f"window {start}", window, self.tiled.block(start, start + WINDOW))
            return
        expected = (WINDOW, *self.tiled.shape[1:])
        if (batch.windows.dtype, batch.windows.shape[1:]) != (self.tiled.base.dtype, expected):
            raise DifferenceError(f"windows of {batch.windows.dtype} {batch.windows.shape}")
        crcs += map(zlib.crc32, np.ascontiguousarray(batch.windows))

    def check_epoch(self, crcs: list[int]) -> None:
        """Raise DifferenceError if there are any, unless they are of an epoch, each window once."""
        if crcs and sorted(crcs) != self._expected:
            raise DifferenceError(f"{len(crcs)} windows are not the {len(self.epoch)} of an epoch")

    @cached_property
    def _expected(self) -> list[int]:
        blocks = (self.tiled.block(start, start + WINDOW) for start in self.epoch.tolist())
        return sorted(map(zlib.crc32, blocks))


Open = Callable[[Path, Job], AbstractContextManager[Session]]


def timed(
    opened: Open, within: Callable[[Path], AbstractContextManager[object]]
) -> Callable[[Path, Job], Turn]:
    """Return a turn: what an open array yields, timed; opening and closing are not."""

    def take(path: Path, job: Job) -> Turn:
        with within(path), opened(path, job) as session:
            crcs: list[int] = []
            count, start = 0, time.perf_counter()
            for batch in session.batches:
                count += len(batch.windows)
                if job.checks:
                    job.check(batch, crcs)
            seconds = time.perf_counter() - start
            job.check_epoch(crcs)
            return Turn(seconds, Done(count, session.decoded()))

    return take


# -- an array, and a batch of it ---------------------------------------------------------------

Fetch = Callable[[Any, np.ndarray], np.ndarray]


def loop(array: Any, starts: np.ndarray) -> np.ndarray:
    """Read one window after the other."""
    return np.stack([array[start : start + WINDOW] for start in starts.tolist()])


def threaded(array: Any, starts: np.ndarray) -> np.ndarray:
    """Read one window after the other in each of two Python threads."""
    with ThreadPoolExecutor(2) as pool:
        reads = pool.map(lambda start: array[start : start + WINDOW], starts.tolist())
        return np.stack(list(reads))


def orthogonal(array: Any, starts: np.ndarray) -> np.ndarray:
    """Read all rows at once: faster than their sorted union, a mask, or a range for each run."""
    rows = (starts[:, None] + np.arange(WINDOW)).ravel()
    return np.asarray(array.oindex[rows]).reshape(len(starts), WINDOW, *array.shape[1:])


def futures(store: Any, starts: np.ndarray) -> np.ndarray:
    """Start all reads, then wait."""
    reads = [store[start : start + WINDOW].read() for start in starts.tolist()]
    return np.stack([read.result() for read in reads])


def futures_together(store: Any, starts: np.ndarray) -> np.ndarray:
    """Start all reads as one batch, then wait."""
    with tensorstore.Batch() as batch:
        reads = [store[start : start + WINDOW].read(batch=batch) for start in starts.tolist()]
    return np.stack([read.result() for read in reads])


def fetching(
    opened: Callable[[Path], Any], fetch: Fetch, path: Path, job: Job, *, together: bool | None
) -> AbstractContextManager[Session]:
    """Open an array to fetch batches from; None if nobody knows what is decoded only once."""
    array = opened(path)
    decoded = None if together is None else job.decoded(together=together)
    batches = (Batch(starts, fetch(array, starts)) for starts in job.batches)
    return nullcontext(Session(batches, lambda: decoded))


class Zarrista:
    """An array of zarrista, whose windows are numpy arrays."""

    def __init__(self, path: Path) -> None:
        self._array = zarrista.Array.open(FilesystemStore(str(path)))

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self._array[rows].to_numpy())


def caching_tensorstore(path: Path, job: Job) -> AbstractContextManager[Session]:
    """Open with tensorstore and its cache."""
    cached = partial(open_tensorstore, cache_bytes=job.cache_bytes)
    return fetching(cached, futures_together, path, job, together=None)


def tempozarr_windows(path: Path, job: Job, *, cached: bool) -> AbstractContextManager[Session]:
    """Open with tempozarr, with or without a cache."""
    array = tempozarr.open_array(path, cache_bytes=job.cache_bytes if cached else 0)
    read = (Batch(starts, np.asarray(array.windows(starts, WINDOW))) for starts in job.batches)
    return nullcontext(Session(read, lambda: array.stats().bytes_decoded))


# -- loaders -----------------------------------------------------------------------------------


def given(job: Job, windows: Iterable[np.ndarray]) -> Iterator[Batch]:
    """Put the first rows that a loader was given beside what comes."""
    return itertools.starmap(Batch, zip(job.batches, windows, strict=True))


@contextmanager
def window_loader(path: Path, _: Job, *, shuffle: str) -> Iterator[Session]:
    """Open an epoch of our own loader."""
    loader = tempozarr.WindowLoader(
        path, {"x": None}, length=WINDOW, stride=STRIDE, batch_size=BATCH, shuffle=shuffle
    )
    batches = (Batch(None, batch["x"]) for batch in loader)
    yield Session(batches, lambda: loader.stats().bytes_decoded)


class Dataset:
    """Windows by their first row, as torch wants them."""

    def __init__(self, path: Path) -> None:
        self.array = zarr.open_array(path, mode="r")

    def __getitem__(self, start: int) -> np.ndarray:
        return np.asarray(self.array[start : start + WINDOW])


@contextmanager
def torch_loader(path: Path, job: Job) -> Iterator[Session]:
    """Open torch's DataLoader, its workers started."""
    from torch.utils.data import DataLoader

    batches = [[0]] * WORKERS
    loader = DataLoader(
        Dataset(path),
        batch_sampler=batches,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    list(loader)
    batches[:] = [starts.tolist() for starts in job.batches]
    windows = (tensor.numpy() for tensor in loader)
    yield Session(given(job, windows), lambda: job.decoded(together=False))


class Worker:
    """A process of `process_pool`: its array, and memory of all processes for some batches."""

    slots: np.ndarray
    dataset: Dataset

    @classmethod
    def start(cls, path: Path, memory: Any, shape: tuple[int, ...], barrier: Barrier) -> None:
        """Open the array, and wait for the others."""
        cls.dataset = Dataset(path)
        cls.slots = np.frombuffer(memory, cls.dataset.array.dtype).reshape(shape)
        barrier.wait()

    @classmethod
    def work(cls, slot: int, starts: np.ndarray) -> None:
        """Read a batch."""
        np.stack([cls.dataset[start] for start in starts.tolist()], out=cls.slots[slot])


@contextmanager
def process_pool(path: Path, job: Job) -> Iterator[Session]:
    """Open what is like torch's DataLoader: batches in shared memory, two ahead for a worker."""
    spawn, ahead = get_context("spawn"), 2 * WORKERS
    shape = (ahead + 1, BATCH, WINDOW, *job.tiled.shape[1:])
    memory = spawn.RawArray("B", math.prod(shape) * job.tiled.base.itemsize)
    slots = np.frombuffer(memory, job.tiled.base.dtype).reshape(shape)
    arguments = path, memory, shape, spawn.Barrier(WORKERS)
    with ProcessPoolExecutor(WORKERS, spawn, Worker.start, arguments) as pool:

        def read() -> Iterator[np.ndarray]:
            slot = itertools.cycle(range(ahead + 1))
            todo = (pool.submit(Worker.work, next(slot), starts) for starts in job.batches)
            running = deque(itertools.islice(todo, ahead))
            for n in range(len(job.batches)):
                running.popleft().result()
                running.extend(itertools.islice(todo, 1))
                yield slots[n % (ahead + 1)]

        wait([pool.submit(Worker.work, 0, job.batches[0]) for _ in range(WORKERS)])
        yield Session(given(job, read()), lambda: job.decoded(together=False))


def annbatch_loader(path: Path, job: Job) -> AbstractContextManager[Session]:
    """Open annbatch's loader, with a sampler that asks for windows: its rows of cells are ours."""
    from annbatch import Loader
    from annbatch.abc import Sampler

    class Windows(Sampler):
        batch_size = shuffle = None

        def n_batches(self, _: int) -> int:
            return len(job.batches)

        def validate(self, _: int) -> None:
            pass

        def _sample(self, _: int) -> Iterator[dict[str, Any]]:
            for starts in job.batches:
                requests = [slice(start, start + WINDOW) for start in starts.tolist()]
                yield {"requests": requests, "splits": [np.arange(len(starts) * WINDOW)]}

    array = zarr.open_array(path, mode="r")
    loader = Loader(batch_sampler=Windows(), preload_to_gpu=False).add_dataset(array)
    shape = (-1, WINDOW, *array.shape[1:])
    windows = (batch["X"].reshape(shape) for batch in loader)
    return nullcontext(Session(given(job, windows)))


@contextmanager
def insitubatch_loader(path: Path, job: Job) -> Iterator[Session]:
    """Open insitubatch's loader: a row is its sample, a window a view for each row, stacked.

    It shuffles within blocks of 16 shards and has no stride: an epoch is as many windows as rows.
    We stop after a quarter of what ours has.
    """
    from insitubatch import ArrayGeometry, InSituDataset, split_by_chunk

    array = zarr.open_array(path, mode="r")
    store = zarr.storage.LocalStore(path.parent, read_only=True)
    shard = array.shards or array.chunks
    rows = ArrayGeometry(path=path.name, shape=array.shape, chunks=shard, dtype=array.dtype)
    source = InSituDataset(
        store,
        split_by_chunk(rows, fractions=(1, 0, 0)),
        {f"{row}": rows.shift(row) for row in range(WINDOW)},
        batch_size=BATCH,
    )
    labels, epoch = list(source.geometries), iter(source.train)
    some = itertools.islice(epoch, math.ceil(len(job.epoch) / BATCH / 4))
    batches = (Batch(batch.sample_indices, batch.stack(labels)) for batch in some)

    def decoded() -> int:
        epoch.close()  # counts
        return source.cache_misses * rows.chunk_bytes

    yield Session(batches, decoded)
    source.close()


# -- limits ------------------------------------------------------------------------------------


def alone(rust: Rust, cores: int, path: Path, job: Job, *, epoch: bool) -> Turn:
    """Decompress the chunks that have the windows: those of each batch, or each once for all."""
    chunks = None if epoch else [n for starts in job.batches for n in job.chunks(starts)]
    answer = rust.ask(what="decompress", array=str(path.absolute()), threads=cores, chunks=chunks)
    if epoch:
        return Turn(answer["seconds"], Done(len(job.epoch), job.tiled.nbytes))
    windows = sum(map(len, job.batches))
    return Turn(answer["seconds"], Done(windows, job.decoded(together=True)))


def copying(rust: Rust, cores: int, path: Path, job: Job) -> Turn:
    """Write as many bytes as the array has; so many windows they are."""
    answer = rust.ask(what="memcpy", array=str(path.absolute()), threads=cores)
    return Turn(answer["seconds"], Done(job.tiled.rows // WINDOW, None))


# -- list --------------------------------------------------------------------------------------


def window_readers(rust: Rust, cores: int) -> list[Reader]:
    """Return the competitors in the order of their turns; the first is compared with."""
    default, native = pipeline(PIPELINES[BASELINE]), partial(threads, cores)
    inside = {name: pipeline(path) for name, path in PIPELINES.items()}
    inside[DROPIN] = partial(dropin, cores)
    result: list[Reader] = []

    def add(name: str, kind: str, opened: Open, within: Any = default) -> None:
        result.append(Reader(name, kind, None, timed(opened, within)))

    def add_fetch(name: str, kind: str, opened: Any, fetch: Fetch, within: Any = default) -> None:
        together = {loop: False, threaded: False, orthogonal: True}.get(fetch)
        add(name, kind, partial(fetching, opened, fetch, together=together), within)

    open_zarr = partial(zarr.open_array, mode="r")
    for name, within in inside.items():
        kind = "tempozarr" if name == DROPIN else "peer"
        add_fetch(f"{name}: loop", kind, open_zarr, loop, within)
        add_fetch(f"{name}: loop in 2 threads", kind, open_zarr, threaded, within)
        add_fetch(f"{name}: oindex", kind, open_zarr, orthogonal, within)
    if find_spec("torch"):
        add(f"{BASELINE}: torch DataLoader, {WORKERS} workers", "peer", torch_loader)
    else:
        add(f"{BASELINE}: loop in {WORKERS} processes, no torch", "peer", process_pool)
    add("annbatch on zarrs-python", "peer", annbatch_loader, inside["zarrs-python"])
    add("annbatch + tempozarr.enable()", "tempozarr", annbatch_loader, inside[DROPIN])
    add_fetch("zarrista: loop", "peer", Zarrista, loop)
    add_fetch("zarrista: loop in 2 threads", "peer", Zarrista, threaded)
    add_fetch("tensorstore: futures", "peer", open_tensorstore, futures)
    add_fetch("tensorstore: Batch", "peer", open_tensorstore, futures_together)
    add("tensorstore: Batch, cache", "peer", caching_tensorstore)
    open_ours = partial(tempozarr.open_array, cache_bytes=0)
    add_fetch("tempozarr: loop", "tempozarr", open_ours, loop, native)
    uncached = partial(tempozarr_windows, cached=False)
    add("tempozarr a.windows()", "tempozarr", uncached, native)
    cached = partial(tempozarr_windows, cached=True)
    add("tempozarr a.windows(), cache", "tempozarr", cached, native)
    limit = partial(alone, rust, cores, epoch=False)
    result.append(Reader("zstd alone, chunks of each batch", "limit", cores, limit))
    add("insitubatch, epoch by blocks", "peer", insitubatch_loader)
    for shuffle in ("global", "chunk"):
        opened = partial(window_loader, shuffle=shuffle)
        add(f"tempozarr WindowLoader, epoch, {shuffle}", "tempozarr", opened, native)
    limit = partial(alone, rust, cores, epoch=True)
    result.append(Reader("zstd alone, each chunk once", "limit", cores, limit))
    result.append(Reader("memcpy", "limit", cores, partial(copying, rust, cores)))
    return result
