"""What comes of a run, for people: `docs/conformance.md`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from matrix.families import families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cases import Case
    from matrix.harness import Cell, Participant, Result
    from matrix.reasons import Judged, Reason

HEAD = """# Conformance: who reads what whom wrote

Small arrays, written by each program that can and read by each: the result of `make conformance`,
which writes this page. How it works: [conformance/README.md](../conformance/README.md#the-matrix).

{cases} cases (a chain of codecs, data type, layout, edges and fill value; dealt by the seed {seed})
make {stores} stores and **{cells} cells**, a cell being a store and a reader. In {equal} of them
every bit is as it was written; in {cannot} the reader says that it cannot; in {different} it reads
something else without an error. Each of these has [its reason](#reasons) below; one without is an
error of `make conformance`. Bits are compared with what was put in, for codecs that lose some with
what the writer reads back itself.

"Codec" is zarr-python with tempozarr installed, which finds `temporal_xor` by itself; "pipeline" is
`tempozarr.enable(strict=True)`, where Rust does all, or it is an error; "tempozarr" is
`tempozarr.open_array`; "tempozarr (Rust)" is zarrs with `tempozarr::register()`, read codec by
codec and fused. All others know nothing of tempozarr.
"""

LONGEST = 150  # of what is quoted of an error


def write_cells(file: Path, result: Result) -> None:
    """All cells, one JSON object a line."""
    with file.open("w", encoding="utf-8") as out:
        for cell in (*result.refused, *result.cells):
            print(json.dumps(asdict(cell)), file=out)


def document(
    seed: int,
    table: Sequence[Case],
    participants: Sequence[Participant],
    result: Result,
    judged: Judged,
) -> str:
    """The page."""
    counts = result.counts()
    head = HEAD.format(
        seed=seed,
        cases=len(table),
        stores=len({(cell.case, cell.writer) for cell in result.cells}),
        cells=f"{len(result.cells):,}",
        **{verdict: f"{counts[verdict]:,}" for verdict in ("equal", "cannot", "different")},
    )
    sections = (
        [head.rstrip()],
        _bars(participants, result, table, judged),
        _by_writer(participants, result),
        _by_family(participants, result),
        _reasons(participants, judged),
        _versions(participants, result),
    )
    return "\n".join(line for section in sections for line in [*section, ""]).rstrip() + "\n"


def _rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _bars(
    participants: Sequence[Participant], result: Result, table: Sequence[Case], judged: Judged
) -> Iterator[str]:
    """What this project promises, counted."""
    yield "## What is promised"
    yield ""
    cells = {(cell.writer, cell.case, cell.reader): cell for cell in result.cells}
    stores = {(cell.writer, cell.case) for cell in result.cells}
    xor = {case.name for case in table if case.uses_temporal_xor}
    ours = [p for p in participants if p.ours]
    zarr_python = [p.name for p in participants if p.name.startswith("zarr-python")]
    plain = [name for name in zarr_python if "+" not in name]
    codec = [name for name in zarr_python if name.endswith("+ codec")]

    def row(what: str, reader: str, chosen: set[tuple[str, str]]) -> tuple[str, ...]:
        rest = [cell for store in chosen if (cell := cells[*store, reader]).verdict != "equal"]
        counts = Counter(judged.of[cell].why for cell in rest)
        whys = "; ".join(f"{count}: {why}" for why, count in sorted(counts.items()))
        return what, reader, f"{len(chosen) - len(rest)} of {len(chosen)}", whys

    rows = []
    for name in plain:
        sound = {s for s in stores if s[0] == name and cells[*s, name].verdict == "equal"}
        rows += [row(f"what {name} writes and reads back", p.name, sound) for p in ours]
    for name in (p.name for p in ours if p.writes):
        written = {s for s in stores if s[0] == name}
        common = {s for s in written if s[1] not in xor}
        rows += [row(f"what {name} writes, but for `temporal_xor`", p, common) for p in plain]
        rows += [row(f"what {name} writes", p, written) for p in codec]
    yield from _rows(("stores", "reader", "equal", "the rest"), rows)


def _by_writer(participants: Sequence[Participant], result: Result) -> Iterator[str]:
    yield "## By writer"
    yield ""
    yield "Columns are writers, rows are readers: equal / cannot / different (left out if none)."
    yield ""
    counts = Counter((cell.reader, cell.writer, cell.verdict) for cell in result.cells)

    def entry(reader: str, writer: str) -> str:
        found = [counts[reader, writer, verdict] for verdict in ("equal", "cannot", "different")]
        while len(found) > 1 and not found[-1]:
            found.pop()
        return " / ".join(map(str, found))

    writers = [p.name for p in participants if p.writes]
    rows = [[p.name, *(entry(p.name, writer) for writer in writers)] for p in participants]
    yield from _rows(("", *writers), rows)


def _by_family(participants: Sequence[Participant], result: Result) -> Iterator[str]:
    yield "## By chain of codecs"
    yield ""
    yield (
        "Of all writers' stores: `=` all are read, `-` none can be; else equal / cannot / "
        "different (left out if none)."
    )
    yield ""
    names = sorted((family.name for family in families()), key=len, reverse=True)
    counts = Counter(
        (_family(cell.case, names), cell.reader, cell.verdict) for cell in result.cells
    )

    def entry(family: str, reader: str) -> str:
        found = [counts[family, reader, verdict] for verdict in ("equal", "cannot", "different")]
        match found:
            case [0, 0, 0]:
                return ""
            case [_, 0, 0]:
                return "="
            case [0, _, 0]:
                return "-"
            case [equal, cannot, 0]:
                return f"{equal} / {cannot}"
        return " / ".join(map(str, found))

    rows = [
        [f"`{family.name}`", *(entry(family.name, p.name) for p in participants)]
        for family in families()
    ]
    yield from _rows(("", *(p.name for p in participants)), rows)


def _family(case: str, names: Sequence[str]) -> str:
    """The family of `case`, whose name begins with it; `names` has long ones first."""
    return next(name for name in names if case.startswith(f"{name}-"))


def _reasons(participants: Sequence[Participant], judged: Judged) -> Iterator[str]:
    yield "## Reasons"
    yield ""
    yield (
        "From [reasons.toml](../conformance/matrix/reasons.toml), with how many cells each "
        "explains, and what the program says (or reads) in one of them."
    )
    for participant in participants:
        mine = [key for key in judged.explained if key[1] == participant.name]
        if not mine:
            continue
        yield ""
        yield f"### {participant.name}"
        rows = []
        for key in sorted(mine, key=lambda key: (*_rank(key[0]), -judged.explained[key])):
            reason, cell = key[0], judged.examples[key]
            what = {"cannot": f"cannot {reason.does}".strip(), "different": "reads something else"}
            rows.append(
                (
                    judged.explained[key],
                    what[reason.verdict],
                    reason.why + (f" ([known]({reason.known}))" if reason.known else ""),
                    _quoted(cell),
                )
            )
        yield from _rows(("cells", "", "why", "for example"), rows)


def _rank(reason: Reason) -> tuple[bool, bool]:
    return reason.verdict == "cannot", reason.does == "write"


def _quoted(cell: Cell) -> str:
    text = " ".join(cell.detail.split()).replace("|", "\\|").replace("`", "'")
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return f"`{cell.case}`: {short}" if cell.verdict == "different" else f"`{short}`"


def _versions(participants: Sequence[Participant], result: Result) -> Iterator[str]:
    yield "## Versions"
    yield ""
    same: dict[str, list[str]] = {}
    for p in participants:
        versions = ", ".join(f"{name} {text}" for name, text in result.versions[p.name].items())
        same.setdefault(versions, []).append(p.name)
    yield from _rows(("", "versions"), ((", ".join(names), text) for text, names in same.items()))
