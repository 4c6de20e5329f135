"""What `tempozarr.advise` found."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tempozarr._by_path import ByPath
from tempozarr._plan import ArrayPlan, plan, sharded
from tempozarr._text import aligned, counted, in_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tempozarr._candidates import Chain
    from tempozarr.schema import ArraySchema, GroupSchema

    Goal: TypeAlias = Literal["smallest", "fastest", "balanced"]

GOALS: tuple[Goal, ...] = ("balanced", "smallest", "fastest")
_MOST_ENCODE = 400  # times as long as decoding
_SIZE_WEIGHT = 2  # 1.4 times smaller counts as much as 2 times faster
_NEAR_SIZE, _NEAR_SPEED = 0.01, 0.05
_PLAIN = "zarr-python"


@dataclass(frozen=True)
class Candidate:
    """A chain and a number of rows in a chunk, and what was measured of them.

    Attributes
    ----------
    array
        Path of the array.
    chain
        The codecs in a few words; `codecs` and how to encode are what a schema has.
    chunk_rows
        Rows in a chunk.
    nbytes, stored
        Bytes of all rows, decoded and (estimated from the sample) stored.
    decode_gbs, encode_gbs
        Decoded bytes a second, in units of 10^9, that this library decodes from memory into memory
        on all of its threads, and encodes.
    windows_per_s
        Windows a second, at random places; None if the access is "scan".
    max_error
        Largest error, absolute or as `advise` was asked; 0 if all values are equal.
    lossless
        Whether every bit is read back, of all rows that were looked at.
    readers
        Who reads an array of these codecs and this data type.
    pareto
        Whether nothing is both smaller and faster; it and `recommended_for` are among what was
        measured on the whole sample, without loss or within the stated error.
    recommended_for
        Goals for which this is the best one.
    is_default
        Whether its chain is what a schema has by default: the yardstick of "balanced".
    is_current
        Whether the source is stored so.
    screened
        Whether it was given up after a first look: its figures are of a small part of the sample.
    """

    array: str
    chain: str
    chunk_rows: int
    nbytes: int
    stored: int
    decode_gbs: float
    encode_gbs: float
    windows_per_s: float | None
    max_error: float
    lossless: bool
    readers: tuple[str, ...]
    is_default: bool
    is_current: bool
    screened: bool
    codecs: Chain = field(repr=False)
    pareto: bool = False
    recommended_for: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Decoded bytes divided by stored bytes."""
        return self.nbytes / max(self.stored, 1)

    @property
    def speed(self) -> float:
        """Windows a second if these were asked for, else decoded GB/s."""
        return self.decode_gbs if self.windows_per_s is None else self.windows_per_s

    def row(self) -> dict[str, Any]:
        """One row of a table, of plain Python values."""
        row = {k: v for k, v in self.__dict__.items() if k != "codecs"}
        return row | {"ratio": self.ratio}


def recommend(candidates: Sequence[Candidate], allowed: float | None) -> dict[str, Candidate]:
    """Choose the best candidate for each goal; nothing if there is none."""
    found = eligible(candidates, allowed)
    if not found:
        return {}
    # What takes longer to write is for archives: "smallest".
    quick = [c for c in found if c.encode_gbs * _MOST_ENCODE >= c.decode_gbs] or found
    default = _default(candidates)

    def gain(c: Candidate) -> float:
        return min((c.ratio / default.ratio) ** _SIZE_WEIGHT, c.speed / default.speed)

    return {
        "balanced": _nearly_best(
            quick, gain, _NEAR_SPEED, lambda c: (_PLAIN in c.readers, gain(c))
        ),
        "smallest": _nearly_best(found, lambda c: c.ratio, _NEAR_SIZE, lambda c: c.speed),
        "fastest": _nearly_best(found, lambda c: c.speed, _NEAR_SPEED, lambda c: c.ratio),
    }


def _default(candidates: Sequence[Candidate]) -> Candidate:
    """The chain that a schema has by default, in chunks of which it is the fastest."""
    return max((c for c in candidates if c.is_default), key=lambda c: (not c.screened, c.speed))


