"""Make `examples/data/books.zarr` from order books: what a user's own writer looks like.

    python examples/make_store.py BOOKS_DIR [STORE]

BOOKS_DIR holds one `<symbol>.npz` per symbol. They are not part of this repository (the store that
they make is); `examples/data/README.md` says where they come from and what they hold.

Everything is written by zarr-python; tempozarr only lends it the `temporal_xor` codec.
"""

import argparse
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, ZstdCodec
from zarr.codecs.numcodecs import LZ4, AsType, Delta, Shuffle

from tempozarr.codecs import TemporalXOR

STORE = Path(__file__).parent / "data" / "books.zarr"
BIDS, ASKS = 0, 25  # the first level of each side: levels 0-24 are bids, 25-49 asks, best first

CHUNK_ROWS = 1024  # rows that are compressed together: the least that one read decodes
SHARD_ROWS = 16 * CHUNK_ROWS  # rows in one file
MAX_ROWS = 30_000  # of one symbol, to keep the store small enough for a repository

# The symbols: what the exchange calls the market, and what one unit of size is.
MARKETS = {
    "cm-btcusd": ("BTCUSD perpetual, coin-margined", "contract of 100 USD"),
    "usdm-btcusdt": ("BTCUSDT perpetual, USD-margined", "BTC"),
    "spot-btcusdt": ("BTCUSDT spot", "BTC"),
}


@dataclass(frozen=True)
class Layout:
    """How one array is stored: its chain of codecs, dimensions and description."""

    dims: tuple[str, ...]
    filters: list[Any]
    compressors: list[Any]
    sharded: bool
    attributes: dict[str, Any]


def layouts(size_unit: str) -> dict[str, Layout]:
    """Return the layout of each array of one symbol."""
    zstd = ZstdCodec(level=3)
    levels = "levels 0-24 are bids, 25-49 are asks, best first"
    return {
        "book": Layout(
            dims=("row", "level", "field"),
            # Raw prices (about 61,800) overflow float16, so the book is normalised first.
            filters=[
                AsType(encode_dtype="float16", decode_dtype="float32"),
                TemporalXOR(axis=0),
            ],
            compressors=[Shuffle(elementsize=2), zstd],
            sharded=True,
            attributes={
                "description": f"Order book normalised for float16; {levels}",
                "fields": ["price", "size", "count"],
                "units": ["1e4 * log(price / mid), basis points", "log1p(size)", "log1p(count)"],
                "mid": "(best bid + best ask) / 2 of the same row",
            },
        ),
        "book_raw": Layout(
            dims=("row", "level", "field"),
            filters=[TemporalXOR(axis=0)],
            compressors=[Shuffle(elementsize=4), zstd],
            sharded=True,
            attributes={
                "description": f"Order book as rebuilt from the exchange's messages; {levels}",
                "fields": ["price", "size", "count"],
                "units": ["USD per BTC", size_unit, "updates seen at that price"],
            },
        ),
        "time_ms": Layout(
            dims=("row",),
            filters=[Delta(dtype="<i8")],
            compressors=[zstd],
            sharded=False,
            attributes={
                "description": "Event time given by the exchange",
                "units": "milliseconds since 1970-01-01",
            },
        ),
        "recv_ns": Layout(
            dims=("row",),
            filters=[Delta(dtype="<i8")],
            compressors=[zstd],
            sharded=False,
            attributes={
                "description": "Receive time, by the clock of the capturing machine",
                "units": "nanoseconds since 1970-01-01",
            },
        ),
        "update_id": Layout(
            dims=("row",),
            filters=[Delta(dtype="<i8")],
            compressors=[zstd],
            sharded=False,
            attributes={"description": "Last update id that the row includes", "units": "1"},
        ),
        "flow": Layout(
            dims=("row", "field"),
            filters=[TemporalXOR(axis=0)],
            compressors=[Shuffle(elementsize=8), LZ4()],
            sharded=False,
            attributes={
                "description": "Trades since the start of the capture, cumulative, by taker's side",
                "fields": ["buy volume", "sell volume", "buy count", "sell count"],
                "units": [size_unit, size_unit, "trades", "trades"],
            },
        ),
    }


def normalise(book: np.ndarray) -> np.ndarray:
    """Return a raw book (N, 50, 3) in units that fit float16: see the attributes of `book`."""
    price = book[..., 0].astype(np.float64)
    mid = (price[:, [BIDS]] + price[:, [ASKS]]) / 2
    fields = [1e4 * np.log(price / mid), np.log1p(book[..., 1]), np.log1p(book[..., 2])]
    return np.stack(fields, axis=-1).astype(np.float32)


def write_symbol(root: zarr.Group, symbol: str, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays of one symbol as a group of `root`."""
    market, size_unit = MARKETS[symbol]
    group = root.create_group(symbol, attributes={"market": market, "size_unit": size_unit})
    for name, layout in layouts(size_unit).items():
        data = arrays[name]
        rows = CHUNK_ROWS if layout.sharded else SHARD_ROWS
        array = group.create_array(
            name,
            shape=data.shape,
            dtype=data.dtype,
            chunks=(rows, *data.shape[1:]),
            shards=(SHARD_ROWS, *data.shape[1:]) if layout.sharded else None,
            filters=layout.filters,
            serializer=BytesCodec(),
            compressors=layout.compressors,
            fill_value=0,
            attributes=layout.attributes,
            dimension_names=layout.dims,
        )
        array[:] = data
        stored = sum(f.stat().st_size for f in array_files(array))
        print(
            f"{symbol}/{name:10} {data.shape!s:16} {stored:>9,} bytes, 1/{data.nbytes / stored:.1f}"
        )


def array_files(array: zarr.Array) -> list[Path]:
    """Return the chunk files of an array of a local store."""
    folder = Path(str(array.store_path.store.root)) / array.path / "c"
    return [f for f in folder.rglob("*") if f.is_file()]


def main() -> None:
    """Make the store that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("books", type=Path, help="folder of <symbol>.npz files")
    parser.add_argument("store", type=Path, nargs="?", default=STORE, help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=MAX_ROWS, help="at most, of one symbol")
    args = parser.parse_args()
    # zarr-python says this of every numcodecs codec; here they are the point.
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")

    shutil.rmtree(args.store, ignore_errors=True)
    root = zarr.create_group(
        args.store,
        attributes={
            "title": "Order books of three Binance markets, 2024-08-08/09",
            "source": "Captures of public websockets from https://github.com/nkaz001/hftbacktest",
            "license": "MIT, see LICENSE-hftbacktest",
        },
    )
    for symbol in MARKETS:
        arrays = {k: v[: args.rows] for k, v in np.load(args.books / f"{symbol}.npz").items()}
        arrays["book_raw"] = arrays["book"]
        arrays["book"] = normalise(arrays["book_raw"])
        write_symbol(root, symbol, arrays)


if __name__ == "__main__":
    main()
