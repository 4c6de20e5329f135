"""What `tempozarr.Writer` writes, others read, bit for bit: tensorstore (C++), zarrita.js
(JavaScript), and a zarr-python without tempozarr. What a peer cannot read is in the table, with
what the peer says of it; the tests fail as soon as it can, so that it leaves the table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorstore
from tempozarr import Writer
from tempozarr.schema import ArraySchema

from cases import BIG, XOR, ZSTD, Case, Codec, codec, nc, source
from goldens import from_json, same
from independent import independent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = dict[str, np.ndarray | str]  # by array, its values, or the error

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

ZARRITA = Path(__file__).parent / "zarrita"

PLAIN, SHARDED = (16, None), (8, 32)  # rows of a chunk, rows of a shard
FLUSHES = (7, 1, 30, 64, 3, 45)  # rows of each: they end within chunks, or span shards
MORE = 9  # rows of the writer that continues
ROWS = sum(FLUSHES) + MORE


@dataclass(frozen=True)
class Written:
    """An array as the writer makes it, and by peer the error of those that cannot read it."""

    name: str
    layout: tuple[int, int | None] = SHARDED
    dtype: str = "f4"
    row_shape: tuple[int, ...] = (5, 3)
    codecs: tuple[Codec, ...] | None = (ZSTD,)
    fill_value: Any = None
    values: str = "bits"
    index_location: str = "end"
    cannot: dict[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> ArraySchema:
        """The schema."""
        return ArraySchema(
            name=self.name,
            dtype=self.dtype,
            row_shape=self.row_shape,
            codecs=self.codecs,
            fill_value=self.fill_value,
        )

    @property
    def rows(self) -> np.ndarray:
        """All rows; 40 of them hold the fill value only, so that some chunks are missing."""
        shape = (ROWS, *self.row_shape)
        rows = source(Case(self.name, dtype=self.dtype, shape=shape, values=self.values))
        rows[30:70] = np.zeros((), self.dtype) if self.fill_value is None else self.fill_value
        return rows

    def write(self, store: Path) -> None:
        """Write all rows, with many flushes and by two writers."""
        if self.index_location == "start":  # which the writer keeps, but never chooses
            store.mkdir()
            document = self.schema.metadata(0, *self.layout)
            document["codecs"][0]["configuration"]["index_location"] = "start"
            (store / "zarr.json").write_text(json.dumps(document))
        *parts, last = np.split(self.rows, np.cumsum(FLUSHES))
        layout = {"": self.layout}
        with Writer(store, self.schema, mode="a", layout=layout, sync=False) as writer:
            for rows in parts:
                writer.append(rows)
                writer.flush()
        with Writer(store, mode="a", sync=False) as writer:
            writer.append(last)


# What each peer says of a codec that it does not know.
UNKNOWN = {"tensorstore": '"name": "{}" is not registered', "zarrita": "Unknown codec: {}"}


def unknown(name: str, *peers: str) -> dict[str, str]:
    """What peers say of the codec `name`."""
    return {peer: UNKNOWN[peer].format(name) for peer in peers}


def table() -> Iterator[Written]:
    """Everything that is written."""
    blosc = codec("blosc", cname="lz4", clevel=5, shuffle="shuffle", blocksize=0)
    chains = {
        "uncompressed": (),
        "zstd": (ZSTD,),
        "zstd-checksum": (codec("zstd", level=1, checksum=True),),
        "gzip": (codec("gzip", level=5),),
        "blosc": (blosc,),
        "crc32c": (codec("crc32c"),),
        "zstd-crc32c": (ZSTD, codec("crc32c")),
        "big-endian": (BIG, ZSTD),
        "transpose": (codec("transpose", order=[2, 0, 1]), ZSTD),
    }
    for name, codecs in chains.items():
        yield Written(name, PLAIN, codecs=codecs)
        yield Written(f"{name}-sharded", codecs=codecs)
    for dtype in ("bool", "i1", "u2", "i4", "u4", "i8", "u8", "f8"):
        yield Written(f"zstd-{dtype}", dtype=dtype, row_shape=())
    for dtype, name in (("f2", "float16"), ("c8", "complex64")):
        error = f"Unknown or unsupported dataType: {name}"
        yield Written(f"zstd-{dtype}", dtype=dtype, cannot={"zarrita": error})
    yield Written(
        "zstd-datetime",
        dtype="M8[ns]",
        cannot={
            "tensorstore": "numpy.datetime64 data type is not one of the supported data types",
            "zarrita": "TypeError: dataType.match is not a function",
        },
    )
    for fill_value in (-1.5, float("inf"), float("nan")):
        yield Written(f"fill-{fill_value}", fill_value=fill_value)
    yield Written("fill-i8", PLAIN, dtype="i8", fill_value=-(2**63))
    yield Written("one-row-chunks", (1, 64))
    yield Written("one-shard", (8, 1024))
    yield Written("index-first", index_location="start", cannot={"zarrita": "RangeError"})

    xor, delta = unknown("temporal_xor", *UNKNOWN), unknown("numcodecs.delta", "tensorstore")
    yield Written("default-f4", codecs=None, cannot=xor)
    yield Written("default-i8", dtype="i8", values="small", codecs=None, cannot=delta)
    yield Written("temporal-xor", codecs=(XOR, ZSTD), cannot=xor)
    yield Written("delta", PLAIN, "i4", codecs=(nc("delta", dtype="<i4"), ZSTD), cannot=delta)
    yield Written(
        "float16",
        codecs=(nc("astype", encode_dtype="float16", decode_dtype="float32"), ZSTD),
        values="small",
        cannot=unknown("numcodecs.astype", *UNKNOWN),
    )
    for last in (nc("shuffle", elementsize=4), nc("lz4"), nc("zstd", level=3)):
        name = last["name"]
        yield Written(name, codecs=(last,), cannot=unknown(name, "tensorstore"))


TABLE = tuple(table())


def read_by_tensorstore(folder: Path) -> Read:
    """What tensorstore reads of every array in `folder`."""
    read: Read = {}
    for store in folder.iterdir():
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store)}}
        try:
            read[store.name] = np.asarray(tensorstore.open(spec).result().read().result())
        except ValueError as error:
            read[store.name] = str(error)
    return read


def read_by_zarrita(folder: Path) -> Read:
    """What zarrita.js reads of every array in `folder`."""
    if os.environ.get("ZARRITA") == "no":
        pytest.skip("zarrita.js is left out, as ZARRITA=no says")
    if not shutil.which("node") or not (ZARRITA / "node_modules").is_dir():
        pytest.fail(
            "expected node and what `npm ci` installs in conformance/zarrita, which `make "
            "test-python` calls; ZARRITA=no leaves zarrita.js out"
        )
    command = ["node", str(ZARRITA / "read.js"), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return {name: from_zarrita(found) for name, found in json.loads(done.stdout).items()}


def from_zarrita(found: dict[str, Any]) -> np.ndarray | str:
    """The array that `read.js` prints, or the error."""
    if "error" in found:
        return str(found["error"])
    flat = np.frombuffer(bytes.fromhex(found["data"]), found["dtype"])
    strides = [stride * flat.itemsize for stride in found["stride"]]
    return np.lib.stride_tricks.as_strided(flat, found["shape"], strides)


def read_by_zarr_python(folder: Path) -> Read:
    """What a zarr-python without tempozarr reads of every array in `folder`."""
    return {
        name: found["error"] if "error" in found else from_json(found)
        for name, found in independent(folder).items()
    }


PEERS: dict[str, Callable[[Path], Read]] = {
    "tensorstore": read_by_tensorstore,
    "zarrita": read_by_zarrita,
    "zarr-python": read_by_zarr_python,
}


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every array of the table."""
    folder = tmp_path_factory.mktemp("writer")
    for array in TABLE:
        array.write(folder / array.name)
    return folder


