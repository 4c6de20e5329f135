"""Encodings of LZ4 and zstd: other bytes, the same values and metadata for every reader."""

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

CHAINS: dict[str, list[Any]] = {  # before and after the compressor; the last is not fused
    "alone": [[], []],
    "filtered": [["temporal_xor", "bytes", "numcodecs.shuffle"], []],
    "checked": [[], ["crc32c"]],
    "unfused": [[], ["numcodecs.adler32"]],
}
LEVELS = range(2, 13)
ZSTD = {"name": "zstd", "configuration": {"level": 9, "checksum": False}}
# Compressors, and settings that change how they encode: to fewer bytes, or to more.
ENCODINGS = [("numcodecs.lz4", {"lz4_level": 9}), (ZSTD, {"zstd_fast_decode": True})]
either = pytest.mark.parametrize(("compressor", "encoding"), ENCODINGS, ids=["lz4", "zstd"])


def schema(
    level: int | None = None,
    chain: str = "alone",
    compressor: Any = "numcodecs.lz4",
    **settings: Any,
) -> ArraySchema:
    before, after = CHAINS[chain]
    codecs = [*before, compressor, *after]
    fields = {"name": "a", "dtype": "float32", "row_shape": (5,), "codecs": codecs}
    return ArraySchema(**fields | {"lz4_level": level} | settings)


def rows(count: int = 4000) -> NDArray[Any]:
    """Rows that repeat in part."""
    steps = np.random.default_rng(3).integers(-1, 2, (count, 5))
    return (steps * (steps.sum(1, keepdims=True) > 1)).cumsum(0).astype("f4")


def encoded(schema: ArraySchema, values: NDArray[Any], shards: int | None = None) -> bytes:
    document = json.dumps(
        schema.metadata(len(values), len(values) // (shards or 1), shards and len(values))
    )
    pipeline = _core.ChunkPipeline(document, **schema.encoding._asdict())
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


@pytest.mark.parametrize("level", [-5, 1, 3, 6, 9, 19])
def test_numcodecs_decodes_what_is_encoded_for_fast_decoding(level: int) -> None:
    compressor = {"name": "zstd", "configuration": {"level": level, "checksum": level > 0}}
    for values in (rows(), rows(1), np.zeros((900, 5), "f4")):
        data = encoded(schema(compressor=compressor, zstd_fast_decode=True), values)
        assert numcodecs.Zstd().decode(data) == values.tobytes()


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shards", [None, 4])
def test_fast_decoding_stores_more(chain: str, shards: int | None) -> None:
    usual, fast = (
        len(encoded(schema(None, chain, ZSTD, zstd_fast_decode=f), rows(), shards))
        for f in (False, True)
    )
    assert usual < fast < usual * 1.6


def test_acceleration_is_numcodecs() -> None:
    sizes = []
    for acceleration in (1, 100):
        lz4 = {"name": "numcodecs.lz4", "configuration": {"acceleration": acceleration}}
        data = encoded(schema(codecs=[lz4]), rows())
        assert numcodecs.LZ4().decode(data) == rows().tobytes()
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


@either
@pytest.mark.parametrize("chain", ["alone", "checked"])
@pytest.mark.parametrize("layout", [(512, None), (128, 1024)])
def test_writers_use_it_and_do_not_store_it(
    tmp_path: Path,
    chain: str,
    layout: tuple[int, int | None],
    compressor: Any,
    encoding: dict[str, Any],
) -> None:
    values = rows()
    for name, settings in (("usual", {}), ("set", encoding)):
        one = {"chain": chain, "compressor": compressor} | settings
        group = GroupSchema(arrays=[schema(**one), schema(**one, name="b", late=True)])
        with Writer(tmp_path / name, group, layout={"a": layout}) as writer:
            writer.append({"a": values[:3000]})
            writer.flush()
            writer.append({"a": values[3000:]})
            writer.write_late("b", values)
        for array in "ab":
            found = zarr.open_array(tmp_path / name / array, mode="r")
            np.testing.assert_array_equal(found[...], values)
    for array in "ab":
        usual, other = (tmp_path / name / array for name in ("usual", "set"))
        factor = stored(other) / stored(usual)
        assert factor < 0.97 if "lz4_level" in encoding else factor > 1.03
        assert (other / "zarr.json").read_bytes() == (usual / "zarr.json").read_bytes()
    text = (other / "zarr.json").read_text()
    assert "fast" not in text
    assert ("level" in text) == (compressor == ZSTD)  # which has one of its own


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


@either
def test_copies_use_it(tmp_path: Path, compressor: Any, encoding: dict[str, Any]) -> None:
    layout = {"": (1000, None)}
    with Writer(tmp_path / "old", schema(compressor=compressor), layout=layout) as writer:
        writer.append(rows())
    other = schema(compressor=compressor, **encoding)
    tempozarr.copy(tmp_path / "old", tmp_path / "new", other, layout=layout, verify=True)
    old, new = (stored(tmp_path / name) for name in ("old", "new"))
    assert new < old if "lz4_level" in encoding else new > old


@either
def test_plans_measure_it(compressor: Any, encoding: dict[str, Any]) -> None:
    usual, other = (
        plan(schema(compressor=compressor, **settings), sample=rows())[""]
        for settings in ({}, encoding)
    )
    assert usual.ratio_source == other.ratio_source == "measured"
    high = "lz4_level" in encoding
    assert usual.ratio < other.ratio if high else usual.ratio > other.ratio


@either
def test_json_keeps_it(compressor: Any, encoding: dict[str, Any]) -> None:
    usual, other = (schema(compressor=compressor, **s) for s in ({}, encoding))
    assert ArraySchema.model_validate_json(other.model_dump_json()) == other != usual


def test_fast_decoding_needs_zstd() -> None:
    default = schema(codecs=None, zstd_fast_decode=True)  # which has it
    assert default.encoding == (None, True)
    text = "expected a chain with zstd, got bytes, numcodecs.lz4: choose that compressor, or leave "
    with pytest.raises(ValidationError, match=f"{text}zstd_fast_decode out"):
        schema(zstd_fast_decode=True)


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
    with pytest.raises(MetadataError, match="metadata with zstd, got none"):
        _core.ChunkPipeline(json.dumps(document), zstd_fast_decode=True)
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
        _core.Appender(_core.Beneath(str(tmp_path)), "", 0, "s", lz4_level=9)


@pytest.mark.parametrize(
    "name", ["tempozarr.fused", "tempozarr.encoding", "tempozarr.0000000000000000.encoding"]
)
def test_hidden_codecs_in_stored_metadata_are_errors(tmp_path: Path, name: str) -> None:
    document = schema().metadata(10, 10, 10)
    inner = document["codecs"][0]["configuration"]
    inner["codecs"] = [{"name": name, "configuration": {"codecs": inner["codecs"]}}]
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(MetadataError, match=f"codec {name} is not supported"):
        tempozarr.open_array(tmp_path)
