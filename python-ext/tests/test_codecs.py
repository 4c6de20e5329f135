"""TemporalXOR for zarr-python: bytes, metadata, every pipeline that zarr-python has."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarr.core.codec_pipeline
from numpy.typing import NDArray

import tempozarr
from conftest import DEFAULT_PIPELINE, equal, ramp
from tempozarr.codecs import TemporalXOR

FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
PIPELINES = [DEFAULT_PIPELINE, "tempozarr.CodecPipeline"]
if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
    PIPELINES.append(FUSED)


def xored(data: NDArray[Any], axis: int) -> bytes:
    """By the definition, byte by byte."""
    first = np.moveaxis(data, axis, 0)
    encoded = first.copy()
    for now, before, to in zip(first[1:], first[:-1], encoded[1:], strict=True):
        bits = bytes(a ^ b for a, b in zip(now.tobytes(), before.tobytes(), strict=True))
        to[...] = np.frombuffer(bits, data.dtype).reshape(now.shape)
    return bytes(np.moveaxis(encoded, 0, axis).tobytes())


def random(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    raw = np.random.default_rng(5).bytes(size)
    numbers = np.frombuffer(raw, "u1") % 2 == 0 if dtype == "bool" else np.frombuffer(raw, dtype)
    return np.reshape(numbers, shape)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "bool", "c16", "M8[ns]", "m8[s]", "V3"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_bytes_and_round_trip(tmp_path: Path, pipeline: str, dtype: str, axis: int) -> None:
    data = random(dtype, (6, 5))
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        array = zarr.create_array(
            tmp_path / "a", shape=(6, 5), chunks=(6, 5), dtype=dtype,
            filters=TemporalXOR(axis), compressors=None,
        )  # fmt: skip
        array[...] = data
        assert (tmp_path / "a/c/0/0").read_bytes() == xored(data, axis)
        array = zarr.open_array(tmp_path / "a", mode="r")
        assert np.asarray(array[...]).tobytes() == data.tobytes()
    assert tempozarr.open_array(tmp_path / "a")[...].tobytes() == data.tobytes()


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "swapped"])
@pytest.mark.parametrize("shards", [None, (8, 6)])
def test_any_memory(tmp_path: Path, pipeline: str, layout: str, shards: Any) -> None:
    data = ramp(7, 5, dtype="f8") ** 0.5
    given = {
        "C": data,
        "F": np.asfortranarray(data),
        "strided": np.repeat(data, 2, axis=1)[:, ::2],
        "swapped": data.astype(">f8"),
    }[layout]
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        array = zarr.create_array(
            tmp_path / "a", shape=(7, 5), chunks=(4, 3), shards=shards, dtype=given.dtype,
            filters=TemporalXOR(), config={"order": "F" if layout == "F" else "C"},
        )  # fmt: skip
        array[...] = given
        array[2:4, 1] = given[2:4, 1]
        equal(array[...], given)
        equal(zarr.open_array(tmp_path / "a", mode="r")[1:6, ::2], data[1:6, ::2])
    equal(tempozarr.open_array(tmp_path / "a")[...], data)


def test_fused_pipeline_stays_synchronous(tmp_path: Path) -> None:
    if FUSED not in PIPELINES:  # zarr-python 3.1 has none
        return
    with zarr.config.set({"codec_pipeline.path": FUSED}):
        array = zarr.create_array(tmp_path / "a", shape=(6,), dtype="f4", filters=TemporalXOR())
    assert array.async_array.codec_pipeline.sync_transform is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("stored", "axis"),
    [
        ({"name": "temporal_xor"}, 0),
        ({"name": "temporal_xor", "configuration": {}}, 0),
        ({"name": "temporal_xor", "configuration": {"axis": 1}}, 1),
        ({"name": "temporal_xor", "configuration": {"axis": -1}}, -1),
        ({"name": "temporal_xor", "configuration": {"axis": 1, "transform": "xor"}}, 1),
    ],
)
def test_metadata(stored: dict[str, Any], axis: int) -> None:
    codec = TemporalXOR.from_dict(stored)
    assert codec == TemporalXOR(axis)
    assert codec.to_dict() == {"name": "temporal_xor", "configuration": {"axis": axis}}


def test_axis_is_written_back_from_the_front(tmp_path: Path) -> None:
    for shards in (None, (4, 4)):
        folder = tmp_path / str(shards)
        zarr.create_array(
            folder, shape=(4, 4), chunks=(2, 2), shards=shards, dtype="f4", filters=TemporalXOR(-1)
        )
        text = json.dumps(json.loads((folder / "zarr.json").read_text()))
        assert '{"name": "temporal_xor", "configuration": {"axis": 1}}' in text


def test_found_by_the_entry_points_alone(stores: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, zarr; a = zarr.open(sys.argv[1]); print(a[0, 0].tolist());"
        "z = zarr.create_array(zarr.storage.MemoryStore(), shape=(4,), dtype='f4',"
        " filters={'name': 'temporal_xor'}); z[:] = 3; print(z[:].tolist(), type(z.filters[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(stores / "three")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == (
        "[0.0, 1.0, 2.0, 3.0]\n[3.0, 3.0, 3.0, 3.0] <class 'tempozarr.codecs.TemporalXOR'>\n"
    )


def test_strings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tempozarr.MetadataError, match="expected a data type of fixed size"):
        zarr.create_array(tmp_path / "a", shape=(4,), dtype="string", filters=TemporalXOR())


def test_no_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zarr.create_array(tmp_path / "a", shape=(4,), dtype="f4", filters=TemporalXOR())[:] = 1
