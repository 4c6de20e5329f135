"""Small stores, and random changes that a stranger may have made to them.

A store is a `Tree` in memory: what stands at each path. `cases` draws one by seed and number, always
the same one; `build` puts it on a disk.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numcodecs

CONFORMANCE = Path(__file__).parents[2] / "conformance"
DOCUMENTS = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "journal.json"}
DEEP = 1200


@dataclass(frozen=True)
class Fifo:
    """A named pipe."""


@dataclass(frozen=True)
class Folder:
    """A folder of its own: empty, unless other paths lead into it."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Sparse:
    """A file of a few bytes and a large hole."""

    head: bytes
    size: int


Entry: TypeAlias = bytes | Fifo | Folder | Link | Sparse
Tree: TypeAlias = dict[str, Entry]
Document: TypeAlias = dict[str, Any]


@dataclass
class Case:
    """One hostile store: from which seed, what was changed, and what stands at each path."""

    name: str
    seed: str
    tree: Tree
    changes: list[str] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """Whether it has files and folders only, which zarr-python can be asked about."""
        return not any(
            isinstance(entry, Fifo | Sparse)
            or (isinstance(entry, Link) and entry.target.startswith("/dev"))
            for entry in self.tree.values()
        )

    @property
    def linked(self) -> bool:
        """Whether it has links, through which readers may leave the store."""
        return any(isinstance(entry, Link) for entry in self.tree.values())

    def has(self, text: bytes) -> bool:
        """Whether a document has that text."""
        return any(
            isinstance(entry, bytes) and path.rpartition("/")[2] in DOCUMENTS and text in entry
            for path, entry in self.tree.items()
        )

    @property
    def unfinished(self) -> bool:
        """Whether there is a journal."""
        return any(path.endswith(".tempozarr/journal.json") for path in self.tree)

    def __str__(self) -> str:
        return f"{self.name} ({self.seed}): {'; '.join(self.changes)}"


def build(tree: Tree, root: Path) -> None:
    """Make a store of files. What cannot be there beside what was made before is left out."""
    root.mkdir()
    links = tuple(f"{path}/" for path, entry in tree.items() if isinstance(entry, Link))
    for path, entry in tree.items():
        if path.startswith(links):
            continue
        place = os.fsencode(f"{root}/{path}")
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 (names of any bytes)
            if isinstance(entry, Folder):
                os.mkdir(place)  # noqa: PTH102
            elif isinstance(entry, Link):
                os.symlink(entry.target, place)  # noqa: PTH211
            elif isinstance(entry, Fifo):
                os.mkfifo(place)
            else:
                with open(place, "xb") as file:  # noqa: PTH123
                    file.write(entry.head if isinstance(entry, Sparse) else entry)
                    if isinstance(entry, Sparse):
                        file.truncate(entry.size)
        except (OSError, ValueError):
            continue


def below(folder: Path) -> list[os.DirEntry[bytes]]:
    """Everything in a folder, however deep, folders before what is in them; through no link."""
    found: list[os.DirEntry[bytes]] = []
    todo = [os.fsencode(folder)] if folder.is_dir() else []
    while todo:
        entries = list(os.scandir(todo.pop()))
        found += entries
        todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return found


def remove(folder: Path) -> None:
    """Remove a folder, however deep: `shutil.rmtree` calls itself, before Python 3.13."""
    for entry in reversed(below(folder)):
        if entry.is_dir(follow_symlinks=False):
            os.rmdir(entry.path)  # noqa: PTH106 (names of any bytes)
        else:
            os.unlink(entry.path)  # noqa: PTH108
    if folder.is_dir():
        folder.rmdir()


# -- seeds -----------------------------------------------------------------------------------------


def goldens() -> dict[str, Tree]:
    """The goldens of conformance/: each codec, data type and layout, as zarr-python wrote them."""
    files = sorted(CONFORMANCE.glob("goldens/zarr-*/*.json"))
    if not files:
        raise FileNotFoundError(f"no goldens in {CONFORMANCE}")
    found: dict[str, Tree] = {}
    for file in files:
        store = json.loads(file.read_text())["store"]
        found[f"{file.parent.name}/{file.stem}"] = {
            path: as_bytes(content) if isinstance(content, dict) else bytes.fromhex(content)
            for path, content in store.items()
        }
    return found


