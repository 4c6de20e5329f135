"""z5py. It opens arrays in groups only, so a group is put around each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import z5py  # noqa: E402

from matrix.adapters.serve import serve  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

GROUPS = {
    "zarr.json": '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    ".zgroup": '{"zarr_format": 2}',
}


def read(store: str) -> np.ndarray:
    """The whole array."""
    name = "zarr.json" if Path(store, "zarr.json").exists() else ".zgroup"
    with tempfile.TemporaryDirectory(suffix=".zarr") as group:
        Path(group, name).write_text(GROUPS[name])
        Path(group, "array").symlink_to(store)
        return z5py.File(group, mode="r")["array"][...]


serve({"z5py": z5py.__version__}, read)
