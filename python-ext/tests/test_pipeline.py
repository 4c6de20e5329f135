"""`tempozarr.CodecPipeline` against zarr-python's own: same results, same files' contents."""

import copy
import json
import pickle
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
from zarr.abc.codec import ArrayArrayCodec
from zarr.storage import MemoryStore

import tempozarr
from conftest import ARRAYS, DEFAULT_PIPELINE, create, equal, ramp
from test_indexing import CASES

OURS = "tempozarr.CodecPipeline"
# What the pipeline leaves to Python.
IN_PYTHON = {"strings", "v2_strings", "blobs"}  # of variable length


@pytest.fixture
def strict() -> Iterator[None]:
    with tempozarr.enable(strict=True):
        yield


def both(path: Path, *, strict: bool = True) -> tuple[Any, Any]:
    """One stored array, under our pipeline and under zarr-python's."""
    with tempozarr.enable(strict=strict):
        ours = zarr.open_array(path, mode="r")
    theirs = zarr.open_array(path, mode="r")
    assert type(ours.async_array.codec_pipeline) is tempozarr.CodecPipeline
    return ours, theirs


def outcome(run: Any) -> Any:
    try:
        return run()
    except Exception as e:  # noqa: BLE001
        return e


@pytest.mark.parametrize(("name", "selection"), CASES, ids=repr)
def test_reads(stores: Path, name: str, selection: Any) -> None:
    ours, theirs = both(stores / name)
    with tempozarr.enable(strict=name not in IN_PYTHON):
        got = outcome(lambda: ours[selection])
    want = outcome(lambda: theirs[selection])
    if isinstance(want, Exception):
        assert type(got) is type(want)
        assert str(got) == str(want)
    else:
        equal(got, want)
        if isinstance(want, np.ndarray):
            assert got.flags.f_contiguous == want.flags.f_contiguous


WRITES: list[tuple[str, str, Any, Any]] = [
    # array, how, selection, value (a number, or random ones of the selection's shape)
    *((name, "", ..., None) for name in ARRAYS),
    *((name, "", slice(1, 6), None) for name in ARRAYS if ARRAYS[name][0].ndim),
    *(
        ("three", how, selection, value)
        for value in (None, 9, 0)
        for how, selection in [
            ("", (slice(1, 5), slice(None, None, 2), 3)), ("", 2), ("", (6, 4, 3)), ("", (..., 1)),
            ("oindex", ([6, 0, 3], [1, 0], slice(1, 3))), ("oindex", ([4, 5], 2)), ("oindex", (..., [3, 0])),
            ("oindex", (np.arange(7) % 2 == 0, 1, [0])), ("vindex", ([0, 6, 3], [4, 0, 1], [3, 3, 0])),
            ("vindex", np.arange(140).reshape(7, 5, 4) % 3 == 0), ("", (slice(3, 3),)),
            ("blocks", (1, 2)), ("blocks", (slice(1, 3), 0)),
        ]
    ),
    *(
        (name, how, selection, value)
        for name in ("sharded", "v2_f", "memory_f", "v2_big_endian")
        for value in (None, 9)
        for how, selection in [
            ("", (slice(1, 5), slice(None, None, 2))), ("", 5), ("vindex", ([0, 5], [4, 0])),
            ("", (slice(0, 3), slice(0, 3))),
        ]
    ),
    ("v2_f", "oindex", ([4, 0], [1, 4]), None), ("memory_f", "oindex", (slice(1, 4), [4, 0]), None),
    ("one", "", slice(2, 9, 3), None), ("one", "vindex", ([10, 0],), None), ("one", "", slice(0, 4), 0),
    ("v2_filters", "", slice(3, 5), 2**31 - 1), ("bool", "", slice(0, 4), False),
    ("time", "", slice(2, 7), np.datetime64("NaT")), ("text", "", 3, "abc"), ("scalar", "", (), 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "selection", "value"), WRITES, ids=repr)
