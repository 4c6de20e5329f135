"""tensorstore."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

import tensorstore  # noqa: E402

from matrix.adapters.serve import serve, slices, values  # noqa: E402

if TYPE_CHECKING:
    import numpy as np


def spec(store: str, zarr_format: int) -> dict[str, Any]:
    """What tensorstore opens."""
    driver = "zarr3" if zarr_format == 3 else "zarr"
    return {"driver": driver, "kvstore": {"driver": "file", "path": f"{store}/"}}


def read(store: str) -> np.ndarray:
    """The whole array."""
    zarr_format = 3 if Path(store, "zarr.json").exists() else 2
    return tensorstore.open(spec(store, zarr_format)).result().read().result()


def write(request: dict[str, Any]) -> None:
    """Create the array from the metadata of the request, and assign to it."""
    document = dict(request["document"])
    zarr_format = document.pop("zarr_format")
    document.pop("node_type", None)
    if not document.get("storage_transformers", True):  # which it does not know, not even none
        del document["storage_transformers"]
    wanted = spec(request["write"], zarr_format) | {"metadata": document}
    array = tensorstore.open(wanted, create=True).result()
    array[slices(request)].write(values(request, array.dtype.numpy_dtype)).result()


serve({"tensorstore": version("tensorstore")}, read, write)
