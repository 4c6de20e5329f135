"""`Array` and `Group`: stores read by Rust, indexed like numpy. Needs no zarr-python."""

from __future__ import annotations

import base64
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np

from tempozarr import _core
from tempozarr._config import size_pool
from tempozarr._documents import (
    DEEPEST,
    array_of,
    is_v2,
    members_of,
    name_problem,
    node_of,
    parsed,
)
from tempozarr._errors import MetadataError, StoreError, TempozarrError
from tempozarr._folders import Places, is_folder, listed
from tempozarr._indexing import Plan, plan, plan_orthogonal, plan_points, split_points
from tempozarr._objects import SCHEMES, Folder, Prefix, scheme_of, shown
from tempozarr._text import drawn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    import zarr
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from tempozarr._documents import Node

    Rows: TypeAlias = NDArray[np.int64]
    Job: TypeAlias = tuple["Array", Rows, Rows, Rows, int, NDArray[Any], str | None]
    Source: TypeAlias = str | os.PathLike[str] | zarr.Array[Any] | zarr.Group
    Root: TypeAlias = str | Prefix
    Found: TypeAlias = Node | TempozarrError | None

_LOOKED_FOR = "zarr.json, .zarray or .zgroup"


@dataclass(frozen=True)
class ReadStats:
    """What reading an array has cost since it was opened; `array.stats()`.

    Attributes
    ----------
    hits, misses
        Chunks (inner chunks, where the array is sharded) that were found decoded in the cache, and
        those that were decoded.
    bytes_read
        Stored bytes that were read.
    bytes_decoded
        Bytes of the chunks that were decoded, each counted as a whole.
    read_seconds, decode_seconds, copy_seconds
        Time of all threads together: reading files, decoding, and copying from decoded chunks.
        What is decoded straight to its place is not copied.
    """

    hits: int
    misses: int
    bytes_read: int
    bytes_decoded: int
    read_seconds: float
    decode_seconds: float
    copy_seconds: float


@dataclass(frozen=True)
class Explanation:
    """How the chunks of an array (the inner chunks, where it is sharded) are decoded.

    Attributes
    ----------
    fused
        Whether all codecs run in one pass over memory.
    text
        The steps, from stored bytes to values; or the reason why the codecs run one by one.
    """

    fused: bool
    text: str

    def __str__(self) -> str:
        return f"{'fused' if self.fused else 'codec by codec'}: {self.text}"


