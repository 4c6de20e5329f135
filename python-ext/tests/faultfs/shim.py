"""The shim: built, armed in a child process, and its log."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")

# Of shim.c: which calls are counted, and what happens to the chosen one.
CHANGES, SYNCS, CLOSES, LOCKS, READS = 1, 2, 4, 8, 16
KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL, FAIL_DONE, SHORT = range(1, 7)
# Without closing and locking, for what the disk sees.
DISK = CHANGES | SYNCS
ALL = DISK | CLOSES | LOCKS


@dataclass(frozen=True)
class Fault:
    """What happens to a call."""

    name: str
    action: int
    error: int = 0
    onward: bool = False


KILLS = (
    Fault("killed before", KILL_BEFORE),
    Fault("killed after", KILL_AFTER),
    Fault("killed halfway", KILL_HALFWAY),
)
ERRORS = (
    Fault("EIO", FAIL, errno.EIO),
    Fault("EIO from then on", FAIL, errno.EIO, onward=True),
    # As of a network file system whose answer was lost.
    Fault("EIO, but done", FAIL_DONE, errno.EIO),
    Fault("ENOSPC", FAIL, errno.ENOSPC),
    Fault("ENOSPC from then on", FAIL, errno.ENOSPC, onward=True),
    # The disk gets full in the middle of a write.
    Fault("short, then ENOSPC", SHORT, errno.ENOSPC, onward=True),
)
SHORT_WRITE = Fault("short write", SHORT)


@dataclass(frozen=True)
class Call:
    """A line of the log: a call below the folder, or a note of the program (`path` is its text)."""

    number: int
    name: str
    result: int
    disturbed: bool
    flags: int
    offset: int
    path: str
    other: str
    written: bytes

    def __str__(self) -> str:
        names = [Path(path).name for path in (self.path, self.other) if path]
        parent = Path(self.path).parent.name
        return f"{self.number} {self.name} {parent}/{' -> '.join(names)} = {self.result}"


class Shim:
    """The shim, built with the C compiler in `folder`."""

    def __init__(self, folder: Path) -> None:
        library = folder / "shim.so"
        if not library.exists():
            compiler = os.environ.get("CC", "cc")
            flags = ["-shared", "-fPIC", "-O2"]
            subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True)
        self._library = ctypes.CDLL(str(library))

    def arm(
        self,
        root: Path,
        log: Path,
        *,
        kinds: int = ALL,
        at: int = 0,
        fault: Fault | None = None,
        record: bool = False,
    ) -> None:
        """Watch this process from now on; the log is to be outside `root`."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        action = fault.action if fault else 0
        error = self._library.faultfs_arm(
            str(root).encode(),
            descriptor,
            kinds,
            ctypes.c_long(at),
            action,
            fault.error if fault else 0,
            int(fault.onward if fault else False),
            int(record),
        )
        if error:
            raise OSError(error, f"seccomp: {os.strerror(error)}")

    def disarm(self) -> None:
        """Let everything pass."""
        self._library.faultfs_disarm()

    def note(self, text: str) -> None:
        """Log a line of text."""
        self._library.faultfs_note(text.encode())


def calls(log: Path) -> Iterator[Call]:
    """Read a log."""
    content = log.read_bytes()
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        fields = content[at:end].decode().split("\t")
        number, name, result, disturbed, flags, offset, length, path, other = fields
        at = end + 1 + int(length)
        yield Call(
            number=int(number),
            name=name,
            result=int(result),
            disturbed=disturbed == "1",
            flags=int(flags),
            offset=int(offset),
            path=path,
            other=other,
            written=content[end + 1 : at],
        )
