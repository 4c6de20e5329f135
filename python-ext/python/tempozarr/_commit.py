"""Changes to a store that happen altogether or not at all, by one writer at a time.

New files are written to a staging folder first. To publish them, a journal of all moves is written
there, the files are moved, and the journal is removed. Whatever kills the process: without a
journal nothing has happened; with one, whoever opens the store next makes the moves that are left.

The staging folder is inside the folder of an array, where readers of groups do not look.

Stores come from strangers, too. Everything is done through folders that `_core.Beneath` opened, by
bare names: through no link that leads out of the store. And a journal counts only where it was
written: it states when the system made a file beside it, a time that nobody can set. No download,
archive or copy brings that along.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import stat
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempozarr import _core
from tempozarr._chunks import Keys
from tempozarr._documents import DEEPEST
from tempozarr._errors import MetadataError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Documents = Mapping[str, dict[str, Any]]
    Move = tuple[str, str]  # from and to: paths beneath the root

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_STAGING = ".tempozarr"
_JOURNAL = "journal.json"
_HERE = "here"
"""An empty file, made where a journal is: see `_mark`."""
_MADE = "made"
"""When that was, for `beside`."""
_STAGED = re.compile("[0-9a-f]{32}-[0-9]+(-[0-9]+)?")
_JOURNAL_BYTES = 256 << 20
"""No flush has a journal of more."""
LOOKED_FOR = ("zarr.json", ".zgroup", ".zarray")


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
        self._descriptor: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
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
            try:
                # Explicitly, for the sake of processes forked from this one.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError:
                pass  # closing does it
            finally:
                self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # it is closed after an error, too
                os.close(descriptor)

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


class UnfinishedError(OSError):
    """A flush has happened, as its journal is on the disk, but not all of its moves were made.

    Whoever opens the store next makes the others.
    """

    def __init__(self, cause: BaseException, readers: str) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        # What readers see until then.
        self.readers = readers


class Staging:
    """Files that will be part of the store in folder `beneath`, staged in its array `inside`.

    With `sync`, what is published survives a loss of power, else the end of the process only.

    Attributes
    ----------
    published
        Whether the last `publish`, however it ended, is what the next opening of the store finds.
    """

    def __init__(self, beneath: _core.Beneath, inside: str, *, sync: bool) -> None:
        self._beneath = beneath
        self._levels = len(Path(inside).parts)
        self._inside = inside
        self._folder = _join(inside, _STAGING)
        self._sync = sync
        self.published = False
        # Names are never used twice: a journal must not find other files than it was written for.
        self._names = (f"{uuid.uuid4().hex}-{i}" for i in itertools.count())
        with _parent(beneath, self._folder) as (folder, name):
            os.mkdir(name, dir_fd=folder)
        with into(beneath, self._folder) as folder:
            self._made = _mark(folder, sync=sync)

    def path(self) -> str:
        """Path, beneath the root, of a new file or folder."""
        return _join(self._folder, next(self._names))

    def write(self, document: dict[str, Any]) -> str:
        """Stage a JSON document."""
        path = self.path()
        self._write(path, document)
        return path

    def folder(self, document: dict[str, Any]) -> str:
        """Stage a folder with that `zarr.json`."""
        path = self.path()
        with _parent(self._beneath, path) as (folder, name):
            os.mkdir(name, dir_fd=folder)
        self._write(f"{path}/zarr.json", document)
        return path

    def fill(self, folder: str, files: Iterable[Move]) -> None:
        """Move staged files to their places in a staged folder."""
        for old, new in files:
            os.close(self._beneath.folder(_folder_of(new), create=True))
            _move(self._beneath, old, new)
        if self._sync:
            sync_tree(Path(self._beneath.root, folder))

    def publish(self, moves: Iterable[Move]) -> None:
        """Move staged files to their places: all of them or none.

        Chunks and arrays that are new come first, metadata documents, which tell of them, last.

        Raises
        ------
        UnfinishedError
            If it has happened, but is to be finished by whoever opens the store next.
        OSError, StoreError
            If nothing has happened.
        """
        self.published = False
        moves = list(moves)
        changed = self._prepare(moves)
        names = [[Path(old).name, new] for old, new in moves]
        written = {"levels": self._levels, "made": self._made, "moves": names}
        staged = self.write(written)
        self._sync_folders([self._inside, self._folder])
        with into(self._beneath, self._folder) as folder:
            renamed = False
            try:
                os.replace(Path(staged).name, _JOURNAL, src_dir_fd=folder, dst_dir_fd=folder)
                renamed = True
                if self._sync:
                    os.fsync(folder)
                self.published = True
            except BaseException as e:
                self.published = not self._is_taken_back(folder, Path(staged).name, renamed)
                if self.published:
                    self._finish(folder, moves, changed)
                if not (self.published and isinstance(e, OSError)):
                    raise
            else:
                self._finish(folder, moves, changed)

    def remove(self) -> None:
        """Remove the folder and what is in it, unless there are moves left to make."""
        with contextlib.suppress(OSError, StoreError):
            with into(self._beneath, self._folder) as folder:
                if _is_there(_JOURNAL, folder):
                    return
            _remove_tree(self._beneath, self._folder)

    def _write(self, path: str, document: dict[str, Any]) -> None:
        with _parent(self._beneath, path) as (folder, name):
            _write_new(name, json.dumps(document, indent=2), folder, sync=self._sync)

    def _prepare(self, moves: Iterable[Move]) -> set[str]:
        """Do beforehand what may fail: make folders, and look for links.

        Returns
        -------
        The folders, other than those of the files, that have changed.
        """
        changed: set[str] = set()
        with into(self._beneath, self._folder) as staging:
            device = os.fstat(staging).st_dev
        for place in {_folder_of(new) for _, new in moves}:
            try:
                folder = self._beneath.folder(place)
            except FileNotFoundError:
                folder = self._beneath.folder(place, create=True)
                changed.update(_above(place))
            try:
                apart = os.fstat(folder).st_dev != device
            finally:
                os.close(folder)
            if apart and any(
                _folder_of(new) == place and Path(self._beneath.root, old).is_dir()
                for old, new in moves
            ):
                raise StoreError(
                    f"{place or self._beneath.root} is on another disk: a late array cannot be "
                    "moved there"
                )
        return changed

    def _is_taken_back(self, folder: int, staged: str, renamed: bool) -> bool:
        """Whether the next opening finds no journal, after it could not be written for sure."""
        with contextlib.suppress(OSError):
            if _is_there(staged, folder):
                return True
            renamed = True
        try:
            os.unlink(_JOURNAL, dir_fd=folder)
        except FileNotFoundError:
            return True
        except OSError:
            return not renamed
        # An error here leaves open only what is found after a loss of power at this moment.
        with contextlib.suppress(OSError):
            self._sync_folders([self._folder])
        return True

    def _finish(self, folder: int, moves: list[Move], changed: set[str]) -> None:
        """Make the moves of the journal; all that are left once more after an error."""
        finishing = _Finishing(self._beneath, moves, changed, sync=self._sync)
        try:
            finishing.run()
        except BaseException as e:
            try:
                finishing.run()
            except BaseException as again:
                raise UnfinishedError(again, finishing.readers) from again
            if not isinstance(e, OSError):
                raise
        finally:
            if finishing.finished:
                # If it stays, it lists moves that have been made, and does no harm.
                with contextlib.suppress(OSError):
                    os.unlink(_JOURNAL, dir_fd=folder)

    def _sync_folders(self, folders: Iterable[str]) -> None:
        if self._sync:
            _sync_folders(self._beneath, folders)


class _Finishing:
    """The moves of a journal, which can be run again after an error.

    A file system may store renames in another order than that in which they were made, and after a
    loss of power readers may come before a writer. So chunks are on the disk before the first
    document that tells of them is moved, and documents before the journal is removed.
    """

    def __init__(
        self, beneath: _core.Beneath, moves: Iterable[Move], changed: set[str], *, sync: bool
    ) -> None:
        self._beneath = beneath
        self._sync = sync
        self._changed = changed
        self._stages: tuple[list[Move], list[Move]] = ([], [])  # chunks and arrays; documents
        for old, new in moves:
            self._stages[_is_document(new)].append((old, new))
        late = [move for move in self._stages[0] if Path(beneath.root, move[0]).is_dir()]
        self._shown = {*late, *self._stages[1]}
        self.made: set[Move] = set()
        self._tried: set[Move] = set()
        self.finished = False

    @property
    def readers(self) -> str:
        """What readers see of the flush."""
        if self._shown <= self.made:
            return "see them already"
        # What failed may have been done.
        return "may see a part of them" if self._shown & self._tried else "see the flush before"

    def run(self) -> None:
        """Make the moves that are left, and wait for the disk."""
        for stage, changed in zip(self._stages, (self._changed, set()), strict=True):
            for move in stage:
                if move not in self.made:
                    self._make(move)
            if self._sync:
                _sync_folders(self._beneath, changed | {_folder_of(new) for _, new in stage})
        self.finished = True

    def _make(self, move: Move) -> None:
        again = move in self._tried
        self._tried.add(move)
        try:
            _move(self._beneath, *move)
        except FileNotFoundError:
            # An error does not say that nothing was done.
            if not (again and Path(self._beneath.root, move[1]).exists()):
                raise
        self.made.add(move)


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
    there = root.exists() and (root.is_file() or any(root.iterdir()))
    if there and not _is_store(root):
        raise StoreError(
            f"expected a store or nothing at {root}, found something else: remove it, or choose "
            "another path"
        )
    before: list[Lock] = []
    lock = None
    try:
        if there:
            before.append(Lock(root))
            # Arrays and groups may have writers of their own.
            before += (Lock(file.parent) for file in _nodes_in(root))
        with beside(root, sync=sync) as folder:
            new = folder / "store"
            new.mkdir()
            lock = Lock(new)
            beneath = _core.Beneath(str(new))
            for path, document in documents.items():
                with into(beneath, path, create=True) as place:
                    _write_new("zarr.json", json.dumps(document, indent=2), place, sync=False)
            if sync:
                sync_tree(new)
            undo = _swap(new, root, folder / "old") if there else _put(new, root)
            try:
                if sync:
                    sync_paths([folder, root.parent, *(above.parent for above in missing)])
            except BaseException:
                undo()
                raise
    except BaseException:
        if lock:
            lock.release()
        raise
    finally:
        for held in before:
            held.release()
    return lock


def _nodes_in(root: Path) -> list[Path]:
    """The `zarr.json` of all arrays and groups in a store."""
    with contextlib.suppress(RecursionError):  # of Python before 3.13
        found = list(root.glob("*/**/zarr.json"))
        if all(len(file.parts) - len(root.parts) <= DEEPEST + 1 for file in found):
            return found
    raise StoreError(
        f"expected groups nested at most {DEEPEST} deep, got more at {root}, too deep to be "
        "replaced: remove it, or choose another path"
    )


def _put(new: Path, root: Path) -> Callable[[], object]:
    """Move a store to where there is none; give what undoes it."""
    new.rename(root)
    return lambda: root.rename(new)


def _swap(new: Path, root: Path, old: Path) -> Callable[[], object]:
    """Put a store into the place of another one, which then is at `new` or at `old`.

    Returns
    -------
    What undoes it.
    """
    if _core.exchange(str(new), str(root)):
        return lambda: _core.exchange(str(new), str(root))
    root.rename(old)  # `restore` undoes that if nothing else follows
    try:
        new.rename(root)
    except BaseException:
        old.rename(root)
        raise

    def undo() -> None:
        root.rename(new)
        old.rename(root)

    return undo


@contextlib.contextmanager
def beside(root: Path, *, sync: bool) -> Iterator[Path]:
    """Make a folder beside a store, for what will be moved there; remove it in the end.

    What is at "old" in it in the end is the store that was there: it is removed too.
    """
    folder = root.with_name(f".{root.name}.{uuid.uuid4().hex}.unfinished")
    folder.mkdir()
    try:
        lock = Lock(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    with contextlib.ExitStack() as stack:

        def clean() -> None:
            with contextlib.suppress(OSError):
                if not _exists(folder / "old") or _is_store(root):
                    _remove_beside(folder, sync=sync)

        stack.callback(lock.release)
        stack.callback(clean)
        with _at(folder) as place:
            _write_new(_MADE, str(_mark(place, sync=sync)), place, sync=sync)
        if sync:  # what tells `restore` that it is ours comes to the disk before anything else
            sync_paths([folder, root.parent])
        yield folder


def _remove_beside(folder: Path, *, sync: bool) -> None:
    """Remove a folder that `beside` made; last what tells that it is ours."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _rmtree(entry.path)
            elif entry.name not in {_HERE, _MADE}:
                os.unlink(entry.path)  # noqa: PTH108 (an entry has no such method)
    if sync:
        sync_paths([folder])
    _rmtree(folder)


