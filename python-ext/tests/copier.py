"""A copy for the tests of `copy`; processes that are killed import it and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tempozarr
from tempozarr import _copy, _sources
from tempozarr._progress import Reporter


def make_small(set_: Any = setattr) -> None:
    """Copy in small blocks that are flushed often."""
    set_(_sources, "AT_ONCE", 1 << 12)
    set_(_copy, "FLUSH", 1 << 13)
    set_(Reporter, "_INTERVAL", 0)


def copy_slowly(source: Path, target: Path, begun: Any) -> None:
    """Copy the store that `write_source` of the tests makes."""
    make_small()
    begun.set()
    tempozarr.copy(source, target, layout={"book": (16, 64), "deep/er/time": (32, 256)})
