"""Stores of strangers are read: nothing outside is met but through links, and nothing waits."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import tempozarr
from conftest import create
from faulty import Faulty, files, serving
from mutants import remove
from tempozarr import __main__ as command
from tempozarr._documents import DEEPEST
from tempozarr.schema import schema_of

ROWS = np.arange(1, 9, dtype="f4").reshape(4, 2)
GROUP = {"zarr_format": 3, "node_type": "group"}
Acts = dict[str, Callable[[], Any]]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """End the tests, with a traceback, if one of them waits for ever."""
    faulthandler.dump_traceback_later(120, exit=True, file=2)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A group with arrays of each kind: `plain`, `sharded`, `text`, and of v2 `old`."""
    root = tmp_path / "store"
    group = zarr.create_group(root)
    group.create_array("plain", data=ROWS, chunks=(2, 2))
    group.create_array("sharded", data=ROWS, chunks=(1, 2), shards=(2, 2))
    text = group.create_array("text", shape=(4,), chunks=(2,), dtype="string")
    text[:] = ["a", "b", "c", "d"]
    old = zarr.create_array(root / "old", data=ROWS, chunks=(2, 2), zarr_format=2)
    old.attrs["unit"] = "s"
    return root


def pipe(place: Path) -> None:
    os.mkfifo(place)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def plug(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # as paths of sockets are short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(place.name)
    os.chdir(here)


def linked_pipe(place: Path) -> None:
    aside = place.parents[3] / "aside"
    if not aside.exists():
        os.mkfifo(aside)
    place.symlink_to(aside)


SPECIAL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "pipe": ("a named pipe", pipe),
    "link to a pipe": ("a named pipe", linked_pipe),
    "device": ("a device", device),
    "socket": ("a socket", plug),
    "folder": ("a folder", Path.mkdir),
}
CHUNKS = ["plain/c/0/0", "sharded/c/1/0", "text/c/0", "old/0.0"]


def put(kind: str, place: Path) -> str:
    """Put what is no file in the place of one; give what it is called."""
    place.unlink()
    found, make = SPECIAL[kind]
    make(place)
    return f"expected a regular file, found {found}: remove it, or put the file back"


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_file_in_the_place_of_a_chunk(
    kind: str, chunk: str, store: Path, tmp_path: Path
) -> None:
    text = put(kind, store / chunk)
    name = chunk.partition("/")[0]
    array = tempozarr.open_array(store / name)
    last = tuple(length - 1 for length in array.shape)
    acts: Acts = {
        "all": lambda: array[...],
        "a row": lambda: array[-1 if name == "sharded" else 0],
        "points": lambda: array.vindex[tuple([0, end] for end in last)],
        "windows": lambda: array.windows([0], 4),
        "advise": lambda: tempozarr.advise(store / name, seconds=0.1),
        "copy": lambda: tempozarr.copy(store, tmp_path / "copied"),
    }
    if name == "text":
        del acts["advise"]  # which leaves such arrays out
    else:
        with tempozarr.enable(strict=True):
            theirs = zarr.open_array(store / name, mode="r")
            acts["zarr-python's"] = lambda: theirs[...]
    for act in acts.values():
        with pytest.raises(tempozarr.StoreError, match="expected a regular file"):
            act()

    report = tempozarr.verify(store)
    (fault,) = report.faults
    assert (fault.array, fault.kind) == (name, "damaged")
    assert text in fault.message
    assert tempozarr.info(store).arrays[name].expected == 2
    if name in {"plain", "sharded"}:
        with tempozarr.Writer(store / name, mode="a") as writer:
            writer.append(ROWS)  # which begins a chunk
        assert [f.message for f in tempozarr.verify(store).faults] == [fault.message]


METADATA = ["zarr.json", "plain/zarr.json", "old/.zarray", "old/.zattrs"]


