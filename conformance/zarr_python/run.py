"""Run zarr-python's own tests with `tempozarr.CodecPipeline`; `make test-zarr-python` does.

They come with the source distribution of the zarr-python that is installed. What fails runs again
with zarr-python's default pipeline, in the same environment: what passes then must be exactly what
`known.json` lists, with a reason each. Arguments go to pytest; with any, only part of the list is
checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build/zarr-python"
OURS = "tempozarr.CodecPipeline"
LEFT_OUT = {
    "tests/benchmarks": "timings",
    "tests/test_docs.py": "code of the documentation, which needs packages of its own",
    "tests/test_examples.py": "scripts that install packages",
    "tests/test_regression": "scripts that install old releases",
}


def fetch(release: str) -> Path:
    """Download and unpack the source distribution, unless that was done."""
    folder = BUILD / f"zarr-{release}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        source = ["--no-deps", "--no-binary", "zarr", "--dest", str(BUILD), f"zarr=={release}"]
        subprocess.run([*pip, *source], check=True)  # noqa: S603
        with tarfile.open(BUILD / f"zarr-{release}.tar.gz") as archive:
            archive.extractall(BUILD / "unpacked", filter="data")
        (BUILD / "unpacked" / folder.name).rename(folder)
    return folder


def run(folder: Path, name: str, arguments: list[str], pipeline: str | None) -> dict[str, Any]:
    """Run pytest in `folder`; give what `recorder` recorded."""
    record = BUILD / f"{name}.json"
    record.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ZARR_", "TEMPOZARR_"))}
    environment |= {"PYTHONPATH": str(HERE), "HYPOTHESIS_PROFILE": "ci", "RECORD": str(record)}
    if pipeline:
        environment["ZARR_CODEC_PIPELINE__PATH"] = pipeline
    # Their own options are for benchmarks and doctests.
    options = ["-o", "addopts=", "-p", "recorder", "-p", "no:cacheprovider", "-q", "-rf"]
    log = BUILD / f"{name}.log"
    with log.open("w") as file:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", *options, *arguments],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=3600,
        )
    # 0 and 1 tell whether tests failed; the others, that not all of them ran, or none.
    if done.returncode not in {0, 1} or not record.exists():
        sys.exit(f"pytest ended with {done.returncode}; its output is in {log}")
    recorded: dict[str, Any] = json.loads(record.read_text())
    return recorded


def differences(
    outcomes: dict[str, str], fails_by_default: set[str], known: list[str], *, everything: bool
) -> list[str]:
    """Say what is not as `known` has it: tests, or functions of which all tests are meant.

    `outcomes` are those with our pipeline.
    """
    failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
    ours = failed - fails_by_default
    wrong = []
    listed: set[str] = set()
    for entry in known:
        tests = {test for test in outcomes if test == entry or test.startswith(f"{entry}[")}
        listed |= tests
        if not tests and everything:
            wrong.append(f"listed, but there is no such test: {entry}")
        wrong += [f"listed, but does not fail: {test}" for test in sorted(tests - ours)]
    return wrong + [f"fails, but is not listed: {test}" for test in sorted(ours - listed)]


def main() -> None:
    """Run, compare, report; exit status 1 if something is not as it should be."""
    release, arguments = version("zarr"), sys.argv[1:]
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = fetch(release)
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    paths = [] if any(part.startswith("tests") for part in arguments) else ["tests"]
    ours = run(folder, f"{release}-ours", [*ignored, *paths, *arguments], OURS)
    outcomes: dict[str, str] = ours["outcomes"]
    failed = [test for test, outcome in outcomes.items() if outcome == "failed"]
    default: dict[str, str] = {}
    if failed:
        default = run(folder, f"{release}-default", failed, None)["outcomes"]
        if missing := set(failed) - set(default):
            sys.exit(f"expected these to run with the default pipeline too: {sorted(missing)}")

    entries = [
        entry
        for entry in json.loads((HERE / "known.json").read_text())
        if release in entry["releases"]
    ]
    known = [test for entry in entries for test in entry["tests"]]
    fails_by_default = {test for test, outcome in default.items() if outcome == "failed"}
    wrong = differences(outcomes, fails_by_default, known, everything=not arguments)

    counts, stats = Counter(outcomes.values()), ours["stats"]
    rust, python = (stats[f"{way}_reads"] + stats[f"{way}_writes"] for way in ("rust", "python"))
    print(
        f"zarr-python {release}, its own tests with {OURS}: {counts['passed']} passed, "
        f"{counts['skipped']} skipped, {counts['failed']} failed, of which "
        f"{len(fails_by_default)} fail with the default pipeline too.\n"
        f"{rust} reads and writes in Rust, {python} left to zarr-python:"
    )
    for reason, count in sorted(stats["reasons"].items(), key=lambda item: -item[1])[:10]:
        print(textwrap.shorten(f"{count:8} {reason}", 110))
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(f"not as {HERE / 'known.json'} has it; pytest's output is in {BUILD}")


if __name__ == "__main__":
    main()
