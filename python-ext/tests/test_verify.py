"""`tempozarr.verify` and `tempozarr.info`: injected faults are found and named, sound stores are sound."""

from __future__ import annotations

import json
import re
import shutil
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
from tempozarr._chunks import Keys
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
            shards=shards and {"shape": shards, "index_location": "end" if at_end else "start"},
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
    index[number, 0] = [len(data), 2**63, MISSING - 1][int(rng.integers(3))]
    return shard.with_index(index), {tuple(int(i) for i in np.unravel_index(number, shard.grid))}


KINDS = [flip] * 12 + [truncate] * 4 + [remove, zero, misplace, misplace]


def test_each_of_100_faults_is_found_and_named(sound: Path) -> None:
    assert tempozarr.verify(sound, complete=True).faults == ()
    rng = np.random.default_rng(20260101)
    chunks = [
        (name, file)
        for name in LAYOUTS
        for file in sorted((sound / name).rglob("[0-9]"))
        if file.is_file()
    ]
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
    fault = next(
        fault for fault in report.faults if fault.chunk == (1, 0) and fault.subchunk == (2, 1)
    )
    assert fault.rows == (60, 70)
    assert str(fault).startswith("sharded, chunk (1, 0), subchunk (2, 1), rows 60:70, c/1/0: ")
    assert {fault.rows for fault in report.faults if fault.array == "plain"} <= {
        (0, 25),
        (25, 50),
        (50, 75),
        (75, 100),
        (100, 120),
    }
    assert {fault.kind for fault in report.faults} == {"damaged"}
    assert not report.ok


