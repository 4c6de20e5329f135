"""Stores that every test module reads: written by zarr-python's own pipeline."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

import tempozarr
from tempozarr.codecs import TemporalXOR

# `make test` tries the same examples every time; `make test-random` looks for new ones. How long an
# example takes is the machine's business.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "random", settings.get_profile("repeatable"), derandomize=False, max_examples=1000
)
settings.load_profile("repeatable")


def examples(count: int) -> int:
    """How many examples a slow test tries: `count` in `make test`, more in `make test-random`."""
    return count * settings().max_examples // 100


# A shell that starts the tests in the background has them, and all that they start, ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

DEFAULT_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


def ramp(*shape: int, dtype: str = "f4") -> NDArray[Any]:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def words(*shape: int) -> NDArray[Any]:
    return np.array([f"w{i}" * (i % 4) for i in range(np.prod(shape, dtype=int))]).reshape(shape)


# name -> (data, what to create the array with). Ragged edges wherever there are dimensions.
ARRAYS: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "one": (ramp(11, dtype="i8"), {"chunks": (4,)}),
    "three": (ramp(7, 5, 4), {"chunks": (3, 2, 4), "filters": TemporalXOR()}),
    "scalar": (np.array(7, "i2"), {}),
    "sharded": (ramp(13, 5, dtype="f8"), {"chunks": (2, 3), "shards": (6, 6)}),
    "empty": (ramp(0, 3), {"chunks": (2, 3)}),
    "bool": (ramp(9) % 2 == 0, {"chunks": (4,)}),
    "complex": (ramp(6, 3, dtype="c8") * 1j, {"chunks": (4, 2)}),
    "time": (ramp(9, dtype="i8").view("M8[ns]"), {"chunks": (4,)}),
    "text": (words(7).astype("U9"), {"chunks": (3,)}),
    "strings": (words(7, 2).astype(np.dtypes.StringDType()), {"chunks": (3, 2)}),
    "blobs": (
        np.array([b"x" * (i % 5) for i in range(7)], object),
        {"chunks": (3,), "dtype": "variable_length_bytes"},
    ),
    "big_endian": (ramp(6, 3).astype(">f4"), {"chunks": (4, 2)}),
    "memory_f": (ramp(6, 5), {"chunks": (4, 2), "config": {"order": "F"}}),
    "v2": (ramp(7, 5), {"chunks": (3, 2), "zarr_format": 2}),
    "v2_f": (ramp(7, 5), {"chunks": (3, 2), "zarr_format": 2, "order": "F"}),
    "v2_big_endian": (ramp(7, 5).astype(">i4"), {"chunks": (3, 2), "zarr_format": 2}),
    "v2_big_endian_text": (words(7).astype(">U9"), {"chunks": (3,), "zarr_format": 2}),
    "v2_bytes": (words(7).astype("S9"), {"chunks": (3,), "zarr_format": 2}),
    "v2_strings": (
        words(7).astype(np.dtypes.StringDType()),
        {"chunks": (3,), "zarr_format": 2},
    ),
    "v2_filters": (
        ramp(11, dtype="i4"),
        {
            "chunks": (4,),
            "zarr_format": 2,
            "filters": [numcodecs.Delta("i4")],
            "compressors": numcodecs.LZ4(),
        },
    ),
    "v2_scalar": (np.array(2.5), {"zarr_format": 2}),
}


def create(path: Path | str, name: str, **changes: Any) -> zarr.Array[Any]:
    """Create array `name` of the table, without writing to it."""
    data, options = ARRAYS[name]
    dtype = "string" if data.dtype.kind == "T" else data.dtype
    settings: dict[str, Any] = {"shape": data.shape, "dtype": dtype} | options | changes
    return zarr.create_array(str(path), **settings)


def equal(got: Any, want: Any) -> None:
    """Same kind (scalar or array), shape, data type and values, NaN included."""
    assert type(got) is type(want), (got, want)
    if isinstance(want, np.ndarray):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_equal(got, want)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Start every test with zarr-python as it comes and no counts; leave it so."""
    tempozarr.disable()
    tempozarr.pipeline_stats(reset=True)
    yield
    tempozarr.disable()
    assert zarr.config.get("codec_pipeline.path") == DEFAULT_PIPELINE


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a group of every array in the table, written by zarr-python in Python."""
    folder = tmp_path_factory.mktemp("stores") / "all"
    zarr.create_group(folder)
    for name, (data, _) in ARRAYS.items():
        create(folder / name, name)[...] = data
    return folder
