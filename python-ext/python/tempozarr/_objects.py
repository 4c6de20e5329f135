"""Object stores: prefixes that URLs name, and the arrays and groups in them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Self

from tempozarr import _core
from tempozarr._documents import (
    is_v2,
    members_of,
    members_of_v2,
    name_problem,
    node_of,
    parsed,
)
from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tempozarr._documents import Document, Members, Node

SCHEMES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https"})
# Also with one slash, as in a path that was made of a URL, and as fsspec chains them; not a drive.
_URL = re.compile(r"\s*([a-z][a-z0-9+.:-]+):/", re.IGNORECASE)


def scheme_of(source: Any) -> str | None:
    """The scheme of what is written like a URL."""
    match = _URL.match(str(source)) if isinstance(source, str | os.PathLike) else None
    return match and match[1].lower()


def shown(source: Any) -> str:
    """What errors show of a source: of a URL no more than its scheme, as it may hold a password."""
    scheme = scheme_of(source)
    return repr(source) if scheme is None else f"a URL of {scheme}://"


class Prefix:
    """What is below a URL. Pickled with its options, credentials among them.

    Raises
    ------
    ValueError
        If the URL or an option cannot be used.
    """

    __slots__ = ("_consolidated", "_names", "_options", "core", "url")

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._options = {key: _text(key, value) for key, value in (options or {}).items()}
        self.core = _core.Objects(url, self._options)
        self.url = url.rstrip("/")
        self._consolidate(None)

    @property
    def is_consolidated(self) -> bool:
        """Whether consolidated metadata were found at the root."""
        return self._consolidated is not None

    def node(self, path: str) -> Node | None:
        """Kind ("array" or "group") and metadata of what is at a path.

        Raises
        ------
        MetadataError
            If metadata there, or consolidated metadata at the root, are not such.
        """
        node = self._nodes([path])[0]
        if isinstance(node, MetadataError):
            raise node
        return node

    def children(self, path: str) -> Iterator[tuple[str, Node | MetadataError]]:
        """Names in a group, sorted, and the nodes of that name, or what is wrong with them."""
        listed = self.core.folders(path) if self._consolidated is None else self._names.get(path)
        names = sorted(listed or ())
        sound = [name for name in names if not name_problem(name)]
        nodes = self._nodes([f"{path}/{name}".lstrip("/") for name in sound])
        yield from ((name, node) for name, node in zip(sound, nodes, strict=True) if node)

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

    def __setstate__(self, consolidated: Members | None) -> None:
        self._consolidate(consolidated)

    def _consolidate(self, members: Members | None) -> None:
        """Keep the documents of consolidated metadata at the root, and what is in which group."""
        self._consolidated = members
        self._names: dict[str, list[str]] = {}
        for path in members or ():
            group, _, name = path.rpartition("/")
            self._names.setdefault(group, []).append(name)

    def _nodes(self, paths: list[str]) -> list[Node | MetadataError | None]:
        """Nodes at paths, or what is wrong with them; their documents are fetched side by side."""
        if self._consolidated is not None and "" not in paths:
            return [self._node(path, self._consolidated.get(path, {}).get) for path in paths]
        fetched = self._fetch(paths, "zarr.json")
        others = [path for path in paths if fetched[_key(path, "zarr.json")] is None]
        fetched |= self._fetch(others, ".zarray", ".zgroup", ".zattrs", ".zmetadata")

        def reading(path: str) -> Callable[[str], Document | None]:
            def read(name: str) -> Document | None:
                key = _key(path, name)
                where = f"{self.url}/{key}"
                content = fetched[key]
                return content if content is None else _parsed(content, where)

            return read

        return [self._node(path, reading(path)) for path in paths]

    def _node(
        self, path: str, read: Callable[[str], Document | None]
    ) -> Node | MetadataError | None:
        where = f"{self.url}/{path}".rstrip("/")
        try:
            node = node_of(read, where)
            if node is not None and node[0] == "group" and path == "":
                self._consolidate(_members(node[1], read, where))
        except MetadataError as e:
            return e
        return node

    def _fetch(self, paths: list[str], *names: str) -> dict[str, bytes | None]:
        """Documents in folders, by key."""
        keys = [_key(path, name) for path in paths for name in names]
        return dict(zip(keys, self.core.get(keys), strict=True))


def _members(group: Document, read: Callable[[str], Document | None], where: str) -> Members | None:
    """Documents of consolidated metadata, if a group has them."""
    if not is_v2(group):
        return members_of(group, f"{where}/zarr.json")
    copied = read(".zmetadata")
    if copied is None:
        return None
    members = members_of_v2(copied, f"{where}/.zmetadata")
    members.pop("", None)
    return members


def _parsed(content: bytes, where: str) -> Document:
    return parsed(_core.document_text(content, where), where)


def _key(path: str, name: str) -> str:
    return f"{path}/{name}".lstrip("/")


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

    def children(self) -> Iterator[tuple[str, Node | MetadataError]]:
        """Names of the arrays and groups in it, sorted; their nodes, or what is wrong with them."""
        return self.prefix.children(self.path)


def _text(key: str, value: Any) -> str:
    """A storage option as `object_store` spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and key.lower().endswith("timeout"):
        return f"{round(value * 1000)}ms"
    return str(value)
