"""`WindowLoader`: what batches hold, in which order, from where a state goes on, and its memory."""

from __future__ import annotations

import gc
import json
import pickle
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tempozarr
from conftest import ARRAYS, examples
from numbered import MEMBERS, Rows, Source, ids, loader_of, values, wanted, write
from tempozarr import Field, WindowLoader

ROWS = 500
LENGTH = 4
SIZE = ROWS - LENGTH + 1  # windows
SHUFFLES: list[Any] = [False, "global", "chunk"]
# Chunks of all members that it keeps are fewer than there are.
SMALL: dict[str, Any] = {"cache_bytes": 6000}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Source(range(ROWS)).write(tmp_path_factory.mktemp("loader") / "store")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An array in 200 chunks of 400 bytes, compressed."""
    folder = tmp_path_factory.mktemp("loader") / "many"
    zarr.create_array(folder, shape=(10_000,), chunks=(50,), dtype="i8")[:] = np.arange(10_000)
    return folder


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    if prefetchers():
        gc.collect()
    wait_for(lambda: not prefetchers())


def prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tempozarr-prefetch"]


def sizes(loader: WindowLoader) -> list[int]:
    return [len(next(iter(batch.values()))) for batch in loader]


# ---- Orders


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("batch_size", [1, 8, 61, SIZE, 10_000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_has_every_window_once(
    store: Path, shuffle: Any, batch_size: int, drop_last: bool
) -> None:
    loader = loader_of(store, shuffle=shuffle, batch_size=batch_size, drop_last=drop_last, **SMALL)
    batches = list(loader)
    assert len(batches) == len(loader)
    found = ids(batches)
    rest = SIZE % batch_size
    full = [batch_size] * (SIZE // batch_size)
    assert [len(batch["id"]) for batch in batches] == full + [rest] * (rest > 0 and not drop_last)
    assert len(set(found)) == len(found) == SIZE - drop_last * rest
    assert set(found) <= set(range(SIZE))
    assert (found == sorted(found)) == (not shuffle or not found)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("world_size", [2, 3, 7, 600])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_the_order_of_one(
    store: Path, shuffle: Any, world_size: int, drop_last: bool
) -> None:
    options = {"shuffle": shuffle, "drop_last": drop_last} | SMALL
    alone = loader_of(store, batch_size=5 * world_size, **options)
    some = range(world_size) if world_size < 10 else [0, 1, 250, 599]
    ranks = [
        loader_of(store, batch_size=5, rank=rank, world_size=world_size, **options) for rank in some
    ]
    per_rank = [list(rank) for rank in ranks]
    assert [len(batches) for batches in per_rank] == [len(rank) for rank in ranks]
    for step, together in enumerate(alone):
        parts: list[Any] = [
            batches[step]["id"] if step < len(batches) else [] for batches in per_rank
        ]
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1  # as evenly as possible
        if world_size < 10:
            np.testing.assert_array_equal(
                np.concatenate([p for p in parts if len(p)]), together["id"]
            )
        else:
            assert {*lengths} <= {0, 1}
    assert max(map(len, per_rank)) == len(alone)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_threads_and_prefetch_do_not_change_an_order(store: Path, shuffle: Any) -> None:
    arrays: dict[str, Any] = {"id": "id", "book": "book", "mid": Field("mid", horizon=1)}
    options = {"shuffle": shuffle, "arrays": arrays, "batch_size": 33} | SMALL
    orders = []
    for workers in (1, 4):
        for prefetch in ({"prefetch": 1}, {"prefetch": 9}, {"prefetch_bytes": 0}, {"reuse": True}):
            with zarr.config.set({"threading.max_workers": workers}):
                loader = loader_of(store, **options, **prefetch)
                orders.append(
                    [{name: rows.copy() for name, rows in batch.items()} for batch in loader]
                )
    for order in orders[1:]:
        for batch, first in zip(order, orders[0], strict=True):
            for name in arrays:
                np.testing.assert_array_equal(batch[name], first[name], strict=True)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_an_order_is_that_of_seed_and_epoch(store: Path, shuffle: Any) -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        loader = loader_of(store, shuffle=shuffle, seed=seed, batch_size=100, **SMALL)
        loader.set_epoch(epoch)
        assert loader.epoch == epoch
        found = tuple(ids(loader))
        assert loader.epoch == epoch + 1
        return found

    places = [(seed, epoch) for seed in (0, 1, -5, 2**63 + 5) for epoch in (0, 1, 17)]
    assert len({order(*place) for place in places}) == (len(places) if shuffle else 1)
    assert order(1, 17) == order(1, 17)
    # One epoch after the other is as one that was asked for.
    loader = loader_of(store, shuffle=shuffle, seed=1, batch_size=100, **SMALL)
    assert [tuple(ids(loader)) for _ in range(3)] == [order(1, epoch) for epoch in range(3)]


def test_an_order_is_that_of_the_version_before(store: Path) -> None:
    """Pinned: the states of former versions go on."""
    first = {s: ids([next(iter(loader_of(store, shuffle=s, seed=3, **SMALL)))]) for s in SHUFFLES}
    assert first == {
        False: [0, 1, 2, 3, 4, 5, 6, 7],
        "global": [35, 377, 24, 419, 166, 133, 75, 437],
        "chunk": [334, 185, 211, 19, 310, 277, 170, 294],
    }


def test_which_epoch_is_next(store: Path) -> None:
    loader = loader_of(store, shuffle="global", batch_size=100)
    whole = ids(loader)
    loader.set_epoch(0)
    epoch = iter(loader)
    assert ids([next(epoch)]) == whole[:100]
    del epoch
    assert ids(loader) == whole  # a loop that ended early begins again
    assert loader.epoch == 1
    loader.set_epoch(1)
    second = ids(loader)
    assert second != whole
    loader.set_epoch(1)
    epoch = iter(loader)
    loader.set_epoch(0)  # of the next loop, not of this one
    assert ids(epoch) == second
    assert loader.epoch == 0
    assert ids(loader) == whole
    assert list(epoch) == []
    assert loader.epoch == 1  # an end that is seen again ends nothing


def test_the_last_loop_says_where_the_loader_is(store: Path) -> None:
    loader = loader_of(store, batch_size=100)
    old, new = iter(loader), iter(loader)
    next(new)
    list(old)
    assert (loader.epoch, loader.state_dict()["position"]) == (0, 100)
    loader.load_state_dict(loader.state_dict() | {"position": 200})
    list(new)
    assert (loader.epoch, loader.state_dict()["position"]) == (0, 200)
    assert ids(loader) == list(range(200, SIZE))
    assert (loader.epoch, loader.state_dict()["position"]) == (1, 0)


def test_chunks_are_decoded_about_once(many: Path) -> None:
    options: dict[str, Any] = {"arrays": {"id": None}, "batch_size": 16, "cache_bytes": 32_000}
    total = 10_000 * 8

    def decoded(shuffle: Any, **more: Any) -> float:
        loader = loader_of(many, shuffle=shuffle, **options | more)
        found = [ids([batch]) for batch in loader]
        length = more.get("length", LENGTH)
        assert sorted(row for batch in found for row in batch) == list(range(10_000 - length + 1))
        if shuffle and length == LENGTH:
            chunks = [len({row // 50 for row in batch}) for batch in found]
            assert np.mean(chunks) > 10  # of 16 windows
        return loader.stats().bytes_decoded / total

    assert decoded(False) == 1
    assert decoded("chunk") <= 1.1
    assert decoded("global") > 5
    # The cache may be scarce, or abundant.
    assert decoded("chunk", cache_bytes=30_000) <= 1.1
    assert decoded("chunk", cache_bytes=1 << 20) == 1
    # Windows may be longer than chunks.
    assert decoded("chunk", length=120, cache_bytes=64_000) <= 1.1
    # Batches may be of several pools, of which each is read by itself.
    assert decoded("chunk", batch_size=2000) <= 1.1


def test_chunk_shuffle_with_hardly_any_cache(many: Path) -> None:
    text = r"cache_bytes: expected at least 800 for shuffle='chunk', the decoded bytes of the chunks of 50 rows that windows reach into, got 799"
    with pytest.raises(ValueError, match=text):
        loader_of(many, arrays={"id": None}, shuffle="chunk", cache_bytes=799)
    loader = loader_of(many, arrays={"id": None}, shuffle="chunk", cache_bytes=800, batch_size=100)
    assert sorted(ids(loader)) == list(range(9997))
    assert loader.stats().bytes_decoded < 4 * 80_000


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_iterate_by_turns(store: Path, shuffle: Any) -> None:
    loader = loader_of(store, shuffle=shuffle, batch_size=9, **SMALL)
    want = [ids([batch]) for batch in loader]
    loader.set_epoch(0)
    for workers in (2, 3, 100):
        for worker in range(workers):
            loader.set_epoch(0)
            found = [ids([batch]) for batch in loader.iterate(worker, workers)]
            assert found == want[worker::workers]


# ---- Fields

FIELDS: dict[str, dict[str, Field]] = {
    "plain": {"id": Field("id"), "book": Field("book"), "mid": Field("mid")},
    "lengths": {"id": Field("id", 1), "book": Field("book", 9), "mid": Field("mid", 3)},
    "steps": {"id": Field("id", 3, 5), "book": Field("book", step=3)},
    "offsets": {"id": Field("id", offset=-7), "mid": Field("mid", 2, offset=11)},
    "horizons": {"id": Field("id"), "mid": Field("mid", 1, horizon=1), "book": Field("book", 3, 2, horizon=5)},
    "horizons back": {"id": Field("id"), "mid": Field("mid", 1, horizon=0), "book": Field("book", 2, horizon=-9)},
    "far apart": {"id": Field("id", 2, 100, -50), "mid": Field("mid", 1, offset=200)},
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_fields(store: Path, name: str, shuffle: Any) -> None:
    fields = FIELDS[name]
    loader = loader_of(store, arrays=fields, shuffle=shuffle, batch_size=50, stride=3, **SMALL)
    rows = rows_of_one(fields)
    seen = []
    for batch in loader:
        assert list(batch) == list(fields)
        first = fields["id"].offset or 0
        anchors = (batch["id"][:, 0] - first).tolist()
        seen += anchors
        for key, field in fields.items():
            row, dtype, _ = MEMBERS[field.array or ""]
            want = np.stack([wanted(a, field, LENGTH, *row, dtype=dtype) for a in anchors])
            np.testing.assert_array_equal(batch[key], want, strict=True)
            assert batch[key].flags.c_contiguous
            assert batch[key].flags.writeable
    assert sorted(seen) == rows


def rows_of_one(fields: dict[str, Field]) -> list[int]:
    return Rows({"": [Source(range(ROWS))]}).anchors(LENGTH, 3, fields.values())


def test_one_array_under_several_names(store: Path) -> None:
    arrays = {"now": "id", "next": Field("id", horizon=1), "half": Field("id", dtype="f2")}
    (batch,) = loader_of(store, arrays=arrays, batch_size=1000)
    assert (batch["next"] == batch["now"] + LENGTH).all()
    assert (batch["half"] == batch["now"][:, :]).all()
    assert len(batch["now"]) == SIZE - LENGTH


NUMBERS = ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


@pytest.mark.parametrize("stored", [*NUMBERS, ">i2", ">f8"])
def test_casts(tmp_path: Path, stored: str) -> None:
    numbers = np.arange(60) % 100
    data = (numbers % 3 == 0) if stored == "bool" else numbers.astype(stored)
    format_: Any = 2 if stored[0] == ">" else 3
    array = zarr.create_array(
        tmp_path / "a", shape=(60,), chunks=(7,), dtype=data.dtype, zarr_format=format_
    )
    array[:] = data
    names: list[Any] = [*NUMBERS, np.float32, np.dtype(">i4"), "float64", None]
    fields: Any = {str(i): Field(dtype=name) for i, name in enumerate(names)}
    (batch,) = loader_of(tmp_path / "a", arrays=fields, batch_size=99)
    windows = np.lib.stride_tricks.sliding_window_view(data, LENGTH)
    for got, name in zip(batch.values(), names, strict=True):
        dtype = (data.dtype if name is None else np.dtype(name)).newbyteorder("=")
        np.testing.assert_array_equal(got, windows.astype(dtype), strict=True)


def test_bfloat16(tmp_path: Path) -> None:
    numbers = np.concatenate((np.arange(257) / 8, [1e30, -1e-30, np.inf, -np.inf, -0.0, np.nan]))
    write(tmp_path / "a", numbers.astype("f4"), 10)
    (batch,) = loader_of(
        tmp_path / "a", arrays={"x": Field(dtype="bfloat16")}, batch_size=999, length=1
    )
    bits = batch["x"].ravel()
    assert bits.dtype == np.uint16
    back = (bits.astype("u4") << 16).view("f4")
    np.testing.assert_array_equal(back[:257], numbers[:257])
    np.testing.assert_allclose(back[257:259], numbers[257:259], rtol=2**-8)
    np.testing.assert_array_equal(back[259:], numbers[259:])
    assert np.signbit(back[-2])


@pytest.mark.parametrize("name", [n for n, (data, _) in ARRAYS.items() if data.ndim and data.size])
def test_arrays_of_every_kind(stores: Path, name: str) -> None:
    data = ARRAYS[name][0]
    if data.dtype.kind in "TO":
        with pytest.raises(
            TypeError, match=r"arrays\['x'\]: expected elements of a fixed size, got <temp"
        ):
            loader_of(stores, arrays={"x": name}, length=2)
        return
    (batch,) = loader_of(stores, arrays={"x": name}, length=2, shuffle="global", batch_size=99)
    want = np.stack([data[i : i + 2] for i in range(len(data) - 1)])
    found = sorted(batch["x"].tolist(), key=str)
    assert found == sorted(want.tolist(), key=str)
    assert batch["x"].dtype == data.dtype.newbyteorder("=")


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_rows_of_no_elements(tmp_path: Path, shuffle: Any) -> None:
    zarr.create_array(tmp_path / "a", shape=(30, 0), chunks=(10, 1), dtype="i4")
    loader = loader_of(tmp_path / "a", arrays={"x": None}, shuffle=shuffle, batch_size=20)
    assert [batch["x"].shape for batch in loader] == [(20, 4, 0), (7, 4, 0)]


@pytest.mark.parametrize(
    "how", [str, lambda p: p.as_uri(), tempozarr.open, lambda p: zarr.open(p, mode="r")]
)
def test_ways_to_name_a_source(store: Path, how: Callable[[Path], Any]) -> None:
    assert len(ids(loader_of(how(store)))) == SIZE
    assert len(ids(loader_of(how(store / "id"), arrays={"id": None}))) == SIZE
    assert (
        len(
            ids(
                WindowLoader(
                    {"a": how(store), "b": [how(store)]}, {"id": "id"}, length=4, batch_size=9
                )
            )
        )
        == 2 * SIZE
    )


# ---- State


def kept(loader: WindowLoader) -> dict[str, Any]:
    """The state, as a file of JSON has it."""
    state: dict[str, Any] = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) < 500
    return state


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_state_goes_on_behind_every_batch(store: Path, shuffle: Any) -> None:
    options = {"shuffle": shuffle, "seed": 5, "batch_size": 40} | SMALL
    loader = loader_of(store, **options)
    loader.set_epoch(3)
    states, batches = [kept(loader)], []
    for batch in loader:
        batches.append(ids([batch]))
        states.append(kept(loader))
    then = ids(loader)
    for done, state in enumerate(states):
        again = loader_of(store, **options)
        again.load_state_dict(state)
        assert again.epoch == 3
        assert kept(again) == state
        found = []
        for batch in again:
            found.append(ids([batch]))
            assert kept(again) == states[done + len(found)]
        assert found == batches[done:]
        assert again.epoch == 4
        if done in {0, 5, len(batches)}:
            assert ids(again) == then
    assert kept(loader)["epoch"] == 5
    again.load_state_dict(kept(loader))
    assert (again.epoch, kept(again)["position"]) == (5, 0)


@given(st.data())
@settings(max_examples=examples(40))
def test_a_state_is_good_for_other_ranks_and_batch_sizes(store: Path, data: st.DataObject) -> None:
    shuffle = data.draw(st.sampled_from(SHUFFLES))
    order = ids(loader_of(store, shuffle=shuffle, batch_size=SIZE, **SMALL))
    position, state = 0, None
    for _ in range(data.draw(st.integers(1, 4))):  # some ranks take some steps, and are killed
        world_size, batch_size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
        ranks = [
            loader_of(store, shuffle=shuffle, batch_size=batch_size, rank=i, world_size=world_size, **SMALL)
            for i in range(world_size)
        ]  # fmt: skip
        if state is not None:
            for rank in ranks:
                rank.load_state_dict(state)
        loops = [iter(rank) for rank in ranks]
        for _ in range(data.draw(st.integers(0, 3))):
            if position + world_size * batch_size > SIZE:
                break
            step = ids([next(loop) for loop in loops])
            assert step == order[position : position + world_size * batch_size]
            position += len(step)
        found = [kept(rank) for rank in ranks]
        assert all(one == found[0] for one in found)
        state = found[0]
    last = loader_of(store, shuffle=shuffle, batch_size=17, **SMALL)
    last.load_state_dict(state or {})
    assert ids(last) == order[position:]


def test_with_rank_is_at_the_same_place(store: Path) -> None:
    loader = loader_of(store, shuffle="global")
    loader.set_epoch(2)
    whole = ids(loader)
    loader.load_state_dict(loader.state_dict() | {"epoch": 2, "position": 100})
    ranks = [loader.with_rank(rank, 2) for rank in range(2)]
    assert [rank.epoch for rank in ranks] == [2, 2]
    assert sorted(row for rank in ranks for row in ids(rank)) == sorted(whole[100:])
    batches = iter(loader)
    begun = next(batches)["id"][:, 0].tolist()
    assert begun + ids(loader.with_rank(0, 1)) == whole[100:]
    with pytest.raises(ValueError, match="expected a rank below 2, got 2"):
        loader.with_rank(2, 2)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_pickles(store: Path, shuffle: Any) -> None:
    loader = loader_of(store, shuffle=shuffle, batch_size=40, where=np.ones(ROWS, bool), **SMALL)
    loader.set_epoch(1)
    loop = iter(loader)
    first = ids([next(loop), next(loop)])
    pickled = pickle.dumps(loader)
    assert len(pickled) < 3000
    copy = pickle.loads(pickled)
    assert kept(copy) == kept(loader)
    assert copy.stats().batches == 0
    resumed = loader_of(store, shuffle=shuffle, batch_size=40, **SMALL)
    resumed.load_state_dict(kept(copy))
    rest = ids(resumed)
    assert ids(copy) == first + rest  # a loop begins an epoch, also in a copy
    assert ids(loop) == rest
    # One that was told where to go on has that still to do.
    resumed.load_state_dict(json.loads(json.dumps(kept(copy) | {"epoch": 1, "position": 80})))
    assert ids(pickle.loads(pickle.dumps(resumed))) == rest


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 4}, "seed 0, not 4"),
    "shuffle": ({"shuffle": "global"}, "shuffle False, not 'global'"),
    "length": ({"length": 5}, r"windows 497, not 496; touched \[0, 3\], not \[0, 4\]"),
    "stride": ({"stride": 2}, "windows 497, not 249; stride 1, not 2"),
    "rows": ({"rows": (1, None)}, "windows 497, not 496; rows '[0-9a-f]{16}', not '[0-9a-f]{16}'"),
    "where": ({"where": [(0, 4), (4, 500)]}, None or ""),
    "fields": ({"arrays": {"id": Field("id", horizon=1)}}, r"touched \[0, 3\], not \[0, 7\]"),
    "two": ({"seed": 1, "stride": 2}, "stride 1, not 2; seed 0, not 1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_states_of_other_loaders(store: Path, name: str) -> None:
    changes, text = OTHERS[name]
    state = loader_of(store).state_dict()
    other = loader_of(store, **changes)
    if not text:  # other words, the same windows
        other.load_state_dict(state)
        return
    with pytest.raises(
        ValueError,
        match=r"expected the state of a loader with the same windows in the same order, got one with .*"
        + text,
    ):
        other.load_state_dict(state)


def test_states_of_another_pool(tmp_path: Path, many: Path) -> None:
    arrays = {"id": None}
    state = loader_of(many, arrays=arrays, shuffle="chunk", cache_bytes=30_000).state_dict()
    other = loader_of(many, arrays=arrays, shuffle="chunk", cache_bytes=60_000)
    with pytest.raises(
        ValueError,
        match=r"pool \(of cache_bytes\) '4 runs of 800 rows, of chunks of 50', not '8 runs",
    ):
        other.load_state_dict(state)
    # As many runs of as many rows, but their windows are others.
    orders = []
    for chunk in (64, 128):
        write(tmp_path / str(chunk), np.arange(10_000), chunk)
        loader = loader_of(
            tmp_path / str(chunk), arrays=arrays, length=1, shuffle="chunk", cache_bytes=40_000
        )
        orders.append((loader.state_dict(), ids(loader)))
    assert orders[0][1] != orders[1][1]
    with pytest.raises(
        ValueError,
        match=r"'4 runs of 1024 rows, of chunks of 64', not '4 runs of 1024 rows, of chunks of 128'",
    ):
        loader.load_state_dict(orders[0][0])


@pytest.mark.parametrize(
    "state",
    [{}, None, [], "x", 3, {"epoch": 0, "position": 0}, {"epoch": 0, "order": {}, "position": None},
     {"epoch": 0.5, "order": {}, "position": 0}],
)  # fmt: skip
def test_what_is_no_state(store: Path, state: Any) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"expected what state_dict() gave, got {state!r}")
    ):
        loader_of(store).load_state_dict(state)


@pytest.mark.parametrize("order", [None, [], {}, {"seed": 1}])
def test_states_with_another_order(store: Path, order: Any) -> None:
    loader = loader_of(store)
    with pytest.raises(ValueError, match="got one with windows None, not 497; "):
        loader.load_state_dict(loader.state_dict() | {"order": order})


@pytest.mark.parametrize("position", [-1, SIZE + 1, 10**9])
def test_positions_outside(store: Path, position: int) -> None:
    loader = loader_of(store)
    with pytest.raises(ValueError, match=f"expected a position up to {SIZE}, got {position}"):
        loader.load_state_dict(loader.state_dict() | {"position": position})
    assert len(ids(loader)) == SIZE


def test_numpy_integers(store: Path) -> None:
    """They are as good as others, and the state is JSON nevertheless."""
    number: Any = np.int32
    loader = loader_of(
        store,
        arrays={"id": Field("id", number(3), number(1), number(2))},
        **{name: number(3) for name in ("length", "stride", "batch_size", "seed", "world_size")},
        **{name: number(2) for name in ("rank", "prefetch")},
        **{name: np.uint64(1 << 20) for name in ("prefetch_bytes", "cache_bytes")},
    )
    loader.set_epoch(number(2))
    loop = iter(loader)
    assert ids([next(loop)]) == [20, 23, 26]
    assert kept(loader)["position"] == 9
    loader.load_state_dict(loader.state_dict() | {"position": number(9)})
    assert kept(loader)["position"] == 9


# ---- Memory of batches


def views(batch: dict[str, NDArray[Any]]) -> list[Any]:
    """Ways to keep the memory of a batch, without the batch."""
    rows = batch["id"]
    return [
        rows[1:, ::2], memoryview(rows), np.from_dlpack(rows), rows.T.reshape(LENGTH, -1)[1],
        rows.view("u8"), np.asarray(memoryview(rows[2])), iter(rows), rows.flat,
    ]  # fmt: skip


def seen(view: Any) -> Any:
    return (
        [np.asarray(row).tolist() for row in view]
        if isinstance(view, Iterator)
        else np.asarray(view).tolist()
    )


@pytest.mark.parametrize("which", range(8))
def test_what_is_kept_does_not_change(store: Path, which: int) -> None:
    options: dict[str, Any] = {"batch_size": 6, "shuffle": "global", "prefetch": 2}
    want = [seen(views(batch)[which]) for batch in loader_of(store, **options)]
    held = [views(batch)[which] for batch in loader_of(store, **options)]
    assert [seen(view) for view in held] == want
    # Some of them, others are let go.
    held = [
        view
        for i, b in enumerate(loader_of(store, **options))
        for view in views(b)[which : which + 1]
        if i % 3 == 0
    ]
    assert [seen(view) for view in held] == want[::3]


def in_a_slab(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Aligned memory: a view of a larger array, which views of it refer to instead."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    slab = np.empty(nbytes + 64, np.uint8)
    start = -slab.ctypes.data % 64
    return slab[start : start + nbytes].view(dtype).reshape(shape)


@pytest.mark.parametrize("allocate", [np.empty, np.zeros, in_a_slab])
def test_memory_of_the_caller(store: Path, allocate: Any) -> None:
    made = []

    def counting(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        made.append(shape)
        return allocate(shape, dtype)  # type: ignore[no-any-return]

    loader = loader_of(store, prefetch=2)
    for batch in loader.iterate(allocate=counting):
        assert allocate is not in_a_slab or batch["id"].ctypes.data % 64 == 0
    assert set(made) == {(8, LENGTH)}
    assert len(made) <= 3 + 1  # the batch of the loop is let go when the next one is there
    held = [batch["id"] for batch in loader.iterate(allocate=counting)]
    assert ids([{"id": rows} for rows in held]) == list(range(SIZE))


def addresses(loader: WindowLoader) -> list[int]:
    return [batch["id"].ctypes.data for batch in loader]


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_memory_is_used_again(store: Path, reuse: bool, prefetch: int) -> None:
    loader = loader_of(store, batch_size=7, prefetch=prefetch, reuse=reuse)
    found = addresses(loader)
    assert len(found) == 71
    assert len(set(found)) <= prefetch + 2
    if reuse:  # however much the consumer keeps
        loader.set_epoch(0)
        kept_batches = list(loader)
        assert len({batch["id"].ctypes.data for batch in kept_batches}) <= prefetch + 2


def test_what_was_kept_is_let_go(store: Path) -> None:
    """Memory beyond that of the batches in flight is the consumer's alone."""
    made: list[weakref.ref[Any]] = []

    def watched(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        memory = np.empty(shape, dtype)
        made.append(weakref.ref(memory))
        return memory

    loop = loader_of(store, prefetch=2).iterate(allocate=watched)
    held = [next(loop) for _ in range(40)]
    assert len(made) >= 40
    del held
    assert sum(memory() is not None for memory in made) <= 3 + 1
    assert ids(loop) == list(range(320, SIZE))


def test_a_reused_batch_lasts_until_the_next_one(store: Path) -> None:
    for prefetch in (1, 3):
        loop = iter(loader_of(store, batch_size=5, prefetch=prefetch, reuse=True))
        want = 0
        for batch in loop:
            if want % 50 == 0:
                time.sleep(0.01)  # for the thread to go on as far as it may
            assert ids([batch]) == list(range(want, want + len(batch["id"])))
            want += len(batch["id"])
        assert want == SIZE


def test_buffers_of_large_batches(store: Path) -> None:
    loader = loader_of(store, prefetch=100, prefetch_bytes=3 * 8 * LENGTH * 8 + 5, reuse=True)
    assert len({*addresses(loader)}) == 4
    assert "3 ready" in loader.describe()
    assert "1 ready" in loader_of(store, prefetch_bytes=0).describe()


# ---- The thread in the background


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A store whose chunk of rows 250 to 259 is not what its codec wrote."""
    array = zarr.create_array(tmp_path / "a", shape=(500,), chunks=(10,), dtype="i8")
    array[:] = np.arange(500)
    (tmp_path / "a" / "c" / "25").write_bytes(b"no zstd")
    return tmp_path / "a"


@pytest.mark.parametrize("prefetch", [1, 4, 1000])
def test_errors_reach_the_consumer(broken: Path, prefetch: int) -> None:
    loader = loader_of(broken, arrays={"id": None}, length=1, batch_size=10, prefetch=prefetch)
    with pytest.raises(tempozarr.CodecError) as want:
        tempozarr.open_array(broken)[250]
    loop = iter(loader)
    found = [next(loop) for _ in range(25)]
    assert ids(found) == list(range(250))
    with pytest.raises(tempozarr.CodecError) as got:
        next(loop)
    assert str(got.value) == str(want.value)
    assert "25" in str(got.value)
    assert list(loop) == []
    wait_for(lambda: not prefetchers())
    # The epoch is not finished; and goes on once the chunk is mended.
    assert (loader.epoch, loader.state_dict()["position"]) == (0, 250)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(tempozarr.CodecError):
        list(loader)
    (broken / "c" / "25").unlink()
    loader.load_state_dict(loader.state_dict() | {"position": 260})
    assert ids(loader)[:3] == [260, 261, 262]
    assert loader.epoch == 1


def test_values_that_a_cast_refuses(store: Path) -> None:
    loader = loader_of(store, arrays={"id": Field("id", dtype="u1")}, length=1, batch_size=100)
    loop = iter(loader)
    assert ids([next(loop), next(loop)]) == list(range(200))
    with pytest.raises(ValueError, match=r"/id/c/36: element \d+ \(256\) has no value as uint8"):
        next(loop)


def test_a_store_that_goes_away(tmp_path: Path) -> None:
    store = write(tmp_path / "a", np.arange(100), 10)
    loader = loader_of(store, arrays={"id": None}, length=1, batch_size=10, prefetch=1)
    loop = iter(loader)
    next(loop)
    for file in (store / "c").iterdir():
        file.unlink()
        file.symlink_to(file)
    with pytest.raises(tempozarr.StoreError, match=r"/a/c/\d"):
        list(loop)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def leave(loop: Iterator[Any]) -> None:
    next(loop)


def leave_with_close(loop: Any) -> None:
    next(loop)
    loop.close()
    assert list(loop) == []
    loop.close()


def leave_at_once(loop: Iterator[Any]) -> None: ...


def leave_by_an_error(loop: Iterator[Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in loop]


@pytest.mark.parametrize("how", [leave, leave_with_close, leave_at_once, leave_by_an_error])
def test_loops_that_end_early_leave_no_threads(store: Path, how: Callable[[Any], None]) -> None:
    loader = loader_of(store, shuffle="global")
    list(loader)
    loader.set_epoch(0)
    before, python = tasks(), threading.active_count()
    for _ in range(200):
        how(iter(loader))
        assert threading.active_count() == python
    deadline = time.monotonic() + 60
    while tasks() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # Python has joined the last thread a moment before the system ends it
    assert tasks() <= before
    assert (loader.epoch, len(ids(loader))) == (0, SIZE)


def test_close_does_not_finish_an_epoch(store: Path) -> None:
    loader = loader_of(store)
    for batch in (loop := loader.iterate()):
        loop.close()  # type: ignore[attr-defined]
        assert len(batch["id"]) == 8
    assert (loader.epoch, loader.state_dict()["position"]) == (0, 8)


def test_what_is_let_go_is_collected(store: Path) -> None:
    loader = loader_of(store)
    loop = iter(loader)
    batch = next(loop)
    gone = weakref.ref(loader)
    del loader
    assert prefetchers()  # the loop goes on without the name of the loader
    assert len(ids([batch, *loop])) == SIZE
    del loop
    wait_for(lambda: gc.collect() >= 0 and gone() is None)
    # A cycle that the collector finds, in whatever thread.
    cycle: list[Any] = [iter(loader_of(store))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    wait_for(lambda: not prefetchers())


def test_two_loaders_in_one_thread(store: Path, many: Path) -> None:
    one = loader_of(store, shuffle="global")
    two = loader_of(many, arrays={"id": None}, shuffle="chunk", batch_size=160)
    pairs = list(zip(one, two, strict=True))
    assert sorted(ids([first for first, _ in pairs])) == list(range(SIZE))
    assert sorted(ids([second for _, second in pairs])) == list(range(9997))


def test_loaders_in_threads(store: Path) -> None:
    shared = loader_of(store, shuffle="global")
    want = ids(shared)
    results: dict[int, list[int]] = {}

    def run(i: int) -> None:
        loader = loader_of(store, shuffle="global") if i % 2 else shared.with_rank(0, 1)
        loader.set_epoch(0)
        results[i] = ids(loader)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [results[i] for i in range(6)] == [want] * 6


def test_a_loop_may_change_hands(store: Path) -> None:
    loop = iter(loader_of(store))
    found: list[int] = []
    lock = threading.Lock()

    def take() -> None:
        for batch in loop:
            with lock:
                found.extend(ids([batch]))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == list(range(SIZE))


# ---- Numbers and words


def test_stats(many: Path) -> None:
    loader = loader_of(many, arrays={"id": None}, length=50, stride=50, batch_size=8, cache_bytes=0)
    empty = loader.stats()
    assert (empty.batches, empty.windows, empty.misses, empty.waited_for["consumer"]) == (
        0,
        0,
        0,
        1,
    )
    assert str(empty).startswith("0 windows in 0.00 s (0 a second)\nconsumer at work 100.0%")
    for _ in loader:
        time.sleep(0.005)
    stats = loader.stats()
    assert (stats.batches, stats.windows) == (25, 200)
    assert (stats.hits, stats.misses) == (0, 200)
    assert stats.bytes_decoded == 80_000
    assert stats.bytes_read == sum(file.stat().st_size for file in (many / "c").iterdir())
    assert stats.elapsed >= 25 * 0.005
    assert 0 <= stats.waited <= stats.elapsed
    shares = stats.waited_for
    assert set(shares) == {"consumer", "reading", "decoding", "copying"}
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares.values())
    assert shares["consumer"] == pytest.approx(1 - stats.waited / stats.elapsed)
    assert shares["consumer"] > 0.1
    assert re.fullmatch(
        r"200 windows in 0\.\d\d s \([\d,]+ a second\)\n"
        r"consumer at work [\d.]+% of the time; waiting for reading [\d.]+%, decoding [\d.]+%, copying [\d.]+%\n"
        r"[\d.]+ KiB read, 78.1 KiB decoded: 200 chunks, and 0 found decoded",
        str(stats),
    )
    list(loader)
    assert loader.stats().windows == 400


def test_hits_and_misses(many: Path) -> None:
    loader = loader_of(many, arrays={"id": None}, length=25, stride=25, batch_size=1)
    list(loader)
    assert (loader.stats().hits, loader.stats().misses) == (200, 200)
    list(loader)
    assert (loader.stats().hits, loader.stats().misses) == (600, 200)
    loop = iter(loader)
    next(loop)
    next(loop)
    del loop
    assert loader.stats().windows == 802  # what was delivered, not what was ready


def test_waiting_is_counted(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(40, 200_000), chunks=(10, 200_000), dtype="f4")
    array[:] = np.random.default_rng(1).normal(size=array.shape)
    loader = loader_of(
        tmp_path / "a", arrays={"x": None}, length=10, stride=10, batch_size=1, cache_bytes=0
    )
    list(loader)
    stats = loader.stats()
    assert 0.1 * stats.elapsed < stats.waited <= stats.elapsed
    assert stats.waited_for["decoding"] > stats.waited_for["copying"]


def test_describe(store: Path, many: Path) -> None:
    arrays: Any = {
        "x": "book",
        "y": Field("mid", 1, horizon=1, dtype="float32"),
        "z": Field("id", 2, 3, -1),
    }
    loader = loader_of(
        {"a": store, "b": [store, store]}, arrays=arrays, stride=2, seed=7, shuffle="global", rank=1, world_size=3
    )  # fmt: skip
    assert loader.describe().splitlines() == [
        f"{248 + 498:,} windows that touch 6 rows, one every 2 rows",
        "of 1,500 rows in 2 ranges without a gap, of 3 sources in 2 series",
        "  x: book (int32), shape (8, 4, 2, 3), rows 0 to 3 in steps of 1 from the first of a window",
        "  y: mid (float64 cast to float32), shape (8, 1, 1), rows 4 to 4 in steps of 1 from the first of a window",
        "  z: id (int64), shape (8, 2), rows -1 to 2 in steps of 3 from the first of a window",
        f"{-(-746 // 24)} batches of up to 8 windows in an epoch for rank 1 of 3, 928 B each, 4 ready",
        "order: every window anywhere: 400 B to decode for a window, less what is found decoded; seed 7",
        "holds up to 256 MiB: 256 MiB of decoded chunks and 5 batches",
    ]
    assert "order: that of the rows" in loader_of(store).describe()
    text = loader_of(
        many, arrays={"id": None}, shuffle="chunk", cache_bytes=30_000, seed=3
    ).describe()
    assert "  id: the array (int64), shape (8, 4), rows 0 to 3" in text
    assert (
        "order: runs of 16 chunks (800 rows) shuffled, and the windows of 4 runs at a time (26.6 KiB decoded); "
        "each chunk is decoded 1.06 times in an epoch; seed 3"
    ) in text


def test_repr_and_len(store: Path) -> None:
    loader = loader_of(store, shuffle="chunk", batch_size=10)
    assert (
        repr(loader) == "<tempozarr.WindowLoader 497 windows, 50 batches, shuffle='chunk', epoch 0>"
    )
    list(loader)
    assert repr(loader).endswith("epoch 1>")
    lengths = {
        (rank, drop): len(loader_of(store, batch_size=10, rank=rank, world_size=16, drop_last=drop))
        for rank in (0, 15)
        for drop in (False, True)
    }
    assert lengths == {(0, False): 4, (15, False): 4, (0, True): 3, (15, True): 3}
    # 17 windows of the last global batch of 480 go around.
    assert sum(sizes(loader_of(store, batch_size=10, rank=0, world_size=16))) == 31


# ---- Mistakes

FIELD = r"expected a field of at least 1 row in steps of at least 1, got length "
MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"length": 0}, ValueError, "length: expected at least 1, got 0"),
    ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
    ({"batch_size": -1}, ValueError, "batch_size: expected at least 1, got -1"),
    ({"prefetch": 0}, ValueError, "prefetch: expected at least 1, got 0"),
    ({"prefetch_bytes": -1}, ValueError, "prefetch_bytes: expected at least 0, got -1"),
    ({"cache_bytes": -1}, ValueError, "cache_bytes: expected at least 0, got -1"),
    ({"world_size": 0}, ValueError, "world_size: expected at least 1, got 0"),
    ({"rank": -1}, ValueError, "rank: expected at least 0, got -1"),
    ({"rank": 1}, ValueError, "expected a rank below 1, got 1"),
    ({"length": 4.0}, TypeError, "'float' object cannot be interpreted as an integer"),
    ({"seed": None}, TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ({"shuffle": True}, ValueError, "shuffle: expected False, 'global' or 'chunk', got True"),
    ({"shuffle": "all"}, ValueError, "shuffle: expected False, 'global' or 'chunk', got 'all'"),
    ({"arrays": {}}, ValueError, r"arrays: expected at least one, as in \{'x': 'book'\}"),
    ({"arrays": {"x": 3}}, TypeError, r"arrays\['x'\]: expected the name of an array, None or a tempozarr.Field, got 3"),
    ({"arrays": {"x": Field("id", dtype="c8")}}, TypeError, r"arrays\['x'\]: expected numbers to cast to dtype complex64, got int64; leave dtype out"),
    ({"arrays": {"x": Field("id", dtype="M8[s]")}}, TypeError, r"arrays\['x'\]: expected numbers to cast to dtype datetime64\[s\], got int64"),
    ({"arrays": {"x": Field("date", dtype="i8")}}, TypeError, r"arrays\['x'\]: expected numbers to cast to dtype int64, got datetime64\[s\]"),
    ({"arrays": {"x": Field("date", dtype="bfloat16")}}, TypeError, r"arrays\['x'\]: expected numbers to cast to dtype bfloat16, got datetime64\[s\]"),
    ({"length": ROWS + 1}, ValueError, "expected at least one range of 501 rows, which a window touches, got 1 range of up to 500 rows"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "text"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_mistakes(store: Path, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    if not (store / "date").exists():
        write(store / "date", np.arange(ROWS).astype("M8[s]"), 100)
    with pytest.raises(kind, match=text):
        loader_of(store, **options)


def test_mistakes_about_fields() -> None:
    with pytest.raises(
        ValueError,
        match=r"expected offset or horizon, got both \(1 and 2\): offset counts from the first row of the loader's window, horizon from its last",
    ):
        Field("id", offset=1, horizon=2)
    for length, step in ((0, 1), (-1, 1), (None, 0), (3, -2)):
        with pytest.raises(ValueError, match=f"{FIELD}{length}, step {step}"):
            Field("id", length, step)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        Field("id", 2.5)  # type: ignore[arg-type]


def test_sources_that_differ(tmp_path: Path, store: Path) -> None:
    write(tmp_path / "narrow", np.arange(20, dtype="i4"), 5)
    write(tmp_path / "wide", values(range(20), 2), 5)
    for other in ("narrow", "wide"):
        with pytest.raises(
            ValueError,
            match=rf"expected arrays of one data type and row shape, got <tempozarr.Array .*/id .*> and <tempozarr.Array .*/{other} ",
        ):
            loader_of([store / "id", tmp_path / other], arrays={"id": None})


def test_arrays_that_have_lost_rows(tmp_path: Path) -> None:
    array = write(tmp_path / "a", np.arange(100), 10)
    loader = loader_of(array, arrays={"id": None})
    pickled = pickle.dumps(loader)
    zarr.open_array(array).resize((50,))
    with pytest.raises(
        ValueError,
        match=r"<tempozarr.Array .*/a \(50,\).*> has lost rows: it had 100 when the loader was made",
    ):
        pickle.loads(pickled)
    zarr.open_array(array).resize((120,))  # more rows are no harm, and no windows
    assert sum(sizes(pickle.loads(pickled))) == 97
    assert sum(sizes(loader_of(array, arrays={"id": None}))) == 117


def test_random_steps(store: Path) -> None:
    """Whatever is called in whatever order, the state says what comes next."""
    rng = random.Random(4)
    options = {"shuffle": "global", "batch_size": 50}
    orders: dict[int, list[int]] = {}
    for epoch in range(8):
        loader = loader_of(store, **options)
        loader.set_epoch(epoch)
        orders[epoch] = ids(loader)
    loader = loader_of(store, **options)
    loop = iter(loader)
    for _ in range(300):
        epoch, position = (loader.state_dict()[key] for key in ("epoch", "position"))
        match rng.randrange(12):
            case 0:
                loader.set_epoch(rng.randrange(6))
                loop = iter(loader)
            case 1:
                loop = iter(loader)
            case 2:
                loader.load_state_dict(kept(loader))
                loop = iter(loader)
            case 3:
                loader = pickle.loads(pickle.dumps(loader))
                loop = iter(loader)
            case 4 if epoch > 5:
                loader.set_epoch(0)
                loop = iter(loader)
            case _:
                batch = next(loop, None)
                if batch is None:
                    assert position >= SIZE
                    assert (loader.epoch, kept(loader)["position"]) == (epoch + 1, 0)
                    loader.set_epoch((epoch + 1) % 6)
                    loop = iter(loader)
                else:
                    found = ids([batch])
                    assert found == orders[epoch][position : position + 50]