def test_subchunks_that_overlap(sound: Path) -> None:
    file = sound / "sharded/c/0/0"
    shard = shard_of(sound, "sharded", file.read_bytes())
    assert shard
    for index, expected in (
        (shard.index[[0, 0, *range(2, 8)]], {(0, 1)}),
        (
            np.where(np.arange(8)[:, None] == 7, [[shard.index_range[0] - 1, 9]], shard.index),
            {(3, 1)},
        ),
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
    array = zarr.create_array(
        tmp_path / "a", shape=(2,), chunks=(2,), dtype="string", compressors=None
    )
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
    (sound / "odd").mkdir()
    (sound / "odd/zarr.json").write_text('{"node_type": "table"}')
    (sound / "lost").mkdir()
    report = tempozarr.verify(sound)
    assert list(report) == ["sharded"]
    assert {fault.array: fault.message.split(":")[0] for fault in report.faults} == {
        "index_first": f"expected JSON in {sound}/index_first/zarr.json",
        "odd": f"expected the node_type array or group in {sound}/odd/zarr.json, got 'table'",
        "plain": "not checked, as it cannot be opened",
    }
    assert report.warnings == ("lost: a folder without zarr.json, .zarray or .zgroup",)
    told = tempozarr.info(sound)
    assert set(told.problems) == {"index_first", "odd", "plain", "lost"}
    assert "├── plain  [120, 8], cannot be opened: " in str(told)

    (sound / "zarr.json").write_text("")
    assert [fault.array for fault in tempozarr.verify(sound).faults] == [""]


def test_names_of_chunks_that_nobody_knows() -> None:
    text = "expected 'default' or 'v2' with a separator '/' or '.', got 'default_suffix' with '.'"
    with pytest.raises(tempozarr.MetadataError, match=re.escape(text)):
        Keys({"shape": [1], "chunk_key_encoding": {"name": "default_suffix"}})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata(tmp_path: Path, zarr_format: Any) -> None:
    root = zarr.create_group(tmp_path / "g", zarr_format=zarr_format)
    for name in ("a", "b", "c/d"):
        root.create_array(name, data=np.arange(1, 9), attributes={"unit": "s"})
    zarr.consolidate_metadata(tmp_path / "g")
    consolidated = [w for w in tempozarr.verify(tmp_path / "g").warnings if "consolidated" in w]
    assert consolidated == []
    shutil.rmtree(tmp_path / "g/a")
    zarr.open_array(tmp_path / "g/b").resize((9,))
    zarr.create_array(tmp_path / "g/e", data=np.arange(1, 9), zarr_format=zarr_format)
    report = tempozarr.verify(tmp_path / "g")
    assert [str(fault) for fault in report.faults] == [
        "a: consolidated metadata have it, the store has not"
    ]
    assert [w for w in report.warnings if "consolidated" in w] == [
        "b: consolidated metadata are not those of the array or group",
        "e: consolidated metadata do not have it",
    ]


def test_files_of_no_chunk(sound: Path) -> None:
    """Files behind the end of the array, of writes that were given up, of anyone; a journal."""
    for name in ("c/9/0", "c/0/0.1a-0.partial", "c/00/1", ".DS_Store"):
        (sound / "plain" / name).parent.mkdir(exist_ok=True)
        (sound / "plain" / name).write_bytes(b"x")
    (sound / "sharded/.tempozarr").mkdir()
    (sound / "sharded/.tempozarr/journal.json").write_text("{}")
    report = tempozarr.verify(sound)
    assert report.ok
    assert report.warnings == (
        "plain: 4 files of no chunk: .DS_Store, c/0/0.1a-0.partial, c/00/1",
        "sharded: an unfinished flush: the next tempozarr.Writer there finishes it",
    )
    assert tempozarr.info(sound).arrays["plain"].strays == 4


# -- what has a checksum, and what differs -----------------------------------------------------


@pytest.mark.parametrize(
    ("codecs", "expected"),
    [
        ([{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}], None),
        ([{"name": "bytes"}, {"name": "zstd", "configuration": {"checksum": True}}], "zstd"),
        (["bytes", "crc32c"], "crc32c"),
        (["bytes", {"name": "numcodecs.adler32"}, "blosc"], "adler32"),
        (["bytes", "blosc"], None),
        (["bytes", "gzip"], "gzip"),
        ([{"name": "numcodecs.lzma", "configuration": {"format": 1, "check": -1}}], "lzma"),
        ([{"name": "numcodecs.lzma", "configuration": {"format": 3}}], None),
        ([{"name": "sharding_indexed", "configuration": {"chunk_shape": [1], "codecs": ["bytes", "crc32c"]}}], "crc32c"),
    ],
)  # fmt: skip
def test_checksums(codecs: list[Any], expected: str | None) -> None:
    assert checksum({"codecs": codecs}) == expected


@pytest.mark.parametrize(
    "compressors",
    [
        ZstdCodec(checksum=True),
        GzipCodec(),
        zarr.codecs.numcodecs.BZ2(),
        zarr.codecs.numcodecs.LZMA(),
    ],
)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
def test_checksums_are_checked(tmp_path: Path, compressors: Any) -> None:
    """A chunk with a flipped bit is found, or the flip was in what does not matter."""
    data = np.random.default_rng(2).normal(size=50)
    array = zarr.create_array(tmp_path / "a", data=data, chunks=(50,), compressors=compressors)
    assert tempozarr.verify(tmp_path / "a")[""].checksum
    file = tmp_path / "a/c/0"
    sound = file.read_bytes()
    found = 0
    for byte in range(len(sound)):
        file.write_bytes(sound[:byte] + bytes([sound[byte] ^ 1 << byte % 8]) + sound[byte + 1 :])
        if tempozarr.verify(tmp_path / "a").ok:
            np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "a")[...], data)
        else:
            found += 1
    assert found > 0.9 * len(sound)
    assert array.shape == (50,)


