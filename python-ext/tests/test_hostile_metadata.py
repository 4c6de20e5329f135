"""Metadata of strangers: whatever is in the place of each field, only errors of ours come of it."""

from __future__ import annotations

import contextlib
import copy as copying
import io
import itertools
import json
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr
from tempozarr import __main__ as command

pytestmark = pytest.mark.slow

Document = dict[str, Any]

_GONE = object()
NESTED: list[Any] = []
for _ in range(60):
    NESTED = [NESTED]
VALUES: dict[str, Any] = {
    "gone": _GONE,
    "null": None,
    "true": True,
    "-1": -1,
    "2^63": 2**63,
    "2^64": 2**64,
    "1e400": float("inf"),
    "x": "x",
    "name of a grid": "regular",
    "name of a codec": "sharding_indexed",
    "0": 0,
    "1.5": 1.5,
    "empty text": "",
    "list": [],
    "object": {},
    "list of null": [None],
    "nested": NESTED,
}


def places(document: Any) -> Iterator[tuple[str | int, ...]]:
    """Keys to every value within a document."""
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield (key,)
            yield from ((key, *below) for below in places(document[key]))


def changed(document: Document, place: tuple[str | int, ...], value: Any) -> Document:
    document = copying.deepcopy(document)
    *above, last = place
    inner: Any = document
    for key in above:
        inner = inner[key]
    if value is _GONE:
        del inner[last]
    else:
        inner[last] = value
    return document


V3: Document = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 2],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0.0,
    "codecs": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
    ],
    "attributes": {"a": [1]},
    "dimension_names": ["time", None],
}
SHARDED = V3 | {
    "codecs": [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, 2],
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "index_codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "crc32c"},
                ],
                "index_location": "end",
            },
        }
    ]
}
DATES = V3 | {
    "data_type": {
        "name": "numpy.datetime64",
        "configuration": {"unit": "ns", "scale_factor": 1},
    },
    "fill_value": "NaT",
}
V2: Document = {
    "zarr_format": 2,
    "shape": [4, 2],
    "chunks": [2, 2],
    "dtype": "<i4",
    "compressor": {"id": "zstd", "level": 1},
    "filters": [{"id": "delta", "dtype": "<i4"}],
    "fill_value": 0,
    "order": "C",
    "dimension_separator": ".",
}
DATES_V2 = V2 | {"dtype": "<M8[ns]", "filters": None}
BYTES_V2 = DATES_V2 | {"dtype": "|S4", "fill_value": "YWI="}
RAW_V2 = BYTES_V2 | {"dtype": "|V4"}
BYTES = DATES | {
    "data_type": {"name": "null_terminated_bytes", "configuration": {"length_bytes": 4}},
    "fill_value": "YWI=",
}
GROUP: Document = {
    "zarr_format": 3,
    "node_type": "group",
    "attributes": {"a": [1, {"b": None}]},
    "consolidated_metadata": {
        "kind": "inline",
        "must_understand": False,
        "metadata": {"x": {"zarr_format": 3, "node_type": "group"}, "x/y": {"zarr_format": 3}},
    },
}
# File, document, and which fields of it to change, if not all.
DOCUMENTS: dict[str, tuple[str, Document, set[str] | None]] = {
    "v3": ("zarr.json", V3, None),
    "sharded": ("zarr.json", SHARDED, {"codecs"}),
    "dates": ("zarr.json", DATES, {"data_type", "fill_value"}),
    "v2": (".zarray", V2, None),
    "dates v2": (".zarray", DATES_V2, {"dtype", "fill_value", "filters"}),
    "bytes": ("zarr.json", BYTES, {"data_type", "fill_value"}),
    "bytes v2": (".zarray", BYTES_V2, {"dtype", "fill_value"}),
    "raw v2": (".zarray", RAW_V2, {"dtype", "fill_value"}),
    "attributes v2": (".zattrs", {"a": [1], "_ARRAY_DIMENSIONS": ["time", "x"]}, None),
    "group": ("zarr.json", GROUP, None),
    # With fields that are of others.
    "odd group": ("zarr.json", V3 | {"node_type": "group"}, {"shape", "codecs", "chunk_grid"}),
    "odd v2": (".zarray", V3 | V2, {"codecs", "chunk_grid", "dimension_names"}),
    "group v2": (".zgroup", {"zarr_format": 2}, None),
}
# What is no document of any kind.
RAW: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a number": b"1e400",
    "a list": b"[{}]",
    "text": b'"x"',
    "cut": json.dumps(V3).encode()[:-30],
    "no UTF-8": json.dumps(V3).encode().replace(b"time", b"t\xff\xfee"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(V3).encode(),
    "UTF-16": json.dumps(V3).encode("utf-16"),
    "nulls": b"\0" * 1000,
    "half a pair": json.dumps(V3).encode().replace(b"time", rb"\ud800"),
    "deep": b'{"a":' * 100_000,
    "deep and whole": b'{"a":' * 200 + b"1" + b"}" * 200,
    "a long number": json.dumps(V3).encode().replace(b"[4, 2]", b"[" + b"9" * 5000 + b"]"),
    "many fields": b"{" + b",".join(b'"%d":%d' % (i, i) for i in range(2000)) + b"}",
    "twice": b'{"shape": [9, 9], "node_type": "group", ' + json.dumps(V3).encode()[1:],
}


