"""Metadata that cannot be used (`bad_metadata.json`): a named error when the array is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tempozarr

TABLE = json.loads((Path(__file__).parent / "bad_metadata.json").read_text())
SOUND: dict[int, dict[str, Any]] = {
    2: {
        "zarr_format": 2,
        "shape": [7, 4],
        "chunks": [3, 4],
        "dtype": "<f4",
        "fill_value": 0.0,
        "order": "C",
        "filters": None,
        "compressor": None,
    },
    3: {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [7, 4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 4]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    },
}


def store(folder: Path, replace: dict[str, Any]) -> Path:
    """An array of one chunk in `folder`, with sound metadata but for the fields in `replace`."""
    version = replace.get("zarr_format", 3)
    file, chunk = ("zarr.json", "c/0/0") if version == 3 else (".zarray", "0.0")
    (folder / file).write_text(json.dumps(SOUND[version] | replace))
    (folder / chunk).parent.mkdir(parents=True, exist_ok=True)
    (folder / chunk).write_bytes(bytes(3 * 4 * 4))
    return folder


@pytest.mark.parametrize("case", TABLE, ids=[case["what"] for case in TABLE])
def test_unusable_metadata(case: dict[str, Any], tmp_path: Path) -> None:
    """The error names what is wrong and the store that it is in."""
    with pytest.raises(tempozarr.MetadataError) as raised:
        tempozarr.open_array(store(tmp_path, case["replace"]))
    for part in [*case["error"], str(tmp_path)]:
        assert part in str(raised.value)


@pytest.mark.parametrize("version", SOUND)
def test_sound_metadata(version: int, tmp_path: Path) -> None:
    """What the table changes is what makes its cases fail."""
    array = tempozarr.open_array(store(tmp_path, {"zarr_format": version}))
    assert array[...].shape == (7, 4)