def groups(arrays: dict[str, Tree]) -> dict[str, Tree]:
    """Groups of goldens, with and without consolidated metadata, of zarr v3 and v2."""
    at = "zarr-3.4.2"
    v3 = {"book": "book", "time": "time", "mid/sharded": "shard-index-start", "text": "vlen-utf8"}
    v2 = {"x": "v2-f4", "below/delta": "v2-delta-shuffle-lz4", "f": "v2-order-f"}
    plain = _group({name: arrays[f"{at}/{golden}"] for name, golden in v3.items()}, 3)
    old = _group({name: arrays[f"{at}/{golden}"] for name, golden in v2.items()}, 2)
    consolidated = dict(plain)
    members = {
        path.removesuffix("/zarr.json"): json.loads(content)
        for path, content in plain.items()
        if path.endswith("/zarr.json") and isinstance(content, bytes)
    }
    inside = {"kind": "inline", "must_understand": False, "metadata": members}
    consolidated["zarr.json"] = as_bytes(_GROUP | {"consolidated_metadata": inside})
    documents = {
        path: json.loads(content)
        for path, content in old.items()
        if path.rpartition("/")[2] in DOCUMENTS and isinstance(content, bytes)
    }
    copies = {"metadata": documents, "zarr_consolidated_format": 1}
    return {
        "group": plain,
        "group-consolidated": consolidated,
        "group-v2": old,
        "group-v2-consolidated": old | {".zmetadata": as_bytes(copies)},
    }


_GROUP: Document = {"zarr_format": 3, "node_type": "group", "attributes": {"made": "by hand"}}


def _group(arrays: dict[str, Tree], zarr_format: int) -> Tree:
    name, document = ("zarr.json", _GROUP) if zarr_format == 3 else (".zgroup", {"zarr_format": 2})
    tree: Tree = {name: as_bytes(document)}
    for path, array in arrays.items():
        for above in list(Path(path).parents)[:-1]:
            tree[f"{above}/{name}"] = as_bytes(document)
        tree |= {f"{path}/{inside}": content for inside, content in array.items()}
    return tree


def as_bytes(document: Any) -> bytes:
    return json.dumps(document).encode()


# -- values ----------------------------------------------------------------------------------------

