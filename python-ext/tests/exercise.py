"""Everything that tempozarr does with a store, done with a hostile one: what is wrong then.

zarr-python's default pipeline is the oracle: of what both read, each bit must be the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import json
import math
import os
import pickle
import random
import struct
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr

import tempozarr
from faulty import Faulty, files, serving
from mutants import Case, below, build, remove
from tempozarr import TempozarrError

PACKAGE = str(Path(tempozarr.__file__).parent)
SECRET = b"SECRET:" * 40
MOST = 4096
"""Elements that are read at once: no more memory than that is the caller's own wish."""
MOST_ARRAYS = 3
_IN_OPEN = 0x20

ROUNDING = frozenset(
    {"astype", "bitround", "cast_value", "delta", "fixedscaleoffset", "quantize", "scale_offset"}
)

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """What must not be. Those with the same `key` are taken for one bug."""

    case: str
    key: str
    text: str


class Opened:
    """Files that are opened in some folders, as Linux tells (inotify)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)

    def watch(self, *folders: Path) -> None:
        """Begin."""
        for folder in folders:
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_OPEN)
        self.names()

    def names(self) -> set[str]:
        """Names of those that were opened meanwhile."""
        events = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                events += os.read(self._descriptor, 1 << 16)
        found = set()
        while events:
            _, mask, _, length = struct.unpack_from("iIII", events)
            name = events[16 : 16 + length].rstrip(b"\0").decode()
            if mask & _IN_OPEN and name:
                found.add(name)
            events = events[16 + length :]
        return found


class Box:
    """A folder with a hostile store, and beside it what must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store.zarr"
        self.target = folder / "target.zarr"
        self._server = contextlib.ExitStack()
        self._url = ""
        self._opened = Opened()
        self.make()

    @property
    def url(self) -> str:
        """The store over HTTP; a server is started when this is asked first."""
        if not self._url:
            self._url = self._server.enter_context(serving(Faulty(files(self.folder)))).url
        return f"{self._url}/{self.store.name}"

    def make(self) -> None:
        """Begin anew."""
        remove(self.folder)
        sentinel = self.folder / "sentinel"
        (sentinel / "other.zarr/c").mkdir(parents=True)
        (sentinel / "secret").write_bytes(SECRET)
        (sentinel / "other.zarr/c/0").write_bytes(SECRET)
        (sentinel / "other.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        # As a writer names what it leaves beside a store, but with a name of the user's.
        (self.folder / ".store.zarr.my-backup.old").mkdir()
        (self.folder / ".store.zarr.my-backup.old/zarr.json").write_text("{}")
        self._before = self._outside()

    def clear(self) -> None:
        """Remove the store and what was copied."""
        remove(self.store)
        self.clear_target()

    def clear_target(self) -> None:
        """Remove what was copied."""
        remove(self.target)

    def opened(self) -> set[str]:
        """Names of files beside the store that were opened since this was asked last."""
        return self._opened.names()

    def changes(self) -> str | None:
        """What has changed beside the store, which is then made good."""
        now = self._outside()
        self._opened.names()
        if now == self._before:
            return None
        differing = [
            path for path in now.keys() | self._before if now.get(path) != self._before.get(path)
        ]
        self.make()
        return f"changed outside the store: {sorted(differing)}"

    def _outside(self) -> dict[str, Any]:
        mine = {self.store.name, self.target.name}
        found: dict[str, Any] = {}
        todo = [entry for entry in os.scandir(self.folder) if entry.name not in mine]
        for entry in todo:
            stat = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                todo += os.scandir(entry.path)
                found[entry.path] = stat.st_mode
            else:
                content = (
                    Path(entry.path).read_bytes() if entry.is_file(follow_symlinks=False) else b""
                )
                found[entry.path] = (stat.st_mode, stat.st_ino, stat.st_mtime_ns, content)
        return found


class Exercise:
    """What is done with one case, and what was found."""

    def __init__(self, case: Case, box: Box, tell: Tell, *, oracle: bool) -> None:
        self.case = case
        self.findings: list[Finding] = []
        self._rng = random.Random(f"exercise {case.name}")
        self._box = box
        self._tell = tell
        # What zarr-python alone can decode, it decodes in its own way: zfp believes its bytes.
        self._python = case.plain and not case.has(b"zfpy")
        self._oracle = oracle and self._python
        self._values: dict[str, dict[str, Any]] = {}  # what we read, by array and selection

    def run(self) -> list[Finding]:
        """Do everything."""
        tell, chance = self._tell, self._rng.random
        tell("build")
        self._box.clear()
        build(self.case.tree, self._box.store)
        for what, share, act in [
            ("open", 1.0, self._open),
            ("info", 0.5, self._info),
            ("verify", 0.6, self._verify),
            ("oracle", 0.5, self._compare),
            ("loader", 0.04, self._load),
            ("url", 0.5 if "consolidated" in self.case.seed else 0.02, self._from_url),
            ("enable", 0.25, self._through_zarr),
            ("copy", 0.08, self._copy),
            (
                "append",
                0.8 if self.case.unfinished else 0.4 if self.case.linked else 0.15,
                self._append,
            ),
            ("enable write", 0.2 if self.case.linked else 0.08, self._write_through_zarr),
        ]:
            if chance() < share:
                tell(what)
                self._allowing(what, act)
        tell("look around")
        if (opened := self._box.opened()) and not self.case.linked:
            self._find("opened outside the store", f"opened outside the store: {sorted(opened)}")
        if changed := self._box.changes():
            self._find(changed.partition(":")[0], changed)
        left = [entry.path for entry in below(self._box.store) if entry.name.endswith(b".partial")]
        if left and not any(path.endswith(".partial") for path in self.case.tree):
            self._find("left files", f"left {left}")
        return self.findings

    # -- errors ----------------------------------------------------------------------------------

    def _find(self, key: str, text: str) -> None:
        self.findings.append(Finding(self.case.name, key, f"{text}\n  {self.case}"))

    def _allowing(
        self,
        what: str,
        act: Callable[..., Any],
        *arguments: Any,
        also: tuple[type[BaseException], ...] = (),
    ) -> Any:
        """Do something, whose errors have to be tempozarr's; give its result."""
        try:
            return act(*arguments)
        except BaseException as e:  # noqa: BLE001
            self._judge(what, e, also)
        return None

    def _judge(
        self, what: str, error: BaseException, also: tuple[type[BaseException], ...]
    ) -> None:
        text = f"{type(error).__name__}: {error}"
        internal = any(word in text.lower() for word in ("panic", "please report"))
        if isinstance(error, (TempozarrError, *also)) and not internal:
            return
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
        inner = frames[-1]
        foreign = not inner.filename.startswith(PACKAGE)
        if what.startswith("enable") and foreign and not internal and isinstance(error, Exception):
            return  # zarr-python's own, whose metadata and indexing it is
        at = ours[-1] if ours else inner
        place = f"{Path(at.filename).name}:{at.name}"
        if foreign and inner is not at:
            place += f" ({Path(inner.filename).name}:{inner.name})"
        stack = "".join(traceback.format_list(frames[-6:]))
        self._find(f"{what}: {type(error).__name__} in {place}", f"{what}: {text[:600]}\n{stack}")

    # -- reading ---------------------------------------------------------------------------------

    def _open(self) -> None:
        for path, node in self._nodes():
            if isinstance(node, tempozarr.Array):
                self._allowing("read", self._read, path, node)

    def _nodes(self) -> Iterator[tuple[str, tempozarr.Array | tempozarr.Group]]:
        """Open what there is; errors of one member must not keep us from the others."""
        store = self._box.store
        root = tempozarr.open(store)
        yield "", root
        if isinstance(root, tempozarr.Array):
            return
        for act in (root.tree, root.members, lambda: list(root.groups()), lambda: len(root)):
            self._allowing("group", act)
        self._allowing("group", lambda: (repr(root), dict(root.attrs), root.metadata, "x" in root))
        self._allowing("group", root.__getitem__, "no/such", also=(KeyError,))
        todo = [root]
        arrays = 0
        while todo and arrays < MOST_ARRAYS:
            group = todo.pop()
            for name in self._allowing("group", list, group) or []:
                node = self._allowing("group", group.__getitem__, name, also=(KeyError,))
                if isinstance(node, tempozarr.Group) and len(todo) < 10:
                    todo.append(node)
                elif isinstance(node, tempozarr.Array) and arrays < MOST_ARRAYS:
                    arrays += 1
                    yield node.path, node

    def _read(self, path: str, array: tempozarr.Array) -> None:
        allowing = self._allowing
        allowing("about", lambda: (repr(array), array.size, array.nbytes, len(repr(array.grid))))
        allowing("about", lambda: (array.chunks, array.shards, dict(array.attrs), array.metadata))
        allowing("about", lambda: array.fill_value)
        allowing("about", lambda: str(array.explain()))
        if (
            array.size != math.prod(array.shape)
            or array.nbytes != array.size * array.dtype.itemsize
        ):
            self._find("size wraps", f"{array.shape}: size {array.size}, nbytes {array.nbytes}")
        if array.dtype.itemsize > 1 << 16:
            return
        found = self._values.setdefault(path, {})
        for name, selection in selections(array.shape, self._rng):
            values = allowing("read", array.__getitem__, selection)
            if values is not None:
                found[name] = (selection, values)
        self._other_ways(array, found)

    def _other_ways(self, array: tempozarr.Array, found: dict[str, Any]) -> None:
        """Read what was read in other ways; they have to agree."""
        rng, allowing = self._rng, self._allowing
        if "all" in found:
            for name, (selection, values) in found.items():
                self._same(f"part {name!r}", values, found["all"][1][selection])
        if "first" in found and array.shape:
            selection, wanted = found["first"]
            out = np.empty(wanted.shape, wanted.dtype)
            if allowing("read out", lambda: array.read(selection, out=out)) is not None:
                self._same("read(out=)", out, wanted)
            rows = [np.arange(*s.indices(n)) for s, n in zip(selection, array.shape, strict=True)]
            got = allowing("oindex", lambda: array.oindex[tuple(rows)])
            if got is not None:
                self._same("oindex", got, wanted)
            if wanted.size:
                places = [rng.randrange(n) for n in wanted.shape]
                points = tuple(np.array([place, 0]) for place in places)
                got = allowing("vindex", lambda: array.vindex[points])
                if got is not None:
                    self._same("vindex", got, wanted[points])
        length = array.shape[0] if array.shape else 0
        row = math.prod(array.shape[1:])
        if length and row * array.dtype.itemsize <= MOST and rng.random() < 0.5:
            count = min(length, 3)
            first = [0, length - count, rng.randrange(length - count + 1)]
            starts = np.array(first, "i8" if length < 1 << 63 else "u8")
            windows = allowing("windows", lambda: array.windows(starts, count))
            if windows is not None and "rows" in found:
                rows = found["rows"][1]
                self._same("windows", windows[0][: len(rows)], rows[:count])
        if rng.random() < 0.05:
            again = allowing("pickle", lambda: pickle.loads(pickle.dumps(array)))
            if again is not None and again.shape != array.shape:
                self._find("pickle differs", f"{again!r} is not {array!r}")

    def _same(self, what: str, got: Any, wanted: Any) -> None:
        if not same(got, wanted):
            self._find(f"{what} differs", f"{what} gives {got!r}, reading {wanted!r}")

    # -- the oracle ------------------------------------------------------------------------------

    def _compare(self) -> None:
        if not self._oracle:
            return
        for path, found in self._values.items():
            with contextlib.suppress(BaseException):
                theirs = zarr.open_array(self._box.store / path, mode="r")
                self._compare_with(path, "zarr-python", theirs, found)

    def _through_zarr(self) -> None:
        """zarr-python with tempozarr: what it reads has to be what we read without it."""
        if not self._oracle:
            return
        for path in list(self._values) or [""]:
            with tempozarr.enable():
                theirs = self._allowing("enable", self._zarr, path, "r")
                if theirs is None:
                    continue
                found = self._values.get(path, {})
                if found:
                    self._compare_with(path, "enable", theirs, found)
                elif math.prod(theirs.shape) <= MOST:
                    self._allowing("enable", theirs.__getitem__, ...)

    def _zarr(self, path: str, mode: Any) -> Any:
        return zarr.open_array(self._box.store / path, mode=mode)

    def _compare_with(self, path: str, who: str, theirs: Any, found: dict[str, Any]) -> None:
        # zarr-python takes long: where it reads everything, parts are compared with that, above.
        names = ["all"] if "all" in found and who != "enable" else ["all", "some", "last"]
        for name in names:
            if name not in found:
                continue
            selection, ours = found[name]
            try:
                values = theirs[selection]
            except BaseException as e:  # noqa: BLE001
                if who == "enable":
                    self._judge("enable", e, ())
                continue
            values, ours = np.asarray(values), np.asarray(ours)
            if same(values, ours):
                continue
            document = self._document(path)
            known = explained(document, values, ours)
            if known is None:
                codecs = " > ".join(codec_names(document)) or "no codecs"
                self._find(
                    f"other values than {who}: {document.get('zarr_format')} {ours.dtype} {codecs}",
                    f"{path or '/'}[{name}]: {who} has {values!r}, tempozarr {ours!r}\n{json.dumps(document)}",
                )

    def _rounds(self, path: str) -> bool:
        """Whether values may change when they are encoded again."""
        return any(
            name.removeprefix("numcodecs.") in ROUNDING
            for name in codec_names(self._document(path))
        )

    def _document(self, path: str) -> dict[str, Any]:
        with contextlib.suppress(Exception):
            document: dict[str, Any] = tempozarr.open_array(self._box.store / path).metadata
            return document
        return {}

    # -- whole stores ----------------------------------------------------------------------------

    def _info(self) -> None:
        str(tempozarr.info(self._box.store))

    def _verify(self) -> None:
        str(tempozarr.verify(self._box.store))

    def _load(self) -> None:
        for path, found in self._values.items():
            if (
                "rows" in found
                and len(found["rows"][1])
                and found["rows"][1].dtype.kind not in "TO"
            ):
                loader = tempozarr.WindowLoader(
                    self._box.store, {"x": path or None}, length=1, batch_size=2, prefetch=1
                )
                for batch in loader:
                    self._same("loader", batch["x"][0][0], found["rows"][1][0])
                    break

    def _from_url(self) -> None:
        """Open, and copy, over HTTP: there, members of groups are those of consolidated metadata."""
        if not self._python:
            return
        options = {"allow_http": True, "max_retries": 0, "timeout": "5 seconds"}
        root = tempozarr.open(self._box.url, storage_options=options)
        if isinstance(root, tempozarr.Array):
            self._allowing("read url", lambda: root[tuple(slice(0, min(n, 2)) for n in root.shape)])
            return
        small = True
        todo = [root]
        for group in todo:
            for name in self._allowing("group url", list, group) or []:
                node = self._allowing("group url", group.__getitem__, name, also=(KeyError,))
                if isinstance(node, tempozarr.Group) and len(todo) < 20:
                    todo.append(node)
                small &= isinstance(node, tempozarr.Group) or (
                    isinstance(node, tempozarr.Array) and math.prod(node.shape) <= MOST
                )
        self._allowing("group url", root.tree)
        if small and len(todo) < 20:
            tempozarr.copy(root, self._box.target, sync=False)
            self._box.clear_target()

    def _small(self) -> bool:
        """Whether the arrays are so small that all of them may be read."""
        return bool(self._values) and all("all" in found for found in self._values.values())

    def _copy(self) -> None:
        if not self._small() or not self._python:
            return
        tempozarr.copy(
            self._box.store, self._box.target, verify=self._rng.random() < 0.5, sync=False
        )
        for path, found in self._values.items():
            if self._rounds(path):
                continue
            copied = tempozarr.open_array(self._box.target / path)
            self._same("copy", np.asarray(copied[...]), np.asarray(found["all"][1]))

    def _append(self) -> None:
        if self._values and not self._small():
            return
        rng = self._rng
        options: Any = {"sync": rng.random() < 0.1}
        if "unfinished" in inspect.signature(tempozarr.Writer).parameters:
            options["unfinished"] = rng.choice([None, "finish", "finish", "discard"])
        with tempozarr.Writer(self._box.store, mode="a", **options) as writer:
            rows = {
                path: np.zeros((3, *array.row_shape), array.numpy_dtype)
                for path, array in _walk(writer)
                if not array.late
            }
            if sum(array.nbytes for array in rows.values()) > 1 << 20:
                return
            before = writer.rows
            writer.append(
                rows if not isinstance(writer.schema, tempozarr.schema.ArraySchema) else rows[""]
            )
            writer.flush()
            stored = writer.flushed_rows
        there = any(".tempozarr" in path for path in self.case.tree)
        if not there and any(entry.name == b".tempozarr" for entry in below(self._box.store)):
            self._find("left files", "the staging folder is there after the writer was closed")
        if stored != before + 3:
            self._find("flushed_rows", f"appended 3 rows to {before}, flushed_rows is {stored}")
        for path in rows:
            array = tempozarr.open_array(self._box.store / path)
            if len(array) < stored:
                self._find("rows lost", f"{path}: {len(array)} rows after flushing {stored}")
            found = self._values.get(path, {})
            if self._rounds(path) or self.case.linked:  # one chunk may be a link to another
                continue
            if "all" in found and found["all"][1].ndim and array.dtype == found["all"][1].dtype:
                before_it = found["all"][1]
                self._same("rows before those appended", array[: len(before_it)], before_it)
            else:
                array[-3:]

    def _write_through_zarr(self) -> None:
        """Write a few elements with zarr-python and our pipeline."""
        if not self._oracle:
            return
        for path in list(self._values)[:1]:
            # Through links, zarr-python's own way writes where they lead.
            with tempozarr.enable(strict=self.case.linked):
                array = self._allowing("enable", self._zarr, path, "r+")
                if array is None or not array.shape or 0 in array.shape:
                    continue
                if math.prod(array.chunks) * array.dtype.itemsize > 1 << 20:
                    continue
                selection = tuple(slice(0, min(n, 2)) for n in array.shape)
                values = self._allowing("enable", array.__getitem__, selection)
                if values is None:
                    continue
                array[selection] = values
                if not self._rounds(path):
                    self._same("enable write", np.asarray(array[selection]), np.asarray(values))


def _walk(writer: tempozarr.Writer) -> list[tuple[str, Any]]:
    if isinstance(writer.schema, tempozarr.schema.ArraySchema):
        return [("", writer.schema)]
    return list(writer.schema.walk())


def selections(shape: tuple[int, ...], rng: random.Random) -> Iterator[tuple[str, Any]]:
    """Selections of no more than `MOST` elements, by name."""
    # Without elements too, numpy has no array of (0, 2**63 - 1): that is an error of numpy's.
    if math.prod(n or 1 for n in shape) <= MOST:
        yield "all", ...
    if not shape:
        return
    each = max(int(MOST ** (1 / len(shape))), 1)
    yield "first", tuple(slice(0, min(n, each, 5)) for n in shape)
    yield "last", tuple(slice(max(n - min(each, 3), 0), n) for n in shape)
    if math.prod(shape[1:]) * 3 <= MOST:
        yield "rows", slice(0, min(shape[0], 3))
    if 0 not in shape:
        starts = [rng.randrange(n) for n in shape]
        yield (
            "some",
            tuple(
                slice(start, min(n, start + rng.choice([1, each])))
                for start, n in zip(starts, shape, strict=True)
            ),
        )
        if math.prod(shape[1:]) <= MOST:
            yield "one", starts[0]


def same(a: Any, b: Any) -> bool:
    """Whether shapes, types (but for byte order) and all bits are the same."""
    # Text of bytes would lose the zeros at its end.
    a, b = (np.array(x, object) if isinstance(x, bytes) else np.asarray(x) for x in (a, b))
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "TO" or b.dtype.kind in "TO":
        return bool(a.tolist() == b.tolist())
    if a.dtype.kind == b.dtype.kind and a.dtype.kind in "USb":
        # Scalars have lost the zeros at the end of texts, and which byte says True.
        return bool(np.all(a == b))
    if a.dtype.newbyteorder("=") != b.dtype.newbyteorder("="):
        return False
    native = a.dtype.newbyteorder("=")
    return bool(a.astype(native).tobytes() == b.astype(native).tobytes())


def codec_names(document: dict[str, Any]) -> list[str]:
    """Names of all codecs in the metadata of an array."""
    stages = document.get("codecs") or [
        *(document.get("filters") or []),
        document.get("compressor"),
    ]
    names = []
    for stage in stages:
        if isinstance(stage, dict):
            names.append(str(stage.get("name") or stage.get("id")))
            inner = stage.get("configuration")
            if isinstance(inner, dict) and isinstance(inner.get("codecs"), list):
                names += codec_names(inner)
        elif stage is not None:
            names.append(str(stage))
    return names


def delta_types(document: Any) -> list[str]:
    """Data types that Delta filters state."""
    if isinstance(document, list):
        return [found for below in document for found in delta_types(below)]
    if not isinstance(document, dict):
        return []
    name = str(document.get("name") or document.get("id"))
    stated = document.get("configuration") or document
    if name.removeprefix("numcodecs.") == "delta":
        return [str(stated.get("dtype"))]
    return [found for below in document.values() for found in delta_types(below)]


def explained(document: dict[str, Any], theirs: Any, ours: Any) -> str | None:
    """Why zarr-python reads other values than we, where that is as it should be."""
    names = {name.removeprefix("numcodecs.") for name in codec_names(document)}
    if names & {"vlen-utf8", "vlen-bytes"} and ours.dtype.kind == "O":
        encoded = [text.encode() if isinstance(text, str) else text for text in theirs.ravel()]
        return "texts of an array of bytes" if encoded == list(ours.ravel()) else None
    if theirs.shape != ours.shape or theirs.dtype.kind in "TO" or ours.dtype.kind in "TO":
        return None
    if "delta" in names and any(np.dtype(t).kind != ours.dtype.kind for t in delta_types(document)):
        return "Delta with a data type that is not the array's"
    if "cast_value" in names and names & {"astype", "delta", "fixedscaleoffset", "quantize"}:
        return "a filter that may name another data type than it is given"
    differs = theirs != ours
    if (
        ours.dtype.kind == "f"
        and "cast_value" in names
        and np.isnan([theirs, ours])[:, differs].all()
    ):
        return "payloads of NaNs"
    if ours.dtype.kind in "iu" and "fixedscaleoffset" in names:
        # What numpy makes of a float that no integer is near is the processor's.
        info = np.iinfo(ours.dtype)
        if np.isin(ours[differs], [info.min, info.max, 0]).all():
            return "floats out of the range of integers"
    return None


def digest(case: Case) -> str:
    """A short text that differs if a case does."""
    return hashlib.sha256(
        repr(sorted(case.tree.items(), key=lambda item: item[0])).encode()
    ).hexdigest()[:12]
