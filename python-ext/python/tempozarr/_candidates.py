"""Chains worth trying on an array, what they are called, and who can read them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numcodecs
import numpy as np

from tempozarr import _chains
from tempozarr._chains import ENCODED, Encoding
from tempozarr._compare import errors, first_difference
from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tempozarr.schema import ArraySchema

Json: TypeAlias = dict[str, Any]

_LZ4: Json = {"name": "numcodecs.lz4", "configuration": {}}
_USUAL, _HC, _FAST_DECODE = Encoding(), Encoding(lz4_level=9), Encoding(zstd_fast_decode=True)
_PLANES = 2  # bytes of an element from which on there are planes to shuffle
_PCODEC = "numcodecs.pcodec"
_PCODEC_SIZES = {"f": (2, 4, 8), "i": (2, 4, 8), "u": (2, 4, 8), "m": (8,), "M": (8,)}
_FRACTION_BITS = {2: 10, 4: 23, 8: 52}
_MOST_DIGITS = 12

# conformance/test_advise.py holds these against the readers themselves.
_PLAIN, _OURS, _TENSORSTORE, _ZARRITA = READERS = (
    "zarr-python",
    "zarr-python + tempozarr",
    "tensorstore",
    "zarrita.js",
)
_EVERYWHERE = {"blosc", "bytes", "crc32c", "gzip", "transpose", "zstd"}
_BY_ZARRITA = {
    f"numcodecs.{name}" for name in ("bitround", "delta", "lz4", "shuffle", "zlib", "zstd")
}


@dataclass(frozen=True)
class Chain:
    """Codecs as schemas have them, and how to encode."""

    codecs: tuple[Json, ...]
    encoding: Encoding = _USUAL

    @property
    def key(self) -> str:
        """Equal for equal chains."""
        return json.dumps([self.codecs, self.encoding], sort_keys=True)

    @property
    def text(self) -> str:
        """A few words: `float16, xor, shuffle 2, zstd 3`."""
        words = (_word(codec, self.encoding) for codec in self.codecs)
        return ", ".join(word for word in words if word) or "no compressor"

    def schema(self, like: ArraySchema, ratio: float | None = None) -> ArraySchema:
        """The schema of an array that is stored by these codecs."""
        changes = {"codecs": self.codecs, "float16": False, "compression_ratio_hint": ratio}
        return like.model_copy(update=changes | self.encoding._asdict())


def encodings(chain: Chain) -> Iterator[Chain]:
    """The chain, encoded in each way that is tried."""
    names = {codec["name"] for codec in chain.codecs}
    yield Chain(chain.codecs)
    for setting, encoding in (("lz4_level", _HC), ("zstd_fast_decode", _FAST_DECODE)):
        if names.intersection(ENCODED[setting]):
            yield Chain(chain.codecs, encoding)


def chain_of(codecs: Sequence[Any], like: ArraySchema, encoding: Encoding = _USUAL) -> Chain:
    """Complete a chain for an array.

    Raises
    ------
    MetadataError
        If it cannot be.
    """
    try:
        complete = _chains.canonical(codecs, like.numpy_dtype, like.row_shape)
    except ValueError as e:
        raise MetadataError(f"{like.name}: {e}") from e
    return Chain(tuple(complete), encoding)


def readers(codecs: Sequence[Mapping[str, Any]], dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Who reads an array: of `READERS`, by what conformance/test_advise.py found.

    "zarr-python" is one without tempozarr, but with the packages that its codecs need (`pcodec`,
    `zfpy`).
    """
    names = {str(codec["name"]) for codec in codecs}
    standard = names <= _EVERYWHERE
    numbers = dtype.kind in "biufc"
    can = {
        _PLAIN: "temporal_xor" not in names,
        _OURS: True,
        _TENSORSTORE: standard and numbers,
        _ZARRITA: names <= _EVERYWHERE | _BY_ZARRITA
        and dtype.kind in "biuf"
        and dtype != np.float16,
    }
    return tuple(reader for reader in READERS if can[reader])


