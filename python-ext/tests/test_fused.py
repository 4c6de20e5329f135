"""Chains that run in one pass read like zarr-python, whatever the chain, layout and selection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs.numcodecs import LZ4, AsType, Delta, Shuffle

import tempozarr
from tempozarr.codecs import TemporalXOR

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")

SHAPE = (70, 9, 3)


def values(dtype: str) -> NDArray[Any]:
    """Values that move slowly, and NaNs where there are any."""
    data = (np.arange(np.prod(SHAPE)) // 5 % 97).reshape(SHAPE).astype(dtype)
    if data.dtype.kind == "f":
        data[::7, 2] = np.nan
    return data


HALVES = [AsType(encode_dtype="<f2", decode_dtype="<f4"), TemporalXOR()]
ZSTD = ZstdCodec(level=1)
SHARDED = {"chunks": (8, 9, 3), "shards": (32, 9, 3)}

# name -> (dtype, what to create the array with)
CHAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "book": ("f4", {"filters": HALVES, "compressors": [Shuffle(elementsize=2), ZSTD]} | SHARDED),
    "flat": (
        "f4",
        {"filters": HALVES, "compressors": [Shuffle(elementsize=2), ZSTD], "chunks": (16, 9, 3)},
    ),
    "cut": (
        "f4",
        {"filters": HALVES, "compressors": [Shuffle(elementsize=2), ZSTD]}
        | {"chunks": (8, 4, 2), "shards": (16, 8, 4)},
    ),
    "raw": (
        "f4",
        {"filters": TemporalXOR(), "compressors": [Shuffle(elementsize=4), ZSTD]} | SHARDED,
    ),
    "axis": (
        "f8",
        {"filters": TemporalXOR(axis=1), "compressors": [Shuffle(elementsize=8), LZ4()]},
    ),
    "delta": ("i8", {"filters": Delta(dtype="<i8"), "compressors": ZSTD} | SHARDED),
    "narrow": ("i4", {"filters": Delta(dtype="<i4", astype="<i2"), "compressors": GzipCodec()}),
    "plain": ("f4", {"compressors": ZSTD} | SHARDED),
    "blosc": ("f4", {"compressors": BloscCodec(cname="zstd", typesize=4)} | SHARDED),
    "big": ("f4", {"filters": HALVES, "serializer": BytesCodec(endian="big"), "compressors": ZSTD}),
    "crc": ("f4", {"filters": HALVES, "compressors": [Crc32cCodec(), ZSTD, Crc32cCodec()]}),
    "transposed": (
        "f4",
        {"filters": [TransposeCodec(order=(2, 0, 1)), TemporalXOR(axis=1)], "compressors": ZSTD},
    ),
    "nested": (
        "f4",
        {
            "filters": None,
            "compressors": None,
            "chunks": (32, 9, 3),
            "serializer": ShardingCodec(
                chunk_shape=(16, 9, 3),
                codecs=[
                    ShardingCodec(
                        chunk_shape=(4, 9, 3),
                        codecs=[TemporalXOR(), BytesCodec(), Shuffle(elementsize=4), ZSTD],
                    )
                ],
            ),
        },
    ),
    "v2": (
        "i8",
        {
            "zarr_format": 2,
            "order": "F",
            "filters": [numcodecs.Shuffle(8)],
            "compressors": numcodecs.Zstd(1),
        },
    ),
    "v2_delta": (
        "i8",
        {"zarr_format": 2, "filters": [numcodecs.Delta("<i8")], "compressors": numcodecs.LZ4()},
    ),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an array of each chain, written by zarr-python in Python."""
    folder = tmp_path_factory.mktemp("fused")
    for name, (dtype, options) in CHAINS.items():
        settings: dict[str, Any] = {"chunks": (16, 9, 3)} | options
        array = zarr.create_array(str(folder / name), shape=SHAPE, dtype=dtype, **settings)
        array[...] = values(dtype)
    return folder


def same_bits(got: NDArray[Any], want: NDArray[Any]) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


