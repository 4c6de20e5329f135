"""The planner: what every layout keeps to, and what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tempozarr
from tempozarr import schemas
from tempozarr._plan import ArrayPlan, Plan, plan
from tempozarr.schema import ArraySchema, GroupSchema

BOOKS = Path(__file__).parents[2] / "examples/data/books.zarr"
KIB, MIB = 1 << 10, 1 << 20
BOOK = schemas.order_book(float16=True, compression_ratio_hint=16)
TIME = schemas.timestamps(compression_ratio_hint=8)


def only(plan: Plan) -> ArrayPlan:
    assert list(plan) == [""]
    return plan[""]


def is_power(n: int) -> bool:
    return n.bit_count() == 1


@given(
    width=st.integers(1, 3_000_000),
    ratio=st.floats(0.5, 5000),
    rows=st.none() | st.integers(0, 10**9),
    window=st.none() | st.integers(1, 100_000),
    sharding=st.booleans(),
    shard_bytes=st.integers(1, 1 << 30),
)
def test_what_every_layout_keeps_to(
    *,
    width: int,
    ratio: float,
    rows: int | None,
    window: int | None,
    sharding: bool,
    shard_bytes: int,
) -> None:
    schema = ArraySchema(
        name="a", dtype="u1", row_shape=(width,), codecs=["zstd"], compression_ratio_hint=ratio
    )
    got = only(
        plan(
            schema,
            rows,
            access="scan" if window is None else "windows",
            window=window,
            sharding=sharding,
            shard_bytes=shard_bytes,
        )
    )
    assert is_power(got.chunk_rows)
    assert got.chunk_rows <= 65_536
    if got.chunk_rows < 65_536:
        assert got.chunk_nbytes >= min(64 * KIB, width * 65_536)
        assert got.stored(got.chunk_rows) >= 4096 * (1 - 1e-9)
    if got.shard_rows is not None:
        assert sharding
        assert is_power(got.shard_rows)
        assert got.shard_rows >= 2 * got.chunk_rows
        assert got.stored(got.shard_rows) <= shard_bytes * (1 + 1e-9)
        if rows is not None:
            assert got.shard_rows < 2 * rows  # half of it would not hold them
    elif sharding and (rows is None or (got.stored(rows) > MIB and rows > got.chunk_rows)):
        assert 2 * got.stored(got.chunk_rows) > shard_bytes * (1 - 1e-9)
    # No larger than reading asks for, unless smaller would be too small or there is no more.
    half_is_small = got.chunk_nbytes / 2 < 64 * KIB or got.stored(got.chunk_rows) / 2 < 4096 * (
        1 + 1e-9
    )
    tiny = rows is not None and (
        rows <= got.chunk_rows or (window is None and got.stored(rows) < MIB)
    )
    if not half_is_small and not tiny and got.chunk_rows > 1:
        assert got.chunk_nbytes <= 2 * MIB
        if window is not None:
            assert got.chunk_rows <= window
            assert window + got.chunk_rows - 1 < 2 * window


def test_scans_and_windows_of_a_book() -> None:
    scan = only(plan(BOOK, 10_000_000))
    assert (scan.chunk_rows, scan.shard_rows) == (2048, 524_288)
    windows = only(plan(BOOK, 10_000_000, access="windows", window=600))
    assert (windows.chunk_rows, windows.shard_rows) == (512, 524_288)
    assert only(plan(BOOK, access="windows", window=50_000)).chunk_rows == 2048
    # 64 rows would decode to 37.5 KiB
    assert only(plan(BOOK, access="windows", window=64)).chunk_rows == 128


def test_shards_are_no_larger_than_the_rows_need() -> None:
    assert only(plan(BOOK, 100_000)).shard_rows == 131_072
    assert only(plan(BOOK)).shard_rows == 524_288
    assert only(plan(BOOK, sharding=False)).shard_rows is None
    assert only(plan(BOOK, shard_bytes=100_000)).shard_rows is None


def test_tiny_arrays_are_one_chunk() -> None:
    got = only(plan(TIME, 500_000))
    assert (got.chunk_rows, got.shard_rows) == (65_536, None)
    assert got.reason == "all of it is 488 KiB; too little for shards."
    assert only(plan(BOOK, np.int64(3000))).chunk_rows == 4096  # type: ignore[arg-type]
    # A window of a small book need not decode all of it.
    windows = only(plan(BOOK, 20_000, access="windows", window=256))
    assert (windows.chunk_rows, windows.shard_rows) == (256, 32_768)


def test_chunks_fill_a_block_of_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    class Status:
        f_frsize = 16 * KIB

    seen = []

    def statvfs(path: Path) -> type[Status]:
        seen.append(path)
        return Status

    monkeypatch.setattr("os.statvfs", statvfs, raising=False)
    got = only(plan(BOOK, access="windows", window=64, path="/nowhere/at/all"))
    assert seen == [Path("/")]
    assert (got.chunk_rows, got.stored(got.chunk_rows)) == (512, 18.75 * KIB)
    assert "as fewer are less than a block of 16.0 KiB in the store" in got.reason


def test_the_ratio_is_measured_hinted_or_assumed() -> None:
    book = tempozarr.open_array(BOOKS / "cm-btcusd/book")[:]
    measured = only(plan(BOOK, sample=book))
    assert measured.ratio_source == "measured"
    assert measured.ratio == pytest.approx(18.4, abs=1)
    hint = only(plan(BOOK))
    assert (hint.ratio, hint.ratio_source) == (16, "hint")
    for codecs, ratio in [(None, 4), (["crc32c"], 1), (["numcodecs.lz4"], 4)]:
        assumed = only(plan(ArraySchema(name="a", dtype="f4", codecs=codecs)))
        assert (assumed.ratio, assumed.ratio_source) == (ratio, "assumed")
    assert only(plan(ArraySchema(name="a", dtype="f8", float16=True))).ratio == 16


def test_a_sample_is_read_from_beginning_to_end() -> None:
    schema = ArraySchema(name="a", dtype="u1", codecs=["zstd"])
    rng = np.random.default_rng(0)
    sample = np.zeros(40 << 16, "u1")
    assert only(plan(schema, sample=sample)).ratio > 1000
    sample[-(1 << 16) :] = rng.integers(0, 256, 1 << 16)  # one of eight chunks is noise
    assert only(plan(schema, sample=sample)).ratio == pytest.approx(8, rel=0.01)
    assert only(plan(schema, sample=rng.integers(0, 256, 10).astype("u1"))).ratio < 1


def test_a_plan_explains_itself() -> None:
    group = GroupSchema(arrays=[TIME], groups=[GroupSchema(name="mid", arrays=[BOOK])])
    got = plan(group, 10_000_000, access="windows", window=512)
    assert list(got) == ["time", "mid/book"]
    assert (
        str(got)
        == """\