@dataclass(frozen=True)
class Narrowing:
    """A codec in front of all others that leaves less to store, and the type it makes."""

    codec: Json
    dtype: np.dtype[Any]

    @property
    def key(self) -> str:
        """Equal for equal codecs of chains."""
        return json.dumps(self.codec, sort_keys=True)

    @property
    def narrows(self) -> bool:
        """Whether it makes another type."""
        return bool(self.codec["name"] == "numcodecs.astype")

    def contains(self, other: Narrowing) -> bool:
        """Whether it has all values of another one."""
        return self.narrows and other.narrows and np.can_cast(other.dtype, self.dtype)

    def error(self, rows: NDArray[Any], *, relative: bool) -> float | None:
        """Largest error of rows that were stored so; None if every bit is back."""
        if self.narrows:
            with np.errstate(all="ignore"):
                back = rows.astype(self.dtype).astype(rows.dtype)
        else:
            settings = {"id": self.codec["name"].removeprefix("numcodecs.")}
            codec: Any = numcodecs.get_codec(settings | self.codec["configuration"])
            with np.errstate(all="ignore"):
                back = np.asarray(codec.decode(codec.encode(rows.copy()))).view(rows.dtype)
                back = back.reshape(rows.shape)
        return largest_error(back, rows, relative=relative)


def largest_error(
    got: NDArray[Any], wanted: NDArray[Any], *, relative: bool = False
) -> float | None:
    """Largest absolute error, or relative to the wanted value; None if all bits are equal."""
    if first_difference(got, wanted) is None:
        return None
    if wanted.dtype.kind not in "biufcmM":
        return math.inf
    return float(np.max(errors(wanted, got, relative=relative)))


def narrowings(dtype: np.dtype[Any], max_error: float | None, *, relative: bool) -> list[Narrowing]:
    """Narrowings that may be without loss or within an error, the narrowest first."""
    types: list[str] = []
    if dtype.kind in "iu":
        types = [f"{kind}{size}" for size in (1, 2, 4) for kind in "iu"]
    elif dtype.kind == "f":
        types = ["i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4"]
    found = [
        _as_type(dtype, np.dtype(name))
        for name in types
        if np.dtype(name).itemsize < dtype.itemsize
    ]
    if max_error and dtype.kind == "f":
        found.append(_rounding(dtype, max_error, relative=relative))
    return found


def _as_type(dtype: np.dtype[Any], narrow: np.dtype[Any]) -> Narrowing:
    settings = {"encode_dtype": narrow.str, "decode_dtype": dtype.str}
    return Narrowing({"name": "numcodecs.astype", "configuration": settings}, narrow)


def _rounding(dtype: np.dtype[Any], max_error: float, *, relative: bool) -> Narrowing:
    """Make the tail of the fractions zero, for the compressor: as much as an error allows."""
    if relative:  # of `keepbits` bits, the last one is rounded
        bits = math.ceil(-math.log2(max_error)) - 1
        settings: Json = {"keepbits": min(max(bits, 1), _FRACTION_BITS[dtype.itemsize])}
        return Narrowing({"name": "numcodecs.bitround", "configuration": settings}, dtype)
    digits = math.ceil(-math.log10(2 * max_error))
    settings = {"digits": min(max(digits, 0), _MOST_DIGITS), "dtype": dtype.str}
    return Narrowing({"name": "numcodecs.quantize", "configuration": settings}, dtype)


@dataclass(frozen=True)
class Filters:
    """What comes before the compressor."""

    narrowing: Narrowing | None
    names: tuple[str, ...]
    dtype: np.dtype[Any]  # after the narrowing
    row_ndim: int

    def codecs(self) -> list[Json]:
        """Codecs of these filters."""
        found = [self.narrowing.codec] if self.narrowing else []
        integers = f"<i{self.dtype.itemsize}" if self.dtype.kind in "mM" else self.dtype.str
        configurations: dict[str, Json] = {
            "temporal_xor": {"axis": 0},
            "transpose": {"order": [*range(1, self.row_ndim + 1), 0]},
            "numcodecs.delta": {"dtype": integers},
            "numcodecs.shuffle": {"elementsize": self.dtype.itemsize},
            "numcodecs.packbits": {},
            _PCODEC: {},
        }
        return found + [{"name": n, "configuration": configurations[n]} for n in self.names]

    @property
    def turns(self) -> bool:
        """Whether rows are transposed."""
        return "transpose" in self.names

    @property
    def shuffles(self) -> bool:
        """Whether bytes are shuffled."""
        return "numcodecs.shuffle" in self.names

    def without_shuffle(self) -> list[Json]:
        """Codecs of these filters, for a compressor that shuffles itself."""
        return [codec for codec in self.codecs() if codec["name"] != "numcodecs.shuffle"]


