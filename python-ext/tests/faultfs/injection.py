"""Every file-system call of a scenario, disturbed in every way."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faultfs import power
from faultfs.scenarios import SCENARIOS, Scenario, Told
from faultfs.shim import ALL, DISK, ERRORS, KILLS, READS, SHORT_WRITE, Call, Fault, Shim, calls
from tempozarr import _commit

SECONDS = 60
"""After which a child hangs."""


@dataclass(frozen=True)
class Job:
    """A call to disturb."""

    scenario: str
    at: int
    fault: Fault
    kinds: int = ALL
    killed_first: tuple[str, int] | None = None
    """A scenario that is killed before, and behind which of its calls."""

    def __str__(self) -> str:
        first = (
            "after {} killed behind {}, ".format(*self.killed_first) if self.killed_first else ""
        )
        return f"{self.scenario}: {first}{self.fault.name}"


@dataclass(frozen=True)
class Loss:
    """A loss of power."""

    scenario: str
    crash: power.Crash

    def __str__(self) -> str:
        return f"{self.scenario}: power lost"


@dataclass
class Outcome:
    """What came of a job."""

    job: Job | Loss
    call: str = "none"
    error: str = ""
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.job}: {self.call}: " + "; ".join(self.wrong)


def fork(act: Callable[[], None], errors: Path) -> int:
    """Run something in a child process; give its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        signal.alarm(SECONDS)
        descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 2)
        act()
        status = 0
    except BaseException as e:  # noqa: BLE001 (nothing of the parent's may run here)
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{type(e).__name__}: {e}\n")
            sys.stderr.flush()
    os._exit(status)


def _forget_times() -> None:
    """Take journals for ours: the files of a disk that is written anew have other times.

    Only in a child.
    """
    _commit._made = lambda folder: 0


class Runner:
    """Runs jobs in forked children, in a folder of its own."""

    def __init__(self, shim: Shim, place: Path) -> None:
        self._shim = shim
        self._place = place
        self._templates: dict[str, tuple[Path, Told]] = {}
        self._errors = place / "errors"

    def template(self, scenario: Scenario) -> Path:
        """The folder in which a scenario begins."""
        return self._template(scenario)[0]

    def _template(self, scenario: Scenario) -> tuple[Path, Told]:
        if scenario.name not in self._templates:
            folder = self._place / f"template {scenario.name}"
            folder.mkdir()
            if fork(lambda: scenario.prepare(folder), self._errors):
                raise RuntimeError(f"cannot prepare {scenario.name}: {self._errors.read_text()}")
            self._templates[scenario.name] = folder, Told(scenario.before)
        return self._templates[scenario.name]

    def _begin(self, job: Job, folder: Path) -> Told:
        """Make the folder in which a job begins; give what was told of its store."""
        if job.killed_first is None:
            template, told = self._template(SCENARIOS[job.scenario])
            shutil.copytree(template, folder)
            return told
        # Anew each time: a copy of a store is not the store.
        name, at = job.killed_first
        first = Job(name, at, KILLS[1])
        before = self._begin(first, folder)
        return self._run(SCENARIOS[name], folder, first, before)[0]

    def record(self, scenario: Scenario, folder: Path) -> list[Call]:
        """Run a scenario undisturbed; give its calls and notes."""
        shutil.copytree(self.template(scenario), folder)
        log = self._place / "log"

        def act() -> None:
            _forget_times()
            self._shim.arm(folder, log, kinds=DISK, record=True)
            scenario.run(folder, lambda *told: self._shim.note(json.dumps(told)))

        if status := fork(act, self._errors):
            raise RuntimeError(f"{scenario.name}: {status}: {self._errors.read_text()}")
        return list(calls(log))

    def count(self, job: Job) -> list[Call]:
        """The calls of a scenario without a fault."""
        folder = self._place / "counted"
        scenario = SCENARIOS[job.scenario]
        self._begin(job, folder)
        self._run(scenario, folder, job, Told())
        shutil.rmtree(folder)
        return [call for call in calls(self._place / "log") if call.name != "note"]

    def _run(
        self, scenario: Scenario, folder: Path, job: Job, told: Told, check: Path | None = None
    ) -> tuple[Told, int]:
        log = self._place / "log"

        def act() -> None:
            self._shim.arm(folder, log, kinds=job.kinds, at=job.at, fault=job.fault)
            with contextlib.suppress(Exception):
                scenario.run(folder, lambda *told: self._shim.note(json.dumps(told)))
            self._shim.disarm()
            if check is not None:
                heard = hear(log, told)
                check.write_text(json.dumps([*scenario.check(folder, heard, False)]))

        status = fork(act, self._errors)
        return hear(log, told), status

    def losses(self, scenario: Scenario, seed: int) -> Iterator[Loss]:
        """All states of the disk after a loss of power."""
        folder = self._place / f"recorded {scenario.name}"
        calls = self.record(scenario, folder)
        before = self.template(scenario)
        if power.final(before, calls, folder) != power.tree_of(folder):
            raise RuntimeError(f"the calls of {scenario.name} do not explain what is on the disk")
        for crash in power.crashes(before, calls, folder, seed=seed):
            yield Loss(scenario.name, crash)

    def run(self, job: Job | Loss) -> Outcome:
        """Do it, and tell what is wrong afterwards."""
        self._errors.unlink(missing_ok=True)
        return self._lose(job) if isinstance(job, Loss) else self._disturb(job)

    def _lose(self, job: Loss) -> Outcome:
        scenario = SCENARIOS[job.scenario]
        folder, result = self._place / "folder", self._place / "result"
        folder.mkdir()
        power.write(job.crash.tree, folder)
        told = power.told(job.crash, Told(scenario.before))

        def check() -> None:
            _forget_times()
            result.write_text(json.dumps([*scenario.check(folder, told, True)]))

        status = fork(check, self._errors)
        wrong = [self._errors.read_text()] if status else json.loads(result.read_text())
        shutil.rmtree(folder)
        return Outcome(job, job.crash.behind, wrong=tuple(wrong))

    def _disturb(self, job: Job) -> Outcome:
        scenario = SCENARIOS[job.scenario]
        folder, result = self._place / "folder", self._place / "result"
        before = self._begin(job, folder)
        result.unlink(missing_ok=True)
        told, status = self._run(scenario, folder, job, before, result)
        outcome = Outcome(job, error=told.error)
        wrong = []
        hit = [call for call in calls(self._place / "log") if call.disturbed]
        if hit:
            outcome.call = str(hit[0]).replace(str(folder), "")
        if status == signal.SIGKILL and job.fault in KILLS:

            def check() -> None:
                result.write_text(json.dumps([*scenario.check(folder, told, True)]))

            status = fork(check, self._errors)
        if status:
            wrong.append(f"the child ended with status {status}")
        else:
            wrong += json.loads(result.read_text())
            if job.fault not in KILLS:
                wrong += self._wrong_errors(job, told)
        errors = self._errors.read_text() if self._errors.exists() else ""
        if status or "panicked" in errors:
            wrong.append(errors)
        outcome.wrong = tuple(wrong)
        shutil.rmtree(folder)
        return outcome

    def _wrong_errors(self, job: Job, told: Told) -> Iterator[str]:
        if not told.error and not told.closed:
            yield "neither finished nor failed"
        if job.fault is SHORT_WRITE and told.error:
            yield f"a short write is no error: {told.error}: {told.texts}"
        if told.error and told.error != "StoreError" and "copy" not in job.scenario:
            yield f"expected a StoreError, got {told.error}: {told.texts}"


