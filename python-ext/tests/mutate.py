"""Mutation fuzzing: hostile stores, and everything that tempozarr does with a store.

    python python-ext/tests/mutate.py --seed 7 --cases 10000 --jobs 2
    python python-ext/tests/mutate.py --case 7:123 --keep kept  # one case again, and its store

A finding is an error that is not tempozarr's, a panic, a signal, a hang, memory beyond the limit,
other values than zarr-python reads, or a change outside the store. Cases run in children of this
process, under limits of memory and time; one that kills its child runs again alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import importlib
import io
import json
import mmap
import os
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

# Before numpy is imported: its threads would take address space, and a fork leaves them behind.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["RUST_BACKTRACE"] = "0"
# Each thread's own heap would take 64 MiB of address space (M_ARENA_MAX).
ctypes.CDLL(None).mallopt(-8, 1)

import tempozarr  # noqa: E402
from exercise import Box, Exercise, Finding, digest  # noqa: E402
from mutants import Pools, Tree, build, draw, goldens, groups, remove  # noqa: E402

CHUNK_BYTES = 64 << 20
"""What stores may ask for: see `tempozarr.set_limits`."""
HEADROOM = 16 * CHUNK_BYTES
"""Bytes of address space that a child may take beyond what this process has."""
BATCH = 250
CPU_SECONDS = 10.0
"""Of a case; such as are sound take some 5 ms."""
SECONDS = 40.0
"""Of a case by the clock."""
IDLE_SECONDS = 8.0
"""By the clock, without any use of a CPU: then it waits for something."""
_STATE = struct.Struct("<qqdd32s")


@dataclass
class Summary:
    """What many cases came to."""

    cases: int = 0
    findings: list[Finding] = field(default_factory=list)
    oracle_deaths: int = 0
    peak: int = 0
    cpu: float = 0.0
    seconds: float = 0.0

    def groups(self) -> list[tuple[str, list[Finding]]]:
        """Findings by bug, the most frequent first."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.key, []).append(finding)
        return sorted(found.items(), key=lambda item: -len(item[1]))

    def __str__(self) -> str:
        lines = []
        for key, findings in self.groups():
            lines += [f"== {len(findings)}x {key}", findings[0].text, ""]
            if len(findings) > 1:
                lines.insert(-1, f"  also {', '.join(f.case for f in findings[1:6])}")
        return "\n".join([*lines, self._last()])

    def brief(self) -> str:
        """A line for each bug."""
        lines = [f"{len(found):5}x {key}  [{found[0].case}]" for key, found in self.groups()]
        return "\n".join([*lines, self._last()])

    def _last(self) -> str:
        rate = self.cases / max(self.seconds, 1e-9)
        return (
            f"{self.cases:,} cases in {self.seconds:.1f} s ({rate:.0f} a second; {self.cpu:.1f} s of CPU), "
            f"{len(self.findings)} findings of {len(self.groups())} kinds, "
            f"zarr-python died {self.oracle_deaths} times, peak of a child {self.peak >> 20} MiB"
        )


