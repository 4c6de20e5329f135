"""`tempozarr.copy`: the same values in another store, whatever happens on the way."""

from __future__ import annotations

import doctest
import json
import math
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs.numcodecs import ZFPY, Delta
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import tempozarr
from conftest import ARRAYS, create
from copier import copy_slowly, make_small
from tempozarr import (
    CodecError,
    MetadataError,
    Progress,
    StoreError,
    Writer,
    _compare,
    _copy,
    _jobs,
    _sources,
)
from tempozarr.codecs import TemporalXOR
from tempozarr.schema import ArraySchema, GroupSchema
from test_writer import files, run

pytestmark = pytest.mark.filterwarnings(
    "ignore:Numcodecs codecs:UserWarning",
    "ignore::zarr.errors.UnstableSpecificationWarning",
    "ignore:Consolidated metadata is:UserWarning",
    "ignore::zarr.errors.ZarrUserWarning",
)

WHOLE = {"scalar", "strings", "blobs", "v2_scalar", "v2_strings"}  # left to zarr-python

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tempozarr._copy", "zarr"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, flushed often."""
    make_small(monkeypatch.setattr)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A v2 store: rows of several chunks in two groups."""
    path = tmp_path / "source.zarr"
    write_source(path, 1000)
    return path


def write_source(path: Path, count: int, **options: Any) -> None:
    root = zarr.create_group(path, zarr_format=2, attributes={"who": "zarr-python"}, **options)
    book = np.sin(np.arange(count * 6.0)).reshape(count, 3, 2).astype("f4")
    attributes: dict[str, Any] = {"_ARRAY_DIMENSIONS": ["time", "level", "side"], "unit": "USD"}
    root.create_array("book", data=book, chunks=(70, 2, 2), attributes=attributes)
    deep = root.create_group("deep/er", attributes={"depth": 2})
    filters = [numcodecs.Delta("i8")]
    deep.create_array("time", data=np.arange(count) ** 2, chunks=(300,), filters=filters)


def check(source: Path, target: Path, *, at_least: int = 1000) -> None:
    """Compare as many rows as there are, by two readers."""
    expected = zarr.open_group(source, mode="r")
    ours, theirs = tempozarr.open_group(target), zarr.open_group(target, mode="r")
    for path in ("book", "deep/er/time"):
        values: Any = expected[path][...]  # type: ignore[index]
        pair: list[Any] = [ours[path], theirs[path]]
        for found in (array[...] for array in pair):
            assert len(found) >= at_least
            np.testing.assert_array_equal(found, values[: len(found)])


# -- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array(tmp_path: Path, name: str) -> None:
    data, _ = ARRAYS[name]
    array = create(tmp_path / "source", name, attributes={"unit": "m"})
    array[...] = data
    before = files(tmp_path / "source")
    report = tempozarr.copy(tmp_path / "source", tmp_path / "target", verify=True)
    for found in (
        tempozarr.open_array(tmp_path / "target"),
        zarr.open_array(tmp_path / "target", mode="r"),
    ):
        assert found.shape == data.shape
        assert found.dtype == (
            data.dtype if data.dtype.kind in "TO" else data.dtype.newbyteorder("=")
        )
        assert dict(found.attrs) == {"unit": "m"}
        assert str(found.fill_value) == str(array.fill_value)  # NaT is not equal to itself
        assert found.metadata["zarr_format"] == 3 if isinstance(found, tempozarr.Array) else True
        np.testing.assert_array_equal(np.asarray(found[...]), data)
    assert list(report) == [""]
    assert report.verified
    assert report[""].max_error is None
    assert report.rows == (len(data) if data.ndim else 1)
    assert files(tmp_path / "source") == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_a_group_of_every_array(stores: Path, tmp_path: Path) -> None:
    report = tempozarr.copy(stores, tmp_path / "target", verify=True)
    assert set(report) == set(ARRAYS)
    assert report.stored_before == sum(array.stored_before or 0 for array in report.values())
    copied = zarr.open_group(tmp_path / "target", mode="r")
    for name, (data, _) in ARRAYS.items():
        found: Any = copied[name]
        np.testing.assert_array_equal(np.asarray(found[...]), data)
    before = files(tmp_path / "target")
    again = tempozarr.copy(stores, tmp_path / "target", verify=True)
    assert {path: array.resumed_from for path, array in again.items()} == {
        path: array.rows for path, array in report.items()
    }
    assert files(tmp_path / "target") == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_structured_arrays_are_left_to_zarr_python(tmp_path: Path, zarr_format: Any) -> None:
    data = np.array([(i, i / 2) for i in range(7)], [("a", "i4"), ("b", "f8")])
    group = zarr.create_group(tmp_path / "source", zarr_format=zarr_format)
    group.create_array("fields", data=data, chunks=(3,))
    report = tempozarr.copy(tmp_path / "source", tmp_path / "target", verify=True)
    assert report["fields"].verified
    found = zarr.open_array(tmp_path / "target" / "fields", mode="r")
    assert found.metadata.zarr_format == 3
    assert found.chunks == (3,)
    np.testing.assert_array_equal(found[...], data)


def test_groups_attributes_and_dimensions(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.zarr"
    report = tempozarr.copy(source, target)
    check(source, target)
    copied = zarr.open_group(target, mode="r")
    assert dict(copied.attrs) == {"who": "zarr-python"}
    assert dict(copied["deep/er"].attrs) == {"depth": 2}
    assert dict(copied["book"].attrs) == {"unit": "USD"}
    assert copied["book"].metadata.dimension_names == ("time", "level", "side")  # type: ignore[union-attr]
    assert copied["deep/er/time"].metadata.dimension_names is None  # type: ignore[union-attr]
    assert copied.metadata.consolidated_metadata is None
    assert not report.verified
    assert report["book"].stored_after == sum(
        file.stat().st_size for file in (target / "book" / "c").rglob("*") if file.is_file()
    )
    table = str(report).splitlines()
    assert len(table) == 4
    assert table[1].split()[:3] == ["book", "1,000", "23.4"]


def test_dimension_names_of_which_some_are_missing(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(4, 3), dtype="f4", dimension_names=["row", None])
    tempozarr.copy(tmp_path / "a", tmp_path / "b")
    assert zarr.open_array(tmp_path / "b").metadata.dimension_names == ("row", None)  # type: ignore[union-attr]
    assert tempozarr.copy(tmp_path / "a", tmp_path / "b")[""].resumed_from == 4


def test_names_that_are_not_those_of_the_dimensions_stay_an_attribute(tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"_ARRAY_DIMENSIONS": ["row"]}
    zarr.create_array(
        tmp_path / "a", shape=(4, 3), dtype="f4", zarr_format=2, attributes=attributes
    )
    tempozarr.copy(tmp_path / "a", tmp_path / "b")
    copied = tempozarr.open_array(tmp_path / "b")
    assert "dimension_names" not in copied.metadata
    assert dict(copied.attrs) == attributes


def test_attributes_that_json_has_not(tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"missing": math.nan, "range": [-math.inf, {"top": math.inf}]}
    group = zarr.create_group(tmp_path / "a", attributes=attributes)
    group.create_array("x", data=np.arange(5), attributes=attributes)
    report = tempozarr.copy(tmp_path / "a", tmp_path / "b", verify=True)
    expected = {"missing": "NaN", "range": ["-Infinity", {"top": "Infinity"}]}
    copied = tempozarr.open_group(tmp_path / "b")
    assert (dict(copied.attrs), dict(copied["x"].attrs)) == (expected, expected)
    assert report.verified


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_is_kept(tmp_path: Path, zarr_format: Any) -> None:
    group = zarr.create_group(tmp_path / "a", zarr_format=zarr_format)
    group.create_array("x/y", data=np.arange(5))
    zarr.consolidate_metadata(tmp_path / "a")
    tempozarr.copy(tmp_path / "a", tmp_path / "b")
    copied = zarr.open_consolidated(tmp_path / "b", mode="r")
    assert copied["x/y"].shape == (5,)  # type: ignore[union-attr]
    zarr.open_array(tmp_path / "a" / "x" / "y").append(np.arange(3))
    tempozarr.copy(tmp_path / "a", tmp_path / "b")
    copied = zarr.open_consolidated(tmp_path / "b", mode="r")
    assert list(copied["x/y"][...]) == [0, 1, 2, 3, 4, 0, 1, 2]  # type: ignore[index, arg-type]


def test_an_empty_group(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "a", attributes={"x": 1})
    report = tempozarr.copy(tmp_path / "a", tmp_path / "b", verify=True)
    assert (len(report), report.rows) == (0, 0)
    assert dict(zarr.open_group(tmp_path / "b").attrs) == {"x": 1}


# -- schemas and layouts -----------------------------------------------------------------------


def names(path: Path) -> list[Any]:
    schema = tempozarr.schema.schema_of(path)
    assert isinstance(schema, ArraySchema)
    return [codec["name"] for codec in schema.codecs]


def test_codecs_stay_what_they_are(tmp_path: Path) -> None:
    data = np.arange(50, dtype="f4")
    for name, options, expected in (
        ("v3", {"filters": TemporalXOR(), "compressors": None}, ["temporal_xor", "bytes"]),
        (
            "zfpy",
            {"serializer": ZFPY(), "compressors": None},
            ["temporal_xor", "bytes", "numcodecs.shuffle", "zstd"],
        ),
        (
            "lossy",
            {"filters": Delta(dtype="f4")},
            ["temporal_xor", "bytes", "numcodecs.shuffle", "zstd"],
        ),
        (
            "v2",
            {
                "filters": [numcodecs.Shuffle(4)],
                "compressors": numcodecs.LZ4(),
                "zarr_format": 2,
            },
            ["bytes", "numcodecs.shuffle", "numcodecs.lz4"],
        ),
    ):
        path = tmp_path / name
        zarr.create_array(path, data=data, chunks=(20,), **options)
        target = tmp_path / f"{name}.copy"
        tempozarr.copy(path, target, verify=True)
        assert names(target) == expected
        stored = zarr.open_array(path, mode="r")[...]
        np.testing.assert_array_equal(tempozarr.open_array(target)[...], stored)


def test_a_schema_chooses_codecs_and_adds_attributes(source: Path, tmp_path: Path) -> None:
    schema = GroupSchema(
        attributes={"version": 2},
        arrays=[
            ArraySchema(
                name="book", dtype="f4", row_shape=(3, 2), float16=True, columns=["bid", "ask"]
            )
        ],
        groups=[
            GroupSchema(
                name="deep",
                groups=[
                    GroupSchema(
                        name="er",
                        description="times",
                        arrays=[ArraySchema(name="time", dtype="i8", late=True)],
                    )
                ],
            )
        ],
    )
    target = tmp_path / "target.zarr"
    layout = {"book": (16, 64), "deep/er/time": (128, None)}
    report = tempozarr.copy(source, target, schema, layout=layout, verify=True)
    copied = tempozarr.open_group(target)
    book: Any = copied["book"]
    assert (book.chunks, book.shards) == ((16, 3, 2), (64, 3, 2))
    deep: Any = copied["deep/er/time"]
    assert (deep.chunks, deep.shards) == ((128,), None)
    assert dict(copied.attrs) == {"who": "zarr-python", "version": 2}
    assert dict(copied["deep/er"].attrs) == {"depth": 2, "description": "times"}
    assert dict(book.attrs) == {"unit": "USD", "columns": ["bid", "ask"]}
    values: Any = zarr.open_array(source / "book", mode="r")[...]
    np.testing.assert_array_equal(book[...], values.astype("f2").astype("f4"))
    errors = np.abs(values.astype("f8") - book[...]).max(axis=(0, 1))
    assert report["book"].max_error == tuple(errors.tolist())
    assert report["deep/er/time"].max_error is None
    assert "error 0.000" in str(report)
    assert tempozarr.copy(source, target, schema)["book"].resumed_from == 1000


def test_layouts(source: Path, tmp_path: Path) -> None:
    book = source / "book"
    schema = tempozarr.schema.schema_of(book)
    plan = tempozarr.plan(schema, 1000, access="windows", window=4)
    target = tmp_path / "target"
    tempozarr.copy(book, target, access="windows", window=4)
    assert tempozarr.open_array(target).chunks[0] == plan[""].chunk_rows
    tempozarr.copy(book, target, layout=plan, overwrite=True)
    assert tempozarr.open_array(target).chunks[0] == plan[""].chunk_rows
    tempozarr.copy(book, target)  # keeps it
    with pytest.raises(MetadataError, match="expected 8 rows in a chunk and None in a shard"):
        tempozarr.copy(book, target, layout={"": (8, None)})
    with pytest.raises(ValueError, match=r"layout: expected paths among \[''\], got \['book'\]"):
        tempozarr.copy(book, target, layout={"book": (8, None)})
    tempozarr.copy(book, target, layout=(8, 16), overwrite=True)
    assert tempozarr.open_array(target).chunks[0] == 8


def test_schemas_of_something_else_are_refused(source: Path, tmp_path: Path) -> None:
    book = ArraySchema(name="book", dtype="f4", row_shape=(3, 2))
    time_ = ArraySchema(name="time", dtype="i8")
    deep = [GroupSchema(name="deep", groups=[GroupSchema(name="er", arrays=[time_])])]
    wide = ArraySchema(name="book", dtype="f8", row_shape=(3, 2))
    target = tmp_path / "target"
    for schema, message in (
        (GroupSchema(arrays=[book]), "deep/er/time: the source has that array, the schema has not"),
        (
            GroupSchema(arrays=[book, time_], groups=deep),
            "time: the schema has that array, the source has not",
        ),
        (
            GroupSchema(arrays=[wide], groups=deep),
            r"book: expected float64 of shape \(rows, 3, 2\), the source has float32 of shape \(1000,",
        ),
    ):
        with pytest.raises(MetadataError, match=message):
            tempozarr.copy(source, target, schema)
    words = tmp_path / "words"
    zarr.create_array(words, data=np.array(["a", "bc"], np.dtypes.StringDType()))
    with pytest.raises(MetadataError, match=r"time: expected int64 .*, the source has StringDType"):
        tempozarr.copy(words, target, time_)
    with pytest.raises(TypeError, match="schema: expected GroupSchema, as the source is a group"):
        tempozarr.copy(source, target, book)
    with pytest.raises(TypeError, match="schema: expected ArraySchema, as the source is an array"):
        tempozarr.copy(source / "book", target, GroupSchema())
    assert not target.exists()


def test_values_that_do_not_fit_are_errors(source: Path, tmp_path: Path) -> None:
    narrow = {"encode_dtype": "i2", "decode_dtype": "i8"}
    codecs = [{"name": "numcodecs.astype", "configuration": narrow}]
    schema = ArraySchema(name="time", dtype="i8", codecs=codecs)
    with pytest.raises((CodecError, ValueError)):
        tempozarr.copy(source / "deep/er/time", tmp_path / "target", schema)


# -- sources -----------------------------------------------------------------------------------


def test_every_way_to_name_a_source(source: Path, tmp_path: Path) -> None:
    for i, of in enumerate(
        (
            str(source),
            source.as_uri(),
            tempozarr.open(source),
            zarr.open_group(source, mode="r"),
            tempozarr.open_group(source)["deep/er"],
            zarr.open_group(source, mode="r")["deep"],
            tempozarr.open_group(source)["book"],
            zarr.open_array(source / "book", mode="r"),
        )
    ):
        report = tempozarr.copy(of, LocalStore(tmp_path / str(i)), verify=True)
        assert report.rows in {1000, 2000}
    check(source, tmp_path / "3")
    with pytest.raises(TypeError, match="expected a path"):
        tempozarr.copy(3, tmp_path / "target")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="which does not exist"):
        tempozarr.copy(tmp_path / "nothing", tmp_path / "target")


@pytest.mark.usefixtures("small")
def test_stores_that_are_not_local(source: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    write_source(store, 1000)  # type: ignore[arg-type]
    words = np.array(["a", "bc"], np.dtypes.StringDType())
    zarr.open_group(store).create_array("words", data=words)
    report = tempozarr.copy(zarr.open_group(store, mode="r"), tmp_path / "target", verify=True)
    assert report.stored_before is None
    assert "?" in str(report)
    check(source, tmp_path / "target")
    book = zarr.open_array(store, path="book", mode="r")
    tempozarr.copy(book, tmp_path / "book", verify=True)
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "book")[...], book[...])


def test_arrays_that_only_zarr_python_reads(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a")
    data = np.arange(999).reshape(-1, 3)
    group.create_array("x", data=data, chunks=(10, 3), serializer=ZFPY())
    with pytest.raises(MetadataError):
        tempozarr.open_array(tmp_path / "a" / "x")
    report = tempozarr.copy(tmp_path / "a", tmp_path / "b", verify=True)
    assert report["x"].stored_before
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "b" / "x")[...], data)


def test_arrays_that_nobody_reads_are_errors(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a")
    group.create_array("x", data=np.arange(9))
    file = tmp_path / "a" / "x" / "zarr.json"
    file.write_text(file.read_text().replace("zstd", "unheard.of"))
    with pytest.raises(MetadataError, match=r"a/x.*unheard\.of"):
        tempozarr.copy(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_damaged_sources_are_errors(source: Path, tmp_path: Path) -> None:
    (source / "book" / "3.0.0").write_bytes(b"nonsense")
    with pytest.raises(CodecError) as caught:
        tempozarr.copy(source, tmp_path / "target")
    assert "while planning array book" in caught.value.__notes__[0]
    write_source(source, 1000, overwrite=True)
    tempozarr.copy(source, tmp_path / "target", verify=True)
    check(source, tmp_path / "target")


# -- going on ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_going_on_behind_the_last_flush(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copied_at_once = tmp_path / "at once"
    layout = {"book": (16, 64), "deep/er/time": (32, None)}
    tempozarr.copy(source, copied_at_once, layout=layout)

    def stop(progress: Progress) -> None:
        if progress.done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tempozarr.copy(source, target, layout=layout, progress=stop)
    assert 0 < len(tempozarr.open_array(target / "book")) < 1000
    report = tempozarr.copy(source, target, layout=layout, verify=True)
    assert 500 < report["book"].resumed_from < 1000
    assert report["deep/er/time"].resumed_from == 0
    assert report.verified
    assert files(target) == files(copied_at_once)


def test_sources_that_have_got_longer(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    tempozarr.copy(source, target)
    write_source(source, 1700, overwrite=True)
    report = tempozarr.copy(source, target, verify=True)
    assert report["book"].resumed_from == 1000
    check(source, target, at_least=1700)


def test_killed_at_any_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write_source(source, 40_000)
    words = np.array(["a", "bc"], np.dtypes.StringDType())
    zarr.open_group(source).create_array("words", data=words)
    rng = np.random.default_rng(20240809)
    kills = copies = 0
    expected = {path: tempozarr.open_array(source / path)[...] for path in ("book", "deep/er/time")}
    rows = dict.fromkeys(expected, 0)
    while kills < 20:
        begun = processes.Event()
        copier = processes.Process(target=copy_slowly, args=(source, target, begun))
        copier.start()
        begun.wait()
        copier.join(rng.uniform(0, 0.5))
        copier.kill()
        copier.join()
        if copier.exitcode == 0:
            copies += 1
            rows = dict.fromkeys(expected, 0)
            assert all(len(tempozarr.open_array(target / path)) == 40_000 for path in expected)
            assert list(tempozarr.open_array(target / "words")) == list(words)
            assert not list(target.rglob(".tempozarr"))
            assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
            shutil.rmtree(target)
        elif target.exists():
            kills += 1
            for path, values in expected.items():
                found = tempozarr.open_array(target / path)[...]
                np.testing.assert_array_equal(found, values[: len(found)])
                assert len(found) >= rows[path]
                rows[path] = len(found)
    with capsys.disabled():
        print(f" [{kills} kills, {copies} copies] ", end="")  # noqa: T201
    report = tempozarr.copy(source, target, verify=True)
    assert report.verified


@pytest.mark.parametrize("row", [0, 999])
def test_targets_of_another_source_are_refused(source: Path, tmp_path: Path, row: int) -> None:
    target = tmp_path / "target"
    tempozarr.copy(source, target)
    before = files(target)
    array = zarr.open_array(source / "book", mode="r+")
    array[row, 2, 1] = 77
    with pytest.raises(MetadataError, match=f"book: row {row} of the target is not that"):
        tempozarr.copy(source, target)
    assert files(target) == before
    tempozarr.copy(source, target, overwrite=True)
    check(source, target)


def test_targets_with_something_else_are_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    tempozarr.copy(source, target)
    book = ArraySchema(name="book", dtype="f4", row_shape=(3, 2), float16=True)
    book_only = zarr.create_group(tmp_path / "book only")
    book_only.create_array("book", data=np.zeros((3, 3, 2), "f4"))
    for of, schema, message in (
        (source / "book", None, "the target has that array, the source has not"),
        (book_only, None, "deep/er/time: the target has that array, the source has not"),
        (book_only, GroupSchema(arrays=[book]), "book: codecs: expected"),
    ):
        with pytest.raises(MetadataError, match=message) as caught:
            tempozarr.copy(of, target, schema)
        assert "pass overwrite=True to begin anew" in str(caught.value)
    write_source(source, 900, overwrite=True)
    with pytest.raises(MetadataError, match="at most the source's 900 rows, the target has 1000"):
        tempozarr.copy(source, target)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "diary.txt").write_text("Dear diary")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="expected a store or nothing"):
            tempozarr.copy(source, tmp_path / "folder", overwrite=overwrite)
    write_source(tmp_path / "v2", 5)
    with pytest.raises(MetadataError, match="expected zarr v3"):
        tempozarr.copy(source, tmp_path / "v2")
    tempozarr.copy(source, tmp_path / "v2", overwrite=True, verify=True)
    check(source, tmp_path / "v2", at_least=900)


def test_arrays_left_to_zarr_python_are_compared_too(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a")
    words = group.create_array("words", data=np.array(["a", "b"], np.dtypes.StringDType()))
    tempozarr.copy(tmp_path / "a", tmp_path / "b")
    words[1] = "c"
    with pytest.raises(MetadataError, match="words: the target has other values"):
        tempozarr.copy(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "words")
    (tmp_path / f".b.{'1f' * 16}.unfinished").mkdir()  # as a copy that was killed leaves it
    assert tempozarr.copy(tmp_path / "a", tmp_path / "b", verify=True)["words"].resumed_from == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_another_writer(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    tempozarr.copy(source, target)
    write_source(source, 1200, overwrite=True)
    for at in (target, target / "book"):
        with Writer(at, mode="a"), pytest.raises(StoreError, match=r"another tempozarr\.Writer"):
            tempozarr.copy(source, target)
    tempozarr.copy(source, target)
    check(source, target, at_least=1200)


def test_targets_that_overlap_the_source_are_refused(source: Path, tmp_path: Path) -> None:
    before = files(source)
    link = tmp_path / "link"
    link.symlink_to(source)
    book = tempozarr.open_array(source / "book")
    for of, target in (
        (source, source),
        (source, source / "new"),
        (source, link),
        (link, source / "deep" / "new"),
        (source / "book", source),
        (book, tmp_path),
        (zarr.open_group(source), source / "deep"),
        (zarr.open_group(WrapperStore(LocalStore(source))), source),
    ):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="expected a target apart from the source"):
                tempozarr.copy(of, target, overwrite=overwrite)
    assert files(source) == before
    tempozarr.copy(book, tmp_path / "source.zarr.copy")


# -- verifying ---------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [0, 12_345, 23_999])
def test_verifying_finds_every_bit(source: Path, tmp_path: Path, byte: int) -> None:
    target = tmp_path / "target"
    schema = ArraySchema(name="book", dtype="f4", row_shape=(3, 2), codecs=["bytes"])
    layout = {"": (1024, None)}
    tempozarr.copy(source / "book", target, schema, layout=layout, verify=True)
    chunk = target / "c" / "0" / "0" / "0"
    stored = bytearray(chunk.read_bytes())
    stored[byte] ^= 1
    chunk.write_bytes(stored)
    found = tempozarr.open_array(target)
    job = _jobs.pair(_sources.find(source / "book"), schema)[""]
    with pytest.raises(CodecError, match=f"row {byte // 24} of {target} is not that of the source"):
        _copy._verify(job, target, lambda rows: None)
    assert len(found) == 1000
    with pytest.raises(MetadataError, match=f"row {byte // 24} of the target is not that"):
        tempozarr.copy(source / "book", target, schema, verify=True)


def test_errors_of_codecs_that_round(tmp_path: Path) -> None:
    data = np.zeros((100, 5))
    data[:, 1] = np.nan
    data[50] = [0.1, np.nan, 1e6, -np.inf, 1]
    zarr.create_array(tmp_path / "a", data=data, chunks=(30, 5))
    schema = ArraySchema(name="a", dtype="f8", row_shape=(5,), float16=True)
    report = tempozarr.copy(tmp_path / "a", tmp_path / "b", schema, verify=True)
    errors: Any = report[""].max_error
    assert errors == (abs(0.1 - float(np.float16(0.1))), 0, np.inf, 0, 0)
    zarr.create_array(tmp_path / "c", data=np.linspace(0, 1, 50), chunks=(30,))
    scale = {"offset": 0, "scale": 100, "dtype": "<f8", "astype": "u1"}
    digits = {"name": "numcodecs.fixedscaleoffset", "configuration": scale}
    schema = ArraySchema(name="c", dtype="f8", codecs=[digits])
    error = tempozarr.copy(tmp_path / "c", tmp_path / "d", schema, verify=True)[""].max_error
    assert isinstance(error, float)
    assert 0 < error < 0.01


@pytest.mark.parametrize(
    ("dtype", "codecs", "expected"),
    [
        ("f4", [], False),
        ("f8", [("astype", {"encode_dtype": "f4", "decode_dtype": "f8"})], True),
        ("f4", [("astype", {"encode_dtype": "f8", "decode_dtype": "f4"})], False),
        ("i8", [("astype", {"encode_dtype": "f8", "decode_dtype": "i8"})], True),
        ("i4", [("astype", {"encode_dtype": "f8", "decode_dtype": "i4"})], False),
        ("i8", [("astype", {"encode_dtype": "i2", "decode_dtype": "i8"})], False),
        ("f4", [("astype", {"encode_dtype": "i4", "decode_dtype": "f4"})], True),
        ("i8", [("delta", {"dtype": "i8"})], False),
        ("i8", [("delta", {"dtype": "i8", "astype": "i4"})], True),
        ("M8[ns]", [("delta", {"dtype": "i8"})], False),
        ("f4", [("bitround", {"keepbits": 5})], True),
    ],
)
def test_which_codecs_round(dtype: str, codecs: list[Any], expected: bool) -> None:
    chain = [{"name": f"numcodecs.{name}", "configuration": given} for name, given in codecs]
    assert _compare.rounds(ArraySchema(name="a", dtype=dtype, codecs=chain)) == expected


def test_nan_payloads_are_kept(tmp_path: Path) -> None:
    bits = np.array([0x7FC00000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000], "u4")
    zarr.create_array(tmp_path / "a", data=bits.view("f4"), chunks=(2,))
    tempozarr.copy(tmp_path / "a", tmp_path / "b", verify=True)
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "b")[...].view("u4"), bits)


# -- the rest ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_progress(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    tempozarr.copy(source, tmp_path / "a", verify=True, progress=seen.append)
    for what in ("copying a", "verifying a"):
        done = [progress.done for progress in seen if progress.what == what]
        assert done == sorted(done)
        assert done[-1] == 2000
    assert {progress.total for progress in seen} == {2000}
    tempozarr.copy(source, tmp_path / "b", progress=True)
    assert "copying b" in capsys.readouterr().err


def blocks(start: int, stop: int, step: int, border: int | None) -> Iterator[NDArray[Any]]:
    array: Any = zarr.create_array(MemoryStore(), data=np.arange(100), chunks=(7,))
    return _sources.blocks(array, start, stop, step, border)


@pytest.mark.parametrize("step", [1, 7, 14, 100])
@pytest.mark.parametrize("border", [None, 10, 64])
@pytest.mark.parametrize("start", [0, 13, 100])
def test_blocks_are_all_rows(start: int, step: int, border: int | None) -> None:
    found = [rows.copy() for rows in blocks(start, 100, step, border)]
    assert list(np.concatenate([*found, np.array([], int)])) == list(range(start, 100))
    assert max(map(len, found), default=0) <= step
    ends = {int(rows[-1]) + 1 for rows in found}
    if border and start == 0:
        assert set(range(border, 100, border)) <= ends


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    program = """
import resource, sys, tempozarr
from tempozarr import _copy, _sources
_sources.AT_ONCE, _copy.FLUSH = 4 << 20, 16 << 20
tempozarr.copy(sys.argv[1], sys.argv[2], layout={"": (1000, 8000)}, sync=False, verify=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""

    def peak(count: int) -> int:
        schema = ArraySchema(name="a", dtype="float32", row_shape=(100,))
        source = tmp_path / f"source{count}"
        rows = np.random.default_rng(0).random((1000, 100), "f4")
        with Writer(source, schema, layout={"": (1000, 5000)}, sync=False) as writer:
            for _ in range(count):
                writer.append(rows)
        return int(run(program, source, tmp_path / f"target{count}").stdout)

    little, much = peak(60), peak(600)  # 24 MB, 240 MB
    assert much - little < 40e6, f"{little} bytes for 60,000 rows, {much} for ten times as many"


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestFinder().find(tempozarr.copy, "copy", globs={})[0]
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


def test_the_report(source: Path, tmp_path: Path) -> None:
    report = tempozarr.copy(source, tmp_path / "target")
    assert isinstance(report, tempozarr.CopyReport)
    assert report.nbytes == 1000 * (24 + 8)
    assert report.stored_before == sum(
        file.stat().st_size
        for file in source.rglob("*")
        if not file.name.startswith(".z") and file.is_file()
    )
    assert json.dumps(list(report)) == '["book", "deep/er/time"]'
    with pytest.raises(AttributeError):
        report.seconds = 3  # type: ignore[misc]


def test_what_zarr_python_cannot_read_is_an_error_of_ours(tmp_path: Path) -> None:
    source = zarr.create_array(
        tmp_path / "source", shape=(8,), chunks=(8,), dtype="string", compressors=None
    )
    source[:] = np.array(["a"] * 8, np.dtypes.StringDType())
    (tmp_path / "source" / "c" / "0").write_bytes(b"\xff" * 7)
    with pytest.raises(tempozarr.CodecError, match="zarr-python cannot read"):
        tempozarr.copy(tmp_path / "source", tmp_path / "target")
