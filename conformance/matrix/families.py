"""The cases of the matrix, from a seed: families of codec chains x data types x layouts x edges x
fill values.

Each family deals from shuffled decks of the other axes, and is dealt as many cases as the longest
of its decks has cards: so every family meets every data type that it takes, every layout, every
edge and every fill value, and a seed decides which of them meet in one case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cases import BIG, FIXED, FLOATS, INTS, XOR, ZSTD, Case, Codec, codec, label, nc, source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SEED = 7  # of `docs/conformance.md`

LAYOUTS = ("chunks", "sharded", "index-first", "nested")
FILLS = ("zero", "value", "nan", "infinity", "payload")
# Name: shape, and what is written of it.
EDGES: dict[str, tuple[tuple[int, ...], Any]] = {
    "whole": ((16, 8), None),
    "ragged": ((13, 7), None),
    "missing": ((24, 8), np.s_[8:16]),
    "partial": ((13, 7), np.s_[3:10, 1:5]),
    "unwritten": ((9, 5), np.s_[:0]),
    "small": ((3, 1), None),
    "1-element": ((1, 1), None),
    "1-d": ((29,), np.s_[:21]),
    "3-d": ((9, 5, 3), None),
    "size-0": ((0, 7), None),
    "0-d": ((), None),
}
CHUNK, SUBSHARD, SHARD = (4, 2, 2), (4, 4, 4), (8, 4, 4)

Chain = dict[str, Any]  # filters, serializer and compressors, as `Case` has them


@dataclass(frozen=True)
class Family:
    """Chains of the same codecs. `chain` makes one for a data type and a number of dimensions.

    `types` are the data types that it takes; `values`, `lossless`, `order` and `writers` are those
    of `Case`.
    """

    name: str
    types: Sequence[str]
    chain: Callable[[str, int], Chain]
    values: str = "bits"
    lossless: bool = True
    zarr_format: int = 3
    order: str = "C"
    edges: Sequence[str] = tuple(EDGES)
    fills: Sequence[str] = FILLS
    writers: tuple[str, ...] = ("3.1.6", "3.4.2")

    def cases(self, seed: int) -> Iterator[Case]:
        """The cases that `seed` deals."""
        random = np.random.default_rng([seed, *self.name.encode()])
        layouts = LAYOUTS if self.zarr_format == 3 else LAYOUTS[:1]
        # JSON of Zarr V2 has no NaN but the usual one.
        fills = self.fills if self.zarr_format == 3 else self.fills[: FILLS.index("payload")]
        axes = (self.types, layouts, self.edges, fills)
        decks = [_deal(deck, random) for deck in axes]
        seen = set()
        for dealt in islice(zip(*decks, strict=True), max(len(deck) for deck in axes)):
            case = self._case(*dealt)
            if case.name not in seen:  # what is 0-d has no shards, so two hands may be one case
                seen.add(case.name)
                yield case

    def _case(self, dtype: str, layout: str, edge: str, fill: str) -> Case:
        shape, written = EDGES[edge]
        if not shape:
            layout = "chunks"
        chain = self.chain(dtype, len(shape))
        case = Case(
            "-".join([self.name, label(dtype), layout, edge, fill]),
            dtype,
            shape,
            chunks=CHUNK[: len(shape)],
            values=self.values,
            written=written,
            lossless=self.lossless,
            zarr_format=self.zarr_format,
            order=self.order,
            writers=self.writers,
            **_fill(np.dtype(dtype), fill),
            **chain,
        )
        match layout:
            case "sharded":
                return replace(case, shards=SHARD[: len(shape)])
            case "index-first":
                shards = {"shape": SHARD[: len(shape)], "index_location": "start"}
                return replace(case, shards=shards)
            case "nested":
                return _nested(case)
        return case


def _deal(deck: Sequence[str], random: np.random.Generator) -> Iterator[str]:
    """The cards of `deck`, again and again, each time shuffled anew."""
    while True:
        yield from (deck[i] for i in random.permutation(len(deck)))


def _nested(case: Case) -> Case:
    """`case` with its chain in shards within shards."""
    ndim = len(case.shape)
    plain = codec("bytes", endian="little") if np.dtype(case.dtype).itemsize > 1 else codec("bytes")
    chain = [*case.filters, case.serializer or plain, *case.compressors]
    for chunk in (CHUNK, SUBSHARD):
        sharding = codec(
            "sharding_indexed",
            chunk_shape=chunk[:ndim],
            codecs=chain,
            index_codecs=[codec("bytes", endian="little"), codec("crc32c")],
            index_location="end",
        )
        chain = [sharding]
    return replace(case, chunks=SHARD[:ndim], filters=(), compressors=(), serializer=sharding)


def _fill(dtype: np.dtype, fill: str) -> dict[str, Any]:
    """The fill value called `fill`; of types that have no NaN, the nearest that they have."""
    position = FILLS.index(fill)
    match dtype.kind:
        case "f" if fill == "payload":  # zarr-python reads this spelling, but does not write it
            return {"fill_value": np.nan, "edit": (("fill_value", f"0x{_payload(dtype):x}"),)}
        case "c" if fill == "payload":
            part = f"0x{_payload(np.dtype(f'f{dtype.itemsize // 2}')):x}"
            nan = complex(np.nan, np.nan)
            return {"fill_value": nan, "edit": (("fill_value", [part, "-Infinity"]),)}
        case "f":
            return {"fill_value": (0.0, 2.5, np.nan, -np.inf)[position]}
        case "c":
            values = (0j, 2.5 - 1j, complex(np.nan, np.nan), complex(-np.inf, 1))
            return {"fill_value": values[position]}
        case "b":
            return {"fill_value": bool(position % 2)}
        case "i" | "u":
            limits = np.iinfo(dtype)
            return {"fill_value": int((0, 7, limits.max, limits.min, limits.max // 3)[position])}
        case "M" | "m":
            counts = (0, 7, np.iinfo("i8").min, np.iinfo("i8").max, -1)
            return {"fill_value": np.array(counts[position], "i8").view(dtype)[()]}
        case _:  # text and bytes of a fixed length
            return {}


def _payload(dtype: np.dtype) -> int:
    """The bits of a quiet NaN that is not the usual one."""
    return {2: 0x7E01, 4: 0x7FC12345, 8: 0x7FF8000000012345}[dtype.itemsize]


def fill_value(case: Case) -> np.ndarray:
    """What unwritten elements of `case` are, bit for bit, as an array without dimensions."""
    dtype = np.dtype(case.dtype)
    if case.fill_value is None:
        return np.zeros((), dtype)
    if not case.edit:
        return np.array(case.fill_value).astype(dtype)
    bits = _payload(np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype)
    if dtype.kind == "c":
        part = f"u{dtype.itemsize // 2}"
        infinity = np.array(-np.inf, f"f{dtype.itemsize // 2}").view(part)
        return np.array([bits, infinity], part).view(dtype)[0:1].reshape(())
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)


def wanted(case: Case) -> np.ndarray | None:
    """What reading `case` must give, or None if only its codecs can say."""
    if not case.lossless:
        return None
    values = source(case)
    if case.written is None:
        return values
    result = np.broadcast_to(fill_value(case), case.shape).copy()
    result[case.written] = values[case.written]
    return result


def region(case: Case) -> list[list[int]]:
    """Where what is written starts and ends in each dimension."""
    selection = case.written if isinstance(case.written, tuple) else (case.written or slice(None),)
    selection += (slice(None),) * (len(case.shape) - len(selection))
    pairs = zip(selection[: len(case.shape)], case.shape, strict=True)
    return [list(part.indices(length)[:2]) for part, length in pairs]


def fixed(*compressors: Codec, filters: Sequence[Codec] = (), **rest: Any) -> Any:
    """A chain that is the same for each data type."""
    return lambda _dtype, _ndim: {"filters": (*filters,), "compressors": compressors, **rest}


def of_type(make: Callable[[str], Sequence[Codec]], *compressors: Codec) -> Any:
    """Filters that name the array's data type, in front of `compressors`."""

    def chain(dtype: str, _ndim: int) -> Chain:
        return {"filters": tuple(make(np.dtype(dtype).str)), "compressors": compressors}

    return chain


