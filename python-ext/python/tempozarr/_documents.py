"""Documents of metadata, checked once: what the rest relies on is there, and of the right kind.

What zarr says beyond that, codecs and data types above all, is checked when an array is opened.
"""

from __future__ import annotations

import json
import os
import reprlib
from typing import TYPE_CHECKING, Any, TypeAlias

from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Document: TypeAlias = dict[str, Any]
    Node: TypeAlias = tuple[str, Document]
    Members: TypeAlias = dict[str, dict[str, Document]]
    Check: TypeAlias = tuple[Callable[[Any], bool], str]

DEEPEST = 100
"""Groups are not nested more deeply than that, below what was opened."""
_LONGEST = 2**63 - 1
_NO_NAME = "/\\:" if os.sep == "\\" else "/"


def parsed(text: str, where: object) -> Document:
    """Parse a document of metadata.

    Raises
    ------
    MetadataError
        If it is no JSON object.
    """
    try:
        document = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # halves of pairs, which are no text, say
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise MetadataError(f"expected JSON in {where}: {e}") from e
    if not isinstance(document, dict):
        raise MetadataError(f"expected a JSON object in {where}, got {type(document).__name__}")
    return document


def node_of(read: Callable[[str], Document | None], where: object) -> Node | None:
    """Kind ("array" or "group") and metadata, of v2 with the attributes, from documents by name.

    None if there is neither an array nor a group.

    Raises
    ------
    MetadataError
        If a document is not what its name says.
    """
    if (document := read("zarr.json")) is not None:
        kind = document.get("node_type")
        if kind not in ("array", "group"):  # which may be anything, lists too
            raise MetadataError(
                f"expected the node_type array or group in {where}/zarr.json, got "
                f"{reprlib.repr(kind)}"
            )
        _expect(document, _ARRAY if kind == "array" else _GROUP, f"{where}/zarr.json")
        return kind, document
    for kind, name, fields in (("array", ".zarray", _ARRAY_V2), ("group", ".zgroup", _GROUP_V2)):
        if (document := read(name)) is not None:
            _expect(document, fields, f"{where}/{name}")
            return kind, document | {"attributes": read(".zattrs") or {}}
    return None


def array_of(text: str, where: object) -> Document:
    """Metadata of an array, of v3, or of v2 with the attributes.

    Raises
    ------
    MetadataError
        If they are not such.
    """
    document = parsed(text, where)
    _expect(document, _ARRAY_V2 if is_v2(document) else _ARRAY, where)
    return document


def is_v2(document: Mapping[str, Any]) -> bool:
    """Whether metadata are of zarr v2."""
    return document.get("zarr_format") == 2  # noqa: PLR2004


def members_of(document: Mapping[str, Any], where: object) -> Members | None:
    """Documents, by path and name, of the consolidated metadata that a `zarr.json` may have.

    They themselves are not checked.

    Raises
    ------
    MetadataError
        If they are not by path, or a path leads anywhere else than below the group.
    """
    consolidated = document.get("consolidated_metadata")
    if consolidated is None:
        return None
    return {path: {"zarr.json": below} for path, below in _consolidated(consolidated, where)}


def members_of_v2(consolidated: Mapping[str, Any], where: object) -> Members:
    """Documents of a `.zmetadata`, those of the root among them; as `members_of`."""
    members: Members = {}
    for key, document in _consolidated(consolidated, where):
        path, _, name = key.rpartition("/")
        members.setdefault(path, {})[name] = document
    return members


def _consolidated(consolidated: Any, where: object) -> Iterator[tuple[str, Document]]:
    documents = consolidated.get("metadata") if isinstance(consolidated, dict) else consolidated
    if not isinstance(documents, dict):
        raise MetadataError(
            f"expected consolidated metadata by path in {where}, got {reprlib.repr(documents)}"
        )
    for path, document in documents.items():
        if wrong := path_problem(path):
            raise MetadataError(
                f"expected consolidated metadata in {where} of what is below the group, got the "
                f"path {reprlib.repr(path)}: {wrong}"
            )
        if not isinstance(document, dict):
            raise MetadataError(
                f"expected a JSON object as consolidated metadata of {path!r} in {where}, got "
                f"{reprlib.repr(document)}"
            )
        yield path, document


def name_problem(name: str) -> str | None:
    """What keeps a name from being that of an array or a group; None if nothing does."""
    if not name.strip("."):
        return "a name is more than periods" if name else "a name is not empty"
    if "\0" in name or any(letter in name for letter in _NO_NAME):
        return "a name has no separator of folders in it, and no null character"
    if not _is_text(name):
        return "a name is UTF-8"
    return None