def eligible(candidates: Sequence[Candidate], allowed: float | None) -> list[Candidate]:
    """What may be recommended: measured well, and without loss or within an error."""
    return [
        c
        for c in candidates
        if not c.screened and (c.lossless or (allowed is not None and c.max_error <= allowed))
    ]


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one beats in both size and speed."""
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.stored, -c.speed)):
        if not found or candidate.speed > found[-1].speed:
            found.append(candidate)
    return found


def _nearly_best(
    candidates: Sequence[Candidate],
    score: Callable[[Candidate], float],
    slack: float,
    prefer: Callable[[Candidate], Any],
) -> Candidate:
    """The one to prefer of those whose scores are nearly the highest."""
    enough = max(map(score, candidates)) * (1 - slack)
    return max((c for c in candidates if score(c) >= enough), key=prefer)


@dataclass(frozen=True)
class ArrayAdvice:
    """Advice for one array; `print` shows its frontier.

    Attributes
    ----------
    path
        Path of the array, "" for the only one.
    schema
        What the array is.
    rows
        Length of the array.
    sampled, checked
        Rows that were encoded, and rows in which narrowings were looked for losses.
    window
        Rows in a window; None if the access is "scan".
    max_error, relative
        The error that was allowed; None for none.
    stored_now
        Bytes of the files of its chunks now; None where the source is no local store.
    candidates
        All that was measured, in the order of size.
    """

    path: str
    schema: ArraySchema
    rows: int
    sampled: int
    checked: int
    window: int | None
    max_error: float | None
    relative: bool
    stored_now: int | None
    candidates: tuple[Candidate, ...]

    @property
    def current(self) -> Candidate | None:
        """How the source is stored; None if it is in no store or by codecs that Rust has not.

        Of LZ4 and zstd no store says how they were encoded: it is what makes the size nearest to
        that of the store.
        """
        return next((c for c in self.candidates if c.is_current), None)

    @property
    def default(self) -> Candidate:
        """The chain that a schema has by default: the yardstick of "balanced"."""
        return _default(self.candidates)

    def candidate(self, goal: Goal | Candidate = "balanced") -> Candidate:
        """The candidate that is recommended for a goal; a candidate is itself.

        Raises
        ------
        ValueError
            If the goal is another one than "smallest", "fastest" and "balanced".
        """
        if isinstance(goal, Candidate):
            return goal
        _check_goal(goal)
        return next(c for c in self.candidates if goal in c.recommended_for)

    def best(self, goal: Goal | Candidate = "balanced") -> ArraySchema:
        """The schema with the codecs that are recommended for a goal, or of a candidate."""
        best = self.candidate(goal)
        return best.codecs.schema(self.schema, best.ratio)

    def layout(self, goal: Goal | Candidate = "balanced") -> ArrayPlan:
        """The layout that is recommended for a goal, or of a candidate."""
        best = self.candidate(goal)
        access = "scans" if self.window is None else f"windows of {counted(self.window, 'row')}"
        return ArrayPlan(
            chunk_rows=best.chunk_rows,
            shard_rows=sharded(
                self.rows, self.schema.row_nbytes, best.ratio, best.chunk_rows, self.window
            ),
            row_nbytes=self.schema.row_nbytes,
            ratio=best.ratio,
            ratio_source="measured",
            reason=f"{', '.join(best.recommended_for) or 'chosen'} for {access}, as measured.",
        )

    def verdict(self, goal: Goal = "balanced") -> str:
        """One sentence: what is recommended, and what a move would save."""
        best, current = self.candidate(goal), self.current
        told = f"{goal}: {best.chain} in chunks of {counted(best.chunk_rows, 'row')}"
        if best is current:
            return f"{told}, as it is stored now"
        if current is not None:
            size = _times(current.stored / best.stored, "smaller", "larger")
            speed = _times(best.speed / current.speed, "faster", "slower")
            told += f"; against now, {size} and {speed}"
        if self.stored_now is not None:
            saved = self.stored_now - best.stored
            does = f"saves {in_bytes(saved)}" if saved >= 0 else f"costs {in_bytes(-saved)}"
            share = abs(saved) / max(self.stored_now, 1)
            told += f"; a move {does} of {in_bytes(self.stored_now)} ({share:.0%})"
        return told

    def __str__(self) -> str:
        shown = [c for c in self.candidates if c.pareto or c.recommended_for or c.is_current]
        table = [self._head(), *(self._line(c) for c in shown)]
        lines = [self.title, "", aligned(table), "", *(self.verdict(goal) for goal in GOALS)]
        if rest := len(self.candidates) - len(shown):
            lines.append(f"{counted(rest, 'other candidate')} in .table: none is on the frontier.")
        return "\n".join(lines)

    @property
    def title(self) -> str:
        """What was looked at."""
        shape = f"({', '.join(map(str, ('rows', *self.schema.row_shape)))})"
        told = (
            f"{self.path or self.schema.name}: {counted(self.rows, 'row')} of {self.schema.dtype} "
            f"{shape}, {in_bytes(self.rows * self.schema.row_nbytes)}"
        )
        told += f"; {self._share(self.sampled)} encoded"
        if self.checked < self.rows:
            told += f", {self._share(self.checked)} checked for losses"
        if self.max_error is not None:
            kind = "relative" if self.relative else "absolute"
            told += f"; {kind} errors up to {self.max_error:g} allowed"
        return told

    def _share(self, rows: int) -> str:
        return "all" if rows == self.rows else f"{rows / self.rows:.2g} of it"

    def _head(self) -> list[str]:
        speed = "decode GB/s" if self.window is None else "windows/s"
        return ["chain", "chunk rows", "stored", "ratio", speed, "encode GB/s", "error", "for"]

    def _line(self, c: Candidate) -> list[str]:
        notes = [*c.recommended_for, *(["now"] if c.is_current else [])]
        if _PLAIN not in c.readers:
            notes.append("(needs tempozarr)")
        return [
            c.chain,
            f"{c.chunk_rows:,}",
            in_bytes(c.stored),
            f"{c.ratio:.2f}",
            f"{c.speed:,.0f}" if self.window is not None else f"{c.speed:.2f}",
            f"{c.encode_gbs:.3f}",
            "none" if c.lossless else f"{c.max_error:.2g}",
            ", ".join(notes),
        ]

    def _repr_html_(self) -> str:
        rows = [c for c in self.candidates if c.pareto or c.recommended_for or c.is_current]
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self._head())
        body = "".join(
            f"<tr style='font-weight: {'bold' if c.recommended_for else 'normal'}'>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in self._line(c))
            + "</tr>"
            for c in rows
        )
        verdicts = "<br>".join(escape(self.verdict(goal)) for goal in GOALS)
        return (
            f"<p><b>{escape(self.title)}</b></p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><p>{verdicts}</p>"
        )


@dataclass(frozen=True)
class Advice(ByPath[ArrayAdvice]):
    """Advice for the arrays of a source, by path; `print(advice)` shows it.

    The only array of a source that is one has the path "".

    Attributes
    ----------
    arrays
        Advice for each array.
    skipped
        Paths of arrays that no schema describes or that have no rows, and why.
    seconds
        How long it took.
    """

    arrays: Mapping[str, ArrayAdvice]
    skipped: Mapping[str, str]
    seconds: float = field(compare=False)
    _group: GroupSchema | None = field(default=None, repr=False)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each candidate: the attributes of a `Candidate`, and its ratio."""
        return [c.row() for array in self.values() for c in array.candidates]

    def best(self, goal: Goal = "balanced") -> ArraySchema | GroupSchema:
        """What is recommended for a goal, as a schema for `Writer` and `copy`.

        Raises
        ------
        ValueError
            If the goal is another one than "smallest", "fastest" and "balanced".
        """
        _check_goal(goal)
        if self._group is None:
            return self[""].best(goal)
        return _replaced(self._group, {path: array.best(goal) for path, array in self.items()})

    def now(self) -> ArraySchema | GroupSchema:
        """How the source is stored, as a schema: also how it was encoded, as far as sizes tell."""
        now = {
            path: array.current.codecs.schema(array.schema) if array.current else array.schema
            for path, array in self.items()
        }
        return now[""] if self._group is None else _replaced(self._group, now)

    def layout(self, goal: Goal = "balanced") -> dict[str, ArrayPlan]:
        """What is recommended for a goal, as a layout for `Writer` and `copy`.

        Arrays that were not measured have what `plan` gives them.

        Raises
        ------
        ValueError
            If the goal is another one than "smallest", "fastest" and "balanced".
        """
        _check_goal(goal)
        measured = {path: array.layout(goal) for path, array in self.items()}
        others = {} if self._group is None else dict(plan(self._group))
        return {**others, **measured}

    def to_pandas(self) -> Any:
        """`table` as a `pandas.DataFrame`.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as e:
            raise ModuleNotFoundError(
                "to_pandas() needs pandas, which is not installed: pip install pandas, or use "
                ".table"
            ) from e
        return pd.DataFrame(self.table)

    def to_polars(self) -> Any:
        """`table` as a `polars.DataFrame`.

        Raises
        ------
        ModuleNotFoundError
            If polars is not installed.
        """
        try:
            import polars as pl
        except ModuleNotFoundError as e:
            raise ModuleNotFoundError(
                "to_polars() needs polars, which is not installed: pip install polars, or use "
                ".table"
            ) from e
        return pl.DataFrame([_listed(row) for row in self.table])

    def as_json(self) -> str:
        """Everything as JSON: an object of `arrays`, `skipped` and `seconds`."""
        arrays = {
            path: {
                "rows": array.rows,
                "sampled": array.sampled,
                "checked": array.checked,
                "stored_now": array.stored_now,
                "candidates": [
                    _listed(c.row()) | {"codecs": c.codecs.codecs} | c.codecs.encoding._asdict()
                    for c in array.candidates
                ],
                "layout": {goal: _finite(asdict(array.layout(goal))) for goal in GOALS},
            }
            for path, array in self.items()
        }
        return json.dumps(
            {"arrays": arrays, "skipped": dict(self.skipped), "seconds": self.seconds},
            allow_nan=False,
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw size against speed, one panel for each array, its frontier as a line.

        Parameters
        ----------
        path
            Where to save the picture, in the format that its ending says; None to save nothing.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as e:
            raise ModuleNotFoundError(
                "plot() needs matplotlib, which is not installed: pip install matplotlib"
            ) from e
        columns = min(len(self), 3)
        lines = -(-len(self) // columns)
        figure = Figure(figsize=(7.5 * columns, 5 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for axes, array in zip(panels, self.values(), strict=False):
            _draw(axes, array)
        for axes in list(panels)[len(self) :]:
            axes.set_axis_off()
        if path is not None:
            figure.savefig(path, dpi=130)
        return figure

    def __str__(self) -> str:
        parts = [str(array) for array in self.values()]
        parts += [f"{path}: skipped: {reason}" for path, reason in self.skipped.items()]
        return "\n\n".join([*parts, f"measured in {self.seconds:.0f} seconds"])

    def _repr_html_(self) -> str:
        skipped = "".join(
            f"<p>{escape(f'{path}: skipped: {reason}')}</p>"
            for path, reason in self.skipped.items()
        )
        return "".join(array._repr_html_() for array in self.values()) + skipped


def _times(factor: float, more: str, less: str) -> str:
    return f"{factor:.2f}x {more}" if factor >= 1 else f"{1 / factor:.2f}x {less}"


def _check_goal(goal: str) -> None:
    if goal not in GOALS:
        raise ValueError(f"goal: expected 'balanced', 'smallest' or 'fastest', got {goal!r}")


def _replaced(
    group: GroupSchema, schemas: Mapping[str, ArraySchema], prefix: str = ""
) -> GroupSchema:
    """A group with other arrays at some paths."""
    arrays = tuple(schemas.get(f"{prefix}{array.name}", array) for array in group.arrays)
    groups = tuple(_replaced(g, schemas, f"{prefix}{g.name}/") for g in group.groups)
    return group.model_copy(update={"arrays": arrays, "groups": groups})


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without tuples and infinities, which neither JSON nor a data frame has."""
    return _finite({k: list(v) if isinstance(v, tuple) else v for k, v in row.items()})


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    bad = {k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    return {k: None if k in bad else v for k, v in row.items()}


def _draw(axes: Axes, array: ArrayAdvice) -> None:
    shown = [c for c in array.candidates if not c.screened]
    groups = [
        ("given up at first sight", [c for c in array.candidates if c.screened], "#d5dae1"),
        ("candidates", [c for c in shown if not c.pareto], "#8795a8"),
        ("frontier", [c for c in shown if c.pareto], "#e4572e"),
    ]
    for label, found, colour in groups:
        line = "-" if label == "frontier" else ""
        x, y = [c.ratio for c in found], [c.speed for c in found]
        axes.plot(x, y, marker="o", linestyle=line, color=colour, markersize=5, label=label)
    for name, marker, marked in (("default", "+", array.default), ("now", "x", array.current)):
        if marked is not None:
            at, label = ([marked.ratio], [marked.speed]), f"{name}: {marked.chain}"
            axes.scatter(*at, s=120, color="#1d3557", marker=marker, label=label, zorder=3)
    best: dict[int, Candidate] = {}
    for candidate in array.candidates:
        if candidate.recommended_for:
            best[id(candidate)] = candidate
    for candidate in best.values():
        axes.annotate(
            f"{', '.join(candidate.recommended_for)}:\n{candidate.chain}",
            (candidate.ratio, candidate.speed),
            textcoords="offset points",
            xytext=(-6, -22),
            ha="right",
            fontsize=7,
        )
    axes.set_xlabel("times smaller than decoded")
    axes.set_ylabel("decode GB/s" if array.window is None else "windows/s")
    axes.set_title(array.path or array.schema.name, fontsize=10)
    axes.legend(fontsize=7, frameon=False)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
