"""What `copy` makes of each array of a source: its schema, metadata and layout."""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.storage import MemoryStore

from tempozarr import _chains
from tempozarr._array import _native
from tempozarr._documents import is_v2
from tempozarr._errors import MetadataError
from tempozarr._plan import plan, rows_of
from tempozarr._sources import by_zarr, read_rows, stored_document
from tempozarr.schema import _V2_DIMENSIONS, ArraySchema, GroupSchema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tempozarr._plan import Layout
    from tempozarr._sources import AnyArray, Found
    from tempozarr._writer import Schema

_SAMPLE = 16 << 20
_SAMPLE_PARTS = 4


@dataclass(frozen=True)
class Job:
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
        document = stored_document(self.array)
        if document["zarr_format"] == 2:  # noqa: PLR2004
            array = by_zarr(self.array)
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


def pair(found: Found, schema: Schema | None) -> dict[str, Job]:
    """Pair arrays with their schemas; refuse a schema that is not of the source."""
    wanted: dict[str, ArraySchema] = {}
    if schema is not None:
        kind = GroupSchema if found.groups else ArraySchema
        if not isinstance(schema, kind):
            raise TypeError(
                f"schema: expected {kind.__name__}, as the source is "
                f"{'a group' if found.groups else 'an array'}, got {type(schema).__name__}"
            )
        wanted = dict(schema.walk())
    jobs = {}
    problems = []
    for path, array in found.arrays.items():
        document = stored_document(array)
        attributes = _json(document.get("attributes") or {})
        names = None if is_v2(document) else document.get("dimension_names")
        named = attributes.get(_V2_DIMENSIONS)
        fits = isinstance(named, list) and len(named) == len(array.shape)
        if names is None and fits and all(isinstance(name, str) for name in named):
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
        jobs[path] = Job(path, array, described, attributes, names, kept=given is None)
    problems += [f"{path}: the schema has that array, the source has not" for path in wanted]
    if problems:
        raise MetadataError(
            "\n  ".join(["expected a schema of all arrays of the source:", *problems])
        )
    return jobs


@contextlib.contextmanager
def naming(job: Job, what: str) -> Iterator[None]:
    """Note in errors which array they are about."""
    try:
        yield
    except Exception as e:
        e.add_note(f"while {what} array {job.path or '/'} of {job.array.shape} {job.array.dtype}")
        raise


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


def _json(value: Any) -> Any:
    """Spell the floats that JSON has not, which Python writes nevertheless, as zarr v3 does."""
    if isinstance(value, dict):
        return {name: _json(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_json(below) for below in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def group_documents(found: Found, schema: Schema | None) -> dict[str, dict[str, Any]]:
    """Make the `zarr.json` of every group."""
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


def lay_out(
    job: Job,
    layout: Layout,
    access: Literal["scan", "windows"],
    window: int | None,
    root: Path,
) -> tuple[int, int | None]:
    """Rows of a chunk and of a shard."""
    assert job.schema is not None  # noqa: S101
    if job.path in layout:
        return rows_of(layout[job.path])
    with naming(job, "planning"):
        planned = plan(
            job.schema, job.rows, access=access, window=window, path=root, sample=_sample(job)
        )[""]
    return rows_of(planned)


def _sample(job: Job) -> NDArray[Any] | None:
    """Rows from beginning to end; None if there are none."""
    assert job.schema is not None  # noqa: S101
    if job.rows == 0:
        return None
    count = min(max(_SAMPLE // _SAMPLE_PARTS // job.schema.row_nbytes, 1), job.rows)
    starts = np.linspace(0, job.rows - count, _SAMPLE_PARTS).astype(int)
    parts = [
        read_rows(job.array, int(start), int(start) + count) for start in dict.fromkeys(starts)
    ]
    return np.concatenate(parts)
