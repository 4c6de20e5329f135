"""Why a participant cannot, or reads something else: `reasons.toml`."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matrix.harness import Cell, Result

FILE = Path(__file__).with_name("reasons.toml")


@dataclass(frozen=True)
class Reason:
    """Explains cells of one verdict.

    `who` are the participants that it is about: readers, and writers of what they cannot write,
    unless `does` is only one of `read` and `write`. `writer` and `cases` narrow it down; all three
    are patterns with `*`. `said` is a regular expression for the detail. `known` is where in docs/
    a limit of ours, or of what we get, is listed: without it, ours have no excuse.
    """

    verdict: str
    who: tuple[str, ...]
    why: str
    said: str = ""
    does: str = ""
    writer: tuple[str, ...] = ("*",)
    cases: tuple[str, ...] = ("*",)
    known: str = ""

    def explains(self, cell: Cell) -> bool:
        """Whether this is why `cell` is as it is."""
        who = cell.reader or cell.writer
        return (
            self.verdict == cell.verdict
            and self.does in {"", "read" if cell.reader else "write"}
            and any(fnmatchcase(who, name) for name in self.who)
            and any(fnmatchcase(cell.writer, name) for name in self.writer)
            and any(fnmatchcase(cell.case, name) for name in self.cases)
            and re.search(self.said, cell.detail) is not None
        )


@dataclass
class Judged:
    """How many cells each reason explains of whom, with an example; and what is not explained."""

    explained: Counter[tuple[Reason, str]] = field(default_factory=Counter)
    examples: dict[tuple[Reason, str], Cell] = field(default_factory=dict)
    of: dict[Cell, Reason] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


def reasons() -> list[Reason]:
    """All of `reasons.toml`."""

    def parse() -> Iterator[Reason]:
        for verdict, entries in tomllib.loads(FILE.read_text(encoding="utf-8")).items():
            for entry in entries:
                options: dict[str, Any] = {
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in entry.items()
                }
                yield Reason(verdict, **options)

    return list(parse())


def _brevity(cell: Cell) -> tuple[int, str, str, str]:
    return len(cell.detail), cell.detail, cell.case, cell.writer


def judge(result: Result, ours: set[str]) -> Judged:
    """Hold every cell that is not equal against the reasons; the first that explains it counts.

    Of ours, only what is listed as known may be explained.
    """
    judged = Judged()
    table = reasons()
    for cell in (*result.refused, *result.cells):
        if cell.verdict == "equal":
            continue
        who = cell.reader or cell.writer
        reason = next((reason for reason in table if reason.explains(cell)), None)
        if reason is None or (who in ours and not reason.known):
            verb = "reads" if cell.reader else "writes"
            what = f"{cell.case} of {cell.writer}" if cell.reader else cell.case
            judged.problems.append(
                f"{who} {verb} {what}: {cell.verdict}, which {FILE.name} does not explain: "
                f"{cell.detail}"
            )
            continue
        judged.of[cell] = reason
        judged.explained[reason, who] += 1
        # Of all that was said the shortest, whichever comes first.
        key = (reason, who)
        judged.examples[key] = min(cell, judged.examples.get(key, cell), key=_brevity)
    used = {reason for reason, _ in judged.explained}
    judged.stale = [
        f"{FILE.name}: nothing is explained by {reason} any more"
        for reason in table
        if reason not in used
    ]
    return judged
