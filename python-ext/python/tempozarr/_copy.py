"""`copy`: an array or a group encoded anew, with another layout and other codecs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from tempozarr import _array, _chains, _core
from tempozarr._array import Array, Group, _locate, _native, _node
from tempozarr._commit import Lock, Staging, create, recover, remove_unfinished
from tempozarr._compare import errors, first_difference, rounds
from tempozarr._errors import CodecError, MetadataError, StoreError, TempozarrError
from tempozarr._plan import plan
from tempozarr._progress import Reporter
from tempozarr._report import ArrayReport, CopyReport
from tempozarr._writer import Writer, _consolidated, _documents, _folder
from tempozarr.schema import _V2_DIMENSIONS, ArraySchema, GroupSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from tempozarr._array import Source
    from tempozarr._progress import Report
    from tempozarr._writer import Layout, Schema

    AnyArray: TypeAlias = Array | zarr.Array[Any]

_AT_ONCE = 32 << 20
"""Bytes of rows that are read at once, unless a chunk of the source has more, ..."""
_CHUNK_AT_ONCE = 512 << 20
"""... which is read at once up to here; a larger one is decoded several times."""
_FLUSH = 256 << 20
"""Bytes of rows between two flushes, at least."""
_SAMPLE = 16 << 20
_SAMPLE_PARTS = 4


def copy(
    source: Source | Array | Group,
    target: str | os.PathLike[str] | zarr.storage.LocalStore,
    schema: Schema | None = None,
    *,
    layout: Layout | None = None,
    access: Literal["scan", "windows"] = "scan",
    window: int | None = None,
    verify: bool = False,
    overwrite: bool = False,
    sync: bool = True,
    progress: Report = False,
) -> CopyReport:
    """Encode an array or a group anew, into a new local store of zarr v3.

    Rows are read, decoded and encoded block by block, in parallel and in bounded memory. The target
    is a valid store at any moment, of the rows of the last flush, about one for each shard. After
    an interruption, however hard, the same call goes on there; of a source that has got longer, it
    copies what is new. The source is only read.

    Attributes, dimension names, fill values and data types are kept, and groups, and consolidated
    metadata where the source has it. Attributes that JSON does not have become text: "NaN".

    Parameters
    ----------
    source
        Of zarr v2 or v3: as for `tempozarr.open`, or what it returned, or a `zarr.Array` or
        `zarr.Group` of any store. What Rust cannot read is read by zarr-python.
    target
        Path, `file://` URL or `zarr.storage.LocalStore`.
    schema
        Codecs, names and attributes of the arrays: an `ArraySchema`, or for a group a `GroupSchema`
        that has all arrays. Further attributes of the source are kept.
        By default, codecs stay what they are, of v2 those of v3 that do the same; an array gets
        those that an `ArraySchema` has by default if zarr v3 or Rust has no such chain, or if it
        would round again (a delta of floats).
        Arrays that a schema cannot describe (no dimensions, texts and bytes of variable length,
        fields) need not be in it: zarr-python copies them, with their chunks and codecs; v2 ones
        get zarr-python's default codecs.
    layout
        A `tempozarr.Plan`, or by path `(rows of a chunk, rows of a shard or None)`, for the arrays
        that it names; the others are planned from a sample of their rows.
    access, window
        How the target will be read: see `tempozarr.plan`.
    verify
        Read the target back, and compare every bit; or, if the codecs round, tell the errors. Rows
        that an earlier call copied are compared too.
    overwrite
        Begin anew in the place of the store that is there; it is never continued then.
    sync
        Whether to wait for the disk, so that what is flushed survives a loss of power.
    progress
        A function of a `tempozarr.Progress`, or True for a bar (needs tqdm).

    Returns
    -------
    What was copied, by array: print it.

    Raises
    ------
    StoreError
        If source and target overlap, if the target is something that is no store, or if another
        writer has it.
    MetadataError
        If the store at the target is no copy of the source as far as it goes: it has other arrays,
        another schema or layout, more rows, or other rows at its beginning or end. Or if the schema
        does not fit the source. Nothing has been written then.
    CodecError
        If a chunk does not decode, a value does not fit its codecs, or verifying finds a
        difference; a note says which array.

    Examples
    --------
    >>> import numpy as np, tempozarr, zarr
    >>> old = zarr.create_group("old.zarr", zarr_format=2)
    >>> mid = old.create_array("mid", data=np.linspace(100, 101, 1000), chunks=(50,))
    >>> mid16 = tempozarr.schema.ArraySchema(name="mid", dtype="float64", float16=True)
    >>> market = tempozarr.schema.GroupSchema(arrays=[mid16])
    >>> report = tempozarr.copy("old.zarr", "new.zarr", market, verify=True)
    >>> report.rows, round(report["mid"].max_error, 4)
    (1000, 0.0312)
    """
    began = time.monotonic()
    found = _find(source)
    root = _folder(target)
    _keep_apart(found.place, root)
    jobs = _jobs(found, schema)
    if unknown := sorted(set(layout or ()) - {path for path, job in jobs.items() if job.schema}):
        raise ValueError(f"layout: expected paths among {sorted(jobs)}, got {unknown}")
    if _node(root) is not None and not overwrite:
        lock = Lock(root)
        try:
            _expect_beginning(root, found, jobs, layout or {})
        except BaseException:
            lock.release()
            raise
    else:
        groups = _group_documents(found, schema)
        arrays = {
            path: job.metadata(*_layout(job, layout or {}, access, window, root))
            for path, job in jobs.items()
            if job.schema
        }
        lock = create(root, dict(sorted((groups | arrays).items())))
    if not found.groups:
        lock.release()  # the writer of the only array takes it
    try:
        reports = _run(jobs, root, verify=verify, sync=sync, progress=progress)
        if found.groups:
            _consolidate(root, next(iter(jobs), ""), always=found.consolidated, sync=sync)
    finally:
        lock.release()
    return CopyReport(reports, time.monotonic() - began)


# -- what there is -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Arrays, and attributes of groups (none if the source is an array), by path."""

    arrays: dict[str, AnyArray]
    groups: dict[str, dict[str, Any]]
    place: Path | None
    consolidated: bool


