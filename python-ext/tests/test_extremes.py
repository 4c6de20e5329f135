"""Extreme and boundary values of every codec's parameters.

Each is refused by an error of ours when the array is opened, or encodes values that read back right: as
zarr-python reads them, and as they were where the codec keeps them. What zarr-python writes with them is read as it
reads it, or refused. Each codec runs in a child, as a parameter that C code misunderstands ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.core.buffer.cpu import Buffer
from zarr.registry import get_codec_class
from zarr.storage import MemoryStore

from conftest import DEFAULT_PIPELINE
from tempozarr import TempozarrError, _core

pytestmark = pytest.mark.slow

Json = Any
SECONDS = 10
MEMORY = 8 << 30

INTS = [
    *(
        -(2**63),
        -(2**31) - 1,
        -(2**31),
        -131073,
        -131072,
        -1000,
        -1,
        0,
        1,
        2,
        3,
        4,
        5,
        8,
        9,
        10,
        11,
    ),
    *(12, 13, 16, 22, 23, 24, 33, 52, 53, 64, 127, 128, 254, 255, 256, 257, 273, 274, 4095, 4096),
    *(65535, 65536, 65537, 2**24, 2**28, 2**30, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**31 + 9),
    *(2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64),
]
FLOATS = [
    *(
        0.0,
        -0.0,
        5e-324,
        1e-310,
        1e-45,
        0.1,
        -1.5,
        3.0,
        1e10,
        3.5e38,
        1e300,
        -1.7976931348623157e308,
    ),
    *("NaN", "Infinity", "-Infinity", "0x7fc00001", math.nan, math.inf, -math.inf),
]
NUMBERS = [*INTS, *FLOATS]
TYPES = ["|b1", "bool", "|i1", "<i2", ">i2", "i4", "<i8", "|u1", "<u2", ">u4", "<u8", "<f2", "f4"]
TYPES += [
    ">f8",
    "float16",
    "<c8",
    "<c16",
    "<M8[ns]",
    "|S5",
    "<U3",
    "|V4",
    "|O",
    "<f16",
    "f0",
    "",
    "x",
]
WRONG: list[Json] = [None, True, "", "x", "1", [], {}]

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
VALUES: dict[str, NDArray[Any]] = {
    "int32": np.arange(-300, 9000, 3, dtype="i4"),
    "float32": np.concatenate([np.linspace(-2, 200, 2999, dtype="f4"), np.array([-0.0], "f4")]),
    "float64": np.linspace(-2, 200, 3001),
    "bool": np.arange(3001) % 3 == 0,
    "uint16": np.arange(48, dtype="u2"),
    "uint8": (np.arange(3001) // 7 % 251).astype("u1"),
}

# Codec: a configuration of it, the data type of the values, and for each parameter what to try. A name in `LOSSY`
# may round.
CODECS: list[tuple[str, dict[str, Json], str, dict[str, list[Json]]]] = [
    ("temporal_xor", {}, "float32", {"axis": INTS, "transform": ["xor", "sum"]}),
    ("numcodecs.delta", {"dtype": "<i4"}, "int32", {"dtype": TYPES, "astype": TYPES}),
    ("numcodecs.delta", {"dtype": "<f4"}, "float32", {"dtype": TYPES, "astype": TYPES}),
    (
        "numcodecs.astype",
        {"encode_dtype": "<f8", "decode_dtype": "<f4"},
        "float32",
        {"encode_dtype": TYPES, "decode_dtype": TYPES},
    ),
    ("numcodecs.bitround", {"keepbits": 3}, "float32", {"keepbits": INTS}),
    ("numcodecs.bitround", {"keepbits": 3}, "float64", {"keepbits": INTS}),
    (
        "numcodecs.quantize",
        {"digits": 1, "dtype": "<f4"},
        "float32",
        {"digits": NUMBERS, "dtype": TYPES, "astype": TYPES},
    ),
    (
        "numcodecs.fixedscaleoffset",
        {"offset": 0, "scale": 1, "dtype": "<f4", "astype": "<i4"},
        "float32",
        {"offset": NUMBERS, "scale": NUMBERS, "dtype": TYPES, "astype": TYPES},
    ),
    (
        "numcodecs.fixedscaleoffset",
        {"offset": 0, "scale": 1, "dtype": "<i4", "astype": "<i4"},
        "int32",
        {"offset": NUMBERS, "scale": NUMBERS},
    ),
    ("numcodecs.packbits", {}, "bool", {"x": [1]}),
    ("scale_offset", {"offset": 0, "scale": 1}, "int32", {"offset": NUMBERS, "scale": NUMBERS}),
    ("scale_offset", {"offset": 0, "scale": 1}, "float32", {"offset": NUMBERS, "scale": NUMBERS}),
    (
        "cast_value",
        {"data_type": "int16"},
        "int32",
        {
            "data_type": ["bool", "uint8", "int64", "float16", "float64", "complex64", "string"],
            "rounding": ["nearest-even", "towards-zero", "nearest-away", "up"],
            "out_of_range": ["clamp", "wrap", "saturate"],
        },
    ),
    ("numcodecs.shuffle", {"elementsize": 4}, "int32", {"elementsize": NUMBERS}),
    ("numcodecs.lz4", {"acceleration": 1}, "int32", {"acceleration": NUMBERS}),
    ("zstd", {"level": 1, "checksum": True}, "int32", {"level": NUMBERS, "checksum": WRONG}),
    ("numcodecs.zstd", {"level": 1}, "int32", {"level": NUMBERS, "checksum": WRONG}),
    (
        "numcodecs.blosc",
        {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0, "typesize": 4},
        "int32",
        {
            "cname": ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd", "lizard", "LZ4"],
            "clevel": INTS,
            "shuffle": [*INTS, "shuffle"],
            "blocksize": NUMBERS,
            "typesize": NUMBERS,
        },
    ),
    (
        "blosc",
        {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0, "typesize": 4},
        "int32",
        {
            "cname": ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd", "lizard", "LZ4"],
            "clevel": INTS,
            "shuffle": ["shuffle", "noshuffle", "bitshuffle", "x", 1, -1],
            "blocksize": NUMBERS,
            "typesize": NUMBERS,
        },
    ),
    (
        "blosc",
        {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 0, "typesize": 4},
        "int32",
        {"blocksize": NUMBERS, "typesize": NUMBERS},
    ),
    ("numcodecs.bz2", {"level": 1}, "int32", {"level": NUMBERS}),
    ("numcodecs.gzip", {"level": 1}, "int32", {"level": NUMBERS}),
    ("gzip", {"level": 1}, "int32", {"level": NUMBERS}),
    ("numcodecs.zlib", {"level": 1}, "int32", {"level": NUMBERS}),
    (
        "numcodecs.lzma",
        {"format": 1, "check": -1, "preset": 0},
        "int32",
        {"format": INTS, "check": INTS, "preset": [*INTS, 2**31 + 10, 2**30 + 1]},
    ),
    *(
        (
            "numcodecs.lzma",
            {"format": 3, "filters": [{"id": 33, "preset": 0, **start}]},
            "uint8",
            {f"filters.{key}": INTS for key in keys},
        )
        for start, keys in [
            (
                {},
                ("id", "preset", "dict_size", "lc", "lp", "pb", "mode", "nice_len", "mf", "depth"),
            ),
            ({"mode": 1, "mf": 3}, ("nice_len", "depth", "dist", "start_offset")),
        ]
    ),
    *(
        (
            "numcodecs.lzma",
            {"format": 3, "filters": [{"id": number}, {"id": 33, "preset": 0}]},
            "uint8",
            {"filters.dist": INTS, "filters.start_offset": INTS},
        )
        for number in (3, 4, 7)
    ),
    *(
        (f"numcodecs.{name}", {}, "int32", {"location": ["start", "end", "x", 1]})
        for name in ("crc32", "crc32c", "adler32")
    ),
    ("numcodecs.fletcher32", {}, "int32", {"x": [1]}),
    ("numcodecs.jenkins_lookup3", {"initval": 0}, "int32", {"initval": NUMBERS, "prefix": WRONG}),
    ("crc32c", {}, "int32", {"x": [1]}),
    ("bytes", {"endian": "little"}, "int32", {"endian": ["big", "Little", *WRONG]}),
    (
        "transpose",
        {"order": [0]},
        "int32",
        {"order": [[], [1], [0, 0], [-1], [2**31], [2**63], "C"]},
    ),
    (
        "numcodecs.pcodec",
        {"level": 1},
        "int32",
        {
            "level": NUMBERS,
            "mode_spec": ["auto", "classic", "x"],
            "delta_spec": ["auto", "none", "no_op", "try_consecutive", "try_lookback", "x"],
            "paging_spec": ["equal_pages_up_to", "x"],
            "delta_encoding_order": [None, *INTS],
            "equal_pages_up_to": INTS,
        },
    ),
    (
        "sharding_indexed",
        {"chunk_shape": [4], "codecs": [LITTLE], "index_codecs": [LITTLE], "index_location": "end"},
        "uint16",
        {"chunk_shape": [[n] for n in NUMBERS] + [[], [1, 1]], "index_location": ["start", "x"]},
    ),
]
# What zarr-python reads otherwise than it was written: docs/correctness.md, "Delta with a data type that is not the
# array's". AsType does alike.
KNOWN: list[tuple[str, dict[str, Json], str]] = [
    ("numcodecs.delta", {"dtype": "f4"}, "int32"),
    ("numcodecs.delta", {"dtype": "i4"}, "float32"),
    ("numcodecs.astype", {"encode_dtype": "<f8", "decode_dtype": "i4"}, "float32"),
    # zarr wants an order of bytes; zarr-python 3.1 takes that of the machine.
    ("bytes", {}, "int32"),
]
LOSSY = {
    "astype",
    "bitround",
    "quantize",
    "fixedscaleoffset",
    "delta",
    "scale_offset",
    "cast_value",
}
BYTES_TO_BYTES = {
    "shuffle",
    "lz4",
    "zstd",
    "blosc",
    "bz2",
    "gzip",
    "zlib",
    "lzma",
    "crc32",
    "crc32c",
}
BYTES_TO_BYTES |= {"adler32", "fletcher32", "jenkins_lookup3"}
ARRAY_TO_BYTES = {"bytes", "sharding_indexed", "pcodec"}


def document(name: str, configuration: dict[str, Json], data_type: str) -> Json:
    """Return the metadata of an array of one chunk that has the codec."""
    codec = {"name": name, "configuration": configuration}
    kind = name.removeprefix("numcodecs.")
    if kind in BYTES_TO_BYTES:
        codecs = [LITTLE, codec]
    else:
        codecs = [codec] if kind in ARRAY_TO_BYTES else [codec, LITTLE]
    shape = [len(VALUES[data_type])]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": data_type == "bool" or 77,
        "codecs": codecs,
        "attributes": {},
        "storage_transformers": [],
    }


def configurations(
    base: dict[str, Json], tried: dict[str, list[Json]]
) -> Iterator[dict[str, Json]]:
    """Yield `base`, then `base` with one parameter that is another one."""
    yield base
    for parameter, values in tried.items():
        for value in [*values, *WRONG]:
            place, _, key = parameter.partition(".")
            if key:
                first, *others = base[place]
                yield {**base, place: [{**first, key: value}, *others]}
            else:
                yield {**base, parameter: value}
        if parameter in base:
            yield {key: value for key, value in base.items() if key != parameter}


def bits(values: NDArray[Any]) -> tuple[np.dtype[Any], tuple[int, ...], bytes]:
    return values.dtype, values.shape, values.tobytes()


def theirs(array: Json, chunk: bytes | None = None) -> tuple[zarr.Array[Any], dict[str, Any]]:
    """Return the array as zarr-python opens it, and the store that it is in."""
    stored: dict[str, Any] = {"zarr.json": Buffer.from_bytes(json.dumps(array).encode())}
    if chunk is not None:
        stored["c/0"] = Buffer.from_bytes(chunk)
    return zarr.open_array(MemoryStore(stored), mode="r+"), stored


def theirs_read(array: Json, chunk: bytes) -> NDArray[Any] | None:
    """Return what zarr-python reads, if it does."""
    try:
        return np.asarray(theirs(array, chunk)[0][:])
    except Exception:  # noqa: BLE001 -- zarr-python and numcodecs raise whatever they do
        return None


def theirs_written(array: Json, values: NDArray[Any]) -> bytes | None:
    """Return the chunk that zarr-python writes, if it does."""
    try:
        opened, stored = theirs(array)
        opened[:] = values
        return bytes(stored["c/0"].to_bytes())
    except Exception:  # noqa: BLE001 -- as above
        return None


def tolerance(codec: Json, values: NDArray[Any]) -> float | None:
    """Return how far values may be from those that were given, if the codec says."""
    name, parameters = codec["name"], codec["configuration"]
    most = float(np.abs(values.astype("f8")).max())
    with np.errstate(all="ignore"):
        match name.removeprefix("numcodecs."):
            case "bitround":
                return float(most * 2.0 ** -min(parameters["keepbits"], 60))
            case "quantize" | "fixedscaleoffset":
                # What leaves its type is what zarr-python stores of it.
                return None
            case "scale_offset" if values.dtype.kind == "f":
                # A float that leaves its type is an infinity, as zarr-python has it.
                return None
            case "scale_offset":
                offset, scale = (
                    math.nan if str(number).startswith("0x") else float(number)
                    for number in (parameters.get("offset", 0), parameters.get("scale", 1))
                )
                # As float32 computes, and integers are cut off.
                rounded = (most + abs(offset)) / 1e6 + (values.dtype.kind == "i")
                return rounded + 1 / abs(scale) if scale else 0
            case "delta" | "astype" | "cast_value":
                # Whatever the other type holds.
                return None
    return 0


def leaves_integers(codec: Json, values: NDArray[Any]) -> bool:
    """Return whether FixedScaleOffset computes what the integers of the array do not hold.

    zarr-python reads what the processor makes of it: docs/correctness.md.
    """
    if codec["name"] != "numcodecs.fixedscaleoffset" or values.dtype.kind not in "iu":
        return False
    limits, parameters = np.iinfo(values.dtype), codec["configuration"]
    moved = values.astype("f8") - float(parameters.get("offset", 0))
    scaled = moved * float(parameters.get("scale", 1))
    held = [(limits.min <= part) & (part <= limits.max) for part in (moved, scaled)]
    return not (float(parameters.get("scale", 1)) and all(part.all() for part in held))


def is_known(name: str) -> bool:
    """Return whether zarr-python has a codec of that name."""
    try:
        get_codec_class(name)
    except KeyError:
        return False
    return True


def kept(read: NDArray[Any], values: NDArray[Any], tolerance: float) -> bool:
    """Return whether values are as they were given."""
    if not tolerance:
        return bits(read) == bits(values)
    with np.errstate(all="ignore"):
        return bool((np.abs(read.astype("f8") - values.astype("f8")) <= tolerance).all())


def check(array: Json, values: NDArray[Any], exact: bool, note: Callable[[str], None]) -> str:
    """Return what became of the values; a fault, if they are not what they must be."""
    note("ours")
    try:
        pipeline = _core.ChunkPipeline(json.dumps(array))
    except TempozarrError:
        return "refused"
    limit = 0.0 if exact else tolerance(array["codecs"][0], values)
    encoded = decoded = refusal = None
    try:
        encoded = pipeline.encode(values)
        decoded = pipeline.decode(encoded)
    except TempozarrError as error:
        refusal = error
    if decoded is not None and limit is not None and not kept(decoded, values, limit):
        return "fault: other values read back"
    note("theirs")
    chunk = theirs_written(array, values)
    read = None if chunk is None else theirs_read(array, chunk)
    if refusal and not exact and "nothing was stored" in str(refusal):
        return "not written"
    if refusal:
        return (
            f"fault: zarr-python takes what we refuse when we write it: {refusal}"
            if read is not None
            else "not written"
        )
    if encoded is not None and decoded is not None and encoded != chunk:
        ours = theirs_read(array, encoded)
        if ours is not None and bits(ours) != bits(decoded):
            return "fault: zarr-python reads other values of ours"
    if chunk is None or read is None:
        return "taken by us"
    note("ours")
    try:
        decoded = pipeline.decode(chunk)
    except TempozarrError as error:
        return f"fault: what zarr-python writes and reads is refused: {error}"
    if bits(decoded) == bits(read) or leaves_integers(array["codecs"][0], values):
        return "taken"
    return "fault: other values of theirs than they read"


def run(cases: list[tuple[Json, NDArray[Any], bool]], start: int, write: int) -> None:
    """Check cases from `start` on, and write a line for each thing that happens."""
    zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE})
    for number, case in enumerate(cases[start:], start):

        def note(event: str, number: int = number) -> None:
            os.write(write, f"{json.dumps([number, event])}\n".encode())

        signal.alarm(SECONDS)
        try:
            note(check(*case, note))
        except BaseException:  # noqa: BLE001 -- a panic is none of Exception
            note(f"fault: {traceback.format_exc()}")


def in_child(work: Callable[[int], None]) -> tuple[list[Any], int]:
    """Run `work` in a child; return the lines that it wrote, and how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            work(write)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as lines:
        events = [json.loads(line) for line in lines]
    return events, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "base", "data_type", "tried"), CODECS)
def test_extreme_parameters(
    name: str, base: dict[str, Json], data_type: str, tried: dict[str, list[Json]]
) -> None:
    """Check one codec."""
    exact = name.removeprefix("numcodecs.") not in LOSSY
    arrays = [
        document(name, changed, data_type)
        for changed in configurations(base, tried)
        if (name, changed, data_type) not in KNOWN
    ]
    cases = [(array, VALUES[data_type], exact) for array in arrays]
    faults, outcomes, start = [], [], 0
    while start < len(cases):
        events, status = in_child(partial(run, cases, start))
        outcomes += [event for _, event in events]
        faults += [(number, event) for number, event in events if event.startswith("fault")]
        number, stage = events[-1]
        # What ends zarr-python is not ours.
        if status and stage != "theirs":
            faults.append((number, f"ended with {status}"))
        start = number + 1
    told = [f"{event}\n  {json.dumps(arrays[number]['codecs'])}" for number, event in faults]
    assert not faults, f"{len(faults)} of {len(cases)}\n" + "\n".join(told)
    # zarr-python 3.1 has fewer codecs.
    taken = "taken" if is_known(name) else "taken by us"
    assert {taken, "refused"} <= set(outcomes)
