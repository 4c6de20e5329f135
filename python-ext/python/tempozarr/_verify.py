"""`verify`: every stored chunk decoded, and everything that is wrong with a store."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tempozarr import _core
from tempozarr._array import Array, NoNodeError, _json, chunking, codec_name, sound_nodes
from tempozarr._by_path import ByPath
from tempozarr._chunks import Keys, Listing, list_chunks
from tempozarr._config import size_pool
from tempozarr._documents import is_v2, members_of, members_of_v2, node_of
from tempozarr._errors import TempozarrError
from tempozarr._info import existing
from tempozarr._progress import Reporter
from tempozarr._text import aligned, counted, in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tempozarr._array import Source
    from tempozarr._progress import Report
    from tempozarr._sources import Found

_BATCH = 32 << 20
"""Decoded bytes, for each thread, between two looks at the progress and for an interruption."""
_MOST_AT_ONCE = 1 << 12
_MOST_NAMED = 1000
_NOT_STORED = "it is not stored"
_SUMS = {"crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3", "gzip", "zlib", "bz2"}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store; `str(fault)` is a line.

    Attributes
    ----------
    array
        Path of the array (or the group).
    kind
        "damaged": it does not decode, or contradicts itself; "missing": it is not stored;
        "different": it is not what the other store has.
    message
        What is wrong.
    chunk, subchunk
        Index of the chunk (of the shard, where the array is sharded), and of the subchunk in it;
        None where it is about more than that.
    rows
        The first row that is concerned, and the one behind the last.
    file
        Name of the file, in the folder of the array.
    """

    array: str
    kind: Literal["damaged", "missing", "different"]
    message: str
    chunk: tuple[int, ...] | None = None
    subchunk: tuple[int, ...] | None = None
    rows: tuple[int, int] | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = [self.array or "/"]
        if self.chunk is not None:
            where.append(f"chunk {self.chunk}")
        if self.subchunk is not None:
            where.append(f"subchunk {self.subchunk}")
        if self.rows is not None:
            where.append(f"rows {self.rows[0]}:{self.rows[1]}")
        if self.file is not None:
            where.append(self.file)
        return f"{', '.join(where)}: {self.message}"


@dataclass(frozen=True)
class ArrayCheck:
    """What was checked of one array.

    Attributes
    ----------
    chunks, expected
        Number of chunks (of shards, where the array is sharded) that are stored, and of all.
    holes
        Number of those that are not stored though there are later ones, by the first index.
    subchunks, missing_subchunks
        Number of subchunks that are stored, and of those that stored shards do not have.
    stored_nbytes, unused_nbytes
        Bytes of the files of chunks, and those of them that belong to no subchunk of their shards.
    checksum
        What tells damage that decodes: the codec; None if there is none.
    differing_elements, first_differing_row
        Number of elements whose bits are not those of the other store, and the row of the first;
        None where nothing differs, or was not compared.
    """

    chunks: int
    expected: int
    holes: int
    subchunks: int
    missing_subchunks: int
    stored_nbytes: int
    unused_nbytes: int
    checksum: str | None
    differing_elements: int | None = None
    first_differing_row: int | None = None


@dataclass(frozen=True)
class VerifyReport(ByPath[ArrayCheck]):
    """What `tempozarr.verify` found, by the path of the array; `print(report)` tells it.

    Attributes
    ----------
    arrays
        What was checked.
    faults
        What is wrong.
    warnings
        What may be meant so, or cannot be told.
    seconds
        Time that it took.
    """

    arrays: Mapping[str, ArrayCheck]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    seconds: float = field(compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults]
        return "\n".join([*lines, *([""] if lines else []), self.summary()])

    def summary(self) -> str:
        """Say how much was checked, and give the warnings; without the faults."""
        table = [["array", "chunks", "subchunks", "stored", "checksum"]]
        for path, array in self.items():
            subchunks = f"{array.subchunks:,}" if array.subchunks else ""
            if array.missing_subchunks:
                subchunks += f" of {array.subchunks + array.missing_subchunks:,}"
            chunks = f"{array.chunks:,} of {array.expected:,}"
            sizes = [chunks, subchunks, in_bytes(array.stored_nbytes)]
            table.append([path or "/", *sizes, array.checksum or "none"])
        number = counted(len(self.faults), "fault") if self.faults else "no fault"
        nbytes = sum(array.stored_nbytes for array in self.values())
        of = f"{counted(len(self), 'array')}, {in_bytes(nbytes)} ({self.seconds:.1f} s)"
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([aligned(table), "", *warnings, f"{number} in {of}"])