def _find(source: Any) -> _Found:
    if isinstance(source, Array | Group):
        place = Path(source._root, source.path)  # noqa: SLF001
    else:
        try:
            place = Path(*_locate(source))
        except TempozarrError:
            return _find_elsewhere(source)
    node = _node(place)
    if node is None:
        _array.open(place)  # which says what there is instead
    arrays: dict[str, AnyArray] = {}
    groups: dict[str, dict[str, Any]] = {}
    _walk(place, "", arrays, groups)
    consolidated = (place / ".zmetadata").exists() or bool(
        node and node[1].get("consolidated_metadata")
    )
    return _Found(arrays, groups, place, consolidated)


def _walk(
    folder: Path, path: str, arrays: dict[str, AnyArray], groups: dict[str, dict[str, Any]]
) -> None:
    kind, document = _node(folder) or ("", {})
    if kind == "array":
        arrays[path] = _open(folder)
    elif kind == "group":
        groups[path] = document.get("attributes") or {}
        for child in sorted(folder.iterdir()):
            if child.is_dir():
                _walk(child, f"{path}/{child.name}".lstrip("/"), arrays, groups)


def _open(folder: Path) -> AnyArray:
    try:
        return Array(str(folder))
    except TempozarrError as ours:
        try:
            with _chains.quiet():
                return zarr.open_array(folder, mode="r")
        except (KeyError, TypeError, ValueError) as theirs:
            raise MetadataError(
                f"expected an array that tempozarr or zarr-python opens, got {ours}; {theirs!r}"
            ) from theirs