@pytest.fixture(scope="session", params=PEERS)
def peer(request: pytest.FixtureRequest, stores: Path) -> tuple[str, Read]:
    """A peer, and what it reads of them."""
    return request.param, PEERS[request.param](stores)


@pytest.mark.parametrize("array", TABLE, ids=[array.name for array in TABLE])
def test_peers_read_what_the_writer_writes(array: Written, peer: tuple[str, Read]) -> None:
    """Bit for bit; or the error of the table."""
    name, read = peer
    found = read[array.name]
    if name in array.cannot:
        assert isinstance(found, str), "it can: off the list"
        assert array.cannot[name] in found
    else:
        assert not isinstance(found, str), found
        assert same(found, array.rows)


def test_shards_were_replaced(stores: Path) -> None:
    """The stores above prove something about holes only if their shards have some."""
    sharded = [array for array in TABLE if array.layout == SHARDED]
    assert len(sharded) > 20
    for array in sharded:
        assert any(has_hole(shard, array) for shard in shards(stores / array.name)), array.name


def shards(store: Path) -> list[Path]:
    """The files of all shards."""
    return [file for file in (store / "c").rglob("*") if file.is_file()]


def has_hole(shard: Path, array: Written) -> bool:
    """Whether there are bytes that the index does not know."""
    content = shard.read_bytes()
    chunks = SHARDED[1] // SHARDED[0]
    size = 16 * chunks + 4  # with a checksum
    index = content[:size] if array.index_location == "start" else content[-size:]
    entries = np.frombuffer(index[:-4], "<u8").reshape(chunks, 2)
    live = entries[entries[:, 0] != 2**64 - 1, 1].sum()
    return size + live < len(content)
