"""z5py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import numpy as np  # noqa: E402
import z5py  # noqa: E402

from matrix.adapters.serve import serve  # noqa: E402


def read(store: str) -> np.ndarray:
    """The whole array."""
    path = Path(store)
    zarr_format = 3 if (path / "zarr.json").exists() else 2
    file = z5py.File(str(path.parent), mode="r", use_zarr_format=True, zarr_format=zarr_format)
    return file[path.name][...]


serve({"z5py": z5py.__version__}, read)
