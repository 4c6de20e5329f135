"""The table of cases: codec chain x data type x shape x sharding x fill value x edges.

A case is data, and says how to write one small array with zarr-python. `generate.py` turns the
table into goldens; the tests write it through tempozarr and read it back with others.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numcodecs
import numpy as np
import zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Codec = dict[str, Any]

INTS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
FLOATS = ("f2", "f4", "f8")
FIXED = (*INTS, *FLOATS, "?", "c8", "c16", "M8[ns]", "m8[s]")

# Bits that arithmetic, comparison or a cast would change: +-0, +-1, +-inf, quiet and signalling
# NaNs with payloads, the smallest and largest subnormals, the largest finite value.
_FLOAT_BITS = {
    "f2": (
        0,
        0x8000,
        0x3C00,
        0xBC00,
        0x7C00,
        0xFC00,
        0x7E01,
        0xFE55,
        0x7C01,
        0x0001,
        0x03FF,
        0x7BFF,
    ),
    "f4": (
        *(0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000),
        *(0x7FC12345, 0xFFC00001, 0x7F812345, 0x00000001, 0x007FFFFF, 0x7F7FFFFF),
    ),
    "f8": (
        *(0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52),
        *((0xFFF1 << 47) + 12345, (0x1FFF << 51) + 1, (0x7FF << 52) + 9, 1, (1 << 52) - 1),
        (0x7FF << 52) - 1,
    ),
}


@dataclass(frozen=True)
class Case:
    """One array: what is in it and how it is stored.

    `values` names how the data is made (see `source`); `written` is the part that is written, the
    rest stays missing; `lossless` says that reading gives back exactly what was written;
    `edit` changes stored metadata afterwards to a spelling that zarr-python reads but does not
    write; `writers` are the releases that write it correctly; `refused` is what tempozarr says when
    it is to write values for which numcodecs stores others without a word.
    """

    name: str
    dtype: Any = "f4"
    shape: tuple[int, ...] = (13,)
    chunks: tuple[int, ...] = (8,)
    shards: Any = None
    filters: tuple[Codec, ...] = ()
    serializer: Codec | None = None
    compressors: tuple[Codec, ...] = ()
    fill_value: Any = None
    values: str = "bits"
    written: Any = None
    lossless: bool = True
    zarr_format: int = 3
    order: str = "C"
    separator: str | None = None
    edit: tuple[tuple[str, Any], ...] = ()
    writers: tuple[str, ...] = ("3.1.6", "3.4.2")
    refused: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_temporal_xor(self) -> bool:
        """Whether reading the case needs `temporal_xor`."""
        return "temporal_xor" in repr((self.filters, self.serializer))


def codec(name: str, **configuration: Any) -> Codec:
    """A codec as Zarr V3 metadata has it."""
    return {"name": name, "configuration": configuration}


def nc(name: str, **configuration: Any) -> Codec:
    """A numcodecs codec as Zarr V3 metadata has it."""
    return codec(f"numcodecs.{name}", **configuration)


XOR = codec("temporal_xor", axis=0)
ZSTD = codec("zstd", level=3, checksum=False)
BIG = codec("bytes", endian="big")


def source(case: Case) -> np.ndarray:
    """The values of `case`, the same in every process."""
    size = int(np.prod(case.shape, dtype=int))
    random = np.random.default_rng(crc32(case.name.encode()))
    if case.values == "text":
        words = ["", "a", "zarr", "naïve", "日本語", "🦀🐍", "x" * 40]
        return np.array([words[i % len(words)] for i in range(size)], case.dtype).reshape(
            case.shape
        )
    if case.values == "blobs":
        blobs = [bytes(range(i * i % 50)) for i in range(size)]
        return np.array([*blobs, None], object)[:-1].reshape(case.shape)
    dtype = np.dtype(case.dtype)
    match case.values:
        case "bits":
            flat = _bits(dtype, size, random)
        case "walk":  # differences of at most 3 in both directions, far from the type's limits
            steps = np.cumsum(random.integers(-3, 4, size)) + 100
            flat = (steps / 8 if dtype.kind == "f" else steps).astype(dtype)
        case "small":  # what every integer type and float16 hold exactly
            flat = random.integers(0, 100, size).astype(dtype)
        case "normal":
            flat = random.normal(0, 1000, size).astype(dtype)
        case "half":  # float16 holds these; the edges are rounding ties, overflow and subnormals
            edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, 1e6, 2**-24, 2**-25]
            edges += [2**-25 * 1.0001, 3 * 2**-25, 2049, 2051, -2051, 6.1e-5, 1 / 3]
            flat = np.resize(np.array(edges), size).astype(dtype)
        case other:
            raise ValueError(f"unknown kind of values: {other!r}")
    return flat.reshape(case.shape)


def _bits(dtype: np.dtype, size: int, random: np.random.Generator) -> np.ndarray:
    """Edge values of `dtype` first, random bits after."""
    native = dtype.newbyteorder("=")
    flat = np.frombuffer(random.bytes(size * dtype.itemsize), np.uint8).copy()
    if dtype.kind == "b":
        return (flat & 1).astype(bool)
    if dtype.kind == "U":
        return np.array([chr(0x20 + int(b)) * (1 + int(b) % 3) for b in flat[:size]], dtype)
    if dtype.kind in "SV":
        return flat.view(native)
    part = {"c8": "f4", "c16": "f8"}.get(native.str[1:], native.str[1:])
    if part in _FLOAT_BITS:
        edges = np.array(_FLOAT_BITS[part], f"u{part[1:]}").view(part)
    else:
        kind = "u" if native.kind == "u" else "i"
        limits = np.iinfo(f"{kind}{native.itemsize}")
        values = [limits.min, limits.max, 0, 1, limits.max - 1, limits.min + 1]
        edges = np.array(values, f"{kind}{native.itemsize}")
    head = edges.view(np.uint8)[: flat.size]
    flat[: head.size] = head
    return flat.view(native).astype(dtype)


def create(case: Case, path: Path) -> zarr.Array:
    """Create the array of `case` at `path` with zarr-python as it is configured, and fill it."""
    v2 = case.zarr_format == 2
    as_codec = numcodecs.get_codec if v2 else dict
    extra: dict[str, Any] = dict(case.options)
    if case.serializer:
        extra["serializer"] = dict(case.serializer)
    if v2:
        extra["order"] = case.order
    if case.separator:
        extra["chunk_key_encoding"] = {
            "name": "v2" if v2 else "default",
            "separator": case.separator,
        }
    with warnings.catch_warnings():
        # zarr-python warns that numcodecs codecs and some data types are not in the specification.
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            str(path),
            shape=case.shape,
            dtype=case.dtype,
            chunks=case.chunks,
            shards=case.shards,
            filters=[as_codec(c) for c in case.filters] or None,
            compressors=[as_codec(c) for c in case.compressors] or None,
            zarr_format=case.zarr_format,
            **({} if case.fill_value is None else {"fill_value": case.fill_value}),
            **extra,
        )
        part = ... if case.written is None else case.written
        array[part] = source(case)[part]
    return array


def apply_edit(case: Case, path: Path) -> None:
    """Put the spellings of `case.edit` into the metadata stored at `path`."""
    file = path / ("zarr.json" if case.zarr_format == 3 else ".zarray")
    metadata = json.loads(file.read_text())
    for where, value in case.edit:
        *parents, last = (int(key) if key.isdigit() else key for key in where.split("."))
        target = metadata
        for key in parents:
            target = target[key]
        target[last] = value
    file.write_text(json.dumps(metadata, indent=2))


def expected(case: Case) -> np.ndarray | None:
    """What reading `case` must give, or None if only its codecs can say."""
    if not case.lossless:
        return None
    values = source(case)
    if case.written is None:
        return values
    options = {} if case.fill_value is None else {"fill_value": case.fill_value}
    fill = zarr.create_array({}, shape=(), chunks=(), dtype=case.dtype, **options)[()]
    result = np.full(case.shape, fill, values.dtype)
    result[case.written] = values[case.written]
    return result


def cases() -> Iterator[Case]:
    """Every case that has a golden."""
    for family in (_bytes, _temporal_xor, _delta, _astype, _shuffle, _lz4, _zstd, _others):
        yield from family()
    for family in (_pipelines, _sharding, _edges, _text, _v2, _rare):
        yield from family()
    for family in (_compressors, _checksums, _rounding, _scaling):
        yield from family()


def label(dtype: str) -> str:
    """`dtype` as a part of a folder name."""
    return (
        dtype.replace("?", "bool")
        .replace("<", "")
        .replace(">", "be-")
        .translate(str.maketrans("[", "-", "]|"))
    )


def _bytes() -> Iterator[Case]:
    for dtype in FIXED:
        yield Case(f"bytes-{label(dtype)}", dtype)
    for dtype in ("i2", "u4", "i8", "f2", "f8", "c8", "c16", "M8[ns]"):
        yield Case(f"bytes-big-endian-{label(dtype)}", dtype, serializer=BIG)


def _temporal_xor() -> Iterator[Case]:
    grid: dict[str, Any] = {"shape": (7, 3), "chunks": (4, 3)}
    for dtype in FIXED:
        yield Case(f"temporal-xor-{label(dtype)}", dtype, **grid, filters=(XOR,))
    cube: dict[str, Any] = {"shape": (5, 4, 3), "chunks": (3, 2, 2), "shards": (6, 4, 4)}
    for axis in (0, 1, 2, -1, -3):
        xor = codec("temporal_xor", axis=axis)
        for dtype in ("f4", "i8", "u1"):
            name = f"temporal-xor-axis{axis}-{dtype}"
            yield Case(name, dtype, **cube, filters=(xor,), compressors=(ZSTD,))
    yield Case("temporal-xor-1d", "f8", filters=(XOR,), compressors=(ZSTD,))
    yield Case("temporal-xor-big-endian", "f4", **grid, filters=(XOR,), serializer=BIG)
    twice = (codec("temporal_xor", axis=0), codec("temporal_xor", axis=1))
    yield Case("temporal-xor-twice", "i2", **grid, filters=twice)
    yield Case("temporal-xor-one-row-chunks", "f4", (3, 4), (1, 4), filters=(XOR,))
    spelled = {"name": "temporal_xor", "configuration": {"axis": 0, "transform": "xor"}}
    yield Case(
        "temporal-xor-with-transform", "f4", **grid, filters=(XOR,), edit=(("codecs.0", spelled),)
    )
    bare = {"name": "temporal_xor"}
    yield Case("temporal-xor-bare", "f4", **grid, filters=(XOR,), edit=(("codecs.0", bare),))


def _delta() -> Iterator[Case]:
    for dtype in INTS:
        yield Case(f"delta-{dtype}", dtype, filters=(nc("delta", dtype=f"<{dtype}"),))
    for spelling in ("i8", "int64"):
        yield Case(f"delta-spelled-{spelling}", "i8", filters=(nc("delta", dtype=spelling),))
    for dtype, narrow in (("i8", "i4"), ("i8", "i2"), ("i4", "i1"), ("u4", "u4"), ("u2", "i2")):
        delta = nc("delta", dtype=f"<{dtype}", astype=f"<{narrow}")
        yield Case(f"delta-{dtype}-as-{narrow}", dtype, filters=(delta,), values="walk")
    wide = nc("delta", dtype="<i2", astype="<i8")
    yield Case("delta-i2-as-i8", "i2", filters=(wide,), values="walk")
    for dtype in ("M8[ns]", "m8[s]"):
        yield Case(f"delta-view-{label(dtype)}", dtype, filters=(nc("delta", dtype="<i8"),))
    yield Case("delta-view-u4-as-i4", "u4", filters=(nc("delta", dtype="<i4"),))
    narrow = nc("delta", dtype="<i8", astype="<i4")
    yield Case("delta-view-M8-narrow", "M8[s]", filters=(narrow,), values="walk")
    for dtype in FLOATS:
        delta = nc("delta", dtype=f"<{dtype}")
        yield Case(f"delta-{dtype}", dtype, filters=(delta,), values="normal", lossless=False)
    yield Case("delta-f4-bits", "f4", filters=(nc("delta", dtype="<f4"),), lossless=False)
    half = nc("delta", dtype="<f4", astype="<f2")
    yield Case("delta-f4-as-f2", "f4", filters=(half,), values="normal", lossless=False)
    rows = nc("delta", dtype="<i4")
    yield Case("delta-2d", "i4", (7, 3), (4, 2), filters=(rows,))
    yield Case("delta-2d-sharded", "i4", (7, 3), (2, 2), (4, 4), (rows,), compressors=(ZSTD,))
    # zarr-python 3.1.6 reads this one back wrongly.
    big: dict[str, Any] = {"serializer": BIG, "writers": ("3.4.2",)}
    yield Case("delta-big-endian-bytes", "i4", filters=(rows,), **big)


def _astype() -> Iterator[Case]:
    pairs = [("f4", "f2"), ("f8", "f4"), ("f8", "f2")]
    for dtype, stored in pairs:
        cast = nc("astype", encode_dtype=f"<{stored}", decode_dtype=f"<{dtype}")
        name = f"astype-{dtype}-{stored}"
        yield Case(name, dtype, (19,), filters=(cast,), values="half", lossless=False)
        yield Case(f"{name}-bits", dtype, (19,), filters=(cast,), lossless=False)
        sharded: dict[str, Any] = {"shape": (9, 4), "chunks": (4, 2), "shards": (8, 4)}
        yield Case(f"{name}-sharded", dtype, **sharded, filters=(cast,), values="small")
    little = codec("bytes", endian="little")
    pairs = [("f2", "f4"), ("f4", "f8"), ("i4", "i8"), ("u1", "f4"), ("u2", "i4"), ("?", "u1")]
    for dtype, stored in pairs:
        # Widening keeps every value, but a cast quietens signalling NaNs.
        exact = dtype not in FLOATS
        cast = nc("astype", encode_dtype=f"<{stored}", decode_dtype=np.dtype(dtype).str)
        name = f"astype-{label(dtype)}-{stored}"
        # zarr-python 3.1.6 drops `endian` where the array's own type has one byte, and fails.
        writers = ("3.4.2",) if stored == "f4" else ("3.1.6", "3.4.2")
        options: dict[str, Any] = {"serializer": little, "lossless": exact, "writers": writers}
        yield Case(name, dtype, filters=(cast,), **options)
    pairs = [("i8", "i4"), ("i4", "u1"), ("i8", "u2"), ("f8", "i4"), ("f4", "u1"), ("i8", "f4")]
    for dtype, stored in pairs:
        cast = nc("astype", encode_dtype=np.dtype(stored).str, decode_dtype=f"<{dtype}")
        yield Case(f"astype-{dtype}-{stored}", dtype, filters=(cast,), values="small")
    for spelling, wide in (("f2", "f4"), ("float16", "float32")):
        cast = nc("astype", encode_dtype=spelling, decode_dtype=wide)
        yield Case(f"astype-spelled-{spelling}", "f4", filters=(cast,), values="small")
    omitted = nc("astype", encode_dtype="<f4")
    yield Case("astype-decode-dtype-omitted", "f8", filters=(omitted,), values="small")


def _shuffle() -> Iterator[Case]:
    for size, dtype in (
        (1, "u1"),
        (1, "f4"),
        (2, "i2"),
        (2, "f8"),
        (4, "f4"),
        (4, "i8"),
        (8, "f8"),
    ):
        shuffle = (nc("shuffle", elementsize=size),)
        yield Case(f"shuffle-{size}-{dtype}", dtype, compressors=shuffle)
    for size, dtype in ((3, "V3"), (12, "c8"), (16, "c16"), (0, "f4")):
        shape = (15,) if size == 12 else (13,)
        chunks = (6,) if size == 12 else (8,)
        shuffle = (nc("shuffle", elementsize=size),)
        yield Case(f"shuffle-{size}-{label(dtype)}", dtype, shape, chunks, compressors=shuffle)
    for dtype in ("u1", "f4", "f8"):
        yield Case(f"shuffle-omitted-{dtype}", dtype, compressors=(nc("shuffle"),))
    # zarr-python 3.1.6 stores the element size of the array's type, later ones of the stored type.
    half = nc("astype", encode_dtype="<f2", decode_dtype="<f4")
    yield Case(
        "shuffle-omitted-after-astype",
        "f4",
        (7, 3),
        (4, 3),
        filters=(half,),
        values="small",
        compressors=(nc("shuffle"), ZSTD),
    )


def _lz4() -> Iterator[Case]:
    lz4 = (nc("lz4", acceleration=1),)
    for dtype in ("u1", "i4", "f8", "M8[ns]"):
        yield Case(f"lz4-{label(dtype)}", dtype, compressors=lz4)
    yield Case("lz4-compressible", "i4", (300,), (256,), values="small", compressors=lz4)
    yield Case("lz4-acceleration-omitted", "i4", compressors=(nc("lz4"),), values="walk")
    yield Case("lz4-acceleration-7", "i4", compressors=(nc("lz4", acceleration=7),), values="walk")
    yield Case("lz4-sharded", "f4", (9, 4), (4, 2), (8, 4), values="walk", compressors=lz4)
    yield Case("lz4-after-shuffle", "f8", compressors=(nc("shuffle", elementsize=8), *lz4))


def _zstd() -> Iterator[Case]:
    for dtype in ("u1", "f4", "c16", "?"):
        yield Case(f"zstd-{label(dtype)}", dtype, compressors=(ZSTD,))
    for level in (-5, 0, 1, 19):
        zstd = (codec("zstd", level=level, checksum=False),)
        yield Case(f"zstd-level{level}", "i4", (300,), (256,), values="walk", compressors=zstd)
    checked = (codec("zstd", level=3, checksum=True),)
    yield Case("zstd-checksum", "f4", compressors=checked)
    yield Case("zstd-sharded", "f4", (9, 4), (4, 2), (8, 4), compressors=checked)
    yield Case("numcodecs-zstd", "f4", compressors=(nc("zstd", level=3),))
    yield Case("numcodecs-zstd-checksum", "f4", compressors=(nc("zstd", level=3, checksum=True),))
    yield Case("numcodecs-zstd-omitted", "i8", compressors=(nc("zstd"),))
    yield Case("zstd-twice", "i4", (300,), (256,), values="small", compressors=(ZSTD, ZSTD))


def _others() -> Iterator[Case]:
    for cname in ("lz4", "lz4hc", "zlib", "zstd", "blosclz"):
        for shuffle, dtype in (("noshuffle", "u1"), ("shuffle", "f4"), ("bitshuffle", "i8")):
            blosc = codec("blosc", cname=cname, clevel=5, shuffle=shuffle, blocksize=0)
            options = {"shape": (70,), "chunks": (64,), "values": "walk"}
            yield Case(f"blosc-{cname}-{shuffle}", dtype, **options, compressors=(blosc,))
    yield Case("gzip", "f4", compressors=(codec("gzip", level=5),))
    yield Case("crc32c", "f4", compressors=(codec("crc32c"),))
    yield Case("zstd-crc32c", "f4", compressors=(ZSTD, codec("crc32c")))
    for name in ("zlib", "bz2", "gzip"):
        yield Case(f"numcodecs-{name}", "f8", compressors=(nc(name, level=4),), values="walk")
    for name in ("crc32c", "adler32", "fletcher32"):
        for dtype in ("i2", "f8"):
            yield Case(f"numcodecs-{name}-{dtype}", dtype, compressors=(nc(name),))
    for dtype in ("f2", "f4", "f8"):
        keep = (nc("bitround", keepbits=5),)
        yield Case(
            f"numcodecs-bitround-{dtype}", dtype, filters=keep, values="normal", lossless=False
        )
    for astype, dtype in (("u1", "f4"), ("i2", "f8"), ("f4", "f8")):
        scale = nc("fixedscaleoffset", offset=2, scale=10, dtype=f"<{dtype}", astype=f"<{astype}")
        name = f"numcodecs-fixedscaleoffset-{dtype}-{astype}"
        refused = "has no value as uint8" if astype == "u1" else ""
        yield Case(name, dtype, filters=(scale,), values="small", lossless=False, refused=refused)
    order = codec("transpose", order=[2, 0, 1])
    yield Case("transpose", "f4", (3, 4, 5), (3, 2, 5), filters=(order,))
    yield Case("transpose-xor", "f4", (3, 4, 5), (3, 2, 5), filters=(order, XOR))
    yield Case("xor-transpose", "f4", (3, 4, 5), (3, 2, 5), filters=(XOR, order))
    for dtype in ("i2", "i4", "u8", "f2", "f4", "f8"):
        pcodec = nc("pcodec", level=8, mode_spec="auto")
        yield Case(f"numcodecs-pcodec-{dtype}", dtype, serializer=pcodec, values="walk")
    # Codecs that decode whole chunks, behind others that change the shape or data type.
    pcodec = nc("pcodec", level=8)
    narrow = nc("astype", encode_dtype="<f4", decode_dtype="<f8")
    for shards, name in ((None, ""), ((6, 4, 5), "-sharded")):
        box: dict[str, Any] = {"shape": (7, 4, 5), "chunks": (3, 2, 5), "shards": shards}
        small: dict[str, Any] = {"values": "small", **box}
        # numcodecs 0.16.6 does not encode what is transposed.
        yield Case(
            f"transpose-pcodec{name}",
            "i4",
            **box,
            filters=(order,),
            serializer=pcodec,
            writers=("3.4.2",),
        )
        yield Case(f"astype-pcodec{name}", "f8", **small, filters=(narrow,), serializer=pcodec)
        yield Case(f"transpose-packbits{name}", "?", **box, filters=(order, nc("packbits")))


def _pipelines() -> Iterator[Case]:
    """The chains of the real store, tiny."""
    book: dict[str, Any] = {"shape": (11, 5, 3), "chunks": (4, 5, 3), "shards": (8, 5, 3)}
    half = nc("astype", encode_dtype="<f2", decode_dtype="<f4")
    planes = {size: nc("shuffle", elementsize=size) for size in (2, 4, 8)}
    yield Case(
        "book",
        **book,
        filters=(half, XOR),
        compressors=(planes[2], ZSTD),
        values="half",
        lossless=False,
    )
    yield Case("book-raw", **book, filters=(XOR,), compressors=(planes[4], ZSTD))
    yield Case(
        "book-raw-big-endian", **book, filters=(XOR,), serializer=BIG, compressors=(planes[4], ZSTD)
    )
    delta = nc("delta", dtype="<i8")
    yield Case("time", "i8", (21,), (8,), filters=(delta,), compressors=(ZSTD,), values="walk")
    narrow = nc("delta", dtype="<i8", astype="<i4")
    yield Case(
        "time-narrow",
        "i8",
        (21,),
        (4,),
        (8,),
        (narrow,),
        compressors=(planes[4], ZSTD),
        values="walk",
    )
    lz4 = nc("lz4", acceleration=1)
    yield Case("flow", "f8", (11, 4), (4, 4), filters=(XOR,), compressors=(planes[8], lz4))
    checked = (planes[4], lz4, codec("crc32c"))
    yield Case("flow-checked", "f4", (11, 4), (4, 4), filters=(XOR,), compressors=checked)


def _sharding() -> Iterator[Case]:
    start = {"shape": (8, 4), "index_location": "start"}
    grid: dict[str, Any] = {"shape": (9, 7), "chunks": (4, 2)}
    yield Case("shard-index-start", "i4", **grid, shards=start)
    yield Case("shard-index-start-zstd", "i4", **grid, shards=start, compressors=(ZSTD,))
    yield Case(
        "shard-missing-subchunks",
        "f4",
        **grid,
        shards=(8, 8),
        written=np.s_[5:, 3:5],
        fill_value=7.5,
    )
    yield Case(
        "shard-missing-subchunks-xor",
        "f4",
        **grid,
        shards=(8, 8),
        filters=(XOR,),
        compressors=(ZSTD,),
        written=np.s_[5:, 3:5],
        fill_value=7.5,
    )
    yield Case("shard-missing", "f4", **grid, shards=(4, 4), written=np.s_[:4, :4], fill_value=-1)
    yield Case("shard-larger-than-array", "u2", (3, 3), (2, 2), (8, 8), compressors=(ZSTD,))
    yield Case("shard-one-subchunk", "u2", (4, 4), (4, 4), (4, 4), compressors=(ZSTD,))
    little = codec("bytes", endian="little")

    def shard(chunk: tuple[int, ...], *inner: Codec, location: str = "end", **index: Any) -> Codec:
        index_codecs = index.get("index_codecs", [little, codec("crc32c")])
        return codec(
            "sharding_indexed",
            chunk_shape=chunk,
            codecs=list(inner),
            index_codecs=index_codecs,
            index_location=location,
        )

    nested = shard((4, 4), shard((2, 2), XOR, little, ZSTD, location="start"))
    yield Case("shard-nested", "f4", (9, 7), (8, 8), serializer=nested)
    unchecked = shard((2, 2), little, ZSTD, index_codecs=[BIG])
    yield Case("shard-index-big-endian-unchecked", "i4", (5, 4), (4, 4), serializer=unchecked)
    squeezed = shard((2, 2), little)
    yield Case(
        "shard-compressed-outside", "i4", (5, 4), (4, 4), serializer=squeezed, compressors=(ZSTD,)
    )
    inner = shard((2, 2), little, ZSTD)
    yield Case("shard-after-xor", "i4", (5, 4), (4, 4), filters=(XOR,), serializer=inner)


def _edges() -> Iterator[Case]:
    chain: dict[str, Any] = {"filters": (XOR,), "compressors": (nc("shuffle", elementsize=4), ZSTD)}
    yield Case("empty", "f4", (0, 3), (2, 3), **chain)
    yield Case("empty-inner", "f4", (5, 0), (2, 1), **chain)
    yield Case("empty-sharded", "f4", (0, 3), (2, 3), (4, 3), **chain)
    yield Case("zero-dimensional", "f8", (), ())
    yield Case("zero-dimensional-zstd", "i4", (), (), compressors=(ZSTD,))
    yield Case("zero-dimensional-delta", "i4", (), (), filters=(nc("delta", dtype="<i4"),))
    yield Case("one-element", "f4", (1,), (1,), **chain)
    yield Case("chunk-larger-than-array", "f4", (3, 2), (8, 8), **chain)
    yield Case("all-missing", "f4", (5, 4), (2, 4), **chain, written=np.s_[:0], fill_value=2.5)
    yield Case("some-missing", "f4", (9, 4), (2, 4), **chain, written=np.s_[2:4], fill_value=-0.5)
    fills = [
        *(("f4", float("nan")), ("f8", float("-inf")), ("f8", -0.0), ("f2", 1.5), ("i1", -128)),
        *(("u8", 2**64 - 1), ("i8", -(2**63)), ("?", True), ("c8", 1 - 2j)),
        *(
            ("c16", complex("nan+infj")),
            ("M8[ns]", np.datetime64("NaT", "ns")),
            ("m8[s]", np.timedelta64(-5, "s")),
        ),
    ]
    for i, (dtype, fill) in enumerate(fills):
        name = f"fill-{i:02}-{label(dtype)}"
        yield Case(name, dtype, (9,), (4,), fill_value=fill, written=np.s_[:3], filters=(XOR,))
    delta = (nc("delta", dtype="<i4"),)
    yield Case("fill-delta", "i4", (9,), (4,), fill_value=-3, written=np.s_[:3], filters=delta)
    half = (nc("astype", encode_dtype="<f2", decode_dtype="<f4"),)
    yield Case(
        "fill-astype",
        "f4",
        (9,),
        (4,),
        fill_value=0.1,
        written=np.s_[4:8],
        filters=half,
        values="small",
    )
    kept = {"config": {"write_empty_chunks": True}}
    yield Case(
        "empty-chunks-kept", "i4", (9,), (4,), fill_value=100, written=np.s_[:0], options=kept
    )
    yield Case("key-separator-dot", "i4", (5, 4), (3, 2), separator=".")
    yield Case(
        "key-encoding-v2",
        "i4",
        (5, 4),
        (3, 2),
        options={"chunk_key_encoding": {"name": "v2", "separator": "."}},
    )
    named = {
        "dimension_names": ("time", None),
        "attributes": {"units": "bp", "levels": [1, 2.5, None]},
    }
    yield Case("attributes", "i4", (5, 4), (3, 4), options=named)
    yield Case(
        "five-dimensional",
        "i2",
        (3, 2, 3, 2, 2),
        (2, 2, 2, 1, 2),
        (4, 2, 4, 2, 2),
        **{**chain, "compressors": (ZSTD,)},
    )


def _text() -> Iterator[Case]:
    text = np.dtypes.StringDType()
    blob = zarr.dtype.VariableLengthBytes()
    yield Case("vlen-utf8", text, (9,), (4,), values="text")
    yield Case("vlen-utf8-zstd", text, (3, 4), (2, 4), values="text", compressors=(ZSTD,))
    yield Case(
        "vlen-utf8-fill", text, (9,), (4,), values="text", written=np.s_[:4], fill_value="né"
    )
    yield Case("vlen-utf8-sharded", text, (9,), (2,), (4,), values="text", compressors=(ZSTD,))
    yield Case("vlen-bytes", blob, (9,), (4,), values="blobs")
    yield Case("vlen-bytes-zstd", blob, (9,), (4,), values="blobs", compressors=(ZSTD,))
    yield Case("fixed-utf32", "U5", (9,), (4,))
    yield Case("fixed-bytes", "S5", (9,), (4,))
    yield Case("raw-bytes", "V3", (9,), (4,))
    record = [("a", "<i4"), ("b", "<f8")]
    yield Case("structured", np.dtype(record), (9,), (4,))


def _v2() -> Iterator[Case]:
    v2: dict[str, Any] = {"zarr_format": 2}
    for dtype in (*FIXED, ">i2", ">u8", ">f4", ">c16", ">M8[us]"):
        yield Case(f"v2-{label(dtype)}", dtype, **v2)
    one: dict[str, Any] = {"shape": (19,), "chunks": (8,), **v2}
    codecs: list[tuple[str, str, Codec]] = [
        ("zstd", "f4", {"id": "zstd", "level": 3}),
        ("lz4", "f4", {"id": "lz4", "acceleration": 1}),
        ("blosc", "f4", {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}),
        ("blosc-bitshuffle", "i2", {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2}),
        ("blosc-noshuffle", "i8", {"id": "blosc", "cname": "zlib", "clevel": 9, "shuffle": 0}),
        ("blosc-autoshuffle", "u1", {"id": "blosc", "cname": "lz4hc", "clevel": 5, "shuffle": -1}),
        ("gzip", "f8", {"id": "gzip", "level": 1}),
        ("zlib", "f8", {"id": "zlib", "level": 1}),
        ("bz2", "f8", {"id": "bz2", "level": 1}),
    ]
    for name, dtype, compressor in codecs:
        yield Case(f"v2-{name}", dtype, **one, compressors=(compressor,), values="walk")
    zstd: Codec = {"id": "zstd", "level": 1}
    filters: list[tuple[str, str, str, Codec]] = [
        ("delta", "i4", "bits", {"id": "delta", "dtype": "<i4"}),
        ("delta-narrow", "i8", "walk", {"id": "delta", "dtype": "<i8", "astype": "<i2"}),
        ("delta-view", "M8[ns]", "bits", {"id": "delta", "dtype": "<i8"}),
        (
            "astype-half",
            "f4",
            "small",
            {"id": "astype", "encode_dtype": "<f2", "decode_dtype": "<f4"},
        ),
        (
            "astype-narrow",
            "f8",
            "small",
            {"id": "astype", "encode_dtype": "<i2", "decode_dtype": "<f8"},
        ),
        ("shuffle", "f4", "bits", {"id": "shuffle", "elementsize": 4}),
        ("shuffle-default", "i8", "bits", {"id": "shuffle"}),
        ("bitround", "f4", "small", {"id": "bitround", "keepbits": 10}),
        ("packbits", "?", "bits", {"id": "packbits"}),
        ("crc32c", "f4", "bits", {"id": "crc32c"}),
        ("adler32", "f4", "bits", {"id": "adler32"}),
        ("fletcher32", "f4", "bits", {"id": "fletcher32"}),
    ]
    scale = {"id": "fixedscaleoffset", "offset": 0, "scale": 2, "dtype": "<f8", "astype": "<i4"}
    filters.append(("fixedscaleoffset", "f8", "small", scale))
    for name, dtype, values, only in filters:
        yield Case(f"v2-{name}", dtype, **one, filters=(only,), compressors=(zstd,), values=values)
    both = ({"id": "delta", "dtype": "<i8"}, {"id": "shuffle", "elementsize": 8})
    yield Case("v2-delta-shuffle-lz4", "i8", **one, filters=both, compressors=({"id": "lz4"},))
    yield Case(
        "v2-delta-2d", "i4", (5, 4), (3, 3), filters=({"id": "delta", "dtype": "<i4"},), **v2
    )
    yield Case("v2-order-f", "f4", (5, 4), (3, 3), order="F", compressors=(zstd,), **v2)
    yield Case("v2-order-f-3d", ">i4", (5, 4, 3), (3, 3, 3), order="F", **v2)
    swapped = ({"id": "delta", "dtype": ">i4"},)
    yield Case("v2-delta-big-endian", ">i4", (5, 4), (3, 3), filters=swapped, **v2)
    for name, dtype, only in (
        ("delta", "i4", {"id": "delta", "dtype": "<i4"}),
        ("astype", "i4", {"id": "astype", "encode_dtype": "<i8", "decode_dtype": "<i4"}),
        ("shuffle", "f4", {"id": "shuffle", "elementsize": 4}),
    ):
        fortran: dict[str, Any] = {"shape": (5, 4), "chunks": (3, 3), "order": "F", **v2}
        yield Case(f"v2-order-f-{name}", dtype, **fortran, filters=(only,))
    for dtype in ("<U3", ">U3", "S3"):
        yield Case(f"v2-fixed-{label(dtype)}", dtype, (5,), (3,), **v2)
    yield Case("v2-separator-slash", "f4", (5, 4), (3, 3), separator="/", **v2)
    yield Case("v2-missing", "i4", (9,), (4,), written=np.s_[:3], fill_value=42, **v2)
    yield Case("v2-fill-nan", "f4", (9,), (4,), written=np.s_[:3], fill_value=float("nan"), **v2)
    null = (("fill_value", None),)
    yield Case("v2-fill-null", "i4", (9,), (4,), written=np.s_[:3], edit=null, **v2)
    yield Case("v2-empty", "f4", (0, 4), (3, 4), compressors=(zstd,), **v2)
    yield Case("v2-zero-dimensional", "f8", (), (), compressors=(zstd,), **v2)
    yield Case("v2-attributes", "i4", (5,), (3,), options={"attributes": {"units": "bp"}}, **v2)
    text = np.dtypes.StringDType()
    utf8 = ({"id": "vlen-utf8"},)
    yield Case(
        "v2-vlen-utf8", text, (9,), (4,), values="text", filters=utf8, compressors=(zstd,), **v2
    )


def _rare() -> Iterator[Case]:
    """What zarrs does not read by itself; `not_yet.json` says which of these tempozarr lacks."""
    walk: dict[str, Any] = {"values": "walk"}
    for name in ("lzma", "crc32", "jenkins_lookup3"):
        yield Case(f"numcodecs-{name}", "f8", compressors=(nc(name),))
    blosc = nc("blosc", cname="lz4", clevel=5, shuffle=1)
    yield Case("numcodecs-blosc", "f4", compressors=(blosc,), writers=("3.1.6",))
    digits = nc("quantize", digits=2, dtype="<f8")
    yield Case(
        "numcodecs-quantize",
        "f8",
        filters=(digits,),
        lossless=False,
        values="normal",
    )
    packed = (nc("packbits"),)
    yield Case("numcodecs-packbits", "?", filters=packed)
    scale = nc("fixedscaleoffset", offset=0, scale=2, astype="<i2")
    yield Case(
        "numcodecs-fixedscaleoffset-omitted",
        "f8",
        filters=(scale,),
        values="small",
    )
    odd = (nc("fletcher32"),)
    yield Case(
        "numcodecs-fletcher32-odd",
        "u1",
        (13,),
        (7,),
        compressors=odd,
    )
    offset = (codec("scale_offset", offset=1, scale=2),)
    yield Case(
        "scale-offset",
        "f8",
        filters=offset,
        values="small",
        writers=("3.4.2",),
    )
    zfp = {"mode": 4, "tolerance": 0.001}
    options: dict[str, Any] = {"values": "normal", "lossless": False}
    yield Case("numcodecs-zfpy", "f8", **options, serializer=nc("zfpy", **zfp))
    yield Case("v2-zfpy", "f4", **options, zarr_format=2, compressors=({"id": "zfpy", **zfp},))
    xz: Codec = {"id": "lzma"}
    yield Case("v2-lzma", "f8", zarr_format=2, compressors=(xz,), **walk)


LZMA1, LZMA2, LZMA_DELTA = 2**62 + 1, 33, 3


def _compressors() -> Iterator[Case]:
    """Parameters of numcodecs' compressors, and their defaults."""
    long: dict[str, Any] = {"shape": (70,), "chunks": (64,), "values": "walk"}
    for name, dtype, parameters in (
        ("omitted", "f4", {}),
        ("typesize", "f4", {"typesize": 4}),
        ("autoshuffle", "u1", {"cname": "zstd", "clevel": 1, "shuffle": -1}),
        ("autoshuffle-typesize", "f8", {"cname": "blosclz", "shuffle": -1, "typesize": 8}),
        ("bitshuffle", "i2", {"cname": "zlib", "clevel": 9, "shuffle": 2, "typesize": 2}),
        ("noshuffle", "i8", {"cname": "lz4hc", "shuffle": 0, "blocksize": 128}),
        ("uncompressed", "f4", {"clevel": 0, "typesize": None}),
    ):
        blosc = (nc("blosc", **parameters),)
        yield Case(f"numcodecs-blosc-{name}", dtype, **long, compressors=blosc)
    blosc = (nc("blosc", typesize=4),)
    yield Case("numcodecs-blosc-sharded", "f4", (9, 4), (4, 2), (8, 4), compressors=blosc)
    for name, level in (("gzip", -1), ("gzip", 0), ("zlib", -1), ("zlib", 9), ("bz2", 9)):
        yield Case(
            f"numcodecs-{name}-level{level}", "i4", **long, compressors=(nc(name, level=level),)
        )
    for name in ("gzip", "zlib", "bz2"):
        yield Case(f"numcodecs-{name}-omitted", "i4", **long, compressors=(nc(name),))
    raw = [{"id": LZMA_DELTA, "dist": 4}, {"id": LZMA2, "preset": 1, "dict_size": 65536, "lc": 2}]
    for name, parameters in (
        ("alone", {"format": 2}),
        ("raw", {"format": 3, "filters": raw}),
        ("raw-lzma1", {"format": 3, "check": -1, "filters": [{"id": LZMA1, "preset": 9}]}),
        ("unchecked", {"format": 1, "check": 0, "preset": None, "filters": None}),
        ("crc32", {"check": 1, "preset": 0}),
        ("sha256", {"check": 10, "preset": 9}),
        ("extreme", {"preset": 6 | 2**31}),
    ):
        yield Case(f"numcodecs-lzma-{name}", "i4", **long, compressors=(nc("lzma", **parameters),))
    for name, parameters in (
        ("omitted", {}),
        ("no-delta", {"delta_spec": "no_op"}),
        ("none", {"delta_spec": "none", "mode_spec": "classic"}),
        ("lookback", {"delta_spec": "try_lookback", "equal_pages_up_to": 16}),
        ("order", {"delta_encoding_order": 2, "level": 0}),
    ):
        # numcodecs 0.16.6 does not know the one, and cannot do the other.
        writers = ("3.4.2",) if name in {"no-delta", "none"} else ("3.1.6", "3.4.2")
        pcodec = nc("pcodec", **parameters)
        yield Case(f"numcodecs-pcodec-{name}", "i4", **long, serializer=pcodec, writers=writers)
    v2: dict[str, Any] = {"zarr_format": 2, **long}
    yield Case(
        "v2-lzma-raw", "i4", **v2, compressors=({"id": "lzma", "format": 3, "filters": raw},)
    )
    yield Case("v2-pcodec", "f8", **v2, compressors=({"id": "pcodec", "level": 2},))
    twice = ({"id": "blosc", "cname": "zstd", "shuffle": 0},)
    yield Case("v2-blosc-filter", "i4", **v2, filters=twice, compressors=({"id": "zlib"},))


