"""Threads that read leave the GIL to others, as threads do that only run Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

# Three threads work on one core beside the main thread, which counts how often it runs: at first they
# run Python, then read, and so on in turns, so that what else the machine does concerns both.
CODE = """
import os, sys, threading, time
import tempozarr

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
how = sys.argv[2]
array = tempozarr.open_array(sys.argv[1], cache_bytes=1 << 20 if how == "cached" else 0)
working = threading.Event()
reads = [0, 0, 0]

def python():
    return sum(range(500))

def read():
    return array[3:9]

def work(job, i):
    while working.is_set():
        job()
        reads[i] += 1

def beats(job):
    working.set()
    threads = [threading.Thread(target=work, args=(job, i)) for i in range(3)]
    for thread in threads:
        thread.start()
    end, count = time.monotonic() + 0.3, 0
    while time.monotonic() < end:
        time.sleep(0.002)
        count += 1
    working.clear()
    for thread in threads:
        thread.join()
    return count

totals = [0, 0]
for _ in range(4):
    totals[0] += beats(python)
    totals[1] += beats(read)
print(*totals, min(reads))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose a core")
@pytest.mark.parametrize("how", ["rows", "cached"])
def test_small_reads_leave_the_main_thread_its_turns(how: str, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=np.arange(4000).reshape(-1, 4), chunks=(100, 4))
    command = [sys.executable, "-c", CODE, str(tmp_path / "a"), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    python, reading, reads = map(int, done.stdout.split())
    assert reads > 0
    # A read that held the GIL, or took it again before anybody else could, would leave next to none.
    assert reading > python / 2
