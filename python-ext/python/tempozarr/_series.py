"""Series of rows: the sources of a loader side by side, and the rows that windows may touch.

All rows of all sources are numbered through. A series is some sources in the order of time, as if
they were one; segments are the ranges of rows that no window leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tempozarr import _array
from tempozarr._array import Array, Cache, Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from tempozarr._array import Root

    Rows: TypeAlias = NDArray[np.int64]
    One: TypeAlias = "_array.Source | Array | Group"
    Sources: TypeAlias = "One | Sequence[One] | Mapping[str, One | Sequence[One]]"
    Where: TypeAlias = str | ArrayLike | Mapping[str, ArrayLike]

_BLOCK = 1 << 20  # rows that are looked at at once


@dataclass(frozen=True)
class Source:
    """An array, or a group, and where its rows are numbered.

    Attributes
    ----------
    series
        Name of the series that it belongs to.
    root, path
        Where it is.
    first
        Number of its first row.
    rows
        Its rows.
    """

    series: str
    root: Root
    path: str
    first: int
    rows: int

    @property
    def stop(self) -> int:
        """Number behind that of its last row."""
        return self.first + self.rows

    @property
    def name(self) -> str:
        """Path, for people."""
        return f"{self.root}/{self.path}".rstrip("/")

    def open(self, member: str | None, cache: Cache) -> Array:
        """Open a member, or the source itself."""
        return member_of(self.root, self.path, member, cache)


def member_of(root: Root, path: str, member: str | None, cache: Cache) -> Array:
    """Open an array of a group, or the array itself if there is no name.

    Raises
    ------
    ValueError
        If it has no rows, or if it is a group.
    KeyError
        If there is none.
    """
    node = _array.opened(root, path, cache)
    if member is not None:
        if isinstance(node, Array):
            raise ValueError(
                f"{node!r} has no array {member!r}: it is one itself, say arrays={{'x': None}}"
            )
        node = node[member]
    if isinstance(node, Array) and node.ndim:
        return node
    raise ValueError(
        f"expected an array with rows, got {node!r}; name one of a group as in "
        "arrays={'x': 'book'}"
    )


def located(
    sources: Sources, options: Mapping[str, Any] | None = None
) -> dict[str, list[tuple[Root, str]]]:
    """Root and path of every source, by series.

    Raises
    ------
    ValueError
        If there is none.
    """
    series = (
        sources
        if isinstance(sources, Mapping) and not isinstance(sources, Group)
        else {"": sources}
    )
    found: dict[str, list[tuple[Root, str]]] = {}
    for name, some in series.items():
        several = some if isinstance(some, list | tuple) else [some]
        found[str(name)] = [_array.located(source, options) for source in several]
    if not found or not all(found.values()):
        raise ValueError(f"expected at least one source in every series, got {sources!r}")
    return found


def numbered(
    sources: Mapping[str, Sequence[tuple[Root, str]]], members: Sequence[str | None]
) -> list[Source]:
    """Number the rows of sources through.

    Raises
    ------
    ValueError
        If the members of a source do not have the same number of rows.
    """
    result: list[Source] = []
    first = 0
    for series, places in sources.items():
        for root, path in places:
            lengths = {name: len(member_of(root, path, name, Cache())) for name in members}
            if len(set(lengths.values())) != 1:
                raise ValueError(
                    f"{root}/{path}: expected arrays with the same rows, got {lengths}; "
                    "pass rows=(0, n) if the first n rows belong together"
                )
            rows = next(iter(lengths.values()))
            result.append(Source(series, root, path, first, rows))
            first += rows
    return result


def whole(sources: Sequence[Source], rows: tuple[int | None, int | None] | None) -> Rows:
    """Segments of all rows, or of those between two of each source."""
    segments: list[list[int]] = []
    before: Source | None = None
    for source in sources:
        low, high, _ = slice(*(rows or (None, None))).indices(source.rows)
        if low >= high:
            continue
        joined = before is not None and before.series == source.series
        if joined and segments[-1][1] == source.first + low:
            segments[-1][1] = source.first + high
        else:
            segments.append([source.first + low, source.first + high])
        before = source
    return np.array(segments, np.int64).reshape(-1, 2)


def intersection(a: Rows, b: Rows) -> Rows:
    """Intersect two ascending lists of ranges."""
    # Those of `b` that each of `a` meets.
    low = np.searchsorted(b[:, 1], a[:, 0], "right")
    counts = np.maximum(np.searchsorted(b[:, 0], a[:, 1], "left") - low, 0)
    of_a = np.repeat(np.arange(len(a)), counts)
    of_b = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + low[of_a]
    return np.stack(
        (np.maximum(a[of_a, 0], b[of_b, 0]), np.minimum(a[of_a, 1], b[of_b, 1])), axis=1
    )


def cut(segments: Rows, at: Rows) -> Rows:
    """Cut segments in front of these rows, in ascending order."""
    if not len(segments):
        return segments
    edges = np.concatenate((segments[:1, 0], at, segments[-1:, 1]))
    edges = np.unique(np.clip(edges, segments[0, 0], segments[-1, 1]))
    return intersection(segments, np.stack((edges[:-1], edges[1:]), axis=1))


def gaps(sources: Sequence[Source], member: str, limit: Any) -> Rows:
    """Rows whose time is more than `limit` away from that of the row before, or unknown.

    Raises
    ------
    ValueError
        If a source begins before the one in front of it ends, or if `limit` is not of the unit of
        the times.
    """
    found = []
    last: Any = None
    before: Source | None = None
    for source in sources:
        if before is None or before.series != source.series:
            last = None
        times = source.open(member, Cache())
        _check_times(times, limit)
        for start, block in _blocks(times):
            if start == 0 and last is not None and len(block) and block[0] < last:
                raise ValueError(
                    f"{source.name} begins before {before.name if before else ''} ends, at "
                    f"{block[0]}: expected the sources of a series in the order of time"
                )
            line = block if last is None else np.concatenate(([last], block))
            # Unsigned and float times too: both differences, of which one is not negative.
            later, earlier = line[1:], line[:-1]
            step = np.where(later >= earlier, later - earlier, earlier - later)
            if step.dtype.kind == "i":  # int8 has no 255, but the bits are right
                step = step.view(f"u{step.itemsize}")
            far = ~(step <= limit)  # and where a time is NaT or NaN
            found.append(source.first + start + np.flatnonzero(far) + (last is None))
            if len(block):
                last = block[-1]
        before = source
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)


def _check_times(times: Array, limit: Any) -> None:
    kind = times.dtype.kind
    if times.ndim != 1 or kind not in "iufM":
        raise ValueError(f"expected times in one dimension of numbers or datetime64, got {times!r}")
    if (kind == "M") != isinstance(limit, np.timedelta64):
        wanted = "a numpy.timedelta64" if kind == "M" else "a number in the unit of the times"
        raise ValueError(f"max_gap: expected {wanted} for times of {times.dtype}, got {limit!r}")


def _blocks(array: Array) -> Iterator[tuple[int, NDArray[Any]]]:
    for start in range(0, len(array), _BLOCK):
        yield start, array[start : start + _BLOCK]


def allowed(sources: Sequence[Source], where: Where) -> Rows:
    """Ranges of rows that `where` allows.

    Raises
    ------
    ValueError
        If a mask does not have a bool for each row of its series, or if ranges are not in order.
    KeyError
        If a series has no mask.
    """
    names = list(dict.fromkeys(source.series for source in sources))
    found = [np.empty((0, 2), np.int64)]
    for name in names:
        of_series = [source for source in sources if source.series == name]
        first, stop = of_series[0].first, of_series[-1].stop
        if isinstance(where, str):
            for source in of_series:
                mask = source.open(where, Cache())
                if mask.dtype != np.bool_ or mask.ndim != 1:
                    raise ValueError(f"where: expected a bool for each row, got {mask!r}")
                found += [source.first + start + _runs(b) for start, b in _blocks(mask)]
            continue
        if isinstance(where, Mapping):
            if name not in where:
                raise KeyError(f"where has no mask or ranges for series {name!r}")
            one = np.asarray(where[name])
        elif len(names) > 1:
            raise ValueError(
                f"where: expected a dict with a mask or ranges for each series of {names}, or the "
                f"name of a member, got {type(where).__name__}"
            )
        else:
            one = np.asarray(where)
        found.append(first + _ranges(one, stop - first))
    return _joined(np.concatenate(found))


def _ranges(where: NDArray[Any], rows: int) -> Rows:
    """Ranges of rows from a mask, or from pairs."""
    if where.dtype == np.bool_ and where.shape == (rows,):
        return _runs(where)
    pairs = where.size == 0 or (where.ndim == 2 and where.shape[1] == 2)  # noqa: PLR2004
    if not pairs or (where.dtype.kind not in "iu" and where.size):
        raise ValueError(
            f"where: expected a mask of {rows} bools, or pairs (start, stop) of rows, got an array "
            f"of {where.dtype}, shape {where.shape}"
        )
    ranges = where.astype(np.int64).reshape(-1, 2)
    flat = ranges.ravel()
    if len(flat) and (flat[0] < 0 or flat[-1] > rows or (np.diff(flat) < 0).any()):
        raise ValueError(
            f"where: expected ranges in ascending order within {rows} rows, got {ranges.tolist()}"
        )
    return ranges


def _runs(mask: NDArray[np.bool_]) -> Rows:
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.astype(np.int64).reshape(-1, 2)


def _joined(ranges: Rows) -> Rows:
    """Join ascending ranges that touch, and leave out empty ones."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    apart = np.flatnonzero(ranges[1:, 0] > ranges[:-1, 1]) + 1
    starts = np.concatenate(([0], apart))[: len(ranges)]
    ends = np.concatenate((apart, [len(ranges)]))[: len(ranges)] - 1
    return np.stack((ranges[starts, 0], ranges[ends, 1]), axis=1)