def test_comparing(sound: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tempozarr.copy(sound, other)
    assert tempozarr.verify(other, against=sound).ok
    theirs = zarr.open_group(other)
    array: Any = theirs["plain"]
    array[70, 3] = -array[70, 3]
    array[90:92, 1] = np.nan
    array.attrs["unit"] = "m"
    theirs.create_array("late", data=np.arange(3))
    shutil.rmtree(other / "index_first")
    theirs.create_array("index_first", data=np.zeros((120, 8)))
    report = tempozarr.verify(sound, against=other)
    assert {str(fault) for fault in report.faults} == {
        "late: an array that only the other store has",
        "plain, rows 70:92: 3 of 960 elements differ, the first in row 70",
        "index_first: dtype float32, the other store has float64",
    }
    plain = report["plain"]
    assert (plain.differing_elements, plain.first_differing_row) == (3, 70)
    assert report["sharded"].differing_elements is None
    assert "plain: other attributes" in report.warnings


def test_comparing_damaged_stores(sound: Path, tmp_path: Path) -> None:
    """What is told once is not told again; what is there is compared."""
    other = shutil.copytree(sound, tmp_path / "other")
    (sound / "plain/zarr.json").write_text("{")
    array: Any = zarr.open_array(sound / "sharded")
    array[5, 5] = 77
    report = tempozarr.verify(sound, against=other)
    assert [(fault.array, fault.kind) for fault in report.faults] == [
        ("plain", "damaged"),
        ("sharded", "different"),
    ]
    with pytest.raises(tempozarr.StoreError, match="expected an array or group at"):
        tempozarr.verify(sound, against=tmp_path / "nothing")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_that_are_none(tmp_path: Path, zarr_format: Any) -> None:
    zarr.create_group(tmp_path / "g", zarr_format=zarr_format)
    if zarr_format == 2:
        (tmp_path / "g/.zmetadata").write_text('{"metadata": [1]}')
    else:
        document = json.loads((tmp_path / "g/zarr.json").read_text())
        (tmp_path / "g/zarr.json").write_text(json.dumps(document | {"consolidated_metadata": [1]}))
    [fault] = tempozarr.verify(tmp_path / "g").faults
    assert fault.message.startswith("expected consolidated metadata by path in ")


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "empty"])
def test_comparing_every_array(tmp_path: Path, name: str) -> None:
    data = ARRAYS[name][0]
    changed = data.copy()
    last = tuple(length - 1 for length in data.shape)
    changed[last] = (
        ~data[last] if data.dtype.kind == "b" else data[(0,) * data.ndim] if data.ndim else 9
    )
    for folder, values in (("a", data), ("b", changed)):
        create(tmp_path / folder, name)[...] = values
    assert tempozarr.verify(tmp_path / "a", against=tmp_path / "a").ok
    report = tempozarr.verify(tmp_path / "a", against=tmp_path / "b")
    assert report[""].differing_elements == 1
    assert report[""].first_differing_row == (len(data) - 1 if data.ndim else 0)


def test_comparing_with_what_cannot_be_read(sound: Path, tmp_path: Path) -> None:
    other = shutil.copytree(sound, tmp_path / "other")
    (other / "plain/c/2/0").write_bytes(b"x")
    [fault] = tempozarr.verify(sound, against=other).faults
    assert (fault.array, fault.kind) == ("plain", "different")
    assert fault.rows == (50, 75)
    assert fault.message.startswith(
        "200 of 960 elements differ, the first in row 50 (some cannot be read: chunk "
    )


def test_faults_are_told_as_they_are_found(sound: Path) -> None:
    (sound / "plain/c/2/0").write_bytes(b"x")
    told: list[tempozarr.Fault] = []
    progress: list[Any] = []
    report = tempozarr.verify(sound, found=told.append, progress=progress.append)
    assert tuple(told) == report.faults
    assert progress[-1].unit == "bytes"
    assert progress[-1].done == progress[-1].total == sum(a.stored_nbytes for a in report.values())


def test_a_store_without_metadata(tmp_path: Path) -> None:
    with pytest.raises(tempozarr.StoreError, match="expected an array or group at"):
        tempozarr.verify(tmp_path)
    with pytest.raises(tempozarr.StoreError, match="expected an array or group at"):
        tempozarr.info(tmp_path / "none")


def test_what_has_no_files_is_refused() -> None:
    text = "expected a folder, whose files can be looked at, got http://127.0.0.1/a.zarr"
    for look in (tempozarr.verify, tempozarr.info):
        with pytest.raises(tempozarr.StoreError, match=text):
            look("http://127.0.0.1/a.zarr")
