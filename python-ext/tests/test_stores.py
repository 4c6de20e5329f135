"""`tempozarr.CodecPipeline` on every kind of store: same results, and no more bytes than needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import obstore.store
import pytest
import zarr
import zarr.codecs
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, cpu
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    WrapperStore,
    ZipStore,
)

import tempozarr
from conftest import ARRAYS, DEFAULT_PIPELINE, create, equal
from tempozarr import _stores
from tempozarr.codecs import TemporalXOR
from test_indexing import CASES
from test_pipeline import IN_PYTHON, OURS, WRITES, outcome

pytestmark = [
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),  # zip files are appended to
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


@pytest.fixture
def strict() -> Iterator[None]:
    with tempozarr.enable(strict=True):
        yield


@pytest.fixture
def ranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranged requests for shards that are not worth it."""
    monkeypatch.setattr(_stores, "_coalescing", lambda _: (0, 100))


class DictStore(Store):
    """The least that a store from elsewhere must do; it gives bytes that nobody may change."""

    supports_writes = supports_deletes = supports_listing = True
    supports_partial_writes: Any = False

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, ByteRequest | None, int]] = []

    def __eq__(self, other: object) -> bool:
        return self is other

    def __str__(self) -> str:
        return "dict://"

    __hash__ = None  # type: ignore[assignment]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = self.objects.get(key)
        match byte_range:
            case _ if value is None:
                return None
            case RangeByteRequest(start, end):
                value = value[start:end]
            case SuffixByteRequest(length):
                value = value[-length:]
            case OffsetByteRequest(start):
                value = value[start:]
        if not key.endswith("zarr.json"):
            self.requests.append((key, byte_range, len(value)))
        return prototype.buffer.from_bytes(value)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self.objects

    async def set(self, key: str, value: Buffer) -> None:
        self.objects[key] = value.to_bytes()

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    async def list(self) -> AsyncIterator[str]:
        for key in list(self.objects):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in list(self.objects):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in {k[len(prefix) :].split("/")[0] for k in self.objects if k.startswith(prefix)}:
            yield name


class MyLocalStore(LocalStore):
    """A local store that may do anything."""


def fsspec_local(folder: Path) -> FsspecStore:
    folder.mkdir()
    return FsspecStore.from_url(f"file://{folder}", storage_options={"auto_mkdir": True})


def icechunk_repository() -> icechunk.Repository:
    return icechunk.Repository.create(icechunk.in_memory_storage())


KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "zip": lambda path: ZipStore(path / "a.zip", mode="w"),
    "fsspec_memory": lambda path: FsspecStore.from_url(f"memory://{path}"),
    "fsspec_local": lambda path: fsspec_local(path / "fsspec"),
    "object_memory": lambda _: ObjectStore(obstore.store.MemoryStore()),
    "object_local": lambda path: ObjectStore(obstore.store.LocalStore(path / "object", mkdir=True)),
    "icechunk": lambda _: icechunk_repository().writable_session("main").store,
    "logging": lambda _: LoggingStore(MemoryStore(), log_level="ERROR"),
    "wrapper": lambda path: WrapperStore(LocalStore(path / "wrapped")),
    "subclass": lambda path: MyLocalStore(path / "subclass"),
    "dict": lambda _: DictStore(),
    "local": lambda path: LocalStore(path / "local"),
}

zstd, bz2 = zarr.codecs.ZstdCodec(), zarr.codecs.numcodecs.BZ2(level=1)


def nested() -> dict[str, Any]:
    inner = zarr.codecs.ShardingCodec(chunk_shape=(2, 3), codecs=[zarr.codecs.BytesCodec(), zstd])
    outer = zarr.codecs.ShardingCodec(chunk_shape=(4, 6), codecs=[inner])
    return {"chunks": (16, 12), "serializer": outer, "compressors": None}


def index_first() -> dict[str, Any]:
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(4, 3), codecs=[zarr.codecs.BytesCodec(), zstd], index_location="start"
    )
    return {"chunks": (16, 12), "serializer": codec, "compressors": None}


