"""Stores from strangers: nothing outside their root is written, moved or removed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr
from producer import LAYOUT, MID, SCHEMA, TIME, rows
from tempozarr import StoreError, TempozarrError, Writer, _commit, _core
from tempozarr.schema import ArraySchema, GroupSchema
from test_writer import check

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")

HEX = "0123456789abcdef" * 2
PAIR = GroupSchema(
    arrays=[
        TIME,
        ArraySchema(name="late", dtype="f8", late=True),
    ],
    groups=[GroupSchema(name="mid", arrays=[MID])],
)


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything in a folder, with what tells a file from one that replaces it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of 100 rows, in a folder of its own."""
    store = tmp_path / "mine" / "store.zarr"
    with Writer(store, SCHEMA, layout=LAYOUT, sync=False) as writer:
        writer.append(rows(0, 100))
    return store


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "c" / "0").mkdir(parents=True)
    for name in ("precious", "journal.json", "c/0/0", "zarr.json"):
        (folder / name).write_text(f"mine: {name}")
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before


def replace_by_link(path: Path, target: Path) -> None:
    """Put a link into the place of what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def append(store: Path) -> None:
    with Writer(store, mode="a", sync=False) as writer:
        writer.append(rows(writer.rows, writer.rows + 50))


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["book/c", "book/c/3", "mid/raw/c", "book/.tempozarr", "time/c"])
def test_no_link_leads_a_writer_out(store: Path, outside: Path, path: str) -> None:
    before = json.loads((store / "book" / "zarr.json").read_text())
    replace_by_link(store / path, outside)
    with pytest.raises(StoreError, match=r"is a link that leads out of|found something else"):
        append(store)
    assert json.loads((store / "book" / "zarr.json").read_text()) == before
    assert not list(store.rglob("journal.json"))


@pytest.mark.parametrize("path", ["book", "mid", "mid/raw"])
def test_no_array_is_written_elsewhere(store: Path, tmp_path: Path, path: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (store / path).rename(elsewhere)
    (store / path).symlink_to(elsewhere)
    before = snapshot(elsewhere)
    with pytest.raises(StoreError, match=f"{path} is a link that leads out of .*follow_links=True"):
        append(store)
    source = tmp_path / "source.zarr"
    with Writer(source, SCHEMA, layout=LAYOUT, sync=False) as writer:
        writer.append(rows(0, 120))
    with pytest.raises(StoreError, match=f"{path} is a link that leads out of"):
        tempozarr.copy(source, store, layout=LAYOUT, sync=False)
    assert snapshot(elsewhere) == before
    tempozarr.copy(source, store, layout=LAYOUT, sync=False, follow_links=True)
    check(store, 120)
    assert (store / path).is_symlink()
    # What is replaced is the link.
    before = snapshot(elsewhere)
    tempozarr.copy(source, store, overwrite=True, sync=False)
    check(store, 120)
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize("path", ["book/zarr.json", "book/c/3/0/0", "time/c/6"])
def test_a_file_that_is_a_link_is_replaced(store: Path, tmp_path: Path, path: str) -> None:
    target = tmp_path / "target"
    (store / path).rename(target)
    (store / path).symlink_to(target)
    before = snapshot(tmp_path)[str(target)]
    append(store)
    check(store, 150)
    assert snapshot(tmp_path)[str(target)] == before
    assert not (store / path).is_symlink()


def test_links_inside_are_followed_and_others_on_request(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "book" / "c").rename(store / "book" / "chunks")
    (store / "book" / "c").symlink_to("chunks")
    append(store)
    check(store, 150)
    (store / "book" / "chunks").rename(tmp_path / "chunks")
    (store / "book" / "c").unlink()
    (store / "book" / "c").symlink_to(tmp_path / "chunks")
    replace = os.replace

    def apart(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        """Behave as if the chunks were on another disk."""
        ours, theirs = (
            str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (src_dir_fd, dst_dir_fd)
        )
        if ours != theirs and str(tmp_path / "chunks") in theirs:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", apart)
    for count in (200, 250):
        with Writer(store, mode="a", follow_links=True) as writer:
            writer.append(rows(count - 50, count))
        check(store, count)
    assert not list(tmp_path.rglob("*.partial"))


def test_zarr_python_with_our_pipeline_writes_beneath_its_store(
    store: Path, outside: Path, tmp_path: Path
) -> None:
    with tempozarr.enable(strict=True):
        book: Any = zarr.open_group(store)["book"]
        replace_by_link(store / "book" / "c", outside)
        book[...]  # reading follows
        with pytest.raises(StoreError, match=r"book/c is a link that leads out of .*follow_links"):
            book[0] = 1
        replace_by_link(store / "book" / "c", outside / "new")
        with pytest.raises(StoreError, match="is a link that leads out of"):
            book[0] = 1
        with pytest.raises(StoreError, match="is a link that leads out of"):
            book[...] = book.fill_value  # which removes chunks
        (tmp_path / "chunks").mkdir()
        replace_by_link(store / "book" / "c", tmp_path / "chunks")
        with tempozarr.enable(strict=True, follow_links=True):
            book[0] = 1
        assert (tmp_path / "chunks" / "0" / "0" / "0").is_file()
        with pytest.raises(StoreError, match="is a link that leads out of"):
            book[0] = 1
    # Of chunks that zarr-python writes itself, too.
    array = zarr.create_array(store / "words", shape=(2,), chunks=(1,), dtype="string")
    replace_by_link(store / "words" / "c", outside)
    with tempozarr.enable():
        words: Any = zarr.open_array(store / "words")
        with pytest.raises(StoreError, match=r"words/c is a link that leads out of"):
            words[...] = "a"
    assert array.shape == (2,)


# -- names -----------------------------------------------------------------------------------------


def test_names_of_temporary_files_cannot_be_foreseen(store: Path, outside: Path) -> None:
    """What earlier versions wrote to: the chunk's name, the process and a counter."""
    with tempozarr.enable(strict=True):
        raw: Any = zarr.open_group(store)["mid/raw"]
        chunk = store / "mid" / "raw" / "c" / "0"
        for number in range(2000):
            name = f"{chunk.name}.{os.getpid():x}-{number:x}.partial"
            chunk.with_name(name).symlink_to(outside / "precious")
        raw[0] = 7.0
    assert raw[0] == 7.0


