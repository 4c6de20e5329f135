"""Chunks in zarr-python's stores: their bytes are fetched and stored here, Rust does the rest."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.array_spec import ArraySpec
    from zarr.storage import StorePath

    from tempozarr import _core

T = TypeVar("T")

# Encoded bytes that wait for Rust, and decoded bytes that become encoded ones at once; about.
_BACKLOG = 64 << 20
# zarr-python's own, which 3.4 lets an array configure: a gap that costs less than a request, and a
# request that is worth being cut in two.
_GAP = 1 << 20
_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a batch: the `number`th of `selected`."""

    selected: _core.Selected
    number: int
    path: StorePath
    spec: ArraySpec
    is_complete: bool


@dataclass(frozen=True, slots=True)
class _Fetched:
    """All bytes of chunk `i`, or the index of a shard and pieces of it; None: it does not exist."""

    i: int
    data: NDArray[Any] | None
    pieces: list[tuple[int, NDArray[Any]]] | None = None

    @property
    def nbytes(self) -> int:
        pieces = sum(piece.nbytes for _, piece in self.pieces or ())
        return pieces + (0 if self.data is None else self.data.nbytes)


class _Requests:
    """Requests to a store: no more at a time than zarr-python's `async.concurrency` says."""

    def __init__(self) -> None:
        self.limit: int = zarr.config.get("async.concurrency") or sys.maxsize
        self._slots = asyncio.Semaphore(self.limit)

    async def get(
        self, path: StorePath, spec: ArraySpec, byte_range: ByteRequest | None = None
    ) -> NDArray[Any] | None:
        async with self._slots:
            with _noting(path, "read"):
                buffer = await path.get(spec.prototype, byte_range)
        return None if buffer is None else np.ascontiguousarray(buffer.as_numpy_array())

    async def put(self, path: StorePath, spec: ArraySpec, encoded: NDArray[Any] | None) -> None:
        async with self._slots:
            with _noting(path, "written"):
                if encoded is None:
                    await path.delete()
                else:
                    await path.set(spec.prototype.buffer.from_array_like(encoded))


@contextmanager
def _noting(path: StorePath, what: str) -> Iterator[None]:
    """Let a store's own errors through, as zarr-python does, with a note of the chunk."""
    try:
        yield
    except Exception as e:
        e.add_note(f"chunk {path} cannot be {what}")
        raise


async def read(chunks: Sequence[Chunk], out: NDArray[Any]) -> list[bool]:
    """Read chunks into `out`; say which exist.

    They are decoded in a thread, those that have come together, while the others are fetched.

    Raises
    ------
    CodecError
        If a chunk does not decode. What the store raises is raised with a note of the chunk.
    """
    requests = _Requests()
    present = [False] * len(chunks)
    indexes: list[tuple[bool, int] | None] = []
    for _, members in _runs(range(len(chunks)), chunks):
        # The chunks of one selection stand together, all of them.
        chunk = chunks[members[0]]
        indexes.extend(chunk.selected.indexes(_coalescing(chunk.spec)[0]))

    async def fetch(i: int) -> _Fetched:
        return await _fetch(requests, i, chunks[i], indexes[i])

    def run(batch: list[_Fetched]) -> None:
        batch.sort(key=lambda fetched: fetched.i)
        by_number = {fetched.i: fetched for fetched in batch}
        for selected, members in _runs(by_number, chunks):
            some = [(chunks[i].number, by_number[i].data, by_number[i].pieces) for i in members]
            selected.read(some, out)
        for fetched in batch:
            present[fetched.i] = fetched.data is not None

    await _stream(len(chunks), requests.limit, fetch, run)
    return present


async def _fetch(
    requests: _Requests, i: int, chunk: Chunk, index: tuple[bool, int] | None
) -> _Fetched:
    path, spec = chunk.path, chunk.spec
    if index is not None:
        at_end, length = index
        first = await requests.get(
            path, spec, SuffixByteRequest(length) if at_end else RangeByteRequest(0, length)
        )
        if first is None:
            return _Fetched(i, None)
        pieces = None
        if first.nbytes == length:
            pieces = await _pieces(requests, chunk, first)
        if pieces is not None:
            return _Fetched(i, first, pieces)
    # Also where the index names bytes that are not there: Rust says what is wrong with the whole.
    return _Fetched(i, await requests.get(path, spec))


async def _pieces(
    requests: _Requests, chunk: Chunk, index: NDArray[Any]
) -> list[tuple[int, NDArray[Any]]] | None:
    """What the selection needs of a shard; None if that is not there, or too much."""
    ranges = chunk.selected.ranges(chunk.number, index, *_coalescing(chunk.spec))
    if ranges is None:
        return None
    gets = (
        requests.get(chunk.path, chunk.spec, RangeByteRequest(start, end)) for start, end in ranges
    )
    pieces: list[tuple[int, NDArray[Any]]] = []
    for (start, end), piece in zip(ranges, await _together(gets), strict=True):
        if piece is None or piece.nbytes != end - start:
            return None
        pieces.append((start, piece))
    return pieces


