"""Threads, forks, spawned processes, and the GIL."""

import asyncio
import multiprocessing
import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import tempozarr
from conftest import ARRAYS, equal, ramp
from tempozarr.codecs import TemporalXOR

WAIT = 60.0  # seconds; only ever reached by a hang


def read_and_send(pipe: Connection, ours: tempozarr.Array, theirs: Any, folder: str) -> None:
    """In a child: read through everything that was handed over, and through fresh handles."""
    with tempozarr.enable(strict=True):
        fresh = zarr.open_array(folder, mode="r")
        pipe.send([ours[...], theirs[...], tempozarr.open_array(folder)[...], fresh[...]])
    pipe.close()


def child_reads(context: Any, folder: Path) -> list[NDArray[Any]]:
    with tempozarr.enable(strict=True):
        ours, theirs = tempozarr.open_array(folder), zarr.open_array(folder, mode="r")
        equal(ours[...], theirs[...])  # the parent's pool has threads
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=read_and_send, args=(there, ours, theirs, str(folder)))
        process.start()
        there.close()
        try:
            assert here.poll(WAIT), "the child hangs"
            results: list[NDArray[Any]] = here.recv()
            process.join(WAIT)
            assert process.exitcode == 0
        finally:
            process.kill()
        equal(ours[...], theirs[...])
    return results


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("name", ["three", "sharded"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_processes(stores: Path, method: str, name: str) -> None:
    for result in child_reads(multiprocessing.get_context(method), stores / name):
        equal(result, ARRAYS[name][0])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_other_threads_read(stores: Path) -> None:
    ours = tempozarr.open_array(stores / "three")
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            ours[...]

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                ok = bool((ours[...] == ARRAYS["three"][0]).all())
                os._exit(0 if ok else 1)
            killer = threading.Timer(WAIT, os.kill, (child, 9))
            killer.start()
            _, status = os.waitpid(child, 0)
            killer.cancel()
            assert status == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that takes long enough to read for other threads to do something meanwhile."""
    folder = tmp_path_factory.mktemp("large") / "a"
    data = ramp(512, 128, 64)
    with tempozarr.enable(strict=True):
        array = zarr.create_array(
            folder, shape=data.shape, chunks=(16, 128, 64), dtype="f4", filters=TemporalXOR()
        )
        array[...] = data
    return folder


def ticks_during(run: Any) -> int:
    """How often another Python thread got its turn while `run` ran."""
    ticks, running, started = 0, True, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while running:
            ticks += 1
            started.set()
            time.sleep(1e-4)  # leaves the GIL to whoever waits for it

    thread = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    thread.start()
    started.wait()
    # From now on nobody's GIL is taken away: a tick means that it was released.
    sys.setswitchinterval(1000)
    try:
        before = ticks
        run()
        return ticks - before
    finally:
        sys.setswitchinterval(interval)
        running = False
        thread.join()


def test_reads_release_the_gil(large: Path) -> None:
    ours = tempozarr.open_array(large)
    out = np.empty(ours.shape, ours.dtype)
    assert ticks_during(lambda: ours.read(out=out)) > 0
    points = tuple(np.random.default_rng(1).integers(0, n, 1000) for n in ours.shape)
    assert ticks_during(lambda: ours.vindex[points]) > 0


def test_the_event_loop_goes_on_during_a_read(large: Path) -> None:
    with tempozarr.enable(strict=True):
        theirs = zarr.open_array(large, mode="r").async_array

    async def main() -> int:
        turns = 0
        read = asyncio.ensure_future(theirs.getitem(...))
        while not read.done():
            turns += 1
            await asyncio.sleep(0)
        equal(await read, ramp(512, 128, 64))
        return turns

    assert asyncio.run(main()) > 3


def test_threads_share_an_array(large: Path) -> None:
    ours, want = tempozarr.open_array(large), ramp(512, 128, 64)

    def read(i: int) -> bool:
        return bool((ours[i * 40 : i * 40 + 50] == want[i * 40 : i * 40 + 50]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(12)))


def test_pickles_are_small(large: Path) -> None:
    ours = tempozarr.open_array(large)
    ours[0]
    assert len(pickle.dumps(ours)) < 300
