"""Worker processes, ranks, and both.

All of it in processes of their own: torch's threads do not survive a fork, so that one which has
computed may hang in what it forks.
"""

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import distributed
from torch.utils.data import DataLoader

import tempozarr
from tempozarr import Field, WindowLoader
from tempozarr.torch import WindowDataset

WAIT = 60.0  # seconds; only ever reached by a hang
ROWS = 500

Rows = list[list[int]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write `row`, whose values are the numbers of the rows."""
    folder = tmp_path_factory.mktemp("store") / "a"
    zarr.create_group(folder).create_array("row", data=np.arange(ROWS), chunks=(32,))
    return str(folder)


def loader(store: str, **changes: Any) -> WindowLoader:
    options: dict[str, Any] = {"length": 5, "batch_size": 16, "shuffle": "chunk", "seed": 3}
    arrays: dict[str, Any] = {"row": "row", "brain": Field("row", dtype="bfloat16")}
    return WindowLoader(store, arrays, **options | changes)


def rows(batches: Any) -> Rows:
    return [first_rows(batch) for batch in batches]


def first_rows(batch: Any) -> list[int]:
    first: list[int] = batch["row"][:, 0].tolist()
    assert torch.equal(torch.as_tensor(batch["row"]), batch["row"][:, :1] + torch.arange(5))
    assert torch.equal(batch["brain"], batch["row"].bfloat16())
    return first


def epochs(store: str, *numbers: int, **changes: Any) -> list[Rows]:
    """What the loader delivers."""
    want = []
    for number in numbers:
        one = loader(store, **changes)
        one.set_epoch(number)
        want.append([batch["row"][:, 0].tolist() for batch in one])
    return want


def in_processes(function: Callable[..., Any], *several: tuple[Any, ...]) -> list[Any]:
    """Call a function in a fresh process for each tuple of arguments, at the same time."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for arguments in several:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=send_result, args=(there, function, arguments))
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        results = []
        for pipe in pipes:
            assert pipe.poll(WAIT), "the process hangs"
            results.append(pipe.recv())
        for process in processes:
            process.join(WAIT)
            assert process.exitcode == 0, results
    finally:
        for process in processes:
            process.kill()
    return results


def send_result(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(function(*arguments))
    except BaseException:
        pipe.send(traceback.format_exc())
        raise


# -- workers -----------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"batch_size": None, "num_workers": 2, "timeout": WAIT / 2}


def loops(store: str, method: str) -> dict[str, Any]:
    """In a child: loops with two workers of some kind."""
    multiprocessing.set_forkserver_preload(["torch"])  # saves a second for each
    options = OPTIONS | {"multiprocessing_context": method}
    got: dict[str, Any] = {}
    dataset = WindowDataset(loader(store, reuse=True))
    dataset.set_epoch(1)
    batches = DataLoader(dataset, **options)
    got["length"] = len(batches)
    taking = iter(batches)
    got["kept"] = rows([next(taking) for _ in range(9)])  # all of them are there at once
    try:
        dataset.state_dict()
    except ValueError as e:
        got["ahead"] = str(e)
    state = dataset.state_dict(batches=9)
    del taking

    dataset = WindowDataset(loader(store))
    batches = DataLoader(dataset, persistent_workers=True, **options)
    dataset.set_epoch(4)
    got["same"] = [rows(batches), rows(batches)]
    dataset.load_state_dict(state)
    got["rest"] = rows(batches)
    try:
        rows(batches)
    except RuntimeError as e:
        got["over"] = str(e)
    dataset.set_epoch(2)
    got["after"] = rows(batches)
    return got


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_keep_the_order(store: str, method: str) -> None:
    [got] = in_processes(loops, (store, method))
    second, third, fifth = epochs(store, 1, 2, 4)
    assert got["length"] == len(second)
    assert got["kept"] == second[:9]
    assert (
        "expected state_dict(batches=n), the number of batches that the loop took" in got["ahead"]
    )
    assert got["same"] == [fifth, fifth]
    assert got["rest"] == second[9:]
    assert "expected set_epoch() before another loop" in got["over"]
    assert got["after"] == third


def until_the_error(folder: str) -> tuple[Rows, str]:
    """In a child: loop over what a worker cannot read to the end."""
    batches = DataLoader(WindowDataset(loader(folder, shuffle=False)), **OPTIONS)
    taken: Rows = []
    try:
        taken.extend(first_rows(batch) for batch in batches)
    except tempozarr.CodecError as e:
        return taken, str(e)
    return taken, "no error"


def test_errors_of_workers_reach_the_consumer(tmp_path: Path) -> None:
    zarr.create_group(tmp_path).create_array("row", data=np.arange(ROWS), chunks=(32,))
    (tmp_path / "row/c/8").write_bytes(b"no chunk")
    [(taken, error)] = in_processes(until_the_error, (str(tmp_path),))
    before: dict[str, Any] = {"shuffle": False, "rows": (0, 15 * 16 + 4)}
    assert [taken] == epochs(str(tmp_path), 0, **before)
    assert f"chunk {tmp_path}/row/c/8: zstd" in error


# -- ranks -------------------------------------------------------------------------------------


def take_part(store: str, rank: int, world_size: int, meeting: str) -> dict[str, Any]:
    """In a child: be one of the ranks."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    before = WindowDataset(loader(store))
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size
    )
    dataset = WindowDataset(loader(store, drop_last=True))
    state = loader(store).state_dict()
    got: dict[str, Any] = {"length": len(dataset), "every": rows(before)}
    sent: WindowDataset = pickle.loads(pickle.dumps(dataset))
    dataset.set_epoch(1)
    taken = []
    total = torch.zeros(1)
    for batch in dataset:
        total += batch["row"].sum()
        distributed.all_reduce(total)  # hangs unless all ranks have equally many batches
        taken.append(first_rows(batch))
        if len(taken) == 6:
            state = dataset.state_dict()
    got["dropped"] = taken
    got["state"] = state
    distributed.destroy_process_group()
    got["sent"] = rows(sent)
    return got


def test_ranks_share_every_window(store: str, tmp_path: Path) -> None:
    ranks = [(store, rank, 2, str(tmp_path / "meeting")) for rank in range(2)]
    results = in_processes(take_part, *ranks)
    assert all(isinstance(got, dict) for got in results), results
    for rank, got in enumerate(results):
        for name, epoch, drop_last in (
            ("every", 0, False),
            ("sent", 0, True),
            ("dropped", 1, True),
        ):
            [want] = epochs(store, epoch, rank=rank, world_size=2, drop_last=drop_last)
            assert got[name] == want
    delivered = [first for got in results for batch in got["every"] for first in batch]
    assert sorted(delivered) == list(range(ROWS - 4))
    assert {got["length"] for got in results} == {len(got["dropped"]) for got in results} == {15}

    # A single process goes on where the two were.
    assert results[0]["state"] == results[1]["state"]
    resumed = WindowDataset(loader(store))
    resumed.load_state_dict(results[0]["state"])
    [whole] = epochs(store, 1)
    assert rows(resumed) == whole[12:]
