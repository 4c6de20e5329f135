"""Open, read, verify and change every array below a folder, with little memory, and print what came of it.

A line of JSON for each array: its name, and for each action the class and text of the error, or null.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr

import tempozarr
from tempozarr import _core

ADDRESSES = 6 << 30


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def outcome(action: Callable[[], Any]) -> list[str] | None:
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - a panic is none that `Exception` covers
        return [type(error).__name__, str(error)]
    return None


def corner(array: Any) -> Any:
    return array[tuple(slice(0, 1) for _ in array.shape)]


def verified(path: Path) -> None:
    faults = tempozarr.verify(path).faults
    if faults:
        raise ValueError(str(faults[0]))


def appender(path: Path) -> Any:
    return _core.Appender(_core.Beneath(str(path)), "", 0, "staged")


def by_zarr_python(path: Path, *, write: bool) -> None:
    """Let zarr-python read, or write, what our pipeline takes."""
    tempozarr.enable()
    try:
        array = zarr.open_array(path, mode="r+")
        if write:
            array[tuple(slice(0, 1) for _ in array.shape)] = 1
        else:
            corner(array)
    finally:
        tempozarr.disable()


def actions_on(path: Path) -> dict[str, Callable[[], Any]]:
    return {
        "open": lambda: tempozarr.open(path),
        "read": lambda: corner(tempozarr.open(path)),
        "all": lambda: tempozarr.open_array(path)[...],
        "verify": lambda: verified(path),
        "zarr": lambda: by_zarr_python(path, write=False),
        "append": lambda: appender(path),
        "write": lambda: by_zarr_python(path, write=True),
    }


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        say({"name": path.name})
        wanted = json.loads((path / "actions.json").read_text())
        for name, action in actions_on(path).items():
            if name in wanted:
                say({"action": name, "outcome": outcome(action)})


if __name__ == "__main__":
    main()
