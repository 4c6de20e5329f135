"""Measure tempozarr beside its peers and its limits; write results, tables and a chart.

Everything goes into `bench/output/`, the stores too, which the next run uses again. The exit status
is 1 if anyone read a wrong bit, or tempozarr could not read something.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

import processes
import report
from cases import CASES, Case
from measuring import DifferenceError, Tiled, machine, stored_bytes, warn_if_busy
from readers import Reader, Rust, Turn, compressors, readers, writers
from windows import Job, window_readers

HERE = Path(__file__).parent
ROOT = HERE.parent
RUST = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tempozarr-bench"
PEERS = ("zarrs", "zarrista", "tensorstore", "annbatch", "insitubatch", "torch")


@dataclass
class Entry:
    """The times in seconds of one competitor on one case, or why there are none."""

    case: str
    name: str
    kind: str
    threads: int | None
    decoded: int | None
    windows: int | None = None
    seconds: list[float] = field(default_factory=list)
    cannot: str | None = None
    notes: list[str] = field(default_factory=list)

    def take(self, turn: Callable[[], Turn], check: Callable[[Turn], None] | None) -> None:
        """Take one turn: timed, or, with `check`, only checked."""
        if self.cannot:
            return
        with warnings.catch_warnings(record=True) as caught:
            try:
                taken = turn()
                if check:
                    check(taken)
                else:
                    self.seconds.append(taken.seconds)
            except Exception as e:  # noqa: BLE001 - whatever a competitor raises is its result
                self.cannot = f"{type(e).__name__}: {e}"
        if check:
            self.notes += sorted({str(warning.message) for warning in caught})

    @property
    def failed(self) -> bool:
        """Whether this is a failure of the run, not only a gap in the table."""
        wrong = self.cannot is not None and self.cannot.startswith(DifferenceError.__name__)
        return wrong or (self.cannot is not None and self.kind != "peer")


def race(case: Case, path: Path, tiled: Tiled, rivals: list[Reader], repeats: int) -> list[Entry]:
    """Time every reader on a case, taking turns; the first turn is checked instead."""
    out = np.zeros(tiled.shape, tiled.base.dtype)
    crc32 = tiled.crc32()

    def check(turn: Turn) -> None:
        if isinstance(turn.read, np.ndarray):
            tiled.check("result", turn.read)
        elif turn.read not in {None, crc32}:
            raise DifferenceError(f"expected CRC-32 {crc32:08x}, got {turn.read:08x}")

    entries = [
        Entry(case.key, rival.label, rival.kind, rival.threads, tiled.nbytes) for rival in rivals
    ]
    for repeat in range(repeats + 1):
        for entry, rival in zip(entries, rivals, strict=True):
            if not repeat:
                out.fill(0)
            entry.take(partial(rival.take, path, out), None if repeat else check)
    return entries


def race_writers(
    case: Case, path: Path, tiled: Tiled, scratch: Path, rust: Rust, *, repeats: int
) -> list[Entry]:
    """Time every writer on a third of the data; limits are of what the case at `path` holds."""
    data = tiled.block(0, tiled.rows // 3)
    part = Tiled(tiled.base, len(data))
    target = scratch / "written.zarr"

    def check(_: Turn) -> None:
        part.check("written", np.asarray(zarr.open_array(target, mode="r")[:]))

    def entry(name: str, kind: str, threads: int | None, decoded: int) -> Entry:
        return Entry(case.key, name, kind, threads, decoded)

    rivals: list[tuple[Entry, Callable[[], Turn]]] = []
    for name, write in writers().items():
        kind = "tempozarr" if "tempozarr" in name else "peer"
        turn = partial(write, case, target, part, data)
        rivals.append((entry(name, kind, None, part.nbytes), turn))
    for limit in compressors(rust, os.cpu_count() or 1):
        turn = partial(limit.take, path, data)
        rivals.append((entry(limit.label, limit.kind, limit.threads, tiled.nbytes), turn))
    for repeat in range(repeats + 1):
        for entry, turn in rivals:
            untimed = check if entry.kind != "limit" else lambda _: None
            entry.take(turn, None if repeat else untimed)
            shutil.rmtree(target, ignore_errors=True)
    return [entry for entry, _ in rivals]


def race_windows(
    case: Case, path: Path, tiled: Tiled, rivals: list[Reader], *, repeats: int, count: int
) -> list[Entry]:
    """Time everyone who reads windows, taking turns; the first turn is checked instead."""
    job = Job(case, tiled, count)
    entries = [Entry(case.key, rival.label, rival.kind, rival.threads, None) for rival in rivals]

    def note(entry: Entry, turn: Turn) -> None:
        entry.windows, entry.decoded = turn.read

    for repeat in range(repeats + 1):
        job.checks = not repeat
        for entry, rival in zip(entries, rivals, strict=True):
            entry.take(partial(rival.take, path, job), None if repeat else partial(note, entry))
    return entries


def run_processes(path: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Take each measure of a process of its own, several times."""
    return {
        what: [processes.measure(what, path) for _ in range(repeats)] for what in processes.MEASURES
    }


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--size", type=float, default=600, help="MB of the larger cases (default: %(default)s)")
    add("--repeats", type=int, default=5, help="timed turns (default: %(default)s)")
    add("--cases", default=",".join(CASES), help="default: %(default)s")
    add("--symbol", default="cm-btcusd", help="group to tile (default: %(default)s)")
    add("--windows", type=int, default=640, help="at random, a turn (default: %(default)s)")
    add("--output", type=Path, default=HERE / "output", help="default: %(default)s")
    add("--docs", action="store_true", help="renew docs/benchmarks.md and its chart")
    args = parser.parse_args()
    args.cases = args.cases.split(",")
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return args


