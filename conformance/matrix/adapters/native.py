"""tempozarr's own arrays: `tempozarr.open_array`, which never falls back to zarr-python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import tempozarr  # noqa: E402

from matrix.adapters.serve import serve, whole  # noqa: E402

if TYPE_CHECKING:
    import numpy as np


def read(store: str) -> np.ndarray:
    """The whole array."""
    return whole(tempozarr.open_array(store))


serve({"tempozarr": tempozarr.__version__}, read)
