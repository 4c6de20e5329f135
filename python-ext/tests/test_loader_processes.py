"""`WindowLoader` in processes: killed, forked, interrupted, at exit; and what memory it takes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import numbered
from faulty import Faulty, Response, files, serving
from numbered import Source, ids, loader_of, write
from tempozarr import WindowLoader
from trainer import train

WAIT = 60.0  # seconds; only ever reached by a hang
KILLS = 20
ROWS = 500
WINDOWS = ROWS - 3

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tempozarr._loader", "tempozarr._writer", "zarr", "numbered"])
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Source(range(ROWS)).write(tmp_path_factory.mktemp("loader") / "store")


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An array whose chunks take a while to decode: 40 of 800 KB."""
    folder = tmp_path_factory.mktemp("loader") / "squeezed"
    array = zarr.create_array(folder, shape=(400, 10_000), chunks=(10, 10_000), dtype="i8")
    array[:] = np.arange(400)[:, None] + np.arange(10_000)
    return folder


# ---- Killed


@pytest.mark.parametrize("shuffle", ["global", "chunk"])
def test_killed_and_resumed(store: Path, tmp_path: Path, shuffle: Any) -> None:
    rng = random.Random(20240808)
    options: dict[str, Any] = {"shuffle": shuffle, "seed": 11, "cache_bytes": 6000}
    told = processes.Value("q", lock=False)
    done = [0]
    for _ in range(KILLS // 2):
        told.value = 0
        goal = rng.randrange(1, 8)
        shape = {"batch_size": rng.randrange(1, 60)}
        world_size = rng.randrange(1, 4)
        trainer = processes.Process(
            target=train, args=(store, tmp_path, options | shape, world_size, told), daemon=True
        )
        trainer.start()
        until = time.monotonic() + WAIT
        while told.value < goal:
            assert trainer.is_alive()
            assert time.monotonic() < until
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.002))
        trainer.kill()
        trainer.join()
        done.append(json.loads((tmp_path / "state.json").read_text())["windows"])
        assert done[-1] > done[-2]
    found = [int(line) for line in (tmp_path / "log.txt").read_text().splitlines()[: done[-1]]]
    loader = loader_of(store, batch_size=100, **options)
    whole: list[int] = []
    while len(whole) < len(found):
        whole += ids(loader)
    assert found == whole[: len(found)]


# ---- Forked, spawned


def send_ids(pipe: Connection, loader: WindowLoader) -> None:
    """In a child: twice, as the first epoch may leave something behind."""
    found = [ids(loader)]
    loader.set_epoch(loader.epoch - 1)
    pipe.send([*found, ids(loader), threading.active_count()])
    pipe.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("shuffle", ["global", "chunk"])
def test_children_iterate_over_a_loader(store: Path, method: str, shuffle: Any) -> None:
    context: Any = multiprocessing.get_context(method)
    loader = loader_of(store, shuffle=shuffle, cache_bytes=6000)
    whole = ids(loader)
    loader.set_epoch(0)
    loop = iter(loader)  # its thread goes on in the parent, and only there
    first = next(loop)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=send_ids, args=(there, loader))
    child.start()
    there.close()
    try:
        assert here.poll(WAIT), "the child hangs"
        one, two, threads = here.recv()
        child.join(WAIT)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert one == two == whole
    assert threads == 1
    assert ids([first, *loop]) == whole