def memory_folder() -> str | None:
    """Return a folder in memory, if this system has one: writes are not about disks."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def measure(args: argparse.Namespace, rust: Rust, scratch: Path) -> Iterator[tuple[str, Any]]:
    """Yield the parts of the results."""
    cores = os.cpu_count() or 1
    stores = args.output / "stores" / f"{args.symbol}-{args.size:g}MB"
    cases: dict[str, Any] = {}
    reads: list[Entry] = []
    writes: list[Entry] = []
    windows: list[Entry] = []
    for key in tqdm(args.cases, "cases", disable=None):
        case, path = CASES[key], stores / f"{key}.zarr"
        tiled = case.tiled(args.symbol, args.size)
        for _ in tqdm(case.write(path, tiled), f"writing {key}", leave=False, disable=None):
            pass
        cases[key] = {
            "array": case.array,
            "chain": case.chain,
            "filters": bool(case.filters),
            "rows": case.rows,
            "shard": case.shard,
            "decoded": tiled.nbytes,
            "stored": stored_bytes(path),
        }
        if case.read:
            reads += race(case, path, tiled, readers(rust, cores), args.repeats)
        if case.written:
            writes += race_writers(case, path, tiled, scratch, rust, repeats=args.repeats)
        if case.windows:
            rivals = window_readers(rust, cores)
            windows += race_windows(
                case, path, tiled, rivals, repeats=args.repeats, count=args.windows
            )
    yield "cases", cases
    yield "reads", [asdict(entry) for entry in reads]
    yield "writes", [asdict(entry) for entry in writes]
    yield "windows", [asdict(entry) for entry in windows]
    if "P1" in cases:
        yield "processes", run_processes(stores / "P1.zarr", args.repeats)
    yield (
        "failures",
        [f"{e.case}, {e.name}: {e.cannot}" for e in reads + writes + windows if e.failed],
    )


def main() -> int:
    """Run the benchmarks; return the exit status."""
    args = arguments()
    # zarr-python says this of every numcodecs codec; here they are the point.
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
    args.output.mkdir(parents=True, exist_ok=True)
    warn_if_busy()
    results = {
        "machine": machine(*filter(find_spec, PEERS)),
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "symbol": args.symbol,
        "size": args.size,
        "repeats": args.repeats,
    }
    with Rust(RUST) as rust, tempfile.TemporaryDirectory(dir=memory_folder()) as scratch:
        results.update(measure(args, rust, Path(scratch)))
    (args.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(report.write(args.output))
    if args.docs:
        shutil.copy(args.output / "benchmarks.md", ROOT / "docs")
        shutil.copy(args.output / "images" / "benchmarks.png", ROOT / "docs" / "images")
    for failure in results["failures"]:
        print(f"FAILED: {failure}", file=sys.stderr)
    return bool(results["failures"])


if __name__ == "__main__":
    sys.exit(main())
