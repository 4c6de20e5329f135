"""Read real order books with tempozarr, check every bit against zarr-python, and time both.

Writes a larger store by tiling the real one (kept for the next run), a table and two pictures
into `examples/output/`. The exit status is 1 if anything differs.
"""

import argparse
import json
import math
import shutil
import statistics
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zarr
import zarr.core.codec_pipeline
from tqdm import tqdm

import pictures
import tempozarr
from measuring import (
    BOOKS,
    DifferenceError,
    Tiled,
    check_equal,
    machine,
    markdown,
    real_array,
    stored_bytes,
    warn_if_busy,
)

OUTPUT = Path(__file__).parent / "output"

CHUNK_BYTES = 2_500_000  # decoded: 4,096 rows of a book, which is what long captures use
SHARD_CHUNKS = 16
# The arrays that are timed, and their share of --size.
TIMED = {"book": 1.0, "book_raw": 1.0, "time_ms": 1 / 3, "flow": 1 / 3}

# -- the example store -------------------------------------------------------------------------


def check_example(store: Path) -> None:
    """Read every array of the example store with both libraries and compare the bits."""
    books = tempozarr.open_group(store)
    print(books.tree(), end="\n\n")
    names = [f"{group}/{array}" for group, arrays in books.groups() for array, _ in arrays.arrays()]
    values = 0
    for name in tqdm(names, "checking", leave=False, disable=None):
        expected = zarr.open_array(store / name, mode="r")[...]
        got = tempozarr.open_array(store / name)[...]
        check_equal(name, got, np.asarray(expected))
        values += got.size
    print(f"{len(names)} arrays, {values:,} values: all bits equal zarr-python's\n")


# -- a larger store of the same data -----------------------------------------------------------


def large_arrays(symbol: str, megabytes: float) -> dict[str, Tiled]:
    """Describe the arrays of the larger store: the real ones of `symbol`, repeated."""
    return {
        name: Tiled.of(real_array(symbol, name), megabytes * share) for name, share in TIMED.items()
    }


