"""Rebuild order books from an exchange's messages, row by row, and check them.

    python examples/build_books.py

A capture is a gzip file of what a websocket sent, one message per line: when it was received, and
JSON. `data/books.zarr` was made from those in `data/raw/`, so the books must be the same.
"""

import argparse
import gzip
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sortedcontainers import SortedDict

import tempozarr
from measuring import BOOKS, DifferenceError, check_equal

CAPTURES = sorted((Path(__file__).parent / "data" / "raw").glob("cm-btcusd_*.gz"))
LEVELS = 25  # of each side

Message = dict[str, Any]


class Row(NamedTuple):
    """The book after one update, and what came with it: see `data/README.md`."""

    time_ms: int
    recv_ns: int
    update_id: int
    book: np.ndarray
    flow: np.ndarray


def messages(captures: Iterable[Path]) -> Iterator[tuple[int, Message]]:
    """Yield time of receipt and content of one message after the other."""
    for capture in captures:
        with gzip.open(capture, "rt") as lines:
            for line in lines:
                received, _, message = line.partition(" ")
                yield int(received), json.loads(message)


class BookBuilder:
    """The order book of one market, kept up to date by the messages of its exchange."""

    def __init__(self) -> None:
        self._bids = SortedDict(lambda price: -price)  # price: size, best price first
        self._asks = SortedDict()
        self._updates = Counter[float]()  # how often each price was mentioned
        self._flow = np.zeros(4)  # cumulative: volume bought and sold, trades
        self._early: list[Message] | None = []  # updates from before the snapshot

    def update(self, received: int, message: Message) -> Row | None:
        """Take in one message; return a row if it changed a complete book."""
        if "lastUpdateId" in message:
            self._start(message)
            return None
        data = message["data"]
        match data["e"]:
            case "trade":
                sold = data["m"]  # the buyer was the maker: waited, so the taker sold
                self._flow[[sold, 2 + sold]] += float(data["q"]), 1
            case "depthUpdate" if self._early is not None:
                self._early.append(data)
            case "depthUpdate":
                self._apply(data["b"], data["a"])
                if min(len(self._bids), len(self._asks)) >= LEVELS:
                    return Row(data["E"], received, data["u"], self._levels(), self._flow.copy())
        return None

    def _start(self, snapshot: Message) -> None:
        """Begin with the whole book, as asked for once, and the updates that are newer."""
        self._bids.clear()
        self._asks.clear()
        self._apply(snapshot["bids"], snapshot["asks"])
        for data in self._early or []:
            if data["u"] > snapshot["lastUpdateId"]:
                self._apply(data["b"], data["a"])
        self._early = None

    def _apply(self, *changes: list[tuple[str, str]]) -> None:
        for side, changed in zip((self._bids, self._asks), changes, strict=True):
            for price, size in ((float(price), float(size)) for price, size in changed):
                self._updates[price] += 1
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)

    def _levels(self) -> np.ndarray:
        best = [*self._bids.items()[:LEVELS], *self._asks.items()[:LEVELS]]
        return np.array([(p, size, self._updates[p]) for p, size in best], np.float32)


def rows(captures: Iterable[Path]) -> Iterator[Row]:
    """Replay captures: yield one row after the other."""
    builder = BookBuilder()
    for received, message in messages(captures):
        if row := builder.update(received, message):
            yield row


def check(built: list[Row], store: Path) -> None:
    """Raise DifferenceError unless the rows are those of the store, in every bit."""
    stored = tempozarr.open_group(store)
    for name, values in zip(Row._fields, zip(*built, strict=True), strict=True):
        expected = stored["book_raw" if name == "book" else name][: len(built)]
        check_equal(name, np.stack(values), expected)


def main() -> int:
    """Build and check the books; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="stop after so many")
    args = parser.parse_args()

    built = list(itertools.islice(rows(CAPTURES), args.rows))
    last = built[-1]
    print(f"Book of {np.datetime64(last.time_ms, 'ms')}, after {len(built):,} updates:\n")
    for price, size, updates in np.vstack([last.book[LEVELS + 4 : LEVELS - 1 : -1], last.book[:5]]):
        print(f"{price:12,.1f} {size:10,.0f}   ({updates:.0f} updates)")
    try:
        check(built, BOOKS / "cm-btcusd")
    except DifferenceError as failed:
        print(f"\nCHECK FAILED: {failed}", file=sys.stderr)
        return 1
    print("\nAll books equal those of data/books.zarr in every bit.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
