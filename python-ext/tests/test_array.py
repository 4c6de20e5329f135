"""Opening, properties, reading into given memory, groups."""

import array as stdlib_array
import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import tempozarr
from conftest import ARRAYS, create, equal, ramp


def test_import_and_open_leave_zarr_alone(stores: Path) -> None:
    code = (
        "import sys, tempozarr; a = tempozarr.open(sys.argv[1]); a['three'][0]; a.tree(); "
        "assert 'zarr' not in sys.modules and 'asyncio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(stores)], check=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_properties(stores: Path, name: str) -> None:
    ours, theirs = tempozarr.open_array(stores / name), zarr.open_array(stores / name, mode="r")
    for attribute in ("shape", "dtype", "ndim", "size", "nbytes", "chunks", "shards"):
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    fill, want = ours.fill_value, theirs.fill_value
    assert type(fill) is type(want)
    np.testing.assert_equal(fill, want)
    file = "zarr.json" if theirs.metadata.zarr_format == 3 else ".zarray"
    stored = json.loads((stores / name / file).read_text())
    assert stored.items() <= ours.metadata.items()


def test_every_name_is_there() -> None:
    for name in dir(tempozarr):
        assert getattr(tempozarr, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tempozarr.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("f4", np.nan), ("f8", -np.inf), ("f2", -0.0), ("f4", np.uint32(0x7FC00001).view("f4")),
        ("c16", 1 - 2j), ("c8", complex(np.nan, np.inf)), ("bool", True), ("u8", 2**64 - 1),
        ("M8[s]", np.datetime64("NaT")), ("m8[ms]", 5), ("U4", "ab"), ("string", "äb"), ("S4", b"ab"),
        ("V3", b"abc"), ("variable_length_bytes", b"ab"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_fill_values(tmp_path: Path, dtype: str, fill: Any, zarr_format: Any) -> None:
    zarr.create_array(
        tmp_path / "a",
        shape=(3,),
        chunks=(2,),
        dtype=dtype,
        fill_value=fill,
        zarr_format=3 if dtype == "variable_length_bytes" else zarr_format,
    )
    theirs = zarr.open_array(tmp_path / "a", mode="r")
    ours = tempozarr.open_array(tmp_path / "a")
    assert type(ours.fill_value) is type(theirs.fill_value)
    assert np.asarray(ours.fill_value).tobytes() == np.asarray(theirs.fill_value).tobytes()
    equal(ours[:], theirs[:])  # missing chunks


@pytest.mark.parametrize("dtype", ["f4", "M8[s]", "U3", "bool"])
def test_v2_array_without_a_fill_value(tmp_path: Path, dtype: str) -> None:
    theirs = zarr.create_array(
        tmp_path / "a", shape=(3,), chunks=(2,), dtype=dtype, fill_value=None, zarr_format=2
    )
    file = tmp_path / "a" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fill_value": None}))
    theirs, ours = zarr.open_array(tmp_path / "a", mode="r"), tempozarr.open_array(tmp_path / "a")
    assert theirs.fill_value is None
    assert ours.fill_value is None
    equal(ours[:], theirs[:])


@pytest.mark.parametrize("how", [str, Path, lambda p: p.as_uri(), lambda p: zarr.open(p, mode="r")])
@pytest.mark.parametrize("opener", [tempozarr.open, tempozarr.open_array])
def test_ways_to_open(stores: Path, how: Any, opener: Any) -> None:
    equal(opener(how(stores / "three"))[...], ARRAYS["three"][0])


def test_open_of_a_zarr_member_keeps_its_path(stores: Path) -> None:
    theirs = zarr.open_group(stores, mode="r")
    ours = tempozarr.open_array(theirs["three"])
    assert (ours.path, ours.name) == ("three", "/three")
    assert tempozarr.open_group(theirs) == tempozarr.open_group(stores)


def test_relative_paths_and_urls(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stores)
    ours = tempozarr.open_array("three")
    monkeypatch.chdir("/")
    equal(ours[0], ARRAYS["three"][0][0])
    assert tempozarr.open(f"file://localhost{stores}/three") == ours


def test_numpy_protocols(stores: Path) -> None:
    data = ARRAYS["three"][0]
    ours = tempozarr.open_array(stores / "three")
    equal(np.asarray(ours), data)
    equal(np.array(ours, dtype="f8", copy=True), data.astype("f8"))
    equal(np.asarray(ours, dtype="i2"), data.astype("i2"))
    with pytest.raises(ValueError, match="copy=False"):
        np.array(ours, copy=False)
    assert len(ours) == 7
    assert [row.tolist() for row in ours] == data.tolist()
    scalar = tempozarr.open_array(stores / "scalar")
    with pytest.raises(TypeError, match="unsized"):
        len(scalar)
    with pytest.raises(TypeError, match="0-d"):
        iter(scalar)


def test_repr(stores: Path) -> None:
    assert repr(tempozarr.open_array(stores / "sharded")) == (
        f"<tempozarr.Array {stores / 'sharded'} (13, 5) float64, chunks (2, 3), shards (6, 6)>"
    )
    assert repr(tempozarr.open(stores)).startswith(
        f"<tempozarr.Group {stores}: big_endian, blobs, "
    )


def test_copies_and_pickles(stores: Path) -> None:
    ours = tempozarr.open_group(stores)["three"]
    assert isinstance(ours, tempozarr.Array)
    for other in (pickle.loads(pickle.dumps(ours)), copy.copy(ours), copy.deepcopy(ours)):
        assert other == ours
        assert hash(other) == hash(ours)
        assert other.path == "three"
        equal(other[1], ARRAYS["three"][0][1])
    group = tempozarr.open_group(stores)
    assert pickle.loads(pickle.dumps(group)) == group != ours


EVERY_OTHER: Any = slice(None, None, 2)
BACKWARDS: Any = slice(None, None, -1)
OUTPUTS: dict[str, Any] = {
    "C": np.zeros,
    "F": lambda s, d: np.zeros(s, d, order="F"),
    "strided": lambda s, d: np.zeros([2 * n for n in s], d)[(..., *[EVERY_OTHER] * len(s))],
    "reversed": lambda s, d: np.zeros(s, d)[(..., *[BACKWARDS] * len(s))],
    "swapped": lambda s, d: np.zeros(s, d.newbyteorder()),
    "unaligned": lambda s, d: (
        np.zeros(1 + int(np.prod(s)) * d.itemsize, "u1")[1:].view(d).reshape(s)
    ),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "selection",
    [
        ...,
        (0,),
        (0, 0, 0),
        (slice(5, 1, -2), 1),
        ([6, 0, 0],),
        ([0, 1], [0, 1], [0, 1]),
        (..., [1, 2]),
    ],
    ids=repr,
)
def test_read_into_any_memory(stores: Path, output: str, selection: Any) -> None:
    ours, want = tempozarr.open_array(stores / "three"), ARRAYS["three"][0][selection]
    out = OUTPUTS[output](np.shape(want), np.dtype("f4"))
    assert ours.read(selection, out=out) is out
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("name", ["v2_big_endian", "strings", "time", "text", "v2_big_endian_text"])
def test_read_into_arrays_of_other_types(stores: Path, name: str) -> None:
    ours, want = tempozarr.open_array(stores / name), ARRAYS[name][0]
    out = np.zeros(want.shape, want.dtype)
    equal(ours.read(out=out), want)
    equal(ours.read(0), want[0, ...])
    if not want.dtype.isnative:
        native = np.zeros(want.shape, want.dtype.newbyteorder("="))
        np.testing.assert_array_equal(ours.read(out=native), want)


@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        lambda n: memoryview(bytearray(n)),
        lambda n: memoryview(stdlib_array.array("f", bytes(n))).cast("B").cast("f", (7, 5, 4)),
        lambda n: memoryview(np.zeros(n, "u1")),  # type: ignore[arg-type,unused-ignore]
    ],
)
def test_read_into_buffers(stores: Path, make: Any) -> None:
    out = make(7 * 5 * 4 * 4)
    assert tempozarr.open_array(stores / "three").read(out=out) is out
    assert bytes(out) == ARRAYS["three"][0].tobytes()


def readonly(data: NDArray[Any]) -> NDArray[Any]:
    data.flags.writeable = False
    return data


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.zeros((7, 5, 3), "f4"), ValueError, r"expected shape \(7, 5, 4\), got \(7, 5, 3\)"),
        (np.zeros((7, 5, 4)), TypeError, "expected data type float32, got float64"),
        (readonly(ramp(7, 5, 4)), ValueError, "expected a writable array, got a read-only one"),
        (bytes(560), ValueError, "expected a writable array, got a read-only one"),
        (bytearray(559), ValueError, r"expected shape \(7, 5, 4\), got \(559,\)"),
        ([0.0], TypeError, "expected a numpy array or a writable buffer, got list"),
    ],
)
def test_wrong_memory(stores: Path, out: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"out: {text}") as caught:
        tempozarr.open_array(stores / "three").read(out=out)
    assert "pass numpy.empty((7, 5, 4), '<f4') or the like" in str(caught.value)


