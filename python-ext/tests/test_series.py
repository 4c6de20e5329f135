"""Which rows windows touch: sources, gaps of time, `where`, `rows` and splits, against brute force."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import examples
from numbered import MEMBERS, Rows, Source, ids, values, wanted, write
from tempozarr import Field, WindowLoader

FIELDS = {"id": Field("id"), "book": Field("book"), "mid": Field("mid")}


def made(folder: Path, *lengths: int, times: Any = None, good: Any = None) -> list[Source]:
    """Write sources of one series as `folder/0`, `folder/1`, ...; cut times and masks to them."""
    ends = list(itertools.accumulate(lengths, initial=0))
    sources = []
    for i, (first, stop) in enumerate(itertools.pairwise(ends)):
        source = Source(
            range(first, stop),
            None if times is None else times[first:stop],
            None if good is None else good[first:stop],
        )
        source.write(folder / str(i))
        sources.append(source)
    return sources


def paths(folder: Path, sources: list[Source]) -> list[Path]:
    return [folder / str(i) for i in range(len(sources))]


def check(loader: WindowLoader, anchors: list[int], length: int, fields: dict[str, Field]) -> None:
    """Compare an epoch in the order of rows with the windows at `anchors`, row by row."""
    batches = list(loader)
    assert sum(len(batch["id"]) for batch in batches) == len(anchors)
    for name, field in fields.items():
        row, dtype, _ = MEMBERS[name]
        got = np.concatenate([batch[name] for batch in batches])
        want = np.stack([wanted(a, field, length, *row, dtype=dtype) for a in anchors])
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "lengths", [(40,), (20, 20), (1, 38, 1), (3, 0, 2, 0, 0, 35), (0, 40), (40, 0), (1,) * 40]
)
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_windows_cross_the_sources_of_a_series(
    tmp_path: Path, lengths: tuple[int, ...], step: int
) -> None:
    sources = made(tmp_path, *lengths)
    fields = {"id": Field("id"), "book": Field("book", 5, step), "mid": Field("mid", 2, step, -3)}
    loader = WindowLoader(paths(tmp_path, sources), fields, length=4, batch_size=9)
    check(loader, Rows({"": sources}).anchors(4, fields=fields.values()), 4, fields)


@pytest.mark.parametrize("stride", [1, 2, 5, 100])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_no_window_crosses_series(tmp_path: Path, stride: int, length: int) -> None:
    sources = made(tmp_path, 7, 13, 0, 10, 2)
    where = paths(tmp_path, sources)
    series = {"a": sources[:2], "b": sources[2:4], "c": sources[4:]}
    given_: dict[str, Any] = {"a": where[:2], "b": tuple(where[2:4]), "c": where[4]}
    loader = WindowLoader(given_, FIELDS, length=length, stride=stride, batch_size=3)
    check(loader, Rows(series).anchors(length, stride), length, FIELDS)


@pytest.mark.parametrize(
    "rows",
    [
        (None, None),
        (0, 9),
        (5, None),
        (-9, None),
        (None, -8),
        (-12, -2),
        (3, 100),
        (-100, 11),
        (9, 10),
    ],
)
def test_rows(tmp_path: Path, rows: tuple[int | None, int | None]) -> None:
    sources = made(tmp_path, 20, 6, 14)
    loader = WindowLoader(paths(tmp_path, sources), FIELDS, length=1, batch_size=5, rows=rows)
    check(loader, Rows({"": sources}, rows).anchors(1), 1, FIELDS)
    if rows != (9, 10):
        loader = WindowLoader(paths(tmp_path, sources), FIELDS, length=4, batch_size=5, rows=rows)
        check(loader, Rows({"": sources}, rows).anchors(4), 4, FIELDS)


def test_rows_make_members_of_other_lengths_fit(tmp_path: Path) -> None:
    source = Source(range(20))
    source.write(tmp_path)
    write(tmp_path / "more", np.arange(25), 4)
    # The text of the error promises this.
    with pytest.raises(
        ValueError, match=r"expected arrays with the same rows, got \{'id': 20, 'more': 25\}"
    ):
        WindowLoader(tmp_path, {"id": "id", "more": "more"}, length=3, batch_size=4)


# Jumps of each kind of time: the times of rows 0 to 9, the limit, and the rows behind a gap.
GAPS: dict[str, tuple[Any, Any, list[int]]] = {
    "none": (np.arange(10), 1, []),
    "forward": (np.array([0, 1, 2, 9, 10, 11, 12, 20, 21, 22]), 1, [3, 7]),
    "at the limit": (np.array([0, 2, 4, 6, 9, 11, 13, 15, 17, 19]), 2, [4]),
    "backward": (np.array([10, 11, 12, 5, 6, 7, 8, 9, 0, 1]), 3, [3, 8]),
    "a little backward": (np.array([10, 11, 12, 10, 11, 12, 13, 14, 15, 16]), 2, []),
    "unsigned": (np.array([5, 6, 0, 1, 2, 2**63, 2**63 + 1, 0, 1, 2], "u8"), 4, [2, 5, 7]),
    "narrow": (np.array([-128, -127, 127, 126, -128, -127, -126, 0, 1, 2], "i1"), 5, [2, 4, 7]),
    "narrow unsigned": (np.array([0, 1, 255, 254, 0, 1, 2, 3, 4, 5], "u1"), 5, [2, 4]),
    "floats": (np.array([0, 0.5, 1, 2.5, 3, 3.5, 2, 2.5, 3, 3.5]), 1.0, [3, 6]),
    "half": (np.array([0, 1, 2, 3, 1000, 1001, 1002, 1003, 1004, 1005], "f2"), 1, [4]),
    "nanoseconds": (
        np.array([0, 1, 2, 9, 10, 11, 12, 4, 5, 6], "M8[ns]"), np.timedelta64(1, "ns"), [3, 7],
    ),
    "another unit": (
        np.array([0, 1, 2, 9, 10, 11, 12, 4, 5, 6], "M8[s]"), np.timedelta64(5000, "ms"), [3, 7],
    ),
    "not a number": (np.array([0, 1, np.nan, 3, 4, 5, 6, 7, 8, 9]), 1, [2, 3]),
    "not a time": (
        np.array([0, 1, "NaT", "NaT", 4, 5, 6, 7, 8, 9], "M8[s]"), np.timedelta64(1, "s"), [2, 3, 4],
    ),
    "always": (np.arange(10), -1, list(range(1, 10))),
}  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", GAPS)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    monkeypatch.setattr("tempozarr._series._BLOCK", 4)  # jumps between what is looked at at once
    times, limit, behind = GAPS[name]
    Source(range(10)).write(tmp_path / "s")
    write(tmp_path / "s" / "time", times, chunk)
    edges = [0, *behind, 10]
    for length in (1, 2, 3):
        want = [a for lo, hi in itertools.pairwise(edges) for a in range(lo, hi - length + 1)]
        if want:
            told: dict[str, Any] = {
                "length": length,
                "batch_size": 4,
                "time": "time",
                "max_gap": limit,
            }
            assert ids(WindowLoader(tmp_path / "s", {"id": "id"}, **told)) == want


def test_times_in_big_endian_v2(tmp_path: Path) -> None:
    for i, (numbers, times) in enumerate(
        ((range(5), [0, 1, 5, 6, 7]), (range(5, 9), [8, 9, 12, 13]))
    ):
        Source(numbers).write(tmp_path / str(i))
        array = zarr.create_array(
            tmp_path / str(i) / "time", shape=(len(times),), chunks=(2,), dtype=">i8", zarr_format=2
        )
        array[:] = times
    both = [tmp_path / "0", tmp_path / "1"]
    loader = WindowLoader(both, {"id": "id"}, length=2, batch_size=4, time="time", max_gap=2)
    assert ids(loader) == [0, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("kind", ["i8", "f4", "u2", "M8[ms]"])
def test_gaps_between_sources(tmp_path: Path, kind: str) -> None:
    times = np.array([0, 1, 2, 3, 9, 10, 10, 11, 20, 21]).astype(kind)
    sources = made(tmp_path, 4, 0, 2, 1, 1, 2, times=times)
    limit = np.timedelta64(1, "ms") if kind[0] == "M" else 1
    loader = WindowLoader(
        paths(tmp_path, sources), FIELDS, length=2, batch_size=4, time="time", max_gap=limit
    )
    anchors = [0, 1, 2, 4, 5, 6, 8]
    assert Rows({"": sources}, max_gap=limit).anchors(2) == anchors
    check(loader, anchors, 2, FIELDS)


def test_sources_are_in_the_order_of_time(tmp_path: Path) -> None:
    sources = made(tmp_path, 3, 0, 3, times=np.array([5, 6, 7, 6, 8, 9]))
    where = paths(tmp_path, sources)
    text = f"{where[2]} begins before {where[1]} ends, at 6: expected the sources of a series in the order of time"
    with pytest.raises(ValueError, match=re.escape(text)):
        WindowLoader(where, {"id": "id"}, length=2, batch_size=4, time="time", max_gap=9)
    # Other series begin when they like.
    apart = {"a": where[0], "b": where[2]}
    loader = WindowLoader(apart, {"id": "id"}, length=3, batch_size=4, time="time", max_gap=9)
    assert ids(loader) == [0, 3]


WAYS: dict[str, Callable[[NDArray[np.bool_]], Any]] = {
    "member": lambda good: "good",
    "mask": lambda good: good,
    "list of bools": lambda good: good.tolist(),
    "pairs": lambda good: pairs(good),  # noqa: PLW0108 (defined below)
    "array of pairs": lambda good: np.array(pairs(good), np.uint16).reshape(-1, 2),
    "touching and empty pairs": lambda good: [
        [i + j, i + 1] for i in np.flatnonzero(good).tolist() for j in (0, 1)
    ],
    "by series": lambda good: {"": good},
}


def pairs(good: NDArray[np.bool_]) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(good.astype(int), prepend=0, append=0))
    return np.reshape(edges, (-1, 2)).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr("tempozarr._series._BLOCK", 7)
    good = np.random.default_rng(4).random(60) < 0.9
    sources = made(tmp_path, 10, 25, 0, 25, good=good)
    anchors = Rows({"": sources}).anchors(3)
    assert 20 < len(anchors) < 55
    loader = WindowLoader(
        paths(tmp_path, sources), FIELDS, length=3, batch_size=4, where=WAYS[way](good)
    )
    check(loader, anchors, 3, FIELDS)


def test_where_of_several_series(tmp_path: Path) -> None:
    sources = made(tmp_path, 10, 10, 10, 10)
    where = paths(tmp_path, sources)
    series: dict[str, Any] = {"a": where[:2], "b": where[2], "c": where[3]}
    allowed: dict[str, Any] = {"a": [(0, 5), (8, 20)], "b": np.ones(10, bool), "c": []}
    loader = WindowLoader(series, FIELDS, length=4, batch_size=4, where=allowed)
    rows = Rows(
        {"a": sources[:2], "b": sources[2:3], "c": sources[3:]}, excluded={5, 6, 7, *range(30, 40)}
    )
    check(loader, rows.anchors(4), 4, FIELDS)


NONE = r"expected at least one range of 4 rows, which a window touches, got {}"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"where": "good"}, "0 ranges of up to 0 rows"),
        ({"where": []}, "0 ranges of up to 0 rows"),
        ({"where": [(2, 5), (7, 9)]}, "2 ranges of up to 3 rows"),
        ({"rows": (0, 0)}, "0 ranges of up to 0 rows"),
        ({"rows": (1, 4)}, "1 range of up to 3 rows"),
        ({"time": "time", "max_gap": 1}, "4 ranges of up to 3 rows"),
    ],
)
def test_no_window(tmp_path: Path, options: dict[str, Any], found: str) -> None:
    times = np.repeat(np.arange(4) * 10, 3)[:10]
    made(tmp_path, 10, times=times, good=np.zeros(10, bool))
    with pytest.raises(ValueError, match=NONE.format(found)):
        WindowLoader(tmp_path / "0", {"id": "id"}, length=4, batch_size=4, **options)


@pytest.mark.parametrize(
    "options", [{}, {"where": "good"}, {"time": "time", "max_gap": 1}, {"where": np.ones(0, bool)}]
)
def test_sources_without_rows(tmp_path: Path, options: dict[str, Any]) -> None:
    sources = made(tmp_path, 0, 0, times=np.arange(0), good=np.zeros(0, bool))
    with pytest.raises(ValueError, match=NONE.format("0 ranges of up to 0 rows")):
        WindowLoader(paths(tmp_path, sources), {"id": "id"}, length=4, batch_size=4, **options)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give folders that do not exist yet."""
    folder = tmp_path_factory.mktemp("fuzz")
    return (folder / str(i) for i in itertools.count())


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, list[Source]], dict[str, Any], dict[str, Field]]:
    """Draw series of sources, what a loader is told of their rows, and what it reads."""
    series: dict[str, list[Source]] = {}
    first = 0
    kind = draw(st.sampled_from(["i8", "f8", "M8[us]", "i2"]))
    for name in draw(st.sampled_from(["a", "ab", "abc"])):
        time = draw(st.integers(-50, 50))
        series[name] = []
        for rows in draw(st.lists(st.integers(0, 14), min_size=1, max_size=4)):
            steps = draw(
                st.lists(st.sampled_from([0, 1, 1, 1, 1, 1, 2, 3, 9]), min_size=rows, max_size=rows)
            )
            times = time + np.cumsum([0, *steps])
            if rows > 3 and draw(st.booleans()):  # backward, but not behind its beginning
                times[2:-1] -= draw(st.integers(0, int(times[2] - times[0])))
            good = np.array(
                draw(st.lists(st.sampled_from([True] * 9 + [False]), min_size=rows, max_size=rows)),
                bool,
            )
            series[name].append(Source(range(first, first + rows), times[:rows].astype(kind), good))
            first, time = first + rows, max(time, int(times.max()))
    places: Any = st.sampled_from([(), (-2,), (1,), (None, 1), (None, -1)])  # offset, horizon
    fields = {
        name: Field(
            name,
            draw(st.none() | st.integers(1, 5)),
            draw(st.integers(1, 3)),
            *draw(places),
        )
        for name in ("book", "mid")[: draw(st.integers(0, 2))]
    }
    limit: Any = draw(st.sampled_from([None, 0, 1, 2, 5]))
    options: dict[str, Any] = {
        "length": draw(st.integers(1, 5)),
        "stride": draw(st.integers(1, 4)),
        "rows": draw(st.none() | st.tuples(*[st.none() | st.integers(-9, 9)] * 2)),
        "max_gap": np.timedelta64(limit, "us") if kind[0] == "M" and limit is not None else limit,
        "where": draw(st.sampled_from([None, "member", "masks", "pairs"])),
    }
    return series, options, {"id": Field("id")} | fields


