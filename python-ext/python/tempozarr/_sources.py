"""Arrays and groups of any store, read by rows: by Rust where it can, else by zarr-python."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

from tempozarr import _array, _chains
from tempozarr._array import Array, Cache, _folder, _native, located, nodes
from tempozarr._chunks import Keys
from tempozarr._documents import path_problem
from tempozarr._errors import CodecError, MetadataError, StoreError, TempozarrError
from tempozarr._folders import expect_files
from tempozarr._objects import Folder, scheme_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    AnyArray: TypeAlias = Array | zarr.Array[Any]

AT_ONCE = 32 << 20
"""Bytes of rows that are read at once, unless a chunk of the source has more, ..."""
_CHUNK_AT_ONCE = 512 << 20
"""... which is read at once up to here; a larger one is decoded several times."""


@dataclass(frozen=True)
class Found:
    """Arrays, and attributes of groups (none if the source is an array), by path."""

    arrays: dict[str, AnyArray]
    groups: dict[str, dict[str, Any]]
    place: Path | None
    consolidated: bool


def find(source: Any) -> Found:
    """Find the arrays and groups of what `copy` was given."""
    try:
        root, inside = located(source)
    except TempozarrError:
        return _find_elsewhere(source)
    place = _folder(root, inside)
    found = list(nodes(place))
    if not found:
        _array.opened(root, inside, Cache())  # which says what there is instead
    arrays: dict[str, AnyArray] = {}
    groups: dict[str, dict[str, Any]] = {}
    for path, kind, document in found:
        if kind == "array":
            arrays[path] = _open(place / path, document)
        elif kind == "group":
            groups[path] = document.get("attributes") or {}
    consolidated = bool(found[0][2].get("consolidated_metadata"))
    if isinstance(place, Folder):
        return Found(arrays, groups, None, consolidated or place.prefix.is_consolidated)
    return Found(arrays, groups, place, consolidated or (place / ".zmetadata").exists())


def _open(folder: Path | Folder, document: Mapping[str, Any]) -> AnyArray:
    if isinstance(folder, Folder):
        return Array(folder.prefix, folder.path)
    try:
        return Array(str(folder))
    except TempozarrError as ours:
        try:
            return _zarr_array(folder, document)
        except TempozarrError as theirs:
            raise MetadataError(
                f"expected an array that tempozarr or zarr-python opens, got {ours}; {theirs}"
            ) from theirs


def _zarr_array(folder: Path, document: Mapping[str, Any]) -> zarr.Array[Any]:
    """Open an array with zarr-python, whose files are what they should be."""
    keys = Keys(document)
    expect_files(folder, lambda name: keys.index(name) is not None)
    try:
        with _chains.quiet():
            return zarr.open_array(folder, mode="r", zarr_format=document["zarr_format"])
    except (
        Exception
    ) as e:  # what zarr-python raises for metadata that it does not take, is anything
        raise MetadataError(f"expected an array that zarr-python opens in {folder}: {e!r}") from e


def _find_elsewhere(source: Any) -> Found:
    """Find arrays and groups of a store that zarr-python reads."""
    try:
        is_node = isinstance(source, zarr.Array | zarr.Group)
        node = source if is_node else zarr.open(source, mode="r")
    except Exception as e:
        if scheme_of(source) is None:
            raise
        # What others say of a URL may hold a password.
        raise StoreError(
            f"zarr-python cannot open {shown(source)} ({type(e).__name__}): give copy what "
            "zarr.open returns"
        ) from None
    place = _place(node.store)
    if isinstance(node, zarr.Array):
        return Found({"": node}, {}, place, consolidated=False)
    members = sorted(node.members(max_depth=None))
    for path, _ in members:
        if problem := path_problem(path):
            raise MetadataError(
                f"expected paths of arrays and groups in {node.store}, got {path!r}: {problem}"
            )
    groups = {
        path: group for path, group in [("", node), *members] if isinstance(group, zarr.Group)
    }
    return Found(
        {path: array for path, array in members if isinstance(array, zarr.Array)},
        {path: dict(group.attrs) for path, group in groups.items()},
        place,
        consolidated=node.metadata.consolidated_metadata is not None,
    )


def _place(store: Any) -> Path | None:
    """Where a store is, if that may be on this machine: a folder, or a file of one."""
    store = getattr(store, "_store", store)  # what a wrapper wraps
    place = getattr(store, "root", None) or getattr(store, "path", None)
    return Path(place).absolute() if isinstance(place, str | os.PathLike) else None


def keep_apart(source: Path | None, target: Path) -> None:
    """Refuse to write into the source, or over it."""
    if source is None:
        return

    def contains(outer: Path, inner: Path) -> bool:
        return any(
            outer.exists() and above.exists() and outer.samefile(above)
            for above in (inner, *inner.parents)
        )

    source = source.resolve()
    if contains(source, target) or contains(target, source):
        raise StoreError(
            f"expected a target apart from the source {source}, got {target}: choose a folder that "
            "is neither the source, nor in it, nor around it"
        )


def stored_document(array: AnyArray) -> dict[str, Any]:
    """Stored metadata, attributes included."""
    if isinstance(array, Array):
        return array.metadata
    files = array.metadata.to_buffer_dict(default_buffer_prototype())
    documents = {name: json.loads(file.to_bytes()) for name, file in files.items()}
    if "zarr.json" in documents:
        return dict(documents["zarr.json"])
    return dict(documents[".zarray"]) | {"attributes": documents.get(".zattrs", {})}


def block_rows(source: AnyArray, target: AnyArray) -> int:
    """Rows to read at once: whole chunks of the source, and of the target if that is possible."""
    row_nbytes = source.dtype.itemsize * math.prod(source.shape[1:])
    length = source.chunks[0]
    most = max(AT_ONCE // row_nbytes, 1)
    for unit in (math.lcm(length, target.chunks[0]), length):
        if unit <= most:
            return most // unit * unit
    return max(min(length, _CHUNK_AT_ONCE // row_nbytes), 1)


def blocks(
    array: AnyArray, start: int, stop: int, step: int, border: int | None = None
) -> Iterator[NDArray[Any]]:
    """Read rows block by block, the next one while one is used; it is valid until then.

    Blocks end at multiples of `step`, and of `border`.
    """
    step = min(step, max(stop - start, 1))
    dtype = _native(array.dtype)
    buffers = [np.empty((step, *array.shape[1:]), dtype) for _ in range(2)]
    with ThreadPoolExecutor(1, "tempozarr-copy") as executor:
        ahead = None
        while start < stop:
            end = min(stop, *(start - start % unit + unit for unit in (step, border or step)))
            following = executor.submit(read_rows, array, start, end, buffers[0])
            buffers.reverse()
            if ahead is not None:
                yield ahead.result()
            ahead = following
            start = end
        if ahead is not None:
            yield ahead.result()


def read_rows(
    array: AnyArray, start: int, stop: int, memory: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Read rows, in native byte order."""
    if memory is None:
        memory = np.empty((stop - start, *array.shape[1:]), _native(array.dtype))
    rows = memory[: stop - start]
    if isinstance(array, Array):
        array.read(slice(start, stop), out=rows)
    else:
        rows[...] = read_by_zarr(array, slice(start, stop))
    return rows


