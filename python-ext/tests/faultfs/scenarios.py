"""What is done to stores, what it told, and whether a store is what was told.

All that is in a store follows from its state: a generation (stores that are written anew have the
next one) and a number of rows.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

import tempozarr
from tempozarr import Writer, _core
from tempozarr.schema import ArraySchema, GroupSchema

State = tuple[int, int]
"""Generation and rows."""

STORE = "store.zarr"
SOURCE = "source.zarr"
STEPS = (5, 12, 23)  # rows of the flushes
NEXT = 3  # generation of a store that is made although there should be one
LATE = STEPS[1]  # the flush with the late array
SOURCE_ROWS = 23
LAYOUT = {"book": (4, 8), "mid/time": (6, None)}
WORDS = np.array([f"w{i}" * (i % 3) for i in range(7)]).astype(np.dtypes.StringDType())


@cache
def group_schema(generation: int) -> GroupSchema:
    """A group of a sharded array, a late one, and one that is not sharded."""
    book = ArraySchema(name="book", dtype="float32", row_shape=(3,), float16=True)
    late = ArraySchema(name="late", dtype="int32", late=True)
    time = ArraySchema(name="time", dtype="int64")
    mid = GroupSchema(name="mid", arrays=[time])
    attributes = {"generation": generation}
    return GroupSchema(arrays=[book, late], groups=[mid], attributes=attributes)


@cache
def array_schema(generation: int) -> ArraySchema:
    """A store that is one array."""
    return ArraySchema(name="values", dtype="int64", attributes={"generation": generation})


def rows(generation: int, start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Rows `start..stop` of the arrays that are appended to; none of them is a fill value."""
    i = np.arange(start, stop) + 1
    book = (i[:, None] * 3 + np.arange(3)) + 100 * generation
    return {"book": book.astype("f4"), "mid/time": i + 1000 * generation}


def late(generation: int) -> NDArray[Any]:
    """All of the late array."""
    return np.arange(9, dtype="i4") + generation


class Told:
    """What a scenario told: in which states its store may be."""

    def __init__(self, before: State | None = None) -> None:
        self.before = before
        self.states: set[State | None] = {before}
        self.wrong: list[str] = []
        self.error = ""
        self.flushed: int | None = None
        self.texts: list[str] = []
        self.closed = False

    def hear(self, line: str) -> None:
        """Take a line."""
        kind, *values = json.loads(line)
        if kind == "may":
            self.states.add((values[0], values[1]))
        elif kind == "is":
            state = (values[0], values[1])
            if state not in self.states:
                self.wrong.append(f"opened as {state}, expected one of {self.states}")
            self.states = {state}
        elif kind == "failed":
            self.error, self.flushed, self.texts = values
        elif kind == "closed":
            self.closed = True


Tell = Callable[..., None]


@dataclass(frozen=True)
class Scenario:
    """Something that is done to the store in a folder."""

    name: str
    run: Callable[[Path, Tell], None]
    check: Callable[[Path, Told, bool], Iterator[str]]
    prepare: Callable[[Path], None] = field(default=lambda folder: None)
    before: State | None = None
    synced: bool = True


# Scenarios of `Writer`.


