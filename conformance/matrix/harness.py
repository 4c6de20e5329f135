"""Writers write every case, readers read every store; what comes of it are cells."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import oracle
from cases import apply_edit, create, source
from matrix.families import region, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cases import Case

HERE = Path(__file__).parent
ADAPTERS = HERE / "adapters"
TIMEOUT = 60  # seconds for one request

Answer = dict[str, Any]


@dataclass(frozen=True)
class Participant:
    """A program that reads, and may write. `ours` is held to the bars."""

    name: str
    command: tuple[str, ...]
    writes: bool = False
    ours: bool = False


def python(
    name: str, interpreter: str | Path, script: str, *arguments: object, **options: bool
) -> Participant:
    """A participant whose adapter is a script for Python."""
    command = (str(interpreter), str(ADAPTERS / script), *map(str, arguments))
    return Participant(name, command, **options)


def node() -> Participant:
    """zarrita.js."""
    command = ("node", str(HERE.parent / "zarrita" / "matrix.js"))
    return Participant("zarrita.js", command, writes=True)


class Adapter:
    """The process of a participant; one that dies or hangs is started again for what is left."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def ask(self, request: dict[str, Any]) -> Answer:
        """The answer to `request`, or an `error`."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, which the missing answer tells
        return self._answer()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            self.participant.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        hello = self._answer()
        if "versions" not in hello:
            raise RuntimeError(
                f"{self.participant.name}: expected a line with versions from "
                f"{' '.join(self.participant.command)}, got {hello}"
            )
        self.versions = hello["versions"]

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()
        return process.wait()

    def _answer(self) -> Answer:
        assert self._process is not None
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
                self._process.kill()
                self._stop()
                return {"error": f"no answer within {TIMEOUT} s"}
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                status = self._stop()
                if status < 0:  # what is said then are addresses, which differ from run to run
                    return {"error": f"crashed ({signal.Signals(-status).name})"}
                return {"error": f"crashed (status {status}){self._last_words()}"}
            line += read
        return json.loads(line)

    def _last_words(self) -> str:
        end = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, end - 2000))
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        return f": {said[-1].strip()}" if said else ""


@dataclass(frozen=True)
class Cell:
    """What a reader made of a store. `verdict` is `equal`, `cannot` or `different`."""

    case: str
    writer: str
    reader: str
    verdict: str
    detail: str = ""


@dataclass
class Result:
    """All cells; what could not be written, as cells whose reader is empty; and versions."""

    cells: list[Cell] = field(default_factory=list)
    refused: list[Cell] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """How many cells there are of each verdict."""
        return Counter(cell.verdict for cell in self.cells)


@dataclass(frozen=True)
class Value:
    """An array as an adapter hands it over."""

    dtype: np.dtype
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: np.ndarray) -> Value:
        """What an adapter should hand over of `array`."""
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return cls(little.dtype, little.shape, little.tobytes())

    @classmethod
    def received(cls, answer: Answer, file: Path) -> Value:
        """What an adapter handed over."""
        return cls(np.dtype(answer["dtype"]), tuple(answer["shape"]), file.read_bytes())

    def difference(self, other: Value) -> str:
        """How `other` differs from this; empty if it does not."""
        if other.dtype != self.dtype:
            return f"data type {other.dtype} instead of {self.dtype}"
        if other.shape != self.shape:
            return f"shape {other.shape} instead of {self.shape}"
        if other.data == self.data:
            return ""
        expected, found = (np.frombuffer(value.data, self.dtype) for value in (self, other))
        if len(found) != len(expected):
            return f"{len(found)} elements instead of {len(expected)}"
        rows = (np.frombuffer(v.data, np.uint8).reshape(len(expected), -1) for v in (self, other))
        first, *rest = np.flatnonzero(np.not_equal(*rows).any(axis=1))
        with np.errstate(invalid="ignore"):  # numpy makes text of a signalling NaN by a cast
            got, want = str(found[first]), str(expected[first])
        bits = " (other bits)" if got == want else ""
        return (
            f"{1 + len(rest)} of {len(expected)} elements; the first at {first}: "
            f"{got}{bits} instead of {want}"
        )


def run(
    table: Sequence[Case], participants: Sequence[Participant], folder: Path, jobs: int = 2
) -> Result:
    """Write `table` with every participant that writes, and read all stores with every one.

    Stores go into `folder`; `jobs` participants work at the same time. A participant that cannot
    even be started raises RuntimeError or OSError.
    """
    result = Result()
    requests = [_request(case, folder / "cases") for case in table]
    with ThreadPoolExecutor(jobs) as pool:
        writers = [participant for participant in participants if participant.writes]
        work = [pool.submit(_write, writer, table, requests, folder) for writer in writers]
        stores: list[Store] = []
        for writer, written in zip(writers, work, strict=True):
            found, refused = written.result()
            stores += found
            result.refused += [Cell(c, writer.name, "", "cannot", error) for c, error in refused]
        reading = [pool.submit(_read, reader, stores, folder) for reader in participants]
        for reader, read in zip(participants, reading, strict=True):
            cells, result.versions[reader.name] = read.result()
            result.cells += cells
    return result


@dataclass(frozen=True)
class Store:
    """A store that was written."""

    case: Case
    writer: str
    path: Path
    expected: Value


def _request(case: Case, folder: Path) -> dict[str, Any]:
    """A request to write `case`, but for where."""
    folder.mkdir(parents=True, exist_ok=True)
    # The metadata are zarr-python's.
    oracle.install()
    template = folder / "template"
    create(case, template)
    apply_edit(case, template)
    document = json.loads(
        (template / ("zarr.json" if case.zarr_format == 3 else ".zarray")).read_text()
    )
    shutil.rmtree(template)
    values = folder / f"{case.name}.bin"
    written = region(case)
    dtype = np.dtype(case.dtype)
    part = np.asarray(source(case)[tuple(slice(*ends) for ends in written)], dtype)
    values.write_bytes(part.astype(dtype.newbyteorder("<")).tobytes())
    return {
        "case": case.name,
        "document": document,
        "region": written,
        "values": str(values),
    }


def _write(
    writer: Participant, table: Sequence[Case], requests: Sequence[dict[str, Any]], folder: Path
) -> tuple[list[Store], list[tuple[str, str]]]:
    stores, refused = [], []
    with Adapter(writer) as adapter:
        for case, request in zip(table, requests, strict=True):
            path = folder / writer.name.replace(" ", "-") / case.name
            path.parent.mkdir(exist_ok=True)
            answer = adapter.ask({**request, "write": str(path)})
            if "error" in answer:
                refused.append((case.name, _shared(answer["error"], path)))
                continue
            values = wanted(case)
            expected = _read_back(adapter, path) if values is None else Value.of(values)
            if isinstance(expected, str):
                refused.append((case.name, f"cannot read it back: {expected}"))
            else:
                stores.append(Store(case, writer.name, path, expected))
    return stores, refused


def _shared(error: str, path: Path) -> str:
    """`error` without where the stores are in this run."""
    return error.replace(str(path), path.name)


def _read_back(adapter: Adapter, path: Path) -> Value | str:
    """What a writer reads itself, to which chains that lose something are held; or its error."""
    into = path.with_suffix(".expected")
    answer = adapter.ask({"read": str(path), "into": str(into)})
    return _shared(answer["error"], path) if "error" in answer else Value.received(answer, into)


def _read(
    reader: Participant, stores: Iterable[Store], folder: Path
) -> tuple[list[Cell], dict[str, str]]:
    into = folder / f"{reader.name.replace(' ', '-')}.read"
    cells = []
    with Adapter(reader) as adapter:
        for store in stores:
            answer = adapter.ask({"read": str(store.path), "into": str(into)})
            if "error" in answer:
                verdict, detail = "cannot", _shared(answer["error"], store.path)
            else:
                detail = store.expected.difference(Value.received(answer, into))
                verdict = "different" if detail else "equal"
            cells.append(Cell(store.case.name, store.writer, reader.name, verdict, detail))
        return cells, adapter.versions
