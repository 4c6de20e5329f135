"""What the conformance tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from goldens import FOLDER, goldens

if TYPE_CHECKING:
    from pathlib import Path

    from goldens import Golden


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `golden` runs on every one; none at all is an error, not a pass."""
    if "golden" in metafunc.fixturenames:
        found = goldens()
        metafunc.parametrize("golden", found, ids=[golden.name for golden in found])


@pytest.fixture
def store(golden: Golden, tmp_path: Path) -> Path:
    """The store of `golden`, on disk."""
    return golden.unpack(tmp_path / "store")


@pytest.fixture(scope="session")
def not_yet() -> dict[str, str]:
    """By case, what the error says about what tempozarr does not read natively yet."""
    import json

    return json.loads((FOLDER.parent / "not_yet.json").read_text())["python"]
