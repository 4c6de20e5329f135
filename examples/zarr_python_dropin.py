"""Keep your zarr-python code; let tempozarr do the reading and writing."""

import tempfile
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.codecs.numcodecs import Shuffle

import tempozarr

BOOKS = Path(__file__).parent / "data" / "books.zarr"

# From here on, zarr-python decodes and encodes through tempozarr. What tempozarr cannot do (another
# kind of store, a codec that exists only in Python) zarr-python does itself, as before.
tempozarr.enable()

flow = zarr.open_array(BOOKS / "spot-btcusdt" / "flow", mode="r")
bought, sold, _, _ = flow[-1]
print(f"BTC bought {bought:.3f}, sold {sold:.3f} in {flow.shape[0]:,} rows")

# The same for writing; `temporal_xor` is an ordinary zarr-python codec.
with tempfile.TemporaryDirectory() as folder:
    walk = np.random.default_rng(1).normal(size=(10_000, 8)).cumsum(axis=0).astype("f4")
    array = zarr.create_array(
        folder,
        shape=walk.shape,
        dtype=walk.dtype,
        chunks=(1_000, 8),
        filters=[tempozarr.codecs.TemporalXOR(axis=0)],
        compressors=[Shuffle(elementsize=4), ZstdCodec(level=3)],
    )
    array[:] = walk
    print("read back as written:", np.array_equal(array[:], walk))

# Or for a while only.
tempozarr.disable()
with tempozarr.enable():
    print("last trade count:", int(flow[-1, 2:].sum()))
