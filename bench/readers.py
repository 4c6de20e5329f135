"""Who reads, and who writes: tempozarr, its peers, and the limits that nobody passes."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import tensorstore
import zarr
import zarrista
from zarr.core.buffer import default_buffer_prototype
from zarrista.store import FilesystemStore

import tempozarr
from cases import Case
from measuring import Tiled

FOLDER = Path(__file__).parent


class Turn(NamedTuple):
    """One timed turn: its seconds, and what was read or (from Rust) its CRC-32; None if nothing."""

    seconds: float
    read: Any


@dataclass(frozen=True)
class Reader:
    """A competitor. `take` is given the path of an array, and memory of its shape or a job."""

    name: str
    kind: str  # "peer", "tempozarr" or "limit"
    threads: int | None  # None: as many as it likes
    take: Callable[[Path, Any], Turn]

    @property
    def label(self) -> str:
        """Name, and threads where they are set."""
        if self.threads is None:
            return self.name
        return f"{self.name}, {self.threads} thread{'s' * (self.threads > 1)}"


# -- Python ------------------------------------------------------------------------------------

Read = Callable[[Path, np.ndarray], np.ndarray]


def timed(
    read: Read, within: Callable[[Path], AbstractContextManager[object]]
) -> Callable[[Path, np.ndarray], Turn]:
    """Return a turn: `read` timed, within a context that is not."""

    def take(path: Path, out: np.ndarray) -> Turn:
        with within(path):
            start = time.perf_counter()
            result = read(path, out)
            return Turn(time.perf_counter() - start, result)

    return take


def pipeline(path: str) -> Callable[..., AbstractContextManager[object]]:
    """Return the context in which zarr-python uses a pipeline."""
    return lambda *_: zarr.config.set({"codec_pipeline.path": path})


@contextmanager
def threads(count: int, path: Path) -> Iterator[None]:
    """Give tempozarr `count` threads, and have it start them."""
    with zarr.config.set({"threading.max_workers": count}):
        array = tempozarr.open_array(path)
        array.read(slice(0, (array.shards or array.chunks)[0]))
        yield


@contextmanager
def dropin(count: int, path: Path) -> Iterator[None]:
    """Have zarr-python use tempozarr and nothing else."""
    with threads(count, path), tempozarr.enable(strict=True):
        yield


def read_zarr(path: Path, _: np.ndarray) -> np.ndarray:
    """Read with zarr-python."""
    return np.asarray(zarr.open_array(path, mode="r")[:])


def read_zarr_into(path: Path, out: np.ndarray) -> np.ndarray:
    """Read with zarr-python into memory that is there already."""
    buffer = default_buffer_prototype().nd_buffer.from_numpy_array(out)
    zarr.open_array(path, mode="r").get_basic_selection(Ellipsis, out=buffer)
    return out


def read_tempozarr(path: Path, _: np.ndarray) -> np.ndarray:
    """Read with tempozarr."""
    return np.asarray(tempozarr.open_array(path)[...])


def read_tempozarr_into(path: Path, out: np.ndarray) -> np.ndarray:
    """Read with tempozarr into memory that is there already."""
    return np.asarray(tempozarr.open_array(path).read(out=out))


def read_zarrista(path: Path, _: np.ndarray) -> np.ndarray:
    """Read with zarrista."""
    return np.asarray(zarrista.Array.open(FilesystemStore(str(path)))[...].to_numpy())


def open_tensorstore(path: Path, cache_bytes: int = 0) -> tensorstore.TensorStore:
    """Open with tensorstore, with its own concurrency."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "recheck_cached_metadata": False,
        "recheck_cached_data": False,
        "context": {"cache_pool": {"total_bytes_limit": cache_bytes}},
    }
    return tensorstore.open(spec, read=True, open=True).result()


def read_tensorstore(path: Path, _: np.ndarray) -> np.ndarray:
    """Read with tensorstore, without a cache."""
    return np.asarray(open_tensorstore(path).read().result())


# -- Rust --------------------------------------------------------------------------------------


