"""How an array or a group differs from another: bits, and what metadata say."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tempozarr._array import _native
from tempozarr._errors import TempozarrError
from tempozarr._progress import Reporter
from tempozarr._sources import block_rows, read_rows, stored_document
from tempozarr._text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from tempozarr._array import Array
    from tempozarr._progress import Report
    from tempozarr._sources import AnyArray, Found


@dataclass(frozen=True)
class Difference:
    """One difference: of elements, or of metadata, which may be meant so."""

    message: str
    warning: bool = False
    elements: int = 0
    rows: tuple[int, int] | None = None


def compare(
    arrays: Mapping[str, Array],
    groups: Mapping[str, Mapping[str, Any]],
    other: Found,
    progress: Report,
) -> Iterator[tuple[str, Difference]]:
    """Compare arrays, and the attributes of groups, with another store; give what differs."""
    for path in sorted(arrays.keys() ^ other.arrays.keys()):
        who = "the other store has not" if path in arrays else "only the other store has"
        yield path, Difference(f"an array that {who}")
    for path in sorted(groups.keys() & other.groups.keys()):
        if _text(groups[path]) != _text(other.groups[path]):
            yield path, Difference("other attributes", warning=True)
    theirs = other.arrays
    both = {path: (array, theirs[path]) for path, array in arrays.items() if path in theirs}
    total = sum(array.nbytes for array, _ in both.values())
    report = Reporter(progress, total, "comparing", "bytes")
    done = 0
    try:
        for path, (array, their) in both.items():
            yield from ((path, difference) for difference in _metadata(array, their))
            if array.shape == their.shape and _native(array.dtype) == _native(their.dtype):
                before = done
                found = _elements(array, their, lambda nbytes: report(before + nbytes))  # noqa: B023
                if found:
                    yield path, found
            done += array.nbytes
            report(done, now=True)
    finally:
        report.close()


def _metadata(ours: AnyArray, theirs: AnyArray) -> Iterator[Difference]:
    pairs = (("shape", ours.shape, theirs.shape), ("dtype", ours.dtype, theirs.dtype))
    for what, a, b in pairs:
        if a != b:
            native = what == "dtype" and _native(ours.dtype) == _native(theirs.dtype)
            yield Difference(f"{what} {a}, the other store has {b}", warning=native)
    before, after = (stored_document(array) for array in (ours, theirs))
    for key in ("attributes", "fill_value", "dimension_names"):
        if _text(before.get(key) or None) != _text(after.get(key) or None):
            yield Difference(f"other {key.replace('_', ' ')}", warning=True)


def _elements(ours: AnyArray, theirs: AnyArray, told: Callable[[int], None]) -> Difference | None:
    """Compare block by block; rows of a chunk that cannot be read are different."""
    elements = 0
    rows: list[int] = []
    unread = ""
    row_size = math.prod(ours.shape[1:])
    blocks = _blocks(ours, theirs)
    while blocks:
        start, stop = blocks.pop()
        try:
            different = _different(*(_read(array, start, stop) for array in (ours, theirs)))
        except TempozarrError as e:
            if stop - start > (unit := ours.chunks[0]):
                blocks += _cut(start, stop, unit)
                continue
            unread = unread or f" (some cannot be read: {e})"
            different = np.ones((stop - start) * row_size, bool)
        if different.any():
            elements += int(np.count_nonzero(different))
            found = np.flatnonzero(different)[[0, -1]] // row_size + start
            rows = [*rows[:1], *map(int, found)]
        told(stop * ours.nbytes // (ours.shape[0] if ours.shape else 1))
    if not rows:
        return None
    of = counted(math.prod(ours.shape), "element")
    message = f"{elements:,} of {of} differ, the first in row {rows[0]}{unread}"
    return Difference(message, elements=elements, rows=(rows[0], rows[-1] + 1))


def _blocks(ours: AnyArray, theirs: AnyArray) -> list[tuple[int, int]]:
    """Rows to read at once, first and last; the last block first."""
    if not ours.shape:
        return [(0, 1)]
    return _cut(0, ours.shape[0], block_rows(ours, theirs)) if ours.size else []


def _cut(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(i, min(i + step, stop)) for i in reversed(range(start, stop, step))]


def _read(array: AnyArray, start: int, stop: int) -> NDArray[Any]:
    if array.shape and array.dtype.kind not in "TO":
        return read_rows(array, start, stop)
    return np.asarray(array[start:stop] if array.shape else array[()], _native(array.dtype))


def _different(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the bits of each element differ, flat."""
    if a.dtype.kind in "TO":
        return np.asarray(a != b).reshape(-1)
    a, b = (np.ascontiguousarray(array).reshape(-1) for array in (a, b))
    size = a.dtype.itemsize
    if size in {1, 2, 4, 8}:
        return np.asarray(a.view(f"u{size}") != b.view(f"u{size}"))
    return np.any(a.view("u1").reshape(-1, size) != b.view("u1").reshape(-1, size), axis=1)


def _text(document: Any) -> str:
    return json.dumps(document, sort_keys=True)
