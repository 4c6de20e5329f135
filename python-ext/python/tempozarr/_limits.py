"""How much the metadata of a store may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from tempozarr import _core


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that the metadata of an array may ask for; more is a `LimitError`.

    The defaults are far above what arrays of numbers need, and keep a store from a stranger from
    asking for more memory than there is. `tempozarr.set_limits` changes them.
    """

    dimensions: int
    """Dimensions of an array; 64 by default, as numpy has it."""
    codecs: int
    """Codecs of an array, those inside shards and of their indexes included; 64 by default."""
    nesting: int
    """How deeply codecs stand in codecs, as shards in shards do; 8 by default."""
    element_bytes: int
    """Bytes of an element; 1 MiB by default."""
    chunk_bytes: int
    """Decoded bytes of a chunk, or of a subchunk where chunks are shards; 4 GiB by default.

    Of text, of which metadata do not say how long it is, the encoded and decoded bytes of a chunk.
    """
    subchunks: int
    """Subchunks of a shard; 2^24 by default, with an index of 256 MiB.

    Also how many lengths a grid of irregular chunks lists for a dimension, and how many subchunks
    that lie side by side are appended to.
    """


def limits() -> Limits:
    """Return the limits of this process.

    >>> import tempozarr
    >>> tempozarr.limits().chunk_bytes
    4294967296
    """
    return Limits(**_core.limits())


def set_limits(
    *,
    dimensions: int | None = None,
    codecs: int | None = None,
    nesting: int | None = None,
    element_bytes: int | None = None,
    chunk_bytes: int | None = None,
    subchunks: int | None = None,
) -> Limits:
    """Set limits of this process, for arrays that are opened from now on; the others stay.

    Returns the limits from before: `set_limits(**dataclasses.asdict(before))` restores them.
    Raises ValueError if a limit is not a positive integer of less than 2^63, TypeError if it is no
    integer.

    >>> import tempozarr
    >>> before = tempozarr.set_limits(chunk_bytes=16 << 30)
    """
    values = {
        "dimensions": dimensions,
        "codecs": codecs,
        "nesting": nesting,
        "element_bytes": element_bytes,
        "chunk_bytes": chunk_bytes,
        "subchunks": subchunks,
    }
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, int):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        if not 0 < value < 1 << 63:
            raise ValueError(f"{name}: expected an integer from 1 to 2^63 - 1, got {value}")
    before = limits()
    _core.set_limits(**given)
    return before
