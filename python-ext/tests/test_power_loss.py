"""Losses of power: no flushed row is lost, and readers see whole flushes."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from faultfs.power import Disk, Tree
from faultfs.shim import Call
from test_faults import disturb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's"),
]


def after(*calls: tuple[Any, ...], before: Path) -> list[Tree]:
    """States of the disk in a folder after calls: name, path, and what is written or the new path."""
    disk = Disk.of(before)
    for name, path, *rest in calls:
        written = rest[0] if rest and isinstance(rest[0], bytes) else b""
        other = str(before / rest[0]) if rest and isinstance(rest[0], str) else ""
        disk.do(Call(1, name, 0, False, 0, 0, str(before / path), other, written), before)
    return [*disk.crashes(random.Random(0), 20)]


def test_what_is_not_synced_may_be_lost(tmp_path: Path) -> None:
    states = after(("open", "a"), ("write", "a", b"rows"), before=tmp_path)
    for expected in ({}, {"a": b""}, {"a": b"ro"}, {"a": bytes(4)}, {"a": b"rows"}):
        assert expected in states
    assert all(set(state) <= {"a"} for state in states)


def test_a_name_is_durable_when_its_folder_is_synced(tmp_path: Path) -> None:
    written: list[Any] = [("open", "a"), ("write", "a", b"rows"), ("fsync", "a")]
    states = after(*written, before=tmp_path)
    assert {} in states
    assert {"a": b""} not in states
    assert set(map(str, after(*written, ("fsync", "."), before=tmp_path))) == {"{'a': b'rows'}"}


def test_renames_reach_the_disk_in_any_order_and_whole(tmp_path: Path) -> None:
    (tmp_path / "staged").mkdir()
    for name in ("chunk", "metadata"):
        (tmp_path / "staged" / name).write_bytes(name.encode())
    (tmp_path / "metadata").write_bytes(b"old")
    moves: list[Any] = [
        ("mkdir", "c"),
        ("rename", "staged/chunk", "c/0"),
        ("rename", "staged/metadata", "metadata"),
    ]
    states = after(*moves, before=tmp_path)
    assert any(state["metadata"] == b"metadata" and "c/0" not in state for state in states)
    for state in states:
        assert ("staged/chunk" in state) != ("c/0" in state)
        assert state["metadata"] == (b"old" if "staged/metadata" in state else b"metadata")
    # In order, with a sync between them.
    states = after(*moves[:2], ("fsync", "c"), moves[2], before=tmp_path)
    assert all("c/0" in state for state in states)


def test_no_loss_of_power_loses_a_flush_or_shows_a_part() -> None:
    status, text = disturb("--power", "--sample", 84)
    assert status == 0, text


def test_what_is_not_synced_is_found_missing() -> None:
    status, text = disturb("--power", "--sample", 12, "write unsynced")
    assert status == 1
    assert re.search(r"write unsynced: 12 disturbed, [1-9]", text), text
