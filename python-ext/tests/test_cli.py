"""The command `tempozarr`, in this process, and a few times as a user runs it."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr
from tempozarr.__main__ import main
from tempozarr.schema import ArraySchema, GroupSchema, schema_of

ROOT = Path(__file__).parents[2]
BOOKS = ROOT / "examples/data/books.zarr"

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as e:
            status = int(e.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy of some real arrays."""
    shutil.copytree(BOOKS / "spot-btcusdt", tmp_path / "books.zarr")
    return tmp_path / "books.zarr"


def process(*arguments: object, code: str | None = None, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "tempozarr"])]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, arguments)], **pipes | options)


# -- help, errors ------------------------------------------------------------------------------


def test_help(run: Run) -> None:
    status, told, _ = run("--help")
    assert status == 0
    commands = re.findall(r"^    (\w+) ", told, re.MULTILINE)
    assert commands == ["info", "verify", "advise", "copy"]
    assert re.search(r"3 +it cannot be done", told)
    for command in commands:
        status, told, _ = run(command, "--help")
        assert status == 0
        assert f"\nexamples:\n  tempozarr {command} " in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["info"],
        ["copy", "a"],
        ["copy", "a", "b", "--resume", "--overwrite"],
        ["copy", "a", "b", "--advise", "cheapest"],
        ["info", "a", "--complete"],
    ],
)
def test_wrong_commands(run: Run, arguments: list[str]) -> None:
    status, told, complaint = run(*arguments)
    assert (status, told) == (2, "")
    assert complaint.startswith("usage: tempozarr")


@pytest.mark.parametrize("command", ["info", "verify", "advise", "copy"])
def test_stores_that_are_not_there(run: Run, tmp_path: Path, command: str) -> None:
    status, told, complaint = run(command, tmp_path / "x", *[tmp_path / "y"] * (command == "copy"))
    assert (status, told) == (3, "")
    assert (
        complaint
        == f"tempozarr: expected an array or group at {tmp_path}/x, which does not exist\n"
    )
    assert not (tmp_path / "y").exists()


def test_version_and_entry_point() -> None:
    done = process("--version")
    assert done.communicate() == (f"{tempozarr.__version__}\n", "")
    project = (ROOT / "python-ext/pyproject.toml").read_text()
    assert '[project.scripts]\ntempozarr = "tempozarr.__main__:main"\n' in project


def test_looking_does_not_import_zarr_python() -> None:
    """Starting is quick."""
    code = (
        "import sys; from tempozarr.__main__ import main; main(); sys.exit('zarr' in sys.modules)"
    )
    for command in ("info", "verify"):
        done = process(command, BOOKS, code=code)
        done.communicate()
        assert done.returncode == 0


def test_nobody_reads_on() -> None:
    """As behind `| head -1`."""
    done = process("info", BOOKS)
    assert done.stdout is not None
    assert done.stderr is not None
    done.stdout.close()
    assert done.stderr.read() == ""
    done.stderr.close()
    done.wait()


# -- info --------------------------------------------------------------------------------------


def test_info(run: Run, store: Path) -> None:
    assert run("info", store / "flow") == (0, f"""\
{store}/flow: 1 array, 66.6 KiB of 203 KiB decoded
(6492, 4) float64, chunks (16384, 4)
codecs  temporal_xor > bytes > numcodecs.shuffle > numcodecs.lz4
fused   lz4, unshuffle 8, undo XOR (16384 rows of 32 bytes)
stored  66.6 KiB of 203 KiB decoded, 3.0 times smaller; 1 of 1 chunk
""", "")  # fmt: skip
    (store / "flow/notes.txt").write_text("mine")
    (store / "update_id/c/0").unlink()
    (store / "time_ms/zarr.json").write_text("[]")
    status, told, _ = run("info", store)
    assert status == 0
    assert told.splitlines()[0] == f"{store}: 5 arrays, 1.7 MiB of 7.7 MiB decoded"
    assert "├── book  (6492, 50, 3) float32, chunks (1024, 50, 3) in shards (16384, 50, 3)" in told
    assert "1 of 1 chunk, and 1 other file" in told
    assert "0 of 1 chunk, 1 missing" in told
    assert f"├── time_ms  expected a JSON object in {store}/time_ms/zarr.json, got list" in told


def test_info_of_chains_that_are_not_fused(run: Run, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=np.arange(9), compressors=zarr.codecs.numcodecs.BZ2())
    explained = tempozarr.open_array(tmp_path / "a").explain()
    assert not explained.fused
    assert f"\nfused   no: {explained.text}\n" in run("info", tmp_path / "a")[1]


def test_info_as_json(run: Run, store: Path) -> None:
    document = json.loads(run("info", store, "--json")[1])
    assert set(document) == {"path", "arrays", "groups", "problems"}
    book = document["arrays"]["book"]
    assert book["shape"] == [6492, 50, 3]
    assert book["nbytes"] == 6492 * 50 * 3 * 4
    assert book["codecs"][-1] == "zstd 3"
    assert book["stored_nbytes"] == (store / "book/c/0/0/0").stat().st_size
    assert (book["files"], book["missing"]) == (1, 0)
    assert book["ratio"] == book["nbytes"] / book["stored_nbytes"]


