"""How far two arrays differ, and whether codecs may be the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tempozarr.schema import ArraySchema

_ROUNDING = {"bitround", "cast_value", "fixedscaleoffset", "quantize", "scale_offset", "zfpy"}


def first_difference(ours: NDArray[Any], theirs: NDArray[Any]) -> int | None:
    """Give the first row in which bits differ."""
    word = np.uint64 if ours.nbytes % 8 == 0 else np.uint8
    a, b = (np.ascontiguousarray(rows).reshape(-1).view(word) for rows in (ours, theirs))
    if np.array_equal(a, b):
        return None
    return int(np.argmax(a != b)) * a.itemsize // (ours.nbytes // len(ours))


def errors(ours: NDArray[Any], theirs: NDArray[Any], *, relative: bool = False) -> Any:
    """Give the largest error in each place of the last dimension of a row.

    It is absolute, or relative to the values of `ours`.
    """
    if ours.dtype.kind in "mM":
        ours, theirs = ours.view("i8"), theirs.view("i8")
    wide = "c16" if ours.dtype.kind == "c" else "f8"
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        found = np.abs(ours.astype(wide) - theirs.astype(wide))
        if relative:
            found /= np.abs(ours.astype(wide))
        same = (ours == theirs) | ((ours != ours) & (theirs != theirs))  # noqa: PLR0124 (NaN)
    found[same] = 0
    found[np.isnan(found)] = np.inf  # a number became NaN, or the other way round
    return found.max(axis=tuple(range(max(found.ndim - 1, 1))))


def rounds(schema: ArraySchema) -> bool:
    """Whether the codecs may change values."""
    dtype = schema.numpy_dtype
    for codec in schema.codecs:
        stated: Any = codec["configuration"]
        name = str(codec["name"]).removeprefix("numcodecs.")
        if name in _ROUNDING:
            return True
        if name == "delta":
            if np.dtype(stated["dtype"]).kind in "fc" or not _holds(stated["astype"], dtype):
                return True
        elif name == "astype":
            # Of integers, a Writer refuses those that do not fit.
            integers = np.dtype(stated["encode_dtype"]).kind in "iu" and dtype.kind in "iu"
            if not integers and not _holds(stated["encode_dtype"], dtype):
                return True
        dtype = np.dtype(stated.get("encode_dtype") or stated.get("astype") or dtype)
    return False


def _holds(wide: Any, narrow: np.dtype[Any]) -> bool:
    """Whether a data type has all values of another."""
    big_integers = narrow.kind in "iumM" and narrow.itemsize == 8  # noqa: PLR2004
    if narrow.kind in "mM":
        narrow = np.dtype(np.int64)
    return np.can_cast(narrow, wide) and not (big_integers and np.dtype(wide).kind in "fc")
