"""Tensors are the loader's batches: contents, order, memory, epochs, states and errors."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch.utils.data import DataLoader

import tempozarr
from tempozarr import Field, WindowLoader
from tempozarr.torch import WindowDataset

ROWS = 500


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write `row`, whose values are the numbers of the rows, and others beside it."""
    folder = tmp_path_factory.mktemp("store") / "a"
    group = zarr.create_group(folder)
    rows = np.arange(ROWS)
    values = {
        "row": rows,
        "x": np.random.default_rng(1).normal(size=(ROWS, 3, 2)).astype("f4"),
        "up": rows % 2 == 0,
        "time": rows.astype("M8[s]"),
    }
    for name, data in values.items():
        group.create_array(name, data=data, chunks=(32, *data.shape[1:]))
    return str(folder)


def loader(store: str, arrays: dict[str, Any] | None = None, **changes: Any) -> WindowLoader:
    options: dict[str, Any] = {"length": 5, "batch_size": 16, "shuffle": "chunk", "seed": 3}
    return WindowLoader(store, arrays or {"row": "row", "x": "x"}, **options | changes)


def rows(batches: Any) -> list[list[int]]:
    """First rows of the windows of each batch."""
    return [batch["row"][:, 0].tolist() for batch in batches]


@pytest.mark.parametrize("shuffle", [False, "global", "chunk"])
def test_tensors_are_what_the_loader_delivers(store: str, shuffle: Any) -> None:
    arrays = {"row": "row", "x": "x", "half": Field("x", dtype="f2"), "up": Field("up", horizon=1)}
    want = list(loader(store, arrays, shuffle=shuffle))
    dataset = WindowDataset(loader(store, arrays, shuffle=shuffle))
    for batches in (dataset, DataLoader(dataset, batch_size=None)):
        assert len(batches) == len(want)
        for got, expected in zip(batches, want, strict=True):
            assert set(got) == set(expected)
            for name, tensor in got.items():
                assert tensor.numpy().dtype == expected[name].dtype
                np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_bfloat16(store: str) -> None:
    arrays = {"row": "row", "x": Field("x", dtype="bfloat16")}
    x = torch.from_numpy(tempozarr.open_array(f"{store}/x")[...])
    for batch in WindowDataset(loader(store, arrays)):
        assert batch["x"].dtype == torch.bfloat16
        want = torch.stack([x[first : first + 5] for first in batch["row"][:, 0]])
        assert torch.equal(batch["x"], want.bfloat16())