SELECTIONS: list[Any] = [
    ...,
    slice(3, 61),
    slice(9, 10),
    (slice(None), 4, 1),
    (slice(30, 50), slice(2, 7), slice(1, 3)),
    (slice(2, 60, 7), slice(None, None, 2)),
    (slice(60, 2, -7), slice(None, None, 2)),
    ([65, 3, 3, 40],),
    ([1, 69, 30], [0, 8, 4], [2, 0, 1]),
    np.arange(np.prod(SHAPE)).reshape(SHAPE) % 11 == 0,
]


@pytest.mark.parametrize("name", CHAINS)
def test_selections_read_like_numpy(store: Path, name: str) -> None:
    ours = tempozarr.open_array(store / name)
    whole = values(CHAINS[name][0])
    assert ours.explain().fused, ours.explain()
    for selection in SELECTIONS:
        same_bits(ours[selection], whole[selection])
    with tempozarr.enable(strict=True):
        theirs = zarr.open_array(store / name, mode="r")
        for selection in SELECTIONS[:6]:
            same_bits(np.asarray(theirs[selection]), whole[selection])
        rows = np.array([65, 3, 40])
        same_bits(np.asarray(theirs.oindex[rows, :, 1]), whole[rows, :, 1])
        points = ([1, 69, 30], [0, 8, 4], [2, 0, 1])
        same_bits(np.asarray(theirs.vindex[points]), whole[points])


@pytest.mark.parametrize("name", CHAINS)
def test_writes_what_zarr_python_writes(store: Path, tmp_path: Path, name: str) -> None:
    dtype, options = CHAINS[name]
    settings: dict[str, Any] = {"chunks": (16, 9, 3)} | options
    with tempozarr.enable(strict=True):
        array = zarr.create_array(str(tmp_path / name), shape=SHAPE, dtype=dtype, **settings)
        array[...] = values(dtype)
        array[17:40, 3] = 5
    want = values(dtype)
    want[17:40, 3] = 5
    same_bits(tempozarr.open_array(tmp_path / name)[...], want)
    if name == "big" and zarr.__version__ < "3.4":
        return  # that zarr-python hands big-endian elements to filters that take them for little
    same_bits(np.asarray(zarr.open_array(tmp_path / name, mode="r")[...]), want)


@given(
    name=st.sampled_from(["book", "cut", "axis", "delta", "transposed", "nested"]),
    ranges=st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SHAPE)),
    spread=st.integers(1, 2),
)
def test_any_box_lands_in_any_memory(
    store: Path, name: str, ranges: tuple[tuple[int, int], ...], spread: int
) -> None:
    selection = tuple(slice(start, start + length) for start, length in ranges)
    want = values(CHAINS[name][0])[selection]
    memory = np.full([spread * n for n in want.shape], 7, want.dtype)
    out = memory[tuple(slice(None, None, spread) for _ in want.shape)]
    tempozarr.open_array(store / name).read(selection, out=out)
    same_bits(out, want)
    assert (memory == 7).sum() >= memory.size - want.size


def test_results_larger_than_the_caches(tmp_path: Path) -> None:
    # Such results are written past the caches.
    data = np.tile(values("f4"), (300, 1, 1))
    data = np.concatenate([data, data, data, data, data])
    settings: dict[str, Any] = {"chunks": (500, 9, 3), "shards": (4000, 9, 3)}
    for name in ("book", "raw", "plain"):
        options = CHAINS[name][1] | settings
        array = zarr.create_array(str(tmp_path / name), shape=data.shape, dtype="f4", **options)
        array[...] = data
        ours = tempozarr.open_array(tmp_path / name)
        assert data.nbytes > 8 << 20
        same_bits(ours[...], data)
        same_bits(ours[1:-1, 1:], data[1:-1, 1:])
        out = np.empty((9, 3, len(data)), "f4").transpose(2, 0, 1)
        same_bits(ours.read(out=out), data)


def test_missing_inner_chunks_are_fill_value(tmp_path: Path) -> None:
    options = CHAINS["book"][1] | {"fill_value": float("nan")}
    array = zarr.create_array(str(tmp_path / "a"), shape=SHAPE, dtype="f4", **options)
    array[10:12] = 3
    ours = tempozarr.open_array(tmp_path / "a")
    same_bits(ours[...], np.asarray(array[...]))
    same_bits(ours[5:30:3, 2], np.asarray(array[5:30:3, 2]))


