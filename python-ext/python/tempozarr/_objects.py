"""Object stores: prefixes that URLs name, and the arrays and groups in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tempozarr import _core
from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Node: TypeAlias = tuple[str, dict[str, Any]]

SCHEMES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https"})


class Prefix:
    """What is below a URL. Pickled with its options, credentials among them.

    Raises
    ------
    ValueError
        If the URL or an option cannot be used.
    """

    __slots__ = ("_consolidated", "_options", "core", "url")

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._options = {key: _text(key, value) for key, value in (options or {}).items()}
        self.core = _core.Objects(url, self._options)
        self.url = url.rstrip("/")
        # The nodes of consolidated metadata at the root, by path.
        self._consolidated: dict[str, Node] | None = None

    @property
    def is_consolidated(self) -> bool:
        """Whether consolidated metadata were found at the root."""
        return self._consolidated is not None

    def node(self, path: str) -> Node | None:
        """Kind ("array" or "group") and metadata of what is at a path."""
        return self._nodes([path])[0]

    def children(self, path: str) -> Iterator[tuple[str, Node]]:
        """Names and nodes in a group, sorted."""
        if self._consolidated is not None:
            inside = f"{path}/" if path else ""
            names = sorted(
                child.removeprefix(inside)
                for child in self._consolidated
                if child.startswith(inside) and "/" not in child.removeprefix(inside)
            )
        else:
            names = sorted(self.core.folders(path))
        nodes = self._nodes([f"{path}/{name}".lstrip("/") for name in names])
        yield from ((name, node) for name, node in zip(names, nodes, strict=True) if node)

    def __str__(self) -> str:
        return self.url

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prefix):
            return NotImplemented
        return (self.url, self._options) == (other.url, other._options)

    def __hash__(self) -> int:
        return hash((Prefix, self.url))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self._options), self._consolidated

    def __setstate__(self, consolidated: dict[str, Node] | None) -> None:
        self._consolidated = consolidated

    def _nodes(self, paths: list[str]) -> list[Node | None]:
        """Nodes at paths, whose documents are fetched side by side."""
        if self._consolidated is not None and "" not in paths:
            return [self._consolidated.get(path) for path in paths]
        found: dict[str, Node] = {}
        for path, (document,) in self._documents(paths, "zarr.json"):
            if document is not None:
                found[path] = str(document.get("node_type")), document
        others = [path for path in paths if path not in found]
        names = [".zarray", ".zgroup", ".zattrs", ".zmetadata"]
        for path, (array, group, attributes, consolidated) in self._documents(others, *names):
            if (document := group if array is None else array) is not None:
                kind = "group" if array is None else "array"
                found[path] = kind, document | {"attributes": attributes or {}}
                if path == "" and consolidated is not None:
                    self._consolidated = dict(_members_of_v2(consolidated))
        if "" in found:
            inside = found[""][1].get("consolidated_metadata")
            if isinstance(inside, dict) and isinstance(inside.get("metadata"), dict):
                self._consolidated = {
                    path: (str(document.get("node_type")), document)
                    for path, document in inside["metadata"].items()
                    if isinstance(document, dict)
                }
        return [found.get(path) for path in paths]

    def _documents(
        self, paths: list[str], *names: str
    ) -> Iterator[tuple[str, list[dict[str, Any] | None]]]:
        keys = [f"{path}/{name}".lstrip("/") for path in paths for name in names]
        documents = [
            None if content is None else parsed(content, f"{self.url}/{key}")
            for key, content in zip(keys, self.core.get(keys), strict=True)
        ]
        for i, path in enumerate(paths):
            yield path, documents[i * len(names) : (i + 1) * len(names)]


class Folder:
    """A folder of an object store, as far as it is read like a `pathlib.Path`."""

    __slots__ = ("path", "prefix")

    def __init__(self, prefix: Prefix, path: str = "") -> None:
        self.prefix = prefix
        self.path = path

    def __truediv__(self, path: str) -> Self:
        return type(self)(self.prefix, f"{self.path}/{path}".strip("/"))

    def __str__(self) -> str:
        return f"{self.prefix}/{self.path}".rstrip("/")

    def node(self) -> Node | None:
        """Kind and metadata of what is here; None if it is no array and no group."""
        return self.prefix.node(self.path)

    def children(self) -> Iterator[tuple[str, Node]]:
        """Names, kinds and metadata of the arrays and groups in it, sorted."""
        return self.prefix.children(self.path)


def parsed(content: bytes, where: object) -> dict[str, Any]:
    """Parse a document of metadata.

    Raises
    ------
    MetadataError
        If it is no JSON object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as e:
        raise MetadataError(f"expected JSON in {where}: {e}") from e
    if not isinstance(document, dict):
        raise MetadataError(f"expected a JSON object in {where}, got {type(document).__name__}")
    return document


def _members_of_v2(consolidated: Mapping[str, Any]) -> Iterable[tuple[str, Node]]:
    documents = consolidated.get("metadata") or {}
    for key, document in documents.items():
        path, _, name = key.rpartition("/")
        if path and name in {".zarray", ".zgroup"} and isinstance(document, dict):
            attributes = documents.get(f"{path}/.zattrs") or {}
            kind = "array" if name == ".zarray" else "group"
            yield path, (kind, document | {"attributes": attributes})


def _text(key: str, value: Any) -> str:
    """A storage option as `object_store` spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and key.lower().endswith("timeout"):
        return f"{round(value * 1000)}ms"
    return str(value)