@given(
    situations(), st.sampled_from([False, "global", "chunk"]), st.integers(1, 9), st.integers(1, 3)
)
@settings(max_examples=examples(120))
def test_everything_together(
    fresh: Iterator[Path], situation: Any, shuffle: Any, batch_size: int, world_size: int
) -> None:
    series, options, fields = situation
    folder = next(fresh)
    where: dict[str, list[Path]] = {
        name: [source.write(folder / name / str(i)) for i, source in enumerate(sources)]
        for name, sources in series.items()
    }
    masks = {
        n: np.concatenate([s.good for s in some if s.good is not None])
        for n, some in series.items()
    }
    way = options.pop("where")
    allowed = {
        None: None,
        "member": "good",
        "masks": masks,
        "pairs": {n: pairs(m) for n, m in masks.items()},
    }[way]
    oracle = Rows(series, options["rows"] or (None, None), options["max_gap"])
    if way is None:
        oracle.series = {
            n: [Source(s.numbers, s.times) for s in some] for n, some in series.items()
        }
    length = options["length"]
    anchors = oracle.anchors(length, options["stride"], fields.values())

    def made(rank: int) -> WindowLoader:
        return WindowLoader(
            where, fields, time="time", where=allowed, shuffle=shuffle, batch_size=batch_size, rank=rank,
            world_size=world_size, **options,
        )  # fmt: skip

    if not anchors:
        with pytest.raises(ValueError, match="expected at least one range"):
            made(0)
        return
    loaders = [made(rank) for rank in range(world_size)]
    found: dict[int, dict[str, NDArray[Any]]] = {}
    batches = 0
    for loader in loaders:
        for batch in loader:
            batches += 1
            for i, first in enumerate(batch["id"][:, 0].tolist()):
                assert first not in found
                found[first] = {name: rows[i] for name, rows in batch.items()}
    assert sorted(found) == anchors
    assert batches == sum(map(len, loaders))
    if not shuffle and world_size == 1:
        assert list(found) == anchors
    for anchor, window in found.items():
        for name, field in fields.items():
            row, dtype, _ = MEMBERS[name]
            np.testing.assert_array_equal(
                window[name], wanted(anchor, field, length, *row, dtype=dtype), strict=True
            )


