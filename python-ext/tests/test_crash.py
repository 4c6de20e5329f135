"""Writers that are killed, and readers that read meanwhile: never a row lost, torn or invented."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr
from producer import SCHEMA, append_for_ever, rows
from tempozarr import Writer
from test_writer import check

pytestmark = pytest.mark.slow

KILLS = 200
LAYOUT = {"book": (64, 512), "time": (512, None), "mid/raw": (32, 256)}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tempozarr._writer", "zarr"])


def check_every_array(store: Path, at_least: int) -> None:
    """Each array by itself: right values, and the rows of the last flush at least."""
    for path in LAYOUT:
        found = tempozarr.open_array(store / path)[...]
        assert len(found) >= at_least
        np.testing.assert_array_equal(found, rows(0, len(found))[path])


@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
def test_a_killed_writer_loses_no_flushed_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store.zarr"
    rng = np.random.default_rng(20240808)
    told = processes.Array("q", 2, lock=False)
    inside = flushed = 0
    kill = 0
    while kill < KILLS or inside <= KILLS // 20:  # a slow machine seldom comes as far as a flush
        kill += 1
        told[0] = 0
        writer = processes.Process(target=append_for_ever, args=(store, LAYOUT, kill, told))
        writer.start()
        time.sleep(rng.uniform(0, 0.15))
        writer.kill()
        writer.join()
        inside += told[0]
        flushed = max(flushed, told[1])
        if not store.exists():
            continue
        check_every_array(store, flushed)
        if rng.random() < 0.5:  # else the next writer has to recover, and may be killed at it
            with Writer(store, SCHEMA, mode="a") as writer_again:
                count = writer_again.rows
                assert set(writer_again.rows_by_group.values()) == {count}
                assert count >= flushed
                writer_again.append(rows(count, count + 5))
            flushed = count + 5
            told[1] = flushed
            check(store, flushed)
            assert {path.name for path in tmp_path.iterdir()} == {"store.zarr"}
    with capsys.disabled():
        sys.stdout.write(f" [{inside} of {kill} kills inside a flush, {flushed} rows survived] ")
    assert flushed > KILLS


@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
def test_readers_see_the_old_length_or_the_new_one(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    Writer(store, SCHEMA, layout=LAYOUT).close()
    told = processes.Array("q", 2, lock=False)
    writer = processes.Process(target=append_for_ever, args=(store, LAYOUT, 1, told))
    writer.start()
    lengths: set[int] = set()
    try:
        until = time.monotonic() + 8
        while time.monotonic() < until or len(lengths) < 10:
            before = told[1]
            for path in LAYOUT:
                ours = tempozarr.open_array(store / path)
                theirs = zarr.open_array(store / path, mode="r")
                for array in (ours, theirs):
                    # Twice from an array that stays open: it does not grow, and stays readable.
                    for start in (0, max(0, array.shape[0] - 20)):
                        found: Any = array[start:]
                        expected = rows(start, array.shape[0])[path]
                        np.testing.assert_array_equal(found, expected)
                    assert array.shape[0] >= before
                lengths.add(ours.shape[0])
            assert writer.is_alive()
    finally:
        writer.kill()
        writer.join()
