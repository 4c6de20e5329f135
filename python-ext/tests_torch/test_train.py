"""The example and the snippets that need torch run, and do what they say; briefly."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "examples" / program), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_mid(tmp_path: Path) -> None:
    said = run("train_mid.py", "--steps", 6, "--checkpoint", tmp_path / "middle.pt")
    assert "goes on at window 192 of epoch 0" in said
    assert "zarr-python, 2 workers" in said


def test_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    runpy.run_path(str(ROOT / "python-ext/tests/test_docs.py"))["test_training"](monkeypatch)