def filters(schema: ArraySchema, found: Sequence[Narrowing]) -> Iterator[Filters]:
    """Filters worth trying: with each of the narrowings, then with none."""
    rows = len(schema.row_shape)
    for narrowing in (*found, None):
        dtype = narrowing.dtype if narrowing else schema.numpy_dtype
        wide = math.prod(schema.row_shape) > 1
        for names in _filter_names(dtype, wide=wide):
            yield Filters(narrowing, names, dtype, rows)


def _filter_names(dtype: np.dtype[Any], *, wide: bool) -> Iterator[tuple[str, ...]]:
    xor, turn, delta, shuffle = "temporal_xor", "transpose", "numcodecs.delta", "numcodecs.shuffle"
    planes = [(), (shuffle,)] if dtype.itemsize >= _PLANES else [()]
    if dtype.kind == "b":
        yield from ((), ("numcodecs.packbits",))
        return
    turns = [(), (turn,)] if wide else [()]
    for turned in turns:
        before: list[tuple[str, ...]] = [turned]
        if dtype.kind in "iumM":
            before.append((*turned, delta))  # the other way round, it would run across columns
        if dtype.kind in "iufcmM":
            before.append((xor, *turned))
        yield from ((*b, *p) for b in before for p in planes)
        if dtype.itemsize in _PCODEC_SIZES.get(dtype.kind, ()):
            yield (*turned, _PCODEC)


def first(filtered: Filters) -> Iterator[list[Json]]:
    """Codecs with a compressor for size behind the filters, and with one for speed."""
    if filtered.names[-1:] == (_PCODEC,):  # which is its own compressor
        yield filtered.codecs()
    else:
        for last in (_zstd(3), _LZ4):
            yield [*filtered.codecs(), last]


def expanded(filtered: Filters) -> Iterator[tuple[list[Json], Encoding]]:
    """Codecs with other compressors and levels behind the filters, and how to encode.

    Those that win most often come first, as time may end.
    """
    if filtered.names[-1:] == (_PCODEC,):
        return
    yield [*filtered.codecs(), _LZ4], _HC
    yield [*filtered.codecs(), _zstd(6)], _FAST_DECODE
    yield [*filtered.codecs(), _zstd(9)], _USUAL
    for shuffle in ("shuffle", "bitshuffle") if filtered.shuffles else ("noshuffle",):
        for name, level in (("lz4hc", 9), ("zstd", 5), ("lz4", 5)):
            settings = {
                "cname": name,
                "clevel": level,
                "shuffle": shuffle,
                "typesize": filtered.dtype.itemsize,
                "blocksize": 0,
            }
            blosc = {"name": "blosc", "configuration": settings}
            yield [*filtered.without_shuffle(), blosc], _USUAL
    for level in (1, 19):
        yield [*filtered.codecs(), _zstd(level)], _USUAL


def _zstd(level: int) -> Json:
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


def _word(codec: Mapping[str, Any], encoding: Encoding) -> str:
    name = str(codec["name"]).removeprefix("numcodecs.")
    settings = codec.get("configuration") or {}
    if name == "bytes":
        return "big-endian" if settings.get("endian") == "big" else ""
    if name == "temporal_xor":
        return "xor" if settings["axis"] == 0 else f"xor of axis {settings['axis']}"
    if name == "astype":
        return str(np.dtype(settings["encode_dtype"]))
    if name == "delta" and settings["astype"] != settings["dtype"]:
        return f"delta {np.dtype(settings['astype'])}"
    if name == "lz4" and encoding.lz4_level is not None:
        return f"lz4-hc {encoding.lz4_level}"
    if name == "zstd" and encoding.zstd_fast_decode:
        return f"zstd {settings['level']} fast-decode"
    if name == "blosc":
        shuffle = {"noshuffle": ""}.get(settings["shuffle"], f" {settings['shuffle']}")
        return f"blosc {settings['cname']} {settings['clevel']}{shuffle}"
    for number in ("level", "elementsize", "digits", "keepbits", "scale"):
        if number in settings:
            return f"{name} {settings[number]}"
    return name
