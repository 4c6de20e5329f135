"""Read stores with zarr-python as if tempozarr were not installed.

`python conformance/independent.py FOLDER` reads every array in FOLDER (one folder each), and
prints what it read as JSON: by folder, either the values or the error. `temporal_xor` is
`oracle.py`'s; everything else is zarr-python's and numcodecs'.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any


def block(package: str) -> None:
    """Make importing `package` fail and hide its entry points, before zarr-python looks for them."""
    sys.modules[package] = None  # type: ignore[assignment] # "not importable", by the import system's rules
    find = importlib.metadata.entry_points

    def others(**select: Any) -> EntryPoints:
        return EntryPoints(e for e in find(**select) if e.module.partition(".")[0] != package)

    importlib.metadata.entry_points = others


def read_all(folder: Path) -> dict[str, Any]:
    """The values of every array in `folder`, or the error of those that cannot be read."""
    import oracle
    import zarr
    from goldens import to_json

    oracle.install()
    results: dict[str, Any] = {}
    for store in sorted(folder.iterdir()):
        try:
            results[store.name] = to_json(zarr.open_array(str(store), mode="r")[...])
        except Exception as error:  # noqa: BLE001 - one failure must not hide the others
            results[store.name] = {"error": f"{type(error).__name__}: {error}"}
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    block("tempozarr")
    print(json.dumps(read_all(Path(sys.argv[1]))))