Layout for 10,000,000 rows, read by windows of 512 consecutive rows

array     row bytes      ratio  chunk rows   decoded    stored  shard rows    stored  files    total  rows per window
time              8   8.0 hint       8,192  64.0 KiB   8.0 KiB  16,777,216  16.0 MiB      1  9.5 MiB            8,703
mid/book        600  16.0 hint         512   300 KiB  18.8 KiB     524,288  18.8 MiB     20  358 MiB            1,023

time: chunks of 8,192 rows, as fewer are less than 64.0 KiB decoded; 2,048 to a shard, which holds all rows.
mid/book: chunks of 512 rows, so that a window decodes 1,023 on average; 1,024 to a shard of 18.8 MiB."""
    )
    unknown = str(plan(TIME, sharding=False)).splitlines()
    assert unknown[0] == "Layout for an unknown number of rows, read by scans"
    assert " ".join(unknown[3].split()) == "array 8 8.0 hint 65,536 512 KiB 64.0 KiB - - ? ?"
    assert unknown[5] == (
        "array: chunks of 65,536 rows, the most that a chunk may have; not sharded, as asked."
    )


def test_a_layout_is_that_of_valid_metadata() -> None:
    market = schemas.market(feature_columns=["f"])
    got = plan(market, 1_000_000)
    for path, array in market.walk():
        layout = got[path]
        metadata = array.metadata(1_000_000, layout.chunk_rows, layout.shard_rows)
        assert array.differences(metadata) == []
        assert math.prod(metadata["chunk_grid"]["configuration"]["chunk_shape"][:1]) == (
            layout.file_rows
        )


def test_an_empty_group_has_an_empty_plan() -> None:
    assert len(plan(GroupSchema(), 5)) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rows": -1}, "rows: expected a number of rows, or None if unknown, got -1"),
        ({"access": "random"}, "access: expected 'scan' or 'windows', got 'random'"),
        (
            {"access": "windows"},
            (
                "window: expected the rows of a window with access='windows', and None without, got "
                "None with 'windows'"
            ),
        ),
        (
            {"window": 5},
            (
                "window: expected the rows of a window with access='windows', and None without, got "
                "5 with 'scan'"
            ),
        ),
        (
            {"shard_bytes": 0},
            "shard_bytes: expected a positive number, got 0; pass sharding=False for no shards",
        ),
        ({"sample": {"a": [1]}}, "sample: expected rows of the array, got dict"),
        (
            {"sample": np.zeros((5, 50, 3))},
            (
                "sample of book: expected at least one row of float32, shape (n, 50, 3), got float64, "
                "(5, 50, 3)"
            ),
        ),
        (
            {"sample": np.zeros((0, 50, 3), "f4")},
            (
                "sample of book: expected at least one row of float32, shape (n, 50, 3), got float32, "
                "(0, 50, 3)"
            ),
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as e:
        plan(BOOK, **arguments)
    assert str(e.value) == text


def test_samples_of_unknown_arrays_are_refused() -> None:
    group = GroupSchema(arrays=[TIME])
    with pytest.raises(ValueError) as e:
        plan(group, sample={"tim": np.zeros(3, "i8")})
    assert str(e.value) == "sample: expected paths among ['time'], got ['tim']"
    with pytest.raises(ValueError) as e:
        plan(group, sample=np.zeros(3, "i8"))
    assert str(e.value) == "sample: expected a mapping from paths to rows, got ndarray"


def test_samples_that_do_not_encode_say_where() -> None:
    narrow = {"encode_dtype": "i1", "decode_dtype": "f4"}
    schema = ArraySchema(
        name="a", dtype="f4", codecs=[{"name": "numcodecs.astype", "configuration": narrow}]
    )
    with pytest.raises(tempozarr.CodecError, match=r"^sample of a, from row 0: .*300"):
        plan(schema, sample=np.full(5, 300, "f4"))


def test_late_arrays_are_not_planned_with_the_rows_of_the_others() -> None:
    schema = schemas.market(target_columns=["next"])
    assert [path for path, array in schema.walk() if array.late] == ["targets"]
    assert list(plan(schema, 1000)) == ["time", "book"]
    late = dict(schema.walk())["targets"]
    assert list(plan(late, 5)) == [""]
