"""`tempozarr._core` itself: what zarr-python wrote, against what zarr-python and numpy say."""

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs.checksum32 import CRC32C
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from tempozarr import CodecError, MetadataError, StoreError, _core

SHAPE = (23, 10, 7)
DATA = np.arange(np.prod(SHAPE), dtype="f4").reshape(SHAPE) + 0.5

LAYOUTS = {
    "plain": {"chunks": (5, 4, 3), "compressors": None},
    "zstd": {"chunks": (5, 4, 3), "compressors": ZstdCodec()},
    "one chunk": {"chunks": SHAPE, "compressors": GzipCodec()},
    "transposed": {"chunks": (5, 4, 3), "filters": [TransposeCodec(order=(2, 0, 1))]},
    "sharded": {"shards": (10, 8, 6), "chunks": (5, 4, 3), "compressors": ZstdCodec()},
    "sharded, one": {"shards": (25, 12, 9), "chunks": (5, 2, 3)},
    "sharded, checked": {"shards": (10, 8, 6), "chunks": (5, 4, 3), "compressors": Crc32cCodec()},
    "v2": {"chunks": (5, 4, 3), "zarr_format": 2},
    "v2, F order": {"chunks": (5, 4, 3), "zarr_format": 2, "order": "F"},
    "v2, dots": {
        "chunks": (5, 4, 3),
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
}


def create(path, data=DATA, **how):
    array = zarr.create_array(str(path), shape=data.shape, dtype=data.dtype, **how)
    array[...] = data
    return array


@pytest.fixture(params=LAYOUTS)
def stored(request, tmp_path):
    return create(tmp_path, **LAYOUTS[request.param]), _core.Array(str(tmp_path), "")


def ints(*indices):
    return np.array(indices, dtype="i8")


SELECTORS = [
    # start, count, step
    [(0, 23, 1), (3, 11, 1), (22, 23, -1), (1, 8, 3), (20, 4, -5), (7, 1, 9), (4, 0, 1)],
    [(0, 10, 1), (9, 5, -2), (2, 2, 1), ints(0, 9, 5, 5, 1)],
    [(0, 7, 1), (6, 7, -1), (3, 1, 1), ints(6, 0), ints(2, 3, 4), ints()],
]
SELECTORS[0] += [ints(22, 0, 11, 11, 3), ints(1, 2, 3), ints(*range(22, -1, -1))]


def indices(selector):
    if isinstance(selector, tuple):
        start, count, step = selector
        return start + step * np.arange(count)
    return selector


def write(pipe, chunks, *rest):
    """Write to files, wherever they are."""
    keys = [(str(file).lstrip("/"), *chunk) for file, *chunk in chunks]
    pipe.write(_core.Beneath("/", follow_links=True), keys, *rest)


def read(array, selection, order="C"):
    shape = tuple(len(indices(selector)) for selector in selection)
    out = np.zeros(shape, array.dtype, order=order)
    array.read(selection, out)
    return out


@pytest.mark.parametrize("order", "CF")
def test_every_orthogonal_selection_is_numpys(stored, order):
    _, array = stored
    for selection in itertools.product(*SELECTORS):
        expected = DATA[np.ix_(*map(indices, selection))]
        np.testing.assert_array_equal(read(array, selection, order), expected, str(selection))


def test_out_may_have_any_strides(stored):
    _, array = stored
    whole = ((0, 23, 1), (0, 10, 1), (0, 7, 1))
    frame = np.zeros((50, 12, 20), "f4")
    out = frame[47:1:-2, 1:11, ::3]
    array.read(whole, out)
    np.testing.assert_array_equal(out, DATA)
    untouched = np.ones(frame.shape, bool)
    untouched[47:1:-2, 1:11, ::3] = False
    assert not frame[untouched].any()


def test_points_are_numpys(stored):
    _, array = stored
    random = np.random.default_rng(1)
    for count in (0, 1, 7, 1000):
        coords = tuple(random.integers(0, n, count) for n in SHAPE)
        out = np.zeros(2 * count, "f4")[::2]
        array.read_points(coords, out)
        np.testing.assert_array_equal(out, DATA[coords])


def test_an_array_describes_itself_as_zarr_python_does(stored):
    theirs, array = stored
    assert (array.shape, array.chunks, array.shards) == (theirs.shape, theirs.chunks, theirs.shards)
    assert np.dtype(array.dtype) == theirs.dtype
    assert json.loads(array.metadata)["zarr_format"] == theirs.metadata.zarr_format


def test_attributes_of_v2_are_merged(tmp_path):
    create(tmp_path, zarr_format=2, chunks=(23, 10, 7)).attrs["unit"] = "s"
    assert json.loads(_core.Array(str(tmp_path), "").metadata)["attributes"] == {"unit": "s"}


def test_nested_sharding(tmp_path):
    inner = zarr.codecs.ShardingCodec(chunk_shape=(2, 3), codecs=[BytesCodec(), ZstdCodec()])
    outer = zarr.codecs.ShardingCodec(chunk_shape=(4, 6), codecs=[inner])
    data = np.arange(16 * 24, dtype="i4").reshape(16, 24)
    theirs = zarr.create(
        store=str(tmp_path), shape=data.shape, chunks=(8, 12), dtype="i4", codecs=[outer]
    )
    theirs[...] = data
    array = _core.Array(str(tmp_path), "")
    assert (array.chunks, array.shards) == (theirs.chunks, theirs.shards) == ((4, 6), (8, 12))
    for selection in (((0, 16, 1), (0, 24, 1)), (ints(15, 3, 9), (23, 8, -3))):
        np.testing.assert_array_equal(
            read(array, selection), data[np.ix_(*map(indices, selection))]
        )


def test_arrays_of_no_dimension_and_of_no_element(tmp_path):
    create(tmp_path / "zero", np.array(42, "i2"))
    out = np.zeros((), "i2")
    _core.Array(str(tmp_path), "zero").read((), out)
    assert out == 42
    empty = zarr.create_array(str(tmp_path / "empty"), shape=(0, 5), chunks=(2, 5), dtype="i2")
    array = _core.Array(str(tmp_path), "empty")
    assert (array.shape, array.chunks) == (empty.shape, empty.chunks)
    array.read(((0, 0, 1), (0, 5, 1)), np.zeros((0, 5), "i2"))


def test_missing_chunks_have_the_fill_value(tmp_path):
    for name, how in LAYOUTS.items():
        theirs = zarr.create_array(
            str(tmp_path / name), shape=SHAPE, dtype="f4", fill_value=float("nan"), **how
        )
        theirs[3, 4, 5] = 1
        array = _core.Array(str(tmp_path), name)
        np.testing.assert_array_equal(read(array, tuple((0, n, 1) for n in SHAPE)), theirs[...])


DTYPES = [
    "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16",
    "M8[ns]", "M8[10us]", "m8[D]", "U5",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sharded", [False, True])
def test_dtypes(tmp_path, dtype, sharded):
    data = np.frombuffer(np.random.default_rng(2).bytes(12 * np.dtype(dtype).itemsize), dtype)
    if dtype == "?":
        data = data.view("u1") > 127
    if dtype == "U5":
        data = np.array(["", "a", "bcdef", "ü"] * 3, "U5")
    how = {"chunks": (3,), "shards": (6,)} if sharded else {"chunks": (4,)}
    create(tmp_path, data, **how)
    array = _core.Array(str(tmp_path), "")
    assert array.dtype == np.dtype(dtype).str
    out = read(array, ((11, 12, -1),))
    assert out.tobytes() == data[::-1].tobytes()


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("dtype", ["S3", "V3", "M8[ns]", ">M8[D]", "m8[s]"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dtypes_that_zarrs_does_not_know(tmp_path, dtype, zarr_format):
    data = np.arange(12).astype("S3" if dtype in {"S3", "V3"} else dtype).astype(dtype)
    if zarr_format == 3 and dtype.startswith(">"):
        pytest.skip("Zarr 3 has no byte order in its types")
    theirs = zarr.create_array(
        str(tmp_path),
        shape=(12,),
        chunks=(4,),
        dtype=dtype,
        zarr_format=zarr_format,
        fill_value=b"ab" if dtype == "S3" else None,
    )
    theirs[:6] = data[:6]
    array = _core.Array(str(tmp_path), "")
    assert array.dtype == np.dtype(dtype).newbyteorder("=").str
    np.testing.assert_array_equal(read(array, ((0, 12, 1),)), theirs[...])


@pytest.mark.parametrize("dtype", [">f4", ">i8", "<u2"])
def test_v2_byte_order(tmp_path, dtype):
    data = np.arange(10).astype(dtype)
    create(tmp_path, data, chunks=(4,), zarr_format=2)
    array = _core.Array(str(tmp_path), "")
    assert array.dtype == np.dtype(dtype).newbyteorder("=").str
    np.testing.assert_array_equal(read(array, ((0, 10, 1),)), data)


def test_variable_length_text(tmp_path):
    texts = np.array([f"{i} ü" * (i % 4) for i in range(30)]).reshape(6, 5)
    for how in ({"chunks": (4, 2)}, {"chunks": (2, 2), "shards": (4, 4)}):
        path = tmp_path / str(len(how))
        theirs = zarr.create_array(str(path), shape=(6, 5), dtype=str, fill_value="none", **how)
        theirs[:4] = texts[:4]
        array = _core.Array(str(path), "")
        assert array.dtype == "T"
        for selection in (((0, 6, 1), (0, 5, 1)), ((5, 3, -2), ints(4, 0, 0))):
            expected = theirs[...][np.ix_(*map(indices, selection))]
            assert array.read_objects(selection) == expected.ravel().tolist()


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_variable_length_bytes(tmp_path):
    theirs = zarr.create_array(
        str(tmp_path), shape=(4,), chunks=(3,), dtype="variable_length_bytes"
    )
    theirs[...] = np.array([b"", b"\0a", b"bcd", b"\xff"], dtype=object)
    array = _core.Array(str(tmp_path), "")
    assert array.dtype == "O"
    assert array.read_objects(((3, 4, -1),)) == [b"\xff", b"bcd", b"\0a", b""]
    with pytest.raises(TypeError, match="read_objects"):
        array.read(((0, 4, 1),), np.zeros(4, object))


def test_irregular_chunk_grids(tmp_path):
    data = np.arange(20 * 6, dtype="i4").reshape(20, 6)
    metadata = json.loads(
        json.dumps(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": [20, 6],
                "data_type": "int32",
                "fill_value": -1,
                "chunk_grid": {
                    "name": "rectilinear",
                    "configuration": {"kind": "inline", "chunk_shapes": [[3, 10, 7], [4, 2]]},
                },
                "chunk_key_encoding": {"name": "default"},
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            }
        )
    )
    tmp_path.joinpath("zarr.json").write_text(json.dumps(metadata))
    rows, columns = ((0, 3), (3, 13), (13, 20)), ((0, 4), (4, 6))
    for (i, (a, b)), (j, (c, d)) in itertools.product(enumerate(rows), enumerate(columns)):
        chunk = tmp_path / "c" / str(i) / str(j)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(data[a:b, c:d].astype("<i4").tobytes())
    array = _core.Array(str(tmp_path), "")
    for selection in (
        ((0, 20, 1), (0, 6, 1)),
        ((19, 10, -2), ints(5, 0, 3)),
        (ints(2, 3, 12, 13, 0), (1, 4, 1)),
    ):
        np.testing.assert_array_equal(
            read(array, selection), data[np.ix_(*map(indices, selection))]
        )
    out = np.zeros((15, 6), "i2")
    _core.read_rows([(array, ints(2, 0, 9), ints(9, 0, 5), ints(6, 5, 4), 3, out, "<i2")])
    np.testing.assert_array_equal(out[[9, 14, 0, 5, 8]], data[[2, 17, 0, 9, 18]])


# Errors: what was expected, what was got, what to do.


def test_what_is_not_there(tmp_path):
    with pytest.raises(StoreError, match=r"zarr\.json.*\.zarray") as error:
        _core.Array(str(tmp_path), "a/b")
    assert isinstance(error.value, OSError)
    assert str(tmp_path / "a/b") in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codecs": [{"name": "no_such_codec"}]}, "no_such_codec"),
        ({"data_type": "no_such_type"}, "no_such_type"),
        ({"data_type": "bfloat16", "fill_value": 0.0}, "bfloat16.*numpy"),
        ({"fill_value": "x"}, "fill value"),
        ({"codecs": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 99}}]}, "gzip"),
        ({"extra": {"must_understand": True}}, "extra"),
        ({"node_type": "group"}, "group"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0]}}},
            "chunk grid.*nonzero",
        ),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 5]}}},
            "dimension",
        ),
    ],
)
def test_unusable_metadata(tmp_path, change, message):
    create(tmp_path, np.arange(10.0), chunks=(5,))
    document = tmp_path / "zarr.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | change))
    with pytest.raises(MetadataError, match=message) as error:
        _core.Array(str(tmp_path), "")
    assert isinstance(error.value, ValueError)


