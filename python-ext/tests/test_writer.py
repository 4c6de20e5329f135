"""`tempozarr.Writer`: what is appended is what every reader reads, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

import tempozarr
from conftest import examples
from producer import LAYOUT, MID, SCHEMA, rows
from tempozarr import CodecError, MetadataError, StoreError, TempozarrError, Writer, _commit, plan
from tempozarr.codecs import TemporalXOR
from tempozarr.schema import ArraySchema, GroupSchema

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")


def check(store: Path, count: int) -> None:
    """Compare everything with what must be there, by two readers."""
    expected = rows(0, count)
    for group in readers(store):
        for path, values in expected.items():
            found = group[path][...]
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values)


def run(program: str, *arguments: object, cwd: Path | None = None) -> Any:
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def readers(store: Path) -> tuple[Any, Any]:
    return tempozarr.open_group(store), zarr.open_group(store, mode="r")


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.zarr"


def test_each_flush_is_visible_and_what_comes_after_is_not(store: Path) -> None:
    count = 0
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        check(store, 0)
        for more in (1, 7, 0, 8, 100, 3, 32, 64, 5):
            writer.append(rows(count, count + more))
            check(store, count)
            count += more
            assert (writer.rows, writer.flushed_rows) == (count, count - more)
            writer.flush()
            assert writer.flushed_rows == count
            check(store, count)
        writer.append(rows(count, count + 9))
    check(store, count + 9)


@settings(max_examples=examples(15))
@given(
    st.lists(st.tuples(st.integers(0, 90), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from([(1, None), (3, None), (8, None), (1, 4), (8, 16), (5, 35)]),
)
def test_any_sequence_of_appends(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, bool, bool]],
    layout: tuple[int, int | None],
) -> None:
    store = tmp_path_factory.mktemp("any") / "store"
    count = 0
    writer = Writer(store, SCHEMA, layout=dict.fromkeys(LAYOUT, layout), sync=False)
    for more, flush, reopen in steps:
        writer.append(rows(count, count + more))
        count += more
        if flush:
            writer.flush()
            check(store, count)
        if reopen:
            writer.close()
            writer = Writer(store, SCHEMA if flush else None, mode="a", sync=False)
            assert writer.rows == count
    writer.close()
    check(store, count)
    assert not list(store.rglob(".tempozarr"))


def test_the_same_rows_make_the_same_store(tmp_path: Path) -> None:
    with Writer(tmp_path / "at once", SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 333))
    with Writer(tmp_path / "bit by bit", SCHEMA, layout=LAYOUT) as writer:
        for i in range(333):
            writer.append(rows(i, i + 1))
    assert files(tmp_path / "at once") == files(tmp_path / "bit by bit")


def test_zarr_python_writes_the_same_arrays(store: Path, tmp_path: Path) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 100))
    for path, values in rows(0, 100).items():
        document = json.loads((store / path / "zarr.json").read_text())
        copy = tmp_path / "copy" / path
        copy.mkdir(parents=True)
        (copy / "zarr.json").write_text(json.dumps(document))
        array = zarr.open_array(copy, mode="r+")
        array[...] = values
        ours, theirs = files(store / path), files(copy)
        assert ours.keys() == theirs.keys()
        if array.shards is None:  # zarr-python orders subchunks in another way
            assert {k: v for k, v in ours.items() if "c/" in k} == {
                k: v for k, v in theirs.items() if "c/" in k
            }


@pytest.mark.parametrize("index_location", ["start", "end"])
def test_arrays_of_zarr_python_are_continued(store: Path, index_location: Any) -> None:
    data = np.arange(700 * 7 * 2, dtype="f8").reshape(700, 7, 2)
    create: dict[str, Any] = {"shape": (0, 7, 2), "dtype": "f8", "fill_value": 5}
    group = zarr.create_group(store, attributes={"who": "zarr-python"})
    arrays = [
        group.create_array("plain", chunks=(16, 3, 2), **create),
        group.create_array(
            "sharded",
            chunks=(4, 2, 1),
            shards={"shape": (16, 4, 2), "index_location": index_location},
            filters=[TemporalXOR()],
            **create,
        ),
        group.create_array(
            "dots", chunks=(16, 7, 2), chunk_key_encoding={"name": "v2", "separator": "."}, **create
        ),
    ]
    for array in arrays:
        array.append(data[:27])
    zarr.consolidate_metadata(store)
    count = 27
    for more in (1, 3, 200):
        with Writer(store, mode="a") as writer:
            for _ in range(3):
                new = data[count : count + more]
                writer.append(dict.fromkeys(("plain", "sharded", "dots"), new))
                writer.flush()
                count += more
                for opened in (*readers(store), zarr.open_consolidated(store)):
                    for name in ("plain", "sharded", "dots"):
                        found: Any = opened[name]
                        assert found.shape == (count, 7, 2)
                        np.testing.assert_array_equal(found[...], data[:count])
    assert tempozarr.open_group(store).attrs == {"who": "zarr-python"}
    for _, array in zarr.open_group(store, mode="r+").arrays():
        array.append(data[count:])
        np.testing.assert_array_equal(array[...], data)


def test_rows_that_zarr_python_cut_off_do_not_come_back(store: Path) -> None:
    with Writer(store, MID, layout={"": (4, 16)}) as writer:
        writer.append(np.arange(30.0))
    zarr.open_array(store, mode="r+").resize((6,))
    with Writer(store, mode="a") as writer:
        writer.append(np.full(1, -1.0))
    zarr.open_array(store, mode="r+").resize((30,))
    expected = np.zeros(30)
    expected[:7] = [0, 1, 2, 3, 4, 5, -1]
    np.testing.assert_array_equal(tempozarr.open_array(store)[...], expected)


@pytest.mark.parametrize("layout", [(8, None), (8, 8), (4, 16)])
def test_a_chunk_that_has_only_fill_values_left(
    store: Path, layout: tuple[int, int | None]
) -> None:
    with Writer(store, MID, layout={"": layout}) as writer:
        writer.append([0.0, 0, 0, 5, 5])
    zarr.open_array(store, mode="r+").resize((3,))
    with Writer(store, mode="a") as writer:
        writer.append([0.0, 0])
    zarr.open_array(store, mode="r+").resize((7,))
    for array in (tempozarr.open_array(store), zarr.open_array(store, mode="r")):
        np.testing.assert_array_equal(np.asarray(array[...]), np.zeros(7))


def test_layouts_may_name_some_of_the_arrays_or_be_of_the_only_one(store: Path) -> None:
    arrays = [MID, MID.model_copy(update={"name": "other"})]
    group = GroupSchema(arrays=arrays)
    with Writer(store, group, layout={"raw": (4, 16)}) as writer:
        assert writer.layout is not None
        assert writer.layout["raw"] == (4, 16)
        assert writer.layout["other"] == plan(group)["other"]
    with Writer(store, MID, layout=plan(MID, 5)[""]) as writer:
        assert writer.layout == {"": plan(MID, 5)[""]}
    with Writer(store, MID, layout=(4, None)) as writer:
        writer.append([0.0, 1])
    assert tempozarr.open_array(store).chunks == (4,)
    with Writer(store, mode="a") as writer:
        assert writer.layout is None
    with pytest.raises(ValueError, match=r"layout: expected paths among \[''\], got \['mid'\]"):
        Writer(store, MID, layout={"mid": (4, None)})
    wrong: Any = 4096
    with pytest.raises(
        TypeError, match=r"layout: expected a tempozarr\.Plan, or \(rows of .* 4096"
    ):
        Writer(store, MID, layout=wrong)
    assert tempozarr.open_array(store).shape == (2,)  # what was there still is


def test_one_array_is_a_store(store: Path) -> None:
    with Writer(store, MID) as writer:
        writer.append([1.0, 2.0])
        writer.append([])
        writer.attrs["unit"] = "m"
    with Writer(LocalStore(store), mode="a") as writer:
        writer.append(np.array([3], ">f8"))
    array = tempozarr.open_array(store)
    assert (list(array), array.attrs) == ([1, 2, 3], {"unit": "m"})


def test_every_data_type(store: Path) -> None:
    kinds = [
        "bool",
        "i1",
        "u2",
        "i4",
        "u8",
        "f2",
        "f4",
        "f8",
        "c8",
        "c16",
        "M8[ns]",
        "m8[s]",
        "S5",
        "U3",
    ]
    schema = GroupSchema(
        arrays=[
            ArraySchema(name=f"a{i}", dtype=kind, row_shape=(2,)) for i, kind in enumerate(kinds)
        ]
    )
    data = {
        f"a{i}": np.arange(66).astype("i8").astype(kind).reshape(33, 2)
        for i, kind in enumerate(kinds)
    }
    with Writer(store, schema, layout=dict.fromkeys(data, (4, 8))) as writer:
        for i in range(0, 33, 5):
            writer.append({name: values[i : i + 5] for name, values in data.items()})
    for opened in readers(store):
        for name, values in data.items():
            assert opened[name][...].tobytes() == values.tobytes()


def test_groups_have_their_own_lengths(store: Path) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        data = rows(0, 20)
        writer.append({"mid/raw": data.pop("mid/raw")})
        writer.append({name: values[:6] for name, values in data.items()})
        assert writer.rows_by_group == {"": 6, "mid": 20}
        assert writer.rows == 6
    with Writer(store, mode="a") as writer:
        assert writer.rows_by_group == {"": 6, "mid": 20}


def test_late_arrays(store: Path) -> None:
    mean = ArraySchema(name="mean", dtype="float32", row_shape=(3,), late=True)
    schema = SCHEMA.model_copy(update={"arrays": (*SCHEMA.arrays, mean)})
    values = np.arange(3000, dtype="f4").reshape(1000, 3)
    with Writer(store, schema, layout=LAYOUT, consolidate=True) as writer:
        writer.append(rows(0, 10))
        with pytest.raises(TypeError, match=r"mean: expected data type float32, got float64"):
            writer.write_late("mean", values.astype("f8"))
        writer.write_late("mean", values)
        assert "mean" not in tempozarr.open_group(store)
        with pytest.raises(ValueError, match="a late array is written once"):
            writer.write_late("mean", values)
        with pytest.raises(KeyError, match="that the schema calls late"):
            writer.write_late("book", values)
        with pytest.raises(KeyError, match="expected rows of book, time, mid/raw, got 'mean'"):
            writer.append({"mean": values})
    check(store, 10)
    group: Any
    for group in (*readers(store), zarr.open_consolidated(store)):
        np.testing.assert_array_equal(group["mean"][...], values)
    with Writer(store, schema, mode="a") as writer, pytest.raises(ValueError, match="written once"):
        writer.write_late("mean", values)


@pytest.mark.parametrize("sync", [True, False])
def test_a_flush_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    store = tmp_path / "new" / "folders" / "store"
    with Writer(store, SCHEMA, layout=LAYOUT, sync=sync) as writer:
        writer.append(rows(0, 10))
        writer.flush()
        staging = store / "book" / ".tempozarr"
        assert (staging.stat().st_ino in synced) is sync
    # Chunks are synced by Rust.
    documents = [
        *store.rglob("zarr.json"),
        *(path for path in tmp_path.rglob("*") if path.is_dir()),
    ]
    for path in (*documents, tmp_path):
        assert (path.stat().st_ino in synced) is sync, path


def test_consolidated_metadata_changes_in_one_piece(store: Path) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT, consolidate=True) as writer:
        writer.append(rows(0, 10))
    with Writer(store, mode="a") as writer:
        writer.append(rows(10, 23))
    group: Any = zarr.open_consolidated(store)
    assert group["mid/raw"].shape == group["book"].shape[:1] == (23,)
    assert sorted(group["mid"].array_keys()) == ["raw"]
    theirs = zarr.consolidate_metadata(store)
    assert theirs.metadata.consolidated_metadata == group.metadata.consolidated_metadata


def test_xarray_sees_coordinates(store: Path) -> None:
    import xarray

    schema = GroupSchema(
        arrays=[
            ArraySchema(name="time", dtype="M8[ns]", dimension_names=["time"]),
            ArraySchema(name="x", dtype="f4", row_shape=(2,), dimension_names=["time", "side"]),
        ]
    )
    with Writer(store, schema) as writer:
        time = np.arange(5).astype("M8[ns]")
        writer.append({"time": time, "x": np.ones((5, 2), "f4")})
    data = xarray.open_zarr(store, consolidated=False)
    assert list(data.coords) == ["time"]
    assert data.x.sel(time=time[2]).shape == (2,)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"book": rows(0, 3)["book"]}, KeyError, "of all arrays of group /, got none of time"),
        ({"time": rows(0, 3)["time"]}, KeyError, "of all arrays of group /, got none of book"),
        (rows(0, 3) | {"other": 1}, KeyError, "expected rows of book, time, mid/raw, got 'other'"),
        (rows(0, 3) | {"time": np.zeros(2, "i8")}, ValueError, "got book 3, time 2"),
        (
            rows(0, 3) | {"time": np.zeros(3)},
            TypeError,
            "time: expected data type int64, got float64",
        ),
        (rows(0, 3) | {"time": [1, "x", 2]}, ValueError, "invalid literal"),
        (rows(0, 3) | {"time": np.zeros((3, 1), "i8")}, ValueError, r"shape \(n,\), got \(3, 1\)"),
        (
            rows(0, 3) | {"book": np.zeros((5, 3), "f4")},
            ValueError,
            r"book: expected rows of shape \(n, 5, 3\), got \(5, 3\)",
        ),
        ([1, 2], TypeError, "expected rows by array, such as {'book': rows}, got list"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_is_taken(
    store: Path, bad: Any, error: type[Exception], message: str
) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 7))
        with pytest.raises(error, match=message):
            writer.append(bad)
        assert writer.rows_by_group == {"": 7, "mid": 7}
        writer.append(rows(7, 30))
    check(store, 30)


@pytest.mark.parametrize(
    ("dtype", "stored", "bad"),
    [
        ("f8", "int16", np.nan),
        ("f8", "int16", 32768.0),
        ("i8", "uint8", -1),
        ("f4", "int32", 2.0**31),
    ],
)
def test_values_that_a_cast_cannot_hold(store: Path, dtype: str, stored: str, bad: float) -> None:
    astype = {"encode_dtype": stored, "decode_dtype": np.dtype(dtype).name}
    codecs = [{"name": "numcodecs.astype", "configuration": astype}, "zstd"]
    schema = ArraySchema(name="a", dtype=dtype, row_shape=(2,), codecs=codecs)
    with Writer(store, schema) as writer:
        writer.append(np.ones((3, 2), dtype))
        values = np.ones((4, 2), dtype)
        values[2, 1] = bad
        with pytest.raises(
            ValueError, match=rf"expected values that fit {stored}, as .* at \[2, 1\]"
        ):
            writer.append(values)
        writer.append(np.ones((4, 2), dtype))
    assert tempozarr.open_array(store).shape == (7, 2)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("stored", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_all_values_that_a_cast_holds(store: Path, dtype: str, stored: str) -> None:
    limits, kind = np.iinfo(stored), np.dtype(dtype)
    astype = {"encode_dtype": stored, "decode_dtype": kind.name}
    codecs = [{"name": "numcodecs.astype", "configuration": astype}, "zstd"]
    bounds = [limits.min, limits.max, limits.max // 2 + 1]
    if kind.kind == "f":
        bounds = [bound for bound in bounds if abs(bound) <= float(np.finfo(kind).max)]
        below = [np.nextafter(kind.type(bound), kind.type(0)) for bound in bounds]
        candidates = [*below, *map(kind.type, bounds), kind.type(-0.5), kind.type(0)]
    else:
        candidates = [kind.type(b) for b in bounds if np.iinfo(kind).min <= b <= np.iinfo(kind).max]
    values = np.array([v for v in candidates if limits.min <= int(v) <= limits.max], kind)
    with Writer(store, ArraySchema(name="a", dtype=dtype, codecs=codecs)) as writer:
        writer.append(values)
    expected = values.astype(stored).astype(dtype)
    np.testing.assert_array_equal(tempozarr.open_array(store)[...], expected)


def test_what_fails_to_encode_leaves_the_last_flush(store: Path) -> None:
    # Differences that do not fit are seen by the encoder alone.
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i8", "astype": "|i1"}}
    schema = ArraySchema(name="a", dtype="i8", codecs=[delta, "zstd"])
    with Writer(store, schema, layout={"": (4, 8)}) as writer:
        writer.append(np.arange(10))
        writer.flush()
        before = files(store / "c")
        writer.append([10, 1000])
        with pytest.raises(CodecError, match="delta"):
            writer.flush()
        with pytest.raises(TempozarrError, match=r"got one that is failed.* behind row 10"):
            writer.append([1])
    assert files(store / "c") == before
    with Writer(store, mode="a") as writer:
        writer.append([10, 11])
    assert list(tempozarr.open_array(store)) == list(range(12))


def test_one_writer_at_a_time(store: Path) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 5))
        for mode in ("a", "w"):
            with pytest.raises(StoreError, match=r"is being written by another tempozarr.Writer"):
                Writer(store, SCHEMA, mode=mode)
        program = f"import tempozarr; tempozarr.Writer({str(store)!r}, mode='a')"
        assert "is being written by another tempozarr.Writer" in run(program).stderr
        with pytest.raises(StoreError, match="book is being written by another"):
            Writer(store / "book", mode="a")
    check(store, 5)
    Writer(store, mode="a").close()
    with Writer(store / "book", mode="a"):
        for mode in ("a", "w"):
            with pytest.raises(StoreError, match="book is being written by another"):
                Writer(store, SCHEMA, mode=mode)
    check(store, 5)


def test_systems_without_locks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_commit, "fcntl", None)
    with pytest.raises(StoreError, match="writing needs the file locks of Linux or macOS"):
        Writer(store, SCHEMA)
    assert not list(store.parent.iterdir())


def test_modes(store: Path) -> None:
    with pytest.raises(ValueError, match="mode: expected 'a', 'w' or 'x', got 'r'"):
        Writer(store, SCHEMA, mode="r")
    with pytest.raises(TempozarrError, match="expected a schema for the new store"):
        Writer(store, mode="a")
    assert not store.exists()
    with Writer(store, SCHEMA, mode="a", layout=LAYOUT) as writer:
        writer.append(rows(0, 5))
    with pytest.raises(StoreError, match=r"expected nothing at .*, found a store"):
        Writer(store, SCHEMA, mode="x")
    check(store, 5)
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        writer.append(rows(0, 3))
    check(store, 3)
    assert [path.name for path in store.parent.iterdir()] == ["store.zarr"]


def test_folders_that_are_no_stores_are_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for mode in ("a", "w", "x"):
        with pytest.raises(
            StoreError, match=r"expected a store or nothing at .*, found something else"
        ):
            Writer(tmp_path, SCHEMA, mode=mode)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(TempozarrError, match="a path or a zarr LocalStore"):
        Writer(MemoryStore(), SCHEMA)  # type: ignore[arg-type]


def test_another_schema_is_refused(store: Path) -> None:
    Writer(store, SCHEMA, layout=LAYOUT).close()
    before = files(store)
    other = GroupSchema(
        arrays=[
            ArraySchema(name="book", dtype="float32", row_shape=(5, 2)),
            ArraySchema(name="new", dtype="int64"),
        ],
        groups=[GroupSchema(name="mid", arrays=[MID]), GroupSchema(name="more")],
    )
    with pytest.raises(MetadataError) as caught:
        Writer(store, other, mode="a")
    message = str(caught.value)
    for part in (
        "book: row_shape: expected [5, 2], the store has [5, 3]",
        "book: codecs: expected",
        "new: expected an array, the store has none there",
        "time: the store has that array, the schema has not",
        "more: expected a group, the store has none there",
    ):
        assert part in message
    assert files(store) == before
    Writer(store, SCHEMA, mode="a").close()


def test_unequal_lengths_are_refused(store: Path) -> None:
    group = zarr.create_group(store)
    for name, length in (("a", 3), ("b", 4)):
        group.create_array(name, shape=(length,), dtype="i4", chunks=(2,))
    with pytest.raises(MetadataError, match=r"as many rows in all arrays of group / .*a 3, b 4"):
        Writer(store, mode="a")


def test_zarr_v2_is_refused(store: Path) -> None:
    zarr.create_array(store, shape=(3,), dtype="i4", zarr_format=2)
    with pytest.raises(MetadataError, match=r"expected zarr v3 at .*tempozarr.copy makes"):
        Writer(store, mode="a")


def test_a_full_disk_leaves_the_last_flush(store: Path) -> None:
    with Writer(store, MID) as writer:
        writer.append(np.arange(1000.0))
    program = f"""
