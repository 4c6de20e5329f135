"""How fast `tempozarr.verify` is beside reading everything, and how many flipped bits it finds.

python bench/verify.py STORE             # any local store; `make demo` leaves a large one
python bench/verify.py --flips 300       # in copies of the example data, by chain of codecs
"""

import argparse
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.codecs.numcodecs import LZ4

import tempozarr
from tempozarr.codecs import TemporalXOR

BOOKS = Path(__file__).parents[1] / "examples/data/books.zarr"
CHAINS = {
    "none": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=3)},
    "temporal_xor, zstd": {"filters": TemporalXOR(), "compressors": ZstdCodec(level=3)},
    "lz4": {"compressors": LZ4()},
    "blosc": {"compressors": BloscCodec()},
    "zstd, checksum": {"compressors": ZstdCodec(level=3, checksum=True)},
    "gzip": {"compressors": GzipCodec()},
    "zstd, crc32c": {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
}


def time_reading(store: Path, turns: int) -> None:
    """Take turns of reading every array into memory that is there, and of verifying it."""
    for name, array in tempozarr.open_group(store).arrays():
        out = np.empty(array.shape, array.dtype)
        ways = {
            "a[...]": lambda array=array: array[...],
            "read(out=)": lambda array=array, out=out: array.read(out=out),
            "verify": lambda name=name: tempozarr.verify(store / name),
        }
        seconds = {way: [] for way in ways}
        for _ in range(turns + 1):
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - began)
        told = (
            f"{way} {array.nbytes / statistics.median(times[1:]) / 1e9:.2f} GB/s"
            for way, times in seconds.items()
        )
        print(f"{name}, {array.nbytes / 1e6:.0f} MB: {', '.join(told)}")


def count_flips(flips: int) -> None:
    """Flip one bit at a time; say how often that was found, harmless, or neither."""
    values = tempozarr.open_array(BOOKS / "usdm-btcusdt/book_raw")[:2048]
    for name, chain in CHAINS.items():
        rng = np.random.default_rng(0)
        found = harmless = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a")
            zarr.create_array(path, data=values, chunks=(256, *values.shape[1:]), **chain)
            files = sorted(file for file in (path / "c").rglob("*") if file.is_file())
            for _ in range(flips):
                file = files[rng.integers(len(files))]
                data = bytearray(file.read_bytes())
                sound = bytes(data)
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
                file.write_bytes(data)
                if not tempozarr.verify(path).ok:
                    found += 1
                else:
                    harmless += tempozarr.open_array(path)[...].tobytes() == values.tobytes()
                file.write_bytes(sound)
            shutil.rmtree(path)
        wrong = flips - found - harmless
        print(f"{name}: {found / flips:.1%} found, {harmless} harmless, {wrong} wrong unseen")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", nargs="?", type=Path, help="a group, to time")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--flips", type=int, default=0, help="bits to flip in each chain")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Numcodecs codecs", UserWarning)
    if arguments.store:
        time_reading(arguments.store, arguments.turns)
    if arguments.flips:
        count_flips(arguments.flips)


if __name__ == "__main__":
    main()
