"""Changes to a store that happen altogether or not at all, by one writer at a time.

New files are written to a staging folder first. To publish them, a journal of all moves is written
there, the files are moved, and the journal is removed. Whatever kills the process: without a
journal nothing has happened; with one, whoever opens the store next makes the moves that are left.

The staging folder is inside the folder of an array, where readers of groups do not look.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import re
import shutil
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempozarr._errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_STAGING = ".tempozarr"
_JOURNAL = "journal.json"
_UNFINISHED = (".new", ".old")


class Lock:
    """The right to write below a folder, which one `Lock` at a time has, in any process.

    The system takes it back from a process that dies.

    Raises
    ------
    StoreError
        If another one has it, or the system has no such locks.
    """

    def __init__(self, folder: Path) -> None:
        if fcntl is None:
            raise StoreError("writing needs the file locks of Linux or macOS (fcntl.flock)")
        self._descriptor: int | None = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._descriptor), folder.stat()):
                raise BlockingIOError  # noqa: TRY301 (replaced by one that is being written)
        except (BlockingIOError, FileNotFoundError):
            self._close()
            raise StoreError(
                f"{folder} is being written by another tempozarr.Writer, here or in another "
                "process: expected to be the only one. Close that one first"
            ) from None
        except BaseException:
            self._close()
            raise
        _locks.add(self)

    def release(self) -> None:
        """Let others write; again is no error."""
        if self._descriptor is not None:
            # Explicitly, for the sake of processes forked from this one.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self._close()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_locks() -> None:
    """Leave locks to the parent process: a child that lives on must not keep them."""
    for lock in list(_locks):
        lock._close()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


class Staging:
    """Files that will be part of the store in folder `root`, in folder `root / inside`.

    With `sync`, what is published survives a loss of power, else the end of the process only.
    """

    def __init__(self, root: Path, inside: str, *, sync: bool) -> None:
        self._root = root
        self._levels = len(Path(inside).parts)
        self._folder = root / inside / _STAGING
        self._sync = sync
        # Names are never used twice: a journal must not find other files than it was written for.
        self._names = (f"{uuid.uuid4().hex}-{i}" for i in itertools.count())
        self._folder.mkdir(exist_ok=True)

    def path(self) -> Path:
        """Path of a new file or folder."""
        return self._folder / next(self._names)

    def write(self, document: dict[str, Any]) -> Path:
        """Stage a JSON document."""
        path = self.path()
        with path.open("xb") as file:
            file.write(json.dumps(document, indent=2).encode())
            if self._sync:
                file.flush()
                os.fsync(file.fileno())
        return path

    def folder(self, document: dict[str, Any]) -> Path:
        """Stage a folder with that `zarr.json`."""
        folder = self.path()
        folder.mkdir()
        self.write(document).replace(folder / "zarr.json")
        return folder

    def fill(self, folder: Path, files: Iterable[tuple[Path, Path]]) -> None:
        """Move staged files to their places in a staged folder."""
        _make(files)
        if self._sync:
            sync_tree(folder)

    def publish(self, moves: Iterable[tuple[Path, Path]]) -> None:
        """Move staged files to their places: all of them, in this order, or none."""
        moves = list(moves)
        names = [[old.name, new.relative_to(self._root).as_posix()] for old, new in moves]
        journal = self.write({"levels": self._levels, "moves": names})
        self._sync_folders([self._folder.parent, self._folder])
        journal = journal.replace(self._folder / _JOURNAL)
        self._sync_folders([self._folder])
        _make(moves)
        self._sync_folders(_above(self._root, moves))
        journal.unlink()

    def remove(self) -> None:
        """Remove the folder and what is in it, unless there are moves left to make."""
        if not (self._folder / _JOURNAL).exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _sync_folders(self, folders: Iterable[Path]) -> None:
        if self._sync:
            _sync(folders)


def create(root: Path, documents: Mapping[str, dict[str, Any]], *, sync: bool) -> Lock:
    """Make a store of `zarr.json` documents (by path; parents first), in one piece.

    The store that is in its place is removed. With `sync`, it survives a loss of power.

    Returns
    -------
    The right to write it.

    Raises
    ------
    StoreError
        If there is something that is no store, or another writer.
    """
    missing = [folder for folder in root.parents if not folder.exists()]
    root.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(root)
    before: list[Lock] = []
    if root.exists() and (root.is_file() or any(root.iterdir())):
        if not any((root / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
            raise StoreError(
                f"expected a store or nothing at {root}, found something else: remove it, or "
                "choose another path"
            )
        # Arrays and groups may have writers of their own.
        before = [Lock(root), *(Lock(file.parent) for file in root.glob("*/**/zarr.json"))]
    new, old = (root.with_name(f".{root.name}.{uuid.uuid4().hex}{end}") for end in _UNFINISHED)
    lock = None
    try:
        new.mkdir()
        lock = Lock(new)
        for path, document in documents.items():
            (new / path).mkdir(exist_ok=True)
            (new / path / "zarr.json").write_text(json.dumps(document, indent=2))
        if sync:
            sync_tree(new)
        if before:
            root.rename(old)
        new.rename(root)
    except BaseException:
        if lock:
            lock.release()
        shutil.rmtree(new, ignore_errors=True)
        if old.exists():
            old.rename(root)
        raise
    finally:
        for held in before:
            held.release()
    if sync:
        _sync([root.parent, *(folder.parent for folder in missing)])
    shutil.rmtree(old, ignore_errors=True)
    return lock


def remove_unfinished(root: Path) -> None:
    """Remove what writers left beside the store that died while they made it."""
    for end in _UNFINISHED:
        for left in root.parent.glob(f".{glob.escape(root.name)}.*{end}"):
            with contextlib.suppress(OSError):
                lock = Lock(left)
                shutil.rmtree(left)
                lock.release()


def recover(root: Path, inside: str) -> bool:
    """Finish or forget what a writer that died had staged in `root / inside`; none may be alive.

    Returns
    -------
    Whether there was anything.

    Raises
    ------
    StoreError
        If its journal is none.
    """
    folder = root / inside / _STAGING
    if not folder.is_dir():
        return False
    journal = folder / _JOURNAL
    with contextlib.suppress(FileNotFoundError):
        store, moves = _moves(folder, journal)
        _make(move for move in moves if move[0].exists())
        # Those that were made may not have reached the disk.
        _sync(_above(store, moves))
    shutil.rmtree(folder)
    return True


def _moves(folder: Path, journal: Path) -> tuple[Path, list[tuple[Path, Path]]]:
    """Read the root of the writer that died, and the moves of its flush.

    It may be another root than that of who finds the journal: a group above, or one array of a
    group.
    """
    root = folder.parent
    moves = []
    wrong = None
    try:
        document = json.loads(journal.read_bytes())
        moves = [(str(old), str(new)) for old, new in document["moves"]]
        for _ in range(document["levels"]):
            root = root.parent
            if not (root / "zarr.json").exists():
                wrong = "its store begins at what is none"
                break
        inside = all(
            re.fullmatch("[0-9a-f-]+", old)
            and (root / new).is_relative_to(root)
            and ".." not in Path(new).parts
            for old, new in moves
        )
        wrong = wrong if inside else "a move leads out of the store"
    except (KeyError, TypeError, ValueError) as e:
        wrong = repr(e)
    if wrong:
        raise StoreError(
            f"expected the journal of an unfinished flush in {journal}, got something else "
            f"({wrong}). Remove {folder} to go back to the flush before"
        )
    return root, [(folder / old, root / new) for old, new in moves]


def _above(root: Path, moves: Iterable[tuple[Path, Path]]) -> set[Path]:
    """Folders that moves have changed, or made."""
    return {above for _, new in moves for above in new.parents if above.is_relative_to(root)}


def sync_tree(folder: Path) -> None:
    """Wait until a folder and all that is in it are on the disk."""
    _sync([*folder.rglob("*"), folder])


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make(moves: Iterable[tuple[Path, Path]]) -> None:
    for old, new in moves:
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)