def in_a_fork(what: Any) -> int:
    """Exit code of a forked child that calls `what`."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if what() else 1)
        except BaseException as e:  # noqa: BLE001
            os.write(2, repr(e).encode())
            os._exit(2)
    killer = threading.Timer(WAIT, os.kill, (child, signal.SIGKILL))
    killer.start()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    return os.waitstatus_to_exitcode(status)


def test_an_iterator_stays_with_its_process(store: Path) -> None:
    loader = loader_of(store)
    loop: Any = iter(loader)
    first = next(loop)
    text = "this iterator belongs to the process that was forked, whose thread fills it: iterate over the loader itself in this process"

    def child() -> bool:
        for _ in range(2):
            with pytest.raises(RuntimeError) as caught:
                next(loop)
            assert str(caught.value) == text
        loop.close()
        assert len(ids(loader)) == WINDOWS
        return loader.epoch == 1

    assert in_a_fork(child) == 0
    assert len(ids([first, *loop])) == WINDOWS


def test_fork_while_the_thread_reads(squeezed: Path) -> None:
    options: dict[str, Any] = {
        "arrays": {"id": None},
        "shuffle": "global",
        "batch_size": 2,
        "length": 1,
    }
    loader = loader_of(squeezed, **options, cache_bytes=4 << 20, prefetch=9)
    want = [batch["id"][:, 0, 0].tolist() for batch in loader]
    loader.set_epoch(0)
    batches = 0

    def child() -> bool:
        again = [batch["id"][:, 0, 0].tolist() for batch, _ in zip(loader, range(20), strict=False)]
        return again == want[:20]

    for batch in loader:
        assert batch["id"][:, 0, 0].tolist() == want[batches]
        batches += 1
        if batches % 25 == 0:
            assert in_a_fork(child) == 0
    assert batches == 200


def test_a_child_that_ends_leaves_the_parent_alone(store: Path) -> None:
    """`multiprocessing` children run no exit handlers of the parent's iterators; others do."""
    loop = iter(loader_of(store))
    first = next(loop)

    def child() -> bool:
        sys.stdout.flush()
        raise SystemExit

    context = multiprocessing.get_context("fork")
    process = context.Process(target=child)
    process.start()
    process.join(WAIT)
    assert process.exitcode == 0
    assert len(ids([first, *loop])) == WINDOWS


def test_loaders_pickled_in_the_middle_go_on_elsewhere(store: Path) -> None:
    loader = loader_of(store, shuffle="global", batch_size=50)
    whole = ids(loader)
    loader.load_state_dict(loader.state_dict() | {"epoch": 0, "position": 150})
    with processes.Pool(2) as pool:
        found = pool.map_async(ids, [loader, loader.with_rank(0, 1)]).get(WAIT)
        parts = pool.map_async(ids, [loader.with_rank(i, 3) for i in range(3)]).get(WAIT)
    assert found == [whole[150:]] * 2
    assert sorted(row for part in parts for row in part) == sorted(whole[150:])
    assert ids(pickle.loads(pickle.dumps(loader))) == whole[150:]


# ---- Interrupted, and at exit


def script(code: str) -> list[str]:
    return [sys.executable, "-c", "import sys\n" + textwrap.dedent(code)]