def _find_elsewhere(source: Any) -> _Found:
    """Find arrays and groups of a store that zarr-python reads."""
    node = source if isinstance(source, zarr.Array | zarr.Group) else zarr.open(source, mode="r")
    place = _place(node.store)
    if isinstance(node, zarr.Array):
        return _Found({"": node}, {}, place, consolidated=False)
    members = sorted(node.members(max_depth=None))
    groups = {
        path: group for path, group in [("", node), *members] if isinstance(group, zarr.Group)
    }
    return _Found(
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


def _keep_apart(source: Path | None, target: Path) -> None:
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


# -- what it shall be --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One array to copy; without a schema, zarr-python does it."""

    path: str
    array: AnyArray
    schema: ArraySchema | None
    attributes: dict[str, Any]
    dimension_names: list[str | None] | None
    kept: bool  # the names too

    @property
    def rows(self) -> int:
        return self.array.shape[0] if self.array.shape else 1

    @property
    def nbytes(self) -> int:
        return math.prod(self.array.shape) * self.array.dtype.itemsize

    def metadata(self, chunk_rows: int, shard_rows: int | None) -> dict[str, Any]:
        """Make the `zarr.json` of the target, without rows."""
        assert self.schema is not None  # noqa: S101
        document = self.schema.metadata(0, chunk_rows, shard_rows)
        document["attributes"] = self.attributes | document["attributes"]
        return self._named(document) if self.kept else document

    def whole_metadata(self) -> dict[str, Any]:
        """Make the `zarr.json` of a target that zarr-python writes."""
        document = _document(self.array)
        if document["zarr_format"] == 2:  # noqa: PLR2004
            array = _zarr(self.array)
            copied = zarr.create_array(
                MemoryStore(),
                shape=array.shape,
                chunks=array.chunks,
                dtype=array.metadata.dtype,
                fill_value=array.fill_value,
            )
            document = _chains.document(copied)
        document["attributes"] = self.attributes
        return self._named(document)

    def _named(self, document: dict[str, Any]) -> dict[str, Any]:
        document.pop("dimension_names", None)
        names = {"dimension_names": self.dimension_names} if self.dimension_names else {}
        return document | names


def _jobs(found: _Found, schema: Schema | None) -> dict[str, _Job]:
    """Pair arrays with their schemas; refuse a schema that is not of the source."""
    wanted: dict[str, ArraySchema] = {}
    if schema is not None:
        kind = GroupSchema if found.groups else ArraySchema
        if not isinstance(schema, kind):
            raise TypeError(
                f"schema: expected {kind.__name__}, as the source is "
                f"{'a group' if found.groups else 'an array'}, got {type(schema).__name__}"
            )
        wanted = {"": schema} if isinstance(schema, ArraySchema) else dict(schema.walk())
    jobs = {}
    problems = []
    for path, array in found.arrays.items():
        document = _document(array)
        attributes = _json(document.get("attributes") or {})
        names = document.get("dimension_names")
        named = attributes.get(_V2_DIMENSIONS)
        if isinstance(named, list) and len(named) == len(array.shape) and names is None:
            names = attributes.pop(_V2_DIMENSIONS)
        given = wanted.pop(path, None)
        described = given
        if given is None:
            described = _describe(array, document, names, path)
            if described is not None and schema is not None:
                problems.append(f"{path}: the source has that array, the schema has not")
        elif problem := _misfit(given, array):
            problems.append(f"{path or given.name}: {problem}")
        else:
            described = given.model_copy(update={"late": False})
        jobs[path] = _Job(path, array, described, attributes, names, kept=given is None)
    problems += [f"{path}: the schema has that array, the source has not" for path in wanted]
    if problems:
        raise MetadataError(
            "\n  ".join(["expected a schema of all arrays of the source:", *problems])
        )
    return jobs


def _misfit(schema: ArraySchema, array: AnyArray) -> str | None:
    shape = ("rows", *schema.row_shape)
    fits = array.shape and array.shape[1:] == schema.row_shape
    if fits and _native(array.dtype) == schema.numpy_dtype:
        return None
    return (
        f"expected {schema.dtype} of shape ({', '.join(map(str, shape))}), the source has "
        f"{array.dtype} of shape {array.shape}: describe what the source has; only codecs, names "
        "and attributes may be others"
    )


def _describe(
    array: AnyArray, document: Mapping[str, Any], names: list[Any] | None, path: str
) -> ArraySchema | None:
    """Make the schema that keeps an array as it is; None if there is none."""
    if not array.shape or array.dtype.kind in "TO":
        return None
    v2 = document["zarr_format"] == 2  # noqa: PLR2004
    fields = {
        "name": path.rpartition("/")[2] or "array",
        "dtype": array.dtype,
        "row_shape": array.shape[1:],
        "fill_value": array.fill_value if v2 else document["fill_value"],
        "dimension_names": names if names and None not in names else None,
    }
    with contextlib.suppress(MetadataError, LookupError, TypeError, ValueError):
        codecs = (
            _chains.from_v2(document, array.dtype) if v2 else _chains.innermost(document["codecs"])
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is left out below
            schema = ArraySchema(**fields, codecs=codecs)
        if not _chains.lossy(schema.codecs):
            return schema
    try:
        return ArraySchema(**fields)
    except ValidationError:
        return None


def _document(array: AnyArray) -> dict[str, Any]:
    """Stored metadata, attributes included."""
    if isinstance(array, Array):
        return array.metadata
    files = array.metadata.to_buffer_dict(default_buffer_prototype())
    documents = {name: json.loads(file.to_bytes()) for name, file in files.items()}
    if "zarr.json" in documents:
        return dict(documents["zarr.json"])
    return dict(documents[".zarray"]) | {"attributes": documents.get(".zattrs", {})}


def _json(value: Any) -> Any:
    """Spell the floats that JSON has not, which Python writes nevertheless, as zarr v3 does."""
    if isinstance(value, dict):
        return {name: _json(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_json(below) for below in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _group_documents(found: _Found, schema: Schema | None) -> dict[str, dict[str, Any]]:
    documents = {
        path: GroupSchema().metadata() | {"attributes": _json(attributes)}
        for path, attributes in found.groups.items()
    }
    if isinstance(schema, GroupSchema):
        for path, group in schema.walk_groups():
            document = group.metadata()
            kept = documents.get(path, document)["attributes"]
            documents[path] = document | {"attributes": kept | document["attributes"]}
    return documents


def _layout(
    job: _Job,
    layout: Layout,
    access: Literal["scan", "windows"],
    window: int | None,
    root: Path,
) -> tuple[int, int | None]:
    """Rows of a chunk and of a shard."""
    assert job.schema is not None  # noqa: S101
    if job.path in layout:
        given = layout[job.path]
        return given if isinstance(given, tuple) else (given.chunk_rows, given.shard_rows)
    with _naming(job, "planning"):
        planned = plan(
            job.schema, job.rows, access=access, window=window, path=root, sample=_sample(job)
        )[""]
    return planned.chunk_rows, planned.shard_rows


def _sample(job: _Job) -> NDArray[Any] | None:
    """Rows from beginning to end; None if there are none."""
    assert job.schema is not None  # noqa: S101
    if job.rows == 0:
        return None
    count = min(max(_SAMPLE // _SAMPLE_PARTS // job.schema.row_nbytes, 1), job.rows)
    starts = np.linspace(0, job.rows - count, _SAMPLE_PARTS).astype(int)
    parts = [_rows(job.array, int(start), int(start) + count) for start in dict.fromkeys(starts)]
    return np.concatenate(parts)


# -- what the target has already ---------------------------------------------------------------


def _expect_beginning(root: Path, found: _Found, jobs: Mapping[str, _Job], layout: Layout) -> None:
    """Refuse a store that is no copy, as far as it goes."""
    remove_unfinished(root)
    documents = _documents(root)
    for path, document in documents.items():
        if document["node_type"] == "array":
            with _locked(root, path):
                recover(root, path)
    documents = _documents(root)
    problems = [
        f"{path or '/'}: expected a group, the target has none there"
        for path in found.groups
        if documents.get(path, {}).get("node_type") != "group"
    ]
    for path, job in jobs.items():
        problems += _array_problems(job, documents.get(path), layout.get(path))
    problems += [
        f"{path}: the target has that array, the source has not"
        for path, document in documents.items()
        if document["node_type"] == "array" and path not in jobs
    ]
    for path, job in jobs.items() if not problems else ():
        if path in documents and (problem := _other_rows(job, root / path)):
            problems.append(f"{path or 'array'}: {problem}")
    if problems:
        summary = (
            f"{root} is not a copy that can be continued; pass overwrite=True to begin anew in its "
            "place, or choose another target:"
        )
        raise MetadataError("\n  ".join([summary, *problems]))


def _array_problems(job: _Job, stored: dict[str, Any] | None, layout: Any) -> list[str]:
    where = job.path or "array"
    if stored is None:
        # Those that zarr-python copies come into the store when they are complete.
        return [f"{where}: expected an array, the target has none there"] if job.schema else []
    if job.schema is None:
        pairs = (
            (key, job.whole_metadata()[key], stored.get(key))
            for key in ("shape", "data_type", "codecs")
        )
        return [
            f"{where}: {key}: expected {ours}, the target has {theirs}"
            for key, ours, theirs in pairs
            if ours != theirs
        ]
    problems = job.schema.differences(stored)
    if problems:
        return problems
    if stored["shape"][0] > job.rows:
        found = stored["shape"][0]
        problems = [
            f"{where}: expected at most the source's {job.rows} rows, the target has {found}"
        ]
    if layout is not None:
        rows = layout if isinstance(layout, tuple) else (layout.chunk_rows, layout.shard_rows)
        expected = job.metadata(*rows)
        for key in ("chunk_grid", "codecs"):
            if expected[key] != stored[key]:
                problems.append(
                    f"{where}: expected {rows[0]} rows in a chunk and {rows[1]} in a shard, the "
                    "target has another layout: leave layout out to keep that"
                )
                break
    return problems


def _other_rows(job: _Job, folder: Path) -> str | None:
    """Compare the first and the last chunk of the target with what the source makes of it."""
    if job.schema is None:
        with contextlib.suppress(CodecError):
            _verify_whole(job, folder)
            return None
        return "the target has other values than the source"
    stored = Array(str(folder))
    length = stored.chunks[0]
    if not len(stored):
        return None
    pipeline = _core.ChunkPipeline(json.dumps(job.schema.metadata(length, length)))
    for start in {0, (len(stored) - 1) // length * length}:
        ours = stored[start : start + length]
        chunk = np.full((length, *job.schema.row_shape), stored.fill_value, stored.dtype)
        chunk[: len(ours)] = _rows(job.array, start, start + len(ours))
        # Which is what it was, or for codecs that round, what they make of it.
        theirs = pipeline.decode(pipeline.encode(chunk))[: len(ours)]
        if (row := first_difference(ours, theirs)) is not None:
            return f"row {start + row} of the target is not that of the source"
    return None


# -- copying -----------------------------------------------------------------------------------


def _run(
    jobs: Mapping[str, _Job], root: Path, *, verify: bool, sync: bool, progress: Report
) -> dict[str, ArrayReport]:
    seconds = dict.fromkeys(jobs, 0.0)

    def each(what: str, act: Callable[[_Job, Callable[[int], None]], Any]) -> dict[str, Any]:
        """Do something to all arrays, one after the other."""
        report = Reporter(progress, sum(job.rows for job in jobs.values()), f"{what} {root.name}")
        results = {}
        done = 0
        try:
            for path, job in jobs.items():
                began = time.monotonic()
                with _naming(job, what):
                    results[path] = act(job, lambda rows: report(done + rows))  # noqa: B023
                done += job.rows
                report(done, now=True)
                seconds[path] += time.monotonic() - began
        finally:
            report.close()
        return results

    resumed = each("copying", lambda job, told: _copy_array(job, root, told, sync=sync))
    worst = each("verifying", lambda job, told: _verify(job, root, told)) if verify else {}
    return {
        path: ArrayReport(
            rows=job.rows,
            nbytes=job.nbytes,
            stored_before=_stored(_folder_of(job.array)),
            stored_after=_stored(root / path) or 0,
            seconds=seconds[path],
            resumed_from=resumed[path],
            verified=verify,
            max_error=worst.get(path),
        )
        for path, job in jobs.items()
    }


@contextlib.contextmanager
def _naming(job: _Job, what: str) -> Iterator[None]:
    """Note in errors which array they are about."""
    try:
        yield
    except Exception as e:
        e.add_note(f"while {what} array {job.path or '/'} of {job.array.shape} {job.array.dtype}")
        raise


def _copy_array(job: _Job, root: Path, told: Callable[[int], None], *, sync: bool) -> int:
    """Copy the rows that are missing; give the first one."""
    folder = root / job.path
    if job.schema is None:
        if _node(folder):
            return job.rows
        _copy_whole(job, root, sync=sync)
        return 0
    stored = Array(str(folder))
    if len(stored) == job.rows:
        return job.rows
    file_rows = (stored.shards or stored.chunks)[0]
    # Flushes in the middle of a file would write it twice.
    flush_rows = max(_FLUSH // (file_rows * job.schema.row_nbytes), 1) * file_rows
    with Writer(folder, job.schema, mode="a", sync=sync) as writer:
        begun = writer.rows
        for rows in _blocks(job.array, begun, job.rows, _step(job.array, stored), flush_rows):
            writer.append(rows)
            told(writer.rows)
            if writer.rows % flush_rows == 0:
                writer.flush()
    return begun


def _copy_whole(job: _Job, root: Path, *, sync: bool) -> None:
    """Copy an array with zarr-python, into a folder beside the store first."""
    source = _zarr(job.array)
    folder = root.with_name(f".{root.name}.{uuid.uuid4().hex}.new")  # as `create` calls its own
    folder.mkdir()
    lock = Lock(folder)
    try:
        (folder / "zarr.json").write_text(json.dumps(job.whole_metadata(), indent=2))
        copied = zarr.open_array(folder, mode="r+")
        for region in _regions(source):
            copied[region] = source[region]
        if sync:
            os.sync()
        folder.rename(root / job.path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def _step(source: AnyArray, target: Array) -> int:
    """Rows to read at once: whole chunks of the source, and of the target if that is possible."""
    row_nbytes = source.dtype.itemsize * math.prod(source.shape[1:])
    length = source.chunks[0]
    most = max(_AT_ONCE // row_nbytes, 1)
    for unit in (math.lcm(length, target.chunks[0]), length):
        if unit <= most:
            return most // unit * unit
    return max(min(length, _CHUNK_AT_ONCE // row_nbytes), 1)


def _blocks(
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
            following = executor.submit(_rows, array, start, end, buffers[0])
            buffers.reverse()
            if ahead is not None:
                yield ahead.result()
            ahead = following
            start = end
        if ahead is not None:
            yield ahead.result()


def _rows(
    array: AnyArray, start: int, stop: int, memory: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Read rows, in native byte order."""
    if memory is None:
        memory = np.empty((stop - start, *array.shape[1:]), _native(array.dtype))
    rows = memory[: stop - start]
    if isinstance(array, Array):
        array.read(slice(start, stop), out=rows)
    else:
        rows[...] = array[start:stop]
    return rows


def _zarr(array: AnyArray) -> zarr.Array[Any]:
    if isinstance(array, zarr.Array):
        return array
    with _chains.quiet():
        return zarr.open_array(_folder_of(array), mode="r")


def _regions(array: zarr.Array[Any]) -> Iterator[Any]:
    """Rows of chunks, or of shards."""
    if not array.shape:
        yield ...
        return
    step = (array.shards or array.chunks)[0]
    for start in range(0, array.shape[0], step):
        yield slice(start, start + step)


def _consolidate(root: Path, inside: str, *, always: bool, sync: bool) -> None:
    """Put a copy of all metadata into the root, or renew it."""
    documents = _documents(root)
    if always or documents[""].get("consolidated_metadata"):
        documents[""]["consolidated_metadata"] = _consolidated(documents)
        with _locked(root, inside):
            staging = Staging(root, inside, sync=sync)
            staging.write(documents[""]).replace(root / "zarr.json")
            staging.remove()


@contextlib.contextmanager
def _locked(root: Path, path: str) -> Iterator[None]:
    """Keep out other writers of an array below the root, which is locked."""
    lock = Lock(root / path) if path else None
    try:
        yield
    finally:
        if lock:
            lock.release()


def _folder_of(array: AnyArray) -> Path | None:
    if isinstance(array, Array):
        return Path(array._root, array.path)  # noqa: SLF001
    try:
        return Path(*_locate(array))
    except TempozarrError:
        return None


def _stored(folder: Path | None) -> int | None:
    """Bytes of the chunks in the folder of an array."""
    if folder is None:
        return None
    documents = {"zarr.json", ".zarray", ".zattrs"}
    return sum(
        (Path(place) / file).stat().st_size
        for place, _, files in os.walk(folder)
        for file in files
        if file not in documents
    )


# -- verifying ---------------------------------------------------------------------------------


def _verify(job: _Job, root: Path, told: Callable[[int], None]) -> float | tuple[float, ...] | None:
    """Compare all rows; give the errors of codecs that round, if any."""
    folder = root / job.path
    if job.schema is None:
        _verify_whole(job, folder)
        return None
    stored = Array(str(folder))
    may_differ = rounds(job.schema)
    worst: Any = None
    done = 0
    ours, theirs = (
        _blocks(array, 0, job.rows, _step(job.array, stored)) for array in (stored, job.array)
    )
    for found, expected in zip(ours, theirs, strict=True):
        if (row := first_difference(found, expected)) is not None:
            if not may_differ:
                raise CodecError(
                    f"row {done + row} of {folder} is not that of the source, and its codecs do "
                    "not round: copy again with overwrite=True"
                )
            worse = errors(found, expected)
            worst = worse if worst is None else np.maximum(worst, worse)
        done += len(found)
        told(done)
    return None if worst is None else float(worst) if np.ndim(worst) == 0 else tuple(worst.tolist())


def _verify_whole(job: _Job, folder: Path) -> None:
    source, copied = _zarr(job.array), zarr.open_array(folder, mode="r")
    for region in _regions(source):
        ours, theirs = np.asarray(copied[region]), np.asarray(source[region])
        if ours.dtype.kind in "TO":
            same = np.array_equal(ours, theirs)
        else:
            same = ours.tobytes() == theirs.astype(ours.dtype).tobytes()
        if not same:
            raise CodecError(
                f"{region} of {folder} is not that of the source: copy again with overwrite=True"
            )
