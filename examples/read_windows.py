"""Read shuffled windows of real order books, several markets at once, and check them.

    python examples/read_windows.py [--check BATCHES]

Without a framework: batches are dicts of numpy arrays. `train_mid.py` trains on such batches.
The exit status is 1 if a window is not what zarr-python reads there.
"""

import argparse
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import zarr

import tempozarr
from measuring import DifferenceError

BOOKS = Path(__file__).parent / "data/books.zarr"
MARKETS = ("cm-btcusd", "usdm-btcusdt", "spot-btcusdt")
LENGTH = 128  # rows of a window
AHEAD = 20  # rows from its last one to the target


def check(loader: tempozarr.WindowLoader, batches: int) -> int:
    """Find some windows by their times, and compare them with what zarr-python reads there."""
    markets = [zarr.open_group(BOOKS / market, mode="r") for market in MARKETS]
    data = [(np.asarray(market["time_ms"][:]), market["book"]) for market in markets]
    count = 0
    for batch in islice(loader, batches):
        for x, y, times in zip(batch["x"], batch["y"], batch["times"], strict=True):
            # The exchange sends several rows in a millisecond: one of the places is it.
            if not any(
                np.array_equal(all_times[start : start + LENGTH], times)
                and np.array_equal(book[start : start + LENGTH], x)
                and np.array_equal(book[start + LENGTH - 1 + AHEAD], y[0])
                for all_times, book in data
                for start in np.flatnonzero(all_times[: -LENGTH - AHEAD + 1] == times[0])
            ):
                raise DifferenceError(f"no market has the window at {times[0]} ms")
            count += 1
    return count


def main() -> int:
    """Read what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=int, default=4, help="batches, default: %(default)s")
    checked = parser.parse_args().check
    loader = tempozarr.WindowLoader(
        {market: BOOKS / market for market in MARKETS},  # three series, none goes on in another
        {
            "x": "book",
            "y": tempozarr.Field("book", length=1, horizon=AHEAD),
            "times": "time_ms",
        },
        length=LENGTH,
        stride=4,
        batch_size=64,
        shuffle="chunk",
        seed=1,
        time="time_ms",
        max_gap=5_000,  # ms
    )
    print(loader.describe(), end="\n\n")
    parts = loader.split(train=0.8, valid=0.2, gap=LENGTH)  # at the same times in all markets
    try:
        print(f"{check(parts['valid'], checked)} windows are what zarr-python reads there.\n")
    except DifferenceError as failed:
        print(f"CHECK FAILED: {failed}", file=sys.stderr)
        return 1
    train = parts["train"]
    for epoch in range(3):
        start, spreads = time.perf_counter(), []
        for batch in train:
            prices = batch["x"][:, :, [0, 25], 0]  # best bid and ask, in basis points of the mid
            spreads.append(np.diff(prices).mean())
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}: {seconds:.2f} s, mean spread {np.mean(spreads):.3f} basis points")
    print(f"\n{train.stats()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