def verify(
    source: Source,
    *,
    complete: bool = False,
    against: Any = None,
    progress: Report = False,
    found: Callable[[Fault], object] | None = None,
) -> VerifyReport:
    """Decode every stored chunk of an array or a group, and tell everything that is wrong.

    Decoded are chunks one by one, on all threads, and nothing of them is kept. Of shards, the index
    is checked too: its checksum, and whether subchunks lie in the file and apart. Damage that
    decodes, to other values, cannot be seen unless there is a checksum (crc32c, zstd with
    `checksum=True`, gzip, ...) or another store to compare with.

    Parameters
    ----------
    source
        As for `tempozarr.open`.
    complete
        Every chunk and subchunk has to be stored; by default those that are not are what zarr says:
        fill value. (zarr-python leaves out chunks of nothing else, and so does `tempozarr.Writer`
        with subchunks.)
    against
        What to compare with, bit by bit: as `tempozarr.copy` takes it.
    progress
        A function of a `tempozarr.Progress`, or True for a bar (needs tqdm).
    found
        Called with each fault as soon as it is found.

    Returns
    -------
    What was checked and found: print it, or ask `report.ok`.

    Raises
    ------
    StoreError
        If there is neither an array nor a group.
    TempozarrError
        If the store is not a local one.

    Examples
    --------
    >>> import os, numpy as np, tempozarr, zarr
    >>> mid = zarr.create_array("m.zarr", data=np.arange(100), chunks=(50,), overwrite=True)
    >>> os.truncate("m.zarr/c/1", 10)
    >>> report = tempozarr.verify("m.zarr")
    >>> report.ok, report.faults[0].chunk, report.faults[0].rows
    (False, (1,), (50, 100))
    """
    began = time.monotonic()
    run = _Run(existing(source), found)
    other = None
    if against is not None:
        from tempozarr._sources import find  # which needs zarr-python

        other = find(against)
    run.open()
    run.decode(progress, complete=complete)
    run.look_around(complete=complete)
    if other is not None:
        run.compare(other, progress)
    return VerifyReport(
        run.checks, tuple(run.faults), tuple(run.warnings), time.monotonic() - began
    )


class _Run:
    """One verification."""

    def __init__(self, folder: Path, found: Callable[[Fault], object] | None) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self.checks: dict[str, ArrayCheck] = {}
        self._found = found
        self._documents: dict[str, dict[str, Any]] = {}
        self._arrays: dict[str, tuple[Array, Keys, Listing]] = {}

    def open(self) -> None:
        """Read all metadata, and list the chunks."""
        for path, kind, document in sound_nodes(self.folder, self._unusable):
            self._documents[path] = document
            if kind == "array":
                try:
                    array = Array(str(self.folder), path)
                    keys = Keys(array.metadata)
                    listing = list_chunks(self.folder / path, keys, array.grid)
                except TempozarrError as e:
                    self._fault(path, "damaged", f"not checked, as it cannot be opened: {e}")
                else:
                    self._arrays[path] = array, keys, listing

    def decode(self, progress: Report, *, complete: bool) -> None:
        """Decode all chunks."""
        size_pool()
        total = sum(sum(listing.sizes.values()) for _, _, listing in self._arrays.values())
        report = Reporter(progress, total, f"verifying {self.folder.name}", "bytes")
        done = 0
        try:
            for path, (array, keys, listing) in self._arrays.items():
                counts = [0, 0, 0]
                for batch in _batches(array, listing):
                    faults, counted_ = _core.verify(array._core, batch, complete)  # noqa: SLF001
                    counts = [a + b for a, b in zip(counts, counted_, strict=True)]
                    for chunk, subchunk, rows, message in faults:
                        where = tuple(chunk), subchunk and tuple(subchunk), rows, keys.of(chunk)
                        kind = "damaged" if message else "missing"
                        self._fault(path, kind, message or _NOT_STORED, *where)
                    done += sum(map(listing.sizes.__getitem__, batch))
                    report(done)
                subchunks, missing_subchunks, unused = counts
                self.checks[path] = ArrayCheck(
                    chunks=len(listing.sizes),
                    expected=listing.expected,
                    holes=listing.holes,
                    subchunks=subchunks,
                    missing_subchunks=missing_subchunks,
                    stored_nbytes=sum(listing.sizes.values()),
                    unused_nbytes=unused,
                    checksum=checksum(array.metadata),
                )
            report(done, now=True)
        finally:
            report.close()

    def look_around(self, *, complete: bool) -> None:
        """Look for what is not there, or should not be."""
        for path, (_, keys, listing) in self._arrays.items():
            missing = listing.expected - len(listing.sizes)
            if complete:
                for chunk in itertools.islice(listing.missing(), _MOST_NAMED):
                    self._fault(path, "missing", _NOT_STORED, chunk, file=keys.of(chunk))
                if missing > _MOST_NAMED:
                    more = counted(missing - _MOST_NAMED, "more chunk")
                    self._fault(path, "missing", f"{more} are not stored")
            elif listing.holes:
                first = next(listing.missing())
                self._warn(
                    path,
                    f"{counted(listing.holes, 'chunk')} not stored before the last one, the first "
                    f"is {first}: read as the fill value",
                )
            if listing.strays:
                named = ", ".join(listing.strays[:3])
                self._warn(path, f"{counted(len(listing.strays), 'file')} of no chunk: {named}")
            if listing.unfinished:
                self._warn(path, "an unfinished flush: the next tempozarr.Writer there finishes it")
        self._look_at_consolidated()
        without = [path or "/" for path, check in self.checks.items() if check.checksum is None]
        if without:
            named = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")  # noqa: PLR2004
            self.warnings.append(
                f"no checksum in {counted(len(without), 'array')} ({named}): damage that still "
                "decodes cannot be seen; compare with a copy, or write with crc32c"
            )

    def _look_at_consolidated(self) -> None:
        """Compare the copy of all metadata that the root may have with the metadata."""
        root = self._documents.get("", {})
        try:
            copied = _consolidated(self.folder, root)
        except TempozarrError as e:
            if is_v2(root):  # else that has been told
                self._fault("", "damaged", str(e))
            return
        for path, document in (copied or {}).items():
            if path not in self._documents:
                if path not in {fault.array for fault in self.faults}:
                    self._fault(path, "missing", "consolidated metadata have it, the store has not")
            elif _without_copies(document) != _without_copies(self._documents[path]):
                self._warn(path, "consolidated metadata are not those of the array or group")
        for path in sorted(self._documents.keys() - (copied or self._documents).keys() - {""}):
            self._warn(path, "consolidated metadata do not have it")

    def compare(self, other: Found, progress: Report) -> None:
        """Compare the bits of all arrays, and metadata, with those of another store."""
        from tempozarr._comparison import compare

        arrays = {path: array for path, (array, _, _) in self._arrays.items()}
        groups = {
            path: document.get("attributes") or {}
            for path, document in self._documents.items()
            if path not in arrays
        }
        # What cannot be opened has been told, and is not compared.
        theirs = {
            path: array
            for path, array in other.arrays.items()
            if path in arrays or path not in {fault.array for fault in self.faults}
        }
        for path, difference in compare(arrays, groups, replace(other, arrays=theirs), progress):
            if difference.warning:
                self._warn(path, difference.message)
                continue
            self._fault(path, "different", difference.message, rows=difference.rows)
            if path in self.checks:
                self.checks[path] = replace(
                    self.checks[path],
                    differing_elements=difference.elements,
                    first_differing_row=difference.rows and difference.rows[0],
                )

    def _unusable(self, path: str, error: TempozarrError) -> None:
        if isinstance(error, NoNodeError):
            self._warn(path, str(error))
        else:
            self._fault(path, "damaged", str(error))

    def _fault(self, *details: Any, **more: Any) -> None:
        self.faults.append(Fault(*details, **more))
        if self._found:
            self._found(self.faults[-1])

    def _warn(self, path: str, message: str) -> None:
        self.warnings.append(f"{path or '/'}: {message}")


