"""A producer of rows for the tests of `Writer`; processes that are killed import it and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempozarr import Writer
from tempozarr.schema import ArraySchema, GroupSchema

BOOK = ArraySchema(name="book", dtype="float32", row_shape=(5, 3), float16=True)
TIME = ArraySchema(name="time", dtype="int64", dimension_names=("row",))
MID = ArraySchema(name="raw", dtype="float64")
SCHEMA = GroupSchema(arrays=[BOOK, TIME], groups=[GroupSchema(name="mid", arrays=[MID])])
# Small: rows of a chunk, rows of a shard.
LAYOUT = {"book": (8, 32), "time": (16, None), "mid/raw": (4, 12)}


def rows(start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Rows `start..stop` of each array, which float16 holds."""
    i = np.arange(start, stop)
    book = (i[:, None] * 31 + np.arange(15)) % 2048
    return {
        "book": book.reshape(-1, 5, 3).astype("f4"),
        "time": i**2,
        "mid/raw": np.sin(i),
    }


def append_for_ever(store: Path, layout: Mapping[str, Any], seed: int, told: Any) -> None:
    """Append and flush; `told` is whether it is flushing, and the rows of the last flush."""
    rng = np.random.default_rng(seed)
    with Writer(store, SCHEMA, mode="a", layout=layout) as writer:
        while True:
            writer.append(rows(writer.rows, writer.rows + int(rng.integers(1, 60))))
            if rng.random() < 0.5:
                told[0] = 1
                writer.flush()
                told[1] = writer.rows
                told[0] = 0