def read_by_zarr(array: zarr.Array[Any], selection: Any) -> Any:
    """Read a selection by zarr-python.

    Raises
    ------
    CodecError
        If it raises anything that is no error of its store: what is stored is not as it says then.
    """
    try:
        return array[selection]
    except (OSError, TempozarrError):
        raise
    except Exception as e:
        raise CodecError(f"zarr-python cannot read {array}: {type(e).__name__}: {e}") from e


def regions(array: zarr.Array[Any]) -> Iterator[Any]:
    """Rows of chunks, or of shards."""
    if not array.shape:
        yield ...
        return
    step = (array.shards or array.chunks)[0]
    for start in range(0, array.shape[0], step):
        yield slice(start, start + step)


def by_zarr(array: AnyArray) -> zarr.Array[Any]:
    """Open an array with zarr-python, if it is not."""
    if isinstance(array, zarr.Array):
        return array
    folder = place_of(array)
    if folder is None:
        raise StoreError(
            f"expected an array with rows that Rust copies, got {array!r}: pass what zarr.open "
            "gives for its URL"
        )
    return _zarr_array(folder, stored_document(array))


def place_of(array: AnyArray) -> Path | None:
    """Folder of an array of a local store."""
    try:
        place = _folder(*located(array))
    except TempozarrError:
        return None
    return place if isinstance(place, Path) else None
