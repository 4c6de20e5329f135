"""Schemas: what the arrays of a store are, before any of them exists.

A schema says names, data types, the shape of a row and the codecs; how many rows share a chunk or
a file is the layout, which `tempozarr.plan` chooses. Schemas are pydantic models: immutable,
checked when they are made, and the same after `model_dump_json` and `model_validate_json`.
"""

from __future__ import annotations

import json
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import zarr
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from zarr.core.dtype import parse_dtype
from zarr.storage import MemoryStore

from tempozarr import _array, _chains
from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

__all__ = ["ArraySchema", "GroupSchema", "schema_of"]

_COMPARED = ("dtype", "fill_value", "row_shape", "codecs", "dimension_names")
_V2_DIMENSIONS = "_ARRAY_DIMENSIONS"  # xarray's


def _check_name(name: str) -> str:
    """Refuse what zarr forbids as the name of a node, or a file system as one of a folder."""
    if not name.strip(".") or "/" in name or name.startswith("__") or not name.isprintable():
        raise ValueError(
            "expected a name without '/' and control characters, that is not '' or only periods "
            f"and does not begin with '__', got {name!r}"
        )
    return name


def _canonical_dtype(value: Any) -> str:
    """Spell a data type that zarr v3 has and Rust stores; in native order, as v3 knows no other."""
    try:
        dtype = np.dtype(value).newbyteorder("=")
    except (TypeError, ValueError) as e:
        raise ValueError(
            f"expected a numpy data type, such as 'float32' or 'datetime64[ns]', got {value!r}: {e}"
        ) from e
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic":
        raise ValueError(f"expected a unit, such as '{dtype}[ns]', got {str(dtype)!r}")
    known = dtype.kind in "biufcmMUSV" and dtype.itemsize and not (dtype.names or dtype.shape)
    try:
        parse_dtype(dtype, zarr_format=3)
    except ValueError:
        known = False
    if not known or value is None:  # which numpy takes for float64
        raise ValueError(
            "expected a data type of fixed size that zarr v3 has (bool, integers, floats, complex, "
            f"datetime64, timedelta64, fixed-length text or bytes), got {value!r}"
        )
    return str(dtype)


def _canonical_fill(value: Any, dtype: np.dtype[Any]) -> JsonValue:
    """Fill value as `zarr.json` has it, of a value or of that."""
    parsed = parse_dtype(dtype, zarr_format=3)
    kind = dtype.kind
    as_json = isinstance(value, str | list | tuple) or (kind in "mM" and isinstance(value, int))
    try:
        if value is None:
            scalar: Any = parsed.default_scalar()
        elif as_json:
            scalar = parsed.from_json_scalar(value, zarr_format=3)
        else:
            with np.errstate(over="ignore"):
                scalar = parsed.cast_scalar(value)
        if value is None or (as_json and kind not in "biuU"):
            fits = True
        elif kind in "fc":  # rounding is no news, overflow is
            fits = bool(np.isfinite(scalar) == np.isfinite(value))
        elif kind == "V":
            fits = bytes(scalar) == bytes(value)
        else:
            fits = bool(scalar == value or value != value)  # noqa: PLR0124 (NaT)
    except (OverflowError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"expected a value of {dtype}, got {value!r}")
    stored: JsonValue = parsed.to_json_scalar(scalar, zarr_format=3)  # type: ignore[assignment]
    return stored


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"expected names that differ and are not empty, got {list(names)}")
    return names


_Name = Annotated[str, AfterValidator(_check_name)]
_Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]


