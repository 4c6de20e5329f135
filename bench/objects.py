"""Reads of an S3 store that answers late: seconds and requests, of tempozarr and of zarr-python.

`python bench/objects.py [milliseconds]` serves a sharded array of float32 on loopback, from a
process of its own, and reads it with each in turn. Everything that is read is compared.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

import tempozarr

sys.path.insert(0, str(Path(__file__).parents[1] / "python-ext" / "tests"))
from faulty import Faulty, files, serving

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS, ROWS, TURNS = 64, 50_000, 5
RNG = np.random.default_rng(0)


def serve(root: Path, latency: float, pipe: Any) -> None:
    """Serve until told to stop; tell what was asked for, and begin to count anew."""
    with serving(Faulty(files(root), latency=latency)) as server:
        pipe.send(server.url)
        while pipe.recv():
            pipe.send((sum(server.gets.values()), server.most))
            server.forget()


def main() -> None:
    """Measure, and print a table."""
    latency = float(sys.argv[1] if len(sys.argv) > 1 else 20) / 1000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        steps = RNG.integers(-3, 4, (SHARDS * ROWS, 10))
        rows = (steps.cumsum(axis=0) / 100).astype("f4")
        shape = {"chunks": (1000, 10), "shards": (ROWS, 10)}
        zarr.create_array(root / "bucket" / "x", data=rows, **shape)
        stored = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
        print(f"{rows.nbytes / 1e6:.0f} MB, stored {stored / 1e6:.0f} MB, {SHARDS} shards")
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(root, latency, theirs)
        )
        server.start()
        try:
            measure(ours.recv(), ours, rows)
        finally:
            ours.send(False)
            server.join()


def measure(url: str, pipe: Any, rows: np.ndarray[Any, Any]) -> None:
    """Read in turns; print the median of each."""
    options = {"endpoint": url, "skip_signature": True, "allow_http": True}
    native = tempozarr.open_array("s3://bucket/x", storage_options=options)
    store = S3Store(
        "bucket",
        prefix="x",
        config={"endpoint": url, "skip_signature": True, "region": "us-east-1"},
        client_options={"allow_http": True},
    )
    array = zarr.open_array(ObjectStore(store, read_only=True), mode="r")
    with tempozarr.enable():
        enabled = zarr.open_array(ObjectStore(store, read_only=True), mode="r")
    first = np.arange(SHARDS) * ROWS + 77

    ways: dict[str, tuple[Callable[[], Any], Any]] = {
        "tempozarr, all": (lambda: native[...], rows),
        "zarr-python, all": (lambda: array[...], rows),
        "zarr-python + enable(), all": (lambda: enabled[...], rows),
        "tempozarr, a row of each shard": (lambda: native.oindex[first], rows[first]),
        "zarr-python + enable(), a row of each shard": (lambda: enabled.oindex[first], rows[first]),
        "zarr-python, a row of each shard": (lambda: array.oindex[first], rows[first]),
    }
    told: dict[str, list[tuple[float, int, int]]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, (read, expected) in ways.items():
            pipe.send(True)
            pipe.recv()
            start = time.perf_counter()
            got = read()
            seconds = time.perf_counter() - start
            pipe.send(True)
            told[name].append((seconds, *pipe.recv()))
            np.testing.assert_array_equal(got, expected)
    for name, turns in told.items():
        seconds, gets, most = (statistics.median(turn[i] for turn in turns) for i in range(3))
        print(json.dumps({"read": name, "seconds": round(seconds, 3), "gets": gets, "most": most}))


if __name__ == "__main__":
    main()