def split(
    sources: Sequence[Source],
    segments: Rows,
    fractions: Sequence[float],
    time: str | None,
    gap: int,
) -> list[Rows]:
    """Cut segments where these fractions of their rows are over; leave `gap` rows out behind a cut.

    Each series is cut at its own rows; with `time`, at the times at which the series with most rows
    is cut.
    """
    by_series: dict[str, list[Source]] = {}
    for source in sources:
        by_series.setdefault(source.series, []).append(source)
    ranges = {n: np.array([[s[0].first, s[-1].stop]]) for n, s in by_series.items()}
    usable = {name: intersection(segments, span) for name, span in ranges.items()}
    ends = np.cumsum(fractions)
    cuts = {name: _cuts(rows, ends) for name, rows in usable.items()}
    if time is not None and len(cuts) > 1:
        longest = max(usable, key=lambda name: int(np.diff(usable[name]).sum()))
        end = usable[longest][-1, 1]
        times = [
            _time_at(by_series[longest], time, row) if row < end else None for row in cuts[longest]
        ]
        cuts = {
            name: cuts[name] if name == longest else [_row_at(some, time, t) for t in times]
            for name, some in by_series.items()
        }
    parts: list[Rows] = []
    for i in range(len(fractions)):
        ranges_of_part = [
            [cuts[name][i - 1] + gap if i else some[0].first, cuts[name][i]]
            for name, some in by_series.items()
        ]
        kept = np.array([[low, high] for low, high in ranges_of_part if low < high], np.int64)
        parts.append(intersection(segments, kept.reshape(-1, 2)))
    return parts


def _cuts(segments: Rows, ends: NDArray[np.float64]) -> list[int]:
    """Rows in front of which these fractions of the rows of segments are over."""
    lengths = np.diff(segments).ravel()
    total = np.cumsum(lengths)
    if not len(total):
        return [0] * len(ends)
    cuts = []
    for end in ends:
        wanted = min(round(float(end) * int(total[-1])), int(total[-1]))
        at = min(int(np.searchsorted(total, wanted, "left")), len(total) - 1)
        cuts.append(int(segments[at, 1] - (total[at] - wanted)))
    return cuts


def _time_at(sources: Sequence[Source], member: str, row: int) -> Any:
    """Time of a row; None behind the last one."""
    for source in sources:
        if row < source.stop:
            return source.open(member, Cache())[row - source.first]
    return None


def _row_at(sources: Sequence[Source], member: str, time: Any) -> int:
    """First row that is not before a time."""
    for source in sources:
        times = source.open(member, Cache(8 << 20))
        if time is None or (len(times) and times[-1] < time) or not len(times):
            continue
        low, high = 0, len(times)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if times[middle] < time else (low, middle)
        return source.first + low
    return sources[-1].stop
