"""Windows of rows are numpy's slices; chunks are decoded once, kept up to a limit, and cast."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.codecs.numcodecs import BZ2, FixedScaleOffset, PCodec

import tempozarr
from conftest import ARRAYS, examples, ramp
from producer import LAYOUT, SCHEMA, rows
from tempozarr import CodecError, Writer, _core
from test_fused import CHAINS, HALVES, SHAPE
from test_fused import values as slow

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]

FILL = 3
AMPLE = 1 << 20
BZIP = BZ2(level=1)
SCALED = FixedScaleOffset(offset=0, scale=4, dtype="<f4", astype="<f4")
NESTED = ShardingCodec(
    chunk_shape=(16, 9, 3),
    codecs=[ShardingCodec(chunk_shape=(8, 9, 3), codecs=[BytesCodec(), BZIP])],
)
# Chains that do not run in one pass, or only parts of chunks of which are decoded; as in `CHAINS`.
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = CHAINS | {
    "bz2": ("f4", {"compressors": BZIP, "chunks": (16, 4, 2)}),
    "bz2 in shards": ("i2", {"compressors": BZIP, "chunks": (8, 3, 3), "shards": (32, 6, 3)}),
    "pcodec": ("f8", {"serializer": PCodec(level=1), "compressors": None}),
    "pcodec, zstd": ("f4", {"serializer": PCodec(level=1), "compressors": ZstdCodec()}),
    "pcodec in shards": ("i8", {"serializer": PCodec(level=1), "compressors": None} | {"chunks": (8, 9, 3), "shards": (16, 9, 3)}),
    "scaled": ("f4", {"filters": SCALED, "compressors": BZIP}),
    "raw": ("f4", {"compressors": None, "chunks": (16, 4, 2)}),
    "raw in shards": ("f4", {"compressors": None, "chunks": (8, 3, 3), "shards": (16, 9, 3)}),
    "gzip in shards": ("u1", {"compressors": GzipCodec(), "chunks": (8, 9, 3), "shards": (32, 9, 3)}),
    "nested, bz2": ("f4", {"serializer": NESTED, "filters": None, "compressors": None, "chunks": (32, 9, 3)}),
}  # fmt: skip


def values(dtype: str) -> NDArray[Any]:
    """Data with holes: chunks and subchunks of nothing but the fill value, which are not stored."""
    data = slow(dtype)
    data[8:16] = data[32:64] = FILL
    return data


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    for name, (dtype, options) in LAYOUTS.items():
        how: dict[str, Any] = {"chunks": (16, 9, 3), "fill_value": FILL} | options
        zarr.create_array(str(folder / name), shape=SHAPE, dtype=dtype, **how)[...] = values(dtype)
    return folder


def cut(x: NDArray[Any], starts: Any, length: int, step: int = 1) -> NDArray[Any]:
    """What windows are."""
    starts = np.asarray(starts)
    result = np.empty((starts.size, length, *x.shape[1:]), x.dtype)
    for window, start in zip(result, starts.ravel(), strict=True):
        window[...] = x[int(start) : int(start) + length * step : step][:length]
    return result.reshape(*starts.shape, *result.shape[1:])


def same(got: Any, want: NDArray[Any]) -> None:
    """Same type, shape, and bits; both byte orders of a number have the same."""
    assert type(got) is np.ndarray
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.dtype.kind in "TO":
        assert got.tolist() == want.tolist()
    else:
        assert got.tobytes() == want.tobytes()


def replace(file: Path, content: bytes) -> None:
    """Another file in its place, as writers of zarr do it."""
    new = file.with_name("new")
    new.write_bytes(content)
    new.replace(file)


# Windows are slices


@pytest.mark.parametrize("cache_bytes", [0, 50, AMPLE])
@pytest.mark.parametrize("name", [name for name, (data, _) in ARRAYS.items() if data.ndim])
def test_every_window_is_a_slice(stores: Path, name: str, cache_bytes: int) -> None:
    ours = tempozarr.open_array(stores / name, cache_bytes=cache_bytes)
    x = ARRAYS[name][0].astype(ours.dtype)
    same(ours.windows([], 2), cut(x, [], 2))
    for step, length in product((1, 2, 3), range(1, len(x) + 1)):
        starts = np.arange(len(x) - (length - 1) * step)
        same(ours.windows(starts, length, step=step), cut(x, starts, length, step))
        same(ours.windows(starts[::-1].repeat(2), length, step=step),
             cut(x, starts[::-1].repeat(2), length, step))  # fmt: skip
        for start in starts[:1]:
            same(ours.windows(start, length, step=step), cut(x, start, length, step))


@pytest.mark.hypothesis  # the examples are drawn inside
@pytest.mark.parametrize("name", LAYOUTS)
def test_any_windows(layouts: Path, name: str) -> None:
    x = values(LAYOUTS[name][0])
    arrays = [tempozarr.open_array(layouts / name, cache_bytes=n) for n in (0, 2000, AMPLE)]

    @settings(max_examples=examples(20))
    @given(st.data())
    def law(data: st.DataObject) -> None:
        length = data.draw(st.integers(1, len(x)))
        step = data.draw(st.integers(1, (len(x) - 1) // (length - 1) if length > 1 else 99))
        last = len(x) - (length - 1) * step - 1
        starts = data.draw(st.lists(st.integers(0, last), max_size=6).map(np.array)).astype("i8")
        want = cut(x, starts, length, step)
        for ours in arrays:
            same(ours.windows(starts, length, step=step), want)

    law()


@pytest.mark.parametrize(
    "starts",
    [4, np.uint8(4), [4, 0], (3, 3, 3), [], [[]], np.empty((0, 2), "u1"), np.arange(6).reshape(2, 3),
     np.arange(9)[::-2], np.arange(8).reshape(2, 4).T, np.array([[[5]]]), range(3)]
    + [np.array([5, 0, 2], dtype) for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4")],
    ids=repr,
)  # fmt: skip
def test_starts_of_any_shape_and_integer_type(stores: Path, starts: Any) -> None:
    x, ours = ARRAYS["one"][0], tempozarr.open_array(stores / "one")
    same(ours.windows(starts, 2), cut(x, starts, 2))
    same(ours.windows(starts, np.int8(2), step=np.uint64(1)), cut(x, starts, 2))  # type: ignore[arg-type]


OUTS: dict[str, Callable[[tuple[int, ...], np.dtype[Any]], Any]] = {
    "C": np.empty,
    "F": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "strided": lambda shape, dtype: np.empty((*shape[:-1], 3 * shape[-1]), dtype)[..., ::-3],
    "swapped": lambda shape, dtype: np.empty(shape, dtype.newbyteorder()),
    "unaligned": lambda shape, dtype: np.frombuffer(
        bytearray(1 + int(np.prod(shape)) * dtype.itemsize), dtype, offset=1
    ).reshape(shape),
    "memoryview": lambda shape, dtype: memoryview(np.empty(shape, dtype)),
    "bytearray": lambda shape, dtype: bytearray(int(np.prod(shape)) * dtype.itemsize),
}


@pytest.mark.parametrize("kind", OUTS)
@pytest.mark.parametrize(
    "name", ["three", "sharded", "memory_f", "v2_f", "v2_big_endian", "strings"]
)
def test_out(stores: Path, name: str, kind: str) -> None:
    x, ours = ARRAYS[name][0], tempozarr.open_array(stores / name, cache_bytes=60)
    if name == "strings" and kind not in {"C", "F", "strided"}:
        pytest.skip("text has no bytes of its own")
    starts = [[3, 0], [1, 1]]
    want = cut(x, starts, 2, 2)
    out = OUTS[kind](want.shape, x.dtype)
    assert ours.windows(starts, 2, step=2, out=out) is out
    if kind == "bytearray":
        out = np.frombuffer(out, x.dtype).reshape(want.shape)
    same(np.asarray(out).astype(x.dtype), want)


ONE = "expected windows of at least 1 row in steps of at least 1, got length"
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("one", ([0], 0), {}, ValueError, f"{ONE} 0, step 1"),
    ("one", ([0], -(2**70)), {}, ValueError, f"{ONE} -{2**70}, step 1"),
    ("one", ([0], 2), {"step": 0}, ValueError, f"{ONE} 2, step 0"),
    ("one", ([0], 2), {"step": -1}, ValueError, f"{ONE} 2, step -1"),
    ("one", ([0.0], 2), {}, TypeError, "expected integers for the starts of windows, got float64"),
    ("one", ([True], 2), {}, TypeError, "expected integers for the starts of windows, got bool"),
    ("one", (["0"], 2), {}, TypeError, "expected integers for the starts of windows, got <U1"),
    ("one", ([2**70], 2), {}, TypeError, "expected integers for the starts of windows, got object"),
    ("one", ([0], 2.0), {}, TypeError, "'float' object cannot be interpreted as an integer"),
    ("one", ([0], 2), {"step": "1"}, TypeError, "'str' object cannot be interpreted as an integer"),
    ("one", ([3, 10], 2), {}, IndexError, "window at 10: windows of 2 rows in steps of 1 begin at 0 to 9 in 11 rows"),
    ("one", ([-1, 99], 2), {}, IndexError, "window at -1: windows of 2"),
    ("one", ([np.iinfo("i8").min], 1), {}, IndexError, f"window at -{2**63}: windows of 1"),
    ("one", ([2**63 - 1], 1), {}, IndexError, f"window at {2**63 - 1}: windows of 1"),
    ("one", ([2**64 - 1], 1), {}, IndexError, f"window at {2**64 - 1}: windows of 1"),
    ("one", (np.array([255], "u1"), 2**63), {}, IndexError, f"begin at 0 to {10 - 2**63 + 1} in 11 rows"),
    ("one", ([0], 2), {"step": 2**63}, IndexError, f"in steps of {2**63} begin at 0 to {10 - 2**63} in"),
    ("one", ([0], 12), {}, IndexError, "begin at 0 to -1 in 11 rows"),
    ("empty", ([0], 1), {}, IndexError, "begin at 0 to -1 in 0 rows"),
    ("scalar", ([0], 1), {}, ValueError, "expected an array with rows, got one without dimensions; use [()]"),
    ("one", ([0], 2), {"out": np.empty((2, 1), "i8")}, ValueError, "out: expected shape (1, 2), got (2, 1)"),
    ("one", (0, 2), {"out": np.empty(2, "f8")}, TypeError, "out: expected data type int64, got float64"),
    ("one", (0, 2), {"out": b"\0" * 16}, ValueError, "out: expected a writable array, got a read-only one"),
    ("one", (0, 2), {"out": [0, 0]}, TypeError, "out: expected a numpy array or a writable buffer, got list"),
    ("strings", (0, 1), {"out": np.empty((1, 2), "U9")}, TypeError, "out: expected data type StringDType(), got <U9"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=repr)
def test_refused(stores: Path, case: tuple[Any, ...]) -> None:
    name, arguments, options, kind, text = case
    ours = tempozarr.open_array(stores / name)
    with pytest.raises(kind) as caught:
        ours.windows(*arguments, **options)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert ours.stats().misses == 0


def test_steps_that_are_not_taken_may_be_huge(stores: Path) -> None:
    ours, blobs = (tempozarr.open_array(stores / name) for name in ("one", "blobs"))
    same(ours.windows([3], 1, step=2**70), cut(ARRAYS["one"][0], [3], 1))
    same(ours.windows([], 2, step=2**70), cut(ARRAYS["one"][0], [], 2))
    same(blobs.windows([3], 1, step=2**70), cut(ARRAYS["blobs"][0], [3], 1))


@pytest.mark.parametrize("filters", [None, HALVES])
def test_results_larger_than_the_caches(tmp_path: Path, filters: Any) -> None:
    x = ramp(40000, 64) % 2048
    zarr.create_array(str(tmp_path), shape=x.shape, dtype="f4", chunks=(2500, 64), filters=filters,
                      compressors=ZstdCodec(level=1))[...] = x  # fmt: skip
    starts = np.arange(0, 40000, 2500) + 100
    same(tempozarr.open_array(tmp_path).windows(starts, 2300), cut(x, starts, 2300))


# Each chunk is decoded once, and kept

# Of these, boxes are copied from the file: nothing is decoded, or kept.
PARTS = {"raw"}
UNITS = [name for name in LAYOUTS if name not in PARTS]


def units(x: NDArray[Any], unit: tuple[int, ...], touched: Any) -> int:
    """Stored (inner) chunks that hold these rows."""
    grid = product(
        sorted({int(row) // unit[0] for row in np.ravel(touched)}),
        *(range(-(-n // length)) for n, length in zip(x.shape[1:], unit[1:], strict=True)),
    )
    boxes = (tuple(slice(i * n, i * n + n) for i, n in zip(at, unit, strict=True)) for at in grid)
    return sum(bool((x[box] != FILL).any()) for box in boxes)


@pytest.mark.parametrize("name", UNITS)
def test_each_chunk_is_decoded_once(layouts: Path, name: str) -> None:
    x = values(LAYOUTS[name][0])
    starts, length, step = [3, 1, 2, 3, 3, 27, 29, 28, 60, 62, 63, 64, 2], 5, 1
    touched = np.add.outer(starts, np.arange(length) * step)
    for cache_bytes in (0, 1, AMPLE):
        ours = tempozarr.open_array(layouts / name, cache_bytes=cache_bytes)
        count, bytes_of = units(x, ours.chunks, touched), int(np.prod(ours.chunks)) * x.itemsize
        for call in (1, 2):
            same(ours.windows(starts, length, step=step), cut(x, starts, length, step))
            stats = ours.stats()
            kept = cache_bytes == AMPLE
            assert (stats.misses, stats.hits) == (
                (count, count * (call - 1)) if kept else (count * call, 0)
            )
            assert stats.bytes_decoded == stats.misses * bytes_of
            assert ours._cache.core.nbytes == (count * bytes_of if kept else 0)
            assert stats.bytes_read > 0
            assert min(stats.read_seconds, stats.decode_seconds) > 0


def test_stored_bytes_are_counted_however_they_are_read(layouts: Path) -> None:
    for name in ("raw", "scaled", "pcodec", "plain"):
        ours = tempozarr.open_array(layouts / name)
        ours[0]
        stored = sum(
            file.stat().st_size
            for file in (layouts / name / "c" / "0").rglob("*")
            if file.is_file()
        )
        assert 0 < ours.stats().bytes_read <= stored


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("cache_bytes", [0, AMPLE])
def test_single_rows_decode_each_chunk_once(layouts: Path, name: str, cache_bytes: int) -> None:
    x, ours = (
        values(LAYOUTS[name][0]),
        tempozarr.open_array(layouts / name, cache_bytes=cache_bytes),
    )
    picks = np.random.default_rng(5).permutation(np.r_[np.arange(0, 70, 3), np.arange(0, 70, 9)])
    same(ours.oindex[picks], x[picks])
    if cache_bytes or ours.explain().fused or not ours.shards:  # else zarrs decodes boxes of shards
        assert ours.stats().misses == units(x, ours.chunks, picks)


@pytest.mark.parametrize("name", ["book", "flat", "plain", "bz2", "pcodec", "v2"])
def test_indexing_uses_the_cache(layouts: Path, name: str) -> None:
    x, ours = values(LAYOUTS[name][0]), tempozarr.open_array(layouts / name, cache_bytes=AMPLE)
    for _ in range(2):
        for selection in (5, slice(3, 7), (slice(1, 7, 2), 3), np.s_[-66:-70:-1]):
            same(np.asarray(ours[selection]), x[selection])
        same(ours.oindex[[6, 1, 1]], x[[6, 1, 1]])
        same(ours.vindex[[6, 1], [0, 8], [2, 0]], x[[6, 1], [0, 8], [2, 0]])
        same(ours.windows([0, 2], 4, step=1), cut(x, [0, 2], 4))
    chunks_of_rows = units(x, ours.chunks, [0])
    stats = ours.stats()
    assert stats.misses == chunks_of_rows
    assert stats.hits >= 11 * 1
    assert ours._cache.core.nbytes == chunks_of_rows * int(np.prod(ours.chunks)) * x.itemsize


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """10 chunks of 80 bytes, in a group of two such arrays."""
    zarr.create_group(tmp_path / "g").create_group("more")
    for name in ("a", "more/b"):
        zarr.create_array(str(tmp_path / "g" / name), shape=(200,), chunks=(20,), dtype="i4",
                          fill_value=-1, compressors=[ZstdCodec(), Crc32cCodec()])[:] = ramp(200)  # fmt: skip
    return tmp_path / "g"


def test_the_last_used_chunks_are_kept(plain: Path) -> None:
    ours = tempozarr.open_array(plain / "a", cache_bytes=3 * 80 + 79)
    kept: list[int] = []
    for chunk in np.random.default_rng(6).integers(0, 6, 100).tolist():
        before = ours.stats()
        same(
            ours.windows([chunk * 20 + 3], 5), ramp(200, dtype="i4")[None, chunk * 20 + 3 :][:, :5]
        )
        hit = chunk in kept
        kept = ([k for k in kept if k != chunk] + [chunk])[-3:]
        after = ours.stats()
        assert (after.hits - before.hits, after.misses - before.misses) == (hit, not hit)
        assert ours._cache.core.nbytes == 80 * len(kept)
    # What is larger than the cache is not kept; nor is what a selection reads as a whole.
    ours = tempozarr.open_array(plain / "a", cache_bytes=79)
    for _ in range(2):
        ours.windows([0], 5)
    assert (ours.stats().misses, ours._cache.core.nbytes) == (2, 0)
    ours = tempozarr.open_array(plain / "a", cache_bytes=AMPLE)
    for _ in range(2):
        same(ours[:20], ramp(200, dtype="i4")[:20])
    assert (ours.stats().misses, ours._cache.core.nbytes) == (2, 0)
    for _ in range(2):
        ours.windows([0], 20)
    assert (ours.stats().misses, ours._cache.core.nbytes) == (3, 80)


def test_arrays_of_a_group_share_a_cache(plain: Path) -> None:
    group = tempozarr.open_group(plain, cache_bytes=80)
    a, b = group["a"], group["more/b"]
    found = [*dict(group.arrays()).values(), *dict(group["more"].arrays()).values()]  # type: ignore[union-attr]
    assert {id(each._cache) for each in (a, b, group["more"], *found)} == {id(group._cache)}
    assert isinstance(a, tempozarr.Array)
    assert isinstance(b, tempozarr.Array)
    for array in (a, a, b, b, a):
        same(array.windows([1], 2), ramp(3, dtype="i4")[None, 1:])
        assert group._cache.core.nbytes == 80
    assert (a.stats().hits, a.stats().misses) == (1, 2)
    assert (b.stats().hits, b.stats().misses) == (1, 1)
    assert isinstance(tempozarr.open(plain, cache_bytes=7), tempozarr.Group)
    with pytest.raises(ValueError, match="expected cache_bytes of 0 or more, got -1"):
        tempozarr.open_array(plain / "a", cache_bytes=-1)


def test_pickles_have_an_empty_cache_of_the_same_size(plain: Path) -> None:
    group = tempozarr.open_group(plain, cache_bytes=100)
    array = group["a"]
    array[3]  # type: ignore[index]
    for source in (group, array):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy._cache.nbytes, copy._cache.core.nbytes) == (100, 0)
        array = copy if isinstance(copy, tempozarr.Array) else copy["a"]
        assert array._cache is copy._cache
        for _ in range(2):
            same(array.windows([3], 4), ramp(7, dtype="i4")[None, 3:])
        assert (array.stats().hits, array.stats().misses) == (1, 1)
    array, owner = pickle.loads(pickle.dumps((group["a"], group)))
    assert array._cache is owner._cache


@pytest.mark.parametrize("cache_bytes", [0, 80, AMPLE])
def test_what_is_rewritten_is_read_anew(plain: Path, cache_bytes: int) -> None:
    theirs: Any = zarr.open_array(plain / "a")
    ours = tempozarr.open_array(plain / "a", cache_bytes=cache_bytes)
    starts = np.array([15, 16, 90])
    for version in range(4):
        theirs[10:30] = -7 * version
        for _ in range(2):
            same(ours.windows(starts, 9), cut(theirs[...], starts, 9))
            same(ours[12:14], theirs[12:14])
    (plain / "a" / "c" / "0").unlink()
    same(ours.windows(starts, 9), cut(np.r_[np.full(20, -1, "i4"), theirs[20:]], starts, 9))
    theirs[:20] = 5
    same(ours.windows(starts, 9), cut(theirs[...], starts, 9))


@pytest.mark.parametrize("cache_bytes", [0, AMPLE])
def test_appends_that_replace_shards(tmp_path: Path, cache_bytes: int) -> None:
    with Writer(tmp_path / "s", SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 21))
        writer.flush()
        before = tempozarr.open_group(tmp_path / "s", cache_bytes=cache_bytes)
        arrays = {path: before[path] for path in LAYOUT}
        for end in (22, 24, 31, 70):
            now = tempozarr.open_group(tmp_path / "s", cache_bytes=cache_bytes)
            for path, want in rows(0, writer.rows).items():
                for array in (arrays[path], now[path]):
                    assert isinstance(array, tempozarr.Array)
                    starts = np.arange(0, len(array) - 6, 5)
                    for _ in range(2):
                        same(array.windows(starts, 3, step=3), cut(want, starts, 3, 3))
            writer.append(rows(writer.rows, end))
            writer.flush()


@pytest.mark.parametrize("cache_bytes", [0, AMPLE])
@pytest.mark.parametrize(
    "options",
    [{"chunks": (20,), "compressors": [ZstdCodec(), Crc32cCodec()]},
     {"chunks": (20,), "compressors": [BZIP, Crc32cCodec()]},
     {"chunks": (20,), "shards": (40,), "compressors": [ZstdCodec(), Crc32cCodec()]},
     {"chunks": (20,), "shards": (40,), "compressors": [BZIP, Crc32cCodec()]}],
    ids=str,
)  # fmt: skip
def test_corrupt_chunks_are_named_and_not_kept(
    tmp_path: Path, options: dict[str, Any], cache_bytes: int
) -> None:
    x = ramp(200, dtype="i8")
    zarr.create_array(str(tmp_path / "a"), shape=(200,), dtype="i8", **options)[:] = x
    file = tmp_path / "a" / "c" / "1"
    good = file.read_bytes()
    warm = tempozarr.open_array(tmp_path / "a", cache_bytes=cache_bytes)
    starts = [range(1, 180, 3)]
    for at in (0, len(good) // 4, len(good) - 1):
        ours = tempozarr.open_array(tmp_path / "a", cache_bytes=cache_bytes)
        bad = bytes([*good[:at], good[at] ^ 4, *good[at + 1 :]])
        for content, array in product((bad, good, bad[:-1], good), (ours, warm)):
            replace(file, content)
            if content is good:
                same(array.windows(starts, 8), cut(x, starts, 8))
                continue
            with pytest.raises(CodecError) as caught:
                array.windows(starts, 8)
            assert str(file) in str(caught.value)
            same(array.windows([150], 8), x[None, 150:158])


# Threads and forks


@pytest.mark.parametrize("cache_bytes", [0, 1500, AMPLE])
@pytest.mark.parametrize("name", ["book", "bz2"])
def test_threads_read_windows(layouts: Path, name: str, cache_bytes: int) -> None:
    x, ours = (
        values(LAYOUTS[name][0]),
        tempozarr.open_array(layouts / name, cache_bytes=cache_bytes),
    )

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(15):
            length = int(random.integers(1, 30))
            starts = random.integers(0, 70 - length, 4)
            same(ours.windows(starts, length), cut(x, starts, length))
            assert ours._cache.core.nbytes <= cache_bytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


FORKS = """
import os, sys, threading, numpy, tempozarr
ours = tempozarr.open_array(sys.argv[1], cache_bytes=500)
starts = numpy.arange(0, 190, 3)
want = numpy.add.outer(starts, numpy.arange(9)).tolist()
right = lambda: ours.windows(starts, 9).tolist() == want and ours._cache.core.nbytes <= 500
assert right()
stop = threading.Event()
def read():
    while not stop.is_set():
        assert right()
