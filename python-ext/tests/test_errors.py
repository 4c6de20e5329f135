"""Every error that the Python side raises, with its text; a text that is not listed fails."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr
from tempozarr.codecs import TemporalXOR

SOURCES = Path(tempozarr.__file__).parent
QUOTE = 14  # characters in a row that tell a text from others


def write(folder: Path, file: str, content: Any) -> Path:
    (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def edited(stores: Path, tmp_path: Path, **changes: Any) -> tempozarr.Array:
    metadata = json.loads((stores / "one" / "zarr.json").read_text())
    return tempozarr.open_array(write(tmp_path, "zarr.json", metadata | changes))


def one(stores: Path) -> tempozarr.Array:
    return tempozarr.open_array(stores / "one")


# Text (`{s}`: the store of all arrays, `{t}`: an empty folder), class, and how to get it.
Way = Callable[[Path, Path], Any]
ERRORS: list[tuple[str, type[Exception], Way]] = [
    ("expected an array or group at {t}/x, which does not exist",
     tempozarr.StoreError, lambda s, t: tempozarr.open(t / "x")),
    ("expected an array or group at {t}, found a folder without zarr.json, .zarray or .zgroup; of stores it has nothing",
     tempozarr.StoreError, lambda s, t: tempozarr.open(str(t))),
    ("expected an array or group at {s}/one/zarr.json, found a file: a store is a folder",
     tempozarr.StoreError, lambda s, t: tempozarr.open(s / "one" / "zarr.json")),
    ("expected an array or group at {s}/.., found a folder without zarr.json, .zarray or .zgroup; of stores it has all",
     tempozarr.StoreError, lambda s, t: tempozarr.open(s / "..")),
    ("expected an array at {s}, found a group: use tempozarr.open_group, or tempozarr.open for either",
     tempozarr.StoreError, lambda s, t: tempozarr.open_array(s)),
    ("expected a group at {s}/one, found an array: use tempozarr.open_array, or tempozarr.open for either",
     tempozarr.StoreError, lambda s, t: tempozarr.open_group(s / "one")),
    ("expected a path, or a URL of file://, s3://, gs://, az:// or http(s)://, got a URL of ftp://: read it with zarr.open, after tempozarr.enable()",
     tempozarr.TempozarrError, lambda s, t: tempozarr.open("ftp://host/a")),
    ("expected a path, or a URL as text, as in 's3://bucket/a', got a URL of s3:// that has become a path",
     ValueError, lambda s, t: tempozarr.open(Path("s3://bucket/a"))),
    ("zarr-python cannot open a URL of nonsense:// (ValueError): give copy what zarr.open returns",
     tempozarr.StoreError, lambda s, t: tempozarr.copy("nonsense://host/a", t / "copy")),
    ("storage_options: expected a URL such as 's3://bucket/a.zarr' with them, got '{t}'",
     ValueError, lambda s, t: tempozarr.open(str(t), storage_options={"region": "x"})),
    ("expected an array or group of a zarr LocalStore, got MemoryStore('memory://…'): open its URL, or read it with zarr-python, after tempozarr.enable()",
     tempozarr.TempozarrError, lambda s, t: tempozarr.open(zarr.array([1]))),
    ("expected a path, a URL, a zarr.Array or a zarr.Group, got int",
     TypeError, lambda s, t: tempozarr.open(3)),  # type: ignore[arg-type]
    ("expected JSON in {t}/zarr.json: Expecting value: line 1 column 1 (char 0)",
     tempozarr.MetadataError, lambda s, t: tempozarr.open(write(t, "zarr.json", "zarr"))),
    ("expected a JSON object in {t}/.zgroup, got list",
     tempozarr.MetadataError, lambda s, t: tempozarr.open(write(t, ".zgroup", []))),
    ('"no array or group \'x/y\' in {t}/inner; it has nothing"',
     KeyError, lambda s, t: tempozarr.open_group(inner(t))["x/y"]),
    ('"expected the name of an array or group, such as \'a\' or \'a/b\', got \'../a\'"',
     KeyError, lambda s, t: tempozarr.open_group(s)["../a"]),
    ("fill_value 'x' of {t} is no int64: invalid literal for int() with base 10: 'x'",
     tempozarr.MetadataError, lambda s, t: fill_value(one(s), "x", t)),
    ("copy=False: an array that is stored on disk cannot be viewed as a numpy array; leave copy out",
     ValueError, lambda s, t: np.array(one(s), copy=False)),
    ("len() of unsized object", TypeError, lambda s, t: len(tempozarr.open_array(s / "scalar"))),
    ("iteration over a 0-d array", TypeError, lambda s, t: iter(tempozarr.open_array(s / "scalar"))),
    ("out: expected a numpy array or a writable buffer, got str; pass numpy.empty((11,), '<i8') or the like",
     TypeError, lambda s, t: one(s).read(out="x")),
    ("out: expected shape (2,), got (3,); pass numpy.empty((2,), '<i8') or the like",
     ValueError, lambda s, t: one(s).read(slice(2), out=np.zeros(3, "i8"))),
    ("out: expected data type int64, got int32; pass numpy.empty((2,), '<i8') or the like",
     TypeError, lambda s, t: one(s).read(slice(2), out=np.zeros(2, "i4"))),
    ("out: expected a writable array, got a read-only one; pass numpy.empty((), '<i8') or the like",
     ValueError, lambda s, t: one(s).read(0, out=np.broadcast_to(np.int64(1), ()))),
    ("expected windows of at least 1 row in steps of at least 1, got length 0, step -1",
     ValueError, lambda s, t: one(s).windows([0], 0, step=-1)),
    ("expected integers for the starts of windows, got float64",
     TypeError, lambda s, t: one(s).windows([0.5], 1)),
    ("window at 9: windows of 2 rows in steps of 3 begin at 0 to 7 in 11 rows",
     IndexError, lambda s, t: one(s).windows([1, 9], 2, step=3)),
    ("expected an array with rows, got one without dimensions; use [()]",
     ValueError, lambda s, t: tempozarr.open_array(s / "scalar").windows([0], 1)),
    ("expected cache_bytes of 0 or more, got -1",
     ValueError, lambda s, t: tempozarr.open(s, cache_bytes=-1)),
    ("oindex expects at most one item per dimension, each an integer, a slice, or a 1-D integer or boolean array within bounds, got 11 for shape (11,) (index 11 is out of bounds for axis 0 with size 11)",
     IndexError, lambda s, t: one(s).oindex[11]),
    ("vindex expects one integer or integer array for each of the 1 dimensions, or one boolean mask of shape (11,), got slice(1, None, None) (not one integer array per dimension); use oindex for slices",
     IndexError, lambda s, t: one(s).vindex[1:]),
    ("index 18446744073709551615 is out of bounds for axis 0 with size 11",
     IndexError, lambda s, t: one(s)[np.array([2**64 - 1], "u8")]),
    ("module 'tempozarr' has no attribute 'x'", AttributeError, lambda s, t: tempozarr.x),
    ("temporal_xor: expected an integer as axis, got 1.0",
     tempozarr.MetadataError, lambda s, t: TemporalXOR(1.0)),  # type: ignore[arg-type]
    ('temporal_xor: expected {{"name": "temporal_xor", "configuration": {{"axis": 0}}}}, got {{\'name\': \'xor\'}}',
     tempozarr.MetadataError, lambda s, t: TemporalXOR.from_dict({"name": "xor"})),
    ("temporal_xor: expected transform 'xor' or none, got 'add'",
     tempozarr.MetadataError, lambda s, t: TemporalXOR.from_dict({"name": "temporal_xor", "configuration": {"transform": "add"}})),
    ("temporal_xor: expected axis and nothing else, got ['axes']",
     tempozarr.MetadataError, lambda s, t: TemporalXOR.from_dict({"name": "temporal_xor", "configuration": {"axes": 0}})),
    ("temporal_xor: expected an axis of the array's 1 dimensions, got 1",
     tempozarr.MetadataError, lambda s, t: xor_array(t, "f4", 1)),
    ("temporal_xor: expected a data type of fixed size, got StringDType()",
     tempozarr.MetadataError, lambda s, t: xor_array(t, "string", 0)),
    ("strict mode: expected Rust to do this, but zarr-python would: Rust cannot use the metadata: data type string / |O: elements of variable length are not written here. Allow it with tempozarr.enable(strict=False), or by unsetting TEMPOZARR_STRICT",
     tempozarr.TempozarrError, lambda s, t: strictly()),
]  # fmt: skip


def inner(folder: Path) -> Path:
    zarr.create_group(folder).create_group("inner")
    return folder / "inner"


def fill_value(array: tempozarr.Array, value: Any, folder: Path) -> Any:
    array._metadata["fill_value"] = value
    array._root = str(folder)
    return array.fill_value


def xor_array(folder: Path, dtype: str, axis: int) -> None:
    zarr.create_array(folder / "a", shape=(4,), dtype=dtype, filters=TemporalXOR(axis))


def strictly() -> Any:
    with tempozarr.enable(strict=True):
        return zarr.create_array({}, shape=(1,), dtype="string")[...]


@pytest.mark.parametrize(("text", "kind", "way"), ERRORS, ids=[e[0][:40] for e in ERRORS])
def test_text(stores: Path, tmp_path: Path, text: str, kind: type[Exception], way: Way) -> None:
    with pytest.raises(kind) as caught:
        way(stores, tmp_path)
    assert type(caught.value) is kind
    got = re.sub(r"memory://\d+", "memory://…", str(caught.value))
    assert got == text.format(s=stores, t=tmp_path)


def test_every_text_is_tested() -> None:
    """Each `raise X("...")` in the sources is in the table, or quoted in another test, with torch or without."""
    tests = (file.read_text() for file in Path(__file__).parents[1].glob("tests*/*.py"))
    quoted = re.sub(r'\\|"\s*[rf]*"', "", "".join(tests))  # of strings in pieces, and patterns
    for file in sorted(SOURCES.glob("[!.]*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            kind = ast.dump(node.exc.func)
            if not node.exc.args or "_RefusedError" in kind or "_FallbackError" in kind:
                continue  # both are caught, and part of another text
            text = node.exc.args[0]
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            literals = [str(p.value) for p in parts if isinstance(p, ast.Constant)]
            runs = {part[i : i + QUOTE] for part in literals for i in range(len(part) - QUOTE + 1)}
            where = f"{file.name}:{node.lineno}"
            assert not runs or any(run in quoted for run in runs), f"{where} is not tested"


def test_the_tree_of_classes() -> None:
    for kind, also in (
        ("CodecError", ValueError),
        ("MetadataError", ValueError),
        ("StoreError", OSError),
    ):
        assert issubclass(getattr(tempozarr, kind), tempozarr.TempozarrError)
        assert issubclass(getattr(tempozarr, kind), also)