def touched(loader: WindowLoader, reach: int) -> set[int]:
    """Rows that windows of `id`, which is as long as their reach, show."""
    return {row for first in ids(loader) for row in range(first, first + reach)}


@pytest.mark.parametrize("lengths", [(100,), (30, 0, 30, 40)])
@pytest.mark.parametrize("gap", [0, 1, 5])
def test_split_of_a_series(tmp_path: Path, lengths: tuple[int, ...], gap: int) -> None:
    sources = made(tmp_path, *lengths)
    whole = WindowLoader(
        paths(tmp_path, sources), {"id": "id"}, length=5, batch_size=4, shuffle="global"
    )
    parts = whole.split(gap=gap, train=0.6, valid=0.1, test=0.3)
    assert {name: touched(part, 5) for name, part in parts.items()} == {
        "train": set(range(60)),
        "valid": set(range(60 + gap, 70)),
        "test": set(range(70 + gap, 100)),
    }
    assert list(parts) == ["train", "valid", "test"]
    assert ids(whole) != sorted(ids(whole))  # itself not changed


def test_split_leaves_gaps_and_excluded_rows_out(tmp_path: Path) -> None:
    times = np.arange(100) + 50 * (np.arange(100) >= 45)
    made(tmp_path, 100, times=times)
    allowed = [(0, 10), (20, 90)]  # 80 rows, 40 of them before row 50
    loader = WindowLoader(
        tmp_path / "0", {"id": "id"}, length=3, batch_size=4, time="time", max_gap=1, where=allowed
    )
    parts = loader.split(a=0.5, b=0.25)
    want = {"a": [*range(10), *range(20, 45), *range(45, 50)], "b": range(50, 70)}
    assert {name: touched(part, 3) for name, part in parts.items()} == {
        n: set(r) for n, r in want.items()
    }
    # Of the reach of all fields.
    fields: dict[str, Any] = {"id": Field("id", 9, offset=-3), "book": "book"}
    loader = WindowLoader(tmp_path / "0", fields, length=3, batch_size=4)
    rows = [touched(part, 9) for part in loader.split(a=0.5, b=0.5).values()]
    assert rows == [set(range(50)), set(range(50, 100))]
    # And of parts of parts.
    rows = [touched(part, 9) for part in loader.split(a=0.5)["a"].split(a=0.5, b=0.5).values()]
    assert rows == [set(range(25)), set(range(25, 50))]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(10, 60), st.integers(1, 3)), min_size=2, max_size=3),
    st.lists(st.floats(0.05, 1), min_size=2, max_size=4), st.integers(0, 4),
    st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