class Rust:
    """The program in `limits/`, as long as this is used as a context."""

    def __init__(self, program: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True, bufsize=1)  # noqa: S603
        if not (self._process.stdin and self._process.stdout):
            raise RuntimeError("the program was started without pipes")
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; RuntimeError with the program's text if it cannot be answered."""
        self._requests.write(json.dumps(request) + "\n")
        line = self._answers.readline()
        answer: dict[str, Any] = json.loads(line or '{"error": "the program ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def turn(self, what: str, count: int) -> Callable[[Path, np.ndarray], Turn]:
        """Return a turn: a request for `count` threads."""

        def take(path: Path, _: np.ndarray) -> Turn:
            answer = self.ask(what=what, array=str(path.absolute()), threads=count)
            return Turn(answer["seconds"], answer["crc32"])

        return take

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


# -- lists -------------------------------------------------------------------------------------

BASELINE = "zarr-python"
BEST = "tempozarr a.read(out=)"
LIMIT = "decode limit"
PIPELINES = {
    BASELINE: "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr-python, fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "zarrs-python": "zarrs.ZarrsCodecPipeline",
}
DROPIN = "zarr-python + tempozarr.enable()"


def readers(rust: Rust, cores: int) -> list[Reader]:
    """Return the competitors in the order of their turns; the first is compared with."""
    inside = partial(dropin, cores)
    result = [
        Reader(name, "peer", None, timed(read_zarr, pipeline(path)))
        for name, path in PIPELINES.items()
    ]
    result += [
        Reader("zarrista", "peer", None, timed(read_zarrista, pipeline(PIPELINES[BASELINE]))),
        Reader("tensorstore", "peer", None, timed(read_tensorstore, pipeline(PIPELINES[BASELINE]))),
        Reader(DROPIN, "tempozarr", None, timed(read_zarr, inside)),
        Reader(f"{DROPIN}, out=", "tempozarr", None, timed(read_zarr_into, inside)),
        Reader(
            "tempozarr a[...]", "tempozarr", None, timed(read_tempozarr, partial(threads, cores))
        ),
    ]
    for count in sorted({cores, 1}, reverse=True):
        result += [
            Reader(BEST, "tempozarr", count, timed(read_tempozarr_into, partial(threads, count))),
            Reader("zarrs in Rust, unfused", "peer", count, rust.turn("zarrs", count)),
            Reader("zarrs in Rust, fused", "tempozarr", count, rust.turn("fused", count)),
            Reader(LIMIT, "limit", count, rust.turn("decompress", count)),
            Reader("memcpy", "limit", count, rust.turn("memcpy", count)),
        ]
    return result


def compressors(rust: Rust, cores: int) -> list[Reader]:
    """Return the limits of writing: of an array that is stored with zstd, compressing it again."""
    return [
        Reader("zstd alone", "limit", count, rust.turn("compress", count))
        for count in sorted({cores, 1}, reverse=True)
    ]


def write_zarr(
    within: Callable[[], AbstractContextManager[object]],
    case: Case,
    path: Path,
    tiled: Tiled,
    data: np.ndarray,
) -> Turn:
    """Write everything at once through zarr-python."""
    with within():
        stored = case.create(path, tiled)
        start = time.perf_counter()
        stored[:] = data
        return Turn(time.perf_counter() - start, None)


def append(rows: int | None, case: Case, path: Path, _: Tiled, data: np.ndarray) -> Turn:
    """Append rows, so many at a time or all at once; opening, closing and syncing included."""
    schema = case.schema(data)
    start = time.perf_counter()
    with tempozarr.Writer(path, schema, layout={"": case.layout}) as writer:
        step = rows or len(data)
        for first in range(0, len(data), step):
            writer.append(data[first : first + step])
    return Turn(time.perf_counter() - start, None)


def writers() -> dict[str, Callable[[Case, Path, Tiled, np.ndarray], Turn]]:
    """Return the ways of writing that are timed."""
    return {
        **{name: partial(write_zarr, pipeline(path)) for name, path in PIPELINES.items()},
        DROPIN: partial(write_zarr, partial(tempozarr.enable, strict=True)),
        "tempozarr.Writer, all at once": partial(append, None),
        "tempozarr.Writer, 100 rows at a time": partial(append, 100),
    }
