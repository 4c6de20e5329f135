"""`copy`: an array or a group encoded anew, with another layout and other codecs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from tempozarr import _core
from tempozarr._array import Array, Group, _node
from tempozarr._commit import (
    Lock,
    Staging,
    beside,
    create,
    into,
    restore,
    sync_paths,
    sync_tree,
    writing,
)
from tempozarr._compare import errors, first_difference, rounds
from tempozarr._errors import CodecError, MetadataError
from tempozarr._jobs import Job, group_documents, lay_out, naming, pair
from tempozarr._plan import layout_by_path, rows_of
from tempozarr._progress import Reporter
from tempozarr._report import ArrayReport, CopyReport
from tempozarr._sources import (
    Found,
    block_rows,
    blocks,
    by_zarr,
    find,
    keep_apart,
    place_of,
    read_by_zarr,
    read_rows,
    regions,
)
from tempozarr._writer import Writer, consolidated, documents_of, folder_of, recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tempozarr._array import Source
    from tempozarr._plan import ArrayLayout, Layout
    from tempozarr._progress import Report
    from tempozarr._writer import Schema

FLUSH = 256 << 20
"""Bytes of rows between two flushes, at least."""


def copy(
    source: Source | Array | Group,
    target: str | os.PathLike[str] | zarr.storage.LocalStore,
    schema: Schema | None = None,
    *,
    layout: Layout | ArrayLayout | None = None,
    access: Literal["scan", "windows"] = "scan",
    window: int | None = None,
    verify: bool = False,
    overwrite: bool = False,
    sync: bool = True,
    follow_links: bool = False,
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
        that it names; the others are planned from a sample of their rows. Of an array alone also
        without a path.
    access, window
        How the target will be read: see `tempozarr.plan`.
    verify
        Read the target back, and compare every bit; or, if the codecs round, tell the errors. Rows
        that an earlier call copied are compared too.
    overwrite
        Begin anew in the place of the store that is there; it is never continued then.
    sync
        Whether to wait for the disk, so that what is flushed survives a loss of power.
    follow_links
        Whether to write to the target through symbolic links that lead out of it, as for `Writer`.
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
    found = find(source)
    root = folder_of(target)
    keep_apart(found.place, root)
    jobs = pair(found, schema)
    layout = layout_by_path(layout, (path for path, job in jobs.items() if job.schema))
    with writing(root):
        restore(root)
    goes_on = _node(root) is not None and not overwrite
    with writing(root):
        if goes_on:
            lock = Lock(root)
        else:
            groups = group_documents(found, schema)
            arrays = {
                path: job.metadata(*lay_out(job, layout, access, window, root))
                for path, job in jobs.items()
                if job.schema
            }
            lock = create(root, dict(sorted((groups | arrays).items())), sync=sync)
    try:
        with writing(root):
            beneath = _core.Beneath(str(root), follow_links)
            if goes_on:
                _expect_beginning(beneath, found, jobs, layout)
        if not found.groups:
            lock.release()  # the writer of the only array takes it
        reports = _run(jobs, beneath, verify=verify, sync=sync, progress=progress)
        if found.groups:
            with writing(root):
                _consolidate(beneath, next(iter(jobs), ""), always=found.consolidated, sync=sync)
    finally:
        lock.release()
    return CopyReport(reports, time.monotonic() - began)


def _expect_beginning(
    beneath: _core.Beneath, found: Found, jobs: Mapping[str, Job], layout: Layout
) -> None:
    """Refuse a store that is no copy, as far as it goes."""
    root = Path(beneath.root)
    documents, locks = recovered(beneath)
    for lock in locks:  # the writers of the arrays take them
        lock.release()
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


def _array_problems(job: Job, stored: dict[str, Any] | None, layout: Any) -> list[str]:
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
        rows = rows_of(layout)
        expected = job.metadata(*rows)
        for key in ("chunk_grid", "codecs"):
            if expected[key] != stored[key]:
                problems.append(
                    f"{where}: expected {rows[0]} rows in a chunk and {rows[1]} in a shard, the "
                    "target has another layout: leave layout out to keep that"
                )
                break
    return problems


def _other_rows(job: Job, folder: Path) -> str | None:
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
        chunk[: len(ours)] = read_rows(job.array, start, start + len(ours))
        # Which is what it was, or for codecs that round, what they make of it.
        theirs = pipeline.decode(pipeline.encode(chunk))[: len(ours)]
        if (row := first_difference(ours, theirs)) is not None:
            return f"row {start + row} of the target is not that of the source"
    return None


def _run(
    jobs: Mapping[str, Job],
    beneath: _core.Beneath,
    *,
    verify: bool,
    sync: bool,
    progress: Report,
) -> dict[str, ArrayReport]:
    root = Path(beneath.root)
    seconds = dict.fromkeys(jobs, 0.0)

    def each(what: str, act: Callable[[Job, Callable[[int], None]], Any]) -> dict[str, Any]:
        """Do something to all arrays, one after the other."""
        report = Reporter(progress, sum(job.rows for job in jobs.values()), f"{what} {root.name}")
        results = {}
        done = 0
        try:
            for path, job in jobs.items():
                began = time.monotonic()
                with naming(job, what):
                    results[path] = act(job, lambda rows: report(done + rows))  # noqa: B023
                done += job.rows
                report(done, now=True)
                seconds[path] += time.monotonic() - began
        finally:
            report.close()
        return results

    resumed = each("copying", lambda job, told: _copy_array(job, beneath, told, sync=sync))
    worst = each("verifying", lambda job, told: _verify(job, root, told)) if verify else {}
    return {
        path: ArrayReport(
            rows=job.rows,
            nbytes=job.nbytes,
            stored_before=_stored(place_of(job.array)),
            stored_after=_stored(root / path) or 0,
            seconds=seconds[path],
            resumed_from=resumed[path],
            verified=verify,
            max_error=worst.get(path),
        )
        for path, job in jobs.items()
    }


def _copy_array(
    job: Job, beneath: _core.Beneath, told: Callable[[int], None], *, sync: bool
) -> int:
    """Copy the rows that are missing; give the first one."""
    folder = Path(beneath.root, job.path)
    if job.schema is None:
        if _node(folder):
            return job.rows
        with writing(folder):
            _copy_whole(job, beneath, sync=sync)
        return 0
    stored = Array(str(folder))
    if len(stored) == job.rows:
        return job.rows
    file_rows = (stored.shards or stored.chunks)[0]
    # Flushes in the middle of a file would write it twice.
    flush_rows = max(FLUSH // (file_rows * job.schema.row_nbytes), 1) * file_rows
    with writing(folder), into(beneath, job.path):
        pass  # the folder of the array, too, is in the target
    with Writer(
        folder, job.schema, mode="a", sync=sync, follow_links=beneath.follow_links
    ) as writer:
        begun = writer.rows
        for rows in blocks(job.array, begun, job.rows, block_rows(job.array, stored), flush_rows):
            writer.append(rows)
            told(writer.rows)
            if writer.rows % flush_rows == 0:
                writer.flush()
    return begun


def _copy_whole(job: Job, beneath: _core.Beneath, *, sync: bool) -> None:
    """Copy an array with zarr-python, into a folder beside the store first."""
    source = by_zarr(job.array)
    root = Path(beneath.root)
    with beside(root, sync=sync) as place:
        folder = place / "array"
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(job.whole_metadata(), indent=2))
        copied = zarr.open_array(folder, mode="r+")
        for region in regions(source):
            copied[region] = read_by_zarr(source, region)
        if sync:
            sync_tree(folder)
        if not job.path:
            folder.rename(root)
            if sync:
                sync_paths([root.parent])
            return
        group, _, name = job.path.rpartition("/")
        with into(beneath, group) as target:
            os.rename(folder, name, dst_dir_fd=target)
            if sync:
                os.fsync(target)


def _consolidate(beneath: _core.Beneath, inside: str, *, always: bool, sync: bool) -> None:
    """Put a copy of all metadata into the root, or renew it."""
    root = Path(beneath.root)
    documents = documents_of(root)
    if always or documents[""].get("consolidated_metadata"):
        documents[""]["consolidated_metadata"] = consolidated(documents)
        with _locked(root, inside):
            staging = Staging(beneath, inside, sync=sync)
            try:
                staging.publish([(staging.write(documents[""]), "zarr.json")])
            finally:
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


def _stored(folder: Path | None) -> int | None:
    """Bytes of the chunks in the folder of an array."""
    if folder is None:
        return None
    documents = {"zarr.json", ".zarray", ".zattrs"}
    nbytes = 0
    for place, _, files in os.walk(folder):
        for file in files:
            if file not in documents:
                with contextlib.suppress(OSError):  # it has vanished, or is a link to nothing
                    nbytes += (Path(place) / file).stat().st_size
    return nbytes


def _verify(job: Job, root: Path, told: Callable[[int], None]) -> float | tuple[float, ...] | None:
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
        blocks(array, 0, job.rows, block_rows(job.array, stored)) for array in (stored, job.array)
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


def _verify_whole(job: Job, folder: Path) -> None:
    source, copied = by_zarr(job.array), zarr.open_array(folder, mode="r")
    for region in regions(source):
        ours, theirs = (np.asarray(read_by_zarr(array, region)) for array in (copied, source))
        if ours.dtype.kind in "TO":
            same = np.array_equal(ours, theirs)
        else:
            same = ours.tobytes() == theirs.astype(ours.dtype).tobytes()
        if not same:
            raise CodecError(
                f"{region} of {folder} is not that of the source: copy again with overwrite=True"
            )
