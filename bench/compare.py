"""Compare two builds of tempozarr in one run: `python bench/compare.py OLD NEW`.

OLD and NEW are folders that have the package `tempozarr`, such as unpacked wheels. Each build runs
in a process of its own. Both read the same arrays in turns: all of an array, windows at random, and
a few rows at a time. A ratio above 1 means that NEW is faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output"
KEYS = ("P1", "P1-256", "P1-flat", "P2", "P3", "P4", "P5", "P6")
WINDOW, BATCH = 512, 64
SMALL = 2000  # reads of ten rows, which is where what each call costs shows


def jobs(path: str) -> dict[str, Any]:
    """What a process does with an array, by name; each is run again and again."""
    import tempozarr

    array = tempozarr.open_array(path)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(array) - WINDOW, BATCH) for _ in range(8)]
    starts = rng.integers(0, min(len(array), 4096) - 10, SMALL).tolist()
    kept = tempozarr.open_array(path, cache_bytes=1 << 28)
    out = np.zeros(array.shape, array.dtype)
    windows = np.zeros((BATCH, WINDOW, *array.shape[1:]), array.dtype)
    return {
        "full": lambda: array.read(out=out),
        "windows": lambda: [array.windows(batch, WINDOW, out=windows) for batch in batches],
        "small": lambda: [kept[start : start + 10] for start in starts],
        "open": lambda: [tempozarr.open_array(path) for _ in range(50)],
    }


def serve() -> None:
    """Run jobs as they are asked for on standard input; answer with seconds."""
    known: dict[str, dict[str, Any]] = {}
    for line in sys.stdin:
        path, job = json.loads(line)
        if path not in known:
            known.clear()
            known[path] = jobs(path)
        began = time.perf_counter()
        known[path][job]()
        print(time.perf_counter() - began, flush=True)


class Build:
    """A process that has one of the builds."""

    def __init__(self, folder: Path) -> None:
        process = subprocess.Popen(  # noqa: S603 (this file)
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(folder)},
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("expected pipes to the process")
        self._stdin, self._stdout = process.stdin, process.stdout

    def run(self, path: Path, job: str) -> float:
        """Seconds that a job takes there."""
        self._stdin.write(json.dumps([str(path), job]) + "\n")
        self._stdin.flush()
        return float(self._stdout.readline())


def main() -> None:
    """Write the arrays, run both builds in turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--cases", default=",".join(KEYS))
    parser.add_argument("--size", type=float, default=100, help="megabytes decoded of an array")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--symbol", default="cm-btcusd")
    options = parser.parse_args()

    sys.path.insert(0, str(HERE.parent / "examples"))
    from cases import CASES  # needs zarr-python and the installed tempozarr

    builds = [Build(options.old.resolve()), Build(options.new.resolve())]
    ratios: dict[str, list[float]] = {}
    print(f"{'':10}{'job':9}{'old ms':>10}{'new ms':>10}{'ratio':>8}")
    for key in options.cases.split(","):
        case = CASES[key]
        path = OUTPUT / f"compare-{options.size:g}-{key}"
        for _ in case.write(path, case.tiled(options.symbol, options.size)):
            pass
        for job in ("full", "windows", "small", "open"):
            for build in builds:
                build.run(path, job)  # opens the array and touches its memory
            turns = []
            for turn in range(options.turns):
                order = (0, 1) if turn % 2 else (1, 0)
                seconds = {i: builds[i].run(path, job) for i in order}
                turns.append((seconds[0], seconds[1]))
            old, new = (statistics.median(side) * 1e3 for side in zip(*turns, strict=True))
            ratio = statistics.median(before / after for before, after in turns)
            ratios.setdefault(job, []).append(ratio)
            print(f"{key:10}{job:9}{old:10.2f}{new:10.2f}{ratio:8.3f}", flush=True)
    for job, values in ratios.items():
        print(f"{'all':10}{job:9}{'':20}{statistics.geometric_mean(values):8.3f}")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
