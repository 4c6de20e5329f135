"""tempozarr's own codecs for zarr-python, found by its entry points without any import."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from zarr.abc.codec import ArrayArrayCodec

from tempozarr import _core
from tempozarr._errors import MetadataError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer

__all__ = ["TemporalXOR"]

_NAME = "temporal_xor"


@dataclass(frozen=True)
class TemporalXOR(ArrayArrayCodec):
    """XOR of the bits of neighbours along an axis, for slowly changing series; lossless.

    Within one chunk, the first slice along `axis` is stored as is, every later one as its bits
    XOR the bits of the slice before. Data type, shape and fill value stay as they are. Follow it
    with a shuffle and a compressor.

    Parameters
    ----------
    axis : int, default 0
        Dimension along which neighbours resemble each other; negative counts from the end.

    Raises
    ------
    MetadataError
        If `axis` is no integer or, once used for an array, outside its dimensions.
    """

    axis: int = 0

    is_fixed_size = True

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int) or isinstance(self.axis, bool):
            raise MetadataError(f"{_NAME}: expected an integer as axis, got {self.axis!r}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read v3 metadata; `configuration` may be left out, `transform: "xor"` is dropped."""
        configuration = data.get("configuration") or {}
        if data.get("name") != _NAME or not isinstance(configuration, Mapping):
            raise MetadataError(
                f'{_NAME}: expected {{"name": "{_NAME}", "configuration": {{"axis": 0}}}}, '
                f"got {data!r}"
            )
        if configuration.get("transform", "xor") != "xor":
            raise MetadataError(
                f"{_NAME}: expected transform 'xor' or none, got {configuration['transform']!r}"
            )
        if unknown := sorted(set(configuration) - {"axis", "transform"}):
            raise MetadataError(f"{_NAME}: expected axis and nothing else, got {unknown}")
        return cls(axis=configuration.get("axis", 0))

    def to_dict(self) -> dict[str, Any]:
        """Write v3 metadata."""
        return {"name": _NAME, "configuration": {"axis": self.axis}}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Make a negative axis count from the front."""
        return replace(self, axis=self._axis(len(array_spec.shape)))

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:  # noqa: ARG002
        """Refuse an axis outside the array's dimensions and variable-length data types."""
        self._axis(len(shape))
        native = dtype.to_native_dtype()
        if native.kind == "T" or native.hasobject:
            raise MetadataError(f"{_NAME}: expected a data type of fixed size, got {native}")

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Length of the encoded chunk: that of the decoded one."""
        return input_byte_length

    def _axis(self, ndim: int) -> int:
        if not -ndim <= self.axis < ndim:
            raise MetadataError(
                f"{_NAME}: expected an axis of the array's {ndim} dimensions, got {self.axis}"
            )
        return self.axis % ndim

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        encoded = _core.xor_encode(chunk_array.as_numpy_array(), self._axis(chunk_spec.ndim))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(encoded)

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        decoded = _core.xor_decode(chunk_array.as_numpy_array(), self._axis(chunk_spec.ndim))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(decoded)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)