INTEGERS = [
    *(0, -1, 1, 2, 3, 7, 8, 16, 64, 255, 1000, 2**16, 2**20, 2**24, 2**30, 2**31 - 1, 2**31),
    *(2**32 - 1, 2**32, 2**33, 2**40, 2**47, 2**53, 2**60, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
    *(2**64, 10**30, -2, -128, -(2**31), -(2**63), -(2**63) - 1),
]
FLOATS = [0.5, -0.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, 1e19, 4.0]
TEXTS = [
    *("", "x", ".", "..", "/", "a/b", "../x", "/etc/passwd", "\0", "\n", "é", "\ud800", "0", "-1"),
    *("NaN", "Infinity", "0x", "0x7fc12345", "0xffffffffffffffffffff", "1e5", "true", "null"),
    *("AA==", "A", "little", "big", "C", "F", "{}", "x" * 5000, "default", "v2", "none"),
]
TYPES: list[Any] = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float16"),
    *("float32", "float64", "complex64", "complex128", "string", "bytes", "r8", "r16", "r0", "r3"),
    *(
        "r99999999999",
        "bfloat16",
        "float8_e4m3",
        "int2",
        "variable_length_bytes",
        "uint0",
        "struct",
    ),
    *("|b1", "<f4", ">f4", "<i8", "|u1", "<M8[ns]", "<M8[ns]x", "<M8", "<M8[7s]", "|S3", "|S0"),
    *("<U3", "<U0", ">U9", "|V0", "|V4", "|O", "<f16", "<c32", "<U999999999", "f4", "=f4", ""),
    {"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}},
    {"name": "numpy.datetime64", "configuration": {"unit": "xs", "scale_factor": 0}},
    {"name": "numpy.timedelta64", "configuration": {"unit": "generic", "scale_factor": 2**31}},
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}},
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}},
    {"name": "null_terminated_bytes", "configuration": {"length_bytes": 0}},
    {"name": "raw_bytes", "configuration": {"length_bytes": 2**63}},
    {"name": "struct", "configuration": {"fields": [["a", "int32"], ["b", "float64"]]}},
    [["a", "<i4"], ["b", "<f8"]],
    [["a", "<i4", [2**40]]],
]


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON, mostly scalars."""
    match rng.randrange(12 if depth < 3 else 8):
        case 0 | 1 | 2:
            return rng.choice(INTEGERS)
        case 3:
            return rng.choice(FLOATS)
        case 4 | 5:
            return rng.choice(TEXTS)
        case 6:
            return rng.choice([None, True, False])
        case 7:
            return rng.choice(TYPES)
        case 8 | 9:
            return [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case 10:
            keys = ["name", "configuration", "id", rng.choice(TEXTS)]
            return {key: any_value(rng, depth + 1) for key in rng.sample(keys, rng.randrange(4))}
        case _:
            nested: Any = rng.choice(INTEGERS)
            for _ in range(rng.choice([1, 10, 100])):
                nested = [nested] if rng.random() < 0.5 else {"configuration": nested}
            return nested


class Pools:
    """What the documents of the seeds have, by the name of the field; and all their codecs."""

    def __init__(self, seeds: dict[str, Tree]) -> None:
        values: dict[str, dict[str, Any]] = {}
        codecs: dict[str, Any] = {}
        for tree in seeds.values():
            for path, content in tree.items():
                if path.rpartition("/")[2] not in DOCUMENTS or not isinstance(content, bytes):
                    continue
                for container, key in nodes(json.loads(content)):
                    value = container[key]
                    text = json.dumps(value, sort_keys=True)
                    if isinstance(key, str):
                        values.setdefault(key, {})[text] = value
                    if isinstance(value, dict) and (
                        "id" in value or set(value) == {"name", "configuration"}
                    ):
                        codecs[text] = value
        self.values = {key: list(values[key].values()) for key in sorted(values)}
        self.codecs = [codecs[text] for text in sorted(codecs)]


def nodes(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a document, as its container and its key or index."""
    keys = document if isinstance(document, dict) else range(len(document))
    for key in list(keys):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from nodes(document[key])


# -- changes ---------------------------------------------------------------------------------------

Change: TypeAlias = Callable[[random.Random, Tree, Pools], str | None]


def _documents(tree: Tree) -> list[str]:
    return [
        path
        for path, entry in tree.items()
        if isinstance(entry, bytes) and path.rpartition("/")[2] in DOCUMENTS
    ]


def _chunks(tree: Tree) -> list[str]:
    return [
        path
        for path, entry in tree.items()
        if isinstance(entry, bytes) and path.rpartition("/")[2] not in DOCUMENTS
    ]


def _load(tree: Tree, path: str) -> Any:
    entry = tree[path]
    try:
        document = json.loads(entry) if isinstance(entry, bytes) else None
        return document if _depth(document) < 150 else None
    except (RecursionError, ValueError):
        return None


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    below = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, below), default=0)


def _pick(rng: random.Random, tree: Tree) -> tuple[str, Any] | None:
    """Any document that is one."""
    path = rng.choice(_documents(tree) or [""])
    document = _load(tree, path) if path else None
    return (path, document) if isinstance(document, dict) and document else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:80]}... ({len(text)} characters)"


def change_json(rng: random.Random, tree: Tree, pools: Pools) -> str | None:
    """Replace, delete, duplicate, nest, rename or move one value of a document."""
    picked = _pick(rng, tree)
    if picked is None:
        return None
    path, document = picked
    container, key = rng.choice(list(nodes(document)))
    old = container[key]
    what = f"{path}: {key!r} of {_short(container)}"
    match rng.randrange(11):
        case 0 | 1:
            container[key] = any_value(rng)
        case 2 | 3:
            container[key] = copy.deepcopy(rng.choice(pools.values.get(str(key)) or [None]))
        case 4:
            del container[key]
            tree[path] = as_bytes(document)
            return f"{what}: deleted"
        case 5 if isinstance(old, int | float) and math.isfinite(old):
            other = float(old) if abs(old) < 2**80 else 0.0
            container[key] = rng.choice([old + 1, old - 1, 2 * old, -old, str(old), other])
        case 6:
            container[key] = rng.choice([[old], {"name": old}, {"configuration": old}, [old, old]])
        case 7 if isinstance(container, list):
            container[key:key] = [old] * rng.choice([1, 2, 30])
        case 7:
            container[rng.choice([*pools.values, *TEXTS])] = old
        case 8 if isinstance(container, dict):
            container[rng.choice(TEXTS)] = container.pop(key)
        case 9 if isinstance(container, dict):
            extra = {"must_understand": rng.choice([True, False])} | rng.choice([{}, {"name": "x"}])
            container[rng.choice(TEXTS)] = extra
        case _:
            elsewhere, its = rng.choice(list(nodes(document)))
            container[key] = copy.deepcopy(elsewhere[its])
    tree[path] = as_bytes(document)
    return f"{what}: {_short(container)}"