class Array:
    """One zarr array, read by Rust threads with the GIL released.

    Open one with `tempozarr.open_array`. Indexing gives what `zarr.Array` gives, and numpy's
    results (negative steps, `None`, ...) where zarr-python refuses. Instances hold no open file,
    may be shared between threads, and are pickled as the path or URL that they were opened from,
    with its storage options.
    """

    __slots__ = ("_attrs", "_cache", "_core", "_dtype", "_metadata", "_path", "_root")

    def __init__(
        self, root: Root, path: str = "", cache: Cache | None = None, node: Node | None = None
    ) -> None:
        self._cache = cache or Cache()
        if isinstance(root, Prefix):
            _, document = _expected("array", _folder(root, path), node)
            self._core = _core.Array(root.core, path, self._cache.core, json.dumps(document))
        else:
            self._core = _core.Array(root, path, self._cache.core)
        self._root = root
        self._path = path
        self._metadata = array_of(self._core.metadata, _folder(root, path))
        self._attrs: dict[str, Any] = self._metadata.get("attributes") or {}
        self._dtype = _dtype(self._core.dtype, self._metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._core.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of what indexing returns."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes that the whole array takes in memory."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk: of the inner chunks where the array is sharded."""
        return self._core.chunks

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard, or None where the array is not sharded."""
        return self._core.shards

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks in each dimension: of shards where the array is sharded."""
        return self._core.grid

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The user's attributes, read-only."""
        return MappingProxyType(self._attrs)

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored metadata (`zarr.json`, or `.zarray` with the attributes); a copy."""
        metadata: dict[str, Any] = json.loads(self._core.metadata)
        return metadata

    @property
    def path(self) -> str:
        """Path within the store that was opened; empty for its root."""
        return self._path

    @property
    def name(self) -> str:
        """`path` with a leading slash."""
        return "/" + self._path

    @property
    def fill_value(self) -> Any:
        """Value of elements that were never written; None where a v2 array has none.

        Raises
        ------
        MetadataError
            If the stored value does not fit the data type.
        """
        stored = self._metadata.get("fill_value")
        try:
            return _fill_value(stored, self._dtype)
        except (OverflowError, TypeError, ValueError) as e:
            raise MetadataError(
                f"fill_value {stored!r} of {self._where} is no {self._dtype}: {e}"
            ) from e

    def __getitem__(self, selection: Any) -> Any:
        """Read a selection as `zarr.Array` does: basic, orthogonal (one list), or points.

        Raises
        ------
        IndexError, TypeError
            As numpy raises them.
        CodecError, StoreError
            If a chunk does not decode or cannot be read.
        """
        return self._read(plan(selection, self.shape))

    @property
    def oindex(self) -> Selection:
        """Orthogonal indexing: `array.oindex[[1, 2], :, mask]`."""
        return Selection(self, plan_orthogonal)

    @property
    def vindex(self) -> Selection:
        """Indexing by points or by one mask: `array.vindex[[1, 2], [3, 4]]`."""
        return Selection(self, plan_points)

    def read(self, selection: Any = ..., out: Any = None) -> Any:
        """Read a selection, into memory of yours if given.

        Parameters
        ----------
        selection
            As between the brackets of `array[...]`; everything by default.
        out
            Numpy array with any strides, or an object with a writable buffer (`bytearray`,
            `memoryview`, ...), of the selection's shape and the array's data type (either byte
            order). A flat buffer of bytes need only have the right length.

        Returns
        -------
        `out` if given, else what `array[selection]` gives.

        Raises
        ------
        ValueError
            If `out` has another shape or is read-only.
        TypeError
            If `out` has another data type or no buffer.
        """
        planned = plan(selection, self.shape)
        if out is None:
            return self._read(planned)
        self._read(planned, _writable(out, planned.shape, self._dtype))
        return out

    def windows(
        self, starts: ArrayLike, length: int, *, step: int = 1, out: Any = None
    ) -> NDArray[Any]:
        """Read many windows of rows at once; each chunk that they meet is read and decoded once.

        Parameters
        ----------
        starts
            First row of each window: integers, of any shape. Windows may overlap and repeat.
        length
            Rows in a window.
        step
            Rows from one row of a window to the next.
        out
            As in `read`; of shape `(*starts.shape, length, *array.shape[1:])`.

        Returns
        -------
        `out` if given, else a new array of that shape: `result[i, j]` is row
        `starts[i] + j * step`.

        Raises
        ------
        IndexError
            If a window is not within the array: a negative start does not count from the end.
        TypeError
            If `starts` are no integers, or as `read` has it for `out`.
        ValueError
            If the array has no dimensions, if `length` or `step` is less than 1, or as `read` has
            it for `out`.
        """
        length, step = index(length), index(step)
        first, shape = self._windows(np.asarray(starts), length, step)
        step = min(step, sys.maxsize)  # a larger one is of windows of one row, or of none
        target = None if out is None else _writable(out, shape, self._dtype)
        if self._core.dtype in "TO":
            rows = np.add.outer(first, np.arange(length) * step).ravel()
            values = self.oindex[rows].reshape(shape)
        else:
            direct = target is not None and target.flags.c_contiguous
            values = target if target is not None and direct else np.empty(shape, self._dtype)
            flat = values.reshape(len(first) * length, *self.shape[1:])
            native = flat.view(_native(flat.dtype))
            places = np.arange(0, len(flat) or 1, length)[: len(first)]
            size_pool()
            read_rows([(self, first, places, np.full(len(first), length), step, native, None)])
            if not flat.dtype.isnative:
                native.byteswap(inplace=True)
        if target is not None and target is not values:
            target[...] = values
        return values if out is None else out

    def stats(self) -> ReadStats:
        """Give what reading this array has cost since it was opened."""
        hits, misses, stored, decoded, *nanoseconds = self._core.stats()
        return ReadStats(hits, misses, stored, decoded, *(n / 1e9 for n in nanoseconds))

    def explain(self) -> Explanation:
        """Tell whether the chain of codecs runs in one pass, with the plan, or why it does not.

        `print(array.explain())` gives, say,
        `fused: zstd, unshuffle 2, undo XOR (4096 rows of 300 bytes), float16 to float32`.
        """
        return Explanation(*self._core.explain())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything; `copy=False` is an error, as the data has to be read."""
        if copy is False:
            raise ValueError(
                "copy=False: an array that is stored on disk cannot be viewed as a numpy array; "
                "leave copy out"
            )
        data: NDArray[Any] = self._execute(plan((), self.shape))
        return data if dtype is None else data.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the first dimension, reading a row of chunks at a time."""
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        step = (self.shards or self.chunks)[0]
        blocks = (self[start : start + step] for start in range(0, len(self), step))
        return itertools.chain.from_iterable(blocks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return (self._root, self._path) == (other._root, other._path)

    def __hash__(self) -> int:
        return hash((Array, self._root, self._path))

    def __reduce__(self) -> tuple[type[Self], tuple[Root, str, Cache]]:
        return type(self), (self._root, self._path, self._cache)

    def __repr__(self) -> str:
        shards = f", shards {self.shards}" if self.shards else ""
        return (
            f"<tempozarr.Array {self._where} {self.shape} {self._dtype}, "
            f"chunks {self.chunks}{shards}>"
        )

    @property
    def _where(self) -> str:
        return str(_folder(self._root, self._path))

    def _windows(
        self, starts: NDArray[Any], length: int, step: int
    ) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """Check windows; give their first rows, and the shape of the result."""
        if not self.shape:
            raise ValueError("expected an array with rows, got one without dimensions; use [()]")
        if length < 1 or step < 1:
            raise ValueError(
                f"expected windows of at least 1 row in steps of at least 1, got length {length}, "
                f"step {step}"
            )
        if starts.size and starts.dtype.kind not in "iu":
            raise TypeError(f"expected integers for the starts of windows, got {starts.dtype}")
        last = len(self) - (length - 1) * step - 1
        if starts.size and (starts.min() < 0 or starts.max() > last):
            bad = starts.min() if starts.min() < 0 else starts.max()
            raise IndexError(
                f"window at {bad}: windows of {length} rows in steps of {step} begin at 0 "
                f"to {last} in {len(self)} rows"
            )
        first = np.ascontiguousarray(starts, np.int64).reshape(-1)
        return first, (*starts.shape, length, *self.shape[1:])

    def _read(self, planned: Plan, out: NDArray[Any] | None = None) -> Any:
        result = self._execute(planned, out)
        return result[()] if planned.scalar else result

    def _execute(self, planned: Plan, out: NDArray[Any] | None = None) -> NDArray[Any]:
        direct = out is not None and planned.take is None and planned.points is None
        if direct and out is not None:
            block = out[(*planned.keep, ...)]  # an array, also of no dimensions
        else:
            order = "F" if self._metadata.get("order") == "F" else "C"
            block = np.empty(planned.block, self._dtype, order=order)  # type: ignore[call-overload]
        if block.size:
            self._fill(planned, block)
        if direct and out is not None:
            return out
        result: NDArray[Any] = (
            block.reshape(planned.shape) if planned.take is None else block[planned.take]
        )
        if out is not None:
            out[...] = result
        return result

    def _fill(self, planned: Plan, block: NDArray[Any]) -> None:
        size_pool()
        if self._core.dtype in "TO":
            self._fill_objects(planned, block)
            return
        native = block.view(_native(block.dtype))
        if planned.points is not None:
            self._core.read_points(planned.points, native)
        else:
            self._core.read(planned.selectors, native)
        if not block.dtype.isnative:
            native.byteswap(inplace=True)

    def _fill_objects(self, planned: Plan, block: NDArray[Any]) -> None:
        if planned.points is not None:
            covering, within = split_points(planned.points)
            cover = np.empty(covering.block, block.dtype)
            self._fill_objects(covering, cover)
            block[...] = cover[within]
            return
        values = np.empty(block.size, object)
        values[:] = self._core.read_objects(planned.selectors)
        block[...] = values.reshape(block.shape)


class Cache:
    """Decoded chunks of some arrays that are kept, the last used ones; pickled empty."""

    __slots__ = ("core", "nbytes")

    def __init__(self, nbytes: int = 0) -> None:
        if index(nbytes) < 0:
            raise ValueError(f"expected cache_bytes of 0 or more, got {nbytes}")
        self.nbytes = min(nbytes, sys.maxsize)
        self.core = _core.Cache(self.nbytes)

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.nbytes,)


def read_rows(jobs: Sequence[Job]) -> None:
    """Read runs of rows of several arrays side by side: `_core.read_rows` says how."""
    _core.read_rows([(job[0]._core, *job[1:]) for job in jobs])  # noqa: SLF001


class Selection:
    """`array.oindex` or `array.vindex`; index it."""

    __slots__ = ("_array", "_plan")

    def __init__(self, array: Array, planner: Callable[[Any, tuple[int, ...]], Plan]) -> None:
        self._array = array
        self._plan = planner

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        """Read the selection; always an array. IndexError if it is none of this kind."""
        return self._array._execute(self._plan(selection, self._array.shape))  # noqa: SLF001


class Group(Mapping[str, "Array | Group"]):
    """A folder of arrays and groups, as a read-only mapping from names to them.

    Open one with `tempozarr.open_group`. `group["a/b"]` goes down several levels at once.
    """

    __slots__ = ("_attrs", "_cache", "_metadata", "_path", "_root")

    def __init__(
        self, root: Root, path: str = "", cache: Cache | None = None, node: Node | None = None
    ) -> None:
        self._cache = cache or Cache()
        self._root = root
        self._path = path
        _, self._metadata = _expected("group", self._folder, node)
        members_of(self._metadata, self._folder)
        self._attrs: dict[str, Any] = self._metadata.get("attributes") or {}

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The user's attributes, read-only."""
        return MappingProxyType(self._attrs)

    @property
    def metadata(self) -> dict[str, Any]:
        """The stored metadata (`zarr.json`, or `.zgroup` with the attributes); a copy."""
        metadata: dict[str, Any] = json.loads(json.dumps(self._metadata))
        return metadata

    @property
    def path(self) -> str:
        """Path within the store that was opened; empty for its root."""
        return self._path

    @property
    def name(self) -> str:
        """`path` with a leading slash."""
        return "/" + self._path

    def __getitem__(self, key: str) -> Array | Group:
        """Open the array or group at a relative path.

        Raises
        ------
        KeyError
            If there is none; its text names what there is.
        """
        path = self._join(key)
        node = _node(_folder(self._root, path))
        if node is None:
            raise KeyError(f"no array or group {key!r} in {self._folder}; it has {self._names()}")
        return _opened(self._root, path, self._cache, node)

    def __iter__(self) -> Iterator[str]:
        """Names of the arrays and groups in this group, sorted; also of damaged ones."""
        return (name for name, _ in _children(self._folder))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        try:
            return _node(_folder(self._root, self._join(key))) is not None
        except KeyError:
            return False
        except MetadataError:
            return True  # as those have it that iterate: it is there, and damaged

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Names and arrays in this group; a MetadataError if one, or a group, is damaged."""
        for name, node in _sound_children(self._folder):
            if node[0] == "array":
                yield name, Array(self._root, self._join(name), self._cache, node)

    def groups(self) -> Iterator[tuple[str, Group]]:
        """Names and groups in this group; a MetadataError if one, or an array, is damaged."""
        for name, node in _sound_children(self._folder):
            if node[0] == "group":
                yield name, Group(self._root, self._join(name), self._cache, node)

    def members(self) -> tuple[tuple[str, Array | Group], ...]:
        """Names, and the arrays and groups of this group; a MetadataError if one is damaged."""
        return tuple(
            (name, _opened(self._root, self._join(name), self._cache, node))
            for name, node in _sound_children(self._folder)
        )

    def tree(self) -> str:
        """Draw everything below this group: shapes, data types, codecs. Opens no array.

        Of what is damaged, it says how.
        """
        about: dict[str, str] = {}

        def failed(path: str, error: TempozarrError) -> None:
            if not path:
                raise error
            if not isinstance(error, NoNodeError):
                about[path] = str(error)

        for path, kind, metadata in _below(self._folder, "", ("group", {}), failed):
            about[path] = _summary(metadata) if kind == "array" else ""
        return "\n".join([self.name, *drawn({path: [text] for path, text in about.items()})])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return (self._root, self._path) == (other._root, other._path)

    def __hash__(self) -> int:
        return hash((Group, self._root, self._path))

    def __reduce__(self) -> tuple[type[Self], tuple[Root, str, Cache]]:
        return type(self), (self._root, self._path, self._cache)

    def __repr__(self) -> str:
        return f"<tempozarr.Group {self._folder}: {self._names()}>"

    @property
    def _folder(self) -> Path | Folder:
        return _folder(self._root, self._path)

    def _names(self) -> str:
        try:
            return _listing(list(self))
        except StoreError:
            return "what its store does not list"

    def _join(self, key: str) -> str:
        parts = [part for part in key.split("/") if part]
        if not parts or any(map(name_problem, parts)):
            raise KeyError(
                f"expected the name of an array or group, such as 'a' or 'a/b', got {key!r}"
            )
        return "/".join([self._path, *parts] if self._path else parts)


def open(  # noqa: A001
    source: Source, *, cache_bytes: int = 0, storage_options: Mapping[str, Any] | None = None
) -> Array | Group:
    """Open the array or group at a path, at a URL, or of a `zarr.Array` or `zarr.Group`.

    Parameters
    ----------
    source
        What to open. URLs are those of files (`file://`) or of object stores: `s3://bucket/path`,
        `gs://`, `az://`, `http://` or `https://`.
    cache_bytes
        Up to how many bytes of decoded chunks to keep, the last used ones, for reads that want only
        parts of them; in all, for the arrays of a group. A chunk whose file has changed is read
        anew; objects are taken to be unchanged.
    storage_options
        Credentials, endpoint, timeouts and the like of an object store, named as in the Rust crate
        `object_store` (`aws_access_key_id`, `region`, `endpoint`, `allow_http`, `skip_signature`,
        `timeout`, ...), and `max_retries`, `retry_timeout` and `concurrency`. Timeouts are texts
        such as "30 seconds", or numbers of seconds. What is not given is taken from the
        environment: variables that start with `AWS_`, `GOOGLE_` or `AZURE_`.

    Raises
    ------
    StoreError
        If there is neither, or if an object cannot be fetched.
    MetadataError
        If an array's codecs or data type cannot be used.
    TempozarrError
        If it is an array or group of another store of zarr-python.
    ValueError
        If a URL or a storage option cannot be used.
    """
    return opened(*located(source, storage_options), Cache(cache_bytes))


def opened(root: Root, path: str, cache: Cache) -> Array | Group:
    """Open what is at a path of a store; as `open`."""
    folder = _folder(root, path)
    node = _node(folder)
    if node is None:
        raise StoreError(f"expected an array or group at {folder}, {_found(folder, None)}")
    return _opened(root, path, cache, node)


def _opened(root: Root, path: str, cache: Cache, node: Node) -> Array | Group:
    return (Array if node[0] == "array" else Group)(root, path, cache, node)


def open_array(
    source: Source, *, cache_bytes: int = 0, storage_options: Mapping[str, Any] | None = None
) -> Array:
    """Open an array; as `tempozarr.open`, and a StoreError if it is a group."""
    root, path = located(source, storage_options)
    node = _expected("array", _folder(root, path))
    return Array(root, path, Cache(cache_bytes), node)


def open_group(
    source: Source, *, cache_bytes: int = 0, storage_options: Mapping[str, Any] | None = None
) -> Group:
    """Open a group; as `tempozarr.open`, and a StoreError if it is an array."""
    return Group(*located(source, storage_options), Cache(cache_bytes))


def located(source: Any, options: Mapping[str, Any] | None = None) -> tuple[Root, str]:
    """Root of a store, a folder or in an object store, and a path within it."""
    if isinstance(source, str) and source.partition("://")[0].lower() in SCHEMES:
        return Prefix(source, options), ""
    if options:
        raise ValueError(
            "storage_options: expected a URL such as 's3://bucket/a.zarr' with them, got "
            f"{shown(source)}"
        )
    if isinstance(source, Array | Group):
        return source._root, source._path  # noqa: SLF001
    if "zarr" in sys.modules:
        import zarr
        from zarr.storage import LocalStore

        if isinstance(source, zarr.Array | zarr.Group):
            if type(source.store) is not LocalStore:
                raise TempozarrError(
                    f"expected an array or group of a zarr LocalStore, got {source.store!r}: "
                    "open its URL, or read it with zarr-python, after tempozarr.enable()"
                )
            return str(source.store.root.absolute()), source.path
    if isinstance(source, str) and "://" in source:
        url = urlsplit(source)
        if url.scheme != "file" or url.netloc not in {"", "localhost"}:
            raise TempozarrError(
                f"expected a path, or a URL of file://, s3://, gs://, az:// or http(s)://, got "
                f"{shown(source)}: read it with zarr.open, after tempozarr.enable()"
            )
        source = url2pathname(unquote(url.path))
    if scheme_of(source) and not Path(source).exists():
        raise ValueError(
            f"expected a path, or a URL as text, as in 's3://bucket/a', got {shown(source)} that "
            "has become a path"
        )
    try:
        return str(Path(source).absolute()), ""
    except TypeError:
        raise TypeError(
            f"expected a path, a URL, a zarr.Array or a zarr.Group, got {type(source).__name__}"
        ) from None


def _folder(root: Root, path: str) -> Path | Folder:
    return Folder(root, path) if isinstance(root, Prefix) else Path(root, path)


def _expected(kind: str, folder: Path | Folder, node: Node | None = None) -> Node:
    """The node in a folder, which is expected to be an array, or a group."""
    node = node or _node(folder)
    if node is None or node[0] != kind:
        article = "an" if kind == "array" else "a"
        there = node and node[0]
        raise StoreError(f"expected {article} {kind} at {folder}, {_found(folder, there)}")
    return node


def _node(folder: Path | Folder) -> Node | None:
    """Kind ("array" or "group") and metadata of a folder; None if it is neither.

    Raises
    ------
    MetadataError
        If its metadata are not such.
    StoreError
        If they cannot be read.
    """
    if isinstance(folder, Folder):
        return folder.node()
    return node_of(lambda name: _json(folder / name), folder)


def _children(folder: Path | Folder) -> Iterator[tuple[str, Node | TempozarrError]]:
    """Names of the arrays and groups in a folder, sorted; their nodes, or what is wrong with them.

    Raises
    ------
    StoreError
        If the folder cannot be listed.
    """
    if isinstance(folder, Folder):
        yield from folder.children()
        return
    for name, found in _folders(folder):
        if found is not None:
            yield name, found


def _sound_children(folder: Path | Folder) -> Iterator[tuple[str, Node]]:
    """As `_children`; what is wrong with one is raised."""
    for name, found in _children(folder):
        if isinstance(found, TempozarrError):
            raise found
        yield name, found


def _folders(folder: Path) -> Iterator[tuple[str, Found]]:
    """Names of the folders in a folder, sorted; their nodes (or None), or what is wrong there."""
    for entry in listed(folder):
        found: Found
        try:
            if not is_folder(entry):
                continue
            found = _node(folder / entry.name)
            if found and (problem := name_problem(entry.name)):
                found = MetadataError(f"expected the name of an array or group: {problem}")
        except TempozarrError as e:
            found = e
        yield entry.name, found


def nodes(folder: Path | Folder, path: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, kind and metadata of an array or a group, and of all in it, groups first.

    Raises
    ------
    TempozarrError
        For what `sound_nodes` tells, but folders without metadata: they are skipped.
    """

    def failed(_: str, error: TempozarrError) -> None:
        if not isinstance(error, NoNodeError):
            raise error

    if node := _node(folder / path):
        yield from _below(folder, path, node, failed)


class NoNodeError(StoreError):
    """A folder in a store that is no part of it."""


def _below(
    folder: Path | Folder, path: str, node: Node, failed: Callable[[str, TempozarrError], object]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What `sound_nodes` gives, of the node at a path."""
    places = Places()
    levels: list[Iterator[tuple[str, Found]]] = [iter([(path, node)])]
    while levels:
        for below, found in levels[-1]:
            if found is None:
                failed(below, NoNodeError(f"a folder without {_LOOKED_FOR}"))
            elif isinstance(found, TempozarrError):
                failed(below, found)
            else:
                yield below, *found
                if found[0] == "array":
                    continue
                try:
                    members_of(found[1], folder / below)
                except MetadataError as e:
                    failed(below, e)  # and go on: only the copy of what is below is wrong
                try:
                    _enter(folder / below, len(levels) - 1, places)
                except TempozarrError as e:
                    failed(below, e)
                    continue
                levels.append(_inside(folder, below))
                break
        else:
            levels.pop()


def _inside(folder: Path | Folder, path: str) -> Iterator[tuple[str, Found]]:
    """Paths and nodes (or None) in a group, or what is wrong with them, or with the group."""
    group = folder / path
    try:
        for name, found in group.children() if isinstance(group, Folder) else _folders(group):
            yield f"{path}/{name}".lstrip("/"), found
    except TempozarrError as e:
        yield path, e


def _enter(folder: Path | Folder, depth: int, places: Places) -> None:
    """Go into a group that has so many groups around it, or refuse to."""
    if depth >= DEEPEST:
        raise MetadataError(
            f"expected groups nested at most {DEEPEST} deep, got more at {folder}: open one of "
            "those around it"
        )
    if isinstance(folder, Path):
        places.enter(folder, depth)


def sound_nodes(
    folder: Path, failed: Callable[[str, TempozarrError], object]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """`nodes` of a folder, past those that have no usable metadata.

    These are told to `failed`: a MetadataError where they are wrong; a NoNodeError where there are
    none; a StoreError where files or folders cannot be read, or are none, and for links that lead
    round in circles.
    """
    try:
        node = _node(folder)
    except TempozarrError as e:
        failed("", e)
        return

    def told(path: str, error: TempozarrError) -> None:
        if not (isinstance(error, NoNodeError) and path.rpartition("/")[2].startswith(".")):
            failed(path, error)

    if node is None:
        told("", NoNodeError(f"a folder without {_LOOKED_FOR}"))
    else:
        yield from _below(folder, "", node, told)


def _json(file: Path) -> dict[str, Any] | None:
    text = _core.read_document(file)
    return None if text is None else parsed(text, file)


def _found(folder: Path | Folder, kind: str | None) -> str:
    """What is there instead of what was asked for."""
    if kind is not None:
        article = "an" if kind == "array" else "a"
        return f"found {article} {kind}: use tempozarr.open_{kind}, or tempozarr.open for either"
    if isinstance(folder, Folder):
        return f"found no {_LOOKED_FOR} there"
    if folder.is_file():
        return "found a file: a store is a folder"
    if not folder.is_dir():
        from tempozarr._commit import unfinished

        if any((left / "old").is_dir() for left in unfinished(folder)):
            return (
                "which does not exist: a writer was interrupted while it replaced the store. "
                "tempozarr.Writer(..., mode='a') puts the one that was there back"
            )
        return "which does not exist"
    below = [name for name, _ in _children(folder)]
    return f"found a folder without {_LOOKED_FOR}; of stores it has {_listing(below)}"


def _listing(names: list[str], most: int = 12) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def _summary(metadata: Mapping[str, Any]) -> str:
    """One line about an array, from its metadata alone."""
    dtype = metadata["dtype" if is_v2(metadata) else "data_type"]
    dtype = dtype["name"] if isinstance(dtype, dict) else dtype
    chunks, shards, chain = chunking(metadata)
    parts = [f"{tuple(metadata['shape'])} {dtype}", f"chunks {chunks}"]
    if shards is not None:
        parts.append(f"shards {shards}")
    return "  ".join([*parts, " > ".join(codec_name(codec) for codec in chain)])


def chunking(
    metadata: Mapping[str, Any],
) -> tuple[tuple[int, ...], tuple[int, ...] | None, list[Any]]:
    """Shape of a chunk and of a shard, or None, and the codecs of a chunk, of stored metadata."""
    if is_v2(metadata):
        stages = [*(metadata.get("filters") or ()), metadata.get("compressor")]
        return tuple(metadata["chunks"]), None, [stage for stage in stages if stage]
    grid: Any = metadata.get("chunk_grid")
    is_regular = isinstance(grid, dict) and grid["name"] == "regular"
    chunks = tuple(grid["configuration"]["chunk_shape"]) if is_regular else ()
    chain = metadata["codecs"]
    if len(chain) == 1 and codec_name(chain[0]) == "sharding_indexed":
        inner = chain[0]["configuration"]
        return tuple(inner["chunk_shape"]), chunks, inner["codecs"]
    return chunks, None, chain


def codec_name(codec: str | Mapping[str, Any]) -> str:
    """Name of a codec in stored metadata."""
    return codec if isinstance(codec, str) else str(codec.get("name") or codec.get("id"))


def _dtype(native: str, metadata: Mapping[str, Any]) -> np.dtype[Any]:
    """Data type that zarr-python reports: as `native`, but a v2 array keeps its byte order."""
    if native == "T":
        return np.dtypes.StringDType()
    if native == "O":
        return np.dtype(object)
    return np.dtype(metadata["dtype"] if metadata["zarr_format"] == 2 else native)  # noqa: PLR2004


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def _fill_value(stored: Any, dtype: np.dtype[Any]) -> Any:
    if stored is None:
        return None
    if dtype.kind == "T":
        return str(stored)
    if dtype.kind in "OSV":
        is_text = isinstance(stored, str)
        # Without text, 0 or a list; `bytes` of another number are as many as that.
        content = base64.b64decode(stored, validate=True) if is_text else bytes([*(stored or ())])
        return content if dtype.kind == "O" else np.array(content, dtype)[()]
    if dtype.kind == "U":
        return dtype.type(stored)
    if dtype.kind in "mM":
        return np.array("NaT" if stored == "NaT" else stored, dtype)[()]
    if dtype.kind == "c":
        real, imaginary = (_number(part, np.dtype(f"f{dtype.itemsize // 2}")) for part in stored)
        return dtype.type(complex(real, imaginary))
    if dtype.kind == "f":
        return dtype.type(_number(stored, dtype))
    return dtype.type(stored)


def _number(stored: Any, dtype: np.dtype[Any]) -> Any:
    """A float as metadata has it: a number, `NaN`, `Infinity`, or its bits in hexadecimal."""
    if isinstance(stored, str) and stored.startswith("0x"):
        bits = int(stored, 16).to_bytes(dtype.itemsize, sys.byteorder)
        return np.frombuffer(bits, dtype.newbyteorder("="))[0]
    return float(stored)


def _writable(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Check a caller's `out`; give it as an array."""
    wanted = f"pass numpy.empty({shape}, {dtype.str!r}) or the like"
    if isinstance(out, np.ndarray):
        array = out
    else:
        try:
            buffer = memoryview(out)
        except TypeError:
            raise TypeError(
                f"out: expected a numpy array or a writable buffer, got {type(out).__name__}; "
                f"{wanted}"
            ) from None
        array = np.asarray(buffer)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if (
            buffer.format == "B"
            and buffer.contiguous
            and array.nbytes == size
            and not dtype.hasobject
        ):
            array = array.reshape(-1).view(dtype).reshape(shape)
    if array.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {array.shape}; {wanted}")
    if _native(array.dtype) != _native(dtype):
        raise TypeError(f"out: expected data type {dtype}, got {array.dtype}; {wanted}")
    if not array.flags.writeable:
        raise ValueError(f"out: expected a writable array, got a read-only one; {wanted}")
    return array
