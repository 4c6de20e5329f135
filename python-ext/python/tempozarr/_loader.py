"""`WindowLoader`: batches of windows of time series, made ready by a thread in the background."""

from __future__ import annotations

import dataclasses
import hashlib
import time as clock
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np

from tempozarr import _series
from tempozarr._array import Cache, ReadStats
from tempozarr._buffers import Buffers
from tempozarr._config import size_pool
from tempozarr._order import Order, Pooled, Sequential, Shuffled, key_of
from tempozarr._prefetch import Prefetch
from tempozarr._text import counted, in_bytes
from tempozarr._windows import Index, Reader, Window, fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tempozarr._array import Array
    from tempozarr._buffers import Allocate, Batch
    from tempozarr._series import Rows, Sources, Where
    from tempozarr._windows import Field

    Shuffle: TypeAlias = Literal[False, "global", "chunk"]

_MIB = 1 << 20
_ORDERED_AT_ONCE = 4096  # windows
_RUN_CHUNKS = 16  # in a run, for each chunk more that its last window reaches into
_POOL_RUNS = 4  # at least, where the cache has room for them


@dataclass(frozen=True)
class LoaderStats(ReadStats):
    """What a loader has delivered and what it cost; `loader.stats()`.

    Attributes
    ----------
    batches, windows
        Delivered so far.
    elapsed
        Seconds that loops over the loader took so far.
    waited
        Seconds of these in which the consumer waited for a batch; the rest it spent on its own.
    hits, misses, bytes_read, bytes_decoded, read_seconds, decode_seconds, copy_seconds
        As in `ReadStats`, of all arrays.
    """

    batches: int
    windows: int
    elapsed: float
    waited: float

    @property
    def waited_for(self) -> dict[str, float]:
        """Shares of `elapsed`: the consumer's own, and what it waited for by what threads did."""
        seconds = {
            "reading": self.read_seconds,
            "decoding": self.decode_seconds,
            "copying": self.copy_seconds,
        }
        elapsed = self.elapsed or 1.0
        share = self.waited / elapsed / (sum(seconds.values()) or 1.0)
        consumer = {"consumer": 1 - self.waited / elapsed}
        return consumer | {what: part * share for what, part in seconds.items()}

    def __str__(self) -> str:
        shares = self.waited_for
        consumer = shares.pop("consumer")
        waits = ", ".join(f"{what} {share:.1%}" for what, share in shares.items())
        return (
            f"{self.windows:,} windows in {self.elapsed:.2f} s "
            f"({self.windows / (self.elapsed or 1.0):,.0f} a second)\n"
            f"consumer at work {consumer:.1%} of the time; waiting for {waits}\n"
            f"{in_bytes(self.bytes_read)} read, {in_bytes(self.bytes_decoded)} decoded: "
            f"{counted(self.misses, 'chunk')}, and {self.hits:,} found decoded"
        )


@dataclass
class _Delivered:
    """The part of `LoaderStats` that the consumer's thread counts."""

    batches: int = 0
    windows: int = 0
    elapsed: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class _Settings:
    """What a loader was asked for, as far as it does not concern rows."""

    fields: Mapping[str, Field]
    length: int
    stride: int
    batch_size: int
    shuffle: Shuffle
    seed: int
    time: str | None
    rank: int
    world_size: int
    drop_last: bool
    prefetch: int
    prefetch_bytes: int
    cache_bytes: int
    reuse: bool

    def __post_init__(self) -> None:
        least = {"length": 1, "stride": 1, "batch_size": 1, "world_size": 1, "rank": 0}
        least |= {"prefetch": 1, "prefetch_bytes": 0, "cache_bytes": 0}
        for name, low in least.items():
            number = index(getattr(self, name))
            if number < low:
                raise ValueError(f"{name}: expected at least {low}, got {number}")
            object.__setattr__(self, name, number)  # no numpy integer: the state is JSON
        if self.rank >= self.world_size:
            raise ValueError(f"expected a rank below {self.world_size}, got {self.rank}")
        if self.shuffle not in (False, "global", "chunk"):
            raise ValueError(f"shuffle: expected False, 'global' or 'chunk', got {self.shuffle!r}")
        if not self.fields:
            raise ValueError("arrays: expected at least one, as in {'x': 'book'}")