@pytest.fixture(params=[2, 3])
def nested(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Folder with /a (attributes), /a/b/c, /d, in either format."""
    root = zarr.create_group(tmp_path / "g", zarr_format=request.param, attributes={"unit": "s"})
    gzip: Any = numcodecs.GZip(1) if request.param == 2 else zarr.codecs.GzipCodec(level=1)
    a = root.create_group("a", attributes={"n": 1})
    c = a.create_group("b").create_array(
        "c", shape=(4,), chunks=(2,), dtype="i4", attributes={"k": [1]}, compressors=gzip
    )
    c[:] = ramp(4, dtype="i4")
    root.create_array("d", shape=(2, 2), chunks=(2, 1), dtype="f8", compressors=gzip)
    (tmp_path / "g" / "notes.txt").write_text("not a store")
    (tmp_path / "g" / "folder").mkdir()
    return tmp_path / "g"


def test_groups(nested: Path) -> None:
    group = tempozarr.open_group(nested)
    assert list(group) == list(group.keys()) == ["a", "d"]
    assert len(group) == 2
    assert [name for name, _ in group.arrays()] == ["d"]
    assert [name for name, _ in group.groups()] == ["a"]
    assert [name for name, _ in group.members()] == ["a", "d"]
    assert dict(group.attrs) == {"unit": "s"}
    inner = group["a"]
    assert isinstance(inner, tempozarr.Group)
    assert (inner.name, inner.path, dict(inner.attrs)) == ("/a", "a", {"n": 1})
    array = group["a/b/c"]
    assert isinstance(array, tempozarr.Array)
    assert (array.name, dict(array.attrs)) == ("/a/b/c", {"k": [1]})
    assert array == inner["b/c"] == inner["/b/c/"]
    equal(array[:], ramp(4, dtype="i4"))
    assert "a/b/c" in group
    assert "a/x" not in group
    assert "folder" not in group
    assert 1 not in group  # type: ignore[comparison-overlap]
    assert group.get("x") is None
    with pytest.raises(TypeError):
        group.attrs["unit"] = "m"  # type: ignore[index]
    array.metadata["attributes"]["k"] = 2
    group.metadata["attributes"]["unit"] = 2
    assert (dict(array.attrs), dict(group.attrs)) == ({"k": [1]}, {"unit": "s"})


def test_tree(nested: Path) -> None:
    group = tempozarr.open_group(nested)
    i4, f8, codecs = (
        ("<i4", "<f8", "gzip")
        if group.metadata["zarr_format"] == 2
        else ("int32", "float64", "bytes > gzip")
    )
    assert group.tree() == (
        "/\n"
        "├── a\n"
        "│   └── b\n"
        f"│       └── c  (4,) {i4}  chunks (2,)  {codecs}\n"
        f"└── d  (2, 2) {f8}  chunks (2, 1)  {codecs}"
    )


def test_tree_of_shards(stores: Path) -> None:
    tree = tempozarr.open_group(stores).tree()
    assert "sharded  (13, 5) float64  chunks (2, 3)  shards (6, 6)  bytes > zstd\n" in tree
    assert "three  (7, 5, 4) float32  chunks (3, 2, 4)  temporal_xor > bytes > zstd\n" in tree
    assert "v2_filters  (11,) <i4  chunks (4,)  delta > lz4\n" in tree


def test_an_array_that_changes_is_opened_anew(tmp_path: Path) -> None:
    array = create(tmp_path / "a", "one")
    ours = tempozarr.open_array(tmp_path / "a")
    array.resize((20,))
    array[:] = np.arange(20)
    assert ours.shape == (11,)
    equal(ours[:], np.arange(11))
    assert tempozarr.open_array(tmp_path / "a").shape == (20,)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_attributes_may_hold_numbers_that_json_lacks(tmp_path: Path, zarr_format: Any) -> None:
    """zarr-python writes and reads them as Python's json module does."""
    attributes: dict[str, Any] = {
        "nan": float("nan"),
        "list": [float("inf"), -float("inf"), -1.5],
        'NaN, "Infinity\\': 'text: NaN, "-Infinity", \\',
    }
    group = zarr.create_group(tmp_path, zarr_format=zarr_format, attributes=attributes)
    for name, given in {"some": attributes, "none": {}}.items():
        array = group.create_array(
            name, shape=(2,), dtype="f4", fill_value=np.nan, attributes=given
        )
        array[:1] = 7
        for read in tempozarr.open_array(tmp_path / name), tempozarr.open_array(array):
            assert repr(dict(read.attrs)) == repr(given)
            assert repr(read.metadata["attributes"]) == repr(given)
            np.testing.assert_array_equal(read[:], [7, np.nan])
            assert read.explain()
    assert repr(dict(tempozarr.open_group(tmp_path).attrs)) == repr(attributes)


@pytest.mark.parametrize("text", ["NaNa", "+Infinity", "--Infinity", '"NaN'])
def test_attributes_that_are_no_json_are_an_error(tmp_path: Path, text: str) -> None:
    zarr.create_array(tmp_path, shape=(2,), dtype="f4", attributes={"x": 1})
    file = tmp_path / "zarr.json"
    file.write_text(file.read_text().replace('"x": 1', f'"x": {text}'))
    with pytest.raises(tempozarr.MetadataError, match=r"expected|EOF"):
        tempozarr.open_array(tmp_path)