threads = [threading.Thread(target=read) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
for i in range(30):
    child = os.fork()
    if child == 0:
        if i % 3 == 0:
            ours = None  # and leave alone what a thread was changing
            os._exit(0)
        os._exit(0 if right() and right() else 1)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
assert right()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("threads", [0, 3])
def test_forked_children_read(plain: Path, threads: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(plain / "a"), str(threads)]
    subprocess.run(command, check=True, timeout=60)


# Casts

NUMBERS = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
COUNTS = np.arange(1, 41)


def numbers(dtype: str, kind: str) -> NDArray[Any]:
    """`mild` numbers that every type holds, or `wild` ones: any bits, and those that round oddly."""
    count = 45
    if kind == "mild":
        return (np.arange(count) * 2.75 % 127).astype(dtype)
    random = np.random.default_rng(7)
    data = np.frombuffer(
        random.bytes(count * np.dtype(dtype).itemsize), f"u{np.dtype(dtype).itemsize}"
    ).copy()
    if dtype == "f4":
        odd = [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0x7F800000]
        odd += [
            1,
            0x8000,
            0x18000,
            0x7FFFFF,
            0x80008001,
            0x7F800001,
            0xFF80FFFF,
            0xFFFFFFFF,
            1 << 31,
        ]
        data[: len(odd)] = odd
    elif dtype[0] == "f":
        odd_values = [
            np.nan,
            -np.inf,
            np.inf,
            -0.0,
            65504,
            65519.9,
            65520,
            6e-8,
            2**-25,
            1e-7,
            5e-5,
        ]
        with np.errstate(over="ignore"):
            data[: len(odd_values)] = np.array(odd_values, dtype).view(data.dtype)
    return data.view(dtype) if dtype != "b1" else (data & 1).view(dtype)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each type and kind, rows of one number and of several; the last chunk of rows is missing."""
    folder = tmp_path_factory.mktemp("casts")
    for dtype, kind in product(NUMBERS, ("mild", "wild")):
        x = numbers(dtype, kind)
        for name, data, chunks in (("flat", x, (45,)), ("rows", x.reshape(9, 5), (9, 2))):
            shape = (2 * len(data), *data.shape[1:])
            array = zarr.create_array(str(folder / f"{dtype}-{kind}-{name}"), shape=shape, dtype=dtype,
                                      chunks=chunks, fill_value=1, compressors=ZstdCodec())  # fmt: skip
            array[: len(data)] = data
    return folder


def brain(x: NDArray[Any]) -> NDArray[np.uint16]:
    """bfloat16, as its definition has it: the nearer upper half of a float32, the even one of two."""
    with np.errstate(over="ignore"):
        singles = x.astype("f4").view("u4").ravel().tolist()
    result = []
    for bits in singles:
        upper, lower = bits >> 16, bits & 0xFFFF
        if bits & 0x7FFFFFFF > 0x7F800000:
            result.append(upper | 0x40)  # a NaN stays one
        else:
            result.append(upper + (lower > 0x8000 or (lower == 0x8000 and upper & 1 == 1)))
    return np.array(result, "u2").reshape(x.shape)


def casts(source: str) -> list[tuple[str, str]]:
    """The kinds of numbers of a type, and what each is cast to."""
    targets = [*NUMBERS, "bfloat16"]
    holds_all = {t for t in targets if t[0] == "f" or t in {"bfloat16", "b1", source}}
    return [("mild", t) for t in targets] + [("wild", t) for t in targets if t in holds_all]


@pytest.mark.parametrize("cache_bytes", [0, AMPLE])
@pytest.mark.parametrize("source", NUMBERS)
def test_casts_are_numpys(stored: Path, source: str, cache_bytes: int) -> None:
    cache = _core.Cache(cache_bytes)
    for (kind, target), name in product(casts(source), ("flat", "rows")):
        x = numbers(source, kind) if name == "flat" else numbers(source, kind).reshape(9, 5)
        x = np.concatenate([x, np.full_like(x, 1)])
        array = _core.Array(str(stored), f"{source}-{kind}-{name}", cache)
        counts = COUNTS[: len(x)]
        starts = (counts * 7) % (len(x) - counts + 1)
        places = np.cumsum(counts) - counts
        with np.errstate(all="ignore"):
            cast = brain(x) if target == "bfloat16" else x.astype(target)
        out = np.empty((counts.sum(), *x.shape[1:]), cast.dtype)
        named = target if target == "bfloat16" else cast.dtype.str
        _core.read_rows([(array, starts, places, counts, 1, out, named)])
        want = np.concatenate([cast[s : s + n] for s, n in zip(starts, counts, strict=True)])
        assert out.tobytes() == want.tobytes(), (kind, target, name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_casts_in_any_chain(layouts: Path, name: str) -> None:
    x, array = values(LAYOUTS[name][0]), _core.Array(str(layouts), name)
    starts, places, counts = np.array([[69, 35, 8, 35, 0], [24, 0, 5, 8, 23], [5, 5, 3, 13, 0]])
    want = np.zeros((30, *SHAPE[1:]), x.dtype)
    for start, place, count in zip(starts, places, counts, strict=True):
        want[place : place + count] = x[start - 2 * np.arange(count)]
    plain, wide, half = np.zeros_like(want), np.zeros(want.shape), np.zeros(want.shape, "u2")
    jobs = [(array, starts, places, counts, -2, out, cast)
            for out, cast in ((plain, None), (wide, "<f8"), (half, "bfloat16"))]  # fmt: skip
    _core.read_rows(jobs)
    same(plain, want)
    same(wide, want.astype("f8"))
    same(half, brain(want))


@pytest.mark.parametrize(
    ("values", "cast", "text"),
    [
        ([0, np.nan], "u1", "(NaN) has no value as uint8"),
        ([0, 300], "u1", "(300) has no value as uint8"),
        ([-0.5, -1], "u8", "(-1.0) has no value as uint64"),
        ([np.inf], "i8", "(inf) has no value as int64"),
        ([1, 2.0**63], "i8", "has no value as int64"),
        (np.array([7, 128]), "i1", "(128) has no value as int8"),
        (np.array([-1], "i2"), "u2", "(-1) has no value as uint16"),
        (np.array([2**63], "u8"), "i8", f"({2**63}) has no value as int64"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stored_as", ["values", "fill", "cached"])
def test_casts_that_lose_a_value(
    tmp_path: Path, values: Any, cast: str, text: str, stored_as: str
) -> None:
    data = np.resize(np.array(values), 6)
    fill = data[len(values) - 1].item()
    array = zarr.create_array(str(tmp_path), shape=(6,), chunks=(6,), dtype=data.dtype, fill_value=fill,
                              config={"write_empty_chunks": True})  # fmt: skip
    if stored_as != "fill":
        array[...] = data
    ours = _core.Array(str(tmp_path), "", _core.Cache(AMPLE if stored_as == "cached" else 0))
    starts, length = np.array([0]), np.array([5])
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            _core.read_rows(
                [(ours, starts, starts, length, 1, np.empty(5, cast), np.dtype(cast).str)]
            )
        assert type(caught.value) is ValueError
        assert text in str(caught.value)
        assert str(caught.value).startswith(f"chunk {tmp_path / 'c' / '0'}: element ")
        assert str(caught.value).endswith("; read it as it is stored")
    out = np.empty(5, data.dtype)
    _core.read_rows([(ours, starts, starts, length, 1, out, None)])
    assert (
        out.tobytes()
        == (data if stored_as != "fill" else np.full(6, fill, data.dtype))[:5].tobytes()
    )
