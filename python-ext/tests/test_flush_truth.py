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
from producer import LAYOUT, MID, SCHEMA, rows
from tempozarr import StoreError, Writer, _core
from test_writer import check

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")

CALLS = ("close", "fsync", "mkdir", "open", "rename", "replace", "rmdir", "stat", "unlink")


class Killed(BaseException):
    """The end of a process."""


class Faults:
    """Calls of the system that fail, from the n-th on, as many as `most`."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int, error: BaseException, most: int) -> None:
        self._n, self._error, self._left = n, error, most
        self.count = 0
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(getattr(os, name)))
        patch.setattr(_core, "exchange", self._wrapped(_core.exchange))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count > self._n and self._left:
                self._left -= 1
                if function is close:
                    close(*args)  # which it does, whatever it says
                raise self._error
            return function(*args, **options)

        close = os.close
        return call


@contextlib.contextmanager
def failing(n: int, error: BaseException, most: int = 1) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        yield Faults(patch, n, error, most)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 100 rows."""
    store = tmp_path_factory.mktemp("template") / "store.zarr"
    with Writer(store, SCHEMA, layout=LAYOUT, sync=False) as writer:
        writer.append(rows(0, 100))
    return store


def lengths(store: Path) -> set[int]:
    """Lengths of the arrays, whose rows must be right."""
    found = set()
    for path in LAYOUT:
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
    for n in range(1000):
        store = tmp_path / f"{n}.zarr"
        shutil.copytree(template, store)
        writer = Writer(store, mode="a")
        writer.append(rows(100, 110))
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
                writer.append(rows(writer.rows, writer.rows + 10))
                writer.flush()
            if writer.flushed_rows >= 130 or faults.count <= n:
                break
        check(store, writer.flushed_rows)


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
            writer = Writer(store, SCHEMA, mode="w", layout=LAYOUT)
        if writer is not None:
            writer.close()
        if not store.exists():
            absent += 1
            with pytest.raises(StoreError, match=r"interrupted while it replaced the store.*back"):
                tempozarr.open(store)
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


def test_what_is_there_meanwhile_is_not_overwritten(tmp_path: Path, template: Path) -> None:
    """A writer died between two renames; someone made a folder, or a store, at that place."""
    for what in ("nothing", "folder", "store", "file"):
        store = tmp_path / what / "store.zarr"
        shutil.copytree(template, store)
        with (
            contextlib.suppress(Killed),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(_core, "exchange", lambda *_: False)
            rename = os.rename
            calls = 0

            def die(*args: Any, rename: Any = rename, **options: Any) -> None:
                nonlocal calls
                calls += 1
                if calls > 1:
                    raise Killed
                rename(*args, **options)

            patch.setattr(os, "rename", die)
            Writer(store, SCHEMA, mode="w", sync=False)
        assert not store.exists()
        if what == "folder":
            store.mkdir()
        elif what == "store":
            Writer(store, MID, mode="x", sync=False).close()
            continue
        elif what == "file":
            store.write_text("")
            with pytest.raises(StoreError):
                Writer(store, mode="a", sync=False)
            store.unlink()
        with pytest.raises(StoreError, match="expected nothing at"):
            Writer(store, SCHEMA, mode="x")
        check(store, 100)


# -- readers ---------------------------------------------------------------------------------------


def test_readers_of_a_store_that_was_replaced_are_told(tmp_path: Path, template: Path) -> None:
    store = tmp_path / "store.zarr"
    shutil.copytree(template, store)
    for replace in (
        lambda: Writer(store, SCHEMA, mode="w", sync=False).close(),
        lambda: shutil.rmtree(store),
        lambda: store.rename(tmp_path / "elsewhere"),
    ):
        if not store.exists():
            shutil.copytree(template, store)
        with Writer(store, mode="a", sync=False) as writer:
            if writer.rows < 100:
                writer.append(rows(writer.rows, 100))
        opened = tempozarr.open_group(store)
        arrays = {path: opened[path] for path in LAYOUT}
        replace()
        for array in arrays.values():
            for read in (
                lambda array=array: array[...],
                lambda array=array: array[5],
                lambda array=array: array.windows([0, 50], 10),
                lambda array=array: array.vindex[[3, 70]],
            ):
                with pytest.raises(StoreError, match="is no longer the array that was opened"):
                    read()


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
    tempozarr.copy(template, target, layout=LAYOUT, sync=False)
    done = threading.Event()
    wrong: list[str] = []
    told = 0

    def read() -> None:
        nonlocal told
        while not done.is_set():
            with contextlib.suppress(StoreError):
                for path in LAYOUT:
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
        tempozarr.copy(template, target, layout=LAYOUT, overwrite=True, sync=False)
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
        writer.append(rows(100, 150))
        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "unlink", unlinked)
        writer.flush()
        monkeypatch.undo()
    staging = "book/.tempozarr"
    moves = [i for i, (what, path) in enumerate(events) if what == "move"]
    journal = events.index(("move", f"{staging}/journal.json"))
    documents = [i for i in moves if events[i][1].endswith("/zarr.json")]
    chunks = [i for i in moves if i != journal and i not in documents]
    removed = events.index(("remove", f"{staging}/journal.json"))
    assert len(documents) == 3
    assert len(chunks) > 10
    assert journal == moves[0]
    assert ("sync", staging) in events[:journal]
    assert ("sync", staging) in events[journal : chunks[0]]
    assert max(chunks) < min(documents) < max(documents) < removed
    for i in chunks:
        folder = str(Path(events[i][1]).parent)
        while folder not in LAYOUT:
            # Folders that are new, too; those above were synced before.
            assert ("sync", folder) in events[i : min(documents)] or (template / folder).is_dir()
            folder = str(Path(folder).parent)
        assert ("sync", str(Path(events[i][1]).parent)) in events[i : min(documents)]
    for i in documents:
        assert ("sync", str(Path(events[i][1]).parent)) in events[i:removed]
