"""What one process of tempozarr takes: processor time, memory. Each measure is a fresh process.

python bench/processes.py full|memory ARRAY
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tempozarr


def full(array: tempozarr.Array) -> dict[str, float]:
    """Read everything into memory that is there already, ten times: system clocks are coarse."""
    out = np.zeros(array.shape, array.dtype)

    def read() -> None:
        for _ in range(10):
            array.read(out=out)

    return {key: value / 10 for key, value in clocks(read).items()}


def memory(array: tempozarr.Array) -> dict[str, float]:
    """Read everything once; the most memory taken beyond the result's and that of imports."""
    out = np.ones(array.shape, array.dtype)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = peak()
    array.read(out=out)
    return {"peak": peak() - before}


def clocks(read: Callable[[], object]) -> dict[str, float]:
    """Time the second of two calls: by the clock, and of the processor."""
    read()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    read()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
    }


def peak() -> int:
    """Return the most bytes of memory that this process has had."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


MEASURES: dict[str, Callable[[tempozarr.Array], dict[str, float]]] = {
    "full": full,
    "memory": memory,
}


def measure(what: str, array: Path) -> dict[str, Any]:
    """Run one measure in a fresh process."""
    command = [sys.executable, __file__, what, str(array)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


if __name__ == "__main__":
    what, path = sys.argv[1:]
    print(json.dumps(MEASURES[what](tempozarr.open_array(path))))