def _checksums() -> Iterator[Case]:
    """Every checksum in every place, alone and behind a compressor."""
    for name in ("crc32", "crc32c", "adler32"):
        for location in ("start", "end"):
            checked = (nc(name, location=location),)
            yield Case(f"numcodecs-{name}-{location}", "f4", compressors=checked)
        yield Case(f"numcodecs-{name}-null", "u1", compressors=(nc(name, location=None),))
        yield Case(f"numcodecs-zstd-{name}", "i4", values="walk", compressors=(ZSTD, nc(name)))
    for name in ("fletcher32", "jenkins_lookup3"):
        yield Case(f"numcodecs-zstd-{name}", "i4", values="walk", compressors=(ZSTD, nc(name)))
    started = nc("jenkins_lookup3", initval=2**32 - 1, prefix=None)
    yield Case("numcodecs-jenkins_lookup3-initval", "u1", compressors=(started,))
    for length in (1, 4, 11, 12, 13, 24):
        hashed = (nc("jenkins_lookup3"),)
        name = f"numcodecs-jenkins_lookup3-{length}-bytes"
        yield Case(name, "u1", (length,), (length,), compressors=hashed)
    checked = (nc("shuffle", elementsize=4), ZSTD, nc("crc32c"))
    yield Case("numcodecs-checksum-sharded", "f4", (9, 4), (4, 2), (8, 4), compressors=checked)
    v2: dict[str, Any] = {"zarr_format": 2}
    for name in ("crc32", "jenkins_lookup3"):
        yield Case(f"v2-{name}", "f4", **v2, filters=({"id": name},))
    yield Case("v2-crc32-end", "i2", **v2, filters=({"id": "crc32", "location": "end"},))
    yield Case("v2-crc32c-start", "i2", **v2, compressors=({"id": "crc32c", "location": "start"},))


