"""Write the goldens of the zarr-python that runs this script: `python conformance/generate.py`.

A golden is written once and never again: a case that has one is left alone, so that what an old
release wrote keeps being read. Nothing of tempozarr takes part.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

import oracle
from cases import Case, apply_edit, cases, create, expected
from goldens import FOLDER, pack, same, to_json


def golden(case: Case) -> dict[str, Any]:
    """Write `case` with this zarr-python, and read it back.

    Raises ValueError if zarr-python does not read what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        create(case, store)
        apply_edit(case, store)
        read = np.asarray(zarr.open_array(str(store), mode="r")[...])
        wanted = expected(case)
        if wanted is not None and not same(read, wanted):
            raise ValueError(f"zarr-python reads {read!r}, expected {wanted!r}")
        versions = {module.__name__: module.__version__ for module in (zarr, numcodecs, np)}
        return {
            "case": case.name,
            "writer": versions,
            "lossless": case.lossless,
            "expected": to_json(read),
            "store": pack(store),
        }


def main() -> int:
    """Write every golden that is absent; the exit status says whether all could be written."""
    warnings.simplefilter("ignore")
    oracle.install()
    folder = FOLDER / f"zarr-{zarr.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    failed = written = 0
    for case in cases():
        file = folder / f"{case.name}.json"
        if zarr.__version__ not in case.writers or file.exists():
            continue
        try:
            text = json.dumps(golden(case), indent=1, ensure_ascii=False)
        except Exception as error:  # noqa: BLE001 - one failure must not hide the others
            failed += 1
            print(f"{case.name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        file.write_text(text + "\n", encoding="utf-8")
        written += 1
    print(f"{folder}: {written} written, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