# -- verify ------------------------------------------------------------------------------------


def test_verify(run: Run, store: Path) -> None:
    status, told, complaint = run("verify", store)
    assert (status, complaint) == (0, "")
    assert told.splitlines()[:2] == [
        "array      chunks  subchunks    stored  checksum",
        "book       1 of 1          7   659 KiB      none",
    ]
    assert re.search(r"^no fault in 6 arrays, 1.7 MiB \(\d+\.\d s\)$", told, re.MULTILINE)

    file = store / "update_id/c/0"
    file.write_bytes(file.read_bytes()[:-9])
    (store / "time_ms/c/0").unlink()
    status, told, complaint = run("verify", store, "--complete")
    assert (status, complaint) == (1, "")
    assert told.splitlines()[0].startswith("update_id, chunk (0,), rows 0:6492, c/0: ")
    assert "time_ms, chunk (0,), c/0: it is not stored\n" in told
    assert "\n2 faults in 6 arrays, " in told


def test_verify_as_json(run: Run, store: Path) -> None:
    (store / "flow/c/0/0").write_bytes(b"x")
    status, told, _ = run("verify", store, "--json")
    document = json.loads(told)
    assert status == 1
    assert set(document) == {"path", "ok", "arrays", "faults", "warnings", "seconds"}
    assert document["ok"] is False
    [fault] = document["faults"]
    assert fault | {"message": ""} == {
        "array": "flow", "kind": "damaged", "message": "", "chunk": [0, 0], "subchunk": None,
        "rows": [0, 6492], "file": "c/0/0",
    }  # fmt: skip
    assert document["arrays"]["book"]["subchunks"] == 7


def test_verify_against(run: Run, store: Path) -> None:
    other = BOOKS / "spot-btcusdt"
    assert run("verify", store, "--against", other)[0] == 0
    array = zarr.open_array(store / "flow")
    array[300:302, 1] = [-1.0, -2.0]
    shutil.rmtree(store / "recv_ns")
    status, told, _ = run("verify", store, "--against", other)
    assert status == 1
    assert "flow, rows 300:302: 2 of 25,968 elements differ, the first in row 300\n" in told
    assert "recv_ns: an array that only the other store has\n" in told


# -- copy --------------------------------------------------------------------------------------