def _rounding() -> Iterator[Case]:
    """Filters of numcodecs that keep less than they are given, and bools in bits."""
    for dtype in FLOATS:
        for digits in (0, 3):
            digital = (nc("quantize", digits=digits, dtype=f"<{dtype}"),)
            options: dict[str, Any] = {"filters": digital, "lossless": False}
            yield Case(f"numcodecs-quantize-{dtype}-{digits}", dtype, **options, values="normal")
        yield Case(f"numcodecs-quantize-{dtype}-bits", dtype, **options)
        for keepbits in (0, 10):
            keep = (nc("bitround", keepbits=keepbits),)
            options = {"filters": keep, "lossless": False}
            yield Case(f"numcodecs-bitround-{dtype}-{keepbits}-bits", dtype, **options)
    for digits in (-1, 2.5):
        digital = (nc("quantize", digits=digits, dtype="float64", astype="f8"),)
        name = f"numcodecs-quantize-digits{digits}"
        yield Case(name, "f8", filters=digital, values="normal", lossless=False)
    sharded: dict[str, Any] = {"shape": (9, 4), "chunks": (4, 2), "shards": (8, 4)}
    options = {"filters": (nc("quantize", digits=1),), "lossless": False}
    yield Case("numcodecs-quantize-omitted", "f4", **sharded, **options, values="normal")
    for dtype, values, parameters in (
        ("i4", "walk", {"offset": 100, "scale": 2, "astype": "i2"}),
        ("i4", "walk", {"offset": 100, "scale": 2.0, "astype": "<i8"}),
        ("u1", "small", {"offset": -0.5, "scale": 2, "astype": "u1"}),
        ("u2", "walk", {"offset": 1, "scale": 3}),
        ("i8", "walk", {"offset": 5, "scale": -1}),
        ("u8", "walk", {"offset": 50, "scale": 0.5, "astype": "i8"}),
        ("i1", "small", {"offset": -20, "scale": 1}),
        ("f2", "small", {"offset": 3, "scale": 0.5, "astype": "f4"}),
        ("f4", "walk", {"offset": 0.1, "scale": 1000, "astype": "i4"}),
        ("f8", "normal", {"offset": -0.1, "scale": 1e3, "astype": "f2"}),
        ("f8", "bits", {"offset": 0, "scale": 4}),
        ("?", "bits", {"offset": 0, "scale": 3, "astype": "u1"}),
        ("M8[s]", "walk", {"offset": 50, "scale": 1, "dtype": "<i8", "astype": "<i2"}),
    ):
        kinds = [type(parameters[number]).__name__ for number in ("offset", "scale")]
        name = "-".join([label(dtype), *kinds, str(parameters.get("astype", "same")).strip("<")])
        yield Case(
            f"numcodecs-fixedscaleoffset-{name}",
            dtype,
            (7, 3),
            (4, 2),
            filters=(nc("fixedscaleoffset", **parameters),),
            values=values,
            lossless=False,
        )
    scale = nc("fixedscaleoffset", offset=-2, scale=10, dtype="<f4", astype="<u2")
    missing: dict[str, Any] = {"written": np.s_[2:3, 1:2], "fill_value": -1.5, "values": "small"}
    yield Case("numcodecs-fixedscaleoffset-missing", "f4", **sharded, filters=(scale,), **missing)
    packed = (nc("packbits"),)
    for count in (1, 7, 8, 9, 16):
        yield Case(f"numcodecs-packbits-{count}", "?", (count,), (count,), filters=packed)
    yield Case("numcodecs-packbits-3d", "?", (5, 3, 2), (2, 2, 2), filters=packed)
    yield Case("numcodecs-packbits-sharded", "?", **sharded, filters=packed, compressors=(ZSTD,))
    absent: dict[str, Any] = {"written": np.s_[2:3, 1:2], "fill_value": True}
    yield Case("numcodecs-packbits-missing", "?", (9, 4), (4, 2), filters=packed, **absent)
    yield Case("numcodecs-packbits-zero-dimensional", "?", (), (), filters=packed)
    v2: dict[str, Any] = {"zarr_format": 2, "shape": (19,), "chunks": (8,)}
    narrow = {"id": "quantize", "digits": 2, "dtype": "<f8", "astype": "<f4"}
    yield Case("v2-quantize", "f8", **v2, filters=(narrow,), values="normal", lossless=False)
    scaled: Codec = {"id": "fixedscaleoffset", "offset": 0.1, "scale": 10}
    for name, dtype, types in (
        ("exact", "f8", {"dtype": "<f8", "astype": "<f8"}),
        ("narrow", "f4", {"dtype": "<f4", "astype": "<i2"}),
        ("big-endian", ">f8", {"dtype": ">f8", "astype": ">i4"}),
    ):
        filters = (scaled | types,)
        options = {"filters": filters, "values": "small", "lossless": False}
        yield Case(f"v2-fixedscaleoffset-{name}", dtype, **v2, **options)
    blosc: Codec = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
    filters = (scaled | {"dtype": "<f8", "astype": "<f8"},)
    chain: dict[str, Any] = {"filters": filters, "compressors": (blosc,)}
    yield Case("v2-blosc-fixedscaleoffset", "f8", **v2, **chain, values="small", lossless=False)
    yield Case("v2-packbits-2d", "?", (5, 4), (3, 3), zarr_format=2, filters=({"id": "packbits"},))


