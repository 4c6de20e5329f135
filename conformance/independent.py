"""Read stores with zarr-python as if tempozarr were not installed.

`python conformance/independent.py FOLDER` reads every array in FOLDER (one folder each), and
prints what it read as JSON: by folder, either the values or the error. `temporal_xor` is
`oracle.py`'s; everything else is zarr-python's and numcodecs'.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import Distribution


def block(package: str) -> None:
    """Make importing `package` fail, and hide its entry points; call it before importing zarr."""
    sys.modules[package] = None  # type: ignore[assignment] # to the import system: not importable
    find = importlib.metadata.distributions

    def others(**context: Any) -> Iterator[Distribution]:
        return (found for found in find(**context) if found.metadata["Name"] != package)

    importlib.metadata.distributions = others  # type: ignore[assignment]


def read_all(folder: Path) -> dict[str, Any]:
    """The values of every array in `folder`, or the error of those that cannot be read."""
    import zarr

    import oracle
    from goldens import to_json

    oracle.install()
    results: dict[str, Any] = {}
    for store in sorted(folder.iterdir()):
        try:
            results[store.name] = to_json(zarr.open_array(str(store), mode="r")[...])
        except Exception as error:  # noqa: BLE001 - one failure must not hide the others
            results[store.name] = {"error": f"{type(error).__name__}: {error}"}
    return results


def independent(folder: Path) -> dict[str, Any]:
    """What `read_all` returns in a process of its own, in which tempozarr is blocked."""
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    block("tempozarr")
    print(json.dumps(read_all(Path(sys.argv[1]))))