class State:
    """Which case a child is at, told to its parent through shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _STATE.size)
        self.printed = 0
        self.set(-1, "start")

    def set(self, number: int, what: str) -> None:
        """Set it, in the child."""
        used = time.monotonic(), time.process_time()
        # At once: `pack_into` would make it zeros first.
        self._memory[:] = _STATE.pack(number, self.printed, *used, what.encode()[:32])

    def get(self) -> tuple[int, float, float, str]:
        """Number of the case, clock and CPU time when this began, and what it does."""
        number, self.printed, clock, cpu, what = _STATE.unpack_from(self._memory, 0)
        return number, clock, cpu, what.rstrip(b"\0").decode()


@dataclass
class Child:
    """A process that runs cases, one after the other."""

    numbers: Sequence[int]
    oracle: bool
    place: Path
    state: State
    pid: int = 0
    hung: str = ""
    used: float = 0.0  # seconds of CPU that were seen last, and when it was another number
    since: float = 0.0

    @property
    def results(self) -> Path:
        return self.place.with_suffix(".jsonl")

    @property
    def errors(self) -> Path:
        return self.place.with_suffix(".stderr")


class Fuzzer:
    """Runs cases of one seed."""

    def __init__(self, seed: int, scratch: Path, keep: Path | None = None) -> None:
        self._seed = seed
        self._scratch = scratch
        self._keep = keep
        self._seeds = seeds(scratch)
        self._pools = Pools(self._seeds)
        self._made = 0
        self._summary = Summary()
        warm_up(self._seeds, scratch)

    def run(
        self, numbers: Sequence[int], jobs: int = 1, stop: Callable[[], bool] = lambda: False
    ) -> Summary:
        """Run cases by number."""
        began = time.monotonic()
        todo = [(numbers[at : at + BATCH], True) for at in range(0, len(numbers), BATCH)][::-1]
        running: list[Child] = []
        while todo or running:
            while todo and len(running) < jobs and not stop():
                running.append(self._start(*todo.pop()))
            if not running:
                break
            time.sleep(0.01)
            for child in list(running):
                if (status := self._ended(child)) is not None:
                    running.remove(child)
                    todo += self._collect(child, status)
        self._summary.seconds = time.monotonic() - began
        return self._summary

    def _start(self, numbers: Sequence[int], oracle: bool) -> Child:
        self._made += 1
        child = Child(numbers, oracle, self._scratch / f"child{self._made}", State())
        sys.stdout.flush()
        child.pid = os.fork()
        if child.pid == 0:
            status = 1
            try:
                self._be(child)
                status = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(status)
        return child

    def _be(self, child: Child) -> None:
        """Run cases, in the child."""
        errors = os.open(child.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        os.dup2(errors, 1)
        faulthandler.enable(2)
        faulthandler.register(signal.SIGUSR1, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = (
            int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + HEADROOM
        )
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        cpu = int(CPU_SECONDS * (len(child.numbers) + 1))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        tempozarr.set_limits(chunk_bytes=CHUNK_BYTES, subchunks=1 << 16)
        box = Box(child.place)
        with child.results.open("a") as results:
            for number in child.numbers:
                before = child.state.printed = os.fstat(2).st_size
                child.state.set(number, "draw")
                case = draw(self._seed, number, self._seeds, self._pools)
                tell = partial(child.state.set, number)
                exercise = Exercise(case, box, tell, oracle=child.oracle)
                findings = exercise.run()
                if os.fstat(2).st_size > before:
                    findings += _panics(child, before, str(case))
                for finding in findings:
                    results.write(json.dumps(asdict(finding)) + "\n")
                results.flush()
        box.clear()

    def _ended(self, child: Child) -> int | None:
        """How a child ended; None while it runs."""
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        _, clock, cpu, what = child.state.get()
        now, total = time.monotonic(), _cpu_seconds(child.pid)
        if total != child.used or child.since < clock:
            child.used, child.since = total, now
        used = total - cpu
        hangs = used > CPU_SECONDS or now - clock > SECONDS or now - child.since > IDLE_SECONDS
        if not pid and hangs:
            child.hung = f"{what}: {used:.1f} s of CPU, {now - clock:.1f} s"
            os.kill(child.pid, signal.SIGUSR1)  # prints where it is
            time.sleep(0.2)
            os.kill(child.pid, signal.SIGKILL)
            pid, status, usage = os.wait4(child.pid, 0)
        if not pid:
            return None
        self._summary.peak = max(self._summary.peak, usage.ru_maxrss * 1024)
        self._summary.cpu += usage.ru_utime + usage.ru_stime
        return status

    def _collect(self, child: Child, status: int) -> list[tuple[Sequence[int], bool]]:
        """Take what a child found; give what is still to run."""
        summary = self._summary
        number, _, _, what = child.state.get()
        with contextlib.suppress(FileNotFoundError), child.results.open() as results:
            summary.findings += [Finding(**json.loads(line)) for line in results]
        errors = ""
        if child.errors.exists():
            errors = child.errors.read_bytes()[child.state.printed :].decode(errors="replace")
        if self._keep is None:
            remove(child.place)
        child.results.unlink(missing_ok=True)
        child.errors.unlink(missing_ok=True)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            summary.cases += len(child.numbers)
            return []
        if number not in child.numbers:
            raise RuntimeError(f"a child died before its first case: {errors}")
        at = list(child.numbers).index(number)
        rest = [(child.numbers[at + 1 :], child.oracle)] if at + 1 < len(child.numbers) else []
        summary.cases += at
        if what == "oracle" and child.oracle:
            summary.oracle_deaths += 1
            return [*rest, ([number], False)]
        if len(child.numbers) > 1 and not child.hung:
            return [*rest, ([number], child.oracle)]  # does it die alone?
        case = draw(self._seed, number, self._seeds, self._pools)
        end = f"hangs in {child.hung.partition(':')[2]}" if child.hung else _death(status)
        kind = "hang" if child.hung else _death(status)
        summary.cases += 1
        summary.findings.append(
            Finding(
                case.name,
                f"{kind} in {what}: {_where(errors)}",
                f"{end}\n  {case}\n{errors[-3000:]}",
            )
        )
        return rest


def _panics(child: Child, before: int, case: str) -> list[Finding]:
    """Panics of Rust that somebody caught: they are printed nevertheless."""
    with child.errors.open("rb") as file:
        file.seek(before)
        text = file.read().decode(errors="replace")
    places = sorted(set(re.findall(r"panicked at ([^\n]*)", text)))
    name = case.partition(" ")[0]
    return [
        Finding(name, f"panic at {_source(place)}", f"{text[:1500]}\n  {case}") for place in places
    ]


def _source(place: str) -> str:
    return re.sub(r"^.*/(?=[^/]+-\d+\.\d+\.\d+[^/]*/)", "", place)


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"


def _where(errors: str) -> str:
    """What the process said when it died: of Rust or C, and the innermost frame of tempozarr."""
    said = re.findall(
        r"memory allocation of|panicked at [^\n]*|overflowed its stack|Segmentation fault", errors
    )
    frames = re.findall(r'File "([^"]*)", line \d+ in (\S+)', errors)
    ours = [(file, name) for file, name in frames if "/tempozarr/" in file]
    at = (ours or frames or [("?", "?")])[0]
    return f"{_source(said[-1]) if said else 'nothing said'}, {Path(at[0]).name}:{at[1]}"


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- seeds that have to be written -----------------------------------------------------------------


def seeds(scratch: Path) -> dict[str, Tree]:
    """All stores that are changed, by name."""
    found = goldens()
    found |= groups(found)
    for name, write in WRITTEN.items():
        folder = scratch / "written" / name
        folder.parent.mkdir(exist_ok=True)
        _in_child(partial(write, folder))
        found[name] = _packed(folder)
    if not any(path.endswith(".tempozarr/journal.json") for path in found["unfinished"]):
        raise RuntimeError(f"expected a journal, got {sorted(found['unfinished'])}")
    return found


def _packed(folder: Path) -> Tree:
    """The files of a store, with the same names of staged files in every run."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = "\n".join([*files, *(content.decode("latin-1") for content in files.values())])
    names = dict.fromkeys(re.findall(r"[0-9a-f]{32}", text))
    for number, name in enumerate(names):
        same = f"{number:032x}"
        files = {
            path.replace(name, same): content.replace(name.encode(), same.encode())
            for path, content in files.items()
        }
    return dict(files)