def _scaling() -> Iterator[Case]:
    """Codecs of zarr-extensions that came to zarr-python after 3.1."""
    new: dict[str, Any] = {"writers": ("3.4.2",)}
    for dtype, values, parameters in (
        ("i1", "small", {"offset": 50, "scale": 1}),
        ("u1", "small", {"scale": 2}),
        ("i4", "walk", {"offset": 100, "scale": -3}),
        ("u8", "small", {"offset": 0, "scale": 2**56}),
        ("i8", "bits", {}),
        ("f2", "small", {"offset": 0.5, "scale": 8}),
        ("f4", "bits", {"offset": "0x3f800000", "scale": 0.1}),
        ("f8", "normal", {"offset": 0.1, "scale": 1e-3}),
    ):
        offset = (codec("scale_offset", **parameters),)
        name = f"scale-offset-{dtype}"
        yield Case(name, dtype, filters=offset, values=values, lossless=False, **new)
    sharded: dict[str, Any] = {"shape": (9, 4), "chunks": (4, 2), "shards": (8, 4)}
    offset = (codec("scale_offset", offset=7, scale=3),)
    yield Case(
        "scale-offset-missing",
        "i2",
        **sharded,
        filters=offset,
        values="small",
        written=np.s_[2:3, 1:2],
        fill_value=-5,
        **new,
    )
    clamp, wrap = {"out_of_range": "clamp"}, {"out_of_range": "wrap"}
    for dtype, stored, values, parameters in (
        ("i4", "uint8", "bits", wrap),
        ("i8", "int16", "bits", clamp),
        ("u8", "int8", "small", {}),
        ("f8", "int8", "normal", {**clamp, "rounding": "towards-positive"}),
        ("f8", "uint16", "normal", {**wrap, "rounding": "nearest-away"}),
        ("f4", "int32", "normal", {"rounding": "towards-negative"}),
        ("f4", "float16", "normal", {"rounding": "towards-zero"}),
        ("f8", "float16", "half", clamp),
        ("f8", "float32", "normal", {"rounding": "towards-negative"}),
        ("f8", "float32", "normal", {"rounding": "nearest-away"}),
        ("i4", "float32", "bits", {**clamp, "rounding": "towards-positive"}),
        ("i8", "float64", "bits", {**clamp, "rounding": "towards-zero"}),
        ("f2", "float64", "half", {}),
    ):
        cast = (codec("cast_value", data_type=stored, **parameters),)
        rounding = parameters.get("rounding", "nearest-even")
        name = f"cast-value-{dtype}-{stored}-{rounding}"
        serializer = codec("bytes", endian="little")
        options: dict[str, Any] = {"values": values, "lossless": False, "serializer": serializer}
        yield Case(name, dtype, (19,), filters=cast, **options, **new)
    mapped = {
        "encode": [["NaN", 0], ["Infinity", 65535], ["-Infinity", 1]],
        "decode": [[0, "NaN"], [65535, "Infinity"], [1, "-Infinity"]],
    }
    cast = (codec("cast_value", data_type="uint16", scalar_map=mapped, **clamp),)
    yield Case("cast-value-map", "f4", (19,), filters=cast, values="half", lossless=False, **new)
    chain = (codec("scale_offset", offset=-10, scale=2), codec("cast_value", data_type="uint8"))
    yield Case("cast-value-scale-offset", "f4", **sharded, filters=chain, values="small", **new)
    yield Case(
        "cast-value-missing",
        "f8",
        **sharded,
        filters=(codec("cast_value", data_type="int16", rounding="towards-zero"),),
        values="small",
        written=np.s_[2:3, 1:2],
        fill_value=-2.5,
        lossless=False,
        **new,
    )