def change_numbers(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Set a number, or all of a list, to an extreme one."""
    picked = _pick(rng, tree)
    if picked is None:
        return None
    path, document = picked
    numbers = [
        (container, key)
        for container, key in nodes(document)
        if isinstance(container[key], int) and container is not document
    ]
    if not numbers:
        return None
    container, key = rng.choice(numbers)
    before = _short(container)
    if isinstance(container, list):
        match rng.randrange(4):
            case 0:
                container[:] = [rng.choice(INTEGERS)] * len(container)
            case 1:
                container.append(rng.choice(INTEGERS))
            case 2:
                container.pop()
            case _:
                container[key] = rng.choice(INTEGERS)
    else:
        container[key] = rng.choice(INTEGERS)
    tree[path] = as_bytes(document)
    return f"{path}: {before} -> {_short(container)}"


def change_codecs(rng: random.Random, tree: Tree, pools: Pools) -> str | None:
    """Insert, repeat, remove, reorder or replace codecs."""
    picked = _pick(rng, tree)
    if picked is None:
        return None
    path, document = picked
    lists = [
        (container, key)
        for container, key in nodes(document)
        if key in {"codecs", "filters", "index_codecs", "compressor"}
    ]
    if not lists:
        return None
    container, key = rng.choice(lists)
    before = _short(container[key])
    if not isinstance(container[key], list):
        container[key] = copy.deepcopy(rng.choice(pools.codecs))
        tree[path] = as_bytes(document)
        return f"{path}: {key} {before} -> {_short(container[key])}"
    chain = container[key]
    at = rng.randrange(len(chain) + 1)
    match rng.randrange(7):
        case 0 | 1:
            chain.insert(at, copy.deepcopy(rng.choice(pools.codecs)))
        case 2 if chain:
            times = rng.choice([1, 1, 2, 5, 40]) if rng.random() < 0.9 else rng.choice([300, 3000])
            chain[at:at] = [rng.choice(chain)] * times
        case 3 if chain:
            chain.pop(at - 1)
        case 4:
            rng.shuffle(chain)
        case 5 if chain:
            nested: Any = copy.deepcopy(chain)
            for _ in range(rng.choice([1, 2, 40])):
                inner: Document = {"chunk_shape": [rng.choice([1, 2, 4])] * rng.choice([1, 2, 3])}
                index = [{"name": "bytes", "configuration": {"endian": "little"}}]
                inner |= {"codecs": nested, "index_codecs": index}
                nested = [{"name": "sharding_indexed", "configuration": inner}]
            chain[:] = nested
        case _ if chain:
            chain[at - 1] = copy.deepcopy(rng.choice(pools.codecs))
    tree[path] = as_bytes(document)
    return f"{path}: {key} {before} -> {_short(chain)}"


def change_type(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Another data type, whose fill value may no longer fit."""
    picked = _pick(rng, tree)
    if picked is None:
        return None
    path, document = picked
    key = "dtype" if "dtype" in document else "data_type"
    if key not in document:
        return None
    before, document[key] = document[key], rng.choice(TYPES)
    if rng.random() < 0.5:
        document["fill_value"] = rng.choice([0, None, "", False, "NaT", [0, 0], any_value(rng)])
    tree[path] = as_bytes(document)
    return (
        f"{path}: {key} {_short(before)} -> {_short(document[key])}, {document.get('fill_value')!r}"
    )


# Where chunks must never be found: `exercise.Box` has these files beside the store.
OUTSIDE = ["../sentinel/secret", "../sentinel/other.zarr/c/0", "../sentinel"]


def change_keys(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Name chunks otherwise."""
    picked = _pick(rng, tree)
    if picked is None:
        return None
    path, document = picked
    up = "/.." * rng.choice([1, 2, 3, 5])
    leaving = f"{up}/{rng.choice(OUTSIDE)}"
    separator = rng.choice(["/", ".", "", "//", "/../", "\0", leaving, 5, None])
    if "zarr_format" in document and document["zarr_format"] == 2:
        document["dimension_separator"] = separator
    else:
        name = rng.choice(["default", "v2", "zarrs.default_suffix", "suffix", "fanout", "flat", ""])
        configuration: Any = {"separator": separator}
        if rng.random() < 0.6:
            configuration = {"suffix": leaving} | ({} if rng.random() < 0.5 else configuration)
            name = rng.choice(["zarrs.default_suffix", "zarrs.default_suffix", name])
        document["chunk_key_encoding"] = {"name": name, "configuration": configuration}
    tree[path] = as_bytes(document)
    if rng.random() < 0.5:  # a folder that the system can go up from
        chunk = f"{path.rpartition('/')[0]}/c/0".lstrip("/")
        tree.pop(chunk, None)
        tree[f"{chunk}/x"] = b""
    return f"{path}: chunks named by {_short(document.get('chunk_key_encoding', separator))}"


def change_text(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Make a document one that is no longer JSON, or is hard to parse."""
    documents = _documents(tree)
    if not documents:
        return None
    path = rng.choice(documents)
    content = tree[path]
    assert isinstance(content, bytes)
    at = rng.randrange(len(content) + 1)
    kind = rng.randrange(9)
    numbers = [i for i, byte in enumerate(content) if 48 <= byte < 58]
    match kind:
        case 0:
            content = content[:at]
        case 1:
            content = flipped(rng, content)
        case 2:
            content = (
                content[:at]
                + rng.choice([b"\xff\xfe", b"\0", b",", b"}", b"[", b"//"])
                + content[at:]
            )
        case 3 if numbers:
            at = rng.choice(numbers)
            digits = rng.choice(
                [b"9" * 5000, b"1e999", b"1E-999", b"-0", b"00", b"NaN", b"Infinity"]
            )
            content = content[:at] + digits + content[at + 1 :]
        case 4:
            depth = rng.choice([100, 1000, 100_000])
            content = rng.choice([b"[", b'{"a":']) * depth
        case 5:
            content = b"\xef\xbb\xbf" + content
        case 6:
            key = rng.choice(
                [b'"shape": [3],', b'"codecs": [],', b'"zarr_format": 2,', b'"a": "\\ud800",']
            )
            content = content[:1] + key + content[1:]
        case 7:
            depth = rng.choice([100, 1000, 5000])
            nest = b'{"attributes": ' + b"[" * depth + b"]" * depth + b","
            content = nest + content[1:]
        case _:
            content = rng.choice([b"", b"null", b"[]", b"1", b'"x"', b"{}", b"\x80", b"{}{}"])
    tree[path] = content
    return f"{path}: text changed ({kind}), now {content[:40]!r}... of {len(content)} bytes"


def flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8]) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_chunk(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Damage the bytes of a chunk."""
    chunks = _chunks(tree)
    if not chunks:
        return None
    path = rng.choice(chunks)
    content = tree[path]
    assert isinstance(content, bytes)
    before = content
    size = len(content)
    kind = rng.randrange(9)
    match kind:
        case 0 | 1:
            content = flipped(rng, content)
        case 2:
            content = content[: rng.randrange(size + 1)]
        case 3:
            content += rng.choice([b"\0", b"\xff" * 7, content, bytes(1000)])
        case 4:
            content = bytes(rng.choice([0, 1, 4, 16, 20, size, 300]))
        case 5 | 6:  # numbers in headers stand at their beginning, checksums at the end
            width = rng.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
            at = rng.choice([0, 1, 2, 4, 8, 12, 16, max(size - 4, 0), rng.randrange(size + 1)])
            number = rng.choice(INTEGERS) % (1 << 8 * struct.calcsize(width))
            packed = struct.pack(width, number)
            content = content[:at] + packed + content[at + len(packed) :]
        case 7:
            other = tree[rng.choice(chunks)]
            content = other if isinstance(other, bytes) else content
        case _:
            content = rng.randbytes(rng.choice([size, 3, 100]))
    tree[path] = content
    return f"{path}: {size} bytes changed ({kind}), now {len(content)}{': as before' if content == before else ''}"


def change_index(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Change entries of the index of a shard, and make its checksum fit."""
    found = []
    for path in _documents(tree):
        document = _load(tree, path)
        if isinstance(document, dict):
            folder = path.rpartition("/")[0]
            inside = f"{folder}/" if folder else ""
            shards = [chunk for chunk in _chunks(tree) if chunk.startswith(inside + "c")]
            try:
                outer = document["chunk_grid"]["configuration"]["chunk_shape"]
                codec = next(c for c in document["codecs"] if c["name"] == "sharding_indexed")
                found += [(shard, outer, codec["configuration"]) for shard in shards]
            except (KeyError, TypeError, StopIteration):
                continue
    if not found:
        return None
    path, outer, sharding = rng.choice(found)
    try:
        content = tree[path]
        assert isinstance(content, bytes)
        changed, what = _with_index(rng, content, outer, sharding)
    except (ArithmeticError, KeyError, TypeError, ValueError, struct.error, StopIteration):
        return None
    tree[path] = changed
    return f"{path}: {what}"


def _with_index(rng: random.Random, content: bytes, outer: Any, sharding: Any) -> tuple[bytes, str]:
    grid = [-(-large // small) for large, small in zip(outer, sharding["chunk_shape"], strict=True)]
    count = math.prod(grid)
    names = [codec["name"] for codec in sharding["index_codecs"]]
    order = ">" if "big" in json.dumps(sharding["index_codecs"]) else "<"
    checked = 4 if "crc32c" in names else 0
    size = count * 16 + checked
    if not 0 < size <= len(content):
        raise ValueError(size)
    start = 0 if sharding.get("index_location") == "start" else len(content) - size
    index = list(struct.unpack_from(f"{order}{2 * count}Q", content, start))
    inner = next((c for c in sharding["codecs"] if c["name"] == "sharding_indexed"), None)
    number = rng.randrange(count)
    offset, length = index[2 * number : 2 * number + 2]
    if inner and rng.random() < 0.6 and offset + length <= len(content):
        below = content[offset : offset + length]
        changed, what = _with_index(rng, below, sharding["chunk_shape"], inner["configuration"])
        return content[:offset] + changed + content[offset + length :], f"subshard {number}, {what}"
    other = rng.randrange(2 * count)
    end = len(content)
    match rng.randrange(7):
        case 0:
            index[2 * number : 2 * number + 2] = [0, 0]
        case 1:
            index[2 * number + rng.randrange(2)] = rng.choice(INTEGERS) % 2**64
        case 2:
            index[2 * number : 2 * number + 2] = [2**64 - 1, rng.choice([0, 1, 2**64 - 2])]
        case 3:
            index[2 * number], index[other] = index[other], index[2 * number]
        case 4:
            index[2 * number : 2 * number + 2] = [0, end]
        case 5:
            index[2 * number : 2 * number + 2] = [
                end - rng.randrange(end + 1),
                rng.choice([0, 1, end]),
            ]
        case _:
            index[2 * number + 1] = max(index[2 * number + 1] + rng.choice([-1, 1, 16]), 0) % 2**64
    encoded = struct.pack(f"{order}{2 * count}Q", *index)
    if checked:
        encoded = bytes(numcodecs.CRC32C(location="end").encode(encoded))
    changed = content[:start] + encoded + content[start + size :]
    return (
        changed,
        f"index of {number}: [{offset}, {length}] -> {index[2 * number : 2 * number + 2]}",
    )


def change_file(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Put something else in the place of a file, or of a folder and all that is in it."""
    path = rng.choice(list(tree))
    if rng.random() < 0.3 and "/" in path:
        path = path.rpartition("/")[0]
    old = tree.get(path)
    up = "../" * path.count("/")
    name = path.rpartition("/")[2]
    siblings = [other.rpartition("/")[2] for other in tree] + [name]
    links = [
        *(
            rng.choice(siblings),
            ".",
            "..",
            up or ".",
            f"{up}../store.zarr",
            f"{up}{rng.choice(list(tree))}",
        ),
        *(up + outside for outside in OUTSIDE),
        *("/dev/zero", "/dev/null", "/dev/full", "nowhere", "/proc/self/mem", "/dev/tty"),
    ]
    entries: list[Any] = [
        Fifo(),
        Folder(),
        None,
        b"",
        *(Link(rng.choice(links)) for _ in range(4)),
        Sparse(old if isinstance(old, bytes) else b"", rng.choice([2**20, 3 << 30, 2**40])),
    ]
    entry = rng.choice(entries)
    for below in [other for other in tree if other == path or other.startswith(f"{path}/")]:
        del tree[below]
    if entry is not None:
        tree[path] = entry
    return f"{path}: {'removed' if entry is None else _named(entry)}"


def _named(entry: Entry) -> str:
    return "a file" if isinstance(entry, bytes) else str(entry)


def add_files(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Add what does not belong there."""
    some = rng.choice(list(tree))
    folder = some.rpartition("/")[0]
    content = tree[some]
    names = [
        *(
            "c/00",
            "c/-1",
            "c/0",
            "c/999",
            "c/18446744073709551616",
            "0",
            "00",
            "0.0",
            "c.0",
            "c",
            "é",
        ),
        *(
            "x y",
            "a\nb",
            "\udcff",
            "n" * 250,
            "..x",
            "...",
            "-rf",
            "zarr.json",
            ".zarray",
            ".zgroup",
        ),
        *(
            ".zattrs",
            ".zmetadata",
            ".tempozarr/x",
            ".tempozarr/journal.json",
            ".tempozarr",
            "x/zarr.json",
        ),
        *(
            "__x/zarr.json",
            " /zarr.json",
            "a\\b/zarr.json",
            "x/.zarray",
            "\x1b[31m/zarr.json",
            "c/0.partial",
        ),
        *("../store.zarr.x", "\udcff/zarr.json", "a/b/c/zarr.json", "CON/zarr.json", "c/0/0/0/0/0"),
    ]
    name = rng.choice(names)
    whole = f"{folder}/{name}".lstrip("/")
    if ".." in whole.split("/"):
        return None
    documents = _documents(tree)
    pick = tree[rng.choice(documents)] if documents else b"{}"
    tree[whole] = rng.choice([b"", content, pick, b"{}", Folder(), Fifo(), Link(".")])
    return f"{whole!r}: {_named(tree[whole])} added"


def change_members(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Rename members of a group, or nest all deeply, or give consolidated metadata other names."""
    if rng.random() < 0.1:
        return _nest(rng, tree)
    for path in ("zarr.json", ".zmetadata"):
        document = _load(tree, path) if path in tree else None
        if not isinstance(document, dict):
            continue
        copies = document if path == ".zmetadata" else document.get("consolidated_metadata")
        if not isinstance(copies, dict) or not isinstance(copies.get("metadata"), dict):
            continue
        members = copies["metadata"]
        name = rng.choice(list(members) or [""])
        if not name:
            continue
        hostile = [
            "..",
            "../victim.zarr",
            "",
            "a/",
            "a//b",
            "/abs",
            ".",
            "zarr.json",
            "__x",
            "a/../b",
            "\0",
        ]
        new = rng.choice(hostile) + ("/.zarray" if path == ".zmetadata" else "")
        members[new] = members[name] if rng.random() < 0.5 else members.pop(name)
        if rng.random() < 0.3:
            members[new] = any_value(rng)
        tree[path] = as_bytes(document)
        return f"{path}: consolidated {name!r} as {new!r}"
    tops = sorted({path.partition("/")[0] for path in tree if "/" in path})
    if not tops:
        return None
    old = rng.choice(tops)
    new = rng.choice(
        ["..x", "a b", "é", "\udcff", "n" * 255, "__x", ".hidden", "zarr.json", "c", "0"]
    )
    for path in [path for path in tree if path.startswith(f"{old}/")]:
        tree[new + path.removeprefix(old)] = tree.pop(path)
    return f"{old} renamed to {new!r}"


def _nest(rng: random.Random, tree: Tree) -> str:
    depth = rng.choice([3, 40, 150, DEEP])
    prefix = "g/" * depth
    inner = {prefix + path: entry for path, entry in tree.items()}
    tree.clear()
    tree |= {f"{'g/' * level}zarr.json": as_bytes(_GROUP) for level in range(depth)} | inner
    return f"{depth} groups around it"


def change_journal(rng: random.Random, tree: Tree, _pools: Pools) -> str | None:
    """Change the journal of an unfinished flush, or make one up."""
    journals = [path for path in tree if path.endswith(".tempozarr/journal.json")]
    hostile: list[Any] = [
        *(
            "../sentinel/secret",
            "c/../../sentinel/secret",
            "/nowhere/x",
            "link/secret",
            "zarr.json",
            ".",
        ),
        *("", "c/0", "c", ".tempozarr/journal.json", "c/0/0", "new/zarr.json", "\0", 5, None),
    ]
    if not journals:
        where = rng.choice([path for path in tree if path.rpartition("/")[2] in DOCUMENTS] or ["x"])
        inside = f"{where.rpartition('/')[0]}/.tempozarr/".lstrip("/")
        planted: list[Entry] = [b"planted", Folder(), Link("../zarr.json"), b"{}"]
        staged = f"{'0' * 32}-0"
        tree[inside + staged] = rng.choice(planted)
        moves: list[Any] = [[staged, rng.choice(hostile)]]
        levels = rng.choice([0, 0, 0, 1, 2, -1, "x", None])
        tree[f"{inside}journal.json"] = as_bytes({"levels": levels, "moves": moves})
        if rng.random() < 0.5:
            tree[f"{inside.removesuffix('.tempozarr/')}link"] = Link("../sentinel")
        return f"{inside}journal.json: planted, {moves}, levels {levels}"
    path = rng.choice(journals)
    document = _load(tree, path)
    if not isinstance(document, dict) or not isinstance(document.get("moves"), list):
        return None
    moves = document["moves"]
    if not moves or not all(isinstance(move, list) for move in moves):
        return None
    at = rng.randrange(len(moves))
    kind = rng.randrange(6)
    inside = path.removesuffix("journal.json")
    match kind:
        case 0:
            moves[at] = [*moves[at][:1], rng.choice(hostile), *moves[at][2:]]
        case 1:
            moves[at] = [rng.choice(hostile), *moves[at][1:]]
        case 2:
            moves.pop(at)
        case 3:
            rng.shuffle(moves)
        case 4:
            document["levels"] = rng.choice(INTEGERS)
        case _:
            files = [file for file in tree if file.startswith(inside) and file != path]
            if files:
                file = rng.choice(files)
                outside = Link(f"{'../' * file.count('/')}../sentinel/secret")
                entries: list[Entry] = [outside, Folder(), b"", Fifo()]
                tree[file] = rng.choice(entries)
    tree[path] = as_bytes(document)
    return f"{path}: journal changed ({kind}): {_short(moves[:2])}"


# What is changed, how often.
CHANGES: dict[Change, int] = {
    change_json: 22,
    change_numbers: 14,
    change_codecs: 12,
    change_type: 6,
    change_keys: 4,
    change_text: 5,
    change_chunk: 16,
    change_index: 8,
    change_file: 7,
    add_files: 5,
    change_members: 4,
    change_journal: 3,
}


def draw(seed: int, number: int, seeds: dict[str, Tree], pools: Pools) -> Case:
    """Case `number` of a seed."""
    rng = random.Random(f"{seed}:{number}")
    name = rng.choice(list(seeds))
    case = Case(f"{seed}:{number}", name, dict(seeds[name]))
    kinds, weights = list(CHANGES), list(CHANGES.values())
    wanted = rng.choice([1, 1, 1, 2, 2, 3])
    for _ in range(50):
        if len(case.changes) == wanted or not case.tree:
            break
        change = rng.choices(kinds, weights)[0](rng, case.tree, pools)
        if change is not None:
            case.changes.append(change)
    return case


if sys.platform == "win32":
    raise ImportError("links, pipes and limits of memory are those of Linux")