@pytest.mark.parametrize("file", METADATA)
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_file_in_the_place_of_metadata(
    kind: str, file: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(store, tmp_path / "deep/er/store")
    store = tmp_path / "deep/er/store"
    text = put(kind, store / file)
    name = file.rpartition("/")[0]
    acts: Acts = {
        "open": lambda: tempozarr.open(store / name),
        "open_array": lambda: tempozarr.open_array(store / name),
        "open_group": lambda: tempozarr.open_group(store / name),
        "copy": lambda: tempozarr.copy(store, tmp_path / "copied"),
        "advise": lambda: tempozarr.advise(store, seconds=0.1),
        "writer": lambda: tempozarr.Writer(store / name, mode="a"),
    }
    for act in acts.values():
        with pytest.raises(tempozarr.StoreError, match=text):
            act()
    (fault,) = (f for f in tempozarr.verify(store).faults if f.array == name)
    assert text in fault.message
    assert text in tempozarr.info(store).problems[name]
    assert command.main(["info", str(store)]) == 0
    assert text in capsys.readouterr().out
    if name:
        group = tempozarr.open_group(store)
        assert list(group) == ["old", "plain", "sharded", "text"]
        assert text in group.tree()
        with pytest.raises(tempozarr.StoreError, match=text):
            group.members()
        assert {"sharded", "text"} <= tempozarr.verify(store).keys()


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_in_the_place_of_consolidated_metadata(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "a/b/store"
    group = zarr.create_group(root, zarr_format=2)
    group.create_array("x", data=ROWS)
    (root / ".zmetadata").touch()
    text = put(kind, root / ".zmetadata")
    report = tempozarr.verify(root)
    assert text in report.faults[0].message
    assert list(report) == ["x"]


def test_metadata_without_end(store: Path) -> None:
    for file in ("plain/zarr.json", "old/.zattrs", "zarr.json"):
        with (store / file).open("r+") as opened:
            opened.truncate(3 << 30)
        name = file.rpartition("/")[0]
        text = f"{file}: expected metadata of at most 64 MiB, found more"
        with pytest.raises(tempozarr.MetadataError, match=text):
            tempozarr.open(store / name)
        assert text in tempozarr.info(store).problems[name]
    (store / "zarr.json").write_text(json.dumps(GROUP) + " " * 10_000_000)
    assert "sharded" in tempozarr.open_group(store)


def test_json_that_is_nested_without_end(store: Path) -> None:
    def nested(depth: int) -> str:
        return (
            json.dumps(GROUP)[:-1] + ', "attributes": ' + '{"[": ' * depth + "1" + "}" * depth + "}"
        )

    (store / "zarr.json").write_text(nested(126))
    assert "plain" in tempozarr.open_group(store)
    (store / "zarr.json").write_text(nested(127))
    with pytest.raises(tempozarr.MetadataError, match="expected JSON nested at most 127 deep"):
        tempozarr.open_group(store)
    (store / "zarr.json").write_bytes(b'"\xff"')
    with pytest.raises(tempozarr.MetadataError, match="expected JSON in UTF-8"):
        tempozarr.open_group(store)


# -- names -----------------------------------------------------------------------------------------

NAMES = ["..", ".", "...", "../victim.zarr", "", "a/", "/a", "a//b", "a/../../b", "a\0b", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_names_in_consolidated_metadata(name: str, zarr_format: int, tmp_path: Path) -> None:
    """They become paths: of requests, and of what `copy` writes."""
    root = tmp_path / "served/store"
    zarr.create_group(root, zarr_format=zarr_format).create_array("sound", data=ROWS)  # type: ignore[arg-type]
    if zarr_format == 3:
        inline = {"kind": "inline", "must_understand": False, "metadata": {name: GROUP}}
        document = GROUP | {"consolidated_metadata": inline}
        (root / "zarr.json").write_text(json.dumps(document))
        got = "expected JSON in" if name == "\ud800" else f"got the path {name!r}: a name "
    else:
        document = {
            "zarr_consolidated_format": 1,
            "metadata": {".zgroup": {"zarr_format": 2}, f"{name}/.zgroup": {"zarr_format": 2}},
        }
        (root / ".zmetadata").write_text(json.dumps(document))
        got = (
            "expected JSON in"
            if name == "\ud800"
            else f"got the path {f'{name}/.zgroup'!r}: a name "
        )

    def refused(source: Any) -> None:
        acts: Acts = {
            "open": lambda: tempozarr.open_group(source),
            "copy": lambda: tempozarr.copy(source, tmp_path / "in/target"),
            "sources": lambda: tempozarr.WindowLoader(
                source, {"x": "sound"}, length=1, batch_size=1
            ),
        }
        for act in acts.values():
            with pytest.raises(tempozarr.MetadataError) as caught:
                act()
            assert got in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["served"]

    with serving(Faulty(files(tmp_path / "served"))) as web:
        refused(f"{web.url}/store")
    if zarr_format == 3:  # that of v2 is a file of its own, which is not read in a folder
        refused(root)
    report = tempozarr.verify(root)
    assert [got in fault.message for fault in report.faults] == [True]
    if name != "\ud800" or zarr_format == 2:
        assert list(report) == ["sound"]


@pytest.mark.parametrize("name", ["...", "\0", "..", "../a", "/a", "a/"])
def test_names_in_other_stores(name: str, tmp_path: Path) -> None:
    """What zarr-python does not refuse, `copy` does."""
    inline = {"kind": "inline", "must_understand": False, "metadata": {name: GROUP}}
    document = GROUP | {"attributes": {}, "consolidated_metadata": inline}
    store = zarr.storage.MemoryStore()
    zarr.create_group(store)
    buffer = default_buffer_prototype().buffer
    store._store_dict["zarr.json"] = buffer.from_bytes(json.dumps(document).encode())
    with pytest.raises((tempozarr.MetadataError, ValueError, FileNotFoundError)) as caught:
        tempozarr.copy(zarr.open_group(store, mode="r"), tmp_path / "in/target")
    if name in {"...", "\0"}:
        assert f"expected paths of arrays and groups in {store}, got {name!r}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_odd_documents_in_consolidated_metadata(tmp_path: Path) -> None:
    """One that is wrong is an error of its own."""
    root = tmp_path / "store"
    group = zarr.create_group(root)
    group.create_array("sound", data=ROWS)
    group.create_group("a").create_array("b", data=ROWS)
    zarr.consolidate_metadata(root)
    document = json.loads((root / "zarr.json").read_text())
    members = document["consolidated_metadata"]["metadata"]
    members["a"]["node_type"] = "table"
    (root / "zarr.json").write_text(json.dumps(document))
    with serving(Faulty(files(tmp_path))) as web:
        url = f"{web.url}/store"
        opened = tempozarr.open_group(url)
        assert list(opened) == ["a", "sound"]
        assert "a" in opened
        with pytest.raises(tempozarr.MetadataError, match="expected the node_type array or group"):
            opened["a"]
        assert "a  expected the node_type array or group" in opened.tree()
        assert "sound  (4, 2) float32" in opened.tree()
        np.testing.assert_array_equal(opened["sound"][...], ROWS)  # type: ignore[index]
        for inline, text in (
            (1, "expected consolidated metadata by path in"),
            ({"metadata": []}, "expected consolidated metadata by path in"),
            ({"metadata": {"a": 1}}, "expected a JSON object as consolidated metadata of 'a' in"),
        ):
            changed = json.dumps(document | {"consolidated_metadata": inline})
            (root / "zarr.json").write_text(changed)
            for source in (url, root):
                with pytest.raises(tempozarr.MetadataError, match=text):
                    tempozarr.open_group(source)
            assert list(tempozarr.verify(root)) == ["a/b", "sound"]


def test_names_in_folders(store: Path) -> None:
    """Only periods are no name, nor is what is no text; what begins with periods is one."""
    for encoded in (b"...", b".hidden", b"\xff", b"__reserved"):
        folder = store / os.fsdecode(encoded)
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(GROUP))
    group = tempozarr.open_group(store)
    problems = tempozarr.info(store).problems
    assert problems == {
        "...": "expected the name of an array or group: a name is more than periods",
        "\udcff": "expected the name of an array or group: a name is UTF-8",
    }
    assert {".hidden", "__reserved"} < set(group)
    for name in ("..", ".", "...", "", "/", "a/../plain", "plain\0", "\udcff"):
        assert name not in group
        with pytest.raises(KeyError, match="expected the name of an array or group"):
            group[name]


def test_names_that_a_terminal_would_obey(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("\x1b[2J", "a\rb", "\x9b1m", "\u202e", "\udcff"):
        (store / "plain").rename(store / name)
        (store / name / "c/0/0").write_bytes(b"")
        for run in ("info", "verify"):
            assert command.main([run, str(store)]) == (run == "verify")
            told = "".join(capsys.readouterr())
            assert name not in told
            assert ascii(name)[1:-1] in told
        assert command.main(["info", str(store / name / "nothing")]) == command.FAILED
        assert name not in "".join(capsys.readouterr())
        (store / name).rename(store / "plain")


def test_keys_of_chunks_that_lead_out(tmp_path: Path) -> None:
    """No key leaves the store by its text."""
    array = create(tmp_path / "a/b", "one")
    array[...] = 1
    (tmp_path / "secret").write_bytes(bytes(64))
    document = json.loads((tmp_path / "a/b/zarr.json").read_text())
    for suffix in ("/../../../../secret", "/..", "/../0"):
        document["chunk_key_encoding"] = {
            "name": "zarrs.default_suffix",
            "configuration": {"suffix": suffix},
        }
        (tmp_path / "a/b/zarr.json").write_text(json.dumps(document))
        for source in (tmp_path / "a/b", tmp_path / "a"):
            with pytest.raises(tempozarr.TempozarrError):
                tempozarr.open_array(source)[...]


@pytest.mark.parametrize("path", ["../a", "x/../../a", "..", "."])
def test_paths_that_lead_out(path: str, tmp_path: Path) -> None:
    create(tmp_path / "a", "one")
    (tmp_path / "b").mkdir()
    with pytest.raises(tempozarr.StoreError, match="expected a path within the store, got"):
        tempozarr.Array(str(tmp_path / "b"), path)


# -- links -----------------------------------------------------------------------------------------


def test_stores_are_spread_by_links(store: Path, tmp_path: Path) -> None:
    """Chunks, folders of chunks, arrays and metadata may be elsewhere, on purpose."""
    for i, place in enumerate(("plain/c/0/0", "plain/c/1", "sharded", "old/.zarray")):
        moved = tmp_path / f"disk{i}"
        (store / place).rename(moved)
        (store / place).symlink_to(moved)
    group = tempozarr.open_group(store)
    assert list(group) == ["old", "plain", "sharded", "text"]
    for name in ("old", "plain", "sharded"):
        np.testing.assert_array_equal(group[name][...], ROWS)  # type: ignore[index]
    report = tempozarr.verify(store)
    assert report.ok
    assert {path: array.chunks for path, array in report.items()} == dict.fromkeys(group, 2)
    tempozarr.copy(store, tmp_path / "copied", verify=True)
    (store / "alias").symlink_to("plain")
    assert set(tempozarr.verify(store)) == {"alias", *group}


def test_a_chunk_that_is_a_link_to_nothing(store: Path) -> None:
    (store / "plain/c/0/0").unlink()
    (store / "plain/c/0/0").symlink_to("/nowhere")
    (fault,) = tempozarr.verify(store).faults
    assert (fault.array, fault.chunk, fault.kind) == ("plain", (0, 0), "damaged")


CIRCLES: dict[str, list[tuple[str, str]]] = {
    "two to the same": [("x", "."), ("y", ".")],
    "one to a parent": [("x", "..")],
    "two around": [("one/x", "../two"), ("two/x", "../one"), ("two/y", "../one")],
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_groups_in_circles(circle: str, store: Path, tmp_path: Path) -> None:
    shutil.rmtree(store / "old")  # which a writer refuses
    zarr.create_group(tmp_path)
    for link, target in CIRCLES[circle]:
        if "/" in link and not (store / link).parent.exists():
            zarr.create_group((store / link).parent)
        (store / link).symlink_to(target)
    group = tempozarr.open_group(store)
    sound = {"plain", "sharded", "text"}
    assert sound < set(group)
    told = "to one that it is in: remove the link"
    assert told in group.tree()
    report = tempozarr.verify(store)
    assert sound <= set(report)
    assert any(told in fault.message for fault in report.faults)
    assert any(told in problem for problem in tempozarr.info(store).problems.values())
    acts: Acts = {
        "copy": lambda: tempozarr.copy(store, tmp_path / "copied"),
        "advise": lambda: tempozarr.advise(store),
        "schema": lambda: schema_of(store),
        "writer": lambda: tempozarr.Writer(store, mode="a"),
    }
    for act in acts.values():
        with pytest.raises(tempozarr.StoreError, match="expected a tree of folders, got a link"):
            act()
    assert not (tmp_path / "copied").exists()


def test_a_link_to_itself(store: Path) -> None:
    (store / "x").symlink_to("x")
    assert "x" not in list(tempozarr.open_group(store))
    (store / "plain/zarr.json").unlink()
    (store / "plain/zarr.json").symlink_to("zarr.json")
    with pytest.raises(tempozarr.StoreError, match="symbolic links"):
        tempozarr.open(store / "plain")


def test_links_that_double_at_each_level(tmp_path: Path) -> None:
    """30 groups with two links to the next one are 2^30 paths."""
    levels = [tmp_path / f"store/{i}" for i in range(30)]
    zarr.create_group(tmp_path / "store")
    for folder in levels:
        zarr.create_group(folder)
    for folder, below in itertools.pairwise(levels):
        (folder / "a").symlink_to(below)
        (folder / "b").symlink_to(below)
    report = tempozarr.verify(levels[0])
    assert any(
        "expected at most 16 paths to one folder, got more" in f.message for f in report.faults
    )
    assert "remove links" in tempozarr.open_group(levels[0]).tree()
    with pytest.raises(tempozarr.StoreError, match="expected at most 16 paths to one folder"):
        tempozarr.copy(levels[0], tmp_path / "copied")


@pytest.mark.parametrize("links", [{"c/x": "."}, {"c/2": "..", "c/3": ".."}, {"a": ".", "b": "/"}])
def test_folders_of_chunks_in_circles(links: dict[str, str], store: Path) -> None:
    for link, target in links.items():
        (store / "plain" / link).symlink_to(target)
    report = tempozarr.verify(store)
    assert {"old", "sharded", "text"} <= set(report)
    assert tempozarr.info(store).arrays.keys() >= {"old", "sharded", "text"}
    np.testing.assert_array_equal(tempozarr.open_array(store / "plain")[...], ROWS)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Folder of groups as deep as systems take, and no store is."""
    root = folder = tmp_path / "store"
    for _ in range(1200):
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(GROUP))
        folder = folder / "g"
    yield root
    remove(root)  # pytest cannot, before Python 3.13


def test_groups_nested_without_end(tmp_path: Path, deep: Path) -> None:
    root = deep
    text = f"expected groups nested at most {DEEPEST} deep, got more at "
    group = tempozarr.open_group(root)
    assert text in group.tree()
    report = tempozarr.verify(root)
    assert [text in fault.message for fault in report.faults] == [True]
    assert text in str(tempozarr.info(root))
    for act in (
        lambda: tempozarr.copy(root, tmp_path / "copied"),
        lambda: tempozarr.advise(root),
        lambda: tempozarr.Writer(root, mode="a"),
    ):
        with pytest.raises(tempozarr.MetadataError, match=text):
            act()
    inner = "/".join("g" * 1150)
    assert group[inner].tree() is not None  # type: ignore[union-attr]
    path = root / inner
    assert tempozarr.verify(path).ok


def test_what_is_nested_without_end_is_not_replaced(deep: Path) -> None:
    schema = tempozarr.schema.ArraySchema(name="a", dtype="float32")
    with pytest.raises(tempozarr.StoreError, match="too deep to be replaced: remove it, or choose"):
        tempozarr.Writer(deep, schema, mode="w", sync=False)
    assert (deep / "g" / "g").is_dir()
    assert {path.name for path in deep.parent.iterdir()} == {deep.name}


def test_groups_that_may_not_be_listed(store: Path) -> None:
    if os.geteuid() == 0:
        # Root may list everything; a folder that is none any more is as good.
        group = tempozarr.open_group(store)
        shutil.rmtree(store)
        store.touch()
        with pytest.raises(tempozarr.StoreError, match="expected a folder that can be listed"):
            list(group)
        return
    (store / "inner").mkdir(mode=0)
    assert "inner" in tempozarr.info(store).problems
