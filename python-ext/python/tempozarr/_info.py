"""What is in a store: layouts, codecs, sizes. No chunk is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempozarr._array import Array, Cache, chunking, codec_name, located, opened, sound_nodes
from tempozarr._chunks import Keys, list_chunks
from tempozarr._errors import StoreError, TempozarrError
from tempozarr._objects import Prefix
from tempozarr._text import counted, drawn, in_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tempozarr._array import Source


@dataclass(frozen=True)
class ArrayInfo:
    """One array.

    Attributes
    ----------
    zarr_format
        2 or 3.
    shape, dtype
        As numpy has them.
    chunks
        Shape of what is decoded at once: the inner chunks where the array is sharded.
    shards
        Shape of what is stored in one file, where the array is sharded.
    codecs
        Names of the codecs of a chunk, in the order of writing, with their levels.
    fused
        Whether they run in one pass over memory.
    explanation
        The steps of reading, or why the codecs run one by one.
    nbytes
        Decoded bytes of the whole array; None if elements are of variable length.
    stored_nbytes
        Bytes of the files of its chunks.
    files, expected
        Number of chunks (of shards, where the array is sharded) that are stored, and of all. Those
        that are not read as the fill value.
    strays
        Number of files in its folder that are no chunks.
    """

    zarr_format: int
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: tuple[str, ...]
    fused: bool
    explanation: str
    nbytes: int | None
    stored_nbytes: int
    files: int
    expected: int
    strays: int

    @property
    def missing(self) -> int:
        """Number of chunks, or shards, that are not stored."""
        return self.expected - self.files

    @property
    def ratio(self) -> float | None:
        """Decoded bytes divided by stored bytes; those of missing chunks count as decoded."""
        return self.nbytes / self.stored_nbytes if self.nbytes and self.stored_nbytes else None

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        layout = f"chunks {self.chunks}"
        if self.shards:
            layout += f" in shards {self.shards}"
        thing = "shard" if self.shards else "chunk"
        stored = in_bytes(self.stored_nbytes)
        if self.nbytes is not None:
            stored += f" of {in_bytes(self.nbytes)} decoded"
        if self.ratio:
            stored += f", {self.ratio:.1f} times smaller"
        stored += f"; {self.files:,} of {counted(self.expected, thing)}"
        if self.missing:
            stored += f", {self.missing:,} missing"
        if self.strays:
            stored += f", and {counted(self.strays, 'other file')}"
        return [
            f"{self.shape} {self.dtype}, {layout}",
            f"codecs  {' > '.join(self.codecs)}",
            f"fused   {'' if self.fused else 'no: '}{self.explanation}",
            f"stored  {stored}",
        ]


@dataclass(frozen=True)
class Info:
    """A store: `print(tempozarr.info(path))` draws it.

    Attributes
    ----------
    path
        Where it is, as it was given.
    arrays
        By path; a store that is one array has the path "".
    groups
        Paths.
    problems
        By path, what cannot be opened, and why.
    """

    path: str
    arrays: Mapping[str, ArrayInfo]
    groups: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored_nbytes(self) -> int:
        """Stored bytes of all arrays."""
        return sum(array.stored_nbytes for array in self.arrays.values())

    @property
    def nbytes(self) -> int:
        """Decoded bytes of all arrays whose elements are of fixed size."""
        return sum(array.nbytes or 0 for array in self.arrays.values())

    def __str__(self) -> str:
        size = f"{in_bytes(self.stored_nbytes)} of {in_bytes(self.nbytes)} decoded"
        lines = [f"{self.path}: {counted(len(self.arrays), 'array')}, {size}"]
        if "" in self.arrays:
            lines += self.arrays[""].lines()
        elif "" in self.problems:
            lines.append(self.problems[""])
        about = {path: [""] for path in self.groups}
        about |= {path: array.lines() for path, array in self.arrays.items()}
        about |= {path: [problem] for path, problem in self.problems.items()}
        return "\n".join([*lines, *drawn(about)])


def info(source: Source) -> Info:
    """Tell what a store is: its arrays, their layouts, codecs and sizes.

    Folders are listed, and no chunk is opened.

    Parameters
    ----------
    source
        As for `tempozarr.open`.

    Raises
    ------
    StoreError
        If there is neither an array nor a group.
    TempozarrError
        If the store is not a local one.

    Examples
    --------
    >>> import tempozarr, zarr
    >>> mid = zarr.create_array("mid.zarr", shape=(4,), chunks=(2,), dtype="f8")
    >>> mid[:2] = [1, 2]
    >>> array = tempozarr.info("mid.zarr").arrays[""]
    >>> array.files, array.expected, array.missing
    (1, 2, 1)
    """
    folder = existing(source)
    arrays = {}
    groups = []
    problems: dict[str, str] = {}
    for path, kind, metadata in sound_nodes(
        folder, lambda path, e: problems.update({path: str(e)})
    ):
        if kind == "group":
            groups.append(path)
            continue
        try:
            arrays[path] = _array_info(folder, path)
        except TempozarrError as e:
            problems[path] = f"{metadata.get('shape')}, cannot be opened: {e}"
    path = str(source) if isinstance(source, str | os.PathLike) else str(folder)
    return Info(path, arrays, tuple(groups), problems)


def existing(source: Source) -> Path:
    """Folder of a store; a StoreError that says what there is instead."""
    root, path = located(source)
    if isinstance(root, Prefix):
        raise StoreError(
            f"expected a folder, whose files can be looked at, got {root}: download the store"
        )
    folder = Path(root, path)
    if not any(
        map(os.path.exists, (folder / name for name in ("zarr.json", ".zarray", ".zgroup")))
    ):
        opened(root, path, Cache(0))
    return folder


def _array_info(folder: Path, path: str) -> ArrayInfo:
    array = Array(str(folder), path)
    metadata = array.metadata
    listing = list_chunks(folder / path, Keys(metadata), array.grid)
    explained = array.explain()
    return ArrayInfo(
        zarr_format=metadata["zarr_format"],
        shape=array.shape,
        dtype=str(array.dtype),
        chunks=array.chunks,
        shards=array.shards,
        codecs=tuple(_codec(codec) for codec in chunking(metadata)[2]),
        fused=explained.fused,
        explanation=explained.text,
        nbytes=None if array.dtype.kind in "TO" else array.nbytes,
        stored_nbytes=sum(listing.sizes.values()),
        files=len(listing.sizes),
        expected=listing.expected,
        strays=len(listing.strays),
    )


def _codec(codec: Any) -> str:
    stated = {} if isinstance(codec, str) else codec.get("configuration") or codec
    level = stated.get("level", stated.get("clevel"))
    return codec_name(codec) + ("" if level is None else f" {level}")
