"""Disturb all calls of all scenarios, or some."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("ZARR_THREADING__MAX_WORKERS", "1")

from faultfs.injection import Job, Loss, Runner, all_jobs, run_all, sample
from faultfs.scenarios import SCENARIOS, warm_up
from faultfs.shim import READS, Shim


def memory() -> str | None:
    """A folder that is memory, where nobody waits for a disk; if there is none, any."""
    shared = "/dev/shm"
    return shared if os.access(shared, os.W_OK) else None


def main() -> int:
    """Run, print what is wrong, and give an exit status."""
    parser = argparse.ArgumentParser(prog="python -m faultfs", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="all, if none is named")
    parser.add_argument("--sample", type=int, help="how many, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--reads", action="store_true", help="let calls that read fail, too")
    parser.add_argument("--only-reads", action="store_true", help="nothing but those")
    parser.add_argument("--faults", action="store_true", help="no losses of power")
    parser.add_argument("--power", action="store_true", help="nothing but losses of power")
    arguments = parser.parse_args()
    names = arguments.scenario or [
        name for name, scenario in SCENARIOS.items() if scenario.synced or not arguments.power
    ]
    warnings.simplefilter("ignore")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        place = Path(folder).resolve()
        shim = Shim(place)
        (place / "counting").mkdir()
        (place / "warm").mkdir()
        warm_up(place / "warm")
        counting = Runner(shim, place / "counting")
        jobs: list[Job | Loss] = []
        if not arguments.power:
            jobs += all_jobs(counting, names, reads=arguments.reads or arguments.only_reads)
        if not arguments.faults:
            for name in names:
                if name != "recover" and (SCENARIOS[name].synced or arguments.power):
                    jobs += counting.losses(SCENARIOS[name], arguments.seed)
        if arguments.only_reads:
            jobs = [job for job in jobs if isinstance(job, Job) and job.kinds == READS]
        chosen = sample(jobs, arguments.sample or len(jobs), arguments.seed)
        outcomes = [*run_all(shim, place, chosen, arguments.workers)]
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in sorted(wrong, key=str):
        sys.stdout.write(f"{outcome}\n")
    failed = Counter(outcome.job.scenario for outcome in wrong)
    for scenario, count in sorted(Counter(outcome.job.scenario for outcome in outcomes).items()):
        sys.stdout.write(f"{scenario}: {count} disturbed, {failed[scenario]} wrong\n")
    sys.stdout.write(f"{len(outcomes)} of {len(jobs)} in {time.monotonic() - began:.0f} s\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
