"""Which chunks of an array are stored: its folder, listed. No chunk is opened."""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tempozarr._documents import is_v2
from tempozarr._errors import MetadataError
from tempozarr._folders import walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_STAGING = ".tempozarr/"
_NUMBER = "(0|[1-9][0-9]*)"


@dataclass(frozen=True)
class Listing:
    """The files in the folder of an array.

    Attributes
    ----------
    sizes
        Bytes of the file of each stored chunk, or shard, by its index; 0 for what is in its place
        and is no file, or a link to nothing.
    strays
        Names of the files that are none: no reader looks at them.
    grid
        Number of chunks in each dimension.
    unfinished
        Whether a flush of a `tempozarr.Writer` is to be finished.
    """

    sizes: Mapping[tuple[int, ...], int]
    strays: Sequence[str]
    grid: tuple[int, ...]
    unfinished: bool

    @property
    def expected(self) -> int:
        """Number of chunks of the whole array."""
        return math.prod(self.grid)

    @property
    def holes(self) -> int:
        """Number of chunks that are not stored though there are later ones, by the first index."""
        if not self.sizes or not self.grid:
            return 0
        last = max(index[0] for index in self.sizes)
        stored = sum(index[0] < last for index in self.sizes)
        return last * math.prod(self.grid[1:]) - stored

    def missing(self) -> Iterator[tuple[int, ...]]:
        """Indices of the chunks that are not stored, in order; one by one, as there may be many."""
        for number in range(self.expected):
            index: tuple[int, ...] = ()
            rest = number
            for length in reversed(self.grid):
                rest, i = divmod(rest, length)
                index = (i, *index)
            if index not in self.sizes:
                yield index


class Keys:
    """How chunks are called in the folder of an array.

    Raises
    ------
    MetadataError
        If that is another way than those of the zarr specifications.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        if is_v2(metadata):
            name, self._separator = "v2", metadata.get("dimension_separator") or "."
        else:
            encoding = metadata.get("chunk_key_encoding") or "default"
            encoding = {"name": encoding} if isinstance(encoding, str) else encoding
            name = encoding["name"]
            stated = (encoding.get("configuration") or {}).get("separator")
            self._separator = stated or {"default": "/"}.get(name, ".")
        if name not in {"default", "v2"} or self._separator not in ("/", "."):
            raise MetadataError(
                f"chunk_key_encoding: expected 'default' or 'v2' with a separator '/' or '.', got "
                f"{name!r} with {self._separator!r}: the chunks of such an array cannot be listed"
            )
        self._prefix = "c" if name == "default" else ""
        key = self.of([_NUMBER] * len(metadata["shape"]), re.escape)
        self._pattern = re.compile(key)
        # Of the folders that a chunk is in.
        self._folders = [re.compile(part) for part in key.split("/")[:-1]]

    def of(self, index: Sequence[object], escape: Any = str) -> str:
        """Name of a chunk."""
        if not index:
            return self._prefix or "0"
        first = [self._prefix] if self._prefix else []
        return str(escape(self._separator)).join([*first, *map(str, index)])

    def index(self, name: str) -> tuple[int, ...] | None:
        """Index of the chunk of that name; None if it is no such name."""
        found = self._pattern.fullmatch(name)
        return found and tuple(map(int, found.groups()))

    def leads(self, folder: str) -> bool:
        """Whether chunks may be in the folder of that name."""
        parts = folder.split("/")
        return len(parts) <= len(self._folders) and all(
            pattern.fullmatch(part) for pattern, part in zip(self._folders, parts, strict=False)
        )


def list_chunks(folder: Path, keys: Keys, grid: tuple[int, ...]) -> Listing:
    """List the files of an array."""
    sizes = {}
    strays = []
    unfinished = False

    def enters(name: str, is_linked: bool) -> bool:
        # Elsewhere, links may lead to anything.
        return chunk(name) is None and (keys.leads(name) or not is_linked)

    def chunk(name: str) -> tuple[int, ...] | None:
        index = keys.index(name)
        is_inside = index is not None and all(i < n for i, n in zip(index, grid, strict=True))
        return index if is_inside else None

    for name, entry in walk(folder, enters):
        index = chunk(name)
        if name.startswith(_STAGING):
            unfinished |= name == _STAGING + "journal.json"
        elif index is not None:
            size = _size(entry)
            if size is not None:
                sizes[index] = size
        elif name not in _DOCUMENTS:
            strays.append(name)
    return Listing(dict(sorted(sizes.items())), sorted(strays), grid, unfinished)


def _size(entry: os.DirEntry[str]) -> int | None:
    """Bytes of a file; 0 of what is none, and cannot be read; None of what has vanished."""
    try:
        status = entry.stat()
    except OSError:
        return 0 if entry.is_symlink() else None
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
