"""Which windows there are, and how a batch of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tempozarr._array import Array, Cache, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from tempozarr._array import Job
    from tempozarr._series import Rows, Source

_NUMBERS = "biuf"


@dataclass(frozen=True)
class Field:
    """What a batch has under one name: windows of an array.

    Parameters
    ----------
    array
        Name of the array in each source (`"book"`, `"targets/mid"`); None if the source is itself
        the array.
    length
        Rows in a window; those of the loader by default.
    step
        Rows of the array from one row of the window to the next.
    offset
        Rows from the first row of the loader's window to the first row of this one; may be
        negative. 0 by default.
    horizon
        Instead of `offset`: rows from the last row of the loader's window to the first row of this
        one. With 1, it begins where the inputs end.
    dtype
        Data type that the values are cast to: a number's, or `"bfloat16"`, which numpy has as
        uint16 bits and `tempozarr.torch` as torch.bfloat16. As stored, by default.

    Raises
    ------
    ValueError
        If both `offset` and `horizon` are given, or if `length` or `step` is less than 1.
    """

    array: str | None = None
    length: int | None = None
    step: int = 1
    offset: int | None = None
    horizon: int | None = None
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and self.horizon is not None:
            raise ValueError(
                f"expected offset or horizon, got both ({self.offset} and {self.horizon}): offset "
                "counts from the first row of the loader's window, horizon from its last"
            )
        if index(self.step) < 1 or (self.length is not None and index(self.length) < 1):
            raise ValueError(
                "expected a field of at least 1 row in steps of at least 1, got length "
                f"{self.length}, step {self.step}"
            )


def fields_of(arrays: Mapping[str, Field | str | None]) -> dict[str, Field]:
    """Make fields of what a loader is told.

    Raises
    ------
    TypeError
        If one is none.
    """
    fields = {}
    for name, array in arrays.items():
        if not (array is None or isinstance(array, str | Field)):
            raise TypeError(
                f"arrays[{name!r}]: expected the name of an array, None or a tempozarr.Field, "
                f"got {array!r}"
            )
        fields[name] = array if isinstance(array, Field) else Field(array)
    return fields


@dataclass(frozen=True)
class Window:
    """A field, with all that a loader knows about it.

    Attributes
    ----------
    member
        Name of the array in each source.
    length, step, offset
        As those of `Field`, none of them left open.
    cast
        What `_core.read_rows` casts to, if to anything.
    dtype, row
        Data type and shape of a row of the result.
    """

    member: str | None
    length: int
    step: int
    offset: int
    cast: str | None
    dtype: np.dtype[Any]
    row: tuple[int, ...]

    @classmethod
    def of(cls, name: str, field: Field, length: int, array: Array) -> Self:
        """Complete a field of a loader, from the array of its first source.

        Raises
        ------
        TypeError
            If a data type is none that windows have.
        """
        if array.dtype.kind in "TO":
            raise TypeError(f"arrays[{name!r}]: expected elements of a fixed size, got {array!r}")
        stored = array.dtype.newbyteorder("=")
        cast, dtype = _cast(field.dtype, stored)
        if cast is not None and (stored.kind not in _NUMBERS or dtype.kind not in _NUMBERS):
            raise TypeError(
                f"arrays[{name!r}]: expected numbers to cast to dtype {cast}, got {stored}; leave "
                "dtype out"
            )
        if field.horizon is not None:
            offset = length - 1 + index(field.horizon)
        else:
            offset = index(field.offset or 0)
        return cls(
            field.array,
            length if field.length is None else index(field.length),
            index(field.step),
            offset,
            cast,
            dtype,
            array.shape[1:],
        )

    @property
    def last(self) -> int:
        """Offset of the last row."""
        return self.offset + (self.length - 1) * self.step

    @property
    def nbytes(self) -> int:
        """Bytes of a window."""
        return self.length * int(np.prod(self.row, dtype=np.int64)) * self.dtype.itemsize


def _cast(wanted: DTypeLike | None, stored: np.dtype[Any]) -> tuple[str | None, np.dtype[Any]]:
    """Cast, as `_core.read_rows` has it, and the data type in numpy."""
    if wanted is None:
        return None, stored
    if isinstance(wanted, str) and wanted == "bfloat16":
        return wanted, np.dtype(np.uint16)
    dtype = np.dtype(wanted).newbyteorder("=")
    return (None, stored) if dtype == stored else (dtype.name, dtype)


@dataclass(frozen=True)
class Index:
    """The windows of a loader, numbered in the order of their rows.

    Attributes
    ----------
    segments
        Ranges of rows that no window leaves.
    low, high
        Offsets of the first and the last row that a window touches, from its anchor: the first row
        of the loader's window.
    stride
        Rows from one window to the next.
    before
        Number of windows in front of each segment; and of all.
    """

    segments: Rows
    low: int
    high: int
    stride: int
    before: Rows

    @classmethod
    def of(cls, segments: Rows, windows: Sequence[Window], length: int, stride: int) -> Self:
        """Count the windows. The loader's own one counts as touched even if no field reads it."""
        low = min(0, *(window.offset for window in windows))
        high = max(length - 1, *(window.last for window in windows))
        room = np.diff(segments).ravel() - (high - low + 1)
        counts = np.where(room >= 0, room // stride + 1, 0)
        return cls(segments, low, high, stride, np.concatenate(([0], np.cumsum(counts))))

    @property
    def size(self) -> int:
        """Number of windows."""
        return int(self.before[-1])

    @property
    def reach(self) -> int:
        """Rows that a window touches."""
        return self.high - self.low + 1

    def anchors(self, ids: Rows) -> Rows:
        """Rows of the anchors of windows."""
        segment = np.searchsorted(self.before, ids, "right") - 1
        within = (ids - self.before[segment]) * self.stride
        anchors: Rows = self.segments[segment, 0] - self.low + within
        return anchors

    def begins(self, rows: Rows) -> Rows:
        """Count the windows whose first row is in front of each of `rows`."""
        segment = np.maximum(np.searchsorted(self.segments[:, 0], rows, "left") - 1, 0)
        within = -((self.segments[segment, 0] - rows) // self.stride)  # rounded up
        counts = np.diff(self.before)[segment]
        begins: Rows = self.before[segment] + np.clip(within, 0, counts)
        return begins


class Reader:
    """Reads windows of sources.

    Raises
    ------
    ValueError
        If an array is not of the same data type and row shape in all sources.
    """

    def __init__(
        self, sources: Sequence[Source], windows: Mapping[str, Window], cache: Cache
    ) -> None:
        self._windows = windows
        self._firsts = np.array([source.first for source in sources], np.int64)
        self._stops = np.array([source.stop for source in sources], np.int64)
        members = {window.member: window for window in windows.values()}
        self.arrays: dict[str | None, list[Array]] = {
            member: [source.open(member, cache) for source in sources] for member in members
        }
        for arrays in self.arrays.values():
            first = arrays[0]
            for array, source in zip(arrays, sources, strict=True):
                if (array.dtype, array.shape[1:]) != (first.dtype, first.shape[1:]):
                    raise ValueError(
                        "expected arrays of one data type and row shape, got "
                        f"{first!r} and {array!r}"
                    )
                if len(array) < source.rows:
                    raise ValueError(
                        f"{array!r} has lost rows: it had {source.rows} when the loader was made"
                    )

    def fill(self, batch: Mapping[str, NDArray[Any]], at: int, anchors: Rows) -> None:
        """Read the windows at these anchors into `batch`, from its window `at` on."""
        jobs: list[Job] = []
        for name, window in self._windows.items():
            values = batch[name]
            flat = values.reshape(len(values) * window.length, *window.row)
            places = (at + np.arange(len(anchors))) * window.length
            first = anchors + window.offset
            runs = self._runs(first, places, window)
            arrays = self.arrays[window.member]
            for source in np.unique(runs[0]):
                rows, to, counts = runs[1:, runs[0] == source]
                rows = rows - self._firsts[source]
                jobs.append((arrays[source], rows, to, counts, window.step, flat, window.cast))
        read_rows(jobs)

    def _runs(self, first: Rows, places: Rows, window: Window) -> Rows:
        """Cut windows at sources: number of the source, first row, place and rows of each piece."""
        counts = np.full(len(first), window.length)
        pieces = []
        while len(first):
            source = np.searchsorted(self._stops, first, "right")
            here = np.minimum(-((first - self._stops[source]) // window.step), counts)
            pieces.append(np.stack((source, first, places, here)))
            rest = here < counts
            first, places = (first + here * window.step)[rest], (places + here)[rest]
            counts = (counts - here)[rest]
        return np.concatenate(pieces, axis=1)
