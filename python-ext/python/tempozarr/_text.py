"""Numbers and tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns, the first one flush left."""
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    )


def counted(n: int, thing: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def drawn(about: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Lines of a tree of paths: what is said about each of them, and below it what is in it."""
    inside: dict[str, list[str]] = {}
    for path in sorted(filter(None, about)):
        inside.setdefault(path.rpartition("/")[0], []).append(path)

    def draw(group: str, indent: str) -> Iterator[str]:
        paths = inside.get(group, [])
        for i, path in enumerate(paths, 1):
            branch, below = ("└── ", "    ") if i == len(paths) else ("├── ", "│   ")
            first, *more = about[path] or ("",)
            yield f"{indent}{branch}{path.rpartition('/')[2]}  {first}".rstrip()
            yield from (f"{indent}{below}    {line}" for line in more)
            yield from draw(path, indent + below)

    return draw("", "")


def in_bytes(nbytes: float) -> str:
    """Three digits or so of a number of bytes: `1.5 MiB`."""
    power = 0
    while nbytes >= 1000 and power < len(_UNITS) - 1:  # noqa: PLR2004 (three digits)
        nbytes /= 1024
        power += 1
    digits = 1 if power and nbytes < 100 else 0  # noqa: PLR2004
    return f"{nbytes:.{digits}f} {_UNITS[power]}"
