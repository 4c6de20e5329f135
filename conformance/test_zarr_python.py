"""How zarr-python's own tests are compared with the list of known differences.

The tests themselves run apart: `make test-zarr-python`.
"""

from __future__ import annotations

import json

import pytest

from zarr_python.run import HERE, differences

OUTCOMES = {
    "a.py::both": "failed",
    "a.py::new": "failed",
    "a.py::one[x]": "failed",
    "a.py::one[y]": "passed",
    "a.py::all[x]": "failed",
    "a.py::all[y]": "failed",
    "a.py::all_the_rest[x]": "passed",
    "a.py::skipped": "skipped",
}
KNOWN = ["a.py::new", "a.py::one[x]", "a.py::all"]


@pytest.mark.parametrize(
    ("known", "everything", "expected"),
    [
        (KNOWN, True, []),
        (KNOWN[1:], True, ["fails, but is not listed: a.py::new"]),
        (KNOWN[:2], True, [f"fails, but is not listed: a.py::all[{i}]" for i in "xy"]),
        ([*KNOWN, "a.py::one"], True, ["listed, but does not fail: a.py::one[y]"]),
        ([*KNOWN, "a.py::both"], True, ["listed, but does not fail: a.py::both"]),
        ([*KNOWN, "a.py::skipped"], True, ["listed, but does not fail: a.py::skipped"]),
        ([*KNOWN, "a.py::gone"], True, ["listed, but there is no such test: a.py::gone"]),
        ([*KNOWN, "a.py::not_run"], False, []),
    ],
)
def test_differences(known: list[str], everything: bool, expected: list[str]) -> None:
    """What fails with ours alone is what is listed, test by test."""
    found = differences(OUTCOMES, {"a.py::both"}, known, everything=everything)
    assert found == expected


def test_every_known_difference_has_a_reason() -> None:
    """And none is listed twice."""
    entries = json.loads((HERE / "known.json").read_text())
    for entry in entries:
        assert set(entry) == {"reason", "releases", "tests"}
        assert entry["reason"]
        assert entry["releases"]
        assert entry["tests"] == sorted(set(entry["tests"]))
    for release in {release for entry in entries for release in entry["releases"]}:
        tests = [t for entry in entries if release in entry["releases"] for t in entry["tests"]]
        assert len(tests) == len(set(tests))
