"""The snippets of some pages in `docs/` run, one after the other; the commands of `command-line.md` do as it says."""

import os
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tempozarr.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
@pytest.mark.parametrize(("page", "count"), [("training", 5), ("choosing-codecs", 1)])
def test_snippets(monkeypatch: pytest.MonkeyPatch, page: str, count: int) -> None:
    monkeypatch.chdir(ROOT)
    text = Path(f"docs/{page}.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(snippets) == count
    names: dict[str, Any] = {}
    for snippet in snippets:
        if "import torch" not in snippet or find_spec("torch"):
            exec(snippet, names)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("books.zarr", "backup.zarr"):
        shutil.copytree(ROOT / "examples/data/books.zarr/spot-btcusdt", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/command-line.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ tempozarr (.*)\n((?:[^$].*\n|\n)*)", "".join(blocks), re.MULTILINE)
    assert len(commands) == 5
    for number, (command, expected) in enumerate(commands):
        if number == 1:
            os.truncate("books.zarr/update_id/c/0", 5000)
            with Path("books.zarr/book/c/0/0/0").open("r+b") as file:
                file.seek(300_000)
                file.write(b"x")
        main(shlex.split(command))
        told = capsys.readouterr()
        assert plain(told.out + told.err) == plain(expected)


def plain(told: str) -> str:
    """What was told, without times, and places where they change widths."""
    return re.sub(
        r"[ -]+", " ", re.sub(r"\b\d+\.\d( s\b| +0 |\s*$)", "#", told, flags=re.MULTILINE)
    ).strip()