def test_wrong_selections_and_arrays(tmp_path):
    create(tmp_path, np.arange(10.0), chunks=(5,))
    array = _core.Array(str(tmp_path), "")
    read_only = np.zeros(10)
    read_only.flags.writeable = False
    whole = ((0, 10, 1),)
    for selection, out, kind, message in (
        (whole, np.zeros(10, "f4"), TypeError, "float64.*float32"),
        (whole, np.zeros(10, ">f8"), TypeError, ">f8"),
        (whole, [0] * 10, TypeError, "list"),
        (whole, np.zeros(9), ValueError, r"\[10\].*\[9\]"),
        (whole, read_only, ValueError, "read-only"),
        (whole, np.lib.stride_tricks.as_strided(np.zeros(1), (10,), (0,)), ValueError, "share"),
        (whole * 2, np.zeros(10), ValueError, "one selector per dimension"),
        (((0, 11, 1),), np.zeros(11), ValueError, "below 10"),
        (((0, 2, 0),), np.zeros(2), ValueError, "below 10"),
        (((0, 2**63 - 1, 2**62),), np.zeros(2), ValueError, "below 10"),
        ((ints(0, 10),), np.zeros(2), ValueError, "10 is not in"),
        ((ints(0, -1),), np.zeros(2), ValueError, "-1 is not in"),
        ((np.zeros(2),), np.zeros(2), TypeError, "int64"),
    ):
        with pytest.raises(kind, match=message):
            array.read(selection, out)
    with pytest.raises(ValueError, match="one length"):
        create(tmp_path / "2", np.zeros((2, 2)), chunks=(2, 2))
        _core.Array(str(tmp_path), "2").read_points((ints(0), ints(0, 1)), np.zeros(1))


