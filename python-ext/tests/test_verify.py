"""`tempozarr.verify` and `tempozarr.info`: injected faults are found and named, sound stores are sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

import tempozarr
from conftest import ARRAYS, create
from tempozarr._verify import checksum

MISSING = 2**64 - 1


# -- faults that are injected ------------------------------------------------------------------


@dataclass
class Shard:
    """A shard, taken apart without tempozarr."""

    data: bytes
    at_end: bool
    grid: tuple[int, ...]

    @property
    def index_range(self) -> tuple[int, int]:
        size = int(np.prod(self.grid)) * 16 + 4
        start = len(self.data) - size if self.at_end else 0
        return start, start + size

    @property
    def index(self) -> NDArray[np.uint64]:
        start, stop = self.index_range
        return np.frombuffer(self.data[start : stop - 4], "<u8").reshape(-1, 2)

    def with_index(self, index: NDArray[np.uint64]) -> bytes:
        start, stop = self.index_range
        encoded = numcodecs.CRC32C(location="end").encode(index.astype("<u8").tobytes())
        return self.data[:start] + bytes(encoded) + self.data[stop:]

    def where(self, byte: int) -> tuple[int, ...] | None:
        """Subchunk that a byte belongs to; None for the index."""
        for number, (start, size) in enumerate(self.index.tolist()):
            if start <= byte < start + size:
                return tuple(int(i) for i in np.unravel_index(number, self.grid))
        start, stop = self.index_range
        assert start <= byte < stop
        return None


Place = tuple[str, tuple[int, ...], tuple[int, ...] | None]

# name -> (chunks, shards, index at the end)
LAYOUTS: dict[str, Any] = {
    "sharded": ((10, 4), (40, 8), True),
    "index_first": ((10, 8), (30, 8), False),
    "plain": ((25, 4), None, True),
}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A store with checksums, of which every chunk is stored."""
    root = zarr.create_group(tmp_path / "store")
    data = np.random.default_rng(1).normal(size=(120, 8)).astype("f4")
    for name, (chunks, shards, at_end) in LAYOUTS.items():
        array = root.create_array(
            name,
            shape=data.shape,
            dtype="f4",
            chunks=chunks,
            shards=shards and zarr.codecs.ShardingCodec and {
                "shape": shards, "index_location": "end" if at_end else "start"
            },
            compressors=[ZstdCodec(), Crc32cCodec()],
        )
        array[...] = data
    return tmp_path / "store"


def chunk_of(file: Path, array: Path) -> tuple[int, ...]:
    return tuple(map(int, file.relative_to(array / "c").parts))


