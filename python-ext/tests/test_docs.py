"""The snippets of `docs/training.md` run, one after the other."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs:UserWarning")
def test_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = Path("docs/training.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 5
    names: dict[str, Any] = {}
    for snippet in snippets:
        if "import torch" not in snippet or find_spec("torch"):
            exec(snippet, names)