def test_what_read_rows_refuses(tmp_path):
    create(tmp_path / "one", np.arange(10.0), chunks=(5,))
    create(tmp_path / "two", np.zeros((10, 3)), chunks=(5, 2))
    create(tmp_path / "scalar", np.array(1.0))
    create(tmp_path / "time", np.arange(10).astype("M8[s]"), chunks=(5,))
    create(tmp_path / "complex", np.zeros(10, "c8"), chunks=(5,))
    create(tmp_path / "text", np.array(["a", "b"], np.dtypes.StringDType()))
    one, two, scalar, time, complex_, text = (
        _core.Array(str(tmp_path), name)
        for name in ("one", "two", "scalar", "time", "complex", "text")
    )
    read_only = np.zeros(10)
    read_only.flags.writeable = False
    out, most = np.zeros(10), 2**63 - 1
    place, count = ints(0), ints(2)

    def rows(start, count=2, step=1, at=0, out=out):
        return [(one, ints(start), ints(at), ints(count), step, out, None)]

    def cast(array, to, out=out):
        return [(array, place, place, count, 1, out, to)]

    for jobs, kind, message in (
        (rows(9), ValueError, "2 rows from 9 in steps of 1 are not within 10 rows"),
        (rows(-1), ValueError, "2 rows from -1 in steps of 1 are not within"),
        (rows(0, step=-1), ValueError, "2 rows from 0 in steps of -1 are not within"),
        (rows(0, step=0), ValueError, "2 rows from 0 in steps of 0 are not within"),
        (rows(0, count=-1), ValueError, "-1 rows from 0"),
        (rows(0, count=11), ValueError, "11 rows from 0"),
        (rows(most), ValueError, f"2 rows from {most}"),
        (rows(-most - 1, count=1), ValueError, "1 rows from -9223372036854775808"),
        (rows(0, count=most), ValueError, f"{most} rows from 0"),
        (rows(0, count=most, step=most), ValueError, f"in steps of {most}"),
        (rows(1, step=most), ValueError, f"in steps of {most}"),
        (rows(1, step=-most - 1), ValueError, "in steps of -9223372036854775808"),
        (rows(0, at=9), ValueError, "2 rows do not fit at 9 of 10"),
        (rows(0, at=-1), ValueError, "2 rows do not fit at -1 of 10"),
        (rows(0, at=most), ValueError, f"2 rows do not fit at {most} of 10"),
        (rows(0, count=0, at=11), ValueError, "0 rows do not fit at 11 of 10"),
        (rows(0, step=2**63), OverflowError, "too large"),
        (rows(0) + rows(5, at=1), ValueError, "two runs of rows have the same place"),
        (rows(0) + rows(5, out=out[1:]), ValueError, "two runs of rows have the same place"),
        (rows(0) + rows(5, at=2) + rows(5, at=0, out=out[3:]), ValueError, "the same place"),
        ([(one, ints(0, 5), ints(3, 1), ints(2, 3), 1, out, None)], ValueError, "the same place"),
        ([(one, ints(0, 5), place, count, 1, out, None)], ValueError, "got 2, 1 and 1"),
        ([(one, place, ints(0, 2), count, 1, out, None)], ValueError, "got 1, 2 and 1"),
        ([(one, place, place, ints(), 1, out, None)], ValueError, "got 1, 1 and 0"),
        ([(one, np.zeros(1), place, count, 1, out, None)], TypeError, "int64"),
        ([(one, ints([0]), place, count, 1, out, None)], TypeError, "dimensionality mismatch"),
        (rows(0, out=read_only), ValueError, "out is read-only"),
        (rows(0, out=np.zeros(20)[::2]), ValueError, "expected a C-ordered array for rows"),
        (cast(two, None, np.zeros((10, 3), order="F")), ValueError, "expected a C-ordered array"),
        (cast(two, None, np.zeros((10, 2))), ValueError, r"shape \[10, 3\], got \[10, 2\]"),
        (cast(two, None, np.zeros(30)), ValueError, r"shape \[30, 3\], got \[30\]"),
        (cast(one, None, np.zeros(())), ValueError, r"shape \[0\], got \[\]"),
        (cast(one, None, np.zeros(10, "f4")), TypeError, "float64, got float32"),
        (cast(one, None, [0] * 10), TypeError, "list"),
        (cast(one, "<f4"), TypeError, "float32, got float64"),
        (cast(one, "bfloat16"), TypeError, "uint16, got float64"),
        (cast(one, ">f4"), TypeError, 'cast between numbers, got one to ">f4"; leave dtype out'),
        (cast(one, "<c8"), TypeError, 'got one to "<c8"'),
        (cast(one, "x"), TypeError, 'got one to "x"'),
        (cast(time, "<i8"), TypeError, "got one from another data type"),
        (cast(complex_, "<f4"), TypeError, "got one from another data type"),
        (cast(text, None), TypeError, "read_objects"),
        (cast(text, "<f4"), TypeError, "read_objects"),
        (cast(scalar, None), ValueError, "an array without dimensions has no rows"),
    ):
        with pytest.raises(kind, match=message):
            _core.read_rows(jobs)
        assert not out.any()
    _core.read_rows([])
    _core.read_rows(rows(most, count=0, at=10))
    assert not out.any()
    _core.read_rows(rows(0, at=3) + rows(4, count=1, step=-most, at=5) + rows(1, at=1))
    assert out.tolist() == [0, 1, 2, 0, 1, 4, 0, 0, 0, 0]