def unfinished(root: Path) -> list[Path]:
    """Folders that `beside` made for a store, of writers that died or that live."""
    name = re.compile(rf"\.{re.escape(root.name)}\.[0-9a-f]{{32}}\.unfinished")
    try:
        with os.scandir(root.parent) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def restore(root: Path) -> None:
    """Put back a store whose writer died while it replaced it, and remove what else it left.

    Raises
    ------
    StoreError
        If that is being done by a writer that lives, or cannot be done.
    """
    for folder in unfinished(root):
        try:
            lock = Lock(folder)
        except StoreError:
            if _is_store(root):
                continue
            raise
        try:
            if _is_ours(folder):
                old = folder / "old"
                if _exists(old) and not old.is_symlink() and not _is_store(root):
                    old.rename(root)
                    sync_paths([root.parent, folder])
                with contextlib.suppress(OSError):  # the next opening tries again
                    _remove_beside(folder, sync=True)
        finally:
            lock.release()


def _is_ours(folder: Path) -> bool:
    """Whether `beside` made that folder there."""
    with _at(folder) as place:
        names = set(os.listdir(place))  # noqa: PTH208 (by its descriptor)
        if names <= {_HERE, _MADE}:  # whose writer died at once, or which is about to be removed
            return True
        with contextlib.suppress(OSError, ValueError):
            return _is_same(int(_read(_MADE, place, 64)), _made(place))
    return False