def write_large(store: Path, books: Path, arrays: dict[str, Tiled]) -> None:
    """Write the larger store with zarr-python, each array with the codecs of the real one.

    A store that an earlier run completed is used again if it is of the same data.
    """
    identity = {name: [a.rows, zlib.crc32(a.base.tobytes())] for name, a in arrays.items()}
    try:
        if zarr.open_group(store, mode="r").attrs.get("complete") == identity:
            return
    except FileNotFoundError:
        pass
    shutil.rmtree(store, ignore_errors=True)
    root = zarr.create_group(store)
    total = sum(a.nbytes for a in arrays.values())
    with tqdm(
        total=total, desc="writing", unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        for name, tiled in arrays.items():
            real = zarr.open_array(books / name, mode="r")
            chunk_rows = 2 ** round(math.log2(CHUNK_BYTES / tiled.base[0].nbytes))
            stored = root.create_array(
                name,
                shape=tiled.shape,
                dtype=real.dtype,
                chunks=(chunk_rows, *real.shape[1:]),
                shards=(chunk_rows * SHARD_CHUNKS, *real.shape[1:]) if real.shards else None,
                filters=real.filters,
                serializer=real.serializer,
                compressors=real.compressors,
                fill_value=0,
            )
            for written in tiled.write_to(stored):
                bar.update(written)
    root.attrs["complete"] = identity


# -- the race ----------------------------------------------------------------------------------

Reader = Callable[[Path], np.ndarray]


def read_zarr(pipeline: str) -> Reader:
    """Return a reader: zarr-python with the named pipeline of its own."""

    def read(path: Path) -> np.ndarray:
        with zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{pipeline}"}):
            return np.asarray(zarr.open_array(path, mode="r")[...])

    return read


def read_dropin(path: Path) -> np.ndarray:
    """Read with zarr-python after `tempozarr.enable()`; an error if that changes nothing."""
    with tempozarr.enable(strict=True):
        return np.asarray(zarr.open_array(path, mode="r")[...])


def read_tempozarr(path: Path) -> np.ndarray:
    """Read with tempozarr into a new array."""
    return np.asarray(tempozarr.open_array(path)[...])


def read_into(out: np.ndarray) -> Reader:
    """Return a reader: tempozarr into a given array."""

    def read(path: Path) -> np.ndarray:
        return np.asarray(tempozarr.open_array(path).read(out=out))

    return read


def readers(out: np.ndarray) -> dict[str, Reader]:
    """Return the competitors; the first one is what the others are compared with."""
    fused = {}
    if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        fused["zarr-python, fused"] = read_zarr("FusedCodecPipeline")
    return {
        "zarr-python": read_zarr("BatchedCodecPipeline"),
        **fused,
        "zarr-python + tempozarr.enable()": read_dropin,
        "tempozarr a[...]": read_tempozarr,
        "tempozarr a.read(out=)": read_into(out),
    }


@dataclass
class Result:
    """Times in seconds of every reader for one array."""

    array: str
    decoded: int
    stored: int
    seconds: dict[str, list[float]]

    def median(self, reader: str) -> float:
        """Return the median time of a reader."""
        return statistics.median(self.seconds[reader])

    def speed(self, reader: str) -> float:
        """Return decoded GB/s of a reader."""
        return self.decoded / self.median(reader) / 1e9

    def ratio(self, reader: str) -> float:
        """Return how many times faster than the first reader this one is."""
        return self.median(next(iter(self.seconds))) / self.median(reader)


def race(store: Path, arrays: dict[str, Tiled], repeats: int) -> list[Result]:
    """Time every reader on every array, taking turns, and check everything that they read."""
    results = []
    # One untimed turn first: files into the page cache, imports and threads started.
    turns = (repeats + 1) * sum(len(readers(np.empty(0))) for _ in arrays)
    with tqdm(total=turns, desc="timing", leave=False, disable=None) as bar:
        for name, tiled in arrays.items():
            path = store / name
            out = np.zeros(tiled.shape, tiled.base.dtype)
            rivals = readers(out)
            seconds: dict[str, list[float]] = {rival: [] for rival in rivals}
            for repeat in range(repeats + 1):
                for rival, read in rivals.items():
                    out.fill(0)
                    start = time.perf_counter()
                    got = read(path)
                    elapsed = time.perf_counter() - start
                    if repeat:
                        seconds[rival].append(elapsed)
                    tiled.check(f"{name} by {rival}", got)
                    del got
                    bar.update()
            results.append(Result(name, tiled.nbytes, stored_bytes(path), seconds))
    return results


def table(results: list[Result]) -> str:
    """Format results as a Markdown table: GB/s of decoded data and the ratio to zarr-python."""
    rivals = list(results[0].seconds)
    rows = [["decoded GB/s", *(f"`{r.array}`" for r in results)]]
    sizes = (f"{r.decoded / 1e6:.0f} / {r.stored / 1e6:.1f}" for r in results)
    rows.append(["MB decoded / stored", *sizes])
    rows += (
        [rival, *(f"{r.speed(rival):.2f} ({r.ratio(rival):.1f}x)" for r in results)]
        for rival in rivals
    )
    return markdown(rows)


# -- the story ---------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", type=float, default=600, help="MB of `book`, decoded (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed turns (default: %(default)s)")
    parser.add_argument(
        "--symbol", default="cm-btcusd", help="group to tile (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    return parser.parse_args()


def main() -> int:
    """Run the demo; return the exit status."""
    args = arguments()
    # zarr-python says this of every numcodecs codec; here they are the point.
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        check_example(BOOKS)
        arrays = large_arrays(args.symbol, args.size)
        large = args.output / f"{args.symbol}-{args.size:.0f}MB.zarr"
        write_large(large, BOOKS / args.symbol, arrays)
        warn_if_busy()
        results = race(large, arrays, args.repeats)
    except DifferenceError as failed:
        print(f"CHECK FAILED: {failed}", file=sys.stderr)
        return 1
    print(f"Whole arrays, medians of {args.repeats} turns, all results checked ({machine()}):\n")
    print(table(results), end="\n\n")

    report = {"machine": machine(), "results": [asdict(r) for r in results]}
    (args.output / "timings.json").write_text(json.dumps(report, indent=1) + "\n")
    speeds = {r.array: {rival: r.speed(rival) for rival in r.seconds} for r in results}
    for picture in (
        pictures.heat_map(BOOKS / args.symbol, args.output / "book.png"),
        pictures.bar_chart(speeds, machine(), args.output / "timings.png"),
    ):
        print(f"wrote {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
