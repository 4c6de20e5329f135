"""Stores whose values are the numbers of their own rows, and the windows of them by brute force."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempozarr import Field, WindowLoader

Span = tuple[int | None, int | None]


def write(folder: Path, data: NDArray[Any], chunk: int) -> Path:
    """Write an array in chunks of rows, uncompressed: a fraction of the time of zarr-python."""
    name: Any = data.dtype.name
    if data.dtype.kind == "M":
        unit, factor = np.datetime_data(data.dtype)
        configuration = {"unit": unit, "scale_factor": factor}
        name = {"name": "numpy.datetime64", "configuration": configuration}
    shape = (chunk, *data.shape[1:])
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": data.shape,
        "data_type": name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if data.dtype == np.bool_ else 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(metadata))
    for start in range(0, len(data), chunk):
        block = np.zeros(shape, data.dtype)
        some = data[start : start + chunk]
        block[: len(some)] = some
        file = folder.joinpath("c", str(start // chunk), *["0"] * (data.ndim - 1))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(block.tobytes())
    return folder


def group(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    return folder


def values(numbers: Any, *row: int, dtype: str = "int64") -> NDArray[Any]:
    """Rows that hold their numbers, and their places in the row: 10 x + 0, 10 x + 1, ..."""
    if not row:
        return np.asarray(numbers, dtype)
    cells = np.arange(np.prod(row)).reshape(row)
    rows: NDArray[Any] = (
        np.expand_dims(np.multiply(numbers, 10), tuple(range(-len(row), 0))) + cells
    ).astype(dtype)
    return rows


# Members of each source: row shape, data type, rows in a chunk.
MEMBERS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "id": ((), "int64", 7),
    "book": ((2, 3), "int32", 5),
    "mid": ((1,), "float64", 16),
}


@dataclass
class Source:
    """A store: numbers of its rows, times, and whether windows may touch them."""

    numbers: range
    times: NDArray[Any] | None = None
    good: NDArray[np.bool_] | None = None

    def write(self, folder: Path) -> Path:
        group(folder)
        for name, (row, dtype, chunk) in MEMBERS.items():
            write(folder / name, values(self.numbers, *row, dtype=dtype), chunk)
        for name, data in (("time", self.times), ("good", self.good)):
            if data is not None:
                write(folder / name, data, 11)
        return folder


@dataclass
class Rows:
    """All that a loader knows about rows, and which windows follow from that, row by row."""

    series: Mapping[str, Sequence[Source]]
    rows: Span = (None, None)
    max_gap: Any = None
    excluded: set[int] = field(default_factory=set)

    def runs(self) -> Iterator[list[int]]:
        """Numbers of rows that windows do not leave: the longest ones."""
        for sources in self.series.values():
            run: list[int] = []
            last: Any = None
            for source in sources:
                used = range(len(source.numbers))[slice(*self.rows)]
                for i, number in enumerate(source.numbers):
                    bad = number in self.excluded or i not in used
                    bad = bad or (source.good is not None and not source.good[i])
                    apart = False
                    if self.max_gap is not None and source.times is not None:
                        time = (
                            source.times[i].item()
                            if source.times.dtype.kind != "M"
                            else source.times[i]
                        )
                        apart = last is not None and abs(time - last) > self.max_gap
                        last = time
                    if run and (bad or apart):
                        yield run
                        run = []
                    if not bad:
                        run.append(number)
            if run:
                yield run

    def anchors(self, length: int, stride: int = 1, fields: Iterable[Field] = ()) -> list[int]:
        """First rows of the loader's windows: of those that touch no row outside a run."""
        touched = set(range(length))
        for f in fields:
            offset = length - 1 + f.horizon if f.horizon is not None else f.offset or 0
            touched |= {offset + i * f.step for i in range(f.length or length)}
        low, high = min(touched), max(touched)
        return [
            run[first] - low
            for run in self.runs()
            for first in range(0, len(run), stride)
            if first + high - low < len(run)
        ]


def wanted(anchor: int, field: Field, length: int, *row: int, dtype: str = "int64") -> NDArray[Any]:
    """Give what a batch has for a window, one row at a time."""
    offset = length - 1 + field.horizon if field.horizon is not None else field.offset or 0
    numbers = [anchor + offset + i * field.step for i in range(field.length or length)]
    return np.stack([values(number, *row, dtype=dtype) for number in numbers])


def ids(batches: Iterable[Mapping[str, NDArray[Any]]], name: str = "id") -> list[int]:
    """Numbers of the first rows of windows; all rows of each follow on it."""
    found: list[int] = []
    for batch in batches:
        rows = batch[name]
        assert (rows == rows[:, :1] + np.arange(rows.shape[1])).all()
        found += rows[:, 0].tolist()
    return found


def loader_of(store: Any, **changes: Any) -> WindowLoader:
    """Make a loader of one store of the numbers of its rows."""
    options: dict[str, Any] = {"length": 4, "batch_size": 8} | changes
    return WindowLoader(store, options.pop("arrays", {"id": "id"}), **options)