class _Schema(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class ArraySchema(_Schema):
    """One array: rows of one shape and data type, and how they are encoded.

    Every field is checked and completed when the schema is made: what was left out is there
    afterwards, in the spelling that `zarr.json` has.

    Parameters
    ----------
    name
        Name in its group.
    dtype
        Whatever `numpy.dtype` takes, of fixed size. Kept as text: "float32", "datetime64[ns]".
        Byte order is none of its business: see the codec `bytes`.
    row_shape
        Shape of one row; `()` for one value per row.
    description
        Kept in the attributes of the array as "description".
    dimension_names
        Of all dimensions, rows first; by default "row", "<name>_1", "<name>_2", ... The name
        "row" makes xarray line up the rows of all arrays in a group.
    columns
        Names along the last dimension of a row. Kept in the attributes as "columns".
    float16
        Store float32 or float64 as float16: lossy, for values that it can hold. Chooses the
        codecs.
    codecs
        Codecs of one chunk, in the order of writing: of `tempozarr.codecs` or `zarr.codecs`, v3
        metadata, or bare names. Kept as complete metadata. By default

        - integers, datetime64, timedelta64: `numcodecs.delta`, `zstd` 3
        - floats, complex: `temporal_xor`, `numcodecs.shuffle`, `zstd` 3
        - `float16=True`: `numcodecs.astype`, `temporal_xor`, `numcodecs.shuffle` 2, `zstd` 3
        - others: `zstd` 3
    lz4_level
        Encode `numcodecs.lz4` with LZ4's high compression at this level, 2 to 12: slower to write,
        fewer bytes, read faster, and by every LZ4 decoder. It is not stored: who continues a store
        without this schema encodes with the fast encoder, as does None.
    zstd_fast_decode
        Encode `zstd` for fast decoding, best at levels from 6 on: no matches of fewer than six
        bytes, and what matches nothing as it is instead of Huffman-coded. More bytes than at the
        same level without, decoded up to half as fast again, by every decoder. Not stored either.
    compression_ratio_hint
        Decoded bytes divided by stored bytes, as far as known: `tempozarr.plan` needs it.
    fill_value
        Value of rows that were never written, or its JSON in `zarr.json`, which is kept: "NaN",
        `[0.0, 1.0]` for complex, base64 for bytes. By default 0, False, empty or NaT.
    attributes
        More attributes.
    late
        The array is written whole in the end, instead of row by row.

    Raises
    ------
    pydantic.ValidationError
        If a field cannot be used; a ValueError that says which and why.

    Warns
    -----
    UserWarning
        If the codecs have a delta of floats: it is lossy.
    """

    name: _Name
    dtype: Annotated[str, BeforeValidator(_canonical_dtype)]
    row_shape: tuple[Annotated[int, Field(gt=0)], ...] = ()
    description: str = ""
    dimension_names: _Names = None  # type: ignore[assignment] # filled in below, as are the others
    columns: _Names | None = None
    float16: bool = False
    codecs: tuple[dict[str, JsonValue], ...] = None  # type: ignore[assignment]
    lz4_level: Annotated[int, Field(ge=2, le=12)] | None = None
    zstd_fast_decode: bool = False
    compression_ratio_hint: Annotated[float, Field(gt=0)] | None = None
    fill_value: Any = None
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    late: bool = False

    if TYPE_CHECKING:  # what is taken is more than what is kept

        def __init__(
            self,
            *,
            name: str,
            dtype: DTypeLike,
            row_shape: Sequence[int] = (),
            description: str = "",
            dimension_names: Sequence[str] | None = None,
            columns: Sequence[str] | None = None,
            float16: bool = False,
            codecs: Sequence[Any] | None = None,
            lz4_level: int | None = None,
            zstd_fast_decode: bool = False,
            compression_ratio_hint: float | None = None,
            fill_value: Any = None,
            attributes: Mapping[str, Any] = ...,
            late: bool = False,
        ) -> None: ...

    @property
    def encoding(self) -> _chains.Encoding:
        """How to encode where `codecs` leave it open."""
        return _chains.Encoding(self.lz4_level, self.zstd_fast_decode)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """`dtype` as numpy has it."""
        return np.dtype(self.dtype)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one decoded row."""
        return self.numpy_dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))

    def walk(self) -> Iterator[tuple[str, ArraySchema]]:
        """Path and schema of this array, as of the only one of a store: the path is ""."""
        yield "", self

    def walk_groups(self) -> Iterator[tuple[str, GroupSchema]]:
        """Paths and schemas of groups, of which an array has none."""
        yield from ()

    def metadata(self, rows: int, chunk_rows: int, shard_rows: int | None = None) -> dict[str, Any]:
        """Make the `zarr.json` of this array: zarr-python writes it, so that it is valid.

        Parameters
        ----------
        rows
            Length of the array.
        chunk_rows
            Rows in a chunk: the least that one read decodes.
        shard_rows
            Rows in a file, a multiple of `chunk_rows`; None if every chunk is a file.

        Raises
        ------
        MetadataError
            If these lengths cannot be.
        """
        multiple = shard_rows is None or (shard_rows > 0 and shard_rows % max(chunk_rows, 1) == 0)
        if rows < 0 or chunk_rows <= 0 or not multiple:
            raise MetadataError(
                f"{self.name}: expected rows >= 0, chunk_rows > 0 and shard_rows a multiple of it "
                f"or None, got {rows}, {chunk_rows} and {shard_rows}"
            )
        described = {"description": self.description} if self.description else {}
        columns = {"columns": list(self.columns)} if self.columns else {}
        return _chains.array_document(
            codecs=self.codecs,
            shape=(index(rows), *self.row_shape),
            chunks=(index(chunk_rows), *self.row_shape),
            shards=None if shard_rows is None else (index(shard_rows), *self.row_shape),
            dtype=self.numpy_dtype,
            fill_value=parse_dtype(self.numpy_dtype, zarr_format=3).from_json_scalar(
                self.fill_value, zarr_format=3
            ),
            dimension_names=self.dimension_names,
            attributes=described | columns | self.attributes,
        )

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Say in which ways a stored array is not one of this schema; nothing if it is.

        Data type, fill value, row shape, codecs and dimension names count, whatever their
        spelling; layout, attributes and length do not, nor does `encoding`, which no store knows.
        An array without dimension names is as one with the names that a schema has by default.

        Parameters
        ----------
        stored
            The array's `zarr.json`.
        """
        if (stored.get("zarr_format"), stored.get("node_type")) != (3, "array"):
            found = f"zarr_format {stored.get('zarr_format')}, {stored.get('node_type')}"
            return [f"{self.name}: expected the zarr.json of an array, the store has {found}"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a lossy delta: not chosen here
                other = ArraySchema(name=self.name, **_stored_v3(stored))
        except (MetadataError, ValidationError) as e:
            return [f"{self.name}: the store has something else: {_problems(e)}"]
        pairs = ((field, getattr(self, field), getattr(other, field)) for field in _COMPARED)
        return [
            f"{self.name}: {field}: expected {json.dumps(ours)}, the store has {json.dumps(theirs)}"
            for field, ours, theirs in pairs
            if json.dumps(ours, sort_keys=True) != json.dumps(theirs, sort_keys=True)
        ]

    @field_validator("dimension_names", mode="before")
    @classmethod
    def _default_dimensions(cls, names: Any, info: ValidationInfo) -> Any:
        if names is None and {"name", "row_shape"} <= info.data.keys():
            numbers = range(1, len(info.data["row_shape"]) + 1)
            return ("row", *(f"{info.data['name']}_{i}" for i in numbers))
        return () if names is None else names

    @field_validator("dimension_names")
    @classmethod
    def _count_dimensions(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if {"name", "row_shape"} <= info.data.keys() and (
            len(names) != (ndim := 1 + len(info.data["row_shape"]))
        ):
            raise ValueError(
                f"expected a name for each of {ndim} dimensions, rows first, got {list(names)}"
            )
        return names

    @field_validator("columns")
    @classmethod
    def _count_columns(
        cls, columns: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if columns is not None and "row_shape" in info.data:
            row_shape = info.data["row_shape"]
            length = row_shape[-1] if row_shape else 0
            if len(columns) != length or not row_shape:
                raise ValueError(
                    f"expected a name for each of the {length} places of the last dimension of "
                    f"row_shape {row_shape}, got {len(columns)}"
                )
        return columns

    @field_validator("float16")
    @classmethod
    def _only_floats(cls, float16: bool, info: ValidationInfo) -> bool:
        if float16 and info.data.get("dtype", "float32") not in {"float32", "float64"}:
            raise ValueError(f"expected dtype float32 or float64 with it, got {info.data['dtype']}")
        return float16

    @field_validator("codecs", mode="before")
    @classmethod
    def _canonical_codecs(cls, codecs: Any, info: ValidationInfo) -> Any:
        if not {"dtype", "row_shape", "float16"} <= info.data.keys():
            return ()  # their errors are enough
        if codecs is not None and (isinstance(codecs, str | Mapping) or not _is_iterable(codecs)):
            raise ValueError(f"expected a sequence of codecs, or None, got {codecs!r}")
        dtype, row_shape = np.dtype(info.data["dtype"]), info.data["row_shape"]
        float16 = info.data["float16"]
        if codecs is None:
            return _chains.canonical(_chains.default(dtype, float16=float16), dtype, row_shape)
        chain = _chains.canonical(list(codecs), dtype, row_shape)
        if float16 and chain != _float16_chain(dtype, row_shape):
            raise ValueError("expected none with float16=True, which chooses them: leave one out")
        if lossy := _chains.lossy(chain):
            warnings.warn(_chains.lossy_warning(lossy), UserWarning, stacklevel=3)
        return chain

    @field_validator("lz4_level", "zstd_fast_decode")
    @classmethod
    def _only_its_codec(cls, setting: int | None, info: ValidationInfo) -> int | None:
        names = [str(codec["name"]) for codec in info.data.get("codecs", ())]
        wanted = _chains.ENCODED[str(info.field_name)]
        if setting and names and not set(wanted).intersection(names):
            raise ValueError(
                f"expected a chain with {wanted[0]}, got {', '.join(names)}: choose that "
                f"compressor, or leave {info.field_name} out"
            )
        return setting

    @field_validator("fill_value")
    @classmethod
    def _canonical_fill(cls, value: Any, info: ValidationInfo) -> Any:
        if "dtype" not in info.data:
            return value
        return _canonical_fill(value, np.dtype(info.data["dtype"]))

    @model_validator(mode="after")
    def _attributes_once(self) -> Self:
        for field in ("description", "columns"):
            if getattr(self, field) and field in self.attributes:
                raise ValueError(
                    f"attributes: expected no {field!r}, which the field {field} gives: "
                    "leave one of them out"
                )
        return self


class GroupSchema(_Schema):
    """A group of arrays and groups.

    Parameters
    ----------
    name
        Name in the group above; empty for the root of a store.
    arrays, groups
        What is in it; all names differ.
    description
        Kept in the attributes of the group as "description".
    attributes
        More attributes.

    Raises
    ------
    pydantic.ValidationError
        If a field cannot be used; a ValueError that says which and why.
    """

    name: str = ""
    arrays: tuple[ArraySchema, ...] = ()
    groups: tuple[GroupSchema, ...] = ()
    description: str = ""
    attributes: dict[str, JsonValue] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            name: str = "",
            arrays: Sequence[ArraySchema] = (),
            groups: Sequence[GroupSchema] = (),
            description: str = "",
            attributes: Mapping[str, Any] = ...,
        ) -> None: ...

    def walk(self) -> Iterator[tuple[str, ArraySchema]]:
        """Paths (such as "mid/raw") and schemas of all arrays: a group's own, then below."""
        for prefix, group in self.walk_groups():
            for array in group.arrays:
                yield f"{prefix}/{array.name}".lstrip("/"), array

    def walk_groups(self) -> Iterator[tuple[str, GroupSchema]]:
        """Paths and schemas of this group (path "") and all below it, parents first."""
        yield "", self
        for group in self.groups:
            for path, below in group.walk_groups():
                yield f"{group.name}/{path}".rstrip("/"), below

    def metadata(self) -> dict[str, Any]:
        """Make the `zarr.json` of this group."""
        described = {"description": self.description} if self.description else {}
        attributes = described | self.attributes
        return _chains.document(zarr.create_group(MemoryStore(), attributes=attributes))

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return name and _check_name(name)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [*(array.name for array in self.arrays), *(group.name for group in self.groups)]
        if "" in names:
            raise ValueError("groups: expected a name for every group in another, got ''")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"arrays, groups: expected names that differ, got twice: {twice}")
        if self.description and "description" in self.attributes:
            raise ValueError(
                "attributes: expected no 'description', which the field description gives: "
                "leave one of them out"
            )
        return self


def schema_of(source: _array.Source | _array.Array | _array.Group) -> GroupSchema | ArraySchema:
    """Read the schema of an existing array or group, of Zarr v2 or v3.

    Layout, `late`, `encoding` and `compression_ratio_hint` are not part of what is found, and
    `float16` is told by the codecs alone. Filters and
    compressors of v2 become the codecs of v3 that do the same; the data is then in native byte
    order and C order.

    Parameters
    ----------
    source
        As for `tempozarr.open`, or what it returned.

    Raises
    ------
    MetadataError
        If an array has no rows (no dimension) or a data type of variable length or with fields,
        or if its codecs have no counterpart, or if groups are nested too deeply.
    StoreError
        If there is nothing to open, or if links lead round in circles.
    """
    node = source if isinstance(source, _array.Array | _array.Group) else _array.open(source)
    if isinstance(node, _array.Group):
        deque(_array.nodes(node._folder), 0)  # noqa: SLF001 (which comes to an end, or refuses)
    return _schema_of(node)


def _schema_of(node: _array.Array | _array.Group) -> GroupSchema | ArraySchema:
    if isinstance(node, _array.Array):
        return _array_schema(node)
    attributes = dict(node.attrs)
    try:
        return GroupSchema(
            name=node.path.rpartition("/")[2],
            arrays=tuple(_array_schema(array) for _, array in node.arrays()),
            groups=tuple(_schema_of(group) for _, group in node.groups()),  # type: ignore[misc]
            description=_take_description(attributes),
            attributes=attributes,
        )
    except ValidationError as e:
        raise MetadataError(f"{node.name}: {_problems(e)}") from e


def _array_schema(array: _array.Array) -> ArraySchema:
    where = array._where  # noqa: SLF001
    if not array.shape:
        raise MetadataError(f"{where}: expected an array of rows, got one without dimensions")
    if array.dtype.kind in "TO":
        raise MetadataError(f"{where}: expected a data type of fixed size, got {array.dtype}")
    v2 = array.metadata["zarr_format"] == 2  # noqa: PLR2004
    try:
        fields = _stored_v2(array) if v2 else _stored_v3(array.metadata)
        return ArraySchema(name=Path(where).name, **fields)
    except (MetadataError, ValidationError) as e:
        raise MetadataError(f"{where}: {_problems(e)}") from e


def _stored_v3(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the schema of a stored v3 array, all but its name."""
    try:
        dtype = parse_dtype(metadata["data_type"], zarr_format=3).to_native_dtype()
        row_shape = tuple(metadata["shape"][1:])
        fields = {
            "dtype": dtype,
            "row_shape": row_shape,
            "fill_value": metadata["fill_value"],
            "codecs": _chains.innermost(metadata["codecs"]),
        }
    except (KeyError, TypeError, ValueError) as e:
        raise MetadataError(f"expected the zarr.json of an array: {e!r}") from e
    names = metadata.get("dimension_names")
    return fields | _names(names, dict(metadata.get("attributes") or {}), row_shape)


def _stored_v2(array: _array.Array) -> dict[str, Any]:
    """Fields of the schema of a stored v2 array, all but its name."""
    attributes = dict(array.attrs)
    names = attributes.pop(_V2_DIMENSIONS, None)
    return {
        "dtype": array.dtype,
        "row_shape": array.shape[1:],
        "fill_value": array.fill_value,
        "codecs": _chains.from_v2(array.metadata, array.dtype),
    } | _names(names, attributes, array.shape[1:])


def _names(
    dimensions: Any, attributes: dict[str, Any], row_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Fields that are kept as names and attributes."""
    columns = attributes.get("columns")
    fits = (
        isinstance(columns, list)
        and row_shape
        and len(columns) == row_shape[-1]
        and len(set(map(str, columns))) == len(columns)
        and all(isinstance(column, str) and column for column in columns)
    )
    if fits:
        del attributes["columns"]
    complete = isinstance(dimensions, list) and None not in dimensions
    return {
        "dimension_names": dimensions if complete else None,
        "columns": columns if fits else None,
        "description": _take_description(attributes),
        "attributes": attributes,
    }


def _take_description(attributes: dict[str, Any]) -> str:
    described = isinstance(attributes.get("description"), str)
    return attributes.pop("description") if described else ""


def _float16_chain(dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> list[dict[str, Any]]:
    return _chains.canonical(_chains.default(dtype, float16=True), dtype, row_shape)


def _is_iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def _problems(error: MetadataError | ValidationError) -> str:
    """What is wrong; of what pydantic found, `field: what is wrong`, without its other words."""
    if isinstance(error, MetadataError):
        return str(error)
    found = ((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
    return "; ".join(
        f"{where}: {text.removeprefix('Value error, ')}".lstrip(": ") for where, text in found
    )
