"""zarr-python, in one of several ways: `zarr_python.py WAY SEED`.

`plain`: as if tempozarr were not installed. `installed`: zarr-python's own pipeline finds the codec
of tempozarr by its entry point. `pipeline`: `tempozarr.enable(strict=True)`. `zarrs`: the pipeline
of zarrs-python, which leaves to zarr-python what it cannot do.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[:3]]

from independent import block  # noqa: E402

WAY, SEED = sys.argv[1], int(sys.argv[2])
if WAY in {"plain", "zarrs"}:
    block("tempozarr")

import numcodecs  # noqa: E402
import numpy as np  # noqa: E402
import zarr  # noqa: E402

from cases import apply_edit, create, source  # noqa: E402
from matrix.adapters.serve import serve, whole  # noqa: E402
from matrix.families import cases  # noqa: E402

CASES = {case.name: case for case in cases(SEED)}


def read(store: str) -> np.ndarray:
    """The whole array."""
    return whole(zarr.open_array(store, mode="r"))


def write(request: dict[str, Any]) -> None:
    """Create the array and assign to it, as a user of zarr-python does."""
    case = CASES[request["case"]]
    store = Path(request["write"])
    if not case.edit:
        create(case, store)
        return
    # Values come after the edit: padding is what the metadata then say.
    create(replace(case, written=slice(0)) if case.shape else case, store)
    apply_edit(case, store)
    part = ... if case.written is None else case.written
    zarr.open_array(store, mode="r+")[part] = source(case)[part]


versions = {module.__name__: module.__version__ for module in (zarr, numcodecs, np)}
match WAY:
    case "installed" | "pipeline":
        import tempozarr

        versions["tempozarr"] = tempozarr.__version__
        if WAY == "pipeline":
            tempozarr.enable(strict=True)
    case "zarrs":
        from importlib.metadata import version

        versions["zarrs-python"] = version("zarrs")
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
serve(versions, read, write)