def _batches(array: Array, listing: Listing) -> Iterator[list[tuple[int, ...]]]:
    """Some chunks at a time."""
    unit = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    number = max(_BATCH * (os.cpu_count() or 1) // max(unit, 1), 1)
    number = min(number, _MOST_AT_ONCE)
    chunks = list(listing.sizes)
    return (chunks[start : start + number] for start in range(0, len(chunks), number))


def checksum(metadata: Mapping[str, Any]) -> str | None:
    """Name of a codec that tells damage of a chunk which decodes, if it has one."""
    chain = chunking(metadata)[2]
    for codec in chain:
        name = codec_name(codec).removeprefix("numcodecs.")
        stated = {} if isinstance(codec, str) else codec.get("configuration") or codec
        if name == "sharding_indexed":
            below = checksum({"codecs": stated["codecs"]})
            if below:
                return below
        elif name in _SUMS or (name == "zstd" and stated.get("checksum")) or _lzma(name, stated):
            return name
    return None


def _lzma(name: str, stated: Mapping[str, Any]) -> bool:
    """Whether it is LZMA in a container with a checksum: an XZ file, unless that says no."""
    return name == "lzma" and stated.get("format", 1) == 1 and stated.get("check", -1) != 0


def _consolidated(folder: Path, root: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Documents of consolidated metadata by path, as `nodes` gives them; None without them."""
    if not is_v2(root):
        members = members_of(root, folder / "zarr.json")
    else:
        copied = _json(folder / ".zmetadata")
        members = copied and members_of_v2(copied, folder / ".zmetadata")
    if members is None:
        return None
    found = {}
    for path, documents in members.items():
        if node := node_of(documents.get, f"the consolidated metadata of {folder}, {path or '/'}"):
            found[path] = node[1]
    return found


def _without_copies(document: Mapping[str, Any]) -> str:
    """Metadata as text to compare, without what groups say of those below."""
    kept = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    return json.dumps({"attributes": {}} | kept, sort_keys=True)