def test_copy(run: Run, store: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.zarr"
    status, told, _ = run("copy", store, target, "--verify")
    assert status == 0
    assert re.search(r"^flow +6,492 .* bit for bit$", told, re.MULTILINE)
    assert run("verify", target, "--against", store)[0] == 0

    status, told, complaint = run("copy", store, target)
    assert (status, told) == (3, "")
    assert complaint == (
        f"tempozarr: expected nothing at {target}, found a store: --resume goes on where it ends, "
        "--overwrite begins anew in its place\n"
    )
    status, told, _ = run("copy", store, target, "--resume", "--json")
    assert status == 0
    document = json.loads(told)
    assert document["rows"] == 6 * 6492
    assert {array["resumed_from"] for array in document["arrays"].values()} == {6492}
    status, told, _ = run(
        "copy", store, target, "--overwrite", "--access", "windows", "--window", 64, "--json"
    )
    document = json.loads(told)
    assert {array["resumed_from"] for array in document["arrays"].values()} == {0}
    assert tempozarr.open_array(target / "book").chunks[0] < 1024


def test_copy_with_a_schema(run: Run, store: Path, tmp_path: Path) -> None:
    schema = schema_of(store)
    assert isinstance(schema, GroupSchema)
    plain = [
        array.model_copy(
            update={"codecs": ({"name": "zstd", "configuration": {"level": 1, "checksum": True}},)}
        )
        for array in schema.arrays
    ]
    file = tmp_path / "schema.json"
    file.write_text(GroupSchema(arrays=plain).model_dump_json())
    assert run("copy", store, tmp_path / "new.zarr", "--schema", file, "--verify")[0] == 0
    report = tempozarr.verify(tmp_path / "new.zarr", against=store)
    assert report.ok
    assert {array.checksum for array in report.values()} == {"zstd"}

    [flow] = [array for array in plain if array.name == "flow"]
    file.write_text(flow.model_dump_json())
    assert isinstance(flow, ArraySchema)
    assert run("copy", store / "flow", tmp_path / "flow", "--schema", file)[0] == 0
    status, _, complaint = run("copy", store, tmp_path / "no", "--schema", file)
    assert status == 3
    assert "schema: expected GroupSchema" in complaint
    file.write_text("{")
    assert run("copy", store, tmp_path / "no", "--schema", file)[0] == 3
    assert not (tmp_path / "no").exists()


def test_advise(run: Run, store: Path, tmp_path: Path) -> None:
    advise = ("advise", store / "update_id", "--seconds", 2)
    status, told, complaint = run(*advise, "--plot", tmp_path / "advice.svg")
    assert (status, complaint) == (0, "")
    assert re.search(r"^balanced: .* in chunks of [\d,]+ rows", told, re.MULTILINE)
    assert (tmp_path / "advice.svg").read_text().startswith("<?xml")
    status, told, _ = run(*advise, "--json", "--access", "windows", "--window", 64)
    assert status == 0
    [array] = json.loads(told)["arrays"].values()
    assert array["rows"] == 6492
    assert all(candidate["windows_per_s"] for candidate in array["candidates"])
    status, _, complaint = run(*advise, "--window", 64)
    assert status == 3
    assert complaint.startswith("tempozarr: window: expected the rows of a window with access=")


def test_copy_with_advice(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("book", "book_raw", "flow", "recv_ns"):
        shutil.rmtree(store / name)
    target = tmp_path / "new.zarr"
    advise = tempozarr.advise
    monkeypatch.setattr(tempozarr, "advise", functools.partial(advise, seconds=2), raising=False)
    copy = ("copy", store, target, "--advise", "smallest", "--verify")
    assert run(*copy)[0] == 0
    stored = [tempozarr.info(path).stored_nbytes for path in (target, store)]
    assert stored[0] <= stored[1]
    # What is there is gone on with, whatever would be recommended now.

    def only_now(path: Path, *, candidates: list[Any], seconds: float) -> tempozarr.Advice:
        assert (str(path), candidates) == (str(target), [])
        return advise(path, candidates=candidates, seconds=seconds)

    monkeypatch.setattr(tempozarr, "advise", only_now)
    array = zarr.open_array(store / "time_ms")
    array.append(np.asarray(array[:100]))
    assert run(*copy, "--resume")[0] == 0
    assert len(tempozarr.open_array(target / "time_ms")) == 6592


def test_a_copy_goes_on_with_the_encoding_that_it_began_with(run: Run, tmp_path: Path) -> None:
    source = BOOKS / "usdm-btcusdt/book_raw"
    values = tempozarr.open_array(source)[...]
    schema = schema_of(source)
    settings = {"codecs": ({"name": "numcodecs.lz4"},), "lz4_level": 9}
    schema = schema.model_validate(schema.model_dump() | settings)
    for path, rows in (("begun", values[:4096]), ("whole", values)):
        with tempozarr.Writer(tmp_path / path, schema, layout=(512, 2048)) as writer:
            writer.append(rows)
    assert run("copy", source, tmp_path / "begun", "--advise", "fastest", "--resume")[0] == 0
    begun, whole = (tempozarr.info(tmp_path / path) for path in ("begun", "whole"))
    assert begun.stored_nbytes == whole.stored_nbytes
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "begun")[...], values)


def test_an_interrupted_copy_is_a_store_and_goes_on(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    values = np.sin(np.arange(120_000.0)).reshape(-1, 3)
    zarr.create_array(source, data=values, chunks=(100, 3))
    code = """
import sys, time, copier, tempozarr, tempozarr.__main__
copy, flush = tempozarr.copy, tempozarr.Writer.flush
def slowly(writer):
    flush(writer)
    time.sleep(0.05)
tempozarr.Writer.flush = slowly
copier.make_small()
tempozarr.copy = lambda *a, **options: copy(*a, **options | {"layout": {"": (16, 64)}})
sys.exit(tempozarr.__main__.main())
"""
    copying = process("copy", source, target, code=code, cwd=Path(__file__).parent)
    while copying.poll() is None and not (target.exists() and len(tempozarr.open_array(target))):
        time.sleep(0.01)
    copying.send_signal(signal.SIGINT)
    told, complaint = copying.communicate()
    assert (copying.returncode, told) == (130, "")
    assert (
        complaint
        == f"tempozarr: interrupted: {target} has the rows so far; --resume goes on there\n"
    )
    found = np.asarray(zarr.open_array(target, mode="r")[...])
    assert 0 < len(found) < len(values)
    np.testing.assert_array_equal(found, values[: len(found)])
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
    assert run("copy", source, target, "--resume", "--verify")[0] == 0
    np.testing.assert_array_equal(tempozarr.open_array(target)[...], values)


def test_an_interruption_before_the_first_row(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempozarr, "copy", interrupt, raising=False)
    status, told, complaint = run("copy", store, tmp_path / "new")
    assert (status, told, complaint) == (130, "", "tempozarr: interrupted: nothing was written\n")
    monkeypatch.setattr(tempozarr, "verify", interrupt, raising=False)
    assert run("verify", store) == (130, "", "tempozarr: interrupted\n")


def test_progress_is_for_terminals(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["verify", str(store)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["verify", str(store)]) == 0
    told = capsys.readouterr().err
    assert "verifying books.zarr: 100% of 1.7 MiB, 0 s" in told
    assert told.endswith("\r\x1b[K")