def shard_of(store: Path, name: str, data: bytes) -> Shard | None:
    chunks, shards, at_end = LAYOUTS[name]
    if shards is None:
        return None
    return Shard(data, at_end, tuple(s // c for s, c in zip(shards, chunks, strict=True)))


def flip(rng: Any, data: bytes, shard: Shard | None) -> tuple[bytes, set[Any]]:
    place = int(rng.integers(len(data)))
    changed = bytearray(data)
    changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed), {shard.where(place) if shard else None}


def truncate(rng: Any, data: bytes, shard: Shard | None) -> tuple[bytes, set[Any]]:
    length = int(rng.integers(len(data)))
    if shard is None or shard.at_end or length < shard.index_range[1]:
        return data[:length], {None}
    cut = {
        tuple(int(i) for i in np.unravel_index(number, shard.grid))
        for number, (start, size) in enumerate(shard.index.tolist())
        if start + size > length
    }
    return data[:length], cut


def remove(rng: Any, data: bytes, shard: Shard | None) -> tuple[None, set[Any]]:
    return None, {None}


def zero(rng: Any, data: bytes, shard: Shard | None) -> tuple[bytes, set[Any]]:
    """Bytes that are not there, though the index says so, as in a file with a hole."""
    if shard is None:
        return bytes(len(data)), {None}
    number = int(rng.integers(len(shard.index)))
    start, size = shard.index[number].tolist()
    subchunk = tuple(int(i) for i in np.unravel_index(number, shard.grid))
    return data[:start] + bytes(size) + data[start + size :], {subchunk}


def misplace(rng: Any, data: bytes, shard: Shard | None) -> tuple[bytes, set[Any]]:
    """An index with a sound checksum that says where nothing is."""
    if shard is None:
        return data + b"\0", {None}
    number = int(rng.integers(len(shard.index)))
    index = shard.index.copy()
    index[number, 0] = rng.choice([len(data), 2**63, MISSING - 1])
    return shard.with_index(index), {tuple(int(i) for i in np.unravel_index(number, shard.grid))}


KINDS = [flip] * 12 + [truncate] * 4 + [remove, zero, misplace, misplace]


def test_each_of_100_faults_is_found_and_named(sound: Path) -> None:
    assert tempozarr.verify(sound, complete=True).faults == ()
    rng = np.random.default_rng(20260101)
    chunks = [(name, file) for name in LAYOUTS for file in sorted((sound / name).rglob("[0-9]")) if file.is_file()]
    for i in range(100):
        name, file = chunks[int(rng.integers(len(chunks)))]
        data = file.read_bytes()
        changed, subchunks = KINDS[i % len(KINDS)](rng, data, shard_of(sound, name, data))
        if changed is None:
            file.unlink()
        else:
            file.write_bytes(changed)
        report = tempozarr.verify(sound, complete=True)
        expected = {(name, chunk_of(file, sound / name), subchunk) for subchunk in subchunks}
        found = {(fault.array, fault.chunk, fault.subchunk) for fault in report.faults}
        assert found == expected, (i, KINDS[i % len(KINDS)], report.faults)
        key = file.relative_to(sound / name).as_posix()
        assert all(fault.file == key for fault in report.faults)
        file.write_bytes(data)
    assert tempozarr.verify(sound, complete=True).faults == ()


def test_faults_do_not_hide_each_other(sound: Path) -> None:
    """All faults of all arrays come from one run; rows are those that are concerned."""
    plain = sorted((sound / "plain/c").rglob("1"))
    for file in (sound / "sharded/c").rglob("0"):
        if file.is_file():
            shard = shard_of(sound, "sharded", file.read_bytes())
            assert shard
            data = bytearray(shard.data)
            for start, size in shard.index.tolist():
                data[start + size // 2] ^= 1
            file.write_bytes(data)
    damaged = [file for file in plain if file.is_file()]
    for file in damaged:
        file.write_bytes(b"")
    report = tempozarr.verify(sound)
    assert len(report.faults) == 3 * 8 + len(damaged)
    fault = next(fault for fault in report.faults if fault.chunk == (1, 0) and fault.subchunk == (2, 1))
    assert fault.rows == (60, 70)
    assert str(fault).startswith("sharded, chunk (1, 0), subchunk (2, 1), rows 60:70, c/1/0: ")
    assert {fault.rows for fault in report.faults if fault.array == "plain"} <= {
        (0, 25), (25, 50), (50, 75), (75, 100), (100, 120),
    }
    assert {fault.kind for fault in report.faults} == {"damaged"}
    assert not report.ok


def test_subchunks_that_overlap(sound: Path) -> None:
    file = sound / "sharded/c/0/0"
    shard = shard_of(sound, "sharded", file.read_bytes())
    assert shard
    for index, expected in (
        (shard.index[[0, 0, *range(2, 8)]], {(0, 1)}),
        (np.where(np.arange(8)[:, None] == 7, [[shard.index_range[0] - 1, 9]], shard.index), {(3, 1)}),
    ):
        file.write_bytes(shard.with_index(index))
        report = tempozarr.verify(sound)
        overlaps = {fault.subchunk for fault in report.faults if "overlap" in fault.message}
        assert overlaps == expected
        assert report["sharded"].unused_nbytes > 0


def test_what_is_missing(sound: Path) -> None:
    """Chunks that are not stored are fill value, unless they have to be stored."""
    (sound / "plain/c/1/0").unlink()
    (sound / "index_first/c/3/0").unlink()
    file = sound / "sharded/c/2/0"
    shard = shard_of(sound, "sharded", file.read_bytes())
    assert shard
    index = shard.index.copy()
    index[5] = MISSING
    file.write_bytes(shard.with_index(index))

    report = tempozarr.verify(sound)
    assert report.ok
    assert (report["plain"].chunks, report["plain"].expected, report["plain"].holes) == (9, 10, 1)
    assert (report["index_first"].chunks, report["index_first"].holes) == (3, 0)
    assert (report["sharded"].subchunks, report["sharded"].missing_subchunks) == (23, 1)
    assert report.warnings == (
        "plain: 1 chunk not stored before the last one, the first is (1, 0): read as the fill value",
    )

    report = tempozarr.verify(sound, complete=True)
    assert {(f.array, f.kind, f.chunk, f.subchunk) for f in report.faults} == {
        ("plain", "missing", (1, 0), None),
        ("index_first", "missing", (3, 0), None),
        ("sharded", "missing", (2, 0), (2, 1)),
    }


def test_missing_chunks_are_not_named_without_end(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(10**15,), chunks=(1,), dtype="i1")
    report = tempozarr.verify(tmp_path / "a", complete=True)
    assert len(report.faults) == 1001
    assert report.faults[-1].message == "999,999,999,999,000 more chunks are not stored"
    assert "0 of 1,000,000,000,000,000" in str(tempozarr.info(tmp_path / "a"))


def test_subchunks_beyond_the_array_need_not_be_stored(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(13,), chunks=(2,), shards=(8,), dtype="i4")
    array[...] = np.arange(1, 14)
    report = tempozarr.verify(tmp_path / "a", complete=True)
    assert report.ok
    assert (report[""].subchunks, report[""].missing_subchunks) == (7, 0)


# -- stores of every kind ----------------------------------------------------------------------


def test_every_array_is_sound(stores: Path) -> None:
    report = tempozarr.verify(stores, against=stores)
    assert report.faults == ()
    assert set(report) == set(ARRAYS)
    told = tempozarr.info(stores)
    assert told.problems == {}
    for name, (data, _) in ARRAYS.items():
        array = tempozarr.open_array(stores / name)
        found = told.arrays[name]
        assert (found.shape, found.dtype) == (data.shape, str(array.dtype))
        assert found.files == report[name].chunks
        assert found.stored_nbytes == report[name].stored_nbytes
        assert (found.fused, found.explanation) == (array.explain().fused, array.explain().text)


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "empty"])
def test_every_array_may_be_cut_short(tmp_path: Path, name: str) -> None:
    array = create(tmp_path / "a", name)
    array[...] = ARRAYS[name][0]
    for file in (tmp_path / "a").rglob("*"):
        if file.is_file() and file.name not in {"zarr.json", ".zarray", ".zattrs"}:
            file.write_bytes(file.read_bytes()[:-1])
    report = tempozarr.verify(tmp_path / "a")
    assert len(report.faults) == report[""].chunks > 0


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("name", ["default", "v2"])
def test_chunks_by_any_name(tmp_path: Path, name: Any, separator: Any) -> None:
    keys: Any = {"name": name, "separator": separator}
    array = zarr.create_array(
        tmp_path / "a", shape=(4, 3), chunks=(2, 3), dtype="i4", chunk_key_encoding=keys
    )
    array[...] = 1
    assert tempozarr.info(tmp_path / "a").arrays[""].files == 2
    next(file for file in (tmp_path / "a").rglob("*0") if file.is_file()).write_bytes(b"x")
    assert [fault.chunk for fault in tempozarr.verify(tmp_path / "a").faults] == [(0, 0)]


