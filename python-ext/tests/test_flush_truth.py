"""What fails while rows are stored: the error says what the next opening finds, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tempozarr
from producer import MID, TIME, rows
from tempozarr import StoreError, Writer, _commit, _core
from tempozarr.schema import GroupSchema

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")]

TWO = GroupSchema(arrays=[TIME], groups=[GroupSchema(name="mid", arrays=[MID])])
SMALL = {"time": (8, None), "mid/raw": (4, 16)}


class Killed(BaseException):
    """The end of a process."""


class System:
    """The module `os`, of which calls fail: those from the n-th on, as many as `most`."""

    def __init__(self, n: int, error: BaseException, most: int) -> None:
        self._n, self._error, self._left = n, error, most
        self.count = 0

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give a function that fails when it is its turn."""

        def called(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count > self._n and self._left:
                self._left -= 1
                if function is os.close:
                    os.close(*args)  # which it does, whatever it says
                    if isinstance(self._error, Killed):
                        return None
                raise self._error
            return None if function is os.fsync else function(*args, **options)

        return called

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self.call(found) if callable(found) and name in CALLS else found


CALLS = {*("close", "fsync", "fstat", "mkdir", "open", "replace", "stat", "unlink")}


@contextlib.contextmanager
def failing(n: int, error: BaseException, most: int = 1) -> Iterator[System]:
    """Let calls of the module that stores flushes fail."""
    system = System(n, error, most)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "mkdir", "stat"):
            patch.setattr(Path, name, system.call(getattr(Path, name)))
        patch.setattr(_core, "exchange", system.call(_core.exchange))
        patch.setattr(shutil, "rmtree", system.call(shutil.rmtree))
        patch.setattr(_commit, "os", system)
        yield system


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 100 rows."""
    store = tmp_path_factory.mktemp("template") / "store.zarr"
    with Writer(store, TWO, layout=SMALL, sync=False) as writer:
        writer.append(some(0, 100))
    return store


def some(start: int, stop: int) -> dict[str, Any]:
    return {path: values for path, values in rows(start, stop).items() if path in SMALL}


def lengths(store: Path) -> set[int]:
    """Lengths of the arrays, whose rows must be right."""
    found = set()
    for path in SMALL:
        array = tempozarr.open_array(store / path)
        np.testing.assert_array_equal(array[...], rows(0, len(array))[path])
        found.add(len(array))
    return found


ERRORS: dict[str, tuple[Callable[[], BaseException], int]] = {
    "once": (lambda: OSError(errno.EIO, "Input/output error"), 1),
    "twice": (lambda: OSError(errno.EIO, "Input/output error"), 2),
    "full": (lambda: OSError(errno.ENOSPC, "No space left on device"), 10**9),
    "interrupted": (KeyboardInterrupt, 1),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("what", ["flush", "close"])
def test_an_error_says_what_the_next_opening_finds(
    tmp_path: Path, template: Path, kind: str, what: str
) -> None:
    make, most = ERRORS[kind]
    outcomes = set()
    for n in range(0, 1000, 1 if what == "flush" else 3):
        store = tmp_path / f"{n}.zarr"
        shutil.copytree(template, store)
        writer = Writer(store, mode="a")
        writer.append(some(100, 110))
        text = None
        with failing(n, make(), most) as faults:
            try:
                getattr(writer, what)()
            except (StoreError, KeyboardInterrupt) as e:
                text = str(e)
        told = writer.flushed_rows
        assert writer.rows == told
        if text:  # of which a KeyboardInterrupt has none
            assert ("the 10 rows of this flush are stored" in text) is (told == 110), text
            assert ("continue behind row 110" in text) is (told == 110), text
        if text is None:
            assert told == 110
        seen = lengths(store)
        if text and "readers see the flush before" in text:
            assert seen == {100}
        if seen == {100, 110}:
            assert "readers may see a part of them" in str(text)
        if what == "flush":
            writer.close()
        with Writer(store, mode="a") as again:
            assert again.rows == again.flushed_rows == told, (n, text)
        assert lengths(store) == {told}
        assert not list(store.rglob(".tempozarr"))
        shutil.rmtree(store)
        outcomes.add((told, text is None))
        if faults.count <= n:
            break
    assert {told for told, _ in outcomes} == {100, 110}
    assert (110, True) in outcomes


def test_after_an_error_rows_are_those_that_are_stored(tmp_path: Path, template: Path) -> None:
    """Whoever goes on where the error says, writes no row twice and leaves none out."""
    for first in range(0, 90, 9):
        store = tmp_path / f"{first}.zarr"
        shutil.copytree(template, store)
        for n in range(first, 1000, 5):
            with (
                contextlib.suppress(StoreError),
                Writer(store, mode="a") as writer,
                failing(n, OSError(errno.ENOSPC, "No space left on device"), 10**9) as faults,
            ):
                writer.append(some(writer.rows, writer.rows + 10))
                writer.flush()
            if writer.flushed_rows >= 130 or faults.count <= n:
                break
        told = writer.flushed_rows
        Writer(store, mode="a").close()
        assert lengths(store) == {told}


# -- replacing a store -----------------------------------------------------------------------------


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize("kind", ["once", "killed"])
def test_a_store_is_replaced_or_is_there(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, kind: str, swaps: bool
) -> None:
    if not swaps:
        monkeypatch.setattr(_core, "exchange", lambda *_: False)
    found = set()
    absent = 0
    for n in range(1000):
        store = tmp_path / f"{n}" / "store.zarr"
        shutil.copytree(template, store)
        error = OSError(errno.EIO, "Input/output error") if kind == "once" else Killed()
        writer = None
        with (
            contextlib.suppress(StoreError, Killed),
            failing(n, error, 1 if kind == "once" else 10**9) as faults,
        ):
            writer = Writer(store, TWO, mode="w", layout=SMALL)
        if writer is not None:
            writer.close()
        absent += not store.exists()
        with Writer(store, mode="a", sync=False) as again:
            count = again.rows
        assert count in {0, 100}
        assert writer is None or count == 0
        assert lengths(store) == {count}
        assert [path.name for path in store.parent.iterdir()] == ["store.zarr"], n
        found.add(count)
        shutil.rmtree(store.parent)
        if faults.count <= n:
            break
    assert found == {0, 100}
    assert bool(absent) is (kind == "killed" and not swaps)


def test_what_is_there_meanwhile_is_kept(tmp_path: Path, template: Path) -> None:
    """A writer died between two renames; someone put something at that place."""
    for what in ("nothing", "folder", "file", "store"):
        store = tmp_path / what / "store.zarr"
        shutil.copytree(template, store)
        left = store.with_name(f".store.zarr.{'1f' * 16}.unfinished")
        with contextlib.suppress(Killed), _commit.beside(store, sync=False) as folder:
            (folder / "store").mkdir()
            store.rename(folder / "old")
            raise Killed  # which leaves the folder, as there is no store
        assert [path.suffix for path in store.parent.iterdir()] == [".unfinished"]
        with pytest.raises(StoreError, match=r"interrupted while it replaced the store.*back"):
            tempozarr.open(store)
        if what == "folder":
            store.mkdir()
        elif what == "file":
            store.write_text("")
            with pytest.raises(StoreError):
                Writer(store, mode="a", sync=False)
            store.unlink()
        elif what == "store":
            shutil.copytree(template, store)
        with pytest.raises(StoreError, match="expected nothing at"):
            Writer(store, TWO, mode="x")
        assert lengths(store) == {100}
        assert not left.exists()
        assert [path.name for path in store.parent.iterdir()] == ["store.zarr"]


# -- readers ---------------------------------------------------------------------------------------


def test_readers_of_a_store_that_was_replaced_are_told(tmp_path: Path, template: Path) -> None:
    store = tmp_path / "store.zarr"
    shutil.copytree(template, store)
    for replace in (
        lambda: Writer(store, TWO, mode="w", sync=False).close(),
        lambda: shutil.rmtree(store),
        lambda: store.rename(tmp_path / "elsewhere"),
    ):
        if not store.exists():
            shutil.copytree(template, store)
        with Writer(store, mode="a", sync=False) as writer:
            if writer.rows < 100:
                writer.append(some(writer.rows, 100))
        opened = tempozarr.open_group(store)
        arrays = {path: opened[path] for path in SMALL}
        replace()
        for array in arrays.values():
            reads: list[Callable[[Any], Any]] = [
                lambda array: array[...],
                lambda array: array[5],
                lambda array: array.windows([0, 50], 10),
                lambda array: array.oindex[[3, 70]],
            ]
            for read in reads:
                with pytest.raises(StoreError, match="is no longer the array that was opened"):
                    read(array)


def test_chunks_that_are_not_stored_are_fill_values_still(tmp_path: Path) -> None:
    store = tmp_path / "a"
    with Writer(store, MID, layout={"": (10, None)}, sync=False) as writer:
        writer.append(np.arange(30.0))
    array = tempozarr.open_array(store)
    with Writer(store, mode="a", sync=False) as writer:  # replaces the document
        writer.append(np.arange(30.0))
    (store / "c" / "1").unlink()
    expected = np.arange(30.0)
    expected[10:20] = 0
    np.testing.assert_array_equal(array[...], expected)


def test_a_reader_beside_copies_never_gets_fill_values(tmp_path: Path, template: Path) -> None:
    target = tmp_path / "target.zarr"
    tempozarr.copy(template, target, layout=SMALL, sync=False)
    done = threading.Event()
    wrong: list[str] = []
    told = 0

    def read() -> None:
        nonlocal told
        while not done.is_set():
            with contextlib.suppress(StoreError):
                for path in SMALL:
                    array: Any = tempozarr.open_array(target / path)
                    for _ in range(20):
                        try:
                            found = array[...]
                        except StoreError:
                            told += 1
                            raise
                        if not (found == rows(0, len(found))[path]).all():
                            wrong.append(path)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(15):
        tempozarr.copy(template, target, layout=SMALL, overwrite=True, sync=False)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert told


# -- the order in which things reach the disk ------------------------------------------------------


def test_chunks_are_on_the_disk_before_documents_tell_of_them(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.zarr"
    shutil.copytree(template, store)
    events: list[tuple[str, str]] = []
    replace, fsync, unlink = os.replace, os.fsync, os.unlink

    def name(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(store))

    def replaced(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        replace(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        events.append(("move", f"{name(dst_dir_fd)}/{new}"))

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("sync", name(descriptor)))

    def unlinked(path: str, *, dir_fd: int) -> None:
        unlink(path, dir_fd=dir_fd)
        events.append(("remove", f"{name(dir_fd)}/{path}"))

    with Writer(store, mode="a") as writer:
        writer.append(some(100, 150))
        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "unlink", unlinked)
        writer.flush()
        monkeypatch.undo()
    staging = "time/.tempozarr"
    moves = [i for i, (what, path) in enumerate(events) if what == "move"]
    journal = events.index(("move", f"{staging}/journal.json"))
    documents = [i for i in moves if events[i][1].endswith("/zarr.json")]
    chunks = [i for i in moves if i != journal and i not in documents]
    removed = events.index(("remove", f"{staging}/journal.json"))
    assert len(documents) == 2
    assert len(chunks) > 5
    assert journal == moves[0]
    assert ("sync", staging) in events[:journal]
    assert ("sync", staging) in events[journal : chunks[0]]
    assert max(chunks) < min(documents) < max(documents) < removed
    for i in chunks:
        folder = str(Path(events[i][1]).parent)
        while folder not in SMALL:
            # Folders that are new, too; those above were synced before.
            assert ("sync", folder) in events[i : min(documents)] or (template / folder).is_dir()
            folder = str(Path(folder).parent)
        assert ("sync", str(Path(events[i][1]).parent)) in events[i : min(documents)]
    for i in documents:
        assert ("sync", str(Path(events[i][1]).parent)) in events[i:removed]