import resource, numpy as np, tempozarr
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # of a file: as a full disk
with tempozarr.Writer({str(store)!r}, mode="a") as writer:
    writer.append(np.random.default_rng(0).random(100_000))
"""
    done = run(program)
    assert "StoreError" in done.stderr
    assert "File too large" in done.stderr
    np.testing.assert_array_equal(tempozarr.open_array(store)[...], np.arange(1000.0))
    with Writer(store, mode="a") as writer:
        assert writer.rows == 1000
    assert not list(store.rglob(".tempozarr"))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "ok").mkdir()
    Writer(folder / "there", MID).close()
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == tmp_path.owner() and path != Path("/tmp"):
            path.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        program = """
import os, tempfile, tempozarr
schema = tempozarr.schema.ArraySchema(name="a", dtype="f8")
tempozarr.Writer(tempfile.mkdtemp() + "/x", schema).close()  # all modules are there now
if os.geteuid() == 0:  # to whom nothing is forbidden
    os.setgid(65534)
    os.setuid(65534)
for name, mode in (("new", "w"), ("there", "a"), ("there", "w")):
    try:
        tempozarr.Writer(name, schema, mode=mode)
    except tempozarr.StoreError as e:
        print("refused:", e)
"""
        done = run(program, cwd=folder)
        assert done.stdout.count("Permission denied") == 3, done.stdout + done.stderr
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert tempozarr.open_array(folder / "there").shape == (0,)


def test_an_error_in_the_block_keeps_what_was_appended(store: Path) -> None:
    def fail() -> None:
        with Writer(store, SCHEMA, layout=LAYOUT) as writer:
            writer.append(rows(0, 13))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    check(store, 13)


def test_closed_writers_say_so(store: Path) -> None:
    writer = Writer(store, SCHEMA, layout=LAYOUT)
    assert repr(writer) == f"<tempozarr.Writer {store}: 0 rows, open>"
    writer.close()
    writer.close()
    with pytest.raises(TempozarrError, match="expected an open writer, got one that is closed"):
        writer.append(rows(0, 1))
    with pytest.raises(TempozarrError, match="expected an open writer, got one that is closed"):
        writer.flush()


def test_a_forked_writer_says_so_and_leaves_the_lock(store: Path) -> None:
    writer = Writer(store, SCHEMA, layout=LAYOUT)
    writer.append(rows(0, 5))
    child = os.fork()
    if child == 0:
        try:
            writer.append(rows(5, 6))
        except TempozarrError as e:
            os._exit(7 if "forked" in str(e) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.append(rows(5, 6))
    writer.close()
    check(store, 6)


def test_threads_take_turns(store: Path) -> None:
    with Writer(store, MID, layout={"": (64, 256)}) as writer:

        def append(value: float) -> None:
            for _ in range(50):
                writer.append(np.full(37, value, "f8"))

        threads = [threading.Thread(target=append, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    values = tempozarr.open_array(store)[...].reshape(-1, 37)
    assert (values == values[:, :1]).all()
    assert sorted(values[:, 0]) == sorted([0.0, 1, 2, 3] * 50)


def test_attributes_are_json(store: Path) -> None:
    with Writer(store, SCHEMA, layout=LAYOUT) as writer:
        writer.attrs.update({"a": [1, None], "b": {"c": "d"}})
        with pytest.raises(TypeError, match="not JSON serializable"):
            writer.attrs["e"] = np.float32(1)
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.attrs["e"] = float("nan")
        writer.flush()
        assert zarr.open_group(store).attrs.asdict() == {"a": [1, None], "b": {"c": "d"}}
        del writer.attrs["a"]
    assert tempozarr.open(store).attrs == {"b": {"c": "d"}}


def test_a_writer_that_is_not_closed_is_a_warning(store: Path) -> None:
    writer = Writer(store, SCHEMA, layout=LAYOUT)
    writer.append(rows(0, 5))
    with pytest.warns(ResourceWarning, match="was not closed: rows behind 0 are lost"):
        del writer
    Writer(store, mode="a").close()


def test_progress(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tempozarr.Progress] = []
    with Writer(store, MID, estimated_rows=300, progress=seen.append) as writer:
        writer.append(np.zeros(100))
        writer.append(np.zeros(200))
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (100, 300, 300)
    with Writer(store, MID, progress=True) as writer:
        writer.append(np.zeros(100))
    assert "writing store.zarr" in capsys.readouterr().err


def test_a_damaged_journal_is_an_error(store: Path) -> None:
    Writer(store, SCHEMA, layout=LAYOUT).close()
    staging = store / "book" / ".tempozarr"
    wrong = ("1", '[["a", "../../b"]]', '[["..", "b"]]', '[["", "b"]]', '[["a", "/b"]]', "[1")
    for levels, moves in (*((1, moves) for moves in wrong), (2, "[]"), ('"x"', "[]")):
        staging.mkdir()
        (staging / "journal.json").write_text(f'{{"levels": {levels}, "moves": {moves}}}')
        with pytest.raises(StoreError, match="expected the journal of an unfinished flush in"):
            Writer(store, mode="a")
        (staging / "journal.json").unlink()
        Writer(store, mode="a").close()
    assert not staging.exists()


@pytest.mark.parametrize("opened", ["root", "array"])
@pytest.mark.parametrize("written", ["root", "array"])
def test_an_interrupted_flush_is_finished_by_whoever_opens_the_store(
    store: Path, monkeypatch: pytest.MonkeyPatch, written: str, opened: str
) -> None:
    move = _commit._move
    for most in range(9):
        Writer(store, SCHEMA, layout=LAYOUT).close()
        more: Any = rows(0, 33) if written == "root" else rows(0, 33)["book"]
        made = 0

        def move_some(*planned: Any, most: int = most) -> None:
            nonlocal made
            if made == most:
                raise OSError(errno.EIO, "Input/output error")
            made += 1
            move(*planned)

        writer = Writer(store if written == "root" else store / "book", mode="a")
        writer.append(more)
        monkeypatch.setattr(_commit, "_move", move_some)
        with contextlib.suppress(StoreError):  # unless there are as few moves
            writer.flush()
        monkeypatch.setattr(_commit, "_move", move)
        assert (writer.rows, writer.flushed_rows) == (33, 33)
        writer.close()
        unfinished = bool(list(store.rglob("journal.json")))
        if opened == "array" and written == "root" and unfinished:
            with pytest.raises(StoreError, match=r"of which .*book is a part: open that one with"):
                Writer(store / "book", mode="a")
        if opened == "array" and written == "array":
            Writer(store / "book", mode="a").close()
        elif written == "root":
            Writer(store, mode="a").close()
        else:
            with pytest.raises(MetadataError, match="as many rows"):
                Writer(store, mode="a")
        if written == "root":
            check(store, 33)
        else:
            found = tempozarr.open_array(store / "book")
            np.testing.assert_array_equal(found, more)
        assert not list(store.rglob(".tempozarr"))


def test_damaged_shards_are_errors(store: Path) -> None:
    with Writer(store, MID, layout={"": (4, 16)}) as writer:
        writer.append(np.arange(9.0))
    shard = store / "c" / "0"
    good = shard.read_bytes()
    for bad in (b"", good[:-30], good[:-1] + bytes([good[-1] ^ 1])):
        shard.write_bytes(bad)
        with pytest.raises(CodecError, match=r"chunk .*c/0: (.* too short|the checksum)"):
            Writer(store, mode="a")
        assert shard.read_bytes() == bad
    shard.write_bytes(good)
    with Writer(store, mode="a") as writer:
        writer.append([9.0])
    assert list(tempozarr.open_array(store)) == list(range(10))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    program = """
import resource, sys, numpy as np, tempozarr
path, count = sys.argv[1], int(sys.argv[2])
schema = tempozarr.schema.ArraySchema(name="a", dtype="float32", row_shape=(100,))
layout = tempozarr.plan(schema, shard_bytes=1 << 20)
rows = np.random.default_rng(0).random((1000, 100), "f4")
with tempozarr.Writer(path, schema, layout=layout, sync=False) as writer:
    for _ in range(count):
        writer.append(rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""

    def peak(count: int) -> int:
        return int(run(program, tmp_path / str(count), count).stdout)

    little, much = peak(100), peak(1000)  # 40 MB, of which 32 wait to be encoded; 400 MB
    assert much - little < 40e6, f"{little} bytes for 100,000 rows, {much} for ten times as many"
