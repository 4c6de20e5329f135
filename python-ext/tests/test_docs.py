"""The snippets of some pages in `docs/` run, one after the other."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

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