def environment() -> dict[str, str]:
    folders = [str(Path(numbered.__file__).parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


EXITS = {
    "in the middle": "next(loop)",
    "before the first batch": "",
    "in the loop": "for batch in loop: sys.exit()",
    "at the end": "list(loop)",
    "closed": "next(loop); loop.close()",
    "two": "others = [iter(loader_of(sys.argv[1], **options)) for _ in range(3)]; list(map(next, others))",
    "in a cycle": "loop = [loop]; loop.append(loop); next(loop[0])",
    "kept by a module": "sys.loop = loop; next(loop)",
    "in a thread": "import threading; threading.Thread(target=lambda: list(loop)).start()",
    "in a daemon": "import threading; threading.Thread(target=lambda: list(loop), daemon=True).start()",
    "without zarr": "next(loop); assert 'zarr' not in sys.modules",
}


@pytest.mark.parametrize("how", EXITS)
def test_exit_with_an_iterator(squeezed: Path, how: str) -> None:
    code = f"""
    from numbered import loader_of
    options = dict(arrays={{"id": None}}, shuffle="global", batch_size=9, length=3, cache_bytes=0)
    loader = loader_of(sys.argv[1], **options)
    loop = iter(loader)
    {EXITS[how]}
    """
    ended = subprocess.run(
        [*script(code), str(squeezed)], env=environment(), capture_output=True, text=True, timeout=WAIT, check=False
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def interrupted(code: str, *args: str) -> tuple[subprocess.Popen[str], str, float]:
    """Run code, send SIGINT half a second after it printed a line; give it, its errors, the time."""
    process = subprocess.Popen(
        [*script(code), *args], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    killer = threading.Timer(WAIT, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    finally:
        killer.cancel()
    return process, errors, time.monotonic() - start


def test_interrupt_while_a_source_does_not_answer(tmp_path: Path) -> None:
    write(tmp_path / "a", np.arange(100), 10)
    found = files(tmp_path)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        if path.endswith("/c/5"):
            server.closing.wait(WAIT)
        return found(method, path, headers, body)

    code = """
    from numbered import loader_of
    print("ready", flush=True)
    for batch in loader_of(sys.argv[1], arrays={"id": None}):
        pass
    """
    with serving(Faulty(answer)) as server:
        process, errors, seconds = interrupted(code, f"{server.url}/a")
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1
    assert seconds < 10  # it waits for the thread, but not for ever


def test_interrupt_of_a_loop(squeezed: Path) -> None:
    code = """
    import time
    from numbered import loader_of
    loader = loader_of(
        sys.argv[1], arrays={"id": None}, shuffle="global", batch_size=5, length=2, reuse=True
    )
    print("ready", flush=True)
    try:
        for batch in loader:
            time.sleep(0.1)
    except KeyboardInterrupt:
        assert loader.epoch == 0
    assert sum(len(batch["id"]) for batch in loader) == 399  # as good as before
    assert loader.epoch == 1
    """
    process, errors, seconds = interrupted(code, str(squeezed))
    assert (process.returncode, errors) == (0, "")
    assert seconds < 20


# ---- Memory


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 MiB in 256 chunks."""
    folder = tmp_path_factory.mktemp("loader") / "large"
    array = zarr.create_array(folder, shape=(1 << 17, 256), chunks=(512, 256), dtype="f4")
    for start in range(0, 1 << 17, 1 << 14):
        array[start : start + (1 << 14)] = np.arange(start, start + (1 << 14))[:, None]
    return folder


@pytest.fixture
def measured(large: Path) -> Any:
    code = """
    import re
    from pathlib import Path
    from numbered import loader_of

    def rss(what):
        return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

    options = eval(sys.argv[2])
    loader_of(sys.argv[1], arrays={"x": None}, length=1, batch_size=1, stride=1 << 16)
    before = rss("VmRSS")
    loader = loader_of(sys.argv[1], arrays={"x": None}, length=64, batch_size=16, **options)
    assert loader._batch_nbytes == 1 << 20
    quarter = None
    for i, batch in enumerate(loader):
        if i == len(loader) // 4:
            quarter = rss("VmHWM")
    assert i + 1 == len(loader)
    print(before, quarter, rss("VmHWM"), loader.stats().bytes_decoded)
    """

    def measure(**options: Any) -> list[int]:
        ended = subprocess.run(
            [*script(code), str(large), repr(options)],
            env=environment(), capture_output=True, text=True, timeout=2 * WAIT, check=False,
        )  # fmt: skip
        assert ended.stderr == ""
        return [int(number) for number in ended.stdout.split()]

    return measure


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False, "stride": 50},
        {"shuffle": "global", "stride": 120},
        {"shuffle": "chunk", "stride": 50},
        {"shuffle": "chunk", "stride": 50, "reuse": True},
    ],
    ids=str,
)
def test_memory_is_bounded(measured: Any, options: dict[str, Any]) -> None:
    mib = 1 << 20
    before, quarter, end, decoded = measured(
        cache_bytes=16 * mib, prefetch=100, prefetch_bytes=8 * mib, **options
    )
    assert decoded >= 128 * mib  # several times what it keeps
    assert end - before <= (16 + 8 + 64) * mib
    assert end - quarter <= 6 * mib