def more_cases() -> Iterator[Case]:
    """Lossless chains x data types x layouts, beyond the goldens: cheap to write, so many."""
    chains: dict[str, dict[str, Any]] = {
        "plain": {},
        "xor": {"filters": (XOR,)},
        "xor-zstd": {"filters": (XOR,), "compressors": (ZSTD,)},
        "xor-shuffle-lz4": {
            "filters": (XOR,),
            "compressors": (nc("shuffle", elementsize=2), nc("lz4", acceleration=1)),
        },
        "shuffle-zstd-crc32c": {
            "compressors": (nc("shuffle", elementsize=1), ZSTD, codec("crc32c")),
        },
        "transpose-xor-big-endian": {
            "filters": (codec("transpose", order=[1, 0]), codec("temporal_xor", axis=1)),
            "serializer": BIG,
            "compressors": (nc("zstd", level=1),),
        },
    }
    layouts: dict[str, dict[str, Any]] = {
        "chunked": {"shape": (10, 6), "chunks": (4, 4)},
        "sharded": {"shape": (10, 6), "chunks": (2, 4), "shards": (4, 8)},
        "missing": {"shape": (10, 6), "chunks": (4, 2), "written": np.s_[2:5, 1:4]},
    }
    for chain, codecs in chains.items():
        for dtype in FIXED:
            if "serializer" in codecs and np.dtype(dtype).itemsize == 1:
                continue
            for layout, options in layouts.items():
                yield Case(f"more-{chain}-{label(dtype)}-{layout}", dtype, **options, **codecs)
