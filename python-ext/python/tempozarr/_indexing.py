"""From what is written between the brackets to what `_core` reads.

The law: a selection gives what `zarr.Array` gives; where zarr-python refuses it (negative steps,
`None`, `...` beside a list, ...), what numpy gives; where numpy refuses too, numpy's own error.
"""

from __future__ import annotations

import math
import operator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tempozarr._core import Selector

Shape: TypeAlias = tuple[int, ...]


class Plan(NamedTuple):
    """What to read, and how it becomes the result.

    Either `selectors` (orthogonal, one per dimension) or `points` (coordinates of equal length)
    is read into an array of shape `block`. `take`, if any, is then how numpy indexes that
    block; otherwise the block has the elements of the result, whose shape is `shape`, and for an
    orthogonal plan `result[keep]` is a view of the result that has the block's dimensions.
    """

    block: Shape
    shape: Shape
    selectors: tuple[Selector, ...] = ()
    points: tuple[NDArray[np.int64], ...] | None = None
    take: tuple[Any, ...] | None = None
    keep: tuple[slice | None, ...] = ()
    scalar: bool = False


class _RefusedError(Exception):
    """`zarr.Array` would not take this selection."""


def plan(selection: Any, shape: Shape) -> Plan:
    """Plan `array[selection]`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As numpy raises them.
    """
    try:
        return _as_zarr(selection, shape)
    except _RefusedError:
        pass
    try:
        return _as_numpy(selection, shape)
    except _RefusedError as e:  # numpy lets huge unsigned indices wrap around
        raise IndexError(str(e)) from None


def plan_orthogonal(selection: Any, shape: Shape) -> Plan:
    """Plan `array.oindex[selection]`: each dimension is selected by itself.

    Raises
    ------
    IndexError
        An item that is no integer, slice, 1-D integer or 1-D boolean array, or out of bounds.
    """
    try:
        return _orthogonal(_expand(_items(selection), shape), shape)
    except _RefusedError as e:
        raise IndexError(
            "oindex expects at most one item per dimension, each an integer, a slice, or a 1-D "
            f"integer or boolean array within bounds, got {selection!r} for shape {shape} ({e})"
        ) from None


def plan_points(selection: Any, shape: Shape) -> Plan:
    """Plan `array.vindex[selection]`: points, or a mask of the array's own shape.

    Raises
    ------
    IndexError
        Neither, or out of bounds.
    """
    try:
        items = _items(selection)
        if _is_mask(items, shape):
            return _points(np.nonzero(items[0]), shape)
        return _points(items, shape)
    except _RefusedError as e:
        raise IndexError(
            f"vindex expects one integer or integer array for each of the {len(shape)} dimensions, "
            f"or one boolean mask of shape {shape}, got {selection!r} ({e}); "
            "use oindex for slices"
        ) from None


def split_points(points: tuple[NDArray[np.int64], ...]) -> tuple[Plan, tuple[NDArray[Any], ...]]:
    """Cover points by an orthogonal block; return its plan, and the points within the block."""
    found = [np.unique(p, return_inverse=True) for p in points]
    block = tuple(len(values) for values, _ in found)
    return Plan(block, block, tuple(v for v, _ in found)), tuple(inverse for _, inverse in found)


def _as_zarr(selection: Any, shape: Shape) -> Plan:
    if not all(map(_is_zarrs, selection if isinstance(selection, tuple) else (selection,))):
        raise _RefusedError
    items = _items(selection)
    arrays = [i for i in items if isinstance(i, np.ndarray)]
    if not arrays:
        expanded = _expand(items, shape)
        # zarr-python takes a selection of nothing but `int` and `slice` for an orthogonal one,
        # and gives a 0-d array for a single element; else (numpy integers, `...`), a scalar.
        scalar = not (shape and all(isinstance(i, int | slice) for i in items))
        return _orthogonal(expanded, shape, scalar=scalar)
    if _is_mask(items, shape):
        return _points(np.nonzero(arrays[0]), shape)
    if len(items) == len(shape) and all(_is_integer(i) or _is_integers(i) for i in items):
        return _points(items, shape)
    if len(arrays) == len(items) == len(shape) or (
        len(arrays) == 1
        and len(items) <= len(shape)
        and all(isinstance(i, np.ndarray | int) or _is_forward(i) for i in items)
    ):
        return _orthogonal(_expand(items, shape), shape)
    raise _RefusedError


def _as_numpy(selection: Any, shape: Shape) -> Plan:
    # Numpy itself judges the selection, on an array that takes no memory.
    result = np.broadcast_to(np.uint8(0), shape)[selection]
    selectors: list[Selector] = []
    take: list[Any] = []
    items = _items(selection)
    rest = len(shape) - sum(map(_dimensions, items))  # dimensions that `...` stands for
    for item in items if EllipsisType in map(type, items) else (*items, ...):
        axis = len(selectors)
        if item is None or _is_bool(item):
            take.append(item)
        elif item is Ellipsis:
            # Kept even where it stands for nothing: it sets arrays beside it apart.
            selectors += [(0, size, 1) for size in shape[axis : axis + rest]]
            take.append(item)
        elif isinstance(item, slice):
            selectors.append(_range(item, shape[axis]))
            take.append(slice(None))
        else:
            # A mask is its nonzero coordinates. Each axis is read at the indices that occur.
            is_mask = isinstance(item, np.ndarray) and item.dtype == np.bool_
            for coordinates in np.nonzero(item) if is_mask else (item,):
                values, inverse = np.unique(
                    _wrap(coordinates, len(selectors), shape), return_inverse=True
                )
                selectors.append(values)
                take.append(inverse.reshape(np.shape(coordinates))[()])
    return Plan(_counts(selectors), np.shape(result), tuple(selectors), take=tuple(take))