@dataclass(frozen=True)
class _Pool:
    """How windows are shuffled by chunks.

    Attributes
    ----------
    rows
        Rows in a run of chunks.
    chunk
        Rows in a chunk.
    runs
        Runs whose windows are shuffled together.
    nbytes
        Decoded bytes of these.
    """

    rows: int
    chunk: int
    runs: int
    nbytes: int


class WindowLoader:
    """Batches of windows of time series, for training; iterate over it, an epoch at a time.

    A thread in the background makes batches ready. It reads and decodes on all threads of
    tempozarr's pool, with the GIL released, each chunk that a batch needs once.

    Parameters
    ----------
    sources
        Paths, URLs, groups or arrays: one, or a list in the order of time, which is one series as
        if it were one store; or a dict of series, from names to such. No window reaches from one
        series into another.
    arrays
        What a batch has: a name, and the name of an array in each source (`"book"`), None where the
        source is itself the array, or a `Field`. Arrays of a source are aligned by row.
    length
        Rows in a window.
    stride
        Rows from the beginning of one window to that of the next.
    batch_size
        Windows in a batch, of this rank.
    shuffle
        False: in the order of rows. `"global"`: each window anywhere, by a pseudo-random
        permutation that takes no memory; a batch needs about as many chunks as it has windows.
        `"chunk"`: runs of chunks are shuffled, and then the windows of as many runs as
        `cache_bytes` has room for, so that each chunk is decoded about once in an epoch.
    seed
        With the number of the epoch, all that the order depends on (and `cache_bytes`, by chunks).
    rows
        `(lo, hi)`: rows of each source that are used, as in a slice.
    time
        Name of an array of times in each source, ascending: integers, floats or datetime64.
    max_gap
        Windows do not cross a jump of time larger than this, forward or backward; in the unit of
        the times, `numpy.timedelta64` for datetime64.
    where
        Rows that windows may touch: the name of an array of bools in each source, a mask of all
        rows of the series, or ascending pairs `(start, stop)` of them; a dict of such by series if
        there are several.
    rank, world_size
        Which part of each global batch of `batch_size * world_size` windows is ours.
    drop_last
        Leave the last global batch out if it is not full. Otherwise it is shared out as evenly as
        possible, and some ranks may get no batch of it.
    prefetch, prefetch_bytes
        Batches to have ready: that many, but no more than fit in so many bytes, and at least one.
    cache_bytes
        Bytes of decoded chunks to keep.
    reuse
        Whether a batch is the caller's only until the next one is taken, which spares memory.
        Otherwise its memory is used again only when nobody refers to it any more.
    storage_options
        Of sources that are URLs of object stores, as for `tempozarr.open`.

    Raises
    ------
    ValueError
        If no window fits, and for what cannot be; the text says what was expected.
    StoreError, KeyError, MetadataError
        If a source or an array cannot be opened.

    Notes
    -----
    A batch is a dict of numpy arrays of shape `(windows, length, *row)`, C-ordered, in native byte
    order; torch and JAX take them without a copy (`torch.from_numpy`, `jax.numpy.from_dlpack`).
    The last batch of an epoch may have fewer windows. A loop that ends early begins the same epoch
    again; the epoch advances when one is finished, or by `set_epoch`.

    Errors while reading end the loop: the consumer gets them, after the batches that were ready.
    """

    def __init__(
        self,
        sources: Sources,
        arrays: Mapping[str, Field | str | None],
        *,
        length: int,
        batch_size: int,
        stride: int = 1,
        shuffle: Shuffle = False,
        seed: int = 0,
        rows: tuple[int | None, int | None] | None = None,
        time: str | None = None,
        max_gap: Any = None,
        where: Where | None = None,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        prefetch: int = 4,
        prefetch_bytes: int = 256 * _MIB,
        cache_bytes: int = 256 * _MIB,
        reuse: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = _Settings(
            fields_of(arrays),
            length,
            stride,
            batch_size,
            shuffle,
            index(seed),
            time,
            rank,
            world_size,
            drop_last,
            prefetch,
            prefetch_bytes,
            cache_bytes,
            reuse,
        )
        size_pool()
        if max_gap is not None and time is None:
            raise ValueError("max_gap: expected time= as well, the name of an array of times")
        members = [field.array for field in self._settings.fields.values()]
        members += [time] if time is not None else []
        members += [where] if isinstance(where, str) else []
        self._sources = _series.numbered(_series.located(sources, storage_options), members)
        segments = _series.whole(self._sources, rows)
        if max_gap is not None and time is not None:
            segments = _series.cut(segments, _series.gaps(self._sources, time, max_gap))
        if where is not None:
            segments = _series.intersection(segments, _series.allowed(self._sources, where))
        self._segments = segments
        self._open()

    def _open(self) -> None:
        """Make what is not pickled."""
        settings = self._settings
        cache = Cache(settings.cache_bytes)
        self._windows = {
            name: Window.of(name, field, settings.length, self._sources[0].open(field.array, cache))
            for name, field in settings.fields.items()
        }
        self._reader = Reader(self._sources, self._windows, cache)
        self._index = Index.of(
            self._segments, list(self._windows.values()), settings.length, settings.stride
        )
        if not self._index.size:
            longest = int(np.diff(self._segments).max(initial=0))
            raise ValueError(
                f"expected at least one range of {self._index.reach:,} rows, which a window "
                f"touches, got {counted(len(self._segments), 'range')} of up to {longest:,} rows"
            )
        self._pool = self._make_pool() if settings.shuffle == "chunk" else None
        self._epoch = 0
        self._position = 0
        self._begin = 0
        self._loop = 0  # the last one, which alone says where we are
        self._delivered = _Delivered()

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        s = self._settings
        full, rest = divmod(self._index.size, s.batch_size * s.world_size)
        return full + (not s.drop_last and self._share(rest)[0] < self._share(rest)[1])

    def __iter__(self) -> Iterator[Batch]:
        """Begin an epoch; or go on where a loaded state left it."""
        return self.iterate()

    def iterate(
        self,
        worker: int = 0,
        workers: int = 1,
        allocate: Allocate = np.empty,
        *,
        keep: bool = True,
    ) -> Iterator[Batch]:
        """Iterate over batches `worker`, `worker + workers`, ... of those of this rank.

        Parameters
        ----------
        worker, workers
            For several processes that take turns.
        allocate
            Makes the memory of batches, of a shape and data type: an array that is no view of
            another one.
        keep
            Whether memory is kept, to be used again as `reuse` says. If not, `allocate` makes that
            of every batch, which is its first windows.
        """
        begin, self._begin = self._begin, 0
        self._go_to(self._epoch, begin)
        s, ready = self._settings, self._ready
        shapes = {
            name: ((s.batch_size, window.length, *window.row), window.dtype)
            for name, window in self._windows.items()
        }
        most = ready + 1 if keep else 0
        buffers = Buffers(shapes, most, reuse=s.reuse, allocate=allocate)
        size_pool()
        batches = self._batches(self._order(self._epoch), begin, worker, workers, buffers)
        return _Epoch(self, Prefetch(batches, ready), self._loop)

    def _go_to(self, epoch: int, position: int) -> None:
        """Be somewhere, whatever loops that began before still do."""
        self._epoch, self._position = epoch, position
        self._loop += 1

    def _reach(self, loop: int, position: int | None) -> None:
        """A loop is at a position; None if it has finished the epoch."""
        if loop != self._loop:
            return
        if position is None:
            self._go_to(self._epoch + 1, 0)
        else:
            self._position = position

    def _batches(
        self, order: Order, begin: int, worker: int, workers: int, buffers: Buffers
    ) -> Iterator[tuple[Batch, int]]:
        """Make batches, each with the position behind its global batch."""
        s = self._settings
        steps = list[tuple[int, int, int]]()
        ahead = max(1, _ORDERED_AT_ONCE // s.batch_size)
        for number, step in enumerate(self._steps(begin)):
            if number % workers == worker:
                steps.append(step)
            if len(steps) == ahead:
                yield from self._read(order, steps, buffers)
                steps.clear()
        yield from self._read(order, steps, buffers)

    def _steps(self, begin: int) -> Iterator[tuple[int, int, int]]:
        """Positions of our batches, from one to another, and the end of their global batches."""
        s, size = self._settings, self._index.size
        for start in range(begin, size, s.batch_size * s.world_size):
            windows = min(size - start, s.batch_size * s.world_size)
            if s.drop_last and windows < s.batch_size * s.world_size:
                return
            low, high = self._share(windows)
            if low < high:
                yield start + low, start + high, start + windows

    def _share(self, windows: int) -> tuple[int, int]:
        """Our part of a global batch."""
        s = self._settings
        return windows * s.rank // s.world_size, windows * (s.rank + 1) // s.world_size

    def _read(
        self, order: Order, steps: Sequence[tuple[int, int, int]], buffers: Buffers
    ) -> Iterator[tuple[Batch, int]]:
        if not steps:
            return
        positions = np.concatenate([np.arange(low, high) for low, high, _ in steps])
        pools, ids = order.pools(positions), order.ids(positions)
        anchors = self._index.anchors(ids)
        at = 0
        for low, high, end in steps:
            batch, windows = buffers.take(), slice(at, at + high - low)
            # What one pool needs is read before another one displaces it.
            edges = np.flatnonzero(np.diff(pools[windows])) + 1
            done = 0
            for some in np.split(anchors[windows], edges):
                self._reader.fill(batch, done, some)
                done += len(some)
            at += done
            yield {name: values[:done] for name, values in batch.items()}, end
            del batch

    def _order(self, epoch: int) -> Order:
        s = self._settings
        if self._pool is not None:
            return Pooled(self._runs(self._pool, epoch), self._pool.runs, s.seed, epoch)
        if s.shuffle == "global":
            return Shuffled(self._index.size, s.seed, epoch)
        return Sequential()

    def _runs(self, pool: _Pool, epoch: int) -> Rows:
        """Windows that begin the runs of an epoch: they begin at other chunks in every epoch."""
        chunks = pool.rows // pool.chunk
        phase = key_of(self._settings.seed, epoch, chunks) % chunks * pool.chunk
        rows = [
            np.concatenate(
                ([source.first], np.arange(source.first + phase, source.stop, pool.rows))
            )
            for source in self._sources
        ]
        begins = self._index.begins(np.concatenate(rows))
        return np.unique(np.concatenate((begins, [0, self._index.size])))

    def _make_pool(self) -> _Pool:
        arrays = [arrays[0] for arrays in self._reader.arrays.values()]
        row_nbytes = [_row_nbytes(array) for array in arrays]
        chunk = arrays[int(np.argmax(row_nbytes))].chunks[0]
        reach = self._index.reach - 1

        def nbytes(rows: int) -> int:
            return sum(
                (-(-(rows + reach) // a.chunks[0]) + (rows % a.chunks[0] > 0)) * a.chunks[0] * n
                for a, n in zip(arrays, row_nbytes, strict=True)
            )

        chunks = _RUN_CHUNKS * max(1, -(-reach // chunk))
        limit = self._settings.cache_bytes
        while chunks > 1 and nbytes(chunks * chunk) * _POOL_RUNS > limit:
            chunks //= 2
        run = max(1, nbytes(chunks * chunk))
        if run > limit:
            raise ValueError(
                f"cache_bytes: expected at least {run} for shuffle='chunk', the decoded bytes of "
                f"the chunks of {chunk:,} rows that windows reach into, got {limit}"
            )
        return _Pool(chunks * chunk, chunk, limit // run, limit // run * run)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next loop delivers, or that is being delivered."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Deliver this epoch next, from its beginning unless it is the current one."""
        if index(epoch) != self._epoch:
            self._begin = 0
            self._go_to(index(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on behind the last batch that was delivered: a little JSON.

        It is the same on all ranks after as many batches, and good for any number of ranks, any
        `batch_size`, and any number of threads.
        """
        return {"epoch": self._epoch, "position": self._position, "order": self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the next loop.

        Raises
        ------
        ValueError
            If that is no such state, or if the windows or their order are others: other rows,
            arrays, length, stride, shuffle or seed; or cache_bytes, with `shuffle="chunk"`.
        """
        try:
            epoch, position, order = (state[key] for key in ("epoch", "position", "order"))
            position, epoch = index(position), index(epoch)
        except (KeyError, TypeError) as e:
            raise ValueError(f"expected what state_dict() gave, got {state!r}") from e
        ours = self._identity()
        theirs = order if isinstance(order, dict) else {}
        if theirs != ours:
            differ = [
                f"{k} {theirs.get(k)!r}, not {ours[k]!r}" for k in ours if theirs.get(k) != ours[k]
            ]
            raise ValueError(
                "expected the state of a loader with the same windows in the same order, got one "
                f"with {'; '.join(differ)}"
            )
        if not 0 <= position <= self._index.size:
            raise ValueError(f"expected a position up to {self._index.size}, got {position}")
        self._begin = position
        self._go_to(epoch, position)

    def _identity(self) -> dict[str, Any]:
        """What the order of windows depends on."""
        places = np.array([(s.first, s.stop) for s in self._sources], np.int64)
        rows = hashlib.sha256(self._segments.tobytes() + places.tobytes()).hexdigest()[:16]
        pool = self._pool and (
            f"{self._pool.runs} runs of {self._pool.rows} rows, of chunks of {self._pool.chunk}"
        )
        return {
            "windows": self._index.size,
            "rows": rows,
            "touched": [self._index.low, self._index.high],
            "stride": self._settings.stride,
            "shuffle": self._settings.shuffle,
            "seed": self._settings.seed,
            "pool (of cache_bytes)": pool,
        }

    def split(self, *, gap: int = 0, **fractions: float) -> dict[str, Self]:
        """Split the rows of each series in the order of time, so that no part sees another.

        With `time`, several series are cut at the same times: those at which the series with most
        rows reaches the fractions. Without, each is cut at its own rows.

        Parameters
        ----------
        gap
            Rows to leave out between parts. No window crosses from one part into the next anyway.
        fractions
            Name and share of each part, as in `split(train=0.8, valid=0.1)`; the rest is left out.

        Returns
        -------
        A loader for each part, each with a cache and threads of its own.

        Raises
        ------
        ValueError
            If shares are not positive or more than 1 in all, or if a part has no window.
        """
        if not fractions or min(fractions.values()) <= 0 or sum(fractions.values()) > 1 + 1e-9:
            raise ValueError(
                f"expected positive shares of at most 1 in all, as in split(train=0.8, valid=0.2), "
                f"got {fractions}"
            )
        if index(gap) < 0:
            raise ValueError(f"gap: expected at least 0 rows, got {gap}")
        parts = _series.split(
            self._sources, self._segments, list(fractions.values()), self._settings.time, gap
        )
        return {
            name: self._with(segments=rows) for name, rows in zip(fractions, parts, strict=True)
        }

    def with_rank(self, rank: int, world_size: int) -> Self:
        """Give a loader of the same windows for another rank, at the same place."""
        changed = dataclasses.replace(self._settings, rank=rank, world_size=world_size)
        return self._with(settings=changed, place=(self._epoch, self._position, self._position))

    def _with(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other.__setstate__(self.__getstate__() | {"place": (0, 0, 0)} | changes)
        return other

    @property
    def _place(self) -> tuple[int, int, int]:
        return self._epoch, self._begin, self._position

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "sources": self._sources,
            "segments": self._segments,
            "place": self._place,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._settings, self._sources = state["settings"], state["sources"]
        self._segments = state["segments"]
        self._open()
        self._epoch, self._begin, self._position = state["place"]

    def stats(self) -> LoaderStats:
        """Give what was delivered so far, what it cost, and what the consumer waited for."""
        arrays = [a.stats() for several in self._reader.arrays.values() for a in several]
        names = [field.name for field in dataclasses.fields(ReadStats)]
        sums = {name: sum(getattr(stats, name) for stats in arrays) for name in names}
        return LoaderStats(**dataclasses.asdict(self._delivered), **sums)

    @property
    def _batch_nbytes(self) -> int:
        return self._settings.batch_size * sum(w.nbytes for w in self._windows.values())

    @property
    def _ready(self) -> int:
        """Batches that may be ready, the one that is being made among them."""
        s = self._settings
        return max(1, min(s.prefetch, s.prefetch_bytes // max(self._batch_nbytes, 1)))

    def describe(self) -> str:
        """Say in words and numbers what the loader reads, holds and delivers."""
        s, i = self._settings, self._index
        rows = int(np.diff(self._segments).sum())
        series = len({source.series for source in self._sources})
        lines = [f"{i.size:,} windows that touch {i.reach:,} rows, one every {s.stride:,} rows"]
        lines.append(
            f"of {rows:,} rows in {counted(len(self._segments), 'range')} without a gap, of "
            f"{counted(len(self._sources), 'source')} in {series:,} series"
        )
        for name, w in self._windows.items():
            array = self._reader.arrays[w.member][0]
            shape = (s.batch_size, w.length, *w.row)
            cast = f" cast to {w.cast}" if w.cast else ""
            lines.append(
                f"  {name}: {w.member or 'the array'} ({array.dtype}{cast}), shape {shape}, rows "
                f"{w.offset} to {w.last} in steps of {w.step} from the first of a window"
            )
        ready = self._ready
        lines.append(
            f"{len(self):,} batches of up to {s.batch_size:,} windows in an epoch for rank "
            f"{s.rank} of {s.world_size}, {in_bytes(self._batch_nbytes)} each, {ready} ready"
        )
        lines.append(f"order: {self._describe_order()}")
        held = s.cache_bytes + (ready + 1) * self._batch_nbytes
        lines.append(
            f"holds up to {in_bytes(held)}: {in_bytes(s.cache_bytes)} of decoded chunks and "
            f"{ready + 1} batches"
        )
        return "\n".join(lines)

    def _describe_order(self) -> str:
        s, pool = self._settings, self._pool
        if pool is not None:
            chunks = pool.rows // pool.chunk
            more = -(-(self._index.reach - 1) // pool.chunk)
            return (
                f"runs of {counted(chunks, 'chunk')} ({pool.rows:,} rows) shuffled, and the "
                f"windows of {counted(pool.runs, 'run')} at a time ({in_bytes(pool.nbytes)} "
                f"decoded); each chunk is decoded {1 + more / chunks:.2f} times in an epoch; "
                f"seed {s.seed}"
            )
        if s.shuffle == "global":
            decoded = sum(
                (1 + (w.last - w.offset) / a.chunks[0]) * a.chunks[0] * _row_nbytes(a)
                for w in self._windows.values()
                for a in self._reader.arrays[w.member][:1]
            )
            return (
                f"every window anywhere: {in_bytes(decoded)} to decode for a window, less what is "
                f"found decoded; seed {s.seed}"
            )
        return "that of the rows"

    def __repr__(self) -> str:
        s = self._settings
        return (
            f"<tempozarr.WindowLoader {self._index.size:,} windows, {len(self):,} batches, "
            f"shuffle={s.shuffle!r}, epoch {self._epoch}>"
        )


def _row_nbytes(array: Array) -> int:
    """Bytes of a row when it is decoded."""
    return array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))


class _Epoch:
    """The batches of an epoch."""

    def __init__(
        self, loader: WindowLoader, batches: Prefetch[tuple[Batch, int]], loop: int
    ) -> None:
        self._loader = loader
        self._batches = batches
        self._loop = loop
        self._broken = False  # then the end is not that of the epoch
        self._since: float | None = None
        self._waited = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._since is None:
            self._since = clock.perf_counter()
        try:
            batch, end = next(self._batches)
        except StopIteration:
            self._count(0)
            if not self._broken:
                self._loader._reach(self._loop, None)  # noqa: SLF001
            raise
        except BaseException:
            self._broken = True
            raise
        self._count(len(next(iter(batch.values()))))
        self._loader._reach(self._loop, end)  # noqa: SLF001
        return batch

    def close(self) -> None:
        """Stop the thread. The epoch is not finished by that."""
        self._broken = True
        self._batches.close()

    def _count(self, windows: int) -> None:
        now = clock.perf_counter()
        delivered = self._loader._delivered  # noqa: SLF001
        delivered.windows += windows
        delivered.batches += windows > 0
        delivered.elapsed += now - (self._since or now)
        delivered.waited += self._batches.waited - self._waited
        self._since, self._waited = now, self._batches.waited
