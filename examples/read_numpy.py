"""Open a store and index it like numpy."""

from pathlib import Path

import numpy as np

import tempozarr

BOOKS = Path(__file__).parent / "data" / "books.zarr"
PRICE, BEST_BID, BEST_ASK = 0, 0, 25

books = tempozarr.open_group(BOOKS)
print(books.tree(), end="\n\n")

# Opening reads metadata only; indexing reads the chunks that it needs.
book = books["usdm-btcusdt/book_raw"]
print(book)
print("fields:", book.attrs["fields"])

# Steps, negative indices, lists and masks do what they do in numpy.
last = book[-1]
print(f"last bid {last[BEST_BID, PRICE]:.1f}, ask {last[BEST_ASK, PRICE]:.1f}")
spread = book[::100, BEST_ASK, PRICE] - book[::100, BEST_BID, PRICE]
print(f"mean spread of every 100th book: {spread.mean():.3f} USD")
print("three rows, newest first:", book[[6000, 4000, 2000], BEST_BID, PRICE])

time_ms = books["usdm-btcusdt/time_ms"][...]
last_second = time_ms > time_ms[-1] - 1000
print("books in the last second:", book[last_second].shape)

# Into memory of yours: no allocation for each window.
window = np.empty((512, 50, 3), book.dtype)
for start in range(0, len(book) - len(window), 2000):
    book.read(slice(start, start + len(window)), out=window)
    print(f"rows from {start}: mean best bid {window[:, BEST_BID, PRICE].mean():.2f}")