def _orthogonal(items: tuple[Any, ...], shape: Shape, *, scalar: bool = False) -> Plan:
    if len(items) != len(shape):
        raise _RefusedError("None, or a boolean that is no 1-D array")
    selectors: list[Selector] = []
    result: list[int] = []
    keep: list[slice | None] = []
    for axis, (item, size) in enumerate(zip(items, shape, strict=True)):
        selector: Selector
        if isinstance(item, slice):
            selector = _range(item, size)
        elif _is_integer(item):
            selectors.append((int(_wrap(item, axis, shape)), 1, 1))
            keep.append(None)
            continue
        elif isinstance(item, np.ndarray) and item.ndim == 1:
            if item.dtype == np.bool_:
                if len(item) != size:
                    raise _RefusedError(f"axis {axis} has size {size}, its mask {len(item)}")
                selector = np.flatnonzero(item)
            else:
                selector = _wrap(item, axis, shape)
        else:
            raise _RefusedError(f"axis {axis} cannot take this item")
        selectors.append(selector)
        keep.append(slice(None))
        result += _counts([selector])
    return Plan(
        _counts(selectors),
        tuple(result),
        tuple(selectors),
        keep=tuple(keep),
        scalar=scalar and not result,
    )


def _points(items: tuple[Any, ...], shape: Shape) -> Plan:
    if len(items) != len(shape) or not all(_is_integer(i) or _is_integers(i) for i in items):
        raise _RefusedError("not one integer array per dimension")
    wrapped = [_wrap(item, axis, shape) for axis, item in enumerate(items)]
    try:
        points = np.broadcast_arrays(*wrapped)
    except ValueError as e:
        raise _RefusedError(str(e)) from None
    # zarr-python: a single point is an array of one element, not of none.
    result = points[0].shape or (1,)
    return Plan(
        (math.prod(result),),
        result,
        points=tuple(np.ascontiguousarray(p).reshape(-1) for p in points),
    )


def _items(selection: Any) -> tuple[Any, ...]:
    return tuple(map(_item, selection if isinstance(selection, tuple) else (selection,)))


def _item(item: Any) -> Any:
    if item is None or isinstance(item, slice | EllipsisType) or _is_integer(item):
        return item
    if _is_bool(item):
        return bool(item)
    if isinstance(item, str | bytes):
        raise _RefusedError("text selects nothing")
    if hasattr(item, "__index__") and not hasattr(item, "__array__"):
        return operator.index(item)
    try:
        array = np.asarray(item)
    except ValueError as e:
        raise _RefusedError(str(e)) from None
    if array.size == 0 and not hasattr(item, "dtype"):
        return array.astype(np.int64)  # an empty list
    if array.dtype.kind not in "iub":
        raise _RefusedError(f"an array of {array.dtype} selects nothing")
    return array


def _expand(items: tuple[Any, ...], shape: Shape) -> tuple[Any, ...]:
    """Write out `...` and the dimensions left unsaid as full slices."""
    taken = sum(map(_dimensions, items))
    if taken > len(shape) or sum(i is Ellipsis for i in items) > 1:
        raise _RefusedError(f"{taken} items for {len(shape)} dimensions")
    rest = (slice(None),) * (len(shape) - taken)
    for at, item in enumerate(items):
        if item is Ellipsis:
            return items[:at] + rest + items[at + 1 :]
    return items + rest


def _dimensions(item: Any) -> int:
    if item is None or item is Ellipsis or _is_bool(item):
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1


def _range(item: slice, size: int) -> tuple[int, int, int]:
    indices = range(*item.indices(size))
    return indices.start, len(indices), indices.step


def _wrap(item: Any, axis: int, shape: Shape) -> NDArray[np.int64]:
    indices = np.asarray(item)
    size = shape[axis]
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < -size or high >= size:
            bad = high if high >= size else low
            raise _RefusedError(f"index {bad} is out of bounds for axis {axis} with size {size}")
        indices = indices.astype(np.int64)
        if low < 0:
            indices = np.where(indices < 0, indices + size, indices)
    return np.asarray(indices, np.int64)


def _counts(selectors: list[Selector]) -> Shape:
    return tuple(s[1] if isinstance(s, tuple) else len(s) for s in selectors)


def _is_bool(item: Any) -> bool:
    return isinstance(item, bool | np.bool_) or (
        isinstance(item, np.ndarray) and item.shape == () and item.dtype == np.bool_
    )


def _is_integer(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _is_integers(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.kind in "iu"


def _is_zarrs(item: Any) -> bool:
    """Whether zarr-python has a meaning for this item; not for empty and nested lists, `None`."""
    if isinstance(item, list):
        return item != [] and (
            all(map(_is_integer, item)) or all(isinstance(i, bool | np.bool_) for i in item)
        )
    return isinstance(item, int | slice | EllipsisType) or hasattr(item, "dtype")


def _is_forward(item: Any) -> bool:
    return isinstance(item, slice) and (item.step is None or operator.index(item.step) > 0)


def _is_mask(items: tuple[Any, ...], shape: Shape) -> bool:
    return (
        len(items) == 1
        and isinstance(items[0], np.ndarray)
        and items[0].dtype == np.bool_
        and items[0].shape == shape
        and shape != ()
    )
