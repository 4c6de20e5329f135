"""Read the stores that `write_weekly.py` wrote: with zarr-python, with tempozarr, with xarray.

    python examples/read_weekly.py [FOLDER]

The exit status is 1 if a bit is not what was captured.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

import tempozarr
from build_books import CAPTURES, rows
from measuring import DifferenceError, check_equal, markdown, stored_bytes
from write_weekly import FOLDER, columns

MINUTE = np.timedelta64(1, "m")


def compare(store: Path) -> str:
    """Compare both readers; return a table of what there is."""
    table = [["array", "type", "shape", "MB", "stored"]]
    for name, array in tempozarr.open_group(store).arrays():
        values = array[...]
        check_equal(name, values, np.asarray(zarr.open_array(store / name, mode="r")[...]))
        decoded, stored = values.nbytes / 1e6, stored_bytes(store / name) / 1e6
        table.append([name, str(array.dtype), str(array.shape), f"{decoded:.2f}", f"{stored:.2f}"])
    return markdown(table)


def check_against_captures(stores: list[Path]) -> int:
    """Compare all rows of all stores with the captures; return how many there are."""
    groups = [tempozarr.open_group(store) for store in stores]
    count = sum(len(group["time"]) for group in groups)
    expected = columns(list(itertools.islice(rows(CAPTURES), count)))
    # What the store keeps of the book is float16.
    expected["book"] = expected["book"].astype("float16").astype("float32")
    for name, values in expected.items():
        check_equal(name, np.concatenate([group[name][...] for group in groups]), values)
    return count


def last_minute(store: Path) -> None:
    """Look at the last minute as xarray does: by labels, with the times as coordinate."""
    with tempozarr.enable():
        market = xr.open_zarr(store, consolidated=False)
        print(market, end="\n\n")
        minute = market.sel(time=slice(market.time[-1] - MINUTE, None))
        mid = minute.mid.values
        bought, sold = (minute.flow[-1] - minute.flow[0]).values[:2]
        print(f"The last minute: {len(mid):,} rows, mid {mid.min():,.2f} to {mid.max():,.2f},")
        print(f"{bought:,.0f} contracts bought, {sold:,.0f} sold")
        if "book_stats" in market:  # the week is over
            mean, std = market.book_stats
            scores = ((minute.book - mean) / std).values
            print(f"and its books, standardised: {scores.min():.1f} to {scores.max():.1f}")


def main() -> int:
    """Read what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="default: %(default)s")
    folder = parser.parse_args().folder
    stores = sorted(folder.glob("*.zarr"))
    if not stores:
        parser.error(f"expected stores in {folder}: write them with examples/write_weekly.py")
    try:
        for store in stores:
            print(f"{store}: zarr-python and tempozarr read the same\n\n{compare(store)}\n")
        print(f"{check_against_captures(stores):,} rows equal the captures in every bit.\n")
    except DifferenceError as failed:
        print(f"CHECK FAILED: {failed}", file=sys.stderr)
        return 1
    last_minute(stores[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
