"""LZ4 with high compression: other bytes, the same values and the same metadata for every reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError

import tempozarr
from tempozarr import MetadataError, Writer, _core, plan
from tempozarr.schema import ArraySchema, GroupSchema, schema_of

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")

CHAINS: dict[str, list[Any]] = {  # the last is not fused
    "alone": ["numcodecs.lz4"],
    "filtered": ["temporal_xor", "bytes", "numcodecs.shuffle", "numcodecs.lz4"],
    "checked": ["numcodecs.lz4", "crc32c"],
    "unfused": ["numcodecs.lz4", "numcodecs.adler32"],
}
LEVELS = range(2, 13)


def schema(level: int | None = None, chain: str = "alone", **settings: Any) -> ArraySchema:
    fields = {"name": "a", "dtype": "float32", "row_shape": (5,), "codecs": CHAINS[chain]}
    return ArraySchema(**fields | {"lz4_level": level} | settings)


def rows(count: int = 4000) -> NDArray[Any]:
    """Rows that repeat in part."""
    steps = np.random.default_rng(3).integers(-1, 2, (count, 5))
    return (steps * (steps.sum(1, keepdims=True) > 1)).cumsum(0).astype("f4")


def encoded(schema: ArraySchema, values: NDArray[Any], shards: int | None = None) -> bytes:
    document = json.dumps(
        schema.metadata(len(values), len(values) // (shards or 1), shards and len(values))
    )
    pipeline = _core.ChunkPipeline(document, lz4_level=schema.lz4_level)
    stored = pipeline.encode(values)
    np.testing.assert_array_equal(_core.ChunkPipeline(document).decode(stored), values)
    return stored


def stored(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("c/**/*") if f.is_file())


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_numcodecs_decodes_every_level(level: int | None) -> None:
    noise = np.random.default_rng(1).integers(0, 1 << 32, (4000, 5), "u4").view("f4")
    noise = np.nan_to_num(noise)
    for values in (rows(), rows(1), rows(2), np.zeros((900, 5), "f4"), noise):
        data = encoded(schema(level), values)
        assert numcodecs.LZ4().decode(data) == values.tobytes()


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shards", [None, 4])
def test_a_level_stores_less(chain: str, shards: int | None) -> None:
    values = rows()
    fast, high = (len(encoded(schema(level, chain), values, shards)) for level in (None, 9))
    assert high < fast * 0.95
    if chain == "unfused":
        return
    assert len(encoded(schema(12, chain), values, shards)) <= len(
        encoded(schema(2, chain), values, shards)
    )


def test_acceleration_is_numcodecs() -> None:
    sizes = []
    for acceleration in (1, 100):
        lz4 = {"name": "numcodecs.lz4", "configuration": {"acceleration": acceleration}}
        data = encoded(schema(codecs=[lz4]), rows())
        assert numcodecs.LZ4().decode(data) == rows().tobytes()
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("chain", ["alone", "checked"])
@pytest.mark.parametrize("layout", [(512, None), (128, 1024)])
def test_writers_use_it_and_do_not_store_it(
    tmp_path: Path, chain: str, layout: tuple[int, int | None]
) -> None:
    values = rows()
    for name, level in (("fast", None), ("high", 9)):
        group = GroupSchema(
            arrays=[schema(level, chain), schema(level, chain, name="b", late=True)]
        )
        with Writer(tmp_path / name, group, layout={"a": layout}) as writer:
            writer.append({"a": values[:3000]})
            writer.flush()
            writer.append({"a": values[3000:]})
            writer.write_late("b", values)
        for array in "ab":
            found = zarr.open_array(tmp_path / name / array, mode="r")
            np.testing.assert_array_equal(found[...], values)
    for array in "ab":
        fast, high = (tmp_path / name / array for name in ("fast", "high"))
        assert stored(high) < stored(fast) * 0.97
        assert (high / "zarr.json").read_bytes() == (fast / "zarr.json").read_bytes()
    assert "level" not in (tmp_path / "high" / "a" / "zarr.json").read_text()


def test_continued_without_the_schema_the_encoder_is_the_fast_one(tmp_path: Path) -> None:
    high = schema(9)
    assert high.differences(schema().metadata(0, 1000)) == []
    values, sizes = rows(8000), []
    for name, given in (("with", high), ("without", None)):
        with Writer(tmp_path / name, high, layout={"": (1000, None)}) as writer:
            writer.append(values[:1000])
        first = stored(tmp_path / name)
        with Writer(tmp_path / name, given, mode="a") as writer:
            assert writer.schema.lz4_level == (given and 9)  # type: ignore[union-attr]
            writer.append(values[1000:])
        np.testing.assert_array_equal(tempozarr.open_array(tmp_path / name)[...], values)
        sizes.append(stored(tmp_path / name) - first)
    assert sizes[0] < sizes[1]
    assert schema_of(tmp_path / "with").lz4_level is None  # type: ignore[union-attr]


def test_copies_use_it(tmp_path: Path) -> None:
    with Writer(tmp_path / "old", schema(), layout={"": (1000, None)}) as writer:
        writer.append(rows())
    tempozarr.copy(
        tmp_path / "old", tmp_path / "new", schema(9), layout={"": (1000, None)}, verify=True
    )
    assert stored(tmp_path / "new") < stored(tmp_path / "old")


def test_plans_measure_it() -> None:
    fast, high = (plan(schema(level), sample=rows())[""] for level in (None, 9))
    assert fast.ratio_source == high.ratio_source == "measured"
    assert fast.ratio < high.ratio


def test_json_keeps_it() -> None:
    high = schema(9)
    assert ArraySchema.model_validate_json(high.model_dump_json()) == high != schema()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"level": 1}, "greater than or equal to 2"),
        ({"level": 13}, "less than or equal to 12"),
        (
            {"level": 9, "codecs": ["zstd"]},
            "expected a chain with numcodecs.lz4, got bytes, zstd: choose ",
        ),
        ({"level": 9, "codecs": None}, "expected a chain with numcodecs.lz4, got temporal_xor, "),
        (
            {"level": 9, "codecs": None, "float16": True},
            "expected a chain with numcodecs.lz4, got ",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match="lz4_level") as error:
        schema(**settings)
    assert text in str(error.value)


def test_rust_refuses_what_cannot_be(tmp_path: Path) -> None:
    document = schema().metadata(0, 100)
    for level in (-1, 1, 13):
        text = f"lz4: level {level} is out of range, expected 2 <= level <= 12"
        with pytest.raises(MetadataError, match=text):
            _core.ChunkPipeline(json.dumps(document), lz4_level=level)
    other = schema(codecs=["zstd"]).metadata(0, 100)
    v2 = zarr.create_array(
        tmp_path, shape=(9,), dtype="i4", zarr_format=2, compressors=numcodecs.LZ4()
    )
    assert v2.compressors
    for metadata in (json.dumps(other), (tmp_path / ".zarray").read_text()):
        with pytest.raises(MetadataError, match=r"metadata with numcodecs\.lz4, got none"):
            _core.ChunkPipeline(metadata, lz4_level=9)
    (tmp_path / "zarr.json").write_text(json.dumps(other))
    with pytest.raises(MetadataError, match=r"metadata with numcodecs\.lz4, got none"):
        _core.Appender(str(tmp_path), "", 0, str(tmp_path / "s"), lz4_level=9)


@pytest.mark.parametrize(
    "name", ["tempozarr.fused", "tempozarr.lz4", "tempozarr.0000000000000000.lz4"]
)
def test_hidden_codecs_in_stored_metadata_are_errors(tmp_path: Path, name: str) -> None:
    document = schema().metadata(10, 10, 10)
    inner = document["codecs"][0]["configuration"]
    inner["codecs"] = [{"name": name, "configuration": {"codecs": inner["codecs"]}}]
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(MetadataError, match=f"codec {name} is not supported"):
        tempozarr.open_array(tmp_path)
