"""The programs in `examples/` run, and do what they say; briefly."""

from __future__ import annotations

import gzip
import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs.numcodecs import Delta

import tempozarr

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")]

EXAMPLES = Path(__file__).parents[2] / "examples"
BOOKS = EXAMPLES / "data/books.zarr"
FIRST_DAY, SECOND_DAY = (
    gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    for file in sorted(EXAMPLES.glob("data/raw/*.gz"))
)


def run(program: str, *arguments: object, status: int = 0) -> str:
    """Run an example as a user does; give what it prints."""
    command = [sys.executable, str(EXAMPLES / program), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def capture(folder: Path, lines: list[bytes]) -> Path:
    """Make a capture of some of the lines."""
    path = folder / "capture.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    return path


@pytest.fixture
def write_weekly(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("write_weekly")


def test_every_example_is_run_here() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py")} - {"measuring.py", "pictures.py"}
    tests = "".join(file.read_text() for file in Path(__file__).parents[1].glob("tests*/test_*.py"))
    assert {name for name in programs if f'("{name}"' not in tests} == set()


def test_demo(tmp_path: Path) -> None:
    assert "all bits equal" in run("demo.py", "--size", 3, "--repeats", 1, "--output", tmp_path)
    assert (tmp_path / "timings.png").exists()


def test_read_numpy() -> None:
    assert "books in the last second: (" in run("read_numpy.py")


def test_read_windows() -> None:
    told = run("read_windows.py", "--check", 1)
    assert "64 windows are what zarr-python reads there" in told
    assert "epoch 2" in told


def test_zarr_python_dropin() -> None:
    assert "read back as written: True" in run("zarr_python_dropin.py")


def test_choose_codecs(tmp_path: Path) -> None:
    picture = tmp_path / "frontier.png"
    told = run("choose_codecs.py", "--seconds", 0.5, "--picture", picture)
    assert "| book_raw" in told
    assert "balanced: float16, " in told
    assert picture.exists()


def test_make_store(tmp_path: Path) -> None:
    for symbol, group in tempozarr.open_group(BOOKS).groups():
        arrays = {name: array[:100] for name, array in group.arrays() if name != "book"}
        np.savez(tmp_path / f"{symbol}.npz", book=arrays.pop("book_raw"), **arrays)
    run("make_store.py", tmp_path, tmp_path / "books.zarr")
    for symbol, group in tempozarr.open_group(BOOKS).groups():
        for name, array in group.arrays():
            made = tempozarr.open_array(tmp_path / "books.zarr" / symbol / name)
            np.testing.assert_array_equal(made[...], array[:100])


def test_build_books() -> None:
    assert "equal those of data/books.zarr in every bit" in run("build_books.py", "--rows", 1000)


def test_weekly_stores_go_on_after_a_stop(tmp_path: Path) -> None:
    folder = tmp_path / "BTCUSD.zarr"
    write = ("write_weekly.py", capture(tmp_path, FIRST_DAY[:3000]), "--folder", folder)
    assert "Layout for 50,000,000 rows" in run(*write, "--messages", 2000)
    so_far = len(tempozarr.open_array(folder / "2024-W32.zarr/time"))
    assert f"{so_far:,} rows equal the captures" in run("read_weekly.py", folder)
    assert f"{so_far:,} rows so far" in run(*write)
    read = run("read_weekly.py", folder)
    assert "2,835 rows equal the captures" in read
    assert "standardised" in read

    [store] = folder.iterdir()
    book, stats = (tempozarr.open_array(store / name) for name in ("book", "book_stats"))
    values = book[...].astype("f8")
    np.testing.assert_allclose(stats[0], values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(stats[1], values.std(axis=0), rtol=1e-6)
    run(*write)  # nothing is left to do
    np.testing.assert_array_equal(tempozarr.open_array(store / "book")[...], values)

    files = [file for file in (store / "mid/c").rglob("*") if file.is_file()]
    files[-1].unlink()
    assert "CHECK FAILED: mid: 2,835 of 2,835 values differ" in run(
        "read_weekly.py", folder, status=1
    )
    assert "expected stores in" in run("read_weekly.py", tmp_path / "none", status=2)


def test_stores_by_day(tmp_path: Path) -> None:
    midnight = capture(tmp_path, FIRST_DAY[:50] + FIRST_DAY[-200:] + SECOND_DAY[:300])
    folder = tmp_path / "days"
    run("write_weekly.py", midnight, "--folder", folder, "--period", "day")
    assert sorted(store.name for store in folder.iterdir()) == [
        "2024-08-08.zarr",
        "2024-08-09.zarr",
    ]
    for store in folder.iterdir():
        time = tempozarr.open_array(store / "time")[...].astype("M8[ms]")
        assert len(time) > 100
        assert set(time.astype("M8[D]").astype(str)) == {store.stem}


def test_roll_over(tmp_path: Path, write_weekly: Any) -> None:
    """ISO weeks, over the turn of a year; a latecomer stays; a finished store takes no more."""

    def append(update: int, day: str) -> None:
        time_ms = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
        book = np.ones((50, 3), "f4")
        stores.append(write_weekly.Row(time_ms, 0, update, book, np.zeros(4)))

    def ids() -> dict[str, list[int]]:
        found = sorted(tmp_path.iterdir())
        return {store.stem: list(tempozarr.open_array(store / "update_id")) for store in found}

    stores = write_weekly.Stores(tmp_path, "week")
    append(1, "2024-12-29T23:59:59.999")
    append(2, "2024-12-30")
    append(3, "2024-12-29T23:59:59.999")
    append(4, "2025-01-05T23:59:59.999")
    stores.close()
    assert ids() == {"2024-W52": [1], "2025-W01": [2, 3, 4]}
    assert "book_stats" in tempozarr.open_group(tmp_path / "2024-W52.zarr")
    assert "book_stats" not in tempozarr.open_group(tmp_path / "2025-W01.zarr")

    stores = write_weekly.Stores(tmp_path, "week")
    append(4, "2025-01-05T23:59:59.999")
    append(5, "2025-01-06")
    stores.finish()
    assert ids() == {"2024-W52": [1], "2025-W01": [2, 3, 4], "2025-W02": [5]}
    with pytest.raises(SystemExit, match="is finished"):
        append(6, "2025-01-07")


def test_a_new_store_without_rows_is_no_beginning(tmp_path: Path, write_weekly: Any) -> None:
    """As a crash leaves it behind a roll-over."""
    stores = write_weekly.Stores(tmp_path, "day")
    stores.append(write_weekly.Row(0, 0, 7, np.ones((50, 3), "f4"), np.zeros(4)))
    stores.finish()
    tempozarr.Writer(tmp_path / "1970-01-02.zarr", write_weekly.schema()).close()
    stores = write_weekly.Stores(tmp_path, "day")
    assert stores.last_update == 7
    stores.close()


@pytest.fixture
def wrong(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A store of arrays with wrong data, and what they should hold."""
    values = np.arange(35, dtype="i4").reshape(5, 7) * 70_001
    group = zarr.open_group(tmp_path / "wrong.zarr", mode="w")

    def write(
        name: str, delta: str | None, damage: Any = lambda chunk: chunk, **options: Any
    ) -> None:
        filters = [Delta(dtype=delta)] if delta else ()
        array = group.create_array(
            name, shape=(5, 7), dtype="i4", chunks=(2, 3), filters=filters, **options
        )
        for row, column in np.ndindex(2, 2):  # the whole chunks, one by one
            place = np.s_[row * 2 : row * 2 + 2, column * 3 : column * 3 + 3]
            array[place] = damage(np.ascontiguousarray(values[place]))
        array[4:] = values[4:]
        array[:4, 6:] = values[:4, 6:]

    write("sound", None)
    write("swapped", "<i4", lambda chunk: chunk.astype(">i4"))
    write("other", "<f4")
    for name, options in {"transposed": {}, "shards": {"shards": (4, 6)}}.items():
        # What zarr-python before 3.3 stores of a chunk in Fortran order.
        write(name, "<i4", lambda chunk: chunk.ravel("F").reshape(chunk.shape), **options)
    return tmp_path / "wrong.zarr", values


def test_find_wrong_data_lists(wrong: tuple[Path, np.ndarray]) -> None:
    store, _ = wrong
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(zarr.storage.LocalStore(store))
    zarr.create_array(store / "v2", shape=(2, 2), dtype="i4", zarr_format=2, order="F")
    zarr.open_array(store / "sound").resize((6, 7))
    names = {"bool": "|b1", "float32": "<f4", "int64": ">i8", "int16": "<i8"}
    for data_type, dtype in names.items():
        document = json.loads((store / "other/zarr.json").read_text())
        document["codecs"][0]["configuration"] = {"dtype": dtype, "astype": "<i2"}
        document |= {"data_type": data_type, "shape": [5], "fill_value": 0}
        (store / data_type).mkdir()
        (store / data_type / "zarr.json").write_text(json.dumps(document))
    told = run("find_wrong_data.py", store)
    for name, says in {
        "": "consolidated metadata of sound are out of date",
        "transposed": "given Fortran-ordered chunks by zarr-python before 3.3? --repair transposed",
        "shards": "given Fortran-ordered chunks by zarr-python before 3.3? --repair transposed",
        "swapped": "given big-endian values? --repair swapped",
        "other": "delta of float32 on int32: zarr-python reads others. --repair reread",
        "v2": "of zarr-python 3.0.0?",
        "bool": "delta of bool",
        "float32": "delta of floats rounds",
        "int64": "delta names a big-endian type",
        "int16": "delta of int64 on int16",
    }.items():
        assert f"{store / name}: {says}" in told
    assert "delta casts: values that did not fit are others" in told
    assert f"{store / 'sound'}:" not in told
    assert "arrays and groups that may have wrong data: 10" in told


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("transposed", "transposed"),
        ("shards", "transposed"),
        ("swapped", "swapped"),
        ("other", "reread"),
    ],
)
def test_find_wrong_data_repairs(
    name: str, how: str, wrong: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    store, values = wrong
    assert not np.array_equal(zarr.open_array(store / name)[...], values)
    new = tmp_path / "new.zarr"
    command = ("find_wrong_data.py", store / name, "--repair", how, "--to", new)
    run(*command)
    repaired = zarr.open_array(new)
    np.testing.assert_array_equal(repaired[...], values)
    assert repaired.shards == zarr.open_array(store / name).shards
    run(*command, status=1)  # never over something


def test_find_wrong_data_takes_both_options() -> None:
    assert "go together" in run("find_wrong_data.py", "x", "--repair", "reread", status=2)
