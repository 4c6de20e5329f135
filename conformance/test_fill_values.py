"""The command line for public suites: zarr-python with tempozarr prints what it does without."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import fill_values
from goldens import FOLDER, Golden

if TYPE_CHECKING:
    from pathlib import Path

WANTED = json.loads(fill_values.FILE.read_text(encoding="utf-8"))


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the program on the array at `path`."""
    command = [sys.executable, fill_values.__file__, f"--array_path={path}"]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - ours


@pytest.mark.parametrize("name", WANTED)
def test_the_file_is_what_zarr_python_says(name: str) -> None:
    """Of every release that is tested; as text, which tells -0.0 from 0.0 and 1 from 1.0."""
    golden = Golden(FOLDER / f"{name}.json")
    assert json.dumps(fill_values.of_golden(golden)) == json.dumps(WANTED[name])


@pytest.mark.parametrize("name", ["zarr-3.4.2/bytes-c8", "zarr-3.4.2/v2-order-f"])
def test_the_command_line(name: str, tmp_path: Path) -> None:
    """One element to a line."""
    Golden(FOLDER / f"{name}.json").unpack(tmp_path)
    printed = run(tmp_path).stdout.splitlines()
    assert [json.loads(line) for line in printed] == WANTED[name]


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A status and a message."""
    finished = run(tmp_path)
    assert finished.returncode == 1
    assert not finished.stdout
    assert str(tmp_path) in finished.stderr
