"""File-system calls that fail and processes that die: what a writer says is what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from faultfs.scenarios import SCENARIOS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's"),
]

TESTS = Path(__file__).parent


def disturb(*arguments: object) -> tuple[int, str]:
    """Run `python -m faultfs`, in a process without threads; its status and what it prints."""
    command = [sys.executable, "-m", "faultfs", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=TESTS, check=False, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def test_what_a_writer_says_is_what_is_there_whatever_fails() -> None:
    # Some of all calls and faults; `make test-faults` disturbs them all.
    status, text = disturb("--faults", "--sample", 176)
    assert status == 0, text
    assert set(re.findall("^(.*): [0-9]+ disturbed, 0 wrong", text, re.MULTILINE)) == {
        *SCENARIOS
    }, text