FUSED: dict[str, Any] = {"filters": TemporalXOR(), "compressors": zstd}
LAYOUTS: dict[str, dict[str, Any]] = {
    "fused": {"chunks": (8, 6)} | FUSED,
    "unfused": {"chunks": (8, 6), "compressors": bz2},
    "plain": {"chunks": (8, 6), "compressors": None},
    "v2": {"chunks": (8, 6), "zarr_format": 2},
    "sharded_fused": {"chunks": (4, 3), "shards": (16, 12)} | FUSED,
    "sharded_unfused": {"chunks": (4, 3), "shards": (16, 12), "compressors": bz2},
    "sharded_plain": {"chunks": (4, 3), "shards": (16, 12), "compressors": None},
    "index_first": index_first(),
    "nested": nested(),
}
S = slice
SELECTIONS: list[Any] = [
    ..., 0, -1, (3, 4), S(2, 5), (S(0, 16), S(0, 12)), (S(1, 40, 7), S(None, None, 5)), (..., 2),
    ([38, 0, 17], [1, 19, 2]), (S(3, 3), S(None)),
    np.arange(39 * 20).reshape(39, 20) % 97 == 0,
]  # fmt: skip


NO_V2 = {"icechunk"}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [(kind, layout) for kind in KINDS for layout in LAYOUTS if layout != "v2" or kind not in NO_V2],
)
@pytest.mark.parametrize("is_ranged", [False, True])
def test_reads_and_writes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict: None,
    kind: str,
    layout: str,
    *,
    is_ranged: bool,
) -> None:
    if is_ranged:
        monkeypatch.setattr(_stores, "_coalescing", lambda _: (0, 100))
    store = KINDS[kind](tmp_path)
    rng = np.random.default_rng(1)
    want = rng.integers(0, 9, (39, 20)).astype("f4")
    array = zarr.create_array(
        store, name="a", shape=want.shape, dtype="f4", fill_value=7, **LAYOUTS[layout]
    )
    equal(array[...], np.full_like(want, 7))
    array[...] = want
    for part, value in (
        (S(3, 5), 1),
        ((S(5, 38, 3), S(2, 9, 2)), 5),
        ((0, 0), 3),
        ((..., 19), rng.random(39, "f4")),
    ):
        array[part] = want[part] = value
    if kind != "zip":  # cannot delete
        part = S(0, 16), S(0, 12)
        array[part] = want[part] = 7
    array.resize((50, 20))
    want = np.concatenate([want, np.full((11, 20), 7, "f4")])
    array.oindex[np.array([49, 2]), 3:5] = want[[49, 2], 3:5] = 9
    with zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE}):
        theirs = zarr.open_array(store, path="a", mode="r+")
    for selection in SELECTIONS:
        if isinstance(selection, np.ndarray):
            selection = np.concatenate([selection, selection[:11]])  # noqa: PLW2901
        equal(np.asarray(array[selection]), np.asarray(want[selection]))
        equal(np.asarray(theirs[selection]), np.asarray(want[selection]))
    stats = tempozarr.pipeline_stats()
    assert (stats["python_reads"], stats["python_writes"], stats["reasons"]) == (0, 0, {})
    store.close()


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "v2"])
def test_icechunk_sessions(strict: None, ranged: None, layout: str) -> None:
    """A session sees what was committed before it, and its own writes; nobody else sees these."""
    repository = icechunk_repository()
    session = repository.writable_session("main")
    want = np.random.default_rng(0).integers(0, 9, (39, 20)).astype("f4")
    array = zarr.create_array(session.store, name="a", data=want, **LAYOUTS[layout])
    first = session.commit("one")
    session = repository.writable_session("main")
    array = zarr.open_array(session.store, path="a", mode="r+")
    array[5:30, 3] = 11
    array[0, 0] = np.nan
    committed = repository.readonly_session("main")
    equal(zarr.open_array(committed.store, path="a", mode="r")[...], want)
    second = session.commit("two")
    for snapshot in (first, second):
        store = repository.readonly_session(snapshot_id=snapshot).store
        ours = zarr.open_array(store, path="a", mode="r")
        for selection in SELECTIONS:
            equal(np.asarray(ours[selection]), np.asarray(want[selection]))
        want[5:30, 3] = 11
        want[0, 0] = np.nan
    stats = tempozarr.pipeline_stats()
    assert (stats["python_reads"], stats["python_writes"]) == (0, 0)


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize("layout", [*LAYOUTS, "filtered_shards"])
def test_cells_beyond_a_smaller_shape(tmp_path: Path, strict: None, kind: str, layout: str) -> None:
    """A write leaves them alone in shards, and not in chunks, as zarr-python has it."""
    sharding = zarr.codecs.ShardingCodec(chunk_shape=(4, 3))
    order = zarr.codecs.TransposeCodec(order=(1, 0))
    filtered = {"filters": order, "serializer": sharding, "compressors": None}
    options = LAYOUTS.get(layout, {"chunks": (12, 12)} | filtered)
    found = []
    for pipeline in (OURS, DEFAULT_PIPELINE):
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            store = KINDS[kind](tmp_path / pipeline)
            array = zarr.create_array(store, shape=(24, 20), dtype="i4", fill_value=7, **options)
            array[...] = np.arange(480).reshape(24, 20)
            array.resize((9, 20))
            array[...] = 1
            array[3:9, 2:5] = 2
            array.resize((24, 20))
            found.append(np.asarray(array[...]))
    equal(found[0], found[1])
    assert (found[0][9:12] != 7).any() == (
        "sharded" in layout or layout in {"index_first", "nested"}
    )


