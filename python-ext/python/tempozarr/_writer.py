"""`Writer`: rows that are appended to the arrays of a store as they come."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import warnings
from collections import UserDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

import numpy as np
from zarr.abc.store import Store
from zarr.storage import LocalStore

from tempozarr import _core
from tempozarr._array import Array, _node, located, nodes
from tempozarr._commit import Lock, Staging, UnfinishedError, create, recover, restore
from tempozarr._config import size_pool
from tempozarr._errors import MetadataError, StoreError, TempozarrError
from tempozarr._objects import Prefix
from tempozarr._plan import layout_by_path, plan, rows_of
from tempozarr._progress import Reporter
from tempozarr.schema import ArraySchema, GroupSchema, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from numpy.typing import ArrayLike, NDArray

    from tempozarr._plan import ArrayLayout, Layout
    from tempozarr._progress import Report

    Schema: TypeAlias = ArraySchema | GroupSchema

_AHEAD = 16 << 20
"""Bytes of rows that are collected before they are encoded."""
_AT_ONCE = 64 << 20
"""Bytes of rows that are encoded at once, if the caller brings so many."""


class Writer:
    """Appends rows to the arrays of a local store, which is a valid zarr v3 store at any moment.

    A context manager: leaving it flushes and closes, also after an error in its block. Rows become
    visible and durable with `flush`, of all arrays together: a reader or a crash sees all rows of
    a flush or none. Between two flushes, rows are encoded in the background and wait in files
    beside the store's. Of a store that is open, readers see the rows of the last flush.

    Memory stays bounded, however many rows come: for each array, two blocks of 16 MB, and the
    encoded bytes of one shard (about 32 MiB, see `tempozarr.plan`).

    Parameters
    ----------
    target
        Path, `file://` URL or `zarr.storage.LocalStore`.
    schema
        `tempozarr.schema.GroupSchema`, or an `ArraySchema` for a store that is one array. With
        mode "a", a store that is there need not be described again; only how to
        encode (`lz4_level`, `zstd_fast_decode`) is not in it.
    mode
        "w": start anew, in the place of the zarr store that is there. "a": go on behind the last
        flush of the store that is there, if there is one. "x": there must be nothing.
    estimated_rows
        How many rows there will be, for the layout and the bar.
    layout
        A `tempozarr.Plan` for the schema, if the default one for scans is not it; or by path
        `(rows of a chunk, rows of a shard or None)`, of an array alone also without a path; arrays
        that it does not name get the default. A store that is there keeps its own.
    consolidate
        Keep a copy of all metadata in the root, which then changes in one piece. By default if the
        store that is there has one.
    sync
        Whether a flush waits for the disk: it then survives a loss of power, else only the end of
        the process.
    follow_links
        Whether files are written, moved and removed through symbolic links that lead out of the
        store, to another disk say. Otherwise such a link is an error; a store from elsewhere may
        have one to anywhere. Reading follows them.
    unfinished
        With mode "a", what to do about a flush that a writer which died left, if it was not left
        here: a store that was copied, restored or downloaded may bring one along. "finish": make it
        part of the store. "discard": go back to the flush before. By default, an error. One that
        was left here is finished, unless this is "discard".
    progress
        A function of a `tempozarr.Progress`, or True for a bar (needs tqdm).

    Raises
    ------
    StoreError
        If there is another writer, if the folder cannot be written, if there is something that
        is no store, if a link leads out of it, or if there is an unfinished flush from elsewhere.
    MetadataError
        If the store that is there is not of the schema; it says where.

    Notes
    -----
    One thread at a time appends; others wait. After an error while rows are encoded or stored, the
    writer is unusable, and `rows` and `flushed_rows` are what the store has: open it again with
    mode "a", and go on behind them. That is the last flush that returned; or one that failed at its
    very end, when its rows were stored already, which its error then says.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | LocalStore,
        schema: Schema | None = None,
        *,
        mode: str = "w",
        estimated_rows: int | None = None,
        layout: Layout | ArrayLayout | None = None,
        consolidate: bool | None = None,
        sync: bool = True,
        follow_links: bool = False,
        unfinished: Literal["finish", "discard"] | None = None,
        progress: Report = False,
    ) -> None:
        if mode not in {"a", "w", "x"}:
            raise ValueError(f"mode: expected 'a', 'w' or 'x', got {mode!r}")
        if unfinished not in {None, "finish", "discard"}:
            raise ValueError(
                f"unfinished: expected 'finish', 'discard' or None, got {unfinished!r}"
            )
        self._root = folder_of(target)
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._report = Reporter(progress, estimated_rows, f"writing {self._root.name}")
        self._sync = sync
        self._layout: Layout | None = None
        self._locks: list[Lock] = []
        with self._failing():
            restore(self._root)
            there = _node(self._root) is not None
            if there and mode == "x":
                raise StoreError(
                    f"expected nothing at {self._root}, found a store: use mode 'a' or 'w'"
                )
            if there and mode == "a":
                self._locks.append(Lock(self._root))
            elif schema is None:
                raise TempozarrError(f"expected a schema for the new store {self._root}, got None")
            else:
                self._layout = _laid_out(schema, layout, estimated_rows, self._root)
                documents = _new_documents(schema, self._layout)
                self._locks.append(create(self._root, documents, sync=sync))
            self._executor = ThreadPoolExecutor(1, "tempozarr-writer")
            self._state = "open"
            try:
                self._beneath = _core.Beneath(str(self._root), follow_links)
                self._open(schema, consolidate=consolidate, unfinished=unfinished)
            except BaseException:
                self._release()
                raise

    def _open(
        self, schema: Schema | None, *, consolidate: bool | None, unfinished: str | None
    ) -> None:
        size_pool()
        self._documents, locks = recovered(self._beneath, unfinished)
        self._locks += locks
        self._attrs = _Attributes()
        # As they are: zarr-python stores NaN, which is not JSON's.
        self._attrs.data |= self._documents[""].get("attributes") or {}
        self._schema = schema or schema_of(self._root)
        self._is_one = isinstance(self._schema, ArraySchema)
        self._arrays = dict(self._schema.walk())
        if schema is not None:
            _expect_schema(self._root, schema, self._documents)
        root = self._documents[""]
        self._saved_attrs = json.dumps(self._attrs.data)
        is_consolidated = root.get("consolidated_metadata") is not None
        self._consolidate = is_consolidated if consolidate is None else consolidate
        self._unconsolidated = self._consolidate and not is_consolidated
        self._late: list[tuple[str, str]] = []
        appended = [path for path, array in self._arrays.items() if not array.late]
        if not appended:
            raise MetadataError(f"expected a schema with an array to append to, got {self._schema}")
        self._staging = Staging(self._beneath, appended[0], sync=self._sync)
        self._lanes: dict[str, _Lane] = {}
        self._groups: dict[str, list[_Lane]] = {}
        for path in appended:
            lane = _Lane(
                self._beneath, path, self._arrays[path], self._staging.path(), self._executor
            )
            self._lanes[path] = lane
            self._groups.setdefault(lane.group, []).append(lane)
        for group, lanes in self._groups.items():
            if len({lane.rows for lane in lanes}) > 1:
                lengths = ", ".join(f"{lane.path} {lane.rows}" for lane in lanes)
                raise MetadataError(
                    f"expected as many rows in all arrays of group {group or '/'} of {self._root}, "
                    f"got {lengths}: make them equal, or call those that are written whole late"
                )

    @property
    def schema(self) -> Schema:
        """What the store holds."""
        return self._schema

    @property
    def layout(self) -> Layout | None:
        """How chunks and shards were chosen; None for a store that was there."""
        return self._layout

    @property
    def attrs(self) -> MutableMapping[str, Any]:
        """Attributes of the root, to be changed; stored with the next flush.

        A value that JSON does not have is a TypeError or ValueError.
        """
        return self._attrs

    @property
    def rows(self) -> int:
        """Rows appended so far, those before this writer included: of the shortest group."""
        return min(lanes[0].rows for lanes in self._groups.values())

    @property
    def rows_by_group(self) -> dict[str, int]:
        """Rows appended so far, by the path of the group ("" is the root)."""
        return {group: lanes[0].rows for group, lanes in self._groups.items()}

    @property
    def flushed_rows(self) -> int:
        """Rows that readers see: of the shortest group."""
        return min(lane.flushed for lane in self._lanes.values())

    @overload
    def append(self, rows: Mapping[str, ArrayLike], /) -> None: ...
    @overload
    def append(self, rows: ArrayLike, /) -> None: ...
    def append(self, rows: Any, /) -> None:
        """Append rows to all arrays of a group, or of several.

        Parameters
        ----------
        rows
            By the path of the array (`"book"`, `"mid/raw"`): arrays of shape `(n, *row_shape)` and
            of the data type of the schema, with the same n within a group. What is no numpy array
            is converted. In a store that is one array, just its rows.

        Raises
        ------
        KeyError
            If there is no such array, or an array of the group is missing.
        TypeError, ValueError
            If a data type or a shape is another, or a value does not fit the stored type. Nothing
            has been appended then.
        CodecError, StoreError
            If rows, of this call or of one before, cannot be encoded or stored.
        TempozarrError
            If the writer is closed or has failed before.
        """
        with self._mutex:
            self._check_usable()
            taken = self._checked(rows)
            try:
                for lane, array in taken:
                    lane.take(array)
            except BaseException as e:
                self._fail(e)
                raise
            self._report(taken[0][0].rows if taken else self.rows)

    def write_late(self, name: str, array: ArrayLike) -> None:
        """Write all of an array that the schema calls `late`; visible from the next flush on.

        Parameters
        ----------
        name
            Path of the array.
        array
            Values of shape `(n, *row_shape)`, any n, of the data type of the schema.

        Raises
        ------
        KeyError
            If the schema has no such array.
        ValueError, TypeError
            As for `append`; and if the array has been written before.
        """
        with self._mutex:
            self._check_usable()
            schema = self._arrays.get(name)
            if schema is None or not schema.late:
                late = [path for path, array in self._arrays.items() if array.late]
                raise KeyError(
                    f"expected an array that the schema calls late, of {late}, got {name!r}: "
                    f"declare ArraySchema(name={name!r}, ..., late=True)"
                )
            if name in self._documents:
                raise ValueError(f"{name} has been written: a late array is written once")
            values = _checked(name, array, schema.numpy_dtype, schema.row_shape)
            with self._failing():
                layout = plan(schema, len(values), path=self._root)[""]
                self._documents[name] = schema.metadata(
                    len(values), layout.chunk_rows, layout.shard_rows
                )
                folder = self._staging.folder(self._documents[name])
                appender = _core.Appender(
                    self._beneath, folder, 0, self._staging.path(), **schema.encoding._asdict()
                )
                step = layout.shard_rows or layout.chunk_rows
                for start in range(0, len(values), step):
                    appender.put(start, values[start : start + step])
                self._staging.fill(folder, appender.stage(self._sync))
                self._late.append((folder, name))

    def flush(self) -> None:
        """Make all rows appended so far, late arrays and attributes visible, and durable.

        Raises
        ------
        CodecError, StoreError
            If that does not succeed. Nothing has been stored then, unless the error says that the
            rows of this flush are stored: it came too late to undo them.
        TempozarrError
            If the writer is closed or has failed before.
        """
        with self._mutex:
            self._check_usable()
            with self._failing():
                self._flush()
            self._report(self.rows, now=True)

    def close(self) -> None:
        """Flush, and let other writers in. Again is no error; a writer that failed only lets in."""
        if self._state == "closed":
            return
        try:
            if self._state == "open":
                self.flush()
        finally:
            self._release()
            self._report.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_state", None) == "open" and self._process == os.getpid():
            warnings.warn(
                f"{self!r} was not closed: rows behind {self.flushed_rows} are lost",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return f"<tempozarr.Writer {self._root}: {self.rows} rows, {self._state}>"

    def _flush(self) -> None:
        size_pool()
        moves: list[tuple[str, str]] = []
        for lane in self._lanes.values():
            moves += lane.stage(sync=self._sync)
        moves += self._late
        changed = [path for path, lane in self._lanes.items() if lane.rows != lane.flushed]
        for path in changed:
            self._documents[path]["shape"][0] = self._lanes[path].rows
        attrs = json.dumps(self._attrs.data)
        stale = self._consolidate and (self._unconsolidated or changed or self._late)
        if stale or attrs != self._saved_attrs:
            self._documents[""]["attributes"] = self._attrs.data
            if self._consolidate:
                self._documents[""]["consolidated_metadata"] = consolidated(self._documents)
            changed = [*filter(None, changed), ""]  # the root changes last
        for path in changed:
            document = self._staging.write(self._documents[path])
            moves.append((document, f"{path}/zarr.json".lstrip("/")))
        if moves:
            self._publish(moves)
        self._late = []
        self._unconsolidated = False
        self._saved_attrs = attrs

    def _publish(self, moves: list[tuple[str, str]]) -> None:
        begun = self.flushed_rows
        try:
            self._staging.publish(moves)
        except OSError as e:
            if self._staging.published:
                raise self._stored(self.rows - begun, e) from e
            raise
        finally:
            if self._staging.published:
                for lane in self._lanes.values():
                    lane.flushed = lane.rows

    def _stored(self, count: int, error: OSError) -> StoreError:
        """What to say after an error when the flush has happened."""
        message = (
            f"the {count} rows of this flush are stored; re-open with mode='a' and continue behind "
            f"row {self.rows}"
        )
        if len(self._groups) > 1:
            rows = ", ".join(f"{group or '/'} {end}" for group, end in self.rows_by_group.items())
            message += f" (of groups: {rows})"
        if isinstance(error, UnfinishedError):
            message += f". Until then, readers {error.readers}"
        return StoreError(f"{message}. What failed at {self._root}: {error}")

    def _checked(self, rows: Any) -> list[tuple[_Lane, NDArray[Any]]]:
        """Check rows for lanes, all of them before any is taken."""
        if self._is_one:
            rows = {"": rows}
        elif not isinstance(rows, Mapping):
            raise TypeError(
                f"expected rows by array, such as {{{next(iter(self._lanes))!r}: rows}}, "
                f"got {type(rows).__name__}"
            )
        taken = []
        for path, values in rows.items():
            lane = self._lanes.get(path)
            if lane is None:
                raise KeyError(f"expected rows of {', '.join(self._lanes)}, got {path!r}")
            taken.append((lane, lane.check(values)))
        for group, lanes in self._groups.items():
            counts = [len(array) for lane, array in taken if lane.group == group]
            if 0 < len(counts) < len(lanes):
                missing = [lane.path for lane in lanes if lane.path not in rows]
                raise KeyError(
                    f"expected rows of all arrays of group {group or '/'}, got none of "
                    + ", ".join(missing)
                )
            if len(set(counts)) > 1:
                raise ValueError(
                    f"expected as many rows of all arrays of group {group or '/'}, got "
                    + ", ".join(f"{lane.path} {len(rows[lane.path])}" for lane in lanes)
                )
        return taken

    def _check_usable(self) -> None:
        if self._process != os.getpid():
            raise TempozarrError(
                "expected the process that made this writer, got one forked from it"
            )
        if self._state != "open":
            raise TempozarrError(
                f"expected an open writer, got one that is {self._state}: open the store again "
                f"with mode='a' to go on behind row {self.flushed_rows}"
            )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as e:
            self._fail(e)
            raise

    def _fail(self, error: BaseException) -> None:
        """Give up after an error: some arrays may have rows that others have not."""
        self._state = "failed"
        for lane in getattr(self, "_lanes", {}).values():
            lane.rows = lane.flushed  # what the next opening finds
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise StoreError(f"cannot write {self._root}: {error}") from error

    def _release(self) -> None:
        self._state = "closed"
        with contextlib.ExitStack() as stack:  # backwards, and past errors
            if self._process == os.getpid():
                for lock in self._locks:
                    stack.callback(lock.release)
                if hasattr(self, "_staging"):
                    stack.callback(self._staging.remove)
            stack.callback(self._executor.shutdown)


class _Attributes(UserDict[str, Any]):
    """Attributes: names, and values that JSON has."""

    def __setitem__(self, name: str, value: Any) -> None:
        json.dumps({name: value}, allow_nan=False)
        super().__setitem__(name, value)


class _Lane:
    """The rows of one array on their way: collected in a block while the last one is encoded."""

    def __init__(
        self,
        beneath: _core.Beneath,
        path: str,
        schema: ArraySchema,
        staging: str,
        executor: ThreadPoolExecutor,
    ) -> None:
        stored = Array(str(beneath.root), path)
        self.path = path
        self.group = path.rpartition("/")[0]
        self.rows = self.flushed = len(stored)
        self._dtype = stored.dtype
        self._row_shape = stored.shape[1:]
        self._narrow = _narrowed(schema)
        self._executor = executor
        self._appender = _core.Appender(
            beneath, path, self.rows, staging, **schema.encoding._asdict()
        )
        self._unit = self._appender.unit_rows
        unit_bytes = self._unit * schema.row_nbytes
        units = max(min(os.cpu_count() or 1, _AT_ONCE // unit_bytes), _AHEAD // unit_bytes, 1)
        self._at_once = max(_AT_ONCE // unit_bytes, units) * self._unit
        self._block = np.empty((units * self._unit, *self._row_shape), self._dtype)
        self._other = np.empty_like(self._block)
        self._job: Future[None] | None = None
        # Rows that the block begins with, and has.
        self._start = self.rows - self.rows % self._unit
        self._count = self.rows - self._start
        if self._count:
            self._block[: self._count] = stored[self._start :]

    def check(self, rows: Any) -> NDArray[Any]:
        """Give rows as an array that can be taken."""
        array = _checked(self.path, rows, self._dtype, self._row_shape)
        if self._narrow is not None:
            _check_fits(self.path, array, self._narrow)
        return array

    def take(self, rows: NDArray[Any]) -> None:
        """Take rows that have been checked."""
        taken = 0
        while taken < len(rows):
            left = len(rows) - taken
            if self._count == 0 and left >= len(self._block):
                # Straight from the caller's memory.
                count = min(left // self._unit * self._unit, self._at_once)
                self._wait()
                self._appender.put(self._start, rows[taken : taken + count])
                self._start += count
            else:
                count = min(left, len(self._block) - self._count)
                self._block[self._count : self._count + count] = rows[taken : taken + count]
                self._count += count
                if self._count == len(self._block):
                    self._hand_over()
            taken += count
        self.rows += taken

    def stage(self, *, sync: bool) -> list[tuple[str, str]]:
        """Encode what is left; give all files of the rows taken since the last time."""
        self._wait()
        if self.rows != self.flushed and self._count:
            self._appender.put(self._start, self._block[: self._count])
            # A unit that is not complete is encoded again when it has more rows.
            whole = self._count - self._count % self._unit
            self._block[: self._count - whole] = self._block[whole : self._count]
            self._start += whole
            self._count -= whole
        return self._appender.stage(sync)

    def _hand_over(self) -> None:
        self._wait()
        self._job = self._executor.submit(self._appender.put, self._start, self._block)
        self._start += self._count
        self._count = 0
        self._block, self._other = self._other, self._block

    def _wait(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.result()


def folder_of(target: Any) -> Path:
    """Folder of a store that may not exist yet."""
    if isinstance(target, Store):
        if type(target) is not LocalStore or target.read_only:
            raise TempozarrError(
                f"expected a path or a zarr LocalStore that is not read-only, got {target!r}"
            )
        target = target.root
    root, _ = located(target)
    if isinstance(root, Prefix):
        raise StoreError(
            f"expected a local folder to write to, got {root}: write there and upload it, or write "
            "with zarr-python, after tempozarr.enable()"
        )
    return Path(root).resolve()


def documents_of(root: Path) -> dict[str, dict[str, Any]]:
    """Metadata of a store, by path.

    Raises
    ------
    MetadataError
        If there is something of zarr v2.
    """
    documents = {}
    for path, _, document in nodes(root):
        if document.get("zarr_format") != 3:  # noqa: PLR2004
            raise MetadataError(
                f"expected zarr v3 at {root / path}, found v{document.get('zarr_format')}: "
                "tempozarr.copy makes a v3 store of it"
            )
        documents[path] = document
    return documents


def recovered(
    beneath: _core.Beneath, unfinished: str | None = None
) -> tuple[dict[str, dict[str, Any]], list[Lock]]:
    """Metadata of a store after what a writer left is finished, and the locks of its arrays.

    The root is locked already.
    """
    root = Path(beneath.root)
    documents = documents_of(root)
    arrays = [path for path, document in documents.items() if document["node_type"] == "array"]
    locks: list[Lock] = []
    try:
        locks += (Lock(root / path) for path in arrays if path)
        if sum([recover(beneath, documents, path, unfinished) for path in arrays]):
            documents = documents_of(root)
    except BaseException:
        for lock in locks:
            lock.release()
        raise
    return documents, locks


def _laid_out(
    schema: Schema, layout: Layout | ArrayLayout | None, rows: int | None, root: Path
) -> Layout:
    """What is given, and what the planner chooses for the other arrays."""
    arrays = dict(schema.walk())
    given = layout_by_path(layout, arrays)
    if all(path in given or array.late for path, array in arrays.items()):
        return given
    planned = plan(schema, rows, path=root)
    return {**planned, **given} if given else planned


def _new_documents(schema: Schema, layout: Layout) -> dict[str, dict[str, Any]]:
    documents = {path: group.metadata() for path, group in schema.walk_groups()}
    for path, array in schema.walk():
        if not array.late:
            documents[path] = array.metadata(0, *rows_of(layout[path]))
    return documents


def _expect_schema(root: Path, schema: Schema, documents: Mapping[str, dict[str, Any]]) -> None:
    """Refuse a store that is not of the schema."""
    arrays, groups = dict(schema.walk()), dict(schema.walk_groups())
    problems = [
        f"{path or '/'}: expected a group, the store has none there"
        for path in groups
        if documents.get(path, {}).get("node_type") != "group"
    ]
    for path, array in arrays.items():
        if path in documents:
            problems += array.differences(documents[path])
        elif not array.late:
            problems.append(f"{path}: expected an array, the store has none there")
    for path, document in documents.items():
        unknown = document["node_type"] == "array" and path not in arrays
        if unknown and path.rpartition("/")[0] in groups:
            problems.append(f"{path}: the store has that array, the schema has not")
    if problems:
        raise MetadataError("\n  ".join([f"the store {root} is not of the schema:", *problems]))


def consolidated(documents: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Metadata of everything below the root, as zarr-python keeps it there."""
    below = {path: document for path, document in sorted(documents.items()) if path}
    return {"kind": "inline", "must_understand": False, "metadata": below}


def _checked(
    path: str, rows: Any, dtype: np.dtype[Any], row_shape: tuple[int, ...]
) -> NDArray[Any]:
    """Give rows as an array of that type and shape, in native byte order."""
    where = path or "rows"
    if not isinstance(rows, np.ndarray):  # lists have no data type, others have theirs
        rows = np.asarray(rows, None if hasattr(rows, "__array__") else dtype)
    array: NDArray[Any] = rows
    if array.dtype != dtype:
        if array.dtype.newbyteorder("=") != dtype:
            raise TypeError(
                f"{where}: expected data type {dtype}, got {array.dtype}: "
                f"convert them, if that loses nothing, with .astype({dtype.name!r})"
            )
        array = array.astype(dtype)
    if array.ndim == 0 or array.shape[1:] != row_shape:
        expected = ", ".join(["n", *map(str, row_shape)]) + ("" if row_shape else ",")
        raise ValueError(f"{where}: expected rows of shape ({expected}), got {array.shape}")
    return array


def _narrowed(schema: ArraySchema) -> np.iinfo[Any] | None:
    """Limits of the integers that values are stored as, where those are narrower."""
    first = schema.codecs[0]
    if first["name"] != "numcodecs.astype":
        return None
    target = np.dtype(first["configuration"]["encode_dtype"])  # type: ignore[index, call-overload, arg-type]
    return np.iinfo(target) if target.kind in "iu" else None


def _check_fits(path: str, rows: NDArray[Any], limits: np.iinfo[Any]) -> None:
    """Refuse values that the stored type does not hold, before rows are taken."""
    # Fractions are cut off. Both bounds are powers of two, which float64 has; a comparison with
    # NaN is False.
    whole = np.trunc(rows, dtype=np.float64) if rows.dtype.kind == "f" else rows
    fits = (whole >= int(limits.min)) & (whole < int(limits.max) + 1)
    if not fits.all():
        place = tuple(int(i) for i in np.argwhere(~fits)[0])
        raise ValueError(
            f"{path or 'rows'}: expected values that fit {limits.dtype}, as which they are stored, "
            f"got {rows[place]} at {list(place)}"
        )
