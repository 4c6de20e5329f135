"""Chains of codecs as schemas have them: complete, in one spelling, runnable by Rust."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numcodecs
import numpy as np
import zarr
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.registry import get_codec_class
from zarr.storage import MemoryStore

from tempozarr import _core

if TYPE_CHECKING:
    from zarr.abc.codec import Codec

    Json: TypeAlias = dict[str, Any]

_KINDS = (ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec)
_ORDER = (
    "expected filters (array to array), then one codec from array to bytes ('bytes', or none for "
    "it), then compressors and checksums (bytes to bytes)"
)
_NUMCODECS = "numcodecs."
_TYPE_SETTINGS = {"dtype", "astype", "encode_dtype", "decode_dtype"}
_SHARDING = "sharding_indexed"
# What zarr-python raises for a codec or array that it cannot make.
_REFUSALS = (KeyError, TypeError, ValueError)
_ZSTD: Json = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
_BLOSC_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


class Encoding(NamedTuple):
    """How to encode where codecs leave it open: stored nowhere, and read by everybody."""

    lz4_level: int | None = None
    zstd_fast_decode: bool = False


# Codecs that each setting of an encoding is about.
ENCODED = {"lz4_level": ("numcodecs.lz4",), "zstd_fast_decode": ("zstd", "numcodecs.zstd")}


def canonical(
    codecs: Sequence[Any], dtype: np.dtype[Any], row_shape: tuple[int, ...]
) -> list[Json]:
    """Complete a chain, in the one spelling that schemas use, and check that it runs.

    Defaults are stated, axes count from the front, and data types are spelt as numpy's `str`, so
    that equal chains are equal.

    Parameters
    ----------
    codecs
        Codec objects with `to_dict`, v3 metadata, or bare names. A `bytes` codec is inserted if
        no codec makes bytes of arrays.

    Raises
    ------
    ValueError
        If a codec is unknown or misconfigured, if the order is wrong, or if Rust cannot run it.
    """
    with quiet():
        chain = _ordered([_parse(codec) for codec in codecs])
        try:
            itemsize = encoded_itemsize(chain, dtype)
            chain = [_state_defaults(codec, itemsize) for codec in chain]
            document = array_document(
                shape=(1, *row_shape), chunks=(1, *row_shape), dtype=dtype, codecs=chain
            )
        except _REFUSALS as e:
            raise ValueError(f"zarr-python refuses this chain: {_reason(e)}") from e
        chain = [_complete(codec) for codec in document["codecs"]]
    try:
        _core.ChunkPipeline(json.dumps(document | {"codecs": chain}))
    except (TypeError, ValueError) as e:
        raise ValueError(f"Rust cannot run this chain: {e}") from e
    return chain


def default(dtype: np.dtype[Any], *, float16: bool) -> list[Json]:
    """Chain for a kind of data; `canonical` completes it."""
    if float16:
        narrow = {"encode_dtype": "float16", "decode_dtype": dtype.str}
        return [
            {"name": "numcodecs.astype", "configuration": narrow},
            *default(np.dtype(np.float16), float16=False),
        ]
    if dtype.kind in "iumM":
        integers = f"<i{dtype.itemsize}" if dtype.kind in "mM" else dtype.str
        return [{"name": "numcodecs.delta", "configuration": {"dtype": integers}}, _ZSTD]
    if dtype.kind in "fc":
        shuffle = {"elementsize": dtype.itemsize}
        return [
            {"name": "temporal_xor"},
            {"name": "numcodecs.shuffle", "configuration": shuffle},
            _ZSTD,
        ]
    return [_ZSTD]


def lossy(codecs: Sequence[Json]) -> str | None:
    """Data type of a delta of floats, if there is one: it rounds."""
    for codec in codecs:
        if codec["name"] == "numcodecs.delta":
            dtype = str(codec["configuration"]["dtype"])
            if np.dtype(dtype).kind in "fc":
                return dtype
    return None


def lossy_warning(dtype: str) -> str:
    """Text of the warning of a delta of that data type."""
    return (
        f"delta of {dtype} is lossy: other values will be read back. Use "
        "tempozarr.codecs.TemporalXOR, or delta of an integer dtype of the same width"
    )


def encoded_itemsize(codecs: Sequence[Json], dtype: np.dtype[Any]) -> int:
    """Bytes of one element after the filters."""
    for codec in codecs:
        stated = codec["configuration"]
        dtype = np.dtype(stated.get("encode_dtype") or stated.get("astype") or dtype)
    return dtype.itemsize


def innermost(codecs: Sequence[Any]) -> list[Any]:
    """Chain of a stored v3 array that runs on one inner chunk: shards are opened up."""
    chain: list[Any] = []
    for codec in codecs:
        name, configuration = _name(codec), _configuration(codec)
        if name == _SHARDING:
            chain += innermost(configuration["codecs"])
        elif name == "numcodecs.shuffle":  # stored without a size, it means numcodecs' default
            chain.append({"name": name, "configuration": {"elementsize": 4} | configuration})
        else:
            chain.append(codec)
    return chain


def from_v2(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> list[Json]:
    """Chain that does what the filters and the compressor of a v2 array do."""
    stages = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    return [_from_v2(dict(stage), dtype) for stage in stages if stage]


def array_document(*, codecs: Sequence[Json], **settings: Any) -> Json:
    """`zarr.json` of an array with these codecs, as zarr-python writes it."""
    filters, serializers, compressors = (
        [codec for codec in codecs if issubclass(get_codec_class(codec["name"]), kind)]
        for kind in _KINDS
    )
    with quiet():
        array = zarr.create_array(
            MemoryStore(),
            filters=filters,
            serializer=serializers[0],
            compressors=compressors,
            **settings,
        )
        return document(array)


def document(node: zarr.Array[Any] | zarr.Group) -> Json:
    """`zarr.json` of an array or group."""
    file = node.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    result: Json = json.loads(file.to_bytes())
    return result


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what zarr-python says of every numcodecs codec; here they are the point."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        yield


def _name(codec: Any) -> str:
    name = codec if isinstance(codec, str) else dict(codec).get("name")
    if not isinstance(name, str):
        raise ValueError(f"expected the codec's name in {codec!r}, got {name!r}")  # noqa: TRY004
    return name


def _configuration(codec: Any) -> Json:
    stated = None if isinstance(codec, str) else codec.get("configuration")
    if stated is not None and not isinstance(stated, Mapping):
        raise ValueError(f"expected a mapping as configuration in {codec!r}")
    return dict(stated or {})


def _parse(codec: Any) -> Json:
    """v3 metadata of a codec, checked by its class but for what depends on the array."""
    if not isinstance(codec, str | Mapping):
        if not hasattr(codec, "to_dict"):
            raise ValueError(
                'expected a codec of zarr-python or tempozarr, metadata such as {"name": "zstd", '
                f'"configuration": {{"level": 3}}}}, or a name, got {codec!r}'
            )
        # zarr-python chooses these by the array; until then they say something else.
        open_settings = getattr(codec, "_tunable_attrs", ())
        codec = codec.to_dict()
        codec["configuration"] = {
            k: v for k, v in _configuration(codec).items() if k not in open_settings
        }
    name = _name(codec)
    if name == _SHARDING:
        raise ValueError(
            f"expected the codecs of one chunk, got {_SHARDING}: whether and how the array is "
            "sharded is the layout's business (tempozarr.plan); leave it out"
        )
    try:
        kind = get_codec_class(name)
    except (KeyError, ValueError):
        raise ValueError(
            f"expected a codec that zarr-python knows, got {name!r}: correct the name, or install "
            "the package that brings it"
        ) from None
    configuration = _configuration(codec)
    try:
        kind.from_dict({"name": name, "configuration": configuration})
    except _REFUSALS as e:
        raise ValueError(f"{name}: {_reason(e)}") from e
    return {"name": name, "configuration": configuration}


def _ordered(codecs: list[Json]) -> list[Json]:
    """Check the order, with a `bytes` codec where none makes bytes of arrays."""
    kinds = [_kind(codec) for codec in codecs]
    if 1 not in kinds:
        codecs.insert(kinds.count(0), {"name": "bytes", "configuration": {"endian": "little"}})
        kinds.insert(kinds.count(0), 1)
    if kinds != sorted(kinds) or kinds.count(1) != 1:
        raise ValueError(f"{_ORDER}, got {', '.join(codec['name'] for codec in codecs)}")
    return codecs


def _kind(codec: Json) -> int:
    kind: type[Codec] = get_codec_class(codec["name"])
    return next(i for i, base in enumerate(_KINDS) if issubclass(kind, base))


def _state_defaults(codec: Json, itemsize: int) -> Json:
    """State what zarr-python would fill in, differently from version to version."""
    if codec["name"] == "bytes":
        defaults: Json = {"endian": "little"}
    elif codec["name"] == "numcodecs.shuffle":
        defaults = {"elementsize": itemsize}
    elif codec["name"] == "blosc":
        defaults = {"typesize": itemsize, "shuffle": "bitshuffle" if itemsize == 1 else "shuffle"}
    else:
        return codec
    stated = {k: v for k, v in codec["configuration"].items() if v is not None}
    return codec | {"configuration": defaults | stated}


def _complete(codec: Json) -> Json:
    """State the defaults of a codec that zarr-python has parsed."""
    name = codec["name"]
    stated = dict(codec.get("configuration") or {})
    if name.startswith(_NUMCODECS):
        try:
            parsed: Any = numcodecs.get_codec({"id": name.removeprefix(_NUMCODECS)} | stated)
        except (TypeError, ValueError) as e:
            raise ValueError(f"{name}: {e}") from e
        settings = parsed.get_config()
        del settings["id"]
        # Others than these two may insist on the spelling of a data type.
        plain = name.endswith((".delta", ".astype"))
        stated = settings if plain else settings | stated
    elif name == "bytes":  # some versions leave it out for single bytes
        stated = {"endian": "little"} | stated
    return {"name": name, "configuration": stated}


def _from_v2(stage: Json, dtype: np.dtype[Any]) -> Json:
    name = stage.pop("id")
    if dtype.byteorder == ">":
        # v3 data is native, and so are its filters.
        types = {k: np.dtype(v) for k, v in stage.items() if v and k in _TYPE_SETTINGS}
        stage |= {k: v.newbyteorder("<").str for k, v in types.items()}
    if name == "blosc" and stage.get("shuffle") in {*_BLOSC_SHUFFLES, -1, None}:
        shuffle = _BLOSC_SHUFFLES.get(stage.pop("shuffle", -1))
        stage |= {"shuffle": shuffle} if shuffle else {}
    known = {"blosc", "gzip", "temporal_xor", "zstd"}
    return {"name": name if name in known else _NUMCODECS + name, "configuration": stage}


def _reason(error: Exception) -> str:
    """Text of an error; KeyError's is only the key."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