# zarr-python 3.1 has but one, Morton.
ORDERS: Any = getattr(zarr.codecs.sharding, "SUBCHUNK_WRITE_ORDER", [None])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("grid", [(1,), (7,), (3, 2), (5, 9), (1, 6, 5), (2, 3, 1, 4)])
def test_shards_have_zarrs_bytes(
    strict: None, order: str | None, location: Any, grid: tuple[int, ...]
) -> None:
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(2,) * len(grid),
        codecs=[zarr.codecs.BytesCodec(), zarr.codecs.Crc32cCodec()],
        index_location=location,
        **({"subchunk_write_order": order} if order else {}),  # type: ignore[arg-type]
    )
    shape = tuple(2 * n for n in grid)
    found = []
    for pipeline in (OURS, DEFAULT_PIPELINE):
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            store = DictStore()
            array = zarr.create_array(
                store, shape=shape, chunks=shape, dtype="i2", serializer=codec, compressors=None
            )
            array[...] = np.arange(array.size).reshape(shape) + 1
            whole = dict(store.objects)
            array[1:3] = 0
            array[-1] = 5
            found.append((whole, store.objects))
    assert found[0] == found[1]


def in_memory(folder: Path) -> MemoryStore:
    files = (file for file in folder.rglob("*") if file.is_file())
    buffers = {
        str(f.relative_to(folder)): cpu.Buffer.from_array_like(np.fromfile(f, "u1")) for f in files
    }
    return MemoryStore(buffers)  # type: ignore[arg-type,unused-ignore]


@pytest.fixture(scope="module")
def memory(stores: Path) -> MemoryStore:
    return in_memory(stores)


@pytest.mark.parametrize(("name", "selection"), CASES, ids=repr)
def test_every_selection(memory: MemoryStore, ranged: None, name: str, selection: Any) -> None:
    with tempozarr.enable(strict=name not in IN_PYTHON):
        ours = zarr.open_array(memory, path=name, mode="r+")
        got = outcome(lambda: ours[selection])
    theirs = zarr.open_array(memory, path=name, mode="r+")
    want = outcome(lambda: theirs[selection])
    if isinstance(want, Exception):
        assert type(got) is type(want)
        assert str(got) == str(want)
    else:
        equal(got, want)
        if isinstance(want, np.ndarray):
            assert got.flags.f_contiguous == want.flags.f_contiguous


@pytest.mark.parametrize(("name", "how", "selection", "value"), WRITES, ids=repr)
@pytest.mark.parametrize("write_empty_chunks", [False, True])
def test_every_write(
    tmp_path: Path, name: str, how: str, selection: Any, value: Any, *, write_empty_chunks: bool
) -> None:
    """The same bytes as in files."""
    data = ARRAYS[name][0]

    def write(store: Any) -> None:
        array = create(tmp_path / "a", name) if store is None else None
        if array is None:
            array = zarr.open_array(store, mode="r+")
        array[...] = data
        target = getattr(array, how) if how else array
        shape = np.shape(target[selection])
        picks = np.random.default_rng(3).integers(0, max(data.size, 1), shape)
        target[selection] = (
            value if value is not None else np.ravel(data)[picks] if data.size else data
        )

    config: Any = {"codec_pipeline.path": OURS, "array.write_empty_chunks": write_empty_chunks}
    with tempozarr.enable(strict=name not in IN_PYTHON), zarr.config.set(config):
        create(tmp_path / "b", name)
        store = in_memory(tmp_path / "b")
        write(store)
        write(None)
    want = in_memory(tmp_path / "a")
    ours = {key: buffer.to_bytes() for key, buffer in store._store_dict.items()}
    assert ours == {key: buffer.to_bytes() for key, buffer in want._store_dict.items()}