def path_problem(path: str) -> str | None:
    """What keeps a path from being that of something in a group; None if nothing does."""
    return next(filter(None, map(name_problem, path.split("/"))), None)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expect(document: Mapping[str, Any], fields: Mapping[str, Check], where: object) -> None:
    for name, (check, wanted) in fields.items():
        value = document.get(name, _ABSENT)
        if not check(value):
            got = "there is none" if value is _ABSENT else f"got {reprlib.repr(value)}"
            raise MetadataError(f"expected {wanted} as {name} in {where}, {got}")
    if "shape" in fields:
        for name, lengths in _by_dimension(document):
            if len(lengths) != len(document["shape"]):
                raise MetadataError(
                    f"expected as many {name} as there are dimensions, {len(document['shape'])}, "
                    f"in {where}, got {reprlib.repr(lengths)}"
                )


def _by_dimension(array: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Lists with one item for each dimension."""
    if is_v2(array):
        yield "chunks", array["chunks"]
        return
    yield "dimension_names", array.get("dimension_names") or array["shape"]
    grids = [(array["chunk_grid"], "regular")]
    grids += [(codec, "sharding_indexed") for codec in array["codecs"][:1]]
    for grid, name in grids:
        if isinstance(grid, dict) and grid["name"] == name:
            yield "lengths in chunk_shape", grid["configuration"]["chunk_shape"]


class _Absent:
    """What a field is that a document does not have."""


_ABSENT = _Absent()


def _is_object(value: Any) -> bool:
    return value is _ABSENT or value is None or isinstance(value, dict)


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LONGEST


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_length, value))


def _is_named(value: Any) -> bool:
    """Whether it is an extension: a name, or an object with one, and perhaps a configuration."""
    return isinstance(value, str) or (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and _is_object(value.get("configuration"))
    )


def _is_grid(value: Any) -> bool:
    if not _is_named(value) or isinstance(value, str):
        return isinstance(value, str) and value != "regular"
    inner = value.get("configuration") or {}
    return value["name"] != "regular" or _are_lengths(inner.get("chunk_shape"))


def _are_codecs(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_codec, value))


def _is_codec(value: Any) -> bool:
    if not _is_named(value):
        return False
    if isinstance(value, str):
        return value != "sharding_indexed"
    if value["name"] != "sharding_indexed":
        return True
    inner = value.get("configuration") or {}
    return _are_lengths(inner.get("chunk_shape")) and _are_codecs(inner.get("codecs"))


def _is_codec_v2(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("id"), str)


def _are_filters(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_codec_v2, value)))


def _are_names(value: Any) -> bool:
    return value in (None, _ABSENT) or (
        isinstance(value, list) and all(name is None or isinstance(name, str) for name in value)
    )


def _version(number: int) -> Check:
    return lambda value: type(value) is int and value == number, str(number)


_OBJECT: Check = _is_object, "an object"
_LENGTHS: Check = _are_lengths, "a list of whole numbers from 0 to 2^63 - 1"
_NAMED: Check = _is_named, "a name, or an object with a name and a configuration"

_GROUP: dict[str, Check] = {"zarr_format": _version(3), "attributes": _OBJECT}
_GROUP_V2: dict[str, Check] = {"zarr_format": _version(2), "attributes": _OBJECT}
_ARRAY: dict[str, Check] = _GROUP | {
    "shape": _LENGTHS,
    "data_type": _NAMED,
    "chunk_grid": (_is_grid, "a chunk grid, with a chunk_shape if it is regular,"),
    "chunk_key_encoding": _NAMED,
    "fill_value": (lambda value: value is not _ABSENT, "a value"),
    "codecs": (_are_codecs, "a list of codecs, each a name or an object with its name,"),
    "dimension_names": (_are_names, "a list of names"),
}
_ARRAY_V2: dict[str, Check] = _GROUP_V2 | {
    "shape": _LENGTHS,
    "chunks": _LENGTHS,
    "dtype": (lambda value: isinstance(value, str | list), "the name of a type, or a list"),
    "filters": (
        lambda value: value is _ABSENT or _are_filters(value),
        "null or a list of codecs, each an object with its id,",
    ),
    "compressor": (
        lambda value: value in (None, _ABSENT) or _is_codec_v2(value),
        "null or a codec, an object with its id,",
    ),
    "dimension_separator": (
        lambda value: value in (None, _ABSENT, ".", "/"),
        "'.' or '/'",
    ),
}
