"""What docs/correctness.md promises where zarr-python stores or reads other values than were given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs.numcodecs import AsType, BitRound, Delta, FixedScaleOffset, PackBits, Quantize

import tempozarr

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning", "ignore:delta")

DOC = Path(__file__).parents[2] / "docs/correctness.md"
NUMBERS = np.array([[200, 500, -300], [-7000, 5, 12345]])
FILTERS = {
    "delta": ("i4", Delta(dtype="<i4")),
    "astype": ("f4", AsType(encode_dtype="<f8", decode_dtype="<f4")),
    "fixedscaleoffset": (
        "f4",
        FixedScaleOffset(offset=0, scale=1, dtype="<f4", astype="<i4"),
    ),
    "quantize": ("f4", Quantize(digits=2, dtype="<f4")),
    "bitround": ("f4", BitRound(keepbits=20)),
    "packbits": ("?", PackBits()),
}


@pytest.mark.parametrize("shards", [None, (4, 6)])
@pytest.mark.parametrize("name", FILTERS)
def test_the_memory_of_what_is_written_makes_no_difference(
    tmp_path: Path, name: str, shards: Any
) -> None:
    dtype, codec = FILTERS[name]
    values = NUMBERS.astype(dtype)
    others = [np.asfortranarray(values), values.astype(values.dtype.newbyteorder(">"))]
    with tempozarr.enable(strict=True):
        for number, given in enumerate(others):
            array = zarr.create_array(
                tmp_path / str(number),
                shape=(2, 3) if shards is None else shards,
                dtype=dtype,
                chunks=(2, 3),
                shards=shards,
                filters=[codec],
            )
            array[:2, :3] = given
    for number in range(len(others)):  # by zarr-python alone
        read = zarr.open_array(tmp_path / str(number), mode="r")[:2, :3]
        np.testing.assert_array_equal(read, values)


def bits(*values: int) -> NDArray[Any]:
    return np.array(values, "u4").view("f4")


@pytest.mark.parametrize("shards", [None, (4,)])
@pytest.mark.parametrize(
    ("fill", "values"),
    [(0.0, bits(1 << 31, 1 << 31, 0, 0)), (np.nan, bits(0x7FC12345, 0x7FC12345, 0, 0))],
)
def test_chunks_that_only_look_like_the_fill_value_are_stored(
    tmp_path: Path, fill: float, values: NDArray[Any], shards: Any
) -> None:
    with tempozarr.enable(strict=True):
        zarr.create_array(
            tmp_path, shape=(4,), dtype="f4", chunks=(2,), shards=shards, fill_value=fill
        )[:] = values
    for array in zarr.open_array(tmp_path), tempozarr.open_array(tmp_path):
        np.testing.assert_array_equal(np.asarray(array[:]).view("u4"), values.view("u4"))


def test_consolidated_metadata_that_are_out_of_date_are_not_believed(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("x", shape=(2,), dtype="i4", chunks=(2,))[:] = [1, 2]
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(zarr.storage.LocalStore(tmp_path))
    array = zarr.open_array(tmp_path / "x")
    array.resize((4,))
    array[:] = [1, 2, 3, 4]
    ((_, stale),) = zarr.open_group(tmp_path).arrays()
    assert stale.shape == (2,)
    ((_, read),) = tempozarr.open_group(tmp_path).arrays()
    assert read[:].tolist() == [1, 2, 3, 4]


def test_data_given_to_create_array_fills_whole_shards(tmp_path: Path) -> None:
    values = np.arange(1, 10_001).reshape(100, 100)
    with tempozarr.enable(strict=True):
        zarr.create_array(tmp_path, data=values, chunks=(10, 10), shards=(50, 50))
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path)[...], values)


def test_what_is_written_stays_as_it_was_in_memory(tmp_path: Path) -> None:
    values = np.full(4, 1.2345678, "f4")
    kept = values.copy()
    with tempozarr.enable(strict=True):
        for name, codec in {
            "a": BitRound(keepbits=3),
            "b": Quantize(digits=1, dtype="<f4"),
        }.items():
            zarr.create_array(
                tmp_path / name, shape=(4,), dtype="f4", chunks=(4,), filters=[codec]
            )[:] = values
    np.testing.assert_array_equal(values, kept)


def test_order_f_in_v2_is_what_the_metadata_say(tmp_path: Path) -> None:
    """zarr-python 3.0.0 stored C order under it; `"order": "C"` in a copy repairs that."""
    values = NUMBERS.astype("<i4")
    array = zarr.create_array(
        tmp_path,
        shape=(2, 3),
        dtype="i4",
        chunks=(2, 3),
        zarr_format=2,
        order="F",
        compressors=None,
    )
    (tmp_path / "0.0").write_bytes(values.tobytes())  # as 3.0.0 did
    wrong = values.ravel().reshape(values.shape, order="F")
    np.testing.assert_array_equal(array[...], wrong)
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path)[...], wrong)
    metadata = tmp_path / ".zarray"
    metadata.write_text(metadata.read_text().replace('"F"', '"C"'))
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path)[...], values)


def test_delta_of_big_endian_integers_is_repaired_by_the_formula(tmp_path: Path) -> None:
    """`docs/correctness.md` has it; zarr-python reads other values than it was given."""
    values = np.array([200, 500, 300, -70_000, 5, 123_456_789], "i4")
    array = zarr.create_array(
        tmp_path, shape=(6,), dtype="i4", chunks=(3,), filters=[Delta(dtype=">i4")]
    )
    array[:] = values
    read = np.asarray(array[:])
    assert not np.array_equal(read, values)
    snippet = re.search(r"^```python\n(.*?)^```", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert snippet is not None
    for chunk, wanted in zip(read.reshape(2, 3), values.reshape(2, 3), strict=True):
        names: dict[str, Any] = {"np": np, "read": chunk}
        exec(snippet[1], names)
        np.testing.assert_array_equal(names["fixed"], wanted)
    with pytest.raises(tempozarr.MetadataError, match="big-endian"):
        tempozarr.open_array(tmp_path)


def test_filters_of_bytes_before_filters_of_values_are_not_put_into_another_order(
    tmp_path: Path,
) -> None:
    """zarrs would: Rust refuses such a zarr v2 array, and zarr-python reads and writes it."""
    values = np.array([[200, 500, -300], [-7000, 5, 12345]], "i8")
    array = zarr.create_array(
        tmp_path,
        shape=(2, 3),
        dtype="i8",
        chunks=(2, 3),
        zarr_format=2,
        filters=[numcodecs.Shuffle(8), numcodecs.Delta("i8")],
    )
    array[...] = values
    with pytest.raises(tempozarr.MetadataError, match='"delta" follows'):
        tempozarr.open_array(tmp_path)
    with tempozarr.enable():
        np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[...], values)
