"""What a disk may hold after a loss of power: the calls before it, reordered where nothing was synced.

The model is the weakest one of a file system that keeps its promises, as the default one of ALICE
is (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014; CrashMonkey, OSDI 2018, tests
file systems against the same promises):

- `fsync` of a file makes what was written to it durable, but not its name.
- `fsync` of a folder makes all changes to its names durable, but not its own name in the one above.
- Of all other changes to names, any may have reached the disk and any other not, whatever their
  order; only those of one name follow each other. A rename is atomic, also between two folders:
  there is the old name or the new one, so that it does not reach the disk before the name of the
  folder that it leads to. It is durable when one of the folders is synced.
- Of a file that was written and not synced, there may be all, nothing, a part, or zeros, whatever
  became of its name.

Journalling file systems promise more, as that changes of names reach the disk in their order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faultfs.scenarios import Told
from faultfs.shim import Call

Name = tuple[int, str]
"""A folder's number, and a name in it."""
Tree = dict[str, bytes | None]
"""Contents of files by path; None is a folder."""

ROOT = 0
_APART = 24
"""So many changes are lost, or kept, alone; there are no more unless nothing is ever synced."""
_EXCHANGE = 2  # RENAME_EXCHANGE


@dataclass
class _File:
    content: bytes = b""
    synced: bytes = b""

    @property
    def variants(self) -> list[bytes]:
        """What may be on the disk, the least first."""
        if self.content == self.synced:
            return [self.content]
        whole = self.content
        variants = [self.synced, whole[: len(whole) // 2], bytes(len(whole)), whole]
        return list(dict.fromkeys(variants))


def _change_content(file: _File, call: Call) -> None:
    end = call.flags if call.name == "truncate" else call.offset
    before, after = file.content[:end].ljust(end, b"\0"), b""
    if call.name == "write":
        after = call.written + file.content[end + len(call.written) :]
    file.content = before + after


@dataclass
class _Change:
    """Names that change together: each to a node, or to nothing."""

    names: dict[Name, int | None]
    into: frozenset[int] = frozenset()
    """Folders that must be on the disk before."""


@dataclass
class Disk:
    """What processes see, what is durable, and what is between the two."""

    files: dict[int, _File] = field(default_factory=dict)
    now: dict[Name, int] = field(default_factory=dict)
    durable: dict[Name, int] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)
    _count: int = ROOT

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """The disk with what is in a folder, all of it durable."""
        disk = cls()
        for path in sorted(folder.rglob("*")):
            name = disk._name(str(path.relative_to(folder)))
            disk._count += 1
            disk.now[name] = disk._count
            if path.is_file():
                content = path.read_bytes()
                disk.files[disk._count] = _File(content, content)
        disk.durable = dict(disk.now)
        return disk

    def _name(self, path: str) -> Name:
        """The name at the end of a path."""
        folder = ROOT
        *above, last = path.split("/")
        for part in above:
            folder = self.now[folder, part]
        return folder, last

    def _node(self, path: str) -> int | None:
        return ROOT if path == "." else self.now.get(self._name(path))

    def _change(self, names: Mapping[Name, int | None], into: str = "") -> None:
        folders = Path(into).parents
        above = frozenset(node for path in folders if (node := self._node(str(path))))
        self.pending.append(_Change(dict(names), above))
        _apply(self.now, names)

    def _new(self, name: Name) -> int:
        self._count += 1
        self._change({name: self._count})
        return self._count

    def do(self, call: Call, folder: Path) -> None:
        """Do what a process did in a folder, which succeeded."""
        if call.path.endswith(" (deleted)"):
            return
        path, other = (os.path.relpath(p, folder) if p else "" for p in (call.path, call.other))
        if call.name == "open":
            name = self._name(path)
            if name not in self.now:
                self.files[self._new(name)] = _File()
            elif call.flags & os.O_TRUNC:
                self.files[self.now[name]].content = b""
        elif call.name in {"write", "truncate"}:
            _change_content(self.files[self.now[self._name(path)]], call)
        elif call.name == "mkdir":
            self._new(self._name(path))
        elif call.name in {"unlink", "rmdir"}:
            self._change({self._name(path): None})
        elif call.name == "link":
            self._change({self._name(other): self.now[self._name(path)]})
        elif call.name == "rename":
            old, new = self._name(path), self._name(other)
            there = self.now[new] if call.flags & _EXCHANGE else None
            if self.now[old] != self.now.get(new):
                self._change({new: self.now[old], old: there}, into=other)
        elif call.name == "fsync":
            self._sync(self._node(path))
        else:
            raise NotImplementedError(f"what {call} does to a disk")

    def _sync(self, node: int | None) -> None:
        if node in self.files:
            file = self.files[node]
            file.synced = file.content
            return
        chosen = {
            i for i, change in enumerate(self.pending) if any(d == node for d, _ in change.names)
        }
        chosen = self.closed(chosen)
        for i in sorted(chosen):
            _apply(self.durable, self.pending[i].names)
        self.pending = [change for i, change in enumerate(self.pending) if i not in chosen]

    def closed(self, chosen: set[int]) -> set[int]:
        """The changes with all that they follow."""
        chosen = set(chosen)
        names: set[Name] = set()
        folders: set[int] = set()
        for i in range(len(self.pending) - 1, -1, -1):
            change = self.pending[i]
            makes = not folders.isdisjoint(change.names.values())
            if i in chosen or makes or not names.isdisjoint(change.names):
                chosen.add(i)
                names.update(change.names)
                folders.update(change.into)
        return chosen

    def without(self, left_out: int) -> set[int]:
        """All changes but one, and what follows it."""
        return {
            i for i in range(len(self.pending)) if i < left_out or left_out not in self.closed({i})
        }

    def tree(self, chosen: set[int], contents: Mapping[int, int]) -> Tree:
        """What is on the disk if those changes have reached it, and those variants of contents."""
        names = dict(self.durable)
        for i in sorted(chosen):
            _apply(names, self.pending[i].names)
        inside: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), node in names.items():
            inside.setdefault(folder, []).append((name, node))
        tree: Tree = {}

        def walk(folder: int, above: str) -> None:
            for name, node in sorted(inside.get(folder, ())):
                path = above + name
                if node in self.files:
                    variants = self.files[node].variants
                    tree[path] = variants[contents.get(node, 0) % len(variants)]
                else:
                    tree[path] = None
                    walk(node, path + "/")

        walk(ROOT, "")
        return tree

    def crashes(self, rng: random.Random, some: int) -> Iterator[Tree]:
        """States of the disk after a loss of power now: those at the edges, and some others."""
        every = set(range(len(self.pending)))
        apart = rng.sample(range(len(every)), min(len(every), _APART))
        unsynced = [node for node, file in self.files.items() if len(file.variants) > 1]
        full = dict.fromkeys(unsynced, -1)
        yield self.tree(set(), {})
        yield self.tree(every, {})
        yield self.tree(every, full)
        for i in apart:
            yield self.tree(self.without(i), full)
            yield self.tree(self.closed({i}), full)
        for node in unsynced[-_APART:]:
            for variant in range(len(self.files[node].variants) - 1):
                yield self.tree(every, full | {node: variant})
        for _ in range(some if every or unsynced else 0):
            chosen = {i for i in every if rng.random() < 0.5}
            yield self.tree(self.closed(chosen), {node: rng.randrange(4) for node in unsynced})


