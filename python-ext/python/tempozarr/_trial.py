"""Encodes and decodes a sample by a chain, in memory, and takes the time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tempozarr import _core
from tempozarr._candidates import Chain, largest_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tempozarr.schema import ArraySchema

_TIMED_NBYTES = 16 << 20
_LEAST_WINDOWS, _MOST_WINDOWS = 8, 256
_PARTS = 4
_REPEAT_FOR = 0.05  # seconds, of encoding what is quickly encoded
_MOST_REPEATS = 5


@dataclass(frozen=True)
class Sample:
    """Rows from all over an array.

    Attributes
    ----------
    rows
        Runs of rows, one behind the other.
    starts
        Where in `rows` each run starts, and their number.
    total
        Rows of the array.
    tail
        Its last rows, if it is not in `rows` as a whole.
    """

    rows: NDArray[Any]
    starts: tuple[int, ...]
    total: int
    tail: NDArray[Any] | None

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Start and end of each run in `rows`."""
        return list(zip(self.starts[:-1], self.starts[1:], strict=True))

    def fitting(self, chunk_rows: int) -> int:
        """Rows in a chunk, not more than there are in a run."""
        longest = max(end - start for start, end in self.runs)
        return chunk_rows if self.tail is None else min(chunk_rows, longest)

    def chunks(self, length: int) -> list[tuple[int, int]]:
        """Start and end of the chunks in `rows`: full ones, if `rows` are not all of the array."""
        if self.tail is None:
            edges = [*range(0, len(self.rows), length), len(self.rows)]
            return list(pairwise(edges))
        return [
            (chunk, chunk + length)
            for start, end in self.runs
            for chunk in range(start, end - length + 1, length)
        ]

    def timed_of(self, chunks: list[tuple[int, int]]) -> list[int]:
        """Which chunks to decode for the time it takes: they start in some of the runs."""
        step = max(math.ceil(self.rows.nbytes / _TIMED_NBYTES), 1)
        runs = self.runs[::step]
        found = [i for i, (start, _) in enumerate(chunks) if any(a <= start < b for a, b in runs)]
        return found or [0]

    def part(self, nbytes: int, least_rows: int) -> Sample:
        """Beginnings of runs from all over the sample, of about so many bytes in all.

        Each has at least so many rows. It is the sample itself if that is not more.
        """
        runs = self.runs
        at = sorted({*map(int, np.linspace(0, len(runs) - 1, _PARTS))})
        length = max(nbytes * len(self.rows) // self.rows.nbytes // len(at), least_rows)
        chosen = [(runs[i][0], min(runs[i][0] + length, runs[i][1])) for i in at]
        if sum(end - start for start, end in chosen) >= len(self.rows) / 2:
            return self
        starts = tuple(int(n) for n in np.cumsum([0, *(end - start for start, end in chosen)]))
        rows = np.concatenate([self.rows[start:end] for start, end in chosen])
        return Sample(rows, starts, self.total, self.rows[-1:])


@dataclass(frozen=True)
class Windows:
    """Windows of `length` rows at random places, and memory for them."""

    length: int
    places: NDArray[np.float64]  # each in [0, 1)
    out: NDArray[Any]

    @classmethod
    def of(cls, length: int, sample: Sample, random: np.random.Generator) -> Windows:
        """Choose places."""
        row_nbytes = sample.rows.nbytes // len(sample.rows)
        count = min(max(_TIMED_NBYTES // (length * row_nbytes), _LEAST_WINDOWS), _MOST_WINDOWS)
        out = np.zeros((count * length, *sample.rows.shape[1:]), sample.rows.dtype)
        return cls(length, random.random(count), out)

    def cut(self, chunks: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Which of the chunks are met, once for each time, and which rows of them go where."""
        bounds = [0, *(i for i in range(1, len(chunks)) if chunks[i][0] != chunks[i - 1][1])]
        spans = [chunks[a:b] for a, b in pairwise([*bounds, len(chunks)])]
        spans = [s for s in spans if s[-1][1] - s[0][0] >= self.length]
        if not spans:
            return [], []
        first = {start: i for i, (start, _) in enumerate(chunks)}
        met, pieces = [], []
        for n, place in enumerate(self.places):
            span = spans[n % len(spans)]
            low, high = span[0][0], span[-1][1]
            begin = low + int(place * (high - low - self.length + 1))
            for start, stop in span:
                a, b = max(start, begin), min(stop, begin + self.length)
                if a < b:
                    met.append(first[start])
                    pieces.append((a - start, b - start, n * self.length + a - begin))
        return met, pieces


@dataclass
class Trial:
    """A chain and a number of rows in a chunk, on a sample; times are the shortest ones so far.

    Attributes
    ----------
    stored
        Bytes expected of all rows of the array, without indexes of shards.
    error
        Largest error; None if every bit was read back.
    """

    chain: Chain
    schema: ArraySchema
    chunk_rows: int
    sample: Sample
    stored: float = 0.0
    error: float | None = None
    encode_seconds: float = math.inf
    decode_seconds: float = math.inf
    windows_seconds: float = math.inf
    _encoded_rows: int = 0
    _decoded_rows: int = 0
    _count: int = 0  # of windows
    _read: _Read | None = field(default=None, repr=False)
    _read_windows: _Read | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Equal for equal chains and chunks."""
        return f"{self.chunk_rows} {self.chain.key}"

    @property
    def speed(self) -> float:
        """Windows a second if there are any, else GB/s."""
        return self.windows_per_s if self._count else self.decode_gbs

    @property
    def score(self) -> float:
        """Speed for the size."""
        return self.speed / max(self.stored, 1)

    @property
    def encode_gbs(self) -> float:
        """Bytes of rows that are encoded in a second, in units of 10^9."""
        return self._encoded_rows * self.schema.row_nbytes / self.encode_seconds / 1e9

    @property
    def decode_gbs(self) -> float:
        """Bytes of rows that are decoded in a second, in units of 10^9."""
        return self._decoded_rows * self.schema.row_nbytes / self.decode_seconds / 1e9

    @property
    def windows_per_s(self) -> float:
        """Windows that are read in a second."""
        return self._count / self.windows_seconds

    def encode(self, out: NDArray[Any], windows: Windows | None, *, relative: bool) -> None:
        """Encode the sample, decode some of it into `out`, and compare.

        Parameters
        ----------
        out
            Memory for all rows of the sample.
        """
        rows, length = self.sample.rows, self.sample.fitting(self.chunk_rows)
        pipeline = _core.ChunkPipeline(
            json.dumps(self.chain.schema(self.schema).metadata(length, length)),
            **self.chain.encoding._asdict(),
        )
        chunks = self.sample.chunks(length)
        pieces = [(0, stop - start, start) for start, stop in chunks]
        selected = _select(pipeline, pieces, rows.shape)
        jobs = [(i, stop - start == length, None) for i, (start, stop) in enumerate(chunks)]
        began = time.perf_counter()
        for _ in range(_MOST_REPEATS):
            turn = time.perf_counter()
            encoded = selected.write(jobs, rows, write_empty_chunks=False)
            self.encode_seconds = min(self.encode_seconds, time.perf_counter() - turn)
            if time.perf_counter() - began > _REPEAT_FOR:
                break
        self._encoded_rows = sum(stop - start for start, stop in chunks)
        self.stored = sum(len(chunk) for chunk in encoded if chunk is not None)
        if self.sample.tail is not None:
            self.stored *= (self.sample.total // length) / len(chunks)
            self.stored += self._last(pipeline, length)

        timed = self.sample.timed_of(chunks)
        spans = [chunks[i] for i in timed]
        self._decoded_rows = sum(stop - start for start, stop in spans)
        jobs_of = [(n, encoded[i], None) for n, i in enumerate(timed)]
        pieces = [pieces[i] for i in timed]
        self._read = _Read(_select(pipeline, pieces, out.shape), jobs_of, out)
        self.decode()
        for start, stop in spans:
            error = largest_error(out[start:stop], rows[start:stop], relative=relative)
            if error is not None:
                self.error = max(error, self.error or 0.0)
        if windows is not None:
            met, pieces = windows.cut(spans)
            self._count = len(windows.places) if met else 0
            jobs_of = [(n, encoded[timed[i]], None) for n, i in enumerate(met)]
            selected = _select(pipeline, pieces, windows.out.shape)
            self._read_windows = _Read(selected, jobs_of, windows.out)

    def decode(self) -> None:
        """Decode once more what is timed."""
        assert self._read is not None  # noqa: S101
        self.decode_seconds = min(self.decode_seconds, self._read.seconds())
        if self._read_windows is not None:
            self.windows_seconds = min(self.windows_seconds, self._read_windows.seconds())

    def forget(self) -> None:
        """Give encoded chunks back to the system."""
        self._read = self._read_windows = None

    def _last(self, pipeline: _core.ChunkPipeline, length: int) -> int:
        """Bytes of the last chunk of the array, if it is not full."""
        assert self.sample.tail is not None  # noqa: S101
        count = min(self.sample.total % length, len(self.sample.tail))
        if not count:
            return 0
        rows = self.sample.tail[-count:]
        selected = _select(pipeline, [(0, count, 0)], rows.shape)
        [encoded] = selected.write([(0, False, None)], rows, write_empty_chunks=False)
        return 0 if encoded is None else len(encoded)


@dataclass(frozen=True)
class _Read:
    """Encoded chunks, and where their rows go."""

    selected: _core.Selected
    chunks: list[tuple[int, Any, None]]
    out: NDArray[Any]

    def seconds(self) -> float:
        """Decode them."""
        began = time.perf_counter()
        self.selected.read(self.chunks, self.out)
        return time.perf_counter() - began


def _select(
    pipeline: _core.ChunkPipeline, pieces: list[tuple[int, int, int]], shape: tuple[int, ...]
) -> _core.Selected:
    """Select `(first row in the chunk, end, first row in the array)` of chunks."""
    whole = tuple(slice(0, n) for n in shape[1:])
    tasks = [
        (str(i), (slice(start, stop), *whole), (slice(at, at + stop - start), *whole))
        for i, (start, stop, at) in enumerate(pieces)
    ]
    return pipeline.select(tasks, shape, ())
