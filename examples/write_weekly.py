"""Write order books as they come, into one store per week: `BTCUSD.zarr/2024-W32.zarr`.

    python examples/write_weekly.py [CAPTURE ...] [--folder FOLDER] [--period day]

The captures are replayed message by message, as if they were being received. Stop the program at
any time, by `--messages` or by force, and run it again: it goes on behind the last flush.
"""

import argparse
import contextlib
import itertools
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from zarr.codecs import ZstdCodec
from zarr.codecs.numcodecs import AsType

import tempozarr
from build_books import CAPTURES, BookBuilder, Row, messages
from make_store import ASKS, BIDS, normalise
from measuring import stored_bytes
from tempozarr import schemas
from tempozarr.schema import ArraySchema, GroupSchema

FOLDER = Path(__file__).parent / "output" / "BTCUSD.zarr"
NAMES = {"week": "%G-W%V", "day": "%Y-%m-%d"}  # of the store of a period: 2024-W32
EXPECTED = {"week": 50_000_000, "day": 7_000_000}  # rows, for the plan

BATCH = 256  # rows that are given to the writer at once
FLUSH = 5_000  # messages between flushes: what a crash can cost; each leaves holes in the files


def schema() -> GroupSchema:
    """Return what a store holds. `time` is both a dimension and an array: xarray's coordinate."""
    book = schemas.order_book(
        row="time",
        description="Order book, normalised for float16: 25 bids, then 25 asks, best first",
        # Smaller than the default for float16 (temporal_xor, shuffle): see data/README.md.
        codecs=[AsType(encode_dtype="float16", decode_dtype="float32"), ZstdCodec(level=3)],
        compression_ratio_hint=25,
        attributes={"units": ["1e4 * log(price / mid)", "log1p(contracts)", "log1p(updates)"]},
    )
    return GroupSchema(
        description="BTCUSD perpetual, coin-margined",
        attributes={"source": "https://github.com/nkaz001/hftbacktest"},
        arrays=[
            schemas.timestamps("time", "ms", row="time", description="Event, by the exchange"),
            schemas.timestamps("recv_ns", "ns", row="time", description="Receipt, by our clock"),
            ArraySchema(name="update_id", dtype="int64", dimension_names=["time"]),
            ArraySchema(name="mid", dtype="float64", dimension_names=["time"]),
            book,
            schemas.features(
                ["buy volume", "sell volume", "buy count", "sell count"],
                name="flow",
                dtype="float64",
                row="time",
                description="Trades since the start of the capture, cumulative, by taker's side",
            ),
            ArraySchema(
                name="book_stats",
                dtype="float64",
                row_shape=book.row_shape,
                dimension_names=["statistic", *book.dimension_names[1:]],
                description="Mean and standard deviation of `book` over all rows",
                late=True,
            ),
        ],
    )


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    """Turn rows into what is stored of them."""
    time_ms, recv_ns, update_id, books, flow = (np.stack(v) for v in zip(*rows, strict=True))
    prices = books[..., 0].astype("float64")
    return {
        "time": time_ms,
        "recv_ns": recv_ns,
        "update_id": update_id,
        "mid": (prices[:, BIDS] + prices[:, ASKS]) / 2,
        "book": normalise(books),
        "flow": flow,
    }


class Stores:
    """Appends rows to the store of the period in which they happened."""

    def __init__(self, folder: Path, period: str) -> None:
        self._folder = folder
        self._period = period
        self._waiting: list[Row] = []
        self._writer: tempozarr.Writer | None = None
        before = sorted(folder.glob("*.zarr"))
        if before:
            # First of all: a writer finishes the flush that a crash may have left.
            self._open(before[-1].stem)
        ids = (tempozarr.open_array(store / "update_id") for store in reversed(before))
        self.last_update = next((int(array[-1]) for array in ids if len(array)), -1)

    def append(self, row: Row) -> None:
        """Append a row; one that is stored already is left out."""
        if row.update_id <= self.last_update:
            return
        event = datetime.fromtimestamp(row.time_ms / 1000, UTC)
        name = f"{event:{NAMES[self._period]}}"
        if self._writer is None or name > self._name:  # one that comes too late stays in this
            self.finish()
            self._open(name)
        if self._finished:
            raise SystemExit(f"{self._store} is finished: it has its statistics")
        self._waiting.append(row)
        self.last_update = row.update_id
        if len(self._waiting) == BATCH:
            self._hand_over()

    def flush(self) -> None:
        """Make all rows visible and durable."""
        if self._writer:
            self._hand_over()
            self._writer.flush()

    def close(self) -> None:
        """Flush, and leave the store so that more rows can be appended another time."""
        if self._writer:
            self._hand_over()
            self._writer.close()
            self._writer = None

    def finish(self) -> None:
        """Write what can be known only in the end, and close."""
        if self._writer:
            self.flush()
            if not self._finished:
                book = tempozarr.open_array(self._store / "book")
                self._writer.write_late("book_stats", mean_and_std(book))
            self.close()

    def _open(self, name: str) -> None:
        self._name = name
        self._store = self._folder / f"{name}.zarr"
        rows = EXPECTED[self._period]
        self._writer = tempozarr.Writer(self._store, schema(), mode="a", estimated_rows=rows)
        self._finished = "book_stats" in tempozarr.open_group(self._store)
        print(f"{self._store}: {self._writer.rows:,} rows so far")
        if self._writer.layout:
            print(self._writer.layout, end="\n\n")

    def _hand_over(self) -> None:
        if self._waiting and self._writer:
            self._writer.append(columns(self._waiting))
            self._waiting = []


def mean_and_std(array: tempozarr.Array) -> np.ndarray:
    """Compute both over the first axis, in as little memory as a block of rows takes."""
    total = np.zeros((2, *array.shape[1:]))
    for start in range(0, len(array), 16_384):
        block = array[start : start + 16_384].astype("float64")
        total += block.sum(axis=0), (block**2).sum(axis=0)
    mean, square = total / max(len(array), 1)
    return np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0))])


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path, nargs="*", default=CAPTURES)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--period", choices=NAMES, default="week", help="default: %(default)s")
    parser.add_argument("--messages", type=int, help="stop after so many, within a period")
    args = parser.parse_args()
    # zarr-python says this of every numcodecs codec; here they are the point.
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")

    builder = BookBuilder()
    received = itertools.islice(messages(args.captures), args.messages)
    with contextlib.closing(Stores(args.folder, args.period)) as stores:
        for count, (time_ns, message) in enumerate(received, 1):
            if row := builder.update(time_ns, message):
                stores.append(row)
            if count % FLUSH == 0:
                stores.flush()
        if args.messages is None:
            stores.finish()

    for store in sorted(args.folder.glob("*.zarr")):
        decoded = sum(array.nbytes for _, array in tempozarr.open_group(store).arrays())
        stored = stored_bytes(store)
        print(f"{store}: {decoded / 1e6:.1f} MB in {stored / 1e6:.2f}, 1/{decoded / stored:.1f}")


if __name__ == "__main__":
    main()
