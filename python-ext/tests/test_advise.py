"""`tempozarr.advise`: its sizes are those of a conversion, and what it recommends loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import tempozarr
from tempozarr import advise
from tempozarr._advice import GOALS, Candidate, frontier, recommend
from tempozarr._candidates import Chain, largest_error
from tempozarr.schema import ArraySchema, GroupSchema

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")]

BOOKS = Path(__file__).parents[2] / "examples/data/books.zarr"
QUICK: dict[str, Any] = {"seconds": 2.0}
ENOUGH: dict[str, Any] = {"seconds": 60.0}  # for every candidate of a book, on a busy machine too
P1 = "float16, xor, shuffle 2, zstd 3"


def bits(rows: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(rows).tobytes()


def chains(advice: tempozarr.ArrayAdvice, *, lossless: bool = True) -> set[str]:
    return {c.chain for c in advice.candidates if c.lossless == lossless}


def written(folder: Path, advice: tempozarr.Advice, rows: NDArray[Any], goal: Any) -> Path:
    path: Path = folder / goal
    layout = advice.layout(goal)
    with tempozarr.Writer(path, advice.best(goal), layout=layout, sync=False) as writer:
        writer.append(rows)
    return path


def stored(folder: Path) -> int:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "zarr.json")
    return sum(file.stat().st_size for file in files)


def test_stores_become_as_small_as_was_said(tmp_path: Path) -> None:
    source = BOOKS / "usdm-btcusdt"
    advice = advise(source, seconds=8)
    assert set(advice) == {"book", "book_raw", "flow", "recv_ns", "time_ms", "update_id"}
    for goal in GOALS:
        schema, layout = advice.best(goal), advice.layout(goal)
        report = tempozarr.copy(source, tmp_path / goal, schema, layout=layout, verify=True)
        for path, array in advice.items():
            assert report[path].max_error is None
            assert report[path].stored_after == array.candidate(goal).stored
            assert array.stored_now == report[path].stored_before
            assert array.current is not None
            # Which another version of the compressors wrote.
            assert array.current.stored == pytest.approx(array.stored_now, rel=0.02)


@pytest.mark.parametrize(
    ("market", "high", "fast", "small"),
    [
        ("cm-btcusd", 1.49, 1.65, 1.8),
        ("usdm-btcusdt", 1.32, 1.42, 1.55),
        ("spot-btcusdt", 1.45, 1.45, 1.65),
    ],
)
def test_books_are_much_smaller_than_with_xor_and_shuffle(
    market: str, high: float, fast: float, small: float
) -> None:
    """What is balanced depends on times: how much smaller and faster is in docs/choosing-codecs.md."""
    advice = advise(BOOKS / market / "book", **ENOUGH)[""]
    assert advice.current is not None
    assert advice.current.chain == advice.default.chain == P1
    balanced = advice.candidate("balanced")
    assert balanced.lossless
    assert "zarr-python" in balanced.readers
    assert advice.current.stored / advice.candidate("smallest").stored > 1.7
    least = {c.chain: c.stored for c in reversed(advice.candidates)}
    assert least[P1] / least["float16, zstd 9"] > small
    assert least[P1] / least["float16, zstd 6 fast-decode"] > fast
    assert least[P1] / least["float16, lz4-hc 9"] > high


def test_a_sample_tells_the_size_of_the_whole(tmp_path: Path) -> None:
    book = tempozarr.open_array(BOOKS / "cm-btcusd/book")[...]
    advice = advise(book, sample_bytes=book.nbytes // 3, seconds=6)
    assert advice[""].sampled < len(book) / 2
    said = advice[""].candidate("balanced").stored
    assert stored(written(tmp_path, advice, book, "balanced")) == pytest.approx(said, rel=0.05)


def test_the_same_seed_gives_the_same_sizes() -> None:
    def sizes(seed: int) -> dict[Any, int]:
        source = BOOKS / "cm-btcusd/book"
        advice = advise(source, sample_bytes=4 << 20, seed=seed, seconds=3)
        return {(c.chain, c.chunk_rows, c.screened): c.stored for c in advice[""].candidates}

    first, again, other = sizes(1), sizes(1), sizes(2)
    both = first.keys() & again.keys()
    assert len(both) > 5
    assert {key: first[key] for key in both} == {key: again[key] for key in both}
    assert any(other[key] != size for key, size in first.items() if key in other)


def test_a_value_outside_the_sample_forbids_a_narrower_type() -> None:
    """Of 2 million rows, one needs what float16 has not; a scan finds it, wherever it is."""
    rows = (np.arange(2_000_000) % 500 / 4).astype("f4")
    settings: dict[str, Any] = {"sample_bytes": 1 << 20, "seconds": 6}
    assert any("float16" in chain for chain in chains(advise(rows, **settings)[""]))
    for place in (0, 777_777, -1):
        spoilt = rows.copy()
        spoilt[place] = 1 / 3
        found = advise(spoilt, **settings)[""]
        assert found.checked == len(rows)
        assert not any("float16" in c.chain for c in found.candidates if not c.is_current)


@pytest.mark.parametrize("special", ["-0.0", "nan", "payload", "inf", "tiny"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_bit_counts(tmp_path: Path, dtype: str, special: str) -> None:
    rows = np.arange(5000, dtype=dtype) % 100
    if special == "payload":
        unsigned = rows.view(f"u{rows.itemsize}")
        unsigned[3] = np.array(np.nan, dtype).view(unsigned.dtype) + 1
    else:
        rows[3] = {"tiny": 1e-30}.get(special) or float(special)
    advice = advise(rows, **QUICK)
    whole = [c for c in chains(advice[""]) if c.startswith(("int", "uint"))]
    assert not whole
    folder = written(tmp_path, advice, rows, "balanced")
    assert bits(tempozarr.open_array(folder)[...]) == bits(rows)


def test_whole_numbers_become_integers() -> None:
    rows = np.random.default_rng(0).integers(0, 250, 20_000).astype("f8")
    assert any(chain.startswith("uint8") for chain in chains(advise(rows, **QUICK)[""]))
    wide = np.random.default_rng(0).integers(-30_000, 30_000, 20_000)
    assert any(chain.startswith("int16") for chain in chains(advise(wide, **QUICK)[""]))


@pytest.mark.parametrize(("limit", "relative"), [(0.01, False), (0.01, True)])
def test_an_error_is_kept(tmp_path: Path, limit: float, relative: bool) -> None:
    rows = np.random.default_rng(0).normal(100, 30, (20_000, 3))
    rows[5] = np.nan, np.inf, 0
    exact = advise(rows, **QUICK)
    assert exact[""].candidate("smallest").max_error == 0
    advice = advise(rows, max_error=limit, relative=relative, **QUICK)
    best = advice[""].candidate("smallest")
    assert 0 < best.max_error <= limit
    assert best.stored < exact[""].candidate("smallest").stored
    read = tempozarr.open_array(written(tmp_path, advice, rows, "smallest"))[...]
    assert largest_error(read, rows, relative=relative) == best.max_error


DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "M8[ns]", "m8[s]", "S3", "U2"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row_shape", [(), (3,)])
def test_data_types(tmp_path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0).integers(0, 100, (3001, *row_shape)).cumsum(0) % 120
    rows = numbers.astype("i8").astype(dtype) if dtype[0] in "Mm" else numbers.astype(dtype)
    advice = advise(rows, seconds=0.4)
    for goal in ("smallest", "balanced"):
        folder = written(tmp_path, advice, rows, goal)
        assert bits(tempozarr.open_array(folder)[...]) == bits(rows)
        assert stored(folder) == advice[""].candidate(goal).stored


def test_windows() -> None:
    advice = advise(BOOKS / "cm-btcusd/book", access="windows", window=500, seconds=5)[""]
    measured = [c for c in advice.candidates if not c.screened]
    assert len({c.chunk_rows for c in measured}) > 1
    assert all(c.windows_per_s for c in measured)
    fastest = max(measured, key=lambda c: c.speed)
    assert advice.candidate("fastest").speed >= 0.95 * fastest.speed
    assert "windows/s" in str(advice)


def test_the_frontier_and_what_is_recommended() -> None:
    advice = advise(BOOKS / "usdm-btcusdt/book", **QUICK)[""]
    able = [c for c in advice.candidates if not c.screened]
    for candidate in able:
        beaten = any(o.stored < candidate.stored and o.speed > candidate.speed for o in able)
        assert not (candidate.pareto and beaten)
    assert [c for c in advice.candidates if c.pareto] == frontier(able)
    assert all(
        sum(goal in c.recommended_for for c in able) == 1
        for goal in ("balanced", "smallest", "fastest")
    )
    assert sum(c.is_current for c in advice.candidates) == 1


# The yardstick: 1,000 bytes that are stored as 100, and decoded at 1 GB/s.
DEFAULT = Candidate(
    array="",
    chain="default",
    chunk_rows=1,
    nbytes=1000,
    stored=100,
    decode_gbs=1.0,
    encode_gbs=1.0,
    windows_per_s=None,
    max_error=0.0,
    lossless=True,
    readers=("zarr-python",),
    is_default=True,
    is_current=False,
    screened=False,
    codecs=Chain(()),
)


def candidate(stored: int, gbs: float, encode: float = 1.0, **settings: Any) -> Candidate:
    own: dict[str, Any] = {
        "stored": stored,
        "decode_gbs": gbs,
        "encode_gbs": encode,
        "is_default": False,
    }
    return replace(DEFAULT, **own | settings)


@pytest.mark.parametrize(
    ("others", "balanced"),
    [
        ([(50, 1.5), (70, 2.1), (90, 5.0)], (70, 2.1)),  # the lesser gains: 1.5, 2.0, 1.2
        ([(50, 1.5), (90, 5.0)], (50, 1.5)),
        ([(50, 0.5), (200, 5.0)], (100, 1.0)),  # neither is better in both
        ([(70, 2.0, 0.004), (80, 1.5)], (80, 1.5)),  # the first takes 500 times as long to encode
    ],
)
def test_balanced_gains_most_in_size_and_speed(
    others: list[tuple[Any, ...]], balanced: tuple[int, float]
) -> None:
    found = recommend([DEFAULT, *(candidate(*other) for other in others)], None)
    assert (found["balanced"].stored, found["balanced"].decode_gbs) == balanced
    assert found["smallest"].stored == min(100, *(other[0] for other in others))
    assert found["fastest"].decode_gbs == max(1.0, *(other[1] for other in others))


def test_of_nearly_equal_ones_balanced_is_read_by_everybody() -> None:
    ours = candidate(50, 2.0, readers=("zarr-python + tempozarr",))
    assert recommend([DEFAULT, ours, candidate(51, 1.95)], None)["balanced"].stored == 51
    assert recommend([DEFAULT, ours, candidate(51, 1.8)], None)["balanced"].stored == 50


def test_any_candidate_can_be_written(tmp_path: Path) -> None:
    source = BOOKS / "usdm-btcusdt/book"
    advice = advise(source, **ENOUGH)[""]
    one = next(c for c in advice.candidates if "fast-decode" in c.chain and not c.screened)
    assert advice.candidate(one) is one
    schema, layout = advice.best(one), advice.layout(one)
    assert schema.encoding.zstd_fast_decode
    report = tempozarr.copy(source, tmp_path / "new", schema, layout={"": layout}, verify=True)
    assert report[""].stored_after == one.stored


@pytest.mark.parametrize(
    ("compressor", "encoding"),
    [
        ("numcodecs.lz4", {}),
        ("numcodecs.lz4", {"lz4_level": 9}),
        ("zstd", {}),
        ("zstd", {"zstd_fast_decode": True}),
    ],
)
@pytest.mark.parametrize("sample_bytes", [8 << 20, 1 << 26])
def test_how_a_store_was_encoded_is_told_by_its_size(
    tmp_path: Path, compressor: str, encoding: dict[str, Any], sample_bytes: int
) -> None:
    rows = np.tile(tempozarr.open_array(BOOKS / "usdm-btcusdt/book_raw")[...], (5, 1, 1))
    codec = {"name": compressor, "configuration": {"level": 6} if compressor == "zstd" else {}}
    schema = ArraySchema(name="x", dtype="f4", row_shape=(50, 3), codecs=[codec], **encoding)
    with tempozarr.Writer(tmp_path / "x", schema, layout=(512, 1024)) as writer:
        writer.append(rows)
    advice = advise(tmp_path / "x", candidates=[], sample_bytes=sample_bytes, **QUICK)
    current = advice[""].current
    assert current is not None
    assert current.codecs.encoding == schema.encoding
    is_whole = sample_bytes > rows.nbytes
    assert current.stored == pytest.approx(advice[""].stored_now, rel=0.001 if is_whole else 0.03)
    now = advice.now()
    assert isinstance(now, ArraySchema)
    assert (now.codecs, now.encoding) == (schema.codecs, schema.encoding)


def test_little_is_one_chunk() -> None:
    advice = advise(tempozarr.open_array(BOOKS / "usdm-btcusdt/time_ms")[...], **QUICK)[""]
    assert {c.chunk_rows for c in advice.candidates} == {8192}
    assert advice.layout("smallest").shard_rows is None


def test_own_candidates() -> None:
    rows = np.arange(5000)
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i8"}}
    advice = advise(rows, candidates=[["zstd"], [delta, "numcodecs.lz4"]], **QUICK)[""]
    assert chains(advice) == {"zstd 0", "delta, lz4", "delta, zstd 3"}  # the default is the third
    with pytest.raises(tempozarr.MetadataError, match="expected a codec that zarr-python knows"):
        advise(rows, candidates=[["zst"]], **QUICK)


def test_a_schema_with_a_sample(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 3000, dtype="f4").reshape(-1, 3)
    schema = ArraySchema(name="x", dtype="f4", row_shape=(3,), codecs=["zstd"], description="d")
    advice = advise(schema, sample=rows, **QUICK)
    assert advice[""].current is not None
    assert advice[""].current.chain == "zstd 0"
    best = advice.best()
    assert isinstance(best, ArraySchema)
    assert (best.name, best.description) == ("x", "d")
    market = GroupSchema(arrays=[schema], groups=[GroupSchema(name="g", arrays=[schema])])
    advice = advise(market, sample={"g/x": rows}, **QUICK)
    assert list(advice) == ["g/x"]
    assert advice.skipped == {"x": "the sample has no rows of it"}
    group = advice.best()
    assert isinstance(group, GroupSchema)
    assert dict(group.walk())["g/x"].codecs == advice["g/x"].best().codecs
    assert dict(group.walk())["x"] == schema
    with tempozarr.Writer(tmp_path / "s", group, layout=advice.layout()) as writer:
        writer.append({"x": rows, "g/x": rows})


@pytest.mark.parametrize("kind", ["numpy", "zarr", "tempozarr", "v2", "mapping", "big-endian"])
def test_sources(tmp_path: Path, kind: str) -> None:
    rows = np.arange(6000.0).reshape(-1, 2)
    source: Any = rows
    if kind in {"zarr", "v2", "tempozarr"}:
        store = zarr.storage.MemoryStore() if kind == "zarr" else tmp_path / "a"
        source = zarr.create_array(
            store, data=rows, chunks=(100, 1), zarr_format=2 if kind == "v2" else 3
        )
        source = tempozarr.open_array(tmp_path / "a") if kind == "tempozarr" else source
    elif kind == "mapping":
        source = {"x": rows}
    elif kind == "big-endian":
        source = rows.astype(">f8")
    advice = advise(source, **QUICK)
    [array] = advice.values()
    assert array.rows == 3000
    assert (array.current is not None) == (kind in {"zarr", "v2", "tempozarr"})
    assert (array.stored_now is not None) == (kind in {"v2", "tempozarr"})


def test_what_no_schema_describes_is_skipped(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("x", data=np.arange(100))
    group.create_array("scalar", data=np.array(1))
    group.create_array("text", data=np.array(["a", "bc"], np.dtypes.StringDType()))
    group.create_array("empty", shape=(0, 3), dtype="f4", chunks=(2, 3))
    advice = advise(tmp_path / "g", **QUICK)
    assert list(advice) == ["x"]
    assert set(advice.skipped) == {"scalar", "text", "empty"}
    assert "scalar: skipped: expected rows of a data type of fixed size" in str(advice)
    target = tempozarr.copy(tmp_path / "g", tmp_path / "new", layout=advice.layout(), verify=True)
    assert target["x"].max_error is None


def test_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = advise(BOOKS / "usdm-btcusdt", seconds=3)
    told = str(advice)
    assert "balanced: " in told
    assert "against now" in told
    assert "<table>" in advice._repr_html_()
    table = advice.table
    assert {row["array"] for row in table} == set(advice)
    assert {
        "chain",
        "chunk_rows",
        "nbytes",
        "stored",
        "ratio",
        "decode_gbs",
        "encode_gbs",
        "windows_per_s",
        "max_error",
        "readers",
        "pareto",
        "recommended_for",
        "is_current",
    } <= table[0].keys()
    found = json.loads(advice.as_json())
    assert found["arrays"]["book"]["candidates"][0]["codecs"]
    assert len(advice.to_pandas()) == len(table)
    figure = advice.plot(tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    assert len(figure.axes) == 6
    for name, way in (
        ("pandas", advice.to_pandas),
        ("polars", advice.to_polars),
        ("matplotlib", advice.plot),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.figure", None)
        with pytest.raises(
            ModuleNotFoundError,
            match=r"\(\) needs (pandas|polars|matplotlib), which is not installed: pip install",
        ):
            way()


def test_progress() -> None:
    told: list[tempozarr.Progress] = []
    advise(np.arange(1000), progress=told.append, **QUICK)
    assert told[-1].done == told[-1].total == 1000
    assert told[-1].what == "advising"


def test_errors(tmp_path: Path) -> None:
    rows = np.arange(10)
    schema = ArraySchema(name="x", dtype="i8")
    zarr.create_array(tmp_path / "scalar", data=np.array(1))

    def fails(
        match: str, source: Any = rows, kind: type[Exception] = ValueError, **settings: Any
    ) -> None:
        with pytest.raises(kind, match=match):
            advise(source, **settings)

    fails("access: expected 'scan' or 'windows', got 'rows'", access="rows")
    fails(
        "window: expected the rows of a window with access='windows', and None without, got 3",
        window=3,
    )
    fails("max_error: expected a number of 0 or more, or None for no error, got -1", max_error=-1)
    fails("max_error: expected a number", max_error=float("nan"))
    fails("sample_bytes, seconds: expected positive numbers, got 0 and 30", sample_bytes=0)
    fails(
        "expected at least one window of 20 rows, got 10 rows; give it more, or another array",
        access="windows",
        window=20,
    )
    fails("array: expected rows, got 0 rows", rows[:0])
    fails(
        "expected at least one array to measure, got {'x': 'x: expected rows, got 0 rows'}",
        {"x": rows[:0]},
    )
    fails("sample: expected rows of the arrays of the schema, got None", schema)
    fails("sample: expected none, as the source has rows itself: leave it out", sample=rows)
    meta = tempozarr.MetadataError
    fails("expected an array of rows, got one without dimensions", np.array(1), meta)
    fails("expected a data type of fixed size", np.array(["a", None], object), meta)
    fails(r"expected rows of a data type of fixed size, got shape \(\)", tmp_path / "scalar", meta)
    advice = advise(rows, **QUICK)
    wrong: Any = "best"
    for way in (advice.best, advice.layout, advice[""].candidate):
        with pytest.raises(
            ValueError, match="goal: expected 'balanced', 'smallest' or 'fastest', got 'best'"
        ):
            way(wrong)


MEMORY = """
import resource, sys, tempozarr
tempozarr.advise(sys.argv[2], sample_bytes=1 << 20, seconds=1)  # loads what is needed
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
advice = tempozarr.advise(sys.argv[1], sample_bytes=16 << 20, seconds=6)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, advice[""].sampled)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    schema = ArraySchema(name="x", dtype="f4", row_shape=(100,), codecs=["zstd"])
    rows = random.normal(size=(50_000, 100)).astype("f4")  # as bad as it can be: nothing shrinks
    with tempozarr.Writer(tmp_path / "large", schema, sync=False) as writer:
        for _ in range(20):
            writer.append(rows)
    with tempozarr.Writer(tmp_path / "small", schema, sync=False) as writer:
        writer.append(rows[:1000])
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "large"), str(tmp_path / "small")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, sampled = map(int, done.stdout.split())
    assert sampled * 400 <= 24 << 20
    assert grown * 1024 < 600 << 20  # the array has 400 MB; with its copies it would be more