@pytest.mark.parametrize("write_empty_chunks", [False, True])
def test_writes(
    tmp_path: Path, name: str, how: str, selection: Any, value: Any, *, write_empty_chunks: bool
) -> None:
    data = ARRAYS[name][0]

    def write(folder: Path, pipeline: str) -> list[Path]:
        config: Any = {
            "codec_pipeline.path": pipeline,
            "array.write_empty_chunks": write_empty_chunks,
        }
        with zarr.config.set(config):
            array = create(folder, name)
            array[...] = data
            target = getattr(array, how) if how else array
            shape = np.shape(target[selection])
            picks = np.random.default_rng(3).integers(0, max(data.size, 1), shape)
            target[selection] = (
                value if value is not None else np.ravel(data)[picks] if data.size else data
            )
        return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())

    with tempozarr.enable(strict=name not in IN_PYTHON):
        ours = write(tmp_path / "ours", OURS)
    theirs = write(tmp_path / "theirs", DEFAULT_PIPELINE)
    assert ours == theirs
    equal(*(zarr.open_array(tmp_path / which, mode="r")[...] for which in ("ours", "theirs")))


def test_the_fill_value_and_missing_chunks(tmp_path: Path, strict: None) -> None:
    for fill in (np.nan, -0.0, 0.0, 5.0):
        path = tmp_path / str(fill)
        array = zarr.create_array(path, shape=(10,), chunks=(4,), dtype="f4", fill_value=fill)
        array[0:4] = 1
        assert np.asarray(array[...]).tobytes() == np.array([1] * 4 + [fill] * 6, "f4").tobytes()
        array[0:4] = fill
        assert not list((path / "c").glob("*"))
        array[8:] = -fill if fill == 0 else 7
        assert [f.name for f in (path / "c").glob("*")] == ["2"]
        assert np.signbit(array[9]) == np.signbit(-fill if fill == 0 else 7)


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("f4", "0x7fc12345"),
        ("f8", "0xfff8000000012345"),
        ("c8", ["0x7fc12345", "-Infinity"]),
        ("c16", [1.5, "0x7ff8000000012345"]),
    ],
)
def test_missing_chunks_have_the_very_nan_of_the_metadata(
    tmp_path: Path, strict: None, dtype: str, fill: Any
) -> None:
    zarr.create_array(tmp_path, shape=(10,), chunks=(4,), dtype=dtype, fill_value=np.nan)
    document = json.loads((tmp_path / "zarr.json").read_text())
    (tmp_path / "zarr.json").write_text(json.dumps(document | {"fill_value": fill}))
    array = zarr.open_array(tmp_path, mode="r+")
    array[:2] = 1
    expected = tempozarr.open_array(tmp_path)[...]
    with zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE}):
        theirs = zarr.open_array(tmp_path, mode="r")[...]
    for values in (array[...], theirs):
        assert np.asarray(values).tobytes() == expected.tobytes()
    (nan,) = (part for part in np.ravel([fill]) if part.startswith("0x"))
    assert bytes.fromhex(nan[2:])[::-1] in expected[-1:].tobytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_config_order_and_write_empty_chunks(
    tmp_path: Path, strict: None, zarr_format: Any
) -> None:
    orders: tuple[Any, ...] = ("C", "F")
    for order in orders:
        config: Any = {"order": order, "write_empty_chunks": True}
        array = zarr.create_array(
            tmp_path / order, shape=(5, 6), chunks=(2, 4), dtype="i4", zarr_format=zarr_format,
            order=order if zarr_format == 2 else None, config=config,
        )  # fmt: skip
        data = np.asfortranarray(ramp(5, 6, dtype="i4"))
        array[...] = data
        array[2:4, 0:4] = 0
        data[2:4, 0:4] = 0
        equal(array[...], data)
        assert np.asarray(array[...]).flags.f_contiguous == (order == "F")
        equal(tempozarr.open_array(tmp_path / order)[...], data)
        assert (
            sum(1 for f in (tmp_path / order).rglob("*") if f.is_file() and f.name[0] in "012c")
            == 6
        )
    with zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE}):
        equal(zarr.open_array(tmp_path / "F", mode="r")[...], data)


def test_lists_into_shards(tmp_path: Path, strict: None) -> None:
    """zarr-python 3.1 raises an error."""
    array, want = create(tmp_path / "a", "sharded"), ARRAYS["sharded"][0].copy()
    array[...] = want
    rows, columns = np.array([9, 0, 4]), np.array([4, 1])
    array.oindex[rows, columns] = want[np.ix_(rows, columns)] = ramp(3, 2)
    array.oindex[rows, 1:4] = want[rows, 1:4] = ramp(3, 3) + 50
    equal(array[...], want)