def _is_store(folder: Path) -> bool:
    return any(_exists(folder / name) for name in LOOKED_FOR)


def _exists(path: Path) -> bool:
    """As `Path.exists`, which says no as well if the disk does not answer."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def recover(
    beneath: _core.Beneath, documents: Documents, inside: str, unfinished: str | None
) -> bool:
    """Finish or forget what a writer that died had staged in array `inside`; none may be alive.

    `documents` are those of the store beneath, by path. `unfinished` is as for `Writer`.

    Returns
    -------
    Whether there was anything.

    Raises
    ------
    StoreError
        If there is a journal that is none of this store, or not known to be written here.
    """
    path = _join(inside, _STAGING)
    try:
        with _parent(beneath, path) as (above, name):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    place = Path(beneath.root, path)
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(
            f"expected the folder of an unfinished flush at {place}, found something else: "
            "remove it"
        )
    with into(beneath, path) as folder:
        try:
            content = _read(_JOURNAL, folder, _JOURNAL_BYTES)
        except FileNotFoundError:
            content = None
        if content is not None:
            try:
                journal = _Journal(beneath, documents, inside, folder, content)
            except _WrongError:
                if unfinished != "discard":
                    raise
            else:
                journal.follow(unfinished)
            os.unlink(_JOURNAL, dir_fd=folder)
    _remove_tree(beneath, path)
    return True


class _WrongError(StoreError):
    """A journal that is none of this store."""


class _Journal:
    """A journal that was found: what it lists, if that is what a flush of this store can be.

    Stored data, of anyone: staged files must be called as we call them; their places must be those
    of chunks of an array of the store, of a document that differs only in what a flush changes, or
    of a new array in a group.
    """

    def __init__(
        self,
        beneath: _core.Beneath,
        documents: Documents,
        inside: str,
        folder: int,
        content: bytes,
    ) -> None:
        self._beneath = beneath
        self._documents = documents
        self._folder = folder
        self._path = _join(inside, _STAGING)
        self._place = Path(beneath.root, self._path, _JOURNAL)
        self._finishing: _Finishing | None = None
        moves = []
        try:
            document = json.loads(content)
            base = self._base(inside, document["levels"])
            for old, new in document["moves"]:
                moves.append((_join(self._path, old), self._checked(base, old, new)))
            with contextlib.suppress(FileNotFoundError):
                self._is_ours = _is_same(document.get("made"), _made(folder))
        except _WrongError:
            raise
        except (
            AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError, MetadataError
        ) as e:  # fmt: skip
            raise self._wrong(repr(e)) from None
        left = [move for move in moves if _is_there(Path(move[0]).name, folder)]
        # Documents are moved last.
        if any(_is_document(new) for _, new in left):
            for move in moves:
                if move not in left and not Path(beneath.root, move[1]).exists():
                    raise self._wrong(f"what was staged for {move[1]} is not there")
        self._moves, self._left = moves, left

    _is_ours = False

    def _wrong(self, what: str) -> _WrongError:
        return _WrongError(
            f"expected the journal of an unfinished flush in {self._place}, got something else "
            f"({what}). Pass unfinished='discard' to tempozarr.Writer, or remove "
            f"{self._place.parent}, to go back to the flush before"
        )

    def _base(self, inside: str, levels: Any) -> str:
        """Path of the store of the flush, which may be a part of this one."""
        parts = Path(inside).parts
        if type(levels) is not int or levels < 0:
            raise self._wrong(f"levels: {levels!r}")
        if levels > len(parts):
            top = Path(self._beneath.root)
            for _ in range(min(levels - len(parts), len(top.parts))):
                top = top.parent
                if not _is_store(top):
                    raise self._wrong("its store begins at what is none")
            raise StoreError(
                f"{self._place} is of an unfinished flush of the store {top}, of which "
                f"{self._beneath.root} is a part: open that one with "
                "tempozarr.Writer(..., mode='a'), which finishes it"
            )
        base = "/".join(parts[: len(parts) - levels])
        if base not in self._documents:
            raise self._wrong("its store begins at what is none")
        return base

    def _checked(self, base: str, old: Any, new: Any) -> str:
        """Give the place of a staged file, if a flush could have moved it there."""
        if not _STAGED.fullmatch(old):
            raise self._wrong(f"no staged file is called {old!r}")
        if any(part in {"", ".", ".."} for part in new.split("/")):
            raise self._wrong(f"{new!r} leads out of the store")
        target = _join(base, new)
        try:
            mode = os.stat(old, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            mode = None
        is_file, is_folder = (
            mode is None or is_one(mode) for is_one in (stat.S_ISREG, stat.S_ISDIR)
        )
        node, _, name = target.rpartition("/")
        if name == "zarr.json" and node in self._documents:
            staged = mode and is_file and json.loads(_read(old, self._folder, _JOURNAL_BYTES))
            fits = is_file and (mode is None or _may_follow(self._documents[node], staged))
        elif (array := _array_of(self._documents, target)) is not None:
            key = target[len(array) :].lstrip("/")
            fits = is_file and Keys(self._documents[array]).index(key) is not None
        else:
            in_group = self._documents.get(node, {}).get("node_type") == "group"
            fits = is_folder and in_group and (mode is None or target not in self._documents)
        if not fits:
            raise self._wrong(f"no flush of this store puts {old!r} at {new!r}")
        return target

    def follow(self, unfinished: str | None) -> None:
        """Make the moves that are left, or refuse to."""
        if unfinished == "discard":
            shown = {move for move in self._moves if _array_of(self._documents, move[1]) is None}
            shown |= {move for move in self._moves if _is_document(move[1])}
            if 0 < len(shown.intersection(self._left)) < len(shown):
                raise StoreError(
                    f"{self._place} is of an unfinished flush, a part of which is in the store "
                    "already and cannot be discarded: pass unfinished='finish' instead"
                )
            return
        if self._left and not self._is_ours and unfinished != "finish":
            raise StoreError(
                f"{self._place} is of an unfinished flush, but was not written where it is now: "
                "the store was copied, restored or downloaded since then. If you trust where it "
                "comes from, finish the flush with tempozarr.Writer(..., mode='a', "
                "unfinished='finish'); unfinished='discard' goes back to the flush before, and "
                "tempozarr.copy with overwrite=True begins anew"
            )
        for _, new in self._left:
            os.close(self._beneath.folder(_folder_of(new), create=True))
        os.fsync(self._folder)  # what follows must not outlive the journal
        # What was moved may not have reached the disk, so all folders are synced.
        changed = {above for _, new in self._moves for above in _above(_folder_of(new))}
        finishing = _Finishing(self._beneath, self._moves, changed, sync=True)
        finishing.made.update(set(self._moves).difference(self._left))
        finishing.run()


def _array_of(documents: Documents, path: str) -> str | None:
    """The array that a file belongs to."""
    parts = path.split("/")
    for i in range(len(parts)):
        above = "/".join(parts[:i])
        if documents.get(above, {}).get("node_type") == "array":
            return above
    return None


def _may_follow(before: Mapping[str, Any], after: Any) -> bool:
    """Whether a flush may put one document into the place of the other."""

    def fixed(document: Mapping[str, Any]) -> dict[str, Any]:
        changing = {"attributes", "consolidated_metadata", "shape"}
        return {key: value for key, value in document.items() if key not in changing}

    if not isinstance(after, dict) or fixed(before) != fixed(after):
        return False
    old, new = before.get("shape"), after.get("shape")
    if old == new:
        return True
    if not (isinstance(old, list) and isinstance(new, list) and old and new):
        return False
    return old[1:] == new[1:] and type(new[0]) is int and bool(old[0] <= new[0])


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Make StoreErrors of errors of the system."""
    try:
        yield
    except OSError as e:
        if isinstance(e, StoreError):
            raise
        raise StoreError(f"cannot write {root}: {e}") from e


