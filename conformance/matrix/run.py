"""Run the matrix and write `docs/conformance.md`: see `make conformance`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from independent import block

block("tempozarr")  # what is expected comes from zarr-python alone

from matrix import reasons, report  # noqa: E402
from matrix.families import SEED, cases  # noqa: E402
from matrix.harness import Participant, node, python, run  # noqa: E402

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


def participants(options: argparse.Namespace) -> list[Participant]:
    """Everyone, in the order of the tables."""
    seed, peers = options.seed, options.peers
    found = []
    for version, interpreter in (("3.1.6", options.old), ("3.4.2", options.new)):
        way, script = f"zarr-python {version}", "zarr_python.py"
        found += [
            python(way, interpreter, script, "plain", seed, writes=True),
            python(f"{way} + codec", interpreter, script, "installed", seed, ours=True),
            python(
                f"{way} + pipeline", interpreter, script, "pipeline", seed, writes=True, ours=True
            ),
        ]
    binaries = [str(options.binaries / f"matrix_{name}") for name in ("tempozarr", "zarrs")]
    return [
        *found,
        python("tempozarr", options.new, "native.py", ours=True),
        Participant("tempozarr (Rust)", (binaries[0],), writes=True, ours=True),
        Participant("zarrs", (binaries[1],), writes=True),
        python("zarrs-python", peers, "zarr_python.py", "zarrs", seed, writes=True),
        python("zarrista", peers, "zarrista_.py"),
        python("tensorstore", peers, "tensorstore_.py", writes=True),
        node(),
        python("GDAL", peers, "gdal.py"),
        python("z5py", peers, "z5.py"),
    ]


def main() -> int:
    """Exit status 1 if something is not as `reasons.toml` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", required=True, help="a Python with zarr-python 3.1.6")
    parser.add_argument("--new", required=True, help="a Python with zarr-python 3.4.2")
    parser.add_argument("--peers", required=True, help="a Python with the other readers")
    parser.add_argument("--binaries", type=Path, required=True, help="where cargo puts programs")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cases", default="", help="only cases whose names contain this")
    parser.add_argument(
        "--only",
        default="",
        help="only participants whose names contain one of these, separated by commas",
    )
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--cells", type=Path, help="write all cells there, as JSON lines")
    options = parser.parse_args()

    table = [case for case in cases(options.seed) if options.cases in case.name]
    who = [
        participant
        for participant in participants(options)
        if any(part in participant.name for part in options.only.split(","))
    ]
    whole = not options.cases and not options.only and options.seed == SEED
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        result = run(table, who, Path(folder))
    if options.cells:
        report.write_cells(options.cells, result)
    judged = reasons.judge(result, {participant.name for participant in who if participant.ours})
    problems = [*judged.problems, *(judged.stale if whole else ())]
    print(f"{len(result.cells)} cells: {dict(sorted(result.counts().items()))}")
    for problem in problems[:50]:
        print(problem, file=sys.stderr)
    if len(problems) > 50:
        print(f"and {len(problems) - 50} more", file=sys.stderr)
    if whole and not problems:
        options.document.write_text(report.document(options.seed, table, who, result, judged))
        print(f"written: {options.document}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
