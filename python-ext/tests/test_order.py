"""Orders of windows: permutations by arithmetic, against the same in Python's large integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tempozarr._order import Pooled, Sequential, Shuffled, key_of, permuted

WORD = (1 << 64) - 1


def mixed(number: int, key: int) -> int:
    """SplitMix64's finalizer, as it is published."""
    z = ((number + 1) * 0x9E3779B97F4A7C15 & WORD) ^ (key & WORD)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


def scalar_key(seed: int, *numbers: int) -> int:
    key = seed & WORD
    for number in numbers:
        key = mixed(number & WORD, key)
    return key


def scalar(position: int, size: int, key: int) -> int:
    """What `permuted` gives at one position."""
    half = 1
    while 4**half < size:
        half += 1
    while True:
        left, right = position >> half, position & ((1 << half) - 1)
        for n in range(6):
            hashed = mixed(right, key + n * 0x9E3779B97F4A7C15) & ((1 << half) - 1)
            left, right = right, left ^ hashed
        position = left << half | right
        if position < size:
            return position


def whole(size: int, seed: int = 1, epoch: int = 0) -> list[int]:
    order: list[int] = Shuffled(size, seed, epoch).ids(np.arange(size)).tolist()
    return order


def test_small_sizes_are_permuted() -> None:
    for size in range(1, 301):
        for seed in range(3):
            order = whole(size, seed)
            assert sorted(order) == list(range(size))
            if size % 37 == 0:
                key = scalar_key(seed, 0)
                assert order == [scalar(i, size, key) for i in range(size)]