def _append(writer: Writer, tell: Tell, generation: int, steps: Iterable[int]) -> None:
    one = isinstance(writer.schema, ArraySchema)
    for stop in steps:
        if stop <= writer.rows:
            continue
        # In two pieces, as rows come.
        for end in ((writer.rows + stop) // 2, stop):
            values = rows(generation, writer.rows, end)
            writer.append(values["mid/time"] if one else values)
        if stop == LATE and not one:
            writer.write_late("late", late(generation))
        writer.attrs["flushed"] = stop
        tell("may", generation, stop)
        writer.flush()
        tell("is", generation, stop)


@contextlib.contextmanager
def _failing(tell: Tell, writer: list[Writer]) -> Iterator[None]:
    """Tell of an error what it says, and what the writer says afterwards."""
    try:
        yield
    except Exception as e:
        texts = [str(e)]
        flushed = None
        if writer:
            flushed = writer[0].flushed_rows
            with contextlib.suppress(TypeError):
                try:
                    writer[0].append({})
                except tempozarr.TempozarrError as again:
                    texts.append(str(again))
        error = "StoreError" if isinstance(e, tempozarr.StoreError) else type(e).__name__
        tell("failed", error, flushed, texts)
        raise


def _write(
    schema: Any, generation: int, mode: str, steps: Iterable[int], **options: Any
) -> Callable[[Path, Tell], None]:
    """A scenario: append and flush."""

    def run(folder: Path, tell: Tell) -> None:
        opened: list[Writer] = []
        with _failing(tell, opened):
            if mode == "w":
                tell("may", generation, 0)
            with Writer(folder / STORE, schema, mode=mode, **options) as writer:
                opened.append(writer)
                found = int(writer.attrs["generation"])
                tell("is", found, writer.flushed_rows)
                _append(writer, tell, found, steps)
            tell("closed")

    return run


def written(schema: Any, generation: int, steps: Iterable[int], **options: Any) -> Any:
    """Prepare a store."""

    def prepare(folder: Path) -> None:
        _write(schema, generation, "w", steps, **options)(folder, lambda *_: None)

    return prepare


def _arrays(store: Path) -> Iterator[tuple[str, str, Any]]:
    """Whatever readers find: reader, path, array."""
    for reader, opened in (
        ("tempozarr", tempozarr.open(store)),
        ("zarr-python", zarr.open(store, mode="r")),
    ):
        if isinstance(opened, tempozarr.Array | zarr.Array):
            yield reader, "", opened
            continue
        for path in ("book", "late", "mid/time"):
            with contextlib.suppress(KeyError):
                yield reader, path, opened[path]


def _wrong(store: Path, states: set[State | None], *, strict: bool) -> Iterator[str]:
    """What readers should not see in a store in one of those states.

    Without `strict`, a flush may be seen in some arrays and not in others, but whole in each.
    """
    for reader, path, array in _arrays(store):
        what = f"{reader} {path or 'array'}"
        expected = [
            late(state[0]) if path == "late" else rows(state[0], 0, state[1])[path or "mid/time"]
            for state in states
            if state and (path != "late" or state[1] >= LATE)
        ]
        try:
            found = array[...]
        except Exception as e:  # noqa: BLE001 (any error is one too many)
            yield f"{what}: {type(e).__name__}: {e}"
            continue
        if not any(np.array_equal(found, values) for values in expected):
            yield f"{what}: shape {found.shape}, {found.ravel()[-6:]} last, expected {states}"
    if strict:
        attributes = dict(tempozarr.open(store).attrs)
        want = [{"generation": g} | ({"flushed": n} if n else {}) for g, n in filter(None, states)]
        if attributes not in want:
            yield f"attributes {attributes}, expected one of {want}"
        theirs = dict(zarr.open(store, mode="r").attrs)
        if theirs != attributes:
            yield f"zarr-python finds attributes {theirs}, tempozarr {attributes}"


def _besides(folder: Path) -> Iterator[str]:
    """What nobody needs any more."""
    for path in folder.iterdir():
        if path.name not in {STORE, SOURCE}:
            yield f"left beside the store: {path.name}"
    for path in folder.rglob(".tempozarr"):
        yield f"left in the store: {path.relative_to(folder)}"
    for path in folder.rglob("*.partial"):
        yield f"left in the store: {path.relative_to(folder)}"


def _check_writer(schema: Callable[[int], Any]) -> Callable[[Path, Told, bool], Iterator[str]]:
    def check(folder: Path, told: Told, killed: bool) -> Iterator[str]:
        store = folder / STORE
        yield from told.wrong
        # What readers see before anybody recovers.
        if store.exists():
            try:
                yield from (
                    f"before: {wrong}" for wrong in _wrong(store, told.states, strict=False)
                )
            except Exception as e:  # noqa: BLE001
                yield f"before: {type(e).__name__}: {e}"
        # What the next opening finds, and how it goes on.
        try:
            with Writer(store, schema(NEXT), mode="a", layout=_layout(schema)) as writer:
                state = (int(writer.attrs["generation"]), writer.rows)
                yield from _untrue(told, state)
                if len(set(writer.rows_by_group.values())) > 1:
                    yield f"rows by group {writer.rows_by_group}"
                yield from (f"after: {wrong}" for wrong in _wrong(store, {state}, strict=True))
                more = rows(state[0], state[1], state[1] + 4)
                one = isinstance(writer.schema, ArraySchema)
                writer.append(more["mid/time"] if one else more)
        except Exception as e:  # noqa: BLE001
            yield f"the next opening: {type(e).__name__}: {e}"
            return
        for reader, path, array in _arrays(store):
            values = rows(state[0], 0, state[1] + 4)
            if path != "late" and not np.array_equal(array[...], values[path or "mid/time"]):
                yield f"{reader} {path}: wrong after the next flush"
        yield from _besides(folder)

    return check


def _untrue(told: Told, found: State) -> Iterator[str]:
    """What was told and is not so."""
    expected = {state or (NEXT, 0) for state in told.states}
    if found not in expected:
        yield f"the next opening finds {found}, expected one of {expected}"
    if told.flushed is not None and found[1] != told.flushed:
        yield f"flushed_rows was {told.flushed}, the next opening finds {found[1]}"
    for text in told.texts:
        for number in re.findall(r"\brow (\d+)", text):
            if int(number) != found[1]:
                yield f"the error says {text!r}, the next opening finds {found[1]}"


def _layout(schema: Callable[[int], Any]) -> Any:
    return LAYOUT if schema is group_schema else (4, 8)


# Scenarios of `copy`.


def source(folder: Path, generation: int = 2) -> None:
    """Make a group to copy: a sharded array, texts (which zarr-python copies), attributes."""
    group = zarr.create_group(folder / SOURCE, attributes={"generation": generation})
    values = rows(generation, 0, SOURCE_ROWS)
    group.create_array("book", data=values["book"], chunks=(3, 3), shards=(9, 3))
    group.create_group("mid").create_array("time", data=values["mid/time"], chunks=(4,))
    words = group.create_array("words", shape=WORDS.shape, chunks=(3,), dtype="string")
    words[...] = WORDS
    zarr.consolidate_metadata(folder / SOURCE)


COPY_LAYOUT = {"book": (4, 8), "mid/time": (8, None)}


def _copy(*, overwrite: bool = False, stop: int = 0) -> Callable[[Path, Tell], None]:
    def run(folder: Path, tell: Tell) -> None:
        with _failing(tell, []):
            tell("may", 2, SOURCE_ROWS)
            tempozarr.copy(folder / SOURCE, folder / STORE, layout=COPY_LAYOUT, overwrite=overwrite)
            tell("is", 2, SOURCE_ROWS)
            tell("closed")

    return run


def half_copied(folder: Path) -> None:
    """Prepare a copy that was interrupted."""
    source(folder)
    _copy()(folder, lambda *_: None)
    store = folder / STORE
    # As it was before the last flush, and before zarr-python's array came.
    shutil.rmtree(store / "words")
    shutil.rmtree(store / "mid" / "time" / "c")
    for path, shape in (("book", [8, 3]), ("mid/time", [0])):
        document = json.loads((store / path / "zarr.json").read_bytes())
        document["shape"] = shape
        (store / path / "zarr.json").write_text(json.dumps(document))
    document = json.loads((store / "zarr.json").read_bytes())
    del document["consolidated_metadata"]
    (store / "zarr.json").write_text(json.dumps(document))
    for left in (store / "book" / "c").iterdir():
        if left.name != "0":
            shutil.rmtree(left)


def _copied(store: Path, *, whole: bool) -> Iterator[str]:
    """What is wrong with a copy, or with what there is of it."""
    ours, theirs = tempozarr.open_group(store), zarr.open_group(store, mode="r")
    values = rows(2, 0, SOURCE_ROWS)
    for reader, group in (("tempozarr", ours), ("zarr-python", theirs)):
        for path, expected in values.items():
            found: Any = group[path][...]  # type: ignore[index]
            if not np.array_equal(found, expected[: len(found)]):
                yield f"{reader} {path}: {len(found)} rows, {found.ravel()[-6:]} last"
            if whole and len(found) != len(expected):
                yield f"{reader} {path}: {len(found)} rows of {len(expected)}"
    if whole or "words" in theirs:
        found = theirs["words"][...]  # type: ignore[index]
        if not np.array_equal(found, WORDS):
            yield f"words: {found}"
    if whole and theirs.metadata.consolidated_metadata is None:
        yield "no consolidated metadata"


def _generation(store: Path) -> Any:
    return zarr.open_group(store, mode="r").attrs["generation"]


def _check_copy(folder: Path, told: Told, killed: bool) -> Iterator[str]:
    store = folder / STORE
    done = told.states == {(2, SOURCE_ROWS)}
    if store.exists():
        try:
            if _generation(store) == 2:
                yield from (f"before: {wrong}" for wrong in _copied(store, whole=done))
            elif done or told.before is None:
                yield "the new store is lost"
            else:
                yield from (f"before: {w}" for w in _wrong(store, {told.before}, strict=True))
        except Exception as e:  # noqa: BLE001
            yield f"before: {type(e).__name__}: {e}"
    elif done:
        yield "the copy is lost"
    # The next call goes on, or says that there is the old store.
    copy = {"layout": COPY_LAYOUT}
    try:
        try:
            tempozarr.copy(folder / SOURCE, store, **copy)  # type: ignore[arg-type]
        except tempozarr.MetadataError:
            if told.before is None or not store.exists() or _generation(store) != 1:
                raise
            yield from (f"after: {wrong}" for wrong in _wrong(store, {told.before}, strict=True))
            tempozarr.copy(folder / SOURCE, store, overwrite=True, **copy)  # type: ignore[arg-type]
        yield from (f"after: {wrong}" for wrong in _copied(store, whole=True))
    except Exception as e:  # noqa: BLE001
        yield f"the next copy: {type(e).__name__}: {e}"
        return
    yield from _besides(folder)


def warm_up(folder: Path) -> None:
    """Import all that is imported late."""
    for name in ("write", "copy"):
        scenario = SCENARIOS[name]
        inside = folder / name
        inside.mkdir()
        scenario.prepare(inside)
        scenario.run(inside, lambda *_: None)
        told = Told()
        told.states = {(1, STEPS[-1]) if name == "write" else (2, SOURCE_ROWS)}
        if wrong := [*scenario.check(inside, told, False)]:
            raise RuntimeError(f"{name} without a fault: {wrong}")
    shutil.rmtree(folder)


def _without_exchange(run: Callable[[Path, Tell], None]) -> Callable[[Path, Tell], None]:
    """As where the system cannot swap two folders in one step."""

    def run_so(folder: Path, tell: Tell) -> None:
        setattr(_core, "exchange", lambda *_: False)  # noqa: B010 (its types forbid it)
        run(folder, tell)

    return run_so


def _with_old(folder: Path) -> None:
    written(group_schema(1), 1, STEPS[:2], layout=LAYOUT)(folder)


def _with_old_and_source(folder: Path) -> None:
    _with_old(folder)
    source(folder)


_GROUP = {"layout": LAYOUT, "consolidate": True}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "write", _write(group_schema(1), 1, "w", STEPS, **_GROUP), _check_writer(group_schema)
        ),
        Scenario(
            "write one array",
            _write(array_schema(1), 1, "w", STEPS, layout=(4, 8)),
            _check_writer(array_schema),
        ),
        Scenario(
            "write unsynced",
            _write(group_schema(1), 1, "w", STEPS, sync=False, **_GROUP),
            _check_writer(group_schema),
            synced=False,
        ),
        Scenario(
            "go on",
            _write(group_schema(1), 1, "a", STEPS[1:]),
            _check_writer(group_schema),
            written(group_schema(1), 1, STEPS[:1], **_GROUP),
            before=(1, STEPS[0]),
        ),
        Scenario(
            # What another scenario left that was killed.
            "recover",
            _write(group_schema(NEXT), 99, "a", STEPS, **_GROUP),
            _check_writer(group_schema),
        ),
        Scenario(
            "write anew",
            _write(group_schema(2), 2, "w", STEPS[:1], layout=LAYOUT),
            _check_writer(group_schema),
            _with_old,
            before=(1, STEPS[1]),
        ),
        Scenario(
            "write anew without exchange",
            _without_exchange(_write(group_schema(2), 2, "w", STEPS[:1], layout=LAYOUT)),
            _check_writer(group_schema),
            _with_old,
            before=(1, STEPS[1]),
        ),
        Scenario("copy", _copy(), _check_copy, source),
        Scenario("go on copying", _copy(), _check_copy, half_copied, before=None),
        Scenario(
            "copy anew",
            _copy(overwrite=True),
            _check_copy,
            _with_old_and_source,
            before=(1, STEPS[1]),
        ),
    )
}
