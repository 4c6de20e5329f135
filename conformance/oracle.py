"""A second implementation of `temporal_xor`, in plain numpy, for zarr-python.

Goldens are written with it and stores written by tempozarr are read with it, so that a mistake
shared by tempozarr's own encoder and decoder cannot go unseen. It imports nothing of tempozarr.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from zarr.abc.codec import ArrayArrayCodec
from zarr.registry import register_codec

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer


def _bits(array: np.ndarray, axis: int) -> np.ndarray:
    """The bytes of a copy of `array`, one row of them for each slice along `axis`."""
    slices = np.ascontiguousarray(np.moveaxis(array, axis, 0))
    return np.frombuffer(slices.tobytes(), np.uint8).reshape(len(slices), -1).copy()


def _from_bits(bits: np.ndarray, like: np.ndarray, axis: int) -> np.ndarray:
    shape = np.moveaxis(like, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(bits.view(like.dtype).reshape(shape), 0, axis))


def encode(array: np.ndarray, axis: int) -> np.ndarray:
    """First slice along `axis` as is, each later one as its bits XOR those of the slice before."""
    bits = _bits(array, axis)
    bits[1:] ^= _bits(array, axis)[:-1]
    return _from_bits(bits, array, axis)


def decode(array: np.ndarray, axis: int) -> np.ndarray:
    """The inverse of `encode`."""
    return _from_bits(np.bitwise_xor.accumulate(_bits(array, axis), axis=0), array, axis)


@dataclass(frozen=True)
class TemporalXOR(ArrayArrayCodec):
    """`temporal_xor` for zarr-python's own pipelines."""

    axis: int = 0
    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the codec that metadata describe."""
        configuration = {"axis": 0, "transform": "xor", **data.get("configuration", {})}
        if configuration.pop("transform") != "xor":
            raise ValueError(f"expected transform xor, got {data}")
        return cls(**configuration)

    def to_dict(self) -> dict[str, Any]:
        """Describe the codec as metadata do."""
        return {"name": "temporal_xor", "configuration": {"axis": self.axis}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Return the length of what is encoded, which is that of what goes in."""
        return input_byte_length

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        encoded = encode(chunk_data.as_numpy_array(), self.axis)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(encoded)

    async def _decode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        decoded = decode(chunk_data.as_numpy_array(), self.axis)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(decoded)


def install() -> None:
    """Make this the `temporal_xor` of this process's zarr-python, whatever else is installed."""
    register_codec("temporal_xor", TemporalXOR)
    name = f"{TemporalXOR.__module__}.{TemporalXOR.__qualname__}"
    zarr.config.set({"codecs.temporal_xor": name})
