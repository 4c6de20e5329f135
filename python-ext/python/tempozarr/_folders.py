"""Folders of stores: links in them are followed, but not without end, and every file is one."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING

from tempozarr._errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MOST_PATHS = 16
"""To one folder: what has more is not spread over disks, but never ends."""


class Places:
    """Where a walk down through folders is, and how often it was there: links may lead it round."""

    def __init__(self) -> None:
        self._above: list[tuple[int, int]] = []
        self._visits: Counter[tuple[int, int]] = Counter()

    def enter(self, folder: Path | str, depth: int) -> None:
        """Go into a folder, which has so many around it.

        Raises
        ------
        StoreError
            If it is one of these, or too many links lead there.
        """
        try:
            status = os.stat(folder)  # noqa: PTH116 (of what os.scandir gives)
        except OSError as e:
            raise StoreError(f"expected a folder at {folder}: {e}") from e
        place = status.st_dev, status.st_ino
        if place in self._above[:depth]:
            raise StoreError(
                f"expected a tree of folders, got a link from {folder} to one that it is in: "
                "remove the link"
            )
        self._visits[place] += 1
        if self._visits[place] > _MOST_PATHS:
            raise StoreError(
                f"expected at most {_MOST_PATHS} paths to one folder, got more with {folder}: "
                "remove links"
            )
        self._above[depth:] = [place]


def listed(folder: Path | str) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing if it has vanished.

    Raises
    ------
    StoreError
        If it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as e:
        raise StoreError(f"expected a folder that can be listed: {e}") from e


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or leads to one."""
    try:
        return entry.is_dir()
    except OSError:  # links that lead nowhere
        return False


def walk(
    folder: Path | str, enters: Callable[[str, bool], bool]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Names, with those of the folders around them, of what is in a folder and those below it.

    Parameters
    ----------
    folder
        Where to begin.
    enters
        Called with the name of a folder, and whether a link leads there: whether to go into it. If
        not, it is given itself.

    Raises
    ------
    StoreError
        If a folder cannot be listed, or links lead round in circles.
    """
    places = Places()
    places.enter(folder, 0)
    levels = [("", False, iter(listed(folder)))]
    while levels:
        prefix, is_linked, entries = levels[-1]
        for entry in entries:
            name = prefix + entry.name
            below = is_linked or entry.is_symlink()
            if is_folder(entry) and enters(name, below):
                places.enter(entry.path, len(levels))
                levels.append((f"{name}/", below, iter(listed(entry.path))))
                break
            yield name, entry
        else:
            levels.pop()


def expect_files(folder: Path, has: Callable[[str], object]) -> None:
    """Check what other programs would wait for, or take for nothing: all files are regular ones.

    Parameters
    ----------
    folder
        Folder of an array.
    has
        Whether something of that name in it is a chunk, and must be a file.

    Raises
    ------
    StoreError
        If one is not; and as for `walk`.
    """
    for _, entry in walk(folder, lambda name, _: not has(name)):
        try:
            is_file = stat.S_ISREG(entry.stat().st_mode)
        except FileNotFoundError:
            continue  # a link to nothing
        except OSError as e:
            raise StoreError(f"expected a regular file: {e}") from e
        if not is_file:
            raise StoreError(f"expected a regular file at {entry.path}, got something else")