def test_only_our_unfinished_stores_are_removed(store: Path, outside: Path) -> None:
    ours = store.with_name(f".{store.name}.{HEX[::-1]}.unfinished")
    others = [
        store.with_name(f".{store.name}.{name}")
        for name in (
            *("my-backup.old", "my-backup.new", f"{HEX}.old", f"{HEX}.new", f"{HEX}.unfinished"),
            *(f"x{HEX}.unfinished", f"{HEX.upper()}.unfinished", "unfinished"),
        )
    ]
    for other in others:
        (other / "store").mkdir(parents=True)
        (other / "precious").write_text("x")
        (other / "here").write_text("")
        (other / "made").write_text(str((other / "here").stat().st_ctime_ns + 1))
    link = store.with_name(f".{store.name}.{HEX[::-1]}.unfinished")
    link.symlink_to(outside)
    before = {path: snapshot(path) for path in others}
    source = store.with_name("source.zarr")
    shutil.copytree(store, source)
    append(store)
    tempozarr.copy(source, store, overwrite=True, sync=False)
    Writer(store, SCHEMA, sync=False).close()
    assert {path: snapshot(path) for path in others} == before
    assert link.is_symlink()
    link.unlink()
    # What a writer that was killed leaves.
    with _commit.beside(store, sync=False) as folder:
        (folder / "store").mkdir()
        folder.rename(ours)
        folder.mkdir()
    append_nothing = Writer(store, mode="a", sync=False)
    append_nothing.close()
    assert not ours.exists()


