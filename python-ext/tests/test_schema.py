"""Schemas: what they complete, refuse and remember; the metadata they make; schemas of stores."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
import zarr.codecs.numcodecs as zn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import tempozarr
from tempozarr import schemas
from tempozarr.codecs import TemporalXOR
from tempozarr.schema import ArraySchema, GroupSchema, schema_of

BOOKS = Path(__file__).parents[2] / "examples/data/books.zarr"

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
XOR = {"name": "temporal_xor", "configuration": {"axis": 0}}

DTYPES = [
    "bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64",
    "datetime64[ns]", "datetime64[25s]", "timedelta64[ms]", "<U3", "|S3", "|V4",
]  # fmt: skip

# What zarr-python says of data types and codecs that Zarr 3 does not specify.
pytestmark = pytest.mark.filterwarnings("ignore:The data type", "ignore:Numcodecs codecs")


def shuffle(elementsize: int) -> dict[str, Any]:
    return {"name": "numcodecs.shuffle", "configuration": {"elementsize": elementsize}}


def delta(dtype: str) -> dict[str, Any]:
    return {"name": "numcodecs.delta", "configuration": {"dtype": dtype, "astype": dtype}}


def schema(**changes: Any) -> ArraySchema:
    return ArraySchema(**{"name": "a", "dtype": "float32"} | changes)


def refused(**changes: Any) -> str:
    """What is said of a schema that cannot be: `field: text`, one for each error."""
    with pytest.raises(ValidationError) as e:
        schema(**changes)
    return "; ".join(
        f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"
        for error in e.value.errors()
    )


def write(folder: Path, metadata: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(metadata))
    return folder


# -- what a schema says ------------------------------------------------------------------------


def test_a_schema_is_completed() -> None:
    got = ArraySchema(name="book", dtype=">f4", row_shape=[50, 3], columns=["p", "s", "c"])
    assert got.model_dump() == {
        "name": "book",
        "dtype": "float32",
        "row_shape": (50, 3),
        "description": "",
        "dimension_names": ("row", "book_1", "book_2"),
        "columns": ("p", "s", "c"),
        "float16": False,
        "codecs": (XOR, LITTLE, shuffle(4), ZSTD),
        "lz4_level": None,
        "zstd_fast_decode": False,
        "compression_ratio_hint": None,
        "fill_value": 0.0,
        "attributes": {},
        "late": False,
    }
    assert got.row_nbytes == 600
    assert got.numpy_dtype == np.dtype("f4")


def test_a_schema_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        schema().name = "b"


@pytest.mark.parametrize(
    ("dtype", "chain"),
    [
        ("int64", [delta("<i8"), LITTLE, ZSTD]),
        ("uint8", [delta("|u1"), LITTLE, ZSTD]),
        ("datetime64[ns]", [delta("<i8"), LITTLE, ZSTD]),
        ("timedelta64[s]", [delta("<i8"), LITTLE, ZSTD]),
        ("float64", [XOR, LITTLE, shuffle(8), ZSTD]),
        ("complex64", [XOR, LITTLE, shuffle(8), ZSTD]),
        ("bool", [LITTLE, ZSTD]),
        ("S5", [LITTLE, ZSTD]),
    ],
)
def test_default_codecs(dtype: str, chain: list[Any]) -> None:
    assert list(schema(dtype=dtype).codecs) == chain


@pytest.mark.parametrize(("dtype", "wide"), [("float32", "<f4"), ("float64", "<f8")])
def test_float16(dtype: str, wide: str) -> None:
    narrow = {
        "name": "numcodecs.astype",
        "configuration": {"encode_dtype": "<f2", "decode_dtype": wide},
    }
    assert list(schema(dtype=dtype, float16=True).codecs) == [narrow, XOR, LITTLE, shuffle(2), ZSTD]


def test_codecs_may_be_objects_metadata_or_names() -> None:
    stated = schema(
        row_shape=(3,),
        codecs=[
            zn.AsType(encode_dtype="float16"),
            TemporalXOR(axis=-2),
            "bytes",
            zn.Shuffle(),
            {"name": "zstd", "configuration": {"level": 3}},
        ],
    )
    assert stated.codecs == schema(row_shape=(3,), float16=True).codecs
    blosc = schema(codecs=[zarr.codecs.BloscCodec(cname="lz4", clevel=1)]).codecs[1]
    assert blosc["configuration"] == {
        "typesize": 4, "cname": "lz4", "clevel": 1, "shuffle": "shuffle", "blocksize": 0,
    }  # fmt: skip
    assert schema(codecs=["crc32c", "numcodecs.lz4"]).codecs == (
        LITTLE,
        {"name": "crc32c", "configuration": {}},
        {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}},
    )
    assert schema(codecs=[]).codecs == (LITTLE,)


@pytest.mark.parametrize(
    ("dtype", "given", "kept"),
    [
        ("float32", None, 0.0),
        ("float32", np.nan, "NaN"),
        ("float32", "-Infinity", "-Infinity"),
        ("float64", 0.1, 0.1),
        ("int8", -128, -128),
        ("bool", True, True),
        ("complex64", 1j, (0.0, 1.0)),
        ("complex64", ["NaN", 0], ("NaN", 0.0)),
        ("datetime64[s]", np.datetime64("1970-01-02"), 86400),
        ("datetime64[s]", None, -(2**63)),
        ("datetime64[s]", "NaT", -(2**63)),
        ("<U3", "abc", "abc"),
        ("|S3", b"abc", "YWJj"),
        ("|V4", b"\0\1\2\3", "AAECAw=="),
    ],
)
def test_fill_values(dtype: str, given: Any, kept: Any) -> None:
    got = schema(dtype=dtype, fill_value=given)
    assert got.fill_value == kept
    assert ArraySchema.model_validate_json(got.model_dump_json()).fill_value == kept


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc é"), inner),
    max_leaves=8,
)
FLAGS = st.booleans()
NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=9).filter(
    lambda name: "/" not in name and name.strip(".") and not name.startswith("__")
)


@st.composite
def array_schemas(draw: st.DrawFn) -> ArraySchema:
    dtype = draw(st.sampled_from(DTYPES))
    row_shape = draw(st.lists(st.integers(1, 5), max_size=3))
    columns = None
    if draw(FLAGS) and row_shape:
        n = row_shape[-1]
        columns = draw(st.lists(NAMES, min_size=n, max_size=n, unique=True))
    chain: list[Any] = []
    if draw(FLAGS):
        axis = st.integers(-1 - len(row_shape), len(row_shape))
        chain.append({"name": "temporal_xor", "configuration": {"axis": draw(axis)}})
    names = ["numcodecs.shuffle", "zstd", "crc32c", "blosc", "numcodecs.lz4"]
    chain += draw(st.lists(st.sampled_from(names)))
    floats = dtype in {"float32", "float64"}
    float16 = floats and draw(FLAGS)
    return ArraySchema(
        name=draw(NAMES),
        dtype=dtype,
        row_shape=row_shape,
        description=draw(st.text(max_size=5)),
        columns=columns,
        float16=float16,
        codecs=draw(st.sampled_from([None, chain])) if not float16 else None,
        compression_ratio_hint=draw(st.none() | st.floats(1e-3, 1e6)),
        fill_value=draw(st.floats(width=16)) if floats else None,
        attributes=draw(st.dictionaries(st.text("xyz", max_size=3), JSON, max_size=3)),
        late=draw(FLAGS),
    )


@given(array_schemas())
def test_json_says_the_same(array: ArraySchema) -> None:
    text = array.model_dump_json()
    again = ArraySchema.model_validate_json(text)
    assert again == array
    assert again.model_dump_json() == text
    below = GroupSchema(name=f"{array.name}2", attributes={"a": 1})  # names in a group differ
    group = GroupSchema(arrays=[array], groups=[below])
    assert GroupSchema.model_validate_json(group.model_dump_json()) == group


@given(array_schemas())
def test_metadata_says_the_same(array: ArraySchema) -> None:
    for metadata in (array.metadata(5, 2), array.metadata(0, 2, 4)):
        assert array.differences(metadata) == []


# -- what is refused ---------------------------------------------------------------------------

NO_TYPE = (
    "dtype: expected a data type of fixed size that zarr v3 has (bool, integers, floats, complex, "
    "datetime64, timedelta64, fixed-length text or bytes), got "
)
CHAIN = "codecs: zarr-python refuses this chain: "


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dtype": "O"}, NO_TYPE + "'O'"),
        ({"dtype": "i4,f4"}, NO_TYPE + "'i4,f4'"),
        ({"dtype": "S0"}, NO_TYPE + "'S0'"),
        ({"dtype": None}, NO_TYPE + "None"),
        ({"dtype": "M8"}, "dtype: expected a unit, such as 'datetime64[ns]', got 'datetime64'"),
        (
            {"dtype": "float33"},
            ("dtype: expected a numpy data type, such as 'float32' or 'datetime64[ns]', got "
            "'float33': data type 'float33' not understood"),
        ),
        ({"row_shape": (3, 0)}, "row_shape.1: Input should be greater than 0"),
        (
            {"dimension_names": ["row"], "row_shape": (2,)},
            "dimension_names: expected a name for each of 2 dimensions, rows first, got ['row']",
        ),
        (
            {"dimension_names": ["x", "x"], "row_shape": (2,)},
            "dimension_names: expected names that differ and are not empty, got ['x', 'x']",
        ),
        (
            {"columns": ["p"], "row_shape": (5, 2)},
            ("columns: expected a name for each of the 2 places of the last dimension of "
            "row_shape (5, 2), got 1"),
        ),
        (
            {"columns": []},
            ("columns: expected a name for each of the 0 places of the last dimension of "
            "row_shape (), got 0"),
        ),
        (
            {"dtype": "int32", "float16": True},
            "float16: expected dtype float32 or float64 with it, got int32",
        ),
        (
            {"float16": True, "codecs": ["zstd"]},
            "codecs: expected none with float16=True, which chooses them: leave one out",
        ),
        (
            {"codecs": ["nope"]},
            ("codecs: expected a codec that zarr-python knows, got 'nope': correct the name, or "
            "install the package that brings it"),
        ),
        (
            {"codecs": ["sharding_indexed"]},
            ("codecs: expected the codecs of one chunk, got sharding_indexed: whether and how the "
            "array is sharded is the layout's business (tempozarr.plan); leave it out"),
        ),
        (
            {"codecs": ["zstd", "temporal_xor"]},
            ("codecs: expected filters (array to array), then one codec from array to bytes "
            "('bytes', or none for it), then compressors and checksums (bytes to bytes), got "
            "zstd, bytes, temporal_xor"),
        ),
        (
            {"codecs": [{"name": "temporal_xor", "configuration": {"axis": 1}}]},
            CHAIN + "temporal_xor: expected an axis of the array's 1 dimensions, got 1",
        ),
        (
            {"codecs": ["numcodecs.zfpy"]},
            ("codecs: Rust cannot run this chain: codec numcodecs.zfpy: codec numcodecs.zfpy is not "
            "supported"),
        ),
        (
            {"codecs": "zstd"},
            "codecs: expected a sequence of codecs, or None, got 'zstd'",
        ),
        (
            {"codecs": [numcodecs.Zstd()]},
            ('codecs: expected a codec of zarr-python or tempozarr, metadata such as {"name": '
            '"zstd", "configuration": {"level": 3}}, or a name, got Zstd(level=0)'),
        ),
        ({"codecs": [{"id": "zstd"}]}, "codecs: expected the codec's name in {'id': 'zstd'}, got None"),
        (
            {"codecs": [{"name": "zstd", "configuration": 3}]},
            "codecs: expected a mapping as configuration in {'name': 'zstd', 'configuration': 3}",
        ),
        (
            {"codecs": [{"name": "numcodecs.astype", "configuration": {"encode_dtype": "f33"}}]},
            CHAIN + "data type 'f33' not understood",
        ),
        ({"compression_ratio_hint": 0}, "compression_ratio_hint: Input should be greater than 0"),
        ({"fill_value": 1e39}, "fill_value: expected a value of float32, got 1e+39"),
        ({"fill_value": "abc"}, "fill_value: expected a value of float32, got 'abc'"),
        ({"dtype": "u1", "fill_value": -1}, "fill_value: expected a value of uint8, got -1"),
        ({"dtype": "i4", "fill_value": 0.5}, "fill_value: expected a value of int32, got 0.5"),
        ({"dtype": "S2", "fill_value": b"abc"}, "fill_value: expected a value of |S2, got b'abc'"),
        (
            {"description": "d", "attributes": {"description": "e"}},
            (": attributes: expected no 'description', which the field description gives: leave one "
            "of them out"),
        ),
        ({"attributes": {"x": np.nan}}, "attributes.x.float: Input should be a finite number"),
        ({"colums": ["p"]}, "colums: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, Any], text: str) -> None:
    assert refused(**changes) == text


@pytest.mark.parametrize("codec", ["numcodecs.delta", {"name": "zstd", "configuration": {"x": 1}}])
def test_wrong_configurations_are_refused(codec: Any) -> None:
    name = codec if isinstance(codec, str) else codec["name"]
    assert refused(codecs=[codec]).startswith(f"codecs: {name}: ")


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "__x", "a\n", "a\0"])
def test_names_that_cannot_be_nodes_are_refused(name: str) -> None:
    assert refused(name=name) == (
        "name: expected a name without '/' and control characters, that is not '' or only periods and "
        f"does not begin with '__', got {name!r}"
    )


def test_delta_of_floats_warns() -> None:
    with pytest.warns(UserWarning, match=r"^delta of <f4 is lossy: other values") as caught:
        schema(codecs=[{"name": "numcodecs.delta", "configuration": {"dtype": "float32"}}])
    assert caught[0].filename.endswith("test_schema.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schema(codecs=[{"name": "numcodecs.delta", "configuration": {"dtype": "int32"}}])


# -- metadata ----------------------------------------------------------------------------------


# zarr-python 3.1 cannot write raw bytes to shards.
@pytest.mark.parametrize(
    ("dtype", "shard_rows"), [(d, n) for d in DTYPES for n in (None, 6) if (d, n) != ("|V4", 6)]
)
def test_metadata_opens_and_keeps_data(tmp_path: Path, dtype: str, shard_rows: int | None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Numcodecs codecs")
        array = schema(dtype=dtype, row_shape=(2,), columns=["x", "y"], description="d")
        metadata = array.metadata(7, 3, shard_rows)
    folder = write(tmp_path / "a", metadata)
    stored = zarr.open_array(folder)
    raw = np.random.default_rng(0).integers(97, 110, (7, 2)).astype("u1")
    data = np.char.mod("%c", raw).astype(dtype) if dtype[1] in "US" else raw.astype("i8")
    data = data.view("V8").astype(dtype) if dtype == "|V4" else data.astype(dtype)
    stored[:] = data
    got = tempozarr.open_array(folder)
    assert got.dtype == data.dtype
    assert (got.chunks, got.shards) == ((3, 2), None if shard_rows is None else (6, 2))
    assert got.attrs == {"description": "d", "columns": ["x", "y"]}
    assert got.metadata["dimension_names"] == ["row", "a_1"]
    np.testing.assert_array_equal(got[:], data)
    np.testing.assert_array_equal(stored[:], data)
    assert schema_of(folder) == array


def test_metadata_has_the_fill_value(tmp_path: Path) -> None:
    array = schema(fill_value=np.nan)
    folder = write(tmp_path / "a", array.metadata(2, 2))
    assert np.isnan(tempozarr.open_array(folder)[:]).all()
    assert array.metadata(np.int64(2), 2)["fill_value"] == "NaN"  # type: ignore[arg-type]


@pytest.mark.parametrize("lengths", [(-1, 1, None), (1, 0, None), (1, 2, 3), (1, 2, 0)])
def test_metadata_of_lengths_that_cannot_be(lengths: Any) -> None:
    rows, chunk_rows, shard_rows = lengths
    with pytest.raises(tempozarr.MetadataError) as e:
        schema().metadata(*lengths)
    assert str(e.value) == (
        "a: expected rows >= 0, chunk_rows > 0 and shard_rows a multiple of it or None, got "
        f"{rows}, {chunk_rows} and {shard_rows}"
    )


# -- differences -------------------------------------------------------------------------------


def stored(**changes: Any) -> dict[str, Any]:
    return schema(row_shape=(2,)).metadata(8, 2, 4) | changes


def test_other_spellings_are_no_difference() -> None:
    inner = [
        {"name": "temporal_xor", "configuration": {"transform": "xor"}},
        LITTLE,
        {"name": "numcodecs.shuffle", "configuration": {}},
        {"name": "zstd", "configuration": {"level": 3}},
    ]
    flat = stored(codecs=inner)
    assert schema(row_shape=(2,)).differences(flat) == []
    other = stored(attributes={"x": 1}, dimension_names=None, shape=[0, 2])
    assert schema(row_shape=(2,)).differences(other) == []
    narrow = schema(float16=True)
    as_written = narrow.metadata(1, 1) | {
        "codecs": [
            {"name": "numcodecs.astype", "configuration": {"encode_dtype": "f2"}},
            *narrow.codecs[1:],
        ]
    }
    assert narrow.differences(as_written) == []


def test_differences_are_told() -> None:
    got = schema(row_shape=(2,)).differences(
        ArraySchema(
            name="a",
            dtype="float64",
            row_shape=(3,),
            fill_value=1,
            codecs=["zstd"],
            dimension_names=["t", "x"],
        ).metadata(4, 2, 4)
    )
    assert got == [
        'a: dtype: expected "float32", the store has "float64"',
        "a: fill_value: expected 0.0, the store has 1.0",
        "a: row_shape: expected [2], the store has [3]",
        (
            f"a: codecs: expected {json.dumps([XOR, LITTLE, shuffle(4), ZSTD])}, the store has "
            f"{json.dumps([LITTLE, ZSTD | {'configuration': {'level': 0, 'checksum': False}}])}"
        ),
        'a: dimension_names: expected ["row", "a_1"], the store has ["t", "x"]',
    ]


def test_a_shuffle_without_size_in_a_store_is_one_of_four() -> None:
    stated = schema(dtype="f8", codecs=["numcodecs.shuffle"])
    assert stated.codecs[1] == shuffle(8)
    metadata = stated.metadata(1, 1)
    metadata["codecs"] = [LITTLE, {"name": "numcodecs.shuffle", "configuration": {}}]
    assert len(stated.differences(metadata)) == 1


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            {"zarr_format": 3, "node_type": "group"},
            "a: expected the zarr.json of an array, the store has zarr_format 3, group",
        ),
        (
            {"zarr_format": 3, "node_type": "array"},
            (
                "a: the store has something else: expected the zarr.json of an array: "
                "KeyError('data_type')"
            ),
        ),
        (
            stored(codecs=["nope"]),
            (
                "a: the store has something else: codecs: expected a codec that zarr-python knows, got "
                "'nope': correct the name, or install the package that brings it"
            ),
        ),
    ],
)
def test_what_is_no_such_array_is_a_difference(metadata: dict[str, Any], text: str) -> None:
    assert schema(row_shape=(2,)).differences(metadata) == [text]


# -- groups ------------------------------------------------------------------------------------


def test_groups_are_walked_in_order() -> None:
    inner = GroupSchema(name="deep", arrays=[schema(name="z")])
    mid = GroupSchema(name="mid", arrays=[schema(name="raw")], groups=[inner])
    root = GroupSchema(arrays=[schema(name="b"), schema(name="a")], groups=[mid])
    assert [path for path, _ in root.walk()] == ["b", "a", "mid/raw", "mid/deep/z"]
    assert [path for path, _ in root.walk_groups()] == ["", "mid", "mid/deep"]
    assert dict(root.walk_groups())["mid/deep"] is inner
    assert [path for path, _ in mid.walk()] == ["raw", "deep/z"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"arrays": [schema()], "groups": [GroupSchema(name="a")]},
            "arrays, groups: expected names that differ, got twice: ['a']",
        ),
        (
            {"groups": [GroupSchema()]},
            "groups: expected a name for every group in another, got ''",
        ),
        ({"name": "a/b"}, "got 'a/b'"),
        (
            {"description": "d", "attributes": {"description": 1}},
            "attributes: expected no 'description', which the field description gives",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as e:
        GroupSchema(**fields)
    assert text in str(e.value)


def test_group_metadata(tmp_path: Path) -> None:
    group = GroupSchema(description="d", attributes={"x": [1]})
    folder = write(tmp_path / "g", group.metadata())
    assert dict(zarr.open_group(folder).attrs) == {"description": "d", "x": [1]}
    assert schema_of(folder) == group


# -- schemas of stores -------------------------------------------------------------------------


def test_schema_of_the_real_books() -> None:
    got = schema_of(BOOKS)
    assert isinstance(got, GroupSchema)
    arrays = dict(got.walk())
    assert len(arrays) == 18
    book = arrays["cm-btcusd/book"]
    assert book.codecs == schema(row_shape=(50, 3), float16=True).codecs
    assert book.dimension_names == ("row", "level", "field")
    assert book.description.startswith("Order book normalised for float16")
    assert arrays["cm-btcusd/time_ms"].codecs == (delta("<i8"), LITTLE, ZSTD)
    for path, array in arrays.items():
        metadata = tempozarr.open_array(BOOKS / path).metadata
        assert array.differences(metadata) == []
        assert array.metadata(5, 2, 4)["attributes"] == metadata["attributes"]


V2: dict[str, tuple[Any, dict[str, Any], list[Any]]] = {
    "blosc": (
        "f4",
        {"compressors": numcodecs.Blosc(cname="zstd", clevel=3, shuffle=-1)},
        [LITTLE, {"name": "blosc", "configuration": {"typesize": 4, "cname": "zstd", "clevel": 3, "shuffle": "shuffle", "blocksize": 0}}],
    ),
    "delta": (
        ">i8",
        {"filters": [numcodecs.Delta(">i8")], "compressors": numcodecs.Zstd(level=3)},
        [delta("<i8"), LITTLE, ZSTD],
    ),
    "gzip": ("S3", {"compressors": numcodecs.GZip(level=2)}, [LITTLE, {"name": "gzip", "configuration": {"level": 2}}]),
    "plain": ("M8[ms]", {"compressors": None}, [LITTLE]),
    "shuffled": (
        "i2",
        {"filters": [numcodecs.Shuffle(elementsize=2)], "compressors": numcodecs.LZ4()},
        [LITTLE, shuffle(2), {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", V2)
def test_schema_of_v2(tmp_path: Path, name: str) -> None:
    dtype, settings, chain = V2[name]
    attributes: Any = {"_ARRAY_DIMENSIONS": ["t", "x"], "columns": ["p", "q"], "unit": "m"}
    zarr.create_array(
        tmp_path / name, shape=(4, 2), chunks=(2, 2), dtype=dtype, zarr_format=2,
        attributes=attributes, **settings,
    )  # fmt: skip
    got = schema_of(tmp_path / name)
    assert isinstance(got, ArraySchema)
    assert list(got.codecs) == chain
    assert got.dtype == str(np.dtype(dtype).newbyteorder("="))
    assert (got.name, got.row_shape) == (name, (2,))
    assert (got.dimension_names, got.columns) == (("t", "x"), ("p", "q"))
    assert got.attributes == {"unit": "m"}


def test_schema_of_sharded_and_filtered_outside(tmp_path: Path) -> None:
    metadata = schema(row_shape=(2,), codecs=["zstd"]).metadata(4, 2, 4)
    transpose = {"name": "transpose", "configuration": {"order": [0, 1]}}
    metadata["codecs"] = [transpose, *metadata["codecs"], {"name": "crc32c"}]
    got = schema_of(write(tmp_path / "a", metadata))
    assert isinstance(got, ArraySchema)
    assert [codec["name"] for codec in got.codecs] == ["transpose", "bytes", "zstd", "crc32c"]


def test_columns_that_do_not_fit_stay_attributes(tmp_path: Path) -> None:
    for i, columns in enumerate((["p"], ["p", "p"], [1, 2], "pq")):
        metadata = schema(row_shape=(2,), attributes={"columns": columns}).metadata(1, 1)
        got = schema_of(write(tmp_path / f"a{i}", metadata))
        assert isinstance(got, ArraySchema)
        assert (got.columns, got.attributes) == (None, {"columns": columns})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shape": (), "dtype": "f4"}, "expected an array of rows, got one without dimensions"),
        ({"shape": (2,), "dtype": "string"}, "expected a data type of fixed size, got StringDType()"),
        ({"shape": (2, 0), "dtype": "f4", "chunks": (1, 1)}, "row_shape.0: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_arrays_without_a_schema(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    zarr.create_array(tmp_path / "g" / "a", **settings)
    zarr.create_group(tmp_path / "g")
    with pytest.raises(tempozarr.MetadataError) as e:
        schema_of(tmp_path / "g")
    assert str(e.value) == f"{tmp_path / 'g' / 'a'}: {text}"


# -- ready-made schemas ------------------------------------------------------------------------


def test_market() -> None:
    got = schemas.market(10, feature_columns=["f", "g"], target_columns=["y"], float16=True)
    arrays = dict(got.walk())
    assert list(arrays) == ["time", "book", "features", "targets"]
    assert {array.dimension_names[0] for array in arrays.values()} == {"time"}
    dimensions = [name for array in arrays.values() for name in array.dimension_names[1:]]
    assert len(set(dimensions)) == len(dimensions)
    assert arrays["time"].attributes == {"units": "nanoseconds since 1970-01-01"}
    assert arrays["book"].row_shape == (20, 3)
    assert arrays["book"].description == (
        "Order book; levels 0-9 are bids, 10-19 are asks, best first"
    )
    assert [path for path, array in got.walk() if array.float16] == ["book", "features", "targets"]
    assert [path for path, array in got.walk() if array.late] == ["targets"]
    assert [array.name for array in schemas.market().arrays] == ["time", "book"]


def test_timestamps() -> None:
    assert schemas.timestamps("t", "ms", datetime=True).dtype == "datetime64[ms]"
    assert schemas.timestamps(attributes={"clock": "host"}).attributes == {
        "units": "nanoseconds since 1970-01-01",
        "clock": "host",
    }
    with pytest.raises(ValueError, match=r"^unit: expected one of s, ms, us, ns, got 'h'$"):
        schemas.timestamps(unit="h")


def test_settings_pass_through() -> None:
    book = schemas.order_book(2, fields=["price"], description="d", compression_ratio_hint=9)
    assert (book.description, book.compression_ratio_hint, book.columns) == ("d", 9.0, ("price",))
