"""In which order windows are delivered: functions of seed and epoch, without a list of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

_ROUNDS = 6
_MASK = (1 << 64) - 1


class Order(Protocol):
    """The windows 0 to `size - 1` in some order."""

    def ids(self, positions: Rows) -> Rows:
        """Give the windows at these positions, ascending ones."""
        ...

    def pools(self, positions: Rows) -> Rows:
        """Number the pools that they are of: what is read together, and for a while not again."""
        ...


class Sequential:
    """As the rows are stored."""

    def ids(self, positions: Rows) -> Rows:
        """See `Order`."""
        return positions

    def pools(self, positions: Rows) -> Rows:
        """See `Order`."""
        return np.zeros_like(positions)


class Shuffled(Sequential):
    """Each window anywhere: a keyed pseudo-random permutation."""

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        self._size = size
        self._key = key_of(seed, epoch)

    def ids(self, positions: Rows) -> Rows:
        """See `Order`."""
        return permuted(positions, self._size, self._key)


class Pooled:
    """Runs of windows that are neighbours, shuffled; then the windows of some runs at a time.

    Parameters
    ----------
    bounds
        Where each run of windows begins, ascending, from 0; and the number of windows.
    runs
        Number of runs in a pool, whose windows are shuffled together.
    """

    def __init__(self, bounds: Rows, runs: int, seed: int, epoch: int) -> None:
        self._key = key_of(seed, epoch)
        order = np.argsort(_mixed(np.arange(len(bounds) - 1), self._key), kind="stable")
        # The runs in their new order: their first windows, and the positions of these.
        self._windows = bounds[:-1][order]
        self._begins = np.concatenate(([0], np.cumsum(np.diff(bounds)[order])))
        self._pools = np.unique(np.append(self._begins[:-1:runs], bounds[-1]))

    def ids(self, positions: Rows) -> Rows:
        """See `Order`."""
        shuffled = positions.copy()
        pools = self.pools(positions)
        for pool in np.unique(pools):
            begin, end = map(int, self._pools[pool : pool + 2])
            places = positions[pools == pool] - begin
            shuffled[pools == pool] = begin + permuted(
                places, end - begin, key_of(self._key, int(pool))
            )
        run = np.searchsorted(self._begins, shuffled, "right") - 1
        return self._windows[run] + shuffled - self._begins[run]

    def pools(self, positions: Rows) -> Rows:
        """See `Order`."""
        return np.searchsorted(self._pools, positions, "right") - 1


def key_of(seed: int, *numbers: int) -> int:
    """Mix numbers to a key of 64 bits."""
    key = seed & _MASK
    for number in numbers:
        key = int(_mixed(np.array([number & _MASK], np.uint64), key)[0])
    return key


def permuted(positions: Rows, size: int, key: int) -> Rows:
    """Give what a keyed pseudo-random permutation of 0 to `size - 1` has at `positions`.

    A balanced Feistel network permutes the numbers below the next power of four; one that falls
    outside `size` is permuted again until it falls inside (cycle walking: J. Black and P. Rogaway,
    Ciphers with Arbitrary Finite Domains, CT-RSA 2002).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    result = positions.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        result[outside] = _feistel(result[outside], half, key)
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def _feistel(numbers: NDArray[np.uint64], half: int, key: int) -> NDArray[np.uint64]:
    mask = np.uint64((1 << half) - 1)
    left, right = numbers >> np.uint64(half), numbers & mask
    for n in range(_ROUNDS):
        left, right = right, left ^ (_mixed(right, key + n * 0x9E3779B97F4A7C15) & mask)
    return left << np.uint64(half) | right


def _mixed(numbers: NDArray[np.integer], key: int) -> NDArray[np.uint64]:
    """Hash numbers with a key, by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(key & _MASK)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