def hear(log: Path, before: Told) -> Told:
    """What was told, after what was told before."""
    told = Told(before.before)
    told.states = set(before.states)
    for call in calls(log) if log.exists() else ():
        if call.name == "note":
            told.hear(call.path)
    return told


def all_jobs(runner: Runner, names: Iterable[str], *, reads: bool) -> Iterator[Job]:
    """Every call and every fault of scenarios."""
    for name in names:
        for killed_first in _killed_first(runner) if name == "recover" else (None,):
            job = Job(name, 0, SHORT_WRITE, killed_first=killed_first)
            for call in runner.count(job):
                for fault in (*KILLS, *ERRORS, SHORT_WRITE):
                    if _makes_sense(call, fault):
                        yield replace(job, at=call.number, fault=fault)
            if reads:
                job = replace(job, kinds=READS)
                for call in runner.count(job):
                    for fault in ERRORS[:2]:
                        yield replace(job, at=call.number, fault=fault)


def _killed_first(runner: Runner) -> Iterator[tuple[str, int]]:
    """Where to kill a writer, so that the next one has something to recover."""
    for name, count in (("write", 6), ("write anew", 6)):
        numbers = [call.number for call in runner.count(Job(name, 0, SHORT_WRITE))]
        # Not at its beginning, when there is no store.
        numbers = numbers[40:] if name == "write" else numbers
        for i in range(count):
            yield name, numbers[len(numbers) * i // count]


def _makes_sense(call: Call, fault: Fault) -> bool:
    if fault is KILLS[2] or fault is SHORT_WRITE:
        return call.name == "write"
    full = fault.name in {"ENOSPC", "ENOSPC from then on", "short, then ENOSPC"}
    if fault is KILLS[0]:
        return call.number == 1  # else it is as killed after the one before
    return not (full and call.name in {"unlink", "rmdir", "close", "flock"})


def run_all(
    shim: Shim, place: Path, jobs: list[Any], workers: int, until: float = float("inf")
) -> Iterator[Outcome]:
    """Run jobs in some processes; jobs that have not begun by then are left out."""
    gc.collect()
    gc.freeze()
    readers = []
    for worker in range(workers):
        reader, writer = os.pipe()
        if os.fork() == 0:
            status = 1
            try:
                os.close(reader)
                folder = place / f"worker {worker}"
                folder.mkdir()
                runner = Runner(shim, folder)
                with os.fdopen(writer, "w") as out:
                    for i in range(worker, len(jobs), workers):
                        if time.monotonic() > until:
                            break
                        outcome = runner.run(jobs[i])
                        out.write(
                            json.dumps([i, outcome.call, outcome.error, outcome.wrong]) + "\n"
                        )
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        readers.append(reader)
    for reader in readers:
        with os.fdopen(reader) as lines:
            for line in lines:
                i, call, error, wrong = json.loads(line)
                yield Outcome(jobs[i], call, error, tuple(wrong))
    for _ in readers:
        _, status = os.wait()
        if status:
            raise RuntimeError(f"a worker ended with status {status}")


def sample(jobs: Iterable[Any], count: int, seed: int) -> list[Any]:
    """Some of the jobs, about as many of each scenario."""
    by_scenario: dict[str, list[Any]] = {}
    for job in jobs:
        by_scenario.setdefault(job.scenario, []).append(job)
    rng = random.Random(seed)
    chosen: list[Any] = []
    for i, (_, some) in enumerate(sorted(by_scenario.items(), key=lambda item: len(item[1]))):
        share = (count - len(chosen)) // (len(by_scenario) - i)
        chosen += rng.sample(some, min(share, len(some)))
    rng.shuffle(chosen)
    return chosen
