"""The cases: which data, stored how. zarr-python's default pipeline writes them."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec
from zarr.codecs.numcodecs import LZ4, AsType, Delta, Shuffle

from measuring import Tiled, real_array
from tempozarr.codecs import TemporalXOR
from tempozarr.schema import ArraySchema


@dataclass(frozen=True)
class Case:
    """One way of storing one array of the example store, repeated until it is large."""

    key: str
    array: str  # of the example store
    chain: str  # in words
    filters: tuple[Any, ...]
    compressors: tuple[Any, ...]
    rows: int = 4096  # of an (inner) chunk
    shard: int = 16  # inner chunks in a shard; 0 if not sharded
    dtype: str | None = None  # to store the values as, if not as they are
    share: float = 1.0  # of the megabytes asked for
    read: bool = field(default=True, repr=False)  # whether reading all of it is timed
    written: bool = field(default=False, repr=False)  # whether writing is
    windows: bool = field(default=False, repr=False)  # whether reading windows is

    @property
    def layout(self) -> tuple[int, int | None]:
        """Rows of a chunk and of a shard."""
        return self.rows, self.rows * self.shard or None

    def schema(self, data: np.ndarray) -> ArraySchema:
        """Return the schema of the array."""
        return ArraySchema(
            name=self.array,
            dtype=data.dtype,
            row_shape=data.shape[1:],
            codecs=(*self.filters, BytesCodec(), *self.compressors),
            fill_value=0,
        )

    def tiled(self, symbol: str, megabytes: float) -> Tiled:
        """Return the data of a symbol."""
        base = real_array(symbol, self.array)
        return Tiled.of(base.astype(self.dtype or base.dtype), megabytes * self.share)

    def create(self, path: Path, tiled: Tiled, **attributes: Any) -> zarr.Array:
        """Create the array, without its data."""
        row = tiled.base.shape[1:]
        rows, shard = self.layout
        return zarr.create_array(
            path,
            shape=tiled.shape,
            dtype=tiled.base.dtype,
            chunks=(rows, *row),
            shards=(shard, *row) if shard else None,
            filters=self.filters,
            serializer=BytesCodec(),
            compressors=self.compressors,
            fill_value=0,
            attributes=attributes,
            overwrite=True,
        )

    def write(self, path: Path, tiled: Tiled) -> Iterator[int]:
        """Write the case, unless an earlier run did; yield bytes as they are written."""
        identity = [tiled.rows, zlib.crc32(tiled.base.tobytes()), repr(self)]
        try:
            if zarr.open_array(path, mode="r").attrs.get("complete") == identity:
                return
        except FileNotFoundError:
            pass
        stored = self.create(path, tiled)
        yield from tiled.write_to(stored)
        stored.attrs["complete"] = identity


ZSTD = (ZstdCodec(level=3),)
XOR = TemporalXOR(axis=0)
P1: dict[str, Any] = {
    "array": "book",
    "chain": "float32 as float16, temporal_xor, shuffle 2, zstd 3",
    "filters": (AsType(encode_dtype="float16", decode_dtype="float32"), XOR),
    "compressors": (Shuffle(elementsize=2), *ZSTD),
}
P4: dict[str, Any] = {
    "array": "book_raw",
    "chain": "zstd 3",
    "filters": (),
    "compressors": ZSTD,
}

CASES = {
    case.key: case
    for case in (
        Case("P1", **P1, written=True, windows=True),
        Case("P1-1024", **P1, rows=1024, read=False, windows=True),
        Case("P1-256", **P1, rows=256, windows=True),
        Case("P1-64", **P1, rows=64),
        Case("P1-flat", **P1, shard=0),
        Case(
            "P2",
            "time_ms",
            "delta int64, zstd 3",
            (Delta(dtype="<i8"),),
            ZSTD,
            share=1 / 3,
            written=True,
        ),
        Case(
            "P3",
            "book_raw",
            "temporal_xor float32, shuffle 4, zstd 3",
            (XOR,),
            (Shuffle(elementsize=4), *ZSTD),
            written=True,
        ),
        Case("P4", **P4, windows=True),
        Case("P4-1024", **P4, rows=1024, read=False, windows=True),
        Case("P4-256", **P4, rows=256, read=False, windows=True),
        Case("P4b", "book", "zstd 3, float16", (), ZSTD, dtype="float16"),
        Case(
            "P5",
            "book_raw",
            "blosc: zstd 3, shuffle 4",
            (),
            (BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", typesize=4),),
        ),
        Case(
            "P5b",
            "book_raw",
            "blosc: lz4, bitshuffle 4",
            (),
            (BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4),),
        ),
        Case(
            "P6",
            "flow",
            "temporal_xor float64, shuffle 8, lz4",
            (XOR,),
            (Shuffle(elementsize=8), LZ4()),
            share=1 / 3,
        ),
    )
}
