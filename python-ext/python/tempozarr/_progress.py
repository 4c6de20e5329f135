"""How far a long job is, for a callback or a bar."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Report: TypeAlias = bool | Callable[["Progress"], object]


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    done
        Rows so far, or stored bytes: see `unit`.
    total
        Those in the end, if that is known.
    seconds
        Time since the job began.
    what
        What is being done.
    unit
        What is counted: "rows" or "bytes".
    """

    done: int
    total: int | None
    seconds: float
    what: str
    unit: str = "rows"


class Reporter:
    """Tells a callback, or a bar if that is True, at most a few times a second.

    Raises
    ------
    ModuleNotFoundError
        If a bar is wanted and `tqdm` is not installed.
    """

    _INTERVAL = 0.1

    def __init__(self, report: Report, total: int | None, what: str, unit: str = "rows") -> None:
        self._total = total
        self._what = what
        self._unit = unit
        self._began = time.monotonic()
        self._next = 0.0
        self._bar: Any = None
        self._call = None if isinstance(report, bool) else report
        if report is True:
            try:
                from tqdm.auto import tqdm
            except ModuleNotFoundError as e:
                raise ModuleNotFoundError(
                    "progress=True draws its bar with tqdm, which is not installed: "
                    "pip install tqdm, or pass a function of a tempozarr.Progress"
                ) from e
            self._bar = tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True)

    def __call__(self, done: int, *, now: bool = False) -> None:
        """Report what is done; with `now`, even if the last report was a moment ago."""
        if self._call is None and self._bar is None:
            return
        time_ = time.monotonic()
        if time_ < self._next and not now:
            return
        self._next = time_ + self._INTERVAL
        if self._call is not None:
            self._call(Progress(done, self._total, time_ - self._began, self._what, self._unit))
        else:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