def test_missing_chunks(strict: None) -> None:
    if "array.read_missing_chunks" not in zarr.config:  # new in zarr-python 3.2
        return
    config: Any = {"read_missing_chunks": False}
    for shards in (None, (4,)):
        array = zarr.create_array(
            MemoryStore(), shape=(12,), chunks=(2,), shards=shards, dtype="i4", config=config
        )
        array[4:8] = 1
        equal(array[4:8], np.ones(4, "i4"))
        error = zarr.errors.ChunkNotFoundError  # type: ignore[attr-defined,unused-ignore]
        with pytest.raises(error, match=r"chunk\(s\) not found") as caught:
            array[...]
        assert "'c/0'" in str(caught.value)
        assert "'c/2'" in str(caught.value) or shards is None


def test_a_read_only_store_gives_zarrs_own_error() -> None:
    store = MemoryStore()
    with tempozarr.enable():
        zarr.create_array(store, shape=(4,), dtype="i4")
        array = zarr.open_array(store.with_read_only(True), mode="r")
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_values_of_another_byte_order(strict: None) -> None:
    array = zarr.create_array(MemoryStore(), shape=(7,), chunks=(3,), dtype=">i4")
    array[...] = np.arange(7, dtype=">i4")
    array[2:5] = np.arange(3, dtype="<i4")
    equal(array[...], np.array([0, 1, 0, 1, 2, 5, 6], array.dtype))


# What is fetched


def big(store: Store, **options: Any) -> zarr.Array[Any]:
    """Two shards of 4 MiB, each of 64 subchunks of 64 KiB that are no smaller when encoded."""
    layout = {"chunks": (16, 1024), "shards": (1024, 1024), "compressors": None} | options
    array = zarr.create_array(store, shape=(2048, 1024), dtype="f4", **layout)
    array[...] = data()
    return array


def data() -> Any:
    return np.random.default_rng(0).random((2048, 1024), "f4")


def test_requests_for_shards(strict: None) -> None:
    store, want, index = DictStore(), data(), 64 * 16 + 4
    subchunk, shard = 1 << 16, (1 << 22) + index
    array = big(store)
    assert store.requests == []  # complete shards
    for selection, sizes in (
        (..., [shard, shard]),
        (S(0, 1024), [shard]),
        (S(0, 600), [shard]),  # most of it
        (0, [index, subchunk]),
        (S(0, 160), [index, 10 * subchunk]),  # side by side
        (S(1000, 1030), [index, index, subchunk, 2 * subchunk]),
        (S(0, 65, 64), [index, 5 * subchunk]),  # near each other
        ([0, 1000], [index, subchunk, subchunk]),
        (S(5, 5), []),
    ):
        store.requests.clear()
        equal(array[selection], want[selection])
        assert sorted(size for *_, size in store.requests) == sorted(sizes), selection
        assert max(Counter(key for key, *_ in store.requests).values(), default=0) <= 3
    store.requests.clear()
    array[3:5] = want[3:5] = 1
    assert [request[1:] for request in store.requests] == [(None, shard)]
    equal(array[...], want)


def test_requests_for_an_index_in_front(strict: None) -> None:
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(16, 1024), codecs=[zarr.codecs.BytesCodec()], index_location="start"
    )
    store = DictStore()
    array = big(store, chunks=(1024, 1024), shards=None, serializer=codec)
    store.requests.clear()
    equal(array[100], data()[100])
    (_, index, _), (_, part, size) = store.requests
    assert index == RangeByteRequest(0, 64 * 16 + 4)
    assert isinstance(part, RangeByteRequest)
    assert size == 1 << 16


def test_requests_of_limited_size(strict: None) -> None:
    if "array.sharding_coalesce_max_gap_bytes" not in zarr.config:  # new in zarr-python 3.4
        return
    store = DictStore()
    config = {"sharding_coalesce_max_gap_bytes": 0, "sharding_coalesce_max_bytes": 1 << 17}
    array = big(store, config=config)
    store.requests.clear()
    equal(array[0:64], data()[0:64])
    assert [size >> 16 for *_, size in store.requests] == [0, 2, 2]


