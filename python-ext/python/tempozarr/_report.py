"""What `tempozarr.copy` did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tempozarr._by_path import ByPath
from tempozarr._text import aligned, in_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ArrayReport:
    """What became of one array.

    Attributes
    ----------
    rows
        Length of the array.
    nbytes
        Decoded bytes of all rows.
    stored_before, stored_after
        Bytes of the files of its chunks; None where the source is no local store.
    seconds
        Time that this call took for it.
    resumed_from
        Row that this call began at: those before had been copied already.
    verified
        Whether all of it was read back and compared.
    max_error
        Largest absolute error, if verified and not equal bit for bit: one for each place of the
        last dimension of a row; a single one where a row is one value.
    """

    rows: int
    nbytes: int
    stored_before: int | None
    stored_after: int
    seconds: float
    resumed_from: int
    verified: bool
    max_error: float | tuple[float, ...] | None


@dataclass(frozen=True)
class CopyReport(ByPath[ArrayReport]):
    """What became of the arrays of a copied store, by path; `print(report)` is a table.

    A store that is one array has the path "".
    """

    arrays: Mapping[str, ArrayReport]
    seconds: float = field(compare=False)

    @property
    def rows(self) -> int:
        """Rows of all arrays."""
        return sum(array.rows for array in self.values())

    @property
    def nbytes(self) -> int:
        """Decoded bytes of all arrays."""
        return sum(array.nbytes for array in self.values())

    @property
    def stored_before(self) -> int | None:
        """Stored bytes of all arrays in the source; None if it is no local store."""
        sizes = [array.stored_before for array in self.values()]
        return None if None in sizes else sum(filter(None, sizes))

    @property
    def stored_after(self) -> int:
        """Stored bytes of all arrays in the target."""
        return sum(array.stored_after for array in self.values())

    @property
    def verified(self) -> bool:
        """Whether everything was read back and compared."""
        return all(array.verified for array in self.values())

    def __str__(self) -> str:
        table = [
            [
                "array",
                "rows",
                "decoded",
                "stored before",
                "after",
                "seconds",
                "from row",
                "verified",
            ],
            *(_line(path or "array", array) for path, array in self.items()),
        ]
        if len(self) > 1:
            before = "?" if self.stored_before is None else in_bytes(self.stored_before)
            sizes = [in_bytes(self.nbytes), before, in_bytes(self.stored_after)]
            table.append(["total", f"{self.rows:,}", *sizes, f"{self.seconds:.1f}", "", ""])
        return aligned(table)


def _line(path: str, array: ArrayReport) -> list[str]:
    verified = "bit for bit" if array.verified else "no"
    if array.max_error is not None:
        verified = f"error {np.max(array.max_error):.3g}"
    return [
        path,
        f"{array.rows:,}",
        in_bytes(array.nbytes),
        "?" if array.stored_before is None else in_bytes(array.stored_before),
        in_bytes(array.stored_after),
        f"{array.seconds:.1f}",
        f"{array.resumed_from:,}",
        verified,
    ]