@pytest.mark.parametrize("path", ["..", "../victim.zarr", "a/../../b", "/tmp/x", "a/.."])
def test_documents_stay_in_their_store(tmp_path: Path, path: str) -> None:
    documents: Any = {"": {"node_type": "group"}, path: {"node_type": "group"}}
    root = tmp_path / "deep" / "er" / "store.zarr"
    with pytest.raises(StoreError, match="expected a path in "):
        _commit.create(root, documents, sync=False)
    assert not [file for file in tmp_path.rglob("*") if file.name not in {"er", "deep"}]


def test_chunk_keys_stay_in_their_store(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "a"
    suffix = "/../../../outside/precious"
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [100],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [50]}},
        "chunk_key_encoding": {
            "name": "zarrs.default_suffix",
            "configuration": {"suffix": suffix},
        },
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }
    (folder / "c" / "0").mkdir(parents=True)
    (folder / "c" / "1").mkdir(parents=True)
    (folder / "c" / "2").mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(TempozarrError):
        Writer(folder, mode="a", sync=False).append(np.ones(50, "u1"))
    assert outside.is_dir()


def test_paths_are_those_of_files_in_the_store(tmp_path: Path) -> None:
    beneath = _core.Beneath(str(tmp_path))
    for path in ("..", "a/../b", "/tmp"):
        with pytest.raises(StoreError, match="expected a path in "):
            beneath.folder(path, create=True)
    with pytest.raises(StoreError, match="expected the path of a file in"):
        _commit._move(beneath, "a/..", "b")
    with pytest.raises(FileNotFoundError) as error:
        beneath.folder("a/b")
    assert error.value.errno == errno.ENOENT
    os.close(beneath.folder("a/b", create=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        beneath.folder("file/b", create=True)
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "file"}


# -- journals --------------------------------------------------------------------------------------


def forge(staging: Path, levels: Any, moves: Any, *, made: int = 0) -> None:
    """Write a journal as whoever knows when a file was made could."""
    staging.mkdir(exist_ok=True)
    here = staging / "here"
    here.touch()
    made += here.stat().st_ctime_ns
    document = {"levels": levels, "made": made, "moves": moves}
    (staging / "journal.json").write_text(json.dumps(document))


def interrupted(store: Path, monkeypatch: pytest.MonkeyPatch, most: int = 0) -> None:
    """Leave a flush of 100 more rows unfinished, after so many moves."""
    move, made = _commit._move, 0

    def move_some(*planned: Any) -> None:
        nonlocal made
        if made == most:
            raise OSError(errno.EIO, "Input/output error")
        made += 1
        move(*planned)

    writer = Writer(store, mode="a", sync=False)
    writer.append(rows(100, 200))
    monkeypatch.setattr(_commit, "_move", move_some)
    with pytest.raises(StoreError, match="the 100 rows of this flush are stored"):
        writer.flush()
    monkeypatch.setattr(_commit, "_move", move)
    writer.close()


STAGED = f"{HEX}-0"
HOSTILE: dict[str, tuple[Any, Any, str]] = {
    "a link on the way": (1, [[STAGED, "book/c2/authorized_keys"]], "no flush of this store puts"),
    "a link in the place of chunks": (1, [[STAGED, "time/c/0"]], "is a link that leads out of"),
    "another store": (1, [[STAGED, "../sibling.zarr/zarr.json"]], "leads out of the store"),
    "above": (2, [[STAGED, "sibling.zarr/zarr.json"]], "its store begins at what is none"),
    "far above": (10**9, [[STAGED, "etc/passwd"]], "its store begins at what is none"),
    "below nothing": (-1, [[STAGED, "zarr.json"]], "levels: -1"),
    "no number": ("1", [[STAGED, "zarr.json"]], "levels: '1'"),
    "truth": (True, [[STAGED, "zarr.json"]], "levels: True"),
    "absolute": (1, [[STAGED, "/etc/passwd"]], "leads out of the store"),
    "dots": (1, [[STAGED, "book/./zarr.json"]], "leads out of the store"),
    "up and down": (1, [[STAGED, "book/../time/zarr.json"]], "leads out of the store"),
    "empty": (1, [[STAGED, "book//zarr.json"]], "leads out of the store"),
    "no chunk": (1, [[STAGED, "book/readme.txt"]], "no flush of this store puts"),
    "no chunk of that rank": (1, [[STAGED, "book/c/0"]], "no flush of this store puts"),
    "no padded chunk": (1, [[STAGED, "time/c/00"]], "no flush of this store puts"),
    "no document of a node": (1, [[STAGED, "nothing/zarr.json"]], "no flush of this store puts"),
    "another document": (1, [[STAGED, "time/zarr.json"]], "no flush of this store puts"),
    "a file as an array": (1, [[STAGED, "new"]], "no flush of this store puts"),
    "an array over another": (1, [[f"{HEX}-1", "time"]], "no flush of this store puts"),
    "an array in an array": (1, [[f"{HEX}-1", "time/new"]], "no flush of this store puts"),
    "a folder as a chunk": (1, [[f"{HEX}-1", "time/c/9"]], "no flush of this store puts"),
    "a link as a chunk": (1, [[f"{HEX}-2", "time/c/9"]], "no flush of this store puts"),
    "staged elsewhere": (1, [["../zarr.json", "time/c/9"]], "no staged file is called"),
    "the journal": (1, [["journal.json", "time/c/9"]], "no staged file is called"),
    "no names": (1, [[1, 2]], "TypeError"),
    "no pair": (1, [["a"]], "ValueError"),
    "no list": (1, 7, "TypeError"),
    "what is missing": (
        1,
        [[f"{HEX}-9", "time/c/9"], [f"{HEX}-3", "time/zarr.json"]],
        "what was staged for time/c/9 is not there",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_journals_list_what_a_flush_can_contain(store: Path, outside: Path, case: str) -> None:
    sibling = store.with_name("sibling.zarr")
    shutil.copytree(store, sibling)
    (store / "book" / "c2").symlink_to(outside)
    if case == "a link in the place of chunks":
        replace_by_link(store / "time" / "c", outside / "c")
    staging = store / "book" / ".tempozarr"
    levels, moves, why = HOSTILE[case]
    forge(staging, levels, moves)
    (staging / STAGED).write_text('{"zarr_format": 3, "node_type": "group"}')
    (staging / f"{HEX}-1").mkdir()
    (staging / f"{HEX}-2").symlink_to(outside / "precious")
    shutil.copy(store / "time" / "zarr.json", staging / f"{HEX}-3")
    before = snapshot(store.parent)
    for unfinished in (None, "finish"):
        with pytest.raises(StoreError, match=why):
            Writer(store, mode="a", sync=False, unfinished=unfinished)
        assert snapshot(store.parent) == before
    if not (store / "time" / "c").is_symlink():
        Writer(store, mode="a", sync=False, unfinished="discard").close()
        check(store, 100)
    assert snapshot(sibling).items() <= before.items()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"levels": 1}']
)
def test_a_journal_that_is_none(store: Path, content: bytes) -> None:
    staging = store / "book" / ".tempozarr"
    staging.mkdir()
    (staging / "journal.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"expected the journal of an unfinished flush in .*Pass"):
        Writer(store, mode="a", sync=False)
    Writer(store, mode="a", sync=False, unfinished="discard").close()
    check(store, 100)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_journal_that_is_no_file(store: Path, outside: Path, kind: str) -> None:
    staging = store / "book" / ".tempozarr"
    staging.mkdir()
    journal = staging / "journal.json"
    if kind == "link":
        journal.symlink_to(outside / "journal.json")
    elif kind == "fifo":
        os.mkfifo(journal)
    else:
        journal.mkdir()
    with pytest.raises(StoreError):
        Writer(store, mode="a", sync=False)
    assert staging.is_dir()


def test_a_staging_folder_that_is_none(store: Path, outside: Path) -> None:
    staging = store / "book" / ".tempozarr"
    staging.symlink_to(outside)
    with pytest.raises(StoreError, match="expected the folder of an unfinished flush at"):
        Writer(store, mode="a", sync=False)
    staging.unlink()
    staging.write_text("")
    with pytest.raises(StoreError, match="expected the folder of an unfinished flush at"):
        Writer(store, mode="a", sync=False)


def move_away(store: Path) -> Path:
    moved = store.with_name("moved.zarr")
    store.rename(moved)
    return moved


def copy_away(store: Path) -> Path:
    copied = store.with_name("copied.zarr")
    shutil.copytree(store, copied)
    shutil.rmtree(store)
    return copied


def copy_with_times(store: Path) -> Path:
    """Copy as archives do: with the times that can be set."""
    copied = copy_away(store)
    for path in copied.rglob("*"):
        os.utime(path, ns=(0, 0))
    return copied


@pytest.mark.parametrize("bring", [copy_away, copy_with_times])
@pytest.mark.parametrize("most", [0, 5])
def test_a_flush_counts_only_where_it_was_left(
    store: Path, monkeypatch: pytest.MonkeyPatch, bring: Callable[[Path], Path], most: int
) -> None:
    interrupted(store, monkeypatch, most)
    copied = bring(store)
    before = snapshot(copied)
    with pytest.raises(StoreError, match=r"was not written where it is now: .*unfinished='finish'"):
        Writer(copied, mode="a", sync=False)
    with pytest.raises(ValueError, match="unfinished: expected 'finish', 'discard' or None, got"):
        Writer(copied, mode="a", unfinished="both")  # type: ignore[arg-type]
    assert snapshot(copied) == before
    other = copied.with_name("other.zarr")
    shutil.copytree(copied, other)
    with Writer(copied, mode="a", sync=False, unfinished="finish") as writer:
        assert writer.rows == 200
    check(copied, 200)
    Writer(other, mode="a", sync=False, unfinished="discard").close()
    check(other, 100)


def test_a_flush_that_is_seen_in_part_cannot_be_discarded(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(store, monkeypatch)
    journal = json.loads((store / "book" / ".tempozarr" / "journal.json").read_text())
    move, left = _commit._move, len(journal["moves"]) - 2  # without two of three documents

    def move_some(*planned: Any) -> None:
        nonlocal left
        if not left:
            raise OSError(errno.EIO, "Input/output error")
        left -= 1
        move(*planned)

    with monkeypatch.context() as patched:
        patched.setattr(_commit, "_move", move_some)
        with pytest.raises(StoreError, match="Input/output error"):
            Writer(store, mode="a", sync=False)
    assert {len(tempozarr.open_array(store / path)) for path in LAYOUT} == {100, 200}
    with pytest.raises(StoreError, match="in the store already and cannot be discarded"):
        Writer(store, mode="a", sync=False, unfinished="discard")
    Writer(store, mode="a", sync=False).close()
    check(store, 200)


def test_a_store_that_was_moved_is_finished(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(store, monkeypatch)
    moved = move_away(store)
    with Writer(moved, mode="a", sync=False) as writer:
        assert writer.rows == 200
    check(moved, 200)


def test_a_late_array_is_finished_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Writer(tmp_path / "s", PAIR, consolidate=True, sync=False) as writer:
        writer.append({"time": [1, 2], "mid/raw": [0.0, 1.0]})
        writer.write_late("late", [1.0, 2.0, 3.0])
        with monkeypatch.context() as patched:
            patched.setattr(_commit, "_move", fail)
            with pytest.raises(StoreError, match=r"row 2 \(of groups: / 2, mid 2\)\. Until then"):
                writer.flush()
    Writer(tmp_path / "s", PAIR, mode="a", sync=False).close()
    assert list(tempozarr.open_array(tmp_path / "s" / "late")) == [1, 2, 3]


def test_a_file_system_that_keeps_whole_seconds(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(store, monkeypatch)
    made = _commit._made
    monkeypatch.setattr(_commit, "_made", lambda folder: made(folder) // 10**9 * 10**9)
    Writer(store, mode="a", sync=False).close()
    check(store, 200)


def test_a_journal_of_another_second(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(store, monkeypatch)
    made = _commit._made
    monkeypatch.setattr(_commit, "_made", lambda folder: (made(folder) // 10**9 + 1) * 10**9)
    with pytest.raises(StoreError, match="was not written where it is now"):
        Writer(store, mode="a", sync=False)