@settings(max_examples=examples(60))
def test_split_of_several_series(
    fresh: Iterator[Path], shapes: list[Any], shares: list[float], gap: int, kind: tuple[bool, bool]
) -> None:
    by_time, two = kind
    folder = next(fresh)
    series: dict[str, list[Source]] = {}
    times = np.empty(0, np.int64)
    first = 0
    for name, (begin, rows, step) in zip("abc", shapes, strict=False):
        of_series = begin + np.arange(rows) * step // 2  # with rows of the same time, too
        edges = [0, rows // 3, rows] if two else [0, rows]
        series[name] = [
            Source(range(first + lo, first + hi), of_series[lo:hi])
            for lo, hi in itertools.pairwise(edges)
        ]
        times, first = np.concatenate((times, of_series)), first + rows
    where = {
        n: [s.write(folder / n / str(i)) for i, s in enumerate(some)] for n, some in series.items()
    }
    fractions = {f"part{i}": share / sum(shares) for i, share in enumerate(shares)}
    loader = WindowLoader(
        where, {"id": "id"}, length=2, batch_size=4, time="time" if by_time else None
    )
    try:
        parts = list(loader.split(gap=gap, **fractions).values())
    except ValueError as e:
        assert "expected at least one range of 2 rows" in str(e)  # noqa: PT017
        return
    rows_of = [touched(part, 2) for part in parts]
    for early, late in itertools.combinations(rows_of, 2):
        assert not early & late
        for sources in series.values():
            span = range(sources[0].numbers.start, sources[-1].numbers.stop)
            before, after = early & set(span), late & set(span)
            assert not before or not after or max(before) + gap < min(after)
        if by_time:
            assert times[list(early)].max() <= times[list(late)].min()
    if not by_time and gap == 0:
        for sources in series.values():
            span = range(sources[0].numbers.start, sources[-1].numbers.stop)
            for share, rows in zip(fractions.values(), rows_of, strict=True):
                found = len(rows & set(span))
                assert abs(found - share * len(span)) <= 2 or found == 0  # one row is no window


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {},
            r"expected positive shares of at most 1 in all, as in split\(train=0.8, valid=0.2\), got \{\}",
        ),
        ({"a": 0.0, "b": 0.5}, "expected positive shares of at most 1"),
        ({"a": -0.1}, "expected positive shares of at most 1"),
        ({"a": 0.6, "b": 0.5}, "expected positive shares of at most 1"),
        ({"a": 0.5, "gap": -1}, "gap: expected at least 0 rows, got -1"),
        ({"a": 0.01, "b": 0.5}, "expected at least one range of 4 rows"),
        ({"a": 0.5, "b": 0.1, "gap": 8}, "expected at least one range of 4 rows"),
    ],
)
def test_errors_of_split(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    made(tmp_path, 100)
    loader = WindowLoader(tmp_path / "0", {"id": "id"}, length=4, batch_size=4)
    with pytest.raises(ValueError, match=text):
        loader.split(**options)


def test_split_into_all_leaves_no_time_out(tmp_path: Path) -> None:
    times = {"long": np.arange(100), "slow": np.arange(50) * 4}
    for name, some in times.items():
        Source(range(len(some)), some).write(tmp_path / name)
    series = {name: tmp_path / name for name in times}
    loader = WindowLoader(
        series, {"id": "id"}, length=1, batch_size=4, time="time", rows=(0, 90), where={"long": [(0, 80)], "slow": [(0, 50)]}
    )  # fmt: skip
    half, rest = loader.split(half=0.5, rest=0.5).values()
    assert ids(half) == [*range(40), *range(10)]
    assert ids(rest) == [*range(40, 80), *range(10, 50)]  # times that the long one has not, too


def test_split_into_all(tmp_path: Path) -> None:
    made(tmp_path, 100)
    loader = WindowLoader(tmp_path / "0", {"id": "id"}, length=4, batch_size=4)
    assert ids(loader.split(all=1)["all"]) == list(range(97))
    tenths = loader.split(gap=0, **{f"p{i}": 0.1 for i in range(10)})  # their sum is not quite 1
    assert [min(ids(part)) for part in tenths.values()] == list(range(0, 100, 10))
    assert touched(tenths["p9"], 4) == set(range(90, 100))


# What a loader is told, and what it says to that.
MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max_gap": 1}, ValueError, r"max_gap: expected time= as well, the name of an array of times"),
    ({"time": "book", "max_gap": 1}, ValueError, "expected times in one dimension of numbers or datetime64, got <tempozarr.Array .*book"),
    ({"time": "good", "max_gap": 1}, ValueError, "expected times in one dimension of numbers or datetime64, got .*bool"),
    ({"time": "time", "max_gap": np.timedelta64(1, "s")}, ValueError, "max_gap: expected a number in the unit of the times for times of int64, got np.timedelta64"),
    ({"time": "date", "max_gap": 1}, ValueError, r"max_gap: expected a numpy.timedelta64 for times of datetime64\[s\], got 1"),
    ({"where": "time"}, ValueError, "where: expected a bool for each row, got <tempozarr.Array"),
    ({"where": np.ones(9, bool)}, ValueError, r"where: expected a mask of 10 bools, or pairs \(start, stop\) of rows, got an array of bool, shape \(9,\)"),
    ({"where": np.ones((10, 2), bool)}, ValueError, "where: expected a mask of 10 bools"),
    ({"where": [1, 2, 3]}, ValueError, "where: expected a mask of 10 bools"),
    ({"where": [(0.5, 3.0)]}, ValueError, "where: expected a mask of 10 bools"),
    ({"where": [(3, 5), (0, 2)]}, ValueError, r"where: expected ranges in ascending order within 10 rows, got \[\[3, 5\], \[0, 2\]\]"),
    ({"where": [(0, 11)]}, ValueError, "where: expected ranges in ascending order within 10 rows"),
    ({"where": [(-1, 5)]}, ValueError, "where: expected ranges in ascending order within 10 rows"),
    ({"where": [(5, 3)]}, ValueError, "where: expected ranges in ascending order within 10 rows"),
    ({"where": {"b": []}}, KeyError, "where has no mask or ranges for series ''"),
    ({"where": "x"}, KeyError, "no array or group 'x'"),
    ({"time": "x"}, KeyError, "no array or group 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "text"), MISTAKES, ids=[m[2][:50] for m in MISTAKES])
def test_mistakes(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    made(tmp_path, 10, times=np.arange(10), good=np.ones(10, bool))
    write(tmp_path / "0" / "date", np.arange(10).astype("M8[s]"), 4)
    with pytest.raises(kind, match=text):
        WindowLoader(tmp_path / "0", {"id": "id"}, length=4, batch_size=4, **options)


def test_mistakes_about_sources(tmp_path: Path) -> None:
    sources = paths(tmp_path, made(tmp_path, 10, 10))
    array = write(tmp_path / "array", values(range(10)), 4)
    zarr.create_array(tmp_path / "scalar", shape=(), dtype="i8")

    def loader(sources: Any, arrays: Any, **options: Any) -> WindowLoader:
        return WindowLoader(sources, arrays, length=4, batch_size=4, **options)

    nothings: list[Any] = [[], {}, {"a": sources[0], "b": []}]
    for nothing in nothings:
        with pytest.raises(
            ValueError, match=r"expected at least one source in every series, got [\[{]"
        ):
            loader(nothing, {"id": "id"})
    with pytest.raises(
        ValueError,
        match=r"<tempozarr.Array .*array .*> has no array 'id': it is one itself, say arrays=\{'x': None\}",
    ):
        loader(array, {"id": "id"})
    for what in (sources[0], tmp_path / "scalar"):
        with pytest.raises(
            ValueError,
            match=r"expected an array with rows, got <tempozarr.*; name one of a group as in arrays=\{'x': 'book'\}",
        ):
            loader(what, {"id": None})
    with pytest.raises(KeyError, match=r"no array or group 'x' in .*; it has book, id, mid"):
        loader(sources, {"id": "x"})
    with pytest.raises(
        ValueError,
        match=r"where: expected a dict with a mask or ranges for each series of \['a', 'b'\], or the name of a member, got list",
    ):
        loader({"a": sources[0], "b": sources[1]}, {"id": "id"}, where=[(0, 3)])