def _apply(to: dict[Name, int], names: Mapping[Name, int | None]) -> None:
    for name, node in names.items():
        if node is None:
            to.pop(name, None)
        else:
            to[name] = node


@dataclass(frozen=True)
class Crash:
    """A state of the disk, behind which call it is one, and what had been told."""

    behind: str
    lines: tuple[str, ...]
    tree: Tree


def crashes(
    before: Path, calls: list[Call], folder: Path, *, seed: int = 0, some: int = 3
) -> Iterator[Crash]:
    """All states that differ, of a loss of power behind each of the calls in a folder.

    Before them, it was as the folder `before`.
    """
    rng = random.Random(seed)
    disk = Disk.of(before)
    lines: list[str] = []
    seen = set()
    behind = "the beginning"
    for call in calls:
        if call.name == "note":
            lines.append(call.path)
        elif call.result >= 0:
            disk.do(call, folder)
            behind = str(call)
        for tree in disk.crashes(rng, some):
            key = hash((len(lines), *tree.items()))
            if key not in seen:
                seen.add(key)
                yield Crash(behind, tuple(lines), tree)


def final(before: Path, calls: list[Call], folder: Path) -> Tree:
    """What the disk holds when all calls have reached it."""
    disk = Disk.of(before)
    for call in calls:
        if call.name != "note" and call.result >= 0:
            disk.do(call, folder)
    every = set(range(len(disk.pending)))
    return disk.tree(every, dict.fromkeys(disk.files, -1))


def tree_of(folder: Path) -> Tree:
    """What is in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write(tree: Tree, folder: Path) -> None:
    """Make it so in a folder that is empty."""
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def told(crash: Crash, before: Told) -> Told:
    """What had been told before a loss of power."""
    heard = Told(before.before)
    for line in crash.lines:
        heard.hear(line)
    return heard