def _write_market(folder: Path) -> None:
    import numpy as np

    schema = tempozarr.schemas.market(levels=3, float16=True)
    rng = np.random.default_rng(1)
    layout = {"time": (8, None), "book": (4, 16)}
    with tempozarr.Writer(folder, schema, layout=layout) as writer:
        for begin in (0, 13):
            writer.append(
                {
                    "time": np.arange(begin, begin + 13),
                    "book": rng.integers(0, 9, (13, 6, 3)).astype("f4"),
                }
            )
            writer.flush()


def _write_unfinished(folder: Path) -> None:
    """A store whose writer was killed after it had written the journal of its second flush."""
    _write_market(folder)
    journal = False

    def watch(event: str, details: tuple[object, ...]) -> None:
        nonlocal journal
        if event == "os.rename":
            if journal:
                os._exit(0)
            journal = str(details[1]).endswith("journal.json")

    sys.addaudithook(watch)
    with tempozarr.Writer(folder, mode="a") as writer:
        rows = {path: tempozarr.open_array(folder / path)[:5] for path in ("time", "book")}
        writer.append(rows)
    raise RuntimeError("the writer was not killed")


WRITTEN: dict[str, Callable[[Path], None]] = {
    "market": _write_market,
    "unfinished": _write_unfinished,
}


def _in_child(act: Callable[[], object]) -> None:
    """Do something in a child: threads that it starts must not be there when this process forks."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                act()
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("cannot write the stores to start from")


def warm_up(stores: dict[str, Tree], scratch: Path) -> None:
    """Import what the cases will need, so that each child does not: without starting a thread."""
    import numcodecs.registry
    import zarr.codecs.numcodecs
    import zarr.registry

    for module in ("copy", "info", "loader", "pipeline", "verify", "writer"):
        importlib.import_module(f"tempozarr._{module}")
    warnings.simplefilter("ignore")
    codecs = {codec.get("name") or codec.get("id") for codec in Pools(stores).codecs}
    for name in sorted(str(codec) for codec in codecs):
        for look_up in (
            zarr.registry.get_codec_class,
            lambda name: numcodecs.registry.get_codec({"id": name}),
        ):
            with contextlib.suppress(Exception):
                look_up(name)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in memory where there is one: stores are made and removed by the thousand."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="mutate-"))
    try:
        yield folder
    finally:
        remove(folder)


def main() -> int:
    """Run; the exit status is 1 if there is a finding."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the cases, which are always the same"
    )
    parser.add_argument("--cases", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--brief", action="store_true", help="a line for each kind of finding")
    parser.add_argument("--case", help="run one case again: SEED:NUMBER")
    parser.add_argument("--keep", type=Path, help="with --case: where to put its store")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of any bytes
    numbers: Sequence[int] = range(options.first, options.first + options.cases)
    seed = options.seed
    if options.case:
        seed, number = map(int, options.case.split(":"))
        numbers = [number]
    with scratch_folder() as scratch:
        fuzzer = Fuzzer(seed, scratch)
        if options.case:
            case = draw(seed, numbers[0], fuzzer._seeds, fuzzer._pools)
            sys.stdout.write(f"{case}\n{digest(case)}\n")
            if options.keep:
                build(case.tree, options.keep)
        summary = fuzzer.run(numbers, options.jobs)
    sys.stdout.write(f"{summary.brief() if options.brief else summary}\n")
    return 1 if summary.findings else 0


if __name__ == "__main__":
    sys.exit(main())
