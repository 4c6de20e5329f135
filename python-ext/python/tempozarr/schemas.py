"""Ready-made schemas of market data, to use as they are or to learn from.

Each function gives an `ArraySchema`; `market` joins them into the schema of one market. `row` names
the first dimension: xarray takes the array of that name for the coordinate of all rows.
Further keywords go to `ArraySchema`: `description`, `codecs`, `compression_ratio_hint`, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tempozarr.schema import ArraySchema, GroupSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["features", "market", "order_book", "targets", "timestamps"]

# As CF conventions spell them, which xarray reads.
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def order_book(
    levels: int = 25,
    *,
    name: str = "book",
    fields: Sequence[str] = ("price", "size", "count"),
    dtype: str = "float32",
    float16: bool = False,
    row: str = "row",
    **settings: Any,
) -> ArraySchema:
    """Order book: rows of `(2 * levels, fields)`, the bids first, best first on each side.

    Parameters
    ----------
    levels
        Levels of each side.
    fields
        What is known of a level.
    float16
        Store as float16, which ends at 65,504 and has 11 significant bits: normalise prices
        first, say to basis points of the mid price.
    """
    sides = f"levels 0-{levels - 1} are bids, {levels}-{2 * levels - 1} are asks, best first"
    return ArraySchema(
        **{"description": f"Order book; {sides}"} | settings,
        name=name,
        dtype=dtype,
        row_shape=(2 * levels, len(fields)),
        columns=fields,
        dimension_names=(row, f"{name}_level", f"{name}_field"),
        float16=float16,
    )


def timestamps(
    name: str = "time",
    unit: str = "ns",
    *,
    datetime: bool = False,
    row: str = "row",
    **settings: Any,
) -> ArraySchema:
    """Times since 1970: int64, which xarray decodes to times too, or datetime64.

    Parameters
    ----------
    unit
        "s", "ms", "us" or "ns".
    datetime
        Whether numpy shall see datetime64 instead of integers.

    Raises
    ------
    ValueError
        If the unit is another one.
    """
    if unit not in _UNITS:
        raise ValueError(f"unit: expected one of {', '.join(_UNITS)}, got {unit!r}")
    if datetime:
        return ArraySchema(
            **settings, name=name, dtype=f"datetime64[{unit}]", dimension_names=(row,)
        )
    attributes = {"units": f"{_UNITS[unit]} since 1970-01-01"} | settings.pop("attributes", {})
    return ArraySchema(
        **settings, name=name, dtype="int64", dimension_names=(row,), attributes=attributes
    )


def features(
    columns: Sequence[str],
    *,
    name: str = "features",
    dtype: str = "float32",
    float16: bool = False,
    row: str = "row",
    **settings: Any,
) -> ArraySchema:
    """Table of numbers: one row of named columns at a time."""
    return ArraySchema(
        **settings,
        name=name,
        dtype=dtype,
        row_shape=(len(columns),),
        columns=columns,
        dimension_names=(row, f"{name}_column"),
        float16=float16,
    )


def targets(
    columns: Sequence[str],
    *,
    name: str = "targets",
    late: bool = True,
    **settings: Any,
) -> ArraySchema:
    """Table like `features`, written in the end: a target is not known before its future is."""
    return features(columns, name=name, late=late, **settings)


def market(
    levels: int = 25,
    *,
    name: str = "",
    feature_columns: Sequence[str] = (),
    target_columns: Sequence[str] = (),
    float16: bool = False,
    row: str = "time",
    unit: str = "ns",
    **settings: Any,
) -> GroupSchema:
    """One market: times, order book, and features and targets if any are named.

    Parameters
    ----------
    levels
        Levels of each side of the book.
    name
        Name of the group; empty for the root of a store.
    feature_columns, target_columns
        Columns of `features` and `targets`; without any, the array is left out.
    float16
        Store book, features and targets as float16.
    row
        Name of the first dimension and of the times.
    unit
        Of the times.
    **settings
        `description` and `attributes` of the group, or more `groups` in it.
    """
    arrays = [
        timestamps(row, unit, row=row),
        order_book(levels, float16=float16, row=row),
    ]
    if feature_columns:
        arrays.append(features(feature_columns, float16=float16, row=row))
    if target_columns:
        arrays.append(targets(target_columns, float16=float16, row=row))
    return GroupSchema(**settings, name=name, arrays=tuple(arrays))