def test_fortran_ordered_input_through_filters(tmp_path: Path, strict: None) -> None:
    """zarr-python 3.1 stores this transposed."""
    data = np.asfortranarray(ramp(4, 4, dtype="i4"))
    array = zarr.create_array(
        tmp_path / "a", shape=(4, 4), chunks=(4, 4), dtype="i4",
        filters=zarr.codecs.numcodecs.Delta(dtype="i4"),
    )  # fmt: skip
    array[...] = data
    equal(array[...], np.ascontiguousarray(data))
    tempozarr.disable()
    equal(zarr.open_array(tmp_path / "a", mode="r")[...], data)


def test_resize_and_append(tmp_path: Path, strict: None) -> None:
    for shards in (None, (4, 4)):
        array = zarr.create_array(
            tmp_path / str(shards), shape=(3, 4), chunks=(2, 2), shards=shards, dtype="f8"
        )
        array[...] = ramp(3, 4)
        array.append(ramp(6, 4) + 100)
        equal(array[...], np.concatenate([ramp(3, 4), ramp(6, 4) + 100]).astype("f8"))
        array.resize((2, 4))
        array.resize((9, 4))  # zarr-python leaves what is left of the last chunk or shard
        equal(array[4:], np.zeros((5, 4)))


def test_sharding_within_sharding(tmp_path: Path, strict: None) -> None:
    inner = zarr.codecs.ShardingCodec(
        chunk_shape=(2,), codecs=[zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()]
    )
    outer = zarr.codecs.ShardingCodec(chunk_shape=(4,), codecs=[inner])
    array = zarr.create_array(
        tmp_path / "a", shape=(21,), chunks=(8,), dtype="i2", serializer=outer, compressors=None
    )
    array[3:20] = np.arange(17)
    want = np.zeros(21, "i2")
    want[3:20] = np.arange(17)
    equal(array[...], want)
    tempozarr.disable()
    equal(zarr.open_array(tmp_path / "a", mode="r")[...], want)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">M8[s]", ">U3"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_byte_order(tmp_path: Path, strict: None, dtype: str, zarr_format: Any) -> None:
    data = np.arange(7).astype("i8").astype(dtype)
    array = zarr.create_array(
        tmp_path / "a", shape=(7,), chunks=(3,), dtype=dtype, zarr_format=zarr_format
    )
    array[...] = data.astype(data.dtype.newbyteorder("<"))
    array[1:5] = data[1:5]
    equal(array[...], data)
    tempozarr.disable()
    theirs = zarr.open_array(tmp_path / "a", mode="r")
    equal(theirs[...], data.astype(theirs.dtype))


def test_a_value_that_is_broadcast_or_of_another_shape(tmp_path: Path) -> None:
    def write(pipeline: str, value: Any) -> Any:
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            array = zarr.create_array(
                tmp_path / "a", shape=(2, 4), chunks=(2, 4), dtype="f8", overwrite=True
            )
            error = outcome(lambda: array.__setitem__(..., value))
            return type(error), np.asarray(array[...]).tolist()

    for shape in ((1, 4), (2, 1), (4,), (3, 4), (1, 1), (2, 5), (1, 2, 4)):
        assert write(OURS, np.ones(shape)) == write(DEFAULT_PIPELINE, np.ones(shape)), shape


def test_read_missing_chunks(tmp_path: Path, strict: None) -> None:
    if "array.read_missing_chunks" not in zarr.config:  # new in zarr-python 3.2
        return
    config: Any = {"read_missing_chunks": False}
    array = zarr.create_array(tmp_path / "a", shape=(6,), chunks=(2,), dtype="i4", config=config)
    array[2:4] = 1
    equal(array[2:4], np.ones(2, "i4"))
    error = zarr.errors.ChunkNotFoundError  # type: ignore[attr-defined,unused-ignore]
    with pytest.raises(error, match=r"2 chunk\(s\) not found") as caught:
        array[...]
    assert "'c/0'" in str(caught.value)
    assert "'c/2'" in str(caught.value)