def lay(folder: Path, name: str, content: bytes) -> None:
    """Put a document where it is looked for, beside those that it needs."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    if name == ".zattrs":
        (folder / ".zarray").write_text(json.dumps(V2))


NOTHING_TO_ADVISE_ON = (
    "expected at least one array to measure, got none",
    "array: expected rows, got 0 rows",
)


def run(act: Callable[[], Any]) -> str | None:
    """Run it; what it raised, unless that is an error of ours."""
    try:
        act()
    except tempozarr.TempozarrError:
        return None
    except BaseException as e:  # noqa: BLE001 (panics too)
        if type(e) is ValueError and str(e).startswith(NOTHING_TO_ADVISE_ON):
            return None
        return "".join(traceback.format_exception(e)[-3:])
    return None


def look(node: Any) -> None:
    """Ask everything that needs no chunk."""
    repr(node)
    json.dumps(node.metadata)
    dict(node.attrs)
    if isinstance(node, tempozarr.Array):
        size = 1
        for length in node.shape:
            size *= length
        assert node.size == size
        assert node.nbytes == size * node.dtype.itemsize
        assert len(node) == node.shape[0] if node.shape else node.ndim == 0
        node.explain()
        assert node.grid == tuple(
            -(-length // chunk)
            for length, chunk in zip(node.shape, node.shards or node.chunks, strict=True)
        )
        fill = node.fill_value
        if fill is not None and node.size:  # nothing is stored
            np.testing.assert_array_equal(node[(0,) * node.ndim], fill)
        return
    node.tree()
    for name in node:
        with contextlib.suppress(tempozarr.StoreError):
            assert name in node
        with contextlib.suppress(tempozarr.TempozarrError):
            look(node[name])


def told(*arguments: str) -> None:
    """Run the command; it fails with one line, or not."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        assert command.main(arguments) in {0, command.FAULTS, command.FAILED}
    (out.getvalue() + err.getvalue()).encode()


def inspect(root: Path, *, by_command: bool) -> Iterator[str]:
    """What opening, looking at and checking a group with an odd member raises, but errors of ours.

    What is sound beside it is found, whatever it is.
    """
    odd = root / "odd"
    yield from filter(None, [run(lambda: look(tempozarr.open(odd)))])
    try:
        group = tempozarr.open_group(root)
        assert {"sound", "sound2"} <= set(group)
        with contextlib.suppress(tempozarr.TempozarrError):
            look(group["odd"])
        repr(group)
        assert "sound  (4, 2) float32" in group.tree()
        info = tempozarr.info(root)
        assert {"sound", "sound2"} <= info.arrays.keys()
        assert "sound2" in str(info)
        report = tempozarr.verify(root)
        assert {"sound", "sound2"} <= report.keys()
        assert not {"sound", "sound2", ""} & {fault.array for fault in report.faults}
        str(report)
        if by_command:
            told("info", str(root))
            told("verify", str(odd))
            told("info", str(odd), "--json")
    except BaseException as e:  # noqa: BLE001
        yield "".join(traceback.format_exception(e)[-3:])