def shard(store: Path, tmp_path: Path) -> tuple[Path, bytearray]:
    """Copy one shard of four inner chunks, as an array of its own."""
    folder = tmp_path / "book"
    (folder / "c/0/0").mkdir(parents=True)
    (folder / "zarr.json").write_text((store / "book/zarr.json").read_text())
    return folder, bytearray((store / "book/c/0/0/0").read_bytes())


@pytest.mark.parametrize(
    ("place", "new", "text"),
    [
        (5, b"\xff\xff\xff\xff", "zstd: decompressing the chunk failed"),
        (-68, b"\xff\xff\xff\x7f", "checksum"),
    ],
)
def test_damage_is_named(store: Path, tmp_path: Path, place: int, new: bytes, text: str) -> None:
    folder, data = shard(store, tmp_path)
    data[place : place + len(new) or None] = new
    (folder / "c/0/0/0").write_bytes(data)
    for selection in (..., slice(2, 5), (slice(2, 5), 0, 0)):
        with pytest.raises(tempozarr.CodecError, match=text) as caught:
            tempozarr.open_array(folder)[selection]
        assert str(folder / "c/0/0/0") in str(caught.value)


@pytest.mark.parametrize("entry", [(0, 1 << 20), ((1 << 64) - 2, 9), (1 << 63, 1 << 63)])
def test_an_index_that_lies_is_an_error(
    store: Path, tmp_path: Path, entry: tuple[int, int]
) -> None:
    folder, data = shard(store, tmp_path)
    index = b"".join(n.to_bytes(8, "little") for n in entry) + data[-52:-4]
    checksum = numcodecs.CRC32C().encode(bytes(index))[-4:]
    data[-68:] = index + bytes(checksum)
    (folder / "c/0/0/0").write_bytes(data)
    with pytest.raises(tempozarr.CodecError, match="index is corrupt"):
        tempozarr.open_array(folder)[...]
    same_bits(tempozarr.open_array(folder)[8:16], values("f4")[8:16])


def test_explains(store: Path, tmp_path: Path) -> None:
    book = tempozarr.open_array(store / "book").explain()
    assert book.fused
    assert str(book) == (
        "fused: zstd, unshuffle 2, undo XOR (8 rows of 54 bytes), float16 to float32"
    )
    zarr.create_array(str(tmp_path / "a"), shape=4, dtype="M8[s]", filters=Delta(dtype="<i8"))
    assert tempozarr.open_array(tmp_path / "a").explain().text == "zstd, sum int64"
    zarr.create_array(str(tmp_path / "b"), shape=4, dtype="string")
    strings = tempozarr.open_array(tmp_path / "b").explain()
    assert str(strings) == "codec by codec: data type string / |O has no fixed size"
    bz2 = zarr.codecs.numcodecs.BZ2(level=1)
    zarr.create_array(str(tmp_path / "c"), shape=4, dtype="f4", compressors=bz2)
    reason = tempozarr.open_array(tmp_path / "c").explain().text
    assert reason == "codec numcodecs.bz2 is not one that is fused"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is measured")
def test_a_read_into_memory_needs_little_more(tmp_path: Path) -> None:
    options = CHAINS["book"][1] | {"chunks": (4096, 9, 3), "shards": (65536, 9, 3)}
    data = np.tile(values("f4"), (8000, 1, 1))
    array = zarr.create_array(str(tmp_path / "a"), shape=data.shape, dtype="f4", **options)
    array[...] = data
    code = (
        "import sys, re, numpy as np, tempozarr\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "a = tempozarr.open_array(sys.argv[1])\n"
        "out = np.ones(a.shape, a.dtype)\n"
        "before = peak(); a.read(out=out); print(peak() - before, out.nbytes)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "a")]
    more, size = map(int, subprocess.check_output(run).split())
    assert size > 50 << 20
    assert more <= 64 << 10