def test_a_read_only_store_gives_zarrs_own_error(stores: Path) -> None:
    ours, theirs = both(stores / "three", strict=False)
    for array in (ours, theirs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    equal(ours[...], ARRAYS["three"][0])


def test_out_of_another_kind(stores: Path) -> None:
    from zarr.core.buffer import default_buffer_prototype

    ours, _ = both(stores / "three")
    out = default_buffer_prototype().nd_buffer.create(shape=(7, 5, 4), dtype=np.dtype("f8"))
    ours.get_basic_selection(..., out=out)
    equal(out.as_numpy_array(), ARRAYS["three"][0].astype("f8"))
    assert list(tempozarr.pipeline_stats()["reasons"]) == ["the data is float64, chunks are <f4"]


# What Python does


@dataclass(frozen=True)
class Negate(ArrayArrayCodec):
    """A codec that only Python has."""

    name: str = "negate"
    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Negate":
        return cls(data["name"])

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _spec: Any) -> int:
        return input_byte_length

    async def _encode_single(self, chunk: Any, _spec: Any) -> Any:
        return type(chunk).from_numpy_array(-chunk.as_numpy_array())

    _decode_single = _encode_single  # type: ignore[assignment]


class MyDelta(numcodecs.Delta):  # type: ignore[misc]
    """A v2 filter under a well-known name that does something else."""

    def encode(self, buf: Any) -> Any:
        return -np.asarray(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        return -np.frombuffer(buf, self.dtype)


def fallbacks(tmp_path: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    local = str(tmp_path / "a")
    structured = np.dtype([("a", "i4"), ("b", "f4")])
    return {
        "negate is implemented by test_pipeline.Negate, which only Python can run": (local, {"filters": Negate()}),
        "temporal_xor is implemented by test_pipeline.Negate, which only Python can run": (
            local, {"filters": Negate("temporal_xor")},
        ),
        "negate is implemented by test_pipeline.Negate, which only Python can run ": (
            local, {"filters": Negate(), "shards": (8,)},
        ),
        "delta is implemented by test_pipeline.MyDelta, which only Python can run": (
            local, {"filters": [MyDelta("i4")], "zarr_format": 2},
        ),
        "negate is implemented by test_pipeline.Negate, which only Python can run  ": (
            MemoryStore(), {"filters": Negate()},
        ),
        "Rust cannot use the metadata: data type string": (local, {"dtype": "string"}),
        "Rust cannot use the metadata: ": (local, {"dtype": structured}),
    }  # fmt: skip


@pytest.mark.parametrize("case", range(7))
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_falls_back_to_python(tmp_path: Path, case: int) -> None:
    reason, (store, options) = list(fallbacks(tmp_path).items())[case]
    with tempozarr.enable():
        array = zarr.create_array(
            store, **({"shape": (10,), "chunks": (4,), "dtype": "i4"} | options)
        )
    kind = array.dtype.kind
    data = np.arange(10).astype(array.dtype if kind != "V" else "i4")
    if kind == "V":
        data = np.array([(i, i / 2) for i in range(10)], array.dtype)
    array[...] = data
    array[2:5] = data[2:5]
    equal(array[...], data)
    equal(array[::3], data[::3])
    stats = tempozarr.pipeline_stats(reset=True)
    assert (stats["rust_reads"], stats["rust_writes"]) == (0, 0)
    assert (stats["python_reads"], stats["python_writes"]) == (2, 2)
    assert [r[: len(reason)] for r in stats["reasons"]] == [
        reason.rstrip() if reason[-2] != ":" else reason
    ]
    with tempozarr.enable(strict=True):
        for run in (lambda: array[...], lambda: array.__setitem__(slice(0, 2), data[:2])):
            with pytest.raises(tempozarr.TempozarrError, match="strict mode: ") as caught:
                run()
            assert reason.rstrip() in str(caught.value)
    assert sum(tempozarr.pipeline_stats()["reasons"].values()) == 0
    equal(array[...], data)


def test_an_alias_lets_rust_run_a_users_codec(tmp_path: Path) -> None:
    from tempozarr import _aliases
    from tempozarr.codecs import TemporalXOR

    @dataclass(frozen=True)
    class Mine(TemporalXOR):
        def to_dict(self) -> dict[str, Any]:
            return super().to_dict() | {"name": "test.xor"}

    data = ramp(9, dtype="i4")
    tempozarr.enable()
    array = zarr.create_array(tmp_path / "a", shape=(9,), chunks=(4,), dtype="i4", filters=Mine())
    array[...] = data
    assert tempozarr.pipeline_stats(reset=True)["python_writes"] == 1
    tempozarr.register_alias("test.xor", "temporal_xor")
    try:
        equal(array[...], data)
        assert tempozarr.pipeline_stats()["rust_reads"] == 1
        equal(tempozarr.open_array(tmp_path / "a")[...], data)
    finally:
        _aliases.aliases.discard("test.xor")
    with pytest.raises(ValueError, match="nothing"):
        tempozarr.register_alias("test.xor", "nothing")


# The object


def test_equality_pickles_and_copies(stores: Path) -> None:
    ours, _ = both(stores / "three")
    pipeline = ours.async_array.codec_pipeline
    ours[...]
    for other in (
        pickle.loads(pickle.dumps(pipeline)),
        copy.copy(pipeline),
        copy.deepcopy(pipeline),
    ):
        assert other == pipeline
        assert hash(other) == hash(pipeline)
        assert list(other) == list(pipeline)
    assert pickle.dumps(pipeline) == pickle.dumps(pickle.loads(pickle.dumps(pipeline)))
    again = pickle.loads(pickle.dumps(ours))
    assert again == ours
    with tempozarr.enable():
        equal(pickle.loads(pickle.dumps(ours))[...], ARRAYS["three"][0])
    assert repr(pipeline).startswith("CodecPipeline(array_array_codecs=(TemporalXOR(axis=0),)")


def test_what_zarr_python_asks_of_a_pipeline(stores: Path) -> None:
    ours, theirs = both(stores / "sharded")
    mine, its = ours.async_array.codec_pipeline, theirs.async_array.codec_pipeline
    assert mine.supports_partial_decode == its.supports_partial_decode is True
    assert mine.supports_partial_encode == its.supports_partial_encode is True
    assert list(mine) == list(its)
    with pytest.raises(NotImplementedError):
        mine.from_array_metadata_and_store(array_metadata=ours.metadata, store=ours.store)
    assert type(mine).from_codecs(list(its)) == mine
    raw = zarr.create_array({}, shape=(4,), dtype="i4", compressors=None)
    pipeline = tempozarr.CodecPipeline.from_codecs(raw.metadata.codecs)  # type: ignore[union-attr]
    spec = zarr.core.array_spec.ArraySpec(
        (4,), raw.metadata.dtype, 0, zarr.core.array_spec.ArrayConfig("C", False),
        zarr.core.buffer.default_buffer_prototype(),
    )  # fmt: skip
    assert pipeline.compute_encoded_size(16, spec) == 16
    nd = spec.prototype.nd_buffer.from_numpy_array(np.arange(4, dtype="i4"))

    async def there_and_back() -> Any:
        (encoded,) = await pipeline.encode([(nd, spec)])
        (decoded,) = await pipeline.decode([(encoded, spec)])
        assert decoded is not None
        return decoded.as_numpy_array()

    equal(zarr.core.sync.sync(there_and_back()), np.arange(4, dtype="i4"))


# enable, disable, counters


def test_enable_and_disable() -> None:
    def now() -> Any:
        return zarr.config.get("codec_pipeline.path")

    tempozarr.enable()
    assert now() == OURS
    tempozarr.disable()
    assert now() == DEFAULT_PIPELINE
    tempozarr.disable()
    assert now() == DEFAULT_PIPELINE
    with tempozarr.enable():
        with tempozarr.enable(strict=True):
            assert now() == OURS
        assert now() == OURS
    assert now() == DEFAULT_PIPELINE
    with pytest.raises(KeyError), tempozarr.enable(strict=True):
        raise KeyError
    assert now() == DEFAULT_PIPELINE
    with zarr.config.set({"codec_pipeline.path": "another"}):
        tempozarr.disable()
        assert now() == "another"
        tempozarr.enable()
        tempozarr.disable()
        assert now() == "another"


def test_strict_mode_ends_with_its_block() -> None:
    array = zarr.array([1, 2])
    with tempozarr.enable():
        ours = zarr.create_array(MemoryStore(), shape=(2,), dtype="i8", filters=Negate())
        with (
            tempozarr.enable(strict=True),
            pytest.raises(tempozarr.TempozarrError, match="Negate"),
        ):
            ours[...]
        equal(ours[...], np.zeros(2, "i8"))
    equal(array[...], np.array([1, 2]))


def test_strict_mode_and_pipeline_by_environment(stores: Path) -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys, zarr; print(zarr.open(sys.argv[1], mode='r')[0, 0].tolist());"
        "import tempozarr; print(tempozarr.pipeline_stats()['rust_reads']);"
        "zarr.create_array({}, shape=2, dtype='string')[:]"
    )
    environment = os.environ | {"ZARR_CODEC_PIPELINE__PATH": OURS, "TEMPOZARR_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(stores / "three")],
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "[0.0, 1.0, 2.0, 3.0]\n1\n"
    assert "TempozarrError: strict mode: expected Rust to do this" in done.stderr


def test_counters(stores: Path, tmp_path: Path) -> None:
    ours, theirs = both(stores / "sharded")
    theirs[...]
    ours[...]
    ours[3]
    with tempozarr.enable():
        create(tmp_path / "a", "sharded")[...] = 1
    want = {"rust_reads": 2, "rust_writes": 1, "python_reads": 0, "python_writes": 0, "reasons": {}}
    assert tempozarr.pipeline_stats() == want
    assert tempozarr.pipeline_stats(reset=True) == want
    assert tempozarr.pipeline_stats()["rust_reads"] == 0


def test_threads_of_zarr_config(stores: Path) -> None:
    for workers in (1, 3, None):
        with zarr.config.set({"threading.max_workers": workers}):
            ours, _ = both(stores / "three")
            equal(ours[...], ARRAYS["three"][0])
            equal(tempozarr.open_array(stores / "three")[...], ARRAYS["three"][0])


def test_many_threads_at_once(tmp_path: Path, strict: None) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(64, 8), chunks=(4, 8), dtype="f8")
    data = ramp(64, 8, dtype="f8")
    failures: list[Exception] = []

    def work(start: int) -> None:
        try:
            for _ in range(5):
                array[start : start + 8] = data[start : start + 8]
                equal(array[start : start + 8], data[start : start + 8])
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 64, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    equal(array[...], data)


def test_a_damaged_chunk_is_an_error_and_is_not_overwritten(tmp_path: Path, strict: None) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(4,), chunks=(4,), dtype="i4")
    array[...] = 1
    file = tmp_path / "a/c/0"
    file.write_bytes(file.read_bytes()[:-3])
    damaged = file.read_bytes()
    for run in (lambda: array[...], lambda: array.__setitem__(slice(1, 2), 5)):
        with pytest.raises(tempozarr.CodecError):
            run()
    assert file.read_bytes() == damaged
    array[...] = 2
    equal(array[...], np.full(4, 2, "i4"))