def test_tensors_are_of_the_loaders_memory(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[int] = []
    iterate = WindowLoader.iterate

    def watched(self: WindowLoader, *args: Any, **options: Any) -> Any:
        for batch in iterate(self, *args, **options):
            addresses.extend(array.ctypes.data for array in batch.values())
            yield batch

    monkeypatch.setattr(WindowLoader, "iterate", watched)
    for arrays in ({"x": "x"}, {"x": Field("x", dtype="bfloat16")}):
        for batch in DataLoader(WindowDataset(loader(store, arrays)), batch_size=None):
            assert batch["x"].data_ptr() == addresses[-1]
    assert len(set(addresses)) < len(addresses) / 4  # memory is used again


def test_tensors_that_are_kept_do_not_change(store: str) -> None:
    arrays = {"row": "row", "x": Field("x", dtype="bfloat16")}
    dataset = WindowDataset(loader(store, arrays, prefetch=1))
    want = [{k: v.clone() for k, v in batch.items()} for batch in dataset]
    kept = list(dataset)
    parts = [{k: v[3:, 1:] for k, v in batch.items()} for batch in dataset]
    for batch, part, expected in zip(kept, parts, want, strict=True):
        for name in batch:
            assert torch.equal(batch[name], expected[name])
            assert torch.equal(part[name], expected[name][3:, 1:])


def test_page_locked_memory(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch decides when such memory is used again: tensors must be its own, and all be new.
    (Without CUDA it is ordinary memory.)
    """
    addresses: list[int] = []
    empty = torch.empty

    def allocate(shape: Any, dtype: Any, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        tensor = empty(shape, dtype=dtype)
        addresses.append(tensor.data_ptr())
        return tensor

    dataset = WindowDataset(loader(store, {"row": "row", "x": Field("x", dtype="bfloat16")}))
    want = list(dataset)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", allocate)
    got = list(dataset)
    assert len(set(addresses)) == 2 * len(want)
    for i, (batch, expected) in enumerate(zip(got, want, strict=True)):
        for j, name in enumerate(("row", "x")):
            assert torch.equal(batch[name], expected[name])
            assert batch[name].untyped_storage().data_ptr() == addresses[2 * i + j]
            # Of 16 windows, also where only part of them is the batch.
            assert batch[name].untyped_storage().nbytes() == 16 * batch[name][0].nbytes
    addresses.clear()
    assert rows(WindowDataset(loader(store), pin_memory=False))
    assert not addresses


def test_epochs(store: str) -> None:
    dataset = WindowDataset(loader(store))
    first = rows(dataset)
    assert rows(dataset) == first
    dataset.set_epoch(1)
    assert dataset.epoch == 1
    second = rows(DataLoader(dataset, batch_size=None))
    assert second != first
    twice = loader(store)
    assert [first, second] == [rows(twice), rows(twice)]
    dataset.set_epoch(0)
    assert rows(dataset) == first


def test_it_begins_where_the_loader_is(store: str) -> None:
    begun = loader(store)
    batches = iter(begun)
    next(batches), next(batches)
    assert rows(WindowDataset(begun)) == rows(loader(store))[2:]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_resume(store: str, count: int) -> None:
    dataset = WindowDataset(loader(store))
    dataset.set_epoch(2)
    want = rows(dataset)
    dataset.set_epoch(2)
    batches = iter(dataset)
    for _ in range(count):
        next(batches)
    state = json.loads(json.dumps(dataset.state_dict()))
    assert state == dataset.state_dict(batches=count)
    assert state["epoch"] == 2

    resumed = WindowDataset(loader(store, batch_size=16, world_size=1))
    resumed.load_state_dict(state)
    resumed.set_epoch(resumed.epoch)
    taken = rows(resumed)
    assert taken == want[count:]
    assert resumed.state_dict(batches=len(taken))["position"] == dataset.loader._index.size
    resumed.set_epoch(3)
    dataset.set_epoch(3)
    assert rows(resumed) == rows(dataset)


def test_a_finished_epoch_leads_to_the_next(store: str) -> None:
    dataset = WindowDataset(loader(store))
    taken = len(rows(dataset))
    dataset.set_epoch(1)
    want = rows(dataset)
    dataset.set_epoch(0)
    batches = iter(dataset)
    for _ in range(taken):
        next(batches)
    last = dataset.state_dict()
    assert rows(batches) == []
    for state in (last, dataset.state_dict()):
        resumed = WindowDataset(loader(store))
        resumed.load_state_dict(state)
        delivered = []
        for epoch in range(resumed.epoch, 2):
            resumed.set_epoch(epoch)
            delivered += rows(resumed)
        assert delivered == want


def test_what_was_continued_is_not_taken_for_an_epoch(store: str) -> None:
    dataset = WindowDataset(loader(store))
    state = dataset.state_dict(batches=4)
    dataset.load_state_dict(state)
    first = rows(dataset)
    with pytest.raises(
        RuntimeError, match=r"expected set_epoch\(\) before another loop: the epoch"
    ):
        rows(dataset)
    dataset.load_state_dict(state)
    assert rows(dataset) == first


def test_copies(store: str) -> None:
    dataset = WindowDataset(loader(store))
    other = copy.deepcopy(dataset)
    other.set_epoch(5)
    assert (dataset.epoch, other.epoch) == (0, 5)
    assert other._shared.is_shared()
    assert rows(other) != rows(dataset)
    assert repr(other).startswith("<tempozarr.torch.WindowDataset of <tempozarr.WindowLoader 496")


def test_errors(store: str) -> None:
    with pytest.raises(TypeError, match=r"expected a tempozarr\.WindowLoader, got 3"):
        WindowDataset(3)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"arrays\['t'\]: torch has no data type like datetime64\[s\]; leave it out"
    ):
        WindowDataset(loader(store, {"t": "time"}))
    if not torch.cuda.is_available():
        with pytest.raises(
            ValueError, match="pin_memory: expected None or False, as there is no CUDA"
        ):
            WindowDataset(loader(store), pin_memory=True)
    dataset = WindowDataset(loader(store))
    for batches in (-1, 32, 1000):
        with pytest.raises(ValueError, match="batches: expected as many as a loop has taken, got"):
            dataset.state_dict(batches=batches)
    with pytest.raises(ValueError, match="seed 4, not 3"):
        dataset.load_state_dict(WindowDataset(loader(store, seed=4)).state_dict())


def test_without_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import tempozarr; tempozarr.torch"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    want = "tempozarr.torch needs PyTorch, and found no torch: pip install 'tempozarr[torch]'"
    assert want in done.stderr


def test_torch_is_imported_only_when_asked_for() -> None:
    program = "import sys, tempozarr; dir(tempozarr); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
    assert tempozarr.torch.WindowDataset is WindowDataset
    assert Path(tempozarr.torch.__file__ or "").parent == Path(tempozarr.__file__).parent
