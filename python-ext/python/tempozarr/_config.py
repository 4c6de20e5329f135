"""Settings that tempozarr shares with zarr-python."""

from __future__ import annotations

import os
import sys

from tempozarr import _core


def size_pool() -> None:
    """Size the thread pool as zarr-python's `threading.max_workers` says; else one per core."""
    if "zarr" in sys.modules:
        import zarr

        workers = zarr.config.get("threading.max_workers", None)
    else:
        workers = os.environ.get("ZARR_THREADING__MAX_WORKERS")
    _core.set_threads(int(workers or 0))