# -- files and folders, through no link ------------------------------------------------------------


@contextlib.contextmanager
def into(beneath: _core.Beneath, path: str, *, create: bool = False) -> Iterator[int]:
    """Open a folder in a store, for `dir_fd`."""
    folder = beneath.folder(path, create)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # nothing was written to it
            os.close(folder)


@contextlib.contextmanager
def _parent(beneath: _core.Beneath, path: str) -> Iterator[tuple[int, str]]:
    """The folder of a file, and its name in it."""
    folder, _, name = path.rpartition("/")
    if name in {"", ".", ".."}:
        raise StoreError(f"expected the path of a file in {beneath.root}, got {path!r}")
    with into(beneath, folder) as descriptor:
        yield descriptor, name


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _join(*parts: str) -> str:
    return "/".join(filter(None, parts))


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _above(folder: str) -> list[str]:
    """A folder and those above it, up to the root."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]


def _is_document(path: str) -> bool:
    return path.rpartition("/")[2] == "zarr.json"


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_new(name: str, content: str, folder: int, *, sync: bool) -> None:
    """Write a file where there is nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "wb") as file:
        file.write(content.encode())
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _read(name: str, folder: int, limit: int) -> bytes:
    """Read a file that is no link, nor anything else that is no file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise OSError(errno.EINVAL, f"expected a file of at most {limit} bytes", name)
        return file.read(limit)


def _mark(folder: int, *, sync: bool) -> int:
    """Make an empty file in a folder; give when that was, as the system keeps it.

    The time is that of the last change of the file's metadata, in nanoseconds: unlike others, it
    cannot be set.
    """
    _write_new(_HERE, "", folder, sync=sync)
    return _made(folder)


def _made(folder: int) -> int:
    return os.stat(_HERE, dir_fd=folder, follow_symlinks=False).st_ctime_ns


def _is_same(stated: Any, made: int) -> bool:
    """Whether a file was made at that time, in nanoseconds.

    A file system that keeps whole seconds forgets the rest when it reads the file from the disk.
    """
    if made % 1_000_000_000 == 0 and type(stated) is int:
        stated -= stated % 1_000_000_000
    return bool(stated == made)


def _move(beneath: _core.Beneath, old: str, new: str) -> None:
    """Move a file to a place in a folder that is there."""
    with _parent(beneath, old) as (source, name), _parent(beneath, new) as (target, place):
        try:
            os.replace(name, place, src_dir_fd=source, dst_dir_fd=target)
        except OSError as e:
            if e.errno != errno.EXDEV:
                raise
            _move_across(name, source, place, target)


def _move_across(name: str, source: int, place: str, target: int) -> None:
    """Move a file to another disk, where a link led."""
    partial = f"{place}.{uuid.uuid4().hex}.partial"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with (
            os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source), "rb") as old,
            os.fdopen(os.open(partial, flags, 0o666, dir_fd=target), "wb") as new,
        ):
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
        os.replace(partial, place, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=target)
        raise
    os.unlink(name, dir_fd=source)


def _remove_tree(beneath: _core.Beneath, path: str) -> None:
    with _parent(beneath, path) as (folder, name):
        _rmtree(name, folder)


def _rmtree(path: str | Path, folder: int | None = None) -> None:
    """Remove a folder; an OSError, too, if Python before 3.13 calls itself too often for that."""
    try:
        shutil.rmtree(path, dir_fd=folder)
    except RecursionError:
        raise OSError(
            errno.ENAMETOOLONG, "folders are nested too deeply to be removed", str(path)
        ) from None


def _sync_folders(beneath: _core.Beneath, folders: Iterable[str]) -> None:
    for path in folders:
        with into(beneath, path) as folder:
            os.fsync(folder)


def sync_tree(folder: Path) -> None:
    """Wait until a folder that we made, and all that is in it, is on the disk."""
    sync_paths([*folder.rglob("*"), folder])


def sync_paths(paths: Iterable[Path]) -> None:
    """Wait until these files and folders are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