def write(root: Path) -> Iterator[str]:
    """What copying, appending to and advising on an odd array or group raises."""
    odd, target = root / "odd", root / "target"
    acts: list[Callable[[], Any]] = [
        lambda: tempozarr.copy(odd, target, sync=False),
        lambda: tempozarr.Writer(odd, mode="a", sync=False).close(),
        lambda: tempozarr.advise(odd, seconds=1e-9, candidates=[]),
    ]
    yield from filter(None, map(run, acts))
    shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group with two arrays of values."""
    root = tmp_path_factory.mktemp("hostile") / "g"
    group = zarr.create_group(root)
    group.create_array("sound", data=np.arange(8, dtype="f4").reshape(4, 2), chunks=(2, 2))
    zarr.create_array(root / "sound2", data=np.arange(8).reshape(4, 2), zarr_format=2)
    return root


def cases(document: Document, fields: set[str] | None) -> Iterator[tuple[str, Document]]:
    for place, (what, value) in itertools.product(places(document), VALUES.items()):
        if fields is None or place[0] in fields:
            yield f"{'.'.join(map(str, place))}: {what}", changed(document, place, value)


def fail(problems: list[str]) -> None:
    assert not problems, f"{len(problems)}:\n" + "\n".join(problems[:20])


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.filterwarnings("ignore")
def test_every_value_in_the_place_of_every_field(name: str, sound: Path) -> None:
    file, document, fields = DOCUMENTS[name]
    problems = []
    for number, (what, mutant) in enumerate(cases(document, fields)):
        lay(sound / "odd", file, json.dumps(mutant).encode())
        by_command = number % 7 == 0
        problems += [f"{what}: {problem}" for problem in inspect(sound, by_command=by_command)]
        problems += [f"{what}, write: {problem}" for problem in write(sound)]
        shutil.rmtree(sound / "odd")
    fail(problems)


@pytest.mark.parametrize(
    ("text", "file", "document"),
    [
        (
            "dimension_names as there are dimensions, 2",
            "zarr.json",
            V3 | {"dimension_names": ["x"]},
        ),
        ("chunks as there are dimensions, 2", ".zarray", V2 | {"chunks": [1]}),
        (
            "lengths in chunk_shape as there are dimensions, 1",
            "zarr.json",
            V3 | {"shape": [4], "dimension_names": None},
        ),
        ("3 as zarr_format in ", "zarr.json", V3 | {"zarr_format": 2}),
        ("2 as zarr_format in ", ".zarray", V2 | {"zarr_format": 3}),
        ("a value as fill_value in ", "zarr.json", {k: V3[k] for k in V3 if k != "fill_value"}),
    ],
)
def test_what_is_told(text: str, file: str, document: Document, tmp_path: Path) -> None:
    (tmp_path / file).write_text(json.dumps(document))
    acts: list[Callable[[], Any]] = [
        lambda: tempozarr.open(tmp_path),
        lambda: tempozarr.open_array(tmp_path),
        lambda: tempozarr.copy(tmp_path, tmp_path / "to"),
    ]
    for act in acts:
        with pytest.raises(tempozarr.MetadataError, match=f"expected (as many )?{text}"):
            act()
    assert f"{tmp_path}/{file}" in tempozarr.info(tmp_path).problems[""]


@pytest.mark.parametrize("file", ["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_document(file: str, sound: Path) -> None:
    problems = []
    for what, content in RAW.items():
        lay(sound / "odd", file, content)
        if file == ".zmetadata":
            (sound / "odd/.zgroup").write_text('{"zarr_format": 2}')
        problems += [
            f"{what}: {problem}" for problem in (*inspect(sound, by_command=True), *write(sound))
        ]
        shutil.rmtree(sound / "odd")
    fail(problems)


@pytest.mark.parametrize("length", [2**62, 2**63 - 1])
@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.filterwarnings("ignore")
def test_shapes_without_end(length: int, chunk: int, tmp_path: Path) -> None:
    """Numbers of elements and of bytes do not wrap, and nothing counts up to them."""
    folder = tmp_path / "a"
    folder.mkdir()
    grid = {"name": "regular", "configuration": {"chunk_shape": [chunk, chunk]}}
    for document, file in (
        (V3 | {"shape": [length, length], "chunk_grid": grid}, "zarr.json"),
        (V2 | {"shape": [length, length], "chunks": [chunk, chunk]}, ".zarray"),
    ):
        (folder / file).write_text(json.dumps(document))
        array = tempozarr.open_array(folder)
        assert array.size == length**2
        assert array.nbytes == 4 * length**2
        assert len(array) == length
        np.testing.assert_array_equal(array[length - 2 :, 5], [0, 0])
        np.testing.assert_array_equal(array.vindex[[length - 1], [length - 1]], [0])
        told = tempozarr.info(folder).arrays[""]
        assert told.expected == told.missing == (-(-length // chunk)) ** 2
        assert told.nbytes == array.nbytes
        assert str(tempozarr.info(folder))
        assert tempozarr.verify(folder).ok
        assert not tempozarr.verify(folder, complete=True).ok
        (folder / file).unlink()