# Hostile files


def chunk_files(path):
    return sorted(p for p in Path(path).rglob("*") if p.is_file() and not p.name.endswith(".json"))


@pytest.mark.parametrize("layout", ["plain", "zstd", "sharded", "sharded, one", "one chunk"])
@pytest.mark.parametrize(
    "selection", [tuple((0, n, 1) for n in SHAPE), (ints(1, 22), (2, 3, 1), (0, 7, 1))]
)
def test_corrupt_chunks_are_errors_or_data(tmp_path, layout, selection):
    create(tmp_path, **LAYOUTS[layout])
    array = _core.Array(str(tmp_path), "")
    (file, *_) = chunk_files(tmp_path)
    good = file.read_bytes()
    random = np.random.default_rng(3)
    bad = [good[:n] for n in (0, 1, 4, len(good) // 2, len(good) - 1)] + [good + b"\0"]
    for at in [*range(min(24, len(good))), *range(len(good) - 24, len(good))]:
        for byte in (0, 255, int(random.integers(256))):
            bad.append(good[:at] + bytes([byte]) + good[at + 1 :])
    out = np.zeros([len(indices(s)) for s in selection], "f4")
    failures = 0
    for content in bad:
        file.write_bytes(content)
        try:
            array.read(selection, out)
        except (CodecError, StoreError) as error:
            failures += 1
            assert str(file) in str(error) or "internal error" in str(error)
            assert "internal error" not in str(error), error
    assert failures >= 3
    file.write_bytes(good)
    assert read(array, selection).tobytes() == DATA[np.ix_(*map(indices, selection))].tobytes()


@pytest.mark.parametrize("entry", [(2**63, 8), (1, 2**40), (2**64 - 8, 16), (8, 2**64 - 9)])
@pytest.mark.parametrize("selection", [((0, 8, 1),), ((0, 4, 1),), (ints(3, 0),)])
def test_a_shard_index_may_lie(tmp_path, entry, selection):
    create(tmp_path, np.arange(8.0), shards=(8,), chunks=(4,), compressors=ZstdCodec())
    (file,) = chunk_files(tmp_path)
    stored = file.read_bytes()
    index = np.frombuffer(stored[-36:-4], "<u8").reshape(2, 2).copy()
    index[0] = entry
    file.write_bytes(stored[:-36] + bytes(CRC32C(location="end").encode(index.tobytes())))
    array = _core.Array(str(tmp_path), "")
    with pytest.raises(CodecError, match=str(file)):
        read(array, selection)
    # An update reads the index as well.
    pipe = pipeline(zarr.open_array(str(tmp_path)))
    with pytest.raises(CodecError, match=str(file)):
        write(pipe, [(str(file), (7,), (), False)], np.array(1.0), (), False)


def test_subchunks_that_overlap_do_not_multiply_the_shard(tmp_path):
    create(tmp_path, np.arange(8.0), shards=(8,), chunks=(2,), compressors=None)
    (file,) = chunk_files(tmp_path)
    stored = file.read_bytes()
    index = np.frombuffer(stored[-68:-4], "<u8").reshape(4, 2).copy()
    index[:3] = (0, 64)
    lying = stored[:-68] + bytes(CRC32C(location="end").encode(index.tobytes()))
    file.write_bytes(lying)
    pipe = pipeline(zarr.open_array(str(tmp_path)))
    with pytest.raises(CodecError, match="its subchunks overlap"):
        write(pipe, [(str(file), (7,), (), False)], np.array(1.0), (), False)
    assert file.read_bytes() == lying


# The pipeline of zarr-python's chunks


def pipeline(array):
    """The pipeline of the chunks of a zarr.Array."""
    document = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    chunk = list(array.shards or array.chunks)
    document["shape"] = chunk
    if array.metadata.zarr_format == 3:
        document["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        document.pop("dimension_names", None)
    return _core.ChunkPipeline(json.dumps(document))


@pytest.fixture(params=["zstd", "transposed", "sharded", "v2, F order"])
def chunked(request, tmp_path):
    array = create(tmp_path / "a", **LAYOUTS[request.param], fill_value=9)
    chunk = array.shards or array.chunks
    keys = [p for p in chunk_files(tmp_path) if p.name not in {".zarray", ".zattrs"}]
    full = min(keys, key=lambda p: [int(i) for i in p.relative_to(tmp_path / "a").as_posix()
               .removeprefix("c/").replace(".", "/").split("/")])  # fmt: skip
    return pipeline(array), full, np.ascontiguousarray(DATA[tuple(slice(n) for n in chunk)])


SELECTIONS = [
    ((slice(None), slice(None), slice(None)), None),
    ((slice(1, 4), slice(0, 4, 2), slice(2)), None),
    ((slice(1, None), slice(1, None), slice(1, None)), None),
    ((2, slice(1, 3), 0), None),
    ((np.int64(2), slice(1, 3), 0), None),
    ((0, 1, 2), None),
    ((), None),
    (np.ix_([4, 1, 1], [0, 2], [2, 0]), None),
    (np.ix_([3], [0, 2, 3], [1]), (0, 2)),
    ((ints(0, 4, 2), ints(3, 3, 1), ints(0, 1, 2)), None),
    ((ints(1, 3).astype("u4"), ints(3, 1).astype("i2"), ints(0, 1)), None),
]


def selected(chunk, selection, drop):
    result = chunk[selection]
    return result.squeeze(axis=drop) if drop else result


@pytest.mark.parametrize(("selection", "drop"), SELECTIONS)
def test_a_pipeline_reads_what_numpy_selects(chunked, selection, drop):
    pipe, file, chunk = chunked
    expected = selected(chunk, selection, drop)
    for order in "CF":
        out = np.zeros(expected.shape, "f4", order=order)
        everything = tuple(slice(n) for n in expected.shape)
        missing = (str(file.parent / "missing"), selection, everything)
        assert pipe.read([missing], out, drop or ()) == [False]
        np.testing.assert_array_equal(out, np.full(expected.shape, 9))
        assert pipe.read([(str(file), selection, everything)], out, drop or ()) == [True]
        np.testing.assert_array_equal(out, expected)


def test_a_pipeline_reads_into_places(chunked):
    pipe, file, chunk = chunked
    out = np.zeros((6, 9), "f4")
    places = np.ix_([5, 0], [1, 8, 3])
    pipe.read([(str(file), np.ix_([1], [0, 1], [2, 0, 1]), places)], out, (0,))
    expected = np.zeros((6, 9), "f4")
    expected[places] = chunk[1, :2][:, [2, 0, 1]]
    np.testing.assert_array_equal(out, expected)
    out = np.zeros(9, "f4")
    coords = (ints(0, 4, 2), ints(3, 3, 1), ints(0, 1, 2))
    pipe.read([(str(file), coords, ints(7, 0, 2))], out, ())
    expected = np.zeros(9, "f4")
    expected[[7, 0, 2]] = chunk[coords]
    np.testing.assert_array_equal(out, expected)
    # Two chunks into one place: the last one wins, as in numpy.
    both = [
        (str(file), (slice(2),) * 3, (slice(2),) * 3),
        (str(file), (slice(1, 3),) * 3, (slice(2),) * 3),
    ]
    out = np.zeros((2, 2, 2), "f4")
    pipe.read(both, out, ())
    np.testing.assert_array_equal(out, chunk[1:3, 1:3, 1:3])


@pytest.mark.parametrize(
    "selection",
    [
        (slice(None), ints(0, 1), ints(0, 1)),
        (ints(0, 1), 0, slice(None)),
        (None, slice(None)),
        (..., 0),
        (np.array([True, False]),),
        (ints(99), ints(0), ints(0)),
        (99, 0, 0),
        (slice(None),) * 4,
    ],
)
def test_an_unknown_selection_changes_nothing(chunked, selection):
    pipe, file, _ = chunked
    out = np.full((2, 2, 2), 5, "f4")
    known = (str(file), (slice(2),) * 3, (slice(2),) * 3)
    with pytest.raises(_core.Unsupported):
        pipe.read([known, (str(file), selection, (slice(2),) * 3)], out, ())
    assert (out == 5).all()
    assert issubclass(_core.Unsupported, NotImplementedError)


@pytest.mark.parametrize("start", ["missing", "there"])
@pytest.mark.parametrize(("selection", "drop"), SELECTIONS)
def test_a_pipeline_writes_what_numpy_assigns(chunked, selection, drop, start):
    pipe, file, chunk = chunked
    expected = chunk.copy()
    if start == "missing":
        expected[...] = 9
        file.unlink()
    value = -np.arange(selected(chunk, selection, drop).size, dtype="f4")
    value = value.reshape(selected(chunk, selection, drop).shape) - 1
    expected[selection] = np.expand_dims(value, drop) if drop else value
    everything = tuple(slice(n) for n in value.shape)
    write(
        pipe,
        [(str(file), selection, everything, False)],
        np.array(value, order="F"),
        drop or (),
        False,
    )
    np.testing.assert_array_equal(pipe.decode(file.read_bytes()), expected)
    write(pipe, [(str(file), selection, everything, False)], np.array(7, "f4"), drop or (), False)
    expected[selection] = 7
    np.testing.assert_array_equal(pipe.decode(file.read_bytes()), expected)
    assert [p for p in file.parent.iterdir() if p.name.endswith(".partial")] == []


def test_partial_and_whole_writes_give_the_same_bytes(chunked):
    pipe, file, chunk = chunked
    whole = (slice(None),) * 3
    for _ in range(3):
        write(pipe, [(str(file), whole, whole, True)], chunk, (), False)
        expected = file.read_bytes()
        assert pipe.encode(chunk) == expected
        other = chunk[1:4, 2:3] * 2
        part = (slice(1, 4), slice(2, 3), slice(None))
        write(pipe, [(str(file), part, whole, False)], other, (), False)
        assert file.read_bytes() != expected
        write(
            pipe,
            [(str(file), part, whole, False)],
            np.ascontiguousarray(chunk[1:4, 2:3]),
            (),
            False,
        )
        assert file.read_bytes() == expected


def test_empty_chunks(chunked):
    pipe, file, chunk = chunked
    whole = (slice(None),) * 3
    empty = np.full(chunk.shape, 9, "f4")
    write(pipe, [(str(file), whole, whole, True)], empty, (), False)
    assert not file.exists()
    write(pipe, [(str(file), whole, whole, True)], empty, (), False)
    write(pipe, [(str(file), whole, whole, True)], empty, (), True)
    np.testing.assert_array_equal(pipe.decode(file.read_bytes()), empty)
    file.unlink()
    # A part at a time, until nothing but the fill value is left.
    write(pipe, [(str(file), (0, 0, 0), (), False)], np.array(1, "f4"), (), False)
    assert file.exists()
    write(pipe, [(str(file), (0, 0, 0), (), False)], np.array(9, "f4"), (), False)
    assert not file.exists()


def test_empty_means_the_same_bits(tmp_path):
    array = zarr.create_array(str(tmp_path), shape=(2,), chunks=(2,), dtype="f8", fill_value=0)
    pipe = pipeline(array)
    file = tmp_path / "c" / "0"
    for value, kept in (([-0.0, 0.0], True), ([0.0, 0.0], False)):
        write(pipe, [(str(file), (slice(2),), (slice(2),), True)], np.array(value), (), False)
        assert file.exists() == kept


def test_many_chunks_at_once_and_one_file_twice(tmp_path):
    array = zarr.create_array(
        str(tmp_path), shape=(64, 8), chunks=(2, 8), dtype="i4", compressors=None, fill_value=0
    )
    pipe = pipeline(array)
    value = np.arange(1, 64 * 8 + 1, dtype="i4").reshape(64, 8)
    chunks = [
        (
            str(tmp_path / "c" / str(i) / "0"),
            (slice(2), slice(8)),
            (slice(2 * i, 2 * i + 2), slice(8)),
        )
        for i in range(32)
    ]
    write(pipe, [(*chunk, True) for chunk in chunks], value, (), False)
    np.testing.assert_array_equal(array[...], value)
    out = np.zeros_like(value)
    assert all(pipe.read(chunks, out, ()))
    np.testing.assert_array_equal(out, value)
    # Updates of one file follow each other.
    one = str(tmp_path / "c" / "0" / "0")
    cells = [(one, (i, slice(8)), (slice(8),), False) for i in (0, 1)] * 8
    write(pipe, cells, value[63], (), False)
    np.testing.assert_array_equal(array[:2], np.stack([value[63]] * 2))


def test_a_failed_write_leaves_the_chunk(chunked, tmp_path):
    pipe, file, _ = chunked
    before = file.read_bytes()
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(CodecError, match=str(file)):
        write(pipe, [(str(file), (0, 0, 0), (), False)], np.array(1, "f4"), (), False)
    assert file.read_bytes() == before[: len(before) // 2]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="file"):
        write(pipe, [(str(blocked / "c"), (0, 0, 0), (), True)], np.array(1, "f4"), (), True)
    folder = tmp_path / "folder"
    (folder / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="folder"):
        write(pipe, [(str(folder), (0, 0, 0), (), True)], np.array(1, "f4"), (), True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file", "folder"]


def test_decode_and_encode(chunked):
    pipe, file, chunk = chunked
    for data in (file.read_bytes(), bytearray(file.read_bytes()), memoryview(file.read_bytes())):
        decoded = pipe.decode(data)
        assert decoded.flags.c_contiguous
        assert decoded.dtype == "f4"
        np.testing.assert_array_equal(decoded, chunk)
    np.testing.assert_array_equal(pipe.decode(pipe.encode(np.asfortranarray(chunk))), chunk)
    with pytest.raises(CodecError):
        pipe.decode(b"no chunk")
    with pytest.raises(ValueError, match="shape"):
        pipe.encode(chunk[:-1])
    with pytest.raises(TypeError, match="float64"):
        pipe.encode(chunk.astype("f8"))


def test_what_a_pipeline_cannot_run(tmp_path):
    text = zarr.create_array(str(tmp_path), shape=(2,), chunks=(2,), dtype=str)
    with pytest.raises(MetadataError, match="string"):
        pipeline(text)
    with pytest.raises(MetadataError):
        _core.ChunkPipeline("{}")
    with pytest.raises(MetadataError):
        _core.ChunkPipeline("no JSON")
    with pytest.raises(ValueError, match="or unordered subchunks, got sideways"):
        _core.ChunkPipeline("{}", "sideways")


# Kernels


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", ">f8", "c16", "M8[s]", "V3", "?"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (3, 0), (1, 1)])
def test_xor(dtype, shape):
    random = np.random.default_rng(4)
    count = int(np.prod(shape))
    data = np.frombuffer(random.bytes(count * np.dtype(dtype).itemsize), dtype).reshape(shape)
    for axis in range(-len(shape), len(shape)):
        bits = data.view(f"V{data.dtype.itemsize}") if data.dtype.kind == "V" else data
        raw = np.ascontiguousarray(bits).view("u1").reshape(*shape, data.dtype.itemsize)
        ahead = axis % len(shape)
        expected = raw.copy()
        later = tuple([slice(None)] * ahead + [slice(1, None)])
        before = tuple([slice(None)] * ahead + [slice(None, -1)])
        expected[later] ^= raw[before]
        encoded = _core.xor_encode(np.asfortranarray(data), axis)
        assert (encoded.dtype, encoded.shape) == (data.dtype, data.shape)
        assert encoded.tobytes() == expected.tobytes()
        assert _core.xor_decode(encoded, axis).tobytes() == data.tobytes()
    with pytest.raises(ValueError, match="axis"):
        _core.xor_encode(data, len(shape))


def test_xor_of_what_has_no_bits():
    with pytest.raises(TypeError, match="object"):
        _core.xor_encode(np.array(["a"], object), 0)
    with pytest.raises(ValueError, match="axis"):
        _core.xor_encode(np.array(1.0), 0)
    with pytest.raises(TypeError, match="list"):
        _core.xor_decode([1], 0)


def test_aliases(tmp_path):
    with pytest.raises(ValueError, match="no_such_codec.*temporal_xor"):
        _core.register_alias("core.mine", "no_such_codec")
    create(tmp_path, np.arange(10.0), chunks=(5,), compressors=None)
    document = tmp_path / "zarr.json"
    metadata = json.loads(document.read_text())
    metadata["codecs"].insert(0, {"name": "core.mine"})
    document.write_text(json.dumps(metadata))
    with pytest.raises(MetadataError, match=r"core\.mine"):
        _core.Array(str(tmp_path), "")
    _core.register_alias("core.mine", "temporal_xor")
    assert read(_core.Array(str(tmp_path), ""), ((0, 1, 1),))[0] == 0


# Threads and processes


def test_threads_share_an_array(stored):
    _, array = stored
    whole = tuple((0, n, 1) for n in SHAPE)
    failures = []

    def work():
        for _ in range(20):
            if not np.array_equal(read(array, whole), DATA):
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in (1, 3, 0):
        _core.set_threads(n)
    for thread in threads:
        thread.join()
    assert not failures


def test_another_thread_runs_while_one_reads(tmp_path):
    create(tmp_path, np.zeros(1 << 22, "u1") + 1, chunks=(1 << 16,), compressors=GzipCodec())
    array = _core.Array(str(tmp_path), "")
    turns, done = [], threading.Event()

    def count():
        while not done.is_set():
            turns.append(1)

    thread = threading.Thread(target=count)
    thread.start()
    before = len(turns)
    for _ in range(5):
        read(array, ((0, 1 << 22, 1),))
    during = len(turns) - before
    done.set()
    thread.join()
    assert during > 100


def child(array, queue):
    queue.put(read(array, tuple((0, n, 1) for n in SHAPE)).sum())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reads(tmp_path):
    create(tmp_path, **LAYOUTS["sharded"])
    array = _core.Array(str(tmp_path), "")
    read(array, tuple((0, n, 1) for n in SHAPE))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=child, args=(array, queue)) for _ in range(3)]
    for process in children:
        process.start()
    sums = [queue.get(timeout=60) for _ in children]
    for process in children:
        process.join(60)
        assert process.exitcode == 0
    assert set(sums) == {DATA.sum()}


def test_the_interpreter_ends_after_reading(tmp_path):
    create(tmp_path, np.arange(10.0), chunks=(5,))
    program = (
        "import numpy, sys; from tempozarr import _core\n"
        f"_core.Array({str(tmp_path)!r}, '').read(((0, 10, 1),), numpy.zeros(10))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_reader_never_sees_half_a_write(tmp_path):
    array = zarr.create_array(
        str(tmp_path), shape=(4096,), chunks=(4096,), dtype="i8", compressors=None, fill_value=0
    )
    pipe = pipeline(array)
    reader = _core.Array(str(tmp_path), "")
    whole = (slice(4096),)
    file = str(tmp_path / "c" / "0")
    write(pipe, [(file, whole, whole, True)], np.full(4096, 1), (), False)
    stop = threading.Event()

    def work():
        for i in range(2, 300):
            write(pipe, [(file, whole, whole, True)], np.full(4096, i), (), False)
        stop.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not stop.is_set():
        out = read(reader, ((0, 4096, 1),))
        assert (out == out[0]).all()
        assert out[0] > 0
    thread.join()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["0"]


def test_what_an_appender_refuses(tmp_path):
    create(tmp_path / "a", np.zeros((10, 3)), chunks=(4, 3), fill_value=7)
    create(tmp_path / "scalar", np.array(1.0))
    create(tmp_path / "text", np.array(["a", "b"], np.dtypes.StringDType()))
    with pytest.raises(StoreError, match="no array at"):
        _core.Appender(_core.Beneath(str(tmp_path)), "none", 0, "new")
    with pytest.raises(MetadataError, match="expected one dimension or more"):
        _core.Appender(_core.Beneath(str(tmp_path)), "scalar", 0, "new")
    with pytest.raises(MetadataError, match="variable length cannot be appended"):
        _core.Appender(_core.Beneath(str(tmp_path)), "text", 2, "new")
    appender = _core.Appender(_core.Beneath(str(tmp_path)), "a", 10, "new")
    with pytest.raises(ValueError, match=r"expected an array of shape \[5, 3\], got \[5, 2\]"):
        appender.put(12, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="expected a multiple of 4 as the first row, got 10"):
        appender.put(10, np.zeros((5, 3)))
    with pytest.raises(TypeError):
        appender.put(8, np.zeros((5, 3), "f4"))
    assert appender.stage(True) == []
    appender.put(8, np.ones((9, 3)))
    staged = appender.stage(True)
    assert [str(place) for _, place in staged] == [f"a/c/{i}/0" for i in (2, 3, 4)]
    assert appender.stage(True) == []


def entries(shard):
    """Offset and length of each of its 4 subchunks."""
    return np.frombuffer(shard, "<u8", 8, len(shard) - 4 - 64).reshape(4, 2)


def live(shard):
    return [(int(o), int(n)) for o, n in entries(shard) if o != 2**64 - 1]


def test_a_shard_keeps_what_readers_of_the_one_before_may_read(tmp_path):
    create(tmp_path, np.zeros((0, 8)), chunks=(16, 8), shards=(64, 8), compressors=ZstdCodec())
    rows = np.random.default_rng(0).random((64, 8))
    appender = _core.Appender(_core.Beneath(str(tmp_path)), "", 0, "new")
    versions = []
    for end in range(1, 65):
        start = (end - 1) // 16 * 16
        appender.put(start, rows[start:end])
        ((staged, place),) = appender.stage(False)
        staged, place = tmp_path / staged, tmp_path / place
        shard = staged.read_bytes()
        for former in versions[-32:]:
            for offset, length in live(former):
                part = slice(offset, offset + length)
                assert shard[part] == former[part]
        versions.append(shard)
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(place)
        resize(tmp_path, end)
        assert (read(_core.Array(str(tmp_path), ""), ((0, end, 1), (0, 8, 1))) == rows[:end]).all()


def test_a_shard_that_is_flushed_often_stays_small(tmp_path):
    create(tmp_path, np.zeros((0, 8)), chunks=(16, 8), shards=(64, 8), compressors=None)
    appender = _core.Appender(_core.Beneath(str(tmp_path)), "", 0, "new")
    for i in range(1, 500):
        appender.put(0, np.full((1 + i % 16, 8), i, "f8"))
        ((staged, _),) = appender.stage(False)
    shard = (tmp_path / staged).read_bytes()
    subchunk = 16 * 8 * 8
    # One that is read, and for the readers of former files 32; no more.
    assert len(shard) == 33 * subchunk + 4 * 16 + 4
    assert live(shard)[0][1] == subchunk


def test_a_shard_of_another_appender_is_only_appended_to(tmp_path):
    array = create(
        tmp_path, np.ones((20, 8)), chunks=(16, 8), shards=(64, 8), compressors=None, fill_value=0
    )
    before = next((tmp_path / "c").rglob("0/0")).read_bytes()[: -4 * 16 - 4]
    appender = _core.Appender(_core.Beneath(str(tmp_path)), "", 20, "new")
    for i in range(40):
        appender.put(16, np.full((6, 8), i, "f8"))
        ((staged, _),) = appender.stage(False)
        assert (tmp_path / staged).read_bytes().startswith(before)
    assert array.shape == (20, 8)


def resize(path, rows):
    file = path / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"][0] = rows
    file.write_text(json.dumps(document))
