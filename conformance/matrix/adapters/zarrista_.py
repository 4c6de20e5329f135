"""zarrista, bindings of zarrs for Python."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import zarrista  # noqa: E402
from zarrista.store import FilesystemStore  # noqa: E402

from matrix.adapters.serve import serve  # noqa: E402

if TYPE_CHECKING:
    import numpy as np


def read(store: str) -> np.ndarray:
    """The whole array."""
    return zarrista.Array.open(FilesystemStore(store))[...].to_numpy()


serve({"zarrista": version("zarrista")}, read)