def test_missing_shards_and_subchunks(strict: None) -> None:
    store = DictStore()
    array = big(store)
    array[0:32] = 0
    array[1024:] = 0
    store.requests.clear()
    equal(array[0], np.zeros(1024, "f4"))
    assert [size for *_, size in store.requests] == [64 * 16 + 4]
    equal(array[1500], np.zeros(1024, "f4"))
    assert len(store.requests) == 1
    equal(array[40:], np.concatenate([data()[40:1024], np.zeros((1024, 1024), "f4")]))


class SlowStore(WrapperStore[Any]):
    """Counts how many requests are under way."""

    now = most = 0

    async def _wait(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.002)
        finally:
            self.now -= 1

    async def get(self, *args: Any, **options: Any) -> Any:
        await self._wait()
        return await super().get(*args, **options)

    async def set(self, *args: Any, **options: Any) -> Any:
        await self._wait()
        return await super().set(*args, **options)


@pytest.mark.parametrize("limit", [1, 7, None])
@pytest.mark.parametrize("shards", [None, (8,)])
def test_concurrent_requests(strict: None, ranged: None, limit: int | None, shards: Any) -> None:
    store = SlowStore(MemoryStore())
    array = zarr.create_array(store, shape=(200,), chunks=(2,), shards=shards, dtype="i4")
    want = np.arange(200, dtype="i4")
    count = 25 if shards else 100
    runs: list[Callable[[], Any]] = [
        lambda: array.__setitem__(..., want),
        lambda: equal(array[...], want),
        lambda: array.__setitem__(S(None, None, 2), want[::2]),
        lambda: equal(array.oindex[::8], want[::8]),
    ]
    with zarr.config.set({"async.concurrency": limit}):
        for run in runs:
            store.most = 0
            run()
            assert store.most == (limit or store.most)
            assert limit or store.most >= count // 4
    equal(array[...], want)


def test_more_than_waits_at_once(strict: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stores, "_BACKLOG", 100)
    for store in (MemoryStore(), SlowStore(MemoryStore())):
        array = zarr.create_array(store, shape=(500,), chunks=(5,), dtype="i4")
        array[...] = np.arange(500)
        array[1:499:2] = 0
        want = np.arange(500, dtype="i4")
        want[1:499:2] = 0
        equal(array[...], want)


# What goes wrong


class BadStore(WrapperStore[Any]):
    """Raises an error, or gives fewer bytes than there are."""

    error: Exception | None = None
    keeps: float = 1

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value: Buffer | None = await super().get(key, prototype, byte_range)
        if key.endswith("zarr.json") or value is None:
            return value
        if self.error:
            raise self.error
        return value[: int(len(value) * self.keeps)]

    async def set(self, key: str, value: Buffer) -> None:
        if self.error:
            raise self.error
        await super().set(key, value)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("shards", [None, (8,)])
