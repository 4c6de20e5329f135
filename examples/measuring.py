"""What measurements need, here and in `bench/`: large data, checks, and who measured."""

import os
import platform
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr

BOOKS = Path(__file__).parent / "data" / "books.zarr"

Bits = np.ndarray[Any, np.dtype[Any]]


class DifferenceError(Exception):
    """Something that was read is not what it must be."""


def bits(values: np.ndarray) -> Bits:
    """View values as unsigned integers, so that NaN equals itself and -0.0 is not 0.0."""
    return values.view(f"u{values.dtype.itemsize}")


def check_equal(what: str, got: np.ndarray, expected: np.ndarray) -> None:
    """Raise DifferenceError unless both arrays have the same type, shape and bits."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        raise DifferenceError(
            f"{what}: expected {expected.dtype} {expected.shape}, got {got.dtype} {got.shape}"
        )
    if not np.array_equal(bits(got), bits(expected)):
        wrong = np.argwhere(bits(got) != bits(expected))
        first = tuple(int(i) for i in wrong[0])
        raise DifferenceError(
            f"{what}: {len(wrong):,} of {got.size:,} values differ, the first at {first}: "
            f"expected {expected[first]!r}, got {got[first]!r}"
        )


@dataclass
class Tiled:
    """A real array repeated to `rows` rows; times and ids (integers) go on rising."""

    base: np.ndarray
    rows: int
    period: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Find by how much the values have risen after one repetition."""
        if self.base.dtype.kind == "i":
            self.period = int(self.base[-1] - self.base[0]) + 1

    @classmethod
    def of(cls, base: np.ndarray, megabytes: float) -> "Tiled":
        """Repeat `base` to so many megabytes."""
        return cls(base, rows=int(megabytes * 1e6 / base[0].nbytes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (self.rows, *self.base.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory."""
        return self.rows * self.base[0].nbytes

    def tiles(self) -> Iterable[tuple[slice, np.ndarray]]:
        """Yield the repetitions: where each one is and what it holds."""
        for i, start in enumerate(range(0, self.rows, len(self.base))):
            stop = min(start + len(self.base), self.rows)
            tile = self.base[: stop - start]
            yield slice(start, stop), tile + i * self.period if self.period else tile

    def check(self, what: str, got: np.ndarray) -> None:
        """Raise DifferenceError unless `got` is the whole array."""
        if got.shape != self.shape:
            raise DifferenceError(f"{what}: expected shape {self.shape}, got {got.shape}")
        for where, expected in self.tiles():
            check_equal(f"{what}, {where}", got[where], expected)

    def crc32(self) -> int:
        """CRC-32 of the bytes of the whole array."""
        crc = 0
        for _, tile in self.tiles():
            crc = zlib.crc32(tile, crc)
        return crc

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop`."""
        tile, row = np.divmod(np.arange(start, stop), len(self.base))
        block = self.base[row]
        return block + tile * self.period if self.period else block

    def write_to(self, stored: zarr.Array) -> Iterator[int]:
        """Write everything, one chunk (shard) after the other; yield the bytes of each."""
        step = (stored.shards or stored.chunks)[0]
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            stored[start:stop] = self.block(start, stop)
            yield (stop - start) * self.base[0].nbytes


def real_array(symbol: str, name: str) -> np.ndarray:
    """Read an array of the example store with zarr-python."""
    return np.asarray(zarr.open_array(BOOKS / symbol / name, mode="r")[...])


def stored_bytes(array: Path) -> int:
    """Bytes that an array takes on disk."""
    return sum(file.stat().st_size for file in array.rglob("*") if file.is_file())


def markdown(rows: list[list[str]]) -> str:
    """Format rows, the first of which is the head, as a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def machine(*packages: str) -> str:
    """Describe what the times were measured on, with the versions of more packages."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    packages = ("zarr", "numcodecs", "numpy", "tempozarr", *packages)
    versions = [f"{package} {version(package)}" for package in packages]
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {cpu}; {', '.join([python, *versions])}"


def warn_if_busy() -> None:
    """Say so if other programs are using the processor: their times are in ours."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 1 + cores / 2:
        print(f"(The load is {load:.1f} on {cores} cores: expect noisy times.)\n")