def by_size(*rest: Codec, filters: Sequence[Codec] = ()) -> Any:
    """Shuffle by the size of the array's elements, in front of `rest`."""

    def chain(dtype: str, _ndim: int) -> Chain:
        shuffle = nc("shuffle", elementsize=np.dtype(dtype).itemsize)
        return {"filters": tuple(filters), "compressors": (shuffle, *rest)}

    return chain


def reversed_axes(dtype: str, ndim: int) -> Chain:
    """The axes in the opposite order, then big-endian bytes and zstd."""
    order = codec("transpose", order=list(range(ndim))[::-1])
    serializer = BIG if np.dtype(dtype).itemsize > 1 else None
    return {"filters": (order,), "serializer": serializer, "compressors": (ZSTD,)}


FINITE = ("f4", "f8")
WIDE = ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "m8[s]")
SOME = ("i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "?", "c8", "M8[ns]")
LOSSY: dict[str, Any] = {"values": "normal", "lossless": False}
SMALL_FILLS = ("zero", "value")  # for codecs that store less than the type holds
DIMENSIONS = tuple(edge for edge in EDGES if edge != "0-d")  # for codecs that need an axis


def families() -> Iterator[Family]:
    """All families: each codec of zarr-python, numcodecs and ours, alone or as it is used."""
    for some in (_standard, _ours, _numcodecs, _extensions, _v2):
        yield from some()


def _standard() -> Iterator[Family]:
    """The codecs of the specification, and what else zarr-python always has."""
    crc32c = codec("crc32c")
    yield Family("bytes", FIXED, fixed())
    yield Family("bytes-big", WIDE, fixed(serializer=BIG))
    yield Family("zstd", FIXED, fixed(ZSTD))
    yield Family("zstd-checksum", SOME, fixed(codec("zstd", level=19, checksum=True)))
    yield Family("gzip", SOME, fixed(codec("gzip", level=5)))
    for cname in ("lz4", "lz4hc", "blosclz", "zlib", "zstd"):
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            yield Family(f"blosc-{cname}-{shuffle}", SOME, _blosc(cname, shuffle))
    yield Family("crc32c", SOME, fixed(crc32c))
    yield Family("zstd-crc32c", SOME, fixed(ZSTD, crc32c))
    yield Family("transpose-big-zstd", FIXED, reversed_axes, edges=DIMENSIONS)
    yield Family("fixed-length", ("S5", "U5"), fixed(ZSTD))
    # zarr-python 3.1.6 can do it, but not in shards.
    yield Family("raw-bytes", ("V3",), fixed(ZSTD), writers=("3.4.2",))


def _ours() -> Iterator[Family]:
    """The chains that tempozarr is for."""
    lz4, crc32c = nc("lz4", acceleration=1), codec("crc32c")
    yield Family("xor", FIXED, fixed(filters=(XOR,)), edges=DIMENSIONS)
    yield Family("xor-zstd", FIXED, fixed(ZSTD, filters=(XOR,)), edges=DIMENSIONS)
    yield Family("xor-shuffle-zstd", WIDE, by_size(ZSTD, filters=(XOR,)), edges=DIMENSIONS)
    chain = by_size(lz4, crc32c, filters=(XOR,))
    yield Family("xor-shuffle-lz4-crc32c", WIDE, chain, edges=DIMENSIONS)
    yield Family("shuffle-zstd", FIXED, by_size(ZSTD))
    yield Family("shuffle-lz4", FIXED, by_size(lz4))
    yield Family("shuffle", SOME, by_size())
    yield Family("delta", INTS, of_type(lambda dtype: [nc("delta", dtype=dtype)]))
    yield Family("delta-zstd", INTS, of_type(lambda dtype: [nc("delta", dtype=dtype)], ZSTD))
    narrow = nc("delta", dtype="<i8", astype="<i4")
    chain = fixed(ZSTD, filters=(narrow,))
    yield Family("delta-narrow", ("i8",), chain, "walk", fills=SMALL_FILLS)
    instants = nc("delta", dtype="<i8")
    yield Family("delta-view", ("M8[ns]", "m8[s]"), fixed(ZSTD, filters=(instants,)))
    yield Family(
        "delta-float", FLOATS, of_type(lambda d: [nc("delta", dtype=d)]), "normal", lossless=False
    )
    half = _astype("<f2")
    yield Family("astype-half", FINITE, half, "half", lossless=False)
    yield Family("astype-half-xor-zstd", FINITE, _then_xor(half), "small", edges=DIMENSIONS)
    types = ("i4", "i8", "u4", "f4", "f8")
    narrow = _astype("<i2")
    yield Family("astype-narrow", types, narrow, "small", lossless=False, fills=SMALL_FILLS)
    yield Family("lz4", SOME, fixed(lz4))


def _numcodecs() -> Iterator[Family]:
    """The rest of numcodecs."""
    yield Family("numcodecs.zstd", SOME, fixed(nc("zstd", level=3)))
    yield Family("numcodecs.blosc", SOME, fixed(nc("blosc", cname="lz4", clevel=5, shuffle=1)))
    for name in ("gzip", "zlib", "bz2"):
        yield Family(f"numcodecs.{name}", SOME, fixed(nc(name, level=4)))
    yield Family("numcodecs.lzma", SOME, fixed(nc("lzma")))
    for name in ("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"):
        yield Family(f"numcodecs.{name}", SOME, fixed(nc(name)))
    yield Family("numcodecs.packbits", ("?",), fixed(filters=(nc("packbits"),)))
    pcodec = fixed(serializer=nc("pcodec", level=8, mode_spec="auto"))
    yield Family("numcodecs.pcodec", ("i2", "i4", "i8", "u2", "u4", "u8", *FLOATS), pcodec, "walk")
    keep = fixed(filters=(nc("bitround", keepbits=5),))
    yield Family("numcodecs.bitround", FLOATS, keep, **LOSSY)
    digits = of_type(lambda dtype: [nc("quantize", digits=2, dtype=dtype)])
    yield Family("numcodecs.quantize", FLOATS, digits, **LOSSY)

    def scaled(dtype: str) -> list[Codec]:
        return [nc("fixedscaleoffset", offset=0, scale=4, dtype=dtype, astype="<i4")]

    yield Family("numcodecs.fixedscaleoffset", FINITE, of_type(scaled), "walk", lossless=False)
    zfp = fixed(serializer=nc("zfpy", mode=4, tolerance=0.001))
    yield Family("numcodecs.zfpy", FINITE, zfp, edges=DIMENSIONS, **LOSSY)


def _extensions() -> Iterator[Family]:
    """Codecs of zarr-extensions that came to zarr-python after 3.1."""
    new: dict[str, Any] = {"lossless": False, "writers": ("3.4.2",)}
    offset = fixed(filters=(codec("scale_offset", offset=7, scale=2),))
    types = ("i4", "i8", "f4", "f8")
    yield Family("scale_offset", types, offset, "small", fills=SMALL_FILLS, **new)
    little = codec("bytes", endian="little")
    cast = fixed(
        filters=(codec("cast_value", data_type="int16", out_of_range="clamp"),), serializer=little
    )
    yield Family("cast_value", ("i4", "i8", "u4"), cast, "walk", **new)


def _v2() -> Iterator[Family]:
    """Zarr V2."""
    v2: dict[str, Any] = {"zarr_format": 2}
    swapped = (">i2", ">u4", ">i8", ">f4", ">f8", ">c8")
    yield Family("v2-raw", (*FIXED, *swapped), fixed(), **v2)
    yield Family("v2-order-f", SOME, fixed({"id": "zstd", "level": 1}), order="F", **v2)
    for name, options in (
        ("zstd", {"level": 3}),
        ("gzip", {"level": 1}),
        ("zlib", {"level": 1}),
        ("bz2", {"level": 1}),
        ("lz4", {"acceleration": 1}),
        ("lzma", {}),
        ("blosc", {"cname": "lz4", "clevel": 5, "shuffle": 1}),
    ):
        yield Family(f"v2-{name}", SOME, fixed({"id": name, **options}), **v2)
    for name in ("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"):
        yield Family(f"v2-{name}", SOME, fixed(filters=({"id": name},)), **v2)
    zstd: Codec = {"id": "zstd", "level": 1}
    delta = of_type(lambda dtype: [{"id": "delta", "dtype": dtype}], zstd)
    yield Family("v2-delta", (*INTS, ">i4"), delta, **v2)
    shuffled = fixed(
        {"id": "lz4", "acceleration": 1}, filters=({"id": "shuffle", "elementsize": 4},)
    )
    yield Family("v2-shuffle-lz4", ("i4", "f4"), shuffled, **v2)
    halved = of_type(lambda d: [{"id": "astype", "encode_dtype": "<f2", "decode_dtype": d}], zstd)
    yield Family("v2-astype", FINITE, halved, "small", **v2)
    yield Family("v2-packbits", ("?",), fixed(filters=({"id": "packbits"},)), **v2)
    keep = fixed(filters=({"id": "bitround", "keepbits": 5},))
    yield Family("v2-bitround", FLOATS, keep, **LOSSY, **v2)
    yield Family("v2-fixed-length", ("S5", "U5", ">U5"), fixed(zstd), **v2)


def _blosc(cname: str, shuffle: str) -> Any:
    def chain(dtype: str, _ndim: int) -> Chain:
        typesize = np.dtype(dtype).itemsize
        options = {"cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0}
        return {"compressors": (codec("blosc", typesize=typesize, **options),)}

    return chain


def _astype(stored: str) -> Any:
    return of_type(lambda dtype: [nc("astype", encode_dtype=stored, decode_dtype=dtype)])


def _then_xor(chain: Any) -> Any:
    def longer(dtype: str, ndim: int) -> Chain:
        return {"filters": (*chain(dtype, ndim)["filters"], XOR), "compressors": (ZSTD,)}

    return longer


def cases(seed: int = SEED) -> list[Case]:
    """Every case that `seed` deals, in the order of the families."""
    return [case for family in families() for case in family.cases(seed)]


def sample(seed: int, count: int) -> list[Case]:
    """`count` of the cases that `seed` deals."""
    table = cases(seed)
    picked = np.random.default_rng(seed).choice(len(table), count, replace=False)
    return [table[i] for i in sorted(picked)]