def test_a_store_that_raises_errors(strict: None, ranged: None, count: int, shards: Any) -> None:
    store = BadStore(MemoryStore())
    array = zarr.create_array(
        store, name="a", shape=(8 * count,), chunks=(2,), shards=shards, dtype="i4"
    )
    array[...] = 1
    runs: list[tuple[Callable[[], object], str]] = [
        (lambda: array[...], "read"),
        (lambda: array[1], "read"),
        (lambda: array.__setitem__(1, 5), "read"),
        (lambda: array.__setitem__(..., 2), "written"),
    ]
    for run, what in runs:
        store.error = TimeoutError("no answer")
        note = rf"^no answer\nchunk .*/a/c/\d+ cannot be {what}"
        with pytest.raises(TimeoutError, match=note) as caught:
            run()
        assert caught.value is store.error
    store.error = None
    equal(array[...], np.ones(8 * count, "i4"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keeps", [0, 0.3, 0.9])
def test_a_store_that_gives_too_few_bytes(
    strict: None, ranged: None, layout: str, keeps: float
) -> None:
    store = BadStore(MemoryStore())
    options = LAYOUTS[layout]
    array = zarr.create_array(store, name="a", shape=(39, 20), dtype="f4", **options)
    array[...] = np.random.default_rng(0).random((39, 20))
    before = np.asarray(array[...])
    store.keeps = keeps
    for run in (lambda: array[...], lambda: array.__setitem__((1, 1), 5)):
        with pytest.raises(tempozarr.TempozarrError, match=r"a/(c/\d+/\d+|\d+\.\d+)"):
            run()
    got = outcome(lambda: array[1, 1])  # may be in what is there
    assert isinstance(got, tempozarr.TempozarrError) or got == before[1, 1]
    store.keeps = 1
    equal(array[...], before)


class OneRangeStore(DictStore):
    """Takes no notice of ranges."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return await super().get(key, prototype)


def test_a_store_that_takes_no_notice_of_ranges(strict: None) -> None:
    array = big(OneRangeStore())
    equal(array[5], data()[5])


@pytest.mark.parametrize(
    "entry",
    [(0, 2**62), (2**63, 2**63), (2**64 - 1, 5), (2**40, 1), (0, 1 << 25), (4 << 20, 1 << 16)],
)
def test_hostile_indexes(strict: None, entry: tuple[int, int]) -> None:
    store = DictStore()
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(16, 1024), codecs=[zarr.codecs.BytesCodec()],
        index_codecs=[zarr.codecs.BytesCodec()],
    )  # fmt: skip
    array = big(store, chunks=(1024, 1024), shards=None, serializer=codec)
    shard = store.objects["c/0/0"]
    size, index = len(shard), np.array([entry] * 64, "<u8").tobytes()
    store.objects["c/0/0"] = shard[: -len(index)] + index
    store.requests.clear()
    for selection in (0, S(0, 100), ...):
        with pytest.raises(
            tempozarr.CodecError, match=r"c/0/0.*(index is corrupt|decoded bytes|expect)"
        ):
            array[selection]
    for _, part, got in store.requests:
        assert got <= size
        if isinstance(part, RangeByteRequest):
            assert part.end - part.start <= 3 * size
    assert len(store.requests) <= 3 * 3 + 1


def test_overlapping_subchunks_are_fetched_once(strict: None) -> None:
    store = DictStore()
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(16, 1024), codecs=[zarr.codecs.BytesCodec()],
        index_codecs=[zarr.codecs.BytesCodec()],
    )  # fmt: skip
    array = big(store, chunks=(1024, 1024), shards=None, serializer=codec)
    shard = store.objects["c/0/0"]
    index = np.array([(i * 8, 1 << 16) for i in range(64)], "<u8").tobytes()
    store.objects["c/0/0"] = shard[: -len(index)] + index
    store.requests.clear()
    got = np.asarray(array[0:480])
    equal(got[16], np.frombuffer(shard, "f4", 1024, 8))
    assert sum(size for *_, size in store.requests) < (1 << 16) + 2048


def test_nothing_waits_for_a_failed_read(strict: None) -> None:
    """An error among many chunks ends the read, and later ones work."""
    store = SlowStore(BadStore(MemoryStore()))
    array = zarr.create_array(store, shape=(600,), chunks=(2,), dtype="i4")
    array[...] = 1
    key = "c/7"
    inner = store._store._store
    good = inner._store_dict[key]
    inner._store_dict[key] = cpu.Buffer.from_bytes(b"garbage")
    for step in (1, 3, 1):
        with pytest.raises(tempozarr.CodecError, match="c/7"):
            array[::step]
    inner._store_dict[key] = good
    equal(array[...], np.ones(600, "i4"))


def test_every_bit_flip_of_an_index(strict: None, ranged: None) -> None:
    store = DictStore()
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(16,),
        codecs=[zarr.codecs.BytesCodec(), zstd],
        index_codecs=[zarr.codecs.BytesCodec()],
    )
    options: Any = {"chunks": (128,), "serializer": codec, "compressors": None, "dtype": "i8"}
    array = zarr.create_array(store, shape=(128,), **options)
    array[...] = np.arange(128)
    shard = store.objects["c/0"]
    for bit in range(8 * 8 * 16):
        flipped = bytearray(shard)
        flipped[len(shard) - 128 + bit // 8] ^= 1 << bit % 8
        store.objects["c/0"] = bytes(flipped)
        store.requests.clear()
        got = outcome(lambda: array[16:48])
        if isinstance(got, np.ndarray):
            assert got.shape == (32,)
        else:
            assert isinstance(got, tempozarr.CodecError)
            assert "c/0" in str(got)
        assert sum(size for *_, size in store.requests) <= 3 * len(shard)