@pytest.mark.parametrize("size", [10**9, 2**40, 4**15, 4**15 + 1, 2**53 + 3, 2**62])
def test_large_sizes_are_permuted(size: int) -> None:
    rng = np.random.default_rng(5)
    positions = np.unique(np.concatenate((rng.integers(0, size, 20_000), [0, size - 1])))
    found = permuted(positions, size, key_of(3, 4))
    assert ((found >= 0) & (found < size)).all()
    assert len(np.unique(found)) == len(positions)
    for i in rng.integers(0, len(positions), 50):
        assert found[i] == scalar(int(positions[i]), size, scalar_key(3, 4))


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40), st.integers(1, 2**62), st.data())
def test_the_naive_permutation_is_the_same(
    seed: int, epoch: int, size: int, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.integers(0, size - 1), max_size=5))
    assert key_of(seed, epoch) == scalar_key(seed, epoch)
    found = Shuffled(size, seed, epoch).ids(np.array(some, np.int64))
    assert found.tolist() == [scalar(i, size, scalar_key(seed, epoch)) for i in some]


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(whole(100, seed, epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400
    assert whole(100, 3, 4) == whole(100, 3, 4)
    # Nor is one order another one shifted.
    shifts = {tuple(np.roll(whole(100, 1, 0), by).tolist()) for by in range(100)}
    assert not shifts & {tuple(whole(100, 1, epoch)) for epoch in range(1, 50)}


def chi_square(counts: NDArray[np.int64]) -> float:
    """Deviation from equal counts, in standard deviations of what chance makes of them."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    chi = float(((counts - expected) ** 2).sum() / expected)
    return float((chi - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("size", [5, 16, 17, 60])
def test_every_window_is_as_often_everywhere(size: int) -> None:
    seeds = 1200
    orders = np.array([whole(size, seed) for seed in range(seeds)])
    counts = np.stack([np.bincount(orders[:, i], minlength=size) for i in range(size)])
    assert abs(chi_square(counts)) < 6
    follows = (orders[:, 1:] - orders[:, :-1]) % size  # from one window to the next
    assert abs(chi_square(np.bincount(follows.ravel(), minlength=size)[1:])) < 6


def test_parts_of_a_large_order_are_spread() -> None:
    size = 10**9
    for start in (0, size // 3, size - 64_000):
        found = permuted(np.arange(start, start + 64_000), size, key_of(1, 0))
        assert abs(chi_square(np.bincount(found * 64 // size, minlength=64))) < 6
        assert abs(chi_square(np.bincount(found % 64, minlength=64))) < 6
        assert abs(np.corrcoef(np.arange(64_000), found)[0, 1]) < 0.02


def test_sequential() -> None:
    positions = np.arange(3, 9)
    assert Sequential().ids(positions).tolist() == [3, 4, 5, 6, 7, 8]
    assert set(Sequential().pools(positions).tolist()) == {0}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 9),
    st.integers(0, 3), st.integers(1, 40),
)  # fmt: skip
def test_pools(lengths: list[int], runs: int, seed: int, epoch: int, at_once: int) -> None:
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    size = int(bounds[-1])
    order = Pooled(bounds, runs, seed, epoch)
    found = order.ids(np.arange(size))
    assert sorted(found.tolist()) == list(range(size))
    for start in range(0, size, at_once):  # however it is asked
        some = order.ids(np.arange(start, min(start + at_once, size)))
        assert some.tolist() == found[start : start + at_once].tolist()

    pools = order.pools(np.arange(size))
    run_of = np.repeat(np.arange(len(lengths)), lengths)[found]
    assert (np.diff(pools) >= 0).all()
    assert pools[0] == 0
    members = [set(run_of[pools == pool].tolist()) for pool in range(pools[-1] + 1)]
    assert sorted(run for some in members for run in some) == list(range(len(lengths)))
    assert {len(some) for some in members[:-1]} <= {runs}
    assert 1 <= len(members[-1]) <= runs


def test_runs_and_windows_of_a_pool_are_shuffled() -> None:
    bounds = np.arange(0, 1010, 10)
    orders = [Pooled(bounds, 4, seed, 0).ids(np.arange(1000)) for seed in range(50)]
    assert len({tuple(order.tolist()) for order in orders}) == 50
    first = np.array([order[:40] for order in orders])
    assert len(np.unique(first // 10)) > 80  # nearly all of the 100 runs were once in front
    neighbours = np.diff(first, axis=1) == 1
    assert neighbours.mean() < 0.1


# A loader's state is a place in an order: it may not change from one version to the next.
KEYS = {
    (0,): 0,
    (0, 0): 0xE220A8397B1DCDAF,  # SplitMix64's first number from 0, as it is published
    (1, 2): 4048727598324417001,
    (-1, 7): 17984132219043126585,
    (2**64, 1, 5): 9550825639785000540,
}
SHUFFLED = {
    (10, 0, 0): [5, 2, 8, 4, 7, 0, 9, 6, 3, 1],
    (10, 0, 1): [8, 9, 7, 6, 5, 2, 4, 3, 0, 1],
    (16, 7, 0): [14, 8, 2, 9, 1, 7, 0, 3, 6, 5],
    (17, 7, 0): [4, 9, 5, 2, 8, 0, 3, 14, 7, 1],
    (1000, 1, 2): [86, 123, 408, 442, 929, 111],
    (10**9, 1, 0): [17559498, 318736142, 555795392, 936303887],
    (2**40, -5, 3): [867924702096, 38570486003, 951058716337, 417086231814],
}
POOLED = {
    0: [7, 1, 0, 8, 5, 2, 4, 6, 3, 9, 10, 15, 14, 11, 12, 13],
    1: [3, 2, 0, 1, 15, 5, 7, 14, 13, 12, 6, 8, 11, 4, 9, 10],
}


def test_orders_are_those_of_former_versions() -> None:
    for (seed, *numbers), key in KEYS.items():
        assert key_of(seed, *numbers) == key
    for (size, seed, epoch), order in SHUFFLED.items():
        assert Shuffled(size, seed, epoch).ids(np.arange(len(order))).tolist() == order
    for epoch, order in POOLED.items():
        pooled = Pooled(np.array([0, 3, 4, 9, 11, 16]), 2, 1, epoch)
        assert pooled.ids(np.arange(16)).tolist() == order
