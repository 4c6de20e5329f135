"""Layout planner: how many rows share a chunk, and how many a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from tempozarr import _chains, _core
from tempozarr._by_path import ByPath
from tempozarr._errors import CodecError
from tempozarr._text import aligned, counted, in_bytes
from tempozarr.schema import ArraySchema, GroupSchema

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Sample: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
    ArrayLayout: TypeAlias = "ArrayPlan | tuple[int, int | None]"
    Layout: TypeAlias = Mapping[str, ArrayLayout]

_KIB, _MIB = 1 << 10, 1 << 20
_MAX_CHUNK_ROWS = 1 << 16
# docs/performance.md: below this, what every chunk costs shows; above, threads lack chunks.
_SCAN_CHUNK_NBYTES = 2 * _MIB
_MIN_CHUNK_NBYTES = 64 * _KIB
_TINY_STORED = _MIB
_SHARD_NBYTES = 32 * _MIB
_DEFAULT_BLOCK = 4 * _KIB
_MAX_BLOCK = 64 * _KIB  # network file systems call their transfer size a block
_SAMPLE_CHUNKS = 8
# What a compressor is assumed to gain, beyond what a narrower type does; real books gain more.
_ASSUMED_GAIN = 4.0
_COMPRESSORS = {"zstd", "lz4", "blosc", "gzip", "zlib", "bz2", "lzma", "pcodec"}


@dataclass(frozen=True)
class ArrayPlan:
    """Layout of one array.

    Attributes
    ----------
    chunk_rows
        Rows in a chunk: the least that one read decodes.
    shard_rows
        Rows in a file; None if every chunk is a file.
    row_nbytes
        Decoded bytes of a row.
    ratio
        Decoded bytes divided by stored bytes.
    ratio_source
        Where the ratio is from: "measured", "hint" or "assumed".
    reason
        Why it is this layout.
    """

    chunk_rows: int
    shard_rows: int | None
    row_nbytes: int
    ratio: float
    ratio_source: Literal["measured", "hint", "assumed"]
    reason: str = field(compare=False)

    @property
    def file_rows(self) -> int:
        """Rows in a file."""
        return self.shard_rows or self.chunk_rows

    @property
    def chunk_nbytes(self) -> int:
        """Decoded bytes of a chunk."""
        return self.chunk_rows * self.row_nbytes

    def stored(self, rows: int) -> float:
        """Stored bytes expected of so many rows."""
        return rows * self.row_nbytes / self.ratio


@dataclass(frozen=True)
class Plan(ByPath[ArrayPlan]):
    """Layout of the arrays of a schema, by path; `print(plan)` explains it.

    The only array of an `ArraySchema` has the path "".
    """

    arrays: Mapping[str, ArrayPlan]
    rows: int | None
    window: int | None

    def __str__(self) -> str:
        length = "an unknown number of rows" if self.rows is None else counted(self.rows, "row")
        access = (
            "scans"
            if self.window is None
            else f"windows of {counted(self.window, 'consecutive row')}"
        )
        table = [self._head(), *(self._line(path, array) for path, array in self.items())]
        reasons = [f"{path or 'array'}: {array.reason}" for path, array in self.items()]
        return "\n".join(
            [f"Layout for {length}, read by {access}", "", aligned(table), "", *reasons]
        )

    def _head(self) -> list[str]:
        head = ["array", "row bytes", "ratio", "chunk rows", "decoded", "stored"]
        head += ["shard rows", "stored", "files", "total"]
        return head if self.window is None else [*head, "rows per window"]

    def _line(self, path: str, array: ArrayPlan) -> list[str]:
        shard_rows = array.shard_rows
        sharded = ["-", "-"]
        if shard_rows is not None:
            sharded = [f"{shard_rows:,}", in_bytes(array.stored(shard_rows))]
        expected = ["?", "?"]
        if self.rows is not None:
            expected = [f"{-(-self.rows // array.file_rows):,}", in_bytes(array.stored(self.rows))]
        line = [
            path or "array",
            f"{array.row_nbytes:,}",
            f"{array.ratio:.1f} {array.ratio_source}",
            f"{array.chunk_rows:,}",
            in_bytes(array.chunk_nbytes),
            in_bytes(array.stored(array.chunk_rows)),
            *sharded,
            *expected,
        ]
        if self.window is not None:
            line.append(f"{self.window + array.chunk_rows - 1:,}")
        return line


def layout_by_path(layout: Layout | ArrayLayout | None, paths: Iterable[str]) -> Layout:
    """Layouts of arrays by their paths; one that is given without is of the only array.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it is of other paths.
    """
    given = {"": layout} if isinstance(layout, ArrayPlan | tuple) else layout or {}
    if not isinstance(given, Mapping):
        raise TypeError(
            "layout: expected a tempozarr.Plan, or (rows of a chunk, rows of a shard or None) by "
            f"path, got {layout!r}"
        )
    expected = sorted(paths)
    if unknown := sorted(set(given) - set(expected)):
        raise ValueError(f"layout: expected paths among {expected}, got {unknown}")
    return given


def rows_of(layout: ArrayLayout) -> tuple[int, int | None]:
    """Rows of a chunk and of a shard, of what a user may give as the layout of an array."""
    return layout if isinstance(layout, tuple) else (layout.chunk_rows, layout.shard_rows)


def plan(
    schema: ArraySchema | GroupSchema,
    rows: int | None = None,
    *,
    access: Literal["scan", "windows"] = "scan",
    window: int | None = None,
    sharding: bool = True,
    shard_bytes: int = _SHARD_NBYTES,
    path: str | os.PathLike[str] | None = None,
    sample: Sample | None = None,
) -> Plan:
    """Choose how many rows share a chunk and a file, for each array of a schema.

    All numbers of rows are powers of two, and no chunk has more than 65,536 rows.

    - For scans, chunks decode to 1-2 MiB; for windows, they have half to all of a window's rows,
      so that a window decodes at most twice its rows, but not more than for scans.
    - Chunks neither decode to less than 64 KiB nor are stored as less than a block of the file
      system.
    - Shards are stored as about `shard_bytes`, and not larger than the expected rows need.
    - What is one chunk, or for scans is stored as less than 1 MiB, is not sharded.

    Sizes in a store are estimated by the ratio of compression: measured on `sample`; else the
    schema's `compression_ratio_hint`; else what a narrower type gains, times 4 if there is a
    compressor.

    Parameters
    ----------
    schema
        What to store. Late arrays of a group are not in its plan: how long they are is another
        matter, and `Writer` plans them when it is given them.
    rows
        Number of rows expected; None if unknown, for many.
    access
        How the arrays will be read: "scan" for long ranges, "windows" for short ones anywhere.
    window
        Number of rows in a window.
    sharding
        False to make every chunk a file.
    shard_bytes
        Stored bytes of a shard, about.
    path
        Where the store will be, or anything in the same file system.
    sample
        Rows of the array `(n, *row_shape)`, or of some arrays by their paths. At most 8 chunks of
        it, from its beginning to its end, are encoded.

    Raises
    ------
    ValueError
        If `rows`, `window` or `shard_bytes` cannot be, or a sample is not of its array; a
        `CodecError` if it does not encode.
    """
    rows, window = (None if n is None else index(n) for n in (rows, window))
    _check(rows, access, window, shard_bytes)
    alone = isinstance(schema, ArraySchema)
    arrays = {path: array for path, array in schema.walk() if alone or not array.late}
    samples = _samples(sample, arrays, single=isinstance(schema, ArraySchema))
    planner = _Planner(
        rows=rows,
        window=window,
        shard_bytes=shard_bytes if sharding else None,
        block=_block(path),
    )
    plans = {at: planner.plan(at, array, samples.get(at)) for at, array in arrays.items()}
    return Plan(plans, rows, window)


def chunked(rows: int, row_nbytes: int, ratio: float, window: int | None) -> int:
    """Rows that `plan` lets a chunk have, of an array that is not tiny."""
    planner = _Planner(rows, window, _SHARD_NBYTES, _DEFAULT_BLOCK)
    return planner.chunk(row_nbytes, ratio, planner.wanted_rows(row_nbytes))[0]


def sharded(
    rows: int, row_nbytes: int, ratio: float, chunk_rows: int, window: int | None
) -> int | None:
    """Rows of a shard of chunks of so many; None if one chunk is all."""
    if rows <= chunk_rows:
        return None
    planner = _Planner(rows, window, _SHARD_NBYTES, _DEFAULT_BLOCK)
    return planner.shard(row_nbytes / ratio, chunk_rows, _SHARD_NBYTES)[0]


@dataclass(frozen=True)
class _Planner:
    rows: int | None
    window: int | None
    shard_bytes: int | None  # None: no shards
    block: int

    def plan(self, path: str, schema: ArraySchema, sample: NDArray[Any] | None) -> ArrayPlan:
        """Plan one array, and say why."""
        size = schema.row_nbytes
        wanted = self.wanted_rows(size)
        if sample is not None:
            ratio, source = _measure(path, schema, sample, wanted), "measured"
        elif schema.compression_ratio_hint is not None:
            ratio, source = schema.compression_ratio_hint, "hint"
        else:
            ratio, source = _assumed_ratio(schema), "assumed"
        chunk_rows, why_chunk = self.chunk(size, ratio, wanted)
        shard_rows, why_shard = None, "not sharded, as asked"
        if self.is_tiny(size, ratio, chunk_rows):
            whole = max(_ceil(self.rows or 1), self._least_rows(size, ratio))
            chunk_rows = min(whole, _MAX_CHUNK_ROWS)
            why_chunk = f"all of it is {in_bytes((self.rows or 0) * size / ratio)}"
            why_shard = "too little for shards"
        elif self.shard_bytes is not None:
            shard_rows, why_shard = self.shard(size / ratio, chunk_rows, self.shard_bytes)
        return ArrayPlan(
            chunk_rows=chunk_rows,
            shard_rows=shard_rows,
            row_nbytes=size,
            ratio=ratio,
            ratio_source=source,  # type: ignore[arg-type]
            reason=f"{why_chunk}; {why_shard}.",
        )

    def wanted_rows(self, size: int) -> int:
        """Rows of a chunk, if it only were about reading."""
        scan = min(_floor(_SCAN_CHUNK_NBYTES // size), _MAX_CHUNK_ROWS)
        return scan if self.window is None else min(_floor(self.window), scan)

    def _least_rows(self, size: int, ratio: float) -> int:
        """Rows of the smallest chunk worth its costs."""
        nbytes = max(_MIN_CHUNK_NBYTES, self.block * ratio)
        return min(_ceil(int(-(-nbytes // size))), _MAX_CHUNK_ROWS)

    def chunk(self, size: int, ratio: float, wanted: int) -> tuple[int, str]:
        """Rows of a chunk, and why."""
        least = self._least_rows(size, ratio)
        if least > wanted:
            floor = (
                f"a block of {in_bytes(self.block)} in the store"
                if self.block * ratio > _MIN_CHUNK_NBYTES
                else f"{in_bytes(_MIN_CHUNK_NBYTES)} decoded"
            )
            return least, f"chunks of {counted(least, 'row')}, as fewer are less than {floor}"
        rows = counted(wanted, "row")
        if wanted == _MAX_CHUNK_ROWS:
            return wanted, f"chunks of {rows}, the most that a chunk may have"
        if self.window is not None and wanted == _floor(self.window):
            return wanted, (
                f"chunks of {rows}, so that a window decodes "
                f"{self.window + wanted - 1:,} on average"
            )
        return wanted, f"chunks of {rows}, {in_bytes(wanted * size)} decoded"

    def is_tiny(self, size: int, ratio: float, chunk_rows: int) -> bool:
        """Whether it is too little for shards, or for more than a chunk."""
        if self.rows is None:
            return False
        is_small = self.window is None and self.rows * size / ratio < _TINY_STORED
        return self.rows <= chunk_rows or is_small

    def shard(self, stored: float, chunk_rows: int, shard_bytes: int) -> tuple[int | None, str]:
        """Rows of a shard, and why."""
        chunks = _floor(int(shard_bytes / stored / chunk_rows))
        needed = chunks if self.rows is None else _ceil(-(-self.rows // chunk_rows))
        if chunks == 1:
            return None, f"not sharded: a chunk is {in_bytes(chunk_rows * stored)} in the store"
        count = f"{min(chunks, needed):,} to a shard"
        if needed < chunks:
            return chunk_rows * needed, f"{count}, which holds all rows"
        rows = chunk_rows * chunks
        return rows, f"{count} of {in_bytes(rows * stored)}"


def check_access(access: str, window: int | None) -> None:
    """Refuse an access that is none, or a window that does not go with it."""
    if access not in {"scan", "windows"}:
        raise ValueError(f"access: expected 'scan' or 'windows', got {access!r}")
    if (access == "windows") != (window is not None) or (window is not None and window < 1):
        raise ValueError(
            "window: expected the rows of a window with access='windows', and None without, "
            f"got {window!r} with {access!r}"
        )


def _check(rows: int | None, access: str, window: int | None, shard_bytes: int) -> None:
    if rows is not None and rows < 0:
        raise ValueError(f"rows: expected a number of rows, or None if unknown, got {rows}")
    check_access(access, window)
    if shard_bytes < 1:
        raise ValueError(
            f"shard_bytes: expected a positive number, got {shard_bytes}; "
            "pass sharding=False for no shards"
        )


def _samples(
    sample: Sample | None, arrays: Mapping[str, ArraySchema], *, single: bool
) -> dict[str, NDArray[Any]]:
    """Check the samples; give them as arrays, by path."""
    if sample is None:
        return {}
    if isinstance(sample, Mapping) == single:
        wanted = "rows of the array" if single else "a mapping from paths to rows"
        raise ValueError(f"sample: expected {wanted}, got {type(sample).__name__}")
    by_path = sample if isinstance(sample, Mapping) else {"": sample}
    if unknown := sorted(set(by_path) - set(arrays)):
        raise ValueError(f"sample: expected paths among {sorted(arrays)}, got {unknown}")
    samples = {path: np.asarray(rows) for path, rows in by_path.items()}
    for path, rows in samples.items():
        schema = arrays[path]
        fits = rows.ndim > 0 and len(rows) > 0 and rows.shape[1:] == schema.row_shape
        if not fits or rows.dtype.newbyteorder("=") != schema.numpy_dtype:
            raise ValueError(
                f"sample of {schema.name}: expected at least one row of {schema.dtype}, shape "
                f"(n, {', '.join(map(str, schema.row_shape))}), got {rows.dtype}, {rows.shape}"
            )
    return samples


def _measure(path: str, schema: ArraySchema, sample: NDArray[Any], chunk_rows: int) -> float:
    """Ratio of compression of chunks from all over a sample."""
    length = min(chunk_rows, len(sample))
    count = min(len(sample) // length, _SAMPLE_CHUNKS)
    starts = np.linspace(0, len(sample) - length, count).astype(int)
    document = json.dumps(schema.metadata(length, length))
    pipeline = _core.ChunkPipeline(document, **schema.encoding._asdict())
    stored = 0
    for start in starts:
        chunk = np.ascontiguousarray(sample[start : start + length], schema.numpy_dtype)
        try:
            stored += len(pipeline.encode(chunk))
        except CodecError as e:
            raise CodecError(f"sample of {path or schema.name}, from row {start}: {e}") from e
    return count * length * schema.row_nbytes / stored


def _assumed_ratio(schema: ArraySchema) -> float:
    names = {str(codec["name"]).removeprefix("numcodecs.") for codec in schema.codecs}
    itemsize = schema.numpy_dtype.itemsize
    narrowing = itemsize / _chains.encoded_itemsize(schema.codecs, schema.numpy_dtype)
    return narrowing * (_ASSUMED_GAIN if names & _COMPRESSORS else 1)


def _block(path: str | os.PathLike[str] | None) -> int:
    """Bytes in a block of the file system that a path is in."""
    if path is None or not hasattr(os, "statvfs"):
        return _DEFAULT_BLOCK
    place = Path(path).absolute()
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    try:
        block = os.statvfs(nearest).f_frsize
    except OSError:
        block = 0
    return min(block, _MAX_BLOCK) or _DEFAULT_BLOCK


def _floor(n: int) -> int:
    """Give the largest power of two that is no larger; 1 for less than 1."""
    return 1 << max(n.bit_length() - 1, 0)


def _ceil(n: int) -> int:
    """Give the smallest power of two that is no smaller."""
    return 1 << max(n - 1, 0).bit_length()
