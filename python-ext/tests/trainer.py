"""A training loop for the tests of `WindowLoader`; processes that are killed import it and no more."""

from __future__ import annotations

import json
import os
from itertools import zip_longest
from pathlib import Path
from typing import Any

from numbered import ids, loader_of


def train(store: Path, folder: Path, options: dict[str, Any], world_size: int, told: Any) -> None:
    """Log the windows of some epochs, and keep the state of each step; go on from the last one.

    All ranks take their steps in turn. `told` is the number of steps so far.
    """
    loader = loader_of(store, **options)
    ranks = [loader.with_rank(rank, world_size) for rank in range(world_size)]
    kept, log = folder / "state.json", folder / "log.txt"
    done = 0
    if kept.exists():
        saved = json.loads(kept.read_text())
        done = saved["windows"]
        for rank in ranks:
            rank.load_state_dict(saved["state"])
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:done]) if done else "")
    with log.open("a") as file:
        while True:
            for steps in zip_longest(*ranks):  # the last step may be one of some ranks
                found = ids(step for step in steps if step is not None)
                file.write("".join(f"{window}\n" for window in found))
                file.flush()
                done += len(found)
                saved = {"state": ranks[-1].state_dict(), "windows": done}
                (folder / "new.json").write_text(json.dumps(saved))
                os.replace(folder / "new.json", kept)  # noqa: PTH105
                told.value += 1
