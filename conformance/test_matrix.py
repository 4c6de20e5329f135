"""The matrix, as much of it as fits into the tests: a sample of its cases, and whoever is at hand.
`make conformance` runs all of it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tempozarr

from matrix import families
from matrix.harness import Adapter, Cell, Participant, Result, Value
from matrix.reasons import judge, reasons

HERE = Path(__file__).parent
SAMPLE = 250  # cases

# In a process of its own, as what is expected comes from zarr-python alone. Prints what is wrong.
RUN = """
import sys, tempfile
from pathlib import Path
from independent import block
block("tempozarr")
import zarr
from matrix.families import SEED, cases, sample
from matrix.harness import node, python, run
from matrix.reasons import judge

version, zarrita, count = zarr.__version__, sys.argv[1] == "yes", int(sys.argv[2])
way, script = f"zarr-python {version}", "zarr_python.py"
who = [
    python(way, sys.executable, script, "plain", SEED, writes=True),
    python(f"{way} + codec", sys.executable, script, "installed", SEED, ours=True),
    python(f"{way} + pipeline", sys.executable, script, "pipeline", SEED, writes=True, ours=True),
    python("tempozarr", sys.executable, "native.py", ours=True),
    python("tensorstore", sys.executable, "tensorstore_.py", writes=True),
    *([node()] if zarrita else []),
]
table = [case for case in sample(SEED, count) if version in case.writers]
with tempfile.TemporaryDirectory() as folder:
    result = run(table, who, Path(folder))
print(*judge(result, {p.name for p in who if p.ours}).problems, sep="\\n", file=sys.stderr)
print(len(table), result.counts()["equal"])
"""


def test_a_sample_is_read_bit_for_bit_or_is_explained() -> None:
    """By those who are at hand."""
    zarrita = os.environ.get("ZARRITA") != "no"
    if zarrita and not (shutil.which("node") and (HERE / "zarrita" / "node_modules").is_dir()):
        pytest.fail(
            "expected node and what `npm ci` installs in conformance/zarrita; or ZARRITA=no"
        )
    arguments = [sys.executable, "-c", RUN, "yes" if zarrita else "no", str(SAMPLE)]
    done = subprocess.run(arguments, cwd=HERE, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    cases, equal = map(int, done.stdout.split())
    assert cases > SAMPLE * 0.8
    assert equal > cases * 8


def test_every_registered_codec_has_a_case() -> None:
    """The names are those of which an alias can be made."""
    with pytest.raises(ValueError, match="expected one of") as error:
        tempozarr.register_alias("in_house", "no such codec")
    names = ast.literal_eval(str(error.value).partition("expected one of ")[2])
    assert len(names) > 20
    chains = repr([(c.filters, c.serializer, c.compressors) for c in families.cases()])
    assert [name for name in names if f"'{name}'" not in chains] == []


@pytest.mark.parametrize("seed", [families.SEED, 1, 2])
def test_every_family_meets_everything(seed: int) -> None:
    """Every data type, layout, edge and fill value; and the same seed deals the same."""
    assert repr(families.cases(seed)) == repr(families.cases(seed))  # NaN is not NaN
    names = [case.name for case in families.cases(seed)]
    assert len(set(names)) == len(names)
    for family in families.families():
        mine = [case.name for case in family.cases(seed)]
        layouts = families.LAYOUTS if family.zarr_format == 3 else ("chunks",)
        dtypes = [families.label(dtype) for dtype in family.types]
        for axis in (dtypes, layouts, family.edges):
            for value in axis:
                assert any(f"-{value}-" in name for name in mine), (family.name, value)
        for fill in family.fills if family.zarr_format == 3 else family.fills[:4]:
            assert any(name.endswith(f"-{fill}") for name in mine), (family.name, fill)


def test_other_seeds_deal_other_cases() -> None:
    """A seed decides something."""
    assert repr(families.cases(1)) != repr(families.cases(2))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "crashed (SIGABRT)"),
        ("import sys; sys.exit('no more')", "crashed (status 1): no more"),
    ],
)
def test_a_reader_that_dies_is_a_cell_and_starts_again(program: str, said: str) -> None:
    """With its last words."""
    hello = """print('{"versions": {}}', flush=True); input(); """
    with Adapter(Participant("mortal", (sys.executable, "-c", hello + program))) as adapter:
        assert adapter.ask({}) == {"error": said}
        assert adapter.ask({}) == {"error": said}


def test_a_program_that_is_no_adapter_is_an_error() -> None:
    """An environment that is not set up must not look like a reader that can do nothing."""
    with pytest.raises(RuntimeError, match="expected a line with versions"):
        Adapter(Participant("none", (sys.executable, "-c", ""))).__enter__()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (np.array([1.0, np.nan], "f4"), ""),
        (np.array([1.0, np.nan], "f8"), "data type"),
        (np.array([[1.0, np.nan]], "f4"), "shape"),
        (np.array([1.0, 2.0], "f4"), "1 of 2 elements; the first at 1: 2.0 instead of nan"),
        (np.array([0x3F800000, 0x7FC00001], "u4").view("f4"), "at 1: nan (other bits)"),
    ],
)
def test_values_differ_by_their_bits(found: np.ndarray, said: str) -> None:
    """Equal values are not enough, and NaN is not NaN."""
    difference = Value.of(np.array([1.0, np.nan], "f4")).difference(Value.of(found))
    assert said in difference
    assert bool(said) == bool(difference)


def test_what_is_not_explained_is_a_problem() -> None:
    """Whatever it is."""
    cells = [
        Cell("bytes-f4", "zarrs", "GDAL", "different", "1 of 2 elements"),
        Cell("bytes-f4", "zarrs", "zarrita.js", "cannot", "a new error"),
        Cell("bytes-f4", "zarrs", "zarrs", "equal"),
    ]
    assert len(judge(Result(cells), set()).problems) == 2


def test_of_ours_only_what_is_known_is_explained() -> None:
    """A reason is an excuse for others only."""
    cell = Cell("xor-f4", "zarrs", "zarrita.js", "cannot", "Unknown codec: temporal_xor")
    assert judge(Result([cell]), set()).problems == []
    assert len(judge(Result([cell]), {"zarrita.js"}).problems) == 1


def test_what_is_known_is_listed() -> None:
    """The links of the reasons go to what exists."""
    for reason in reasons():
        if reason.known:
            page, _, anchor = reason.known.partition("#")
            text = (HERE.parent / "docs" / page).read_text(encoding="utf-8")
            titles = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
            anchors = ["".join(c for c in t.lower() if c.isalnum() or c in " -_") for t in titles]
            assert anchor in [title.replace(" ", "-") for title in anchors], reason.known