def _coalescing(spec: ArraySpec) -> tuple[int, int]:
    gap = getattr(spec.config, "sharding_coalesce_max_gap_bytes", _GAP)
    return gap, getattr(spec.config, "sharding_coalesce_max_bytes", _LIMIT)


def _runs(numbers: Any, chunks: Sequence[Chunk]) -> list[tuple[_core.Selected, list[int]]]:
    """Chunks of one selection, which stand together."""
    runs: list[tuple[_core.Selected, list[int]]] = []
    for i in numbers:
        if not runs or runs[-1][0] is not chunks[i].selected:
            runs.append((chunks[i].selected, []))
        runs[-1][1].append(i)
    return runs


async def _stream(
    count: int,
    limit: int,
    fetch: Callable[[int], Awaitable[_Fetched]],
    run: Callable[[list[_Fetched]], None],
) -> None:
    """Fetch `0..count`, up to `limit` at a time, and `run` in a thread what has come meanwhile."""
    if count == 1:
        await asyncio.to_thread(run, [await fetch(0)])
        return
    numbers = iter(range(count))
    ready: list[_Fetched] = []
    held = 0
    news, room = asyncio.Event(), asyncio.Event()
    room.set()

    async def work() -> None:
        nonlocal held
        for i in numbers:
            await room.wait()
            fetched = await fetch(i)
            ready.append(fetched)
            news.set()
            held += fetched.nbytes
            if held >= _BACKLOG:
                room.clear()

    workers = asyncio.gather(_together(work() for _ in range(min(limit, count))))
    workers.add_done_callback(lambda _: news.set())
    try:
        while ready or not workers.done():
            await news.wait()
            news.clear()
            if workers.done():
                workers.result()
            batch = ready[:]
            ready.clear()
            held = 0
            room.set()
            if batch:
                await asyncio.to_thread(run, batch)
    finally:
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all; none goes on when one fails."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(chunks: Sequence[Chunk], value: NDArray[Any]) -> None:
    """Write what is selected of `value` to chunks, merged with what is there.

    While chunks are encoded in a thread, those before them are stored.

    Raises
    ------
    CodecError
        If a value does not encode. What the store raises is raised with a note of the chunk.
    """
    requests = _Requests()
    # Two updates of one chunk must follow each other.
    is_distinct = len({chunk.path.path for chunk in chunks}) == len(chunks)
    storing: Awaitable[list[BaseException | None]] | None = None

    async def stored() -> None:
        if storing is not None:
            for error in await storing:
                if error is not None:
                    raise error

    async def before(chunk: Chunk) -> NDArray[Any] | None:
        if chunk.selected.merges(chunk.number, chunk.is_complete):
            return await requests.get(chunk.path, chunk.spec)
        return None

    try:
        for wave in _waves(chunks, value.itemsize, requests.limit):
            if not is_distinct:
                await stored()
            old = await _together(map(before, wave))
            encoded = await asyncio.to_thread(_encode, wave, old, value)
            await stored()
            puts = (
                requests.put(chunk.path, chunk.spec, data)
                for chunk, data in zip(wave, encoded, strict=True)
            )
            storing = asyncio.ensure_future(asyncio.gather(*puts, return_exceptions=True))
    finally:
        await stored()


def _encode(
    wave: Sequence[Chunk], old: Sequence[NDArray[Any] | None], value: NDArray[Any]
) -> list[NDArray[Any] | None]:
    encoded: list[NDArray[Any] | None] = []
    for selected, members in _runs(range(len(wave)), wave):
        some = [(wave[i].number, wave[i].is_complete, old[i]) for i in members]
        keep_empty = wave[members[0]].spec.config.write_empty_chunks
        encoded.extend(selected.write(some, value, keep_empty))
    return encoded


def _waves(chunks: Sequence[Chunk], item: int, limit: int) -> Iterator[list[Chunk]]:
    """Runs of chunks that are encoded together, in which none stands twice."""
    # Chunks of any size are worth to be stored side by side.
    least = min(limit, 8)
    wave: list[Chunk] = []
    paths: set[str] = set()
    size = 0
    for chunk in chunks:
        if (size >= _BACKLOG and len(wave) >= least) or chunk.path.path in paths:
            yield wave
            wave, paths, size = [], set(), 0
        wave.append(chunk)
        paths.add(chunk.path.path)
        size += math.prod(chunk.spec.shape) * item
    yield wave