def test_text_that_is_none(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(2,), chunks=(2,), dtype="string", compressors=None)
    array[...] = np.array(["ab", "c"], np.dtypes.StringDType())
    file = tmp_path / "a/c/0"
    file.write_bytes(file.read_bytes().replace(b"ab", b"a\xff"))
    [fault] = tempozarr.verify(tmp_path / "a").faults
    assert "not text" in fault.message or "utf-8" in fault.message


def test_metadata(sound: Path) -> None:
    """Metadata that are damaged are a fault there, and do not stop the rest."""
    document = json.loads((sound / "plain/zarr.json").read_text())
    document["codecs"][-1] = {"name": "no_such_codec"}
    (sound / "plain/zarr.json").write_text(json.dumps(document))
    (sound / "index_first/zarr.json").write_text("{")
    (sound / "sharded/c/0/1").write_bytes(b"")
    (sound / "lost").mkdir()
    report = tempozarr.verify(sound)
    assert list(report) == []
    shutil.rmtree(sound / "sharded/c/0/1", ignore_errors=True)


def test_a_store_without_metadata(tmp_path: Path) -> None:
    with pytest.raises(tempozarr.StoreError, match="expected an array or group at"):
        tempozarr.verify(tmp_path)
    with pytest.raises(tempozarr.StoreError, match="expected an array or group at"):
        tempozarr.info(tmp_path / "none")
