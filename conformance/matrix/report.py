"""What comes of a run, for people: `docs/conformance.md`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matrix.harness import Result


def write_cells(file: Path, result: Result) -> None:
    """All cells, one JSON object a line."""
    with file.open("w", encoding="utf-8") as out:
        for cell in (*result.refused, *result.cells):
            print(json.dumps(asdict(cell)), file=out)