def test_metadata_of_stores_written_in_rust(tmp_path: Path, strict: None) -> None:
    """The pipeline has no part in what zarr-python writes as metadata."""
    create(tmp_path / "ours", "sharded")
    tempozarr.disable()
    create(tmp_path / "theirs", "sharded")
    ours, theirs = (
        json.loads((tmp_path / w / "zarr.json").read_text()) for w in ("ours", "theirs")
    )
    assert ours == theirs


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (8,))])
def test_writing_delta_of_floats_warns(
    tmp_path: Path, strict: None, zarr_format: Any, shards: Any
) -> None:
    for dtype, is_lossy in (("<f4", True), ("<i4", False)):
        delta = (zarr.codecs.numcodecs if zarr_format == 3 else numcodecs).Delta(dtype=dtype)
        array = zarr.create_array(
            tmp_path / dtype,
            shape=(8,),
            chunks=(4,),
            shards=shards,
            dtype="f4",
            filters=[delta],
            zarr_format=zarr_format,
            fill_value=0,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            array[:] = 1.5
        warned = any("delta of <f4 is lossy" in str(w.message) for w in caught)
        assert warned == is_lossy
        assert array[0] == 1.5


def test_a_fill_value_that_only_zarr_python_understands(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(4,), chunks=(2,), dtype="bool")[:2] = [False, True]
    document = json.loads((tmp_path / "zarr.json").read_text())
    document["fill_value"] = ["NaN", "Infinity"]
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    wanted = zarr.open_array(tmp_path, mode="r")[...]
    with tempozarr.enable():
        equal(zarr.open_array(tmp_path, mode="r")[...], wanted)
