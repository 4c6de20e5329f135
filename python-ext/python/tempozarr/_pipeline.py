"""zarr-python's codec pipeline, run in Rust where Rust can do it, in Python where it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import zarr
from zarr.codecs import ShardingCodec
from zarr.codecs._v2 import V2Codec
from zarr.codecs.numcodecs import Delta
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import LocalStore, StorePath

from tempozarr import _core, _stores
from tempozarr._aliases import aliases
from tempozarr._chains import lossy_warning
from tempozarr._config import size_pool
from tempozarr._errors import LimitError, TempozarrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer

    Chunk: TypeAlias = tuple[Any, ArraySpec, Any, Any, bool]

_PATH = "tempozarr.CodecPipeline"
_ZARRS_OWN = "zarr.core.codec_pipeline.BatchedCodecPipeline"
# A codec class from elsewhere may do anything under a well-known name.
_TRUSTED = frozenset({"zarr", "numcodecs", "tempozarr"})


class _FallbackError(Exception):
    """Rust cannot do this; the text says why."""


@dataclass(frozen=True)
class CodecPipeline(BatchedCodecPipeline):
    """Codec pipeline for zarr-python that decodes and encodes in Rust.

    `tempozarr.enable` selects it. Files of a `LocalStore` are read and written in Rust too; bytes
    of other stores are fetched and stored through these. Whatever Rust cannot do goes to
    zarr-python's own `BatchedCodecPipeline`, from which this class inherits: codecs implemented
    only in Python, variable-length and structured data types, GPU buffers, unknown selections.
    `tempozarr.pipeline_stats` counts which way the calls went; in strict mode, Python's way is an
    error.
    """

    # Prepared codecs by chunk spec, or why there are none. Derived, hence neither compared nor
    # pickled; a race between threads only prepares them twice.
    _prepared: dict[Any, _core.ChunkPipeline | str] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_prepared": {}}

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self  # frozen

    async def read(  # type: ignore[override,unused-ignore]
        self, batch_info: Iterable[Chunk], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> Any:
        """Read chunks into `out`.

        Returns
        -------
        `{"status": "present" | "missing"}` for each chunk; zarr-python 3.1's own way gives None.

        Raises
        ------
        CodecError, StoreError
            If a chunk does not decode, or its file cannot be read. What a store that is no plain
            `LocalStore` raises comes as it is, with a note of the chunk.
        TempozarrError
            In strict mode, if Rust cannot do it.
        """
        batch = list(batch_info)
        if _is_nested(batch):
            return await super().read(batch, out, drop_axes)
        try:
            present = await self._read(batch, out, drop_axes)
        except _FallbackError as e:
            _count("python_reads", str(e))
            return await super().read(batch, out, drop_axes)
        _count("rust_reads")
        return tuple({"status": "present" if p else "missing"} for p in present)

    async def write(
        self, batch_info: Iterable[Chunk], value: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Write `value` to chunks, merging it with what is there where they are not complete.

        Raises
        ------
        CodecError, StoreError
            If a value does not encode, or a file cannot be read or written, or a link leads out of
            the store, unless `enable(follow_links=True)` allows it. What a store that is no plain
            `LocalStore` raises comes as it is, with a note of the chunk.
        TempozarrError
            In strict mode, if Rust cannot do it.
        """
        batch = list(batch_info)
        if _is_nested(batch):
            await super().write(batch, value, drop_axes)
            return
        try:
            await self._write(batch, value, drop_axes)
        except _FallbackError as e:
            _count("python_writes", str(e))
            await asyncio.to_thread(_expect_inside, batch)
            await super().write(batch, value, drop_axes)
            return
        _count("rust_writes")

    async def _read(
        self, batch: list[Chunk], out: NDBuffer, drop_axes: tuple[int, ...]
    ) -> list[bool]:
        files = _files(batch)
        groups = self._groups(batch)
        array = _numpy(out)
        # Rust fills memory in native byte order.
        native = _native(array)
        present = [False] * len(batch)
        if files is None:
            chunks, order = self._select(batch, groups, native, drop_axes)
            for i, found in zip(order, await _stores.read(chunks, native), strict=True):
                present[i] = found
            if native is not array:
                array[...] = native
            return present

        def run() -> None:
            size_pool()
            for prepared, members in groups:
                _check_dtype(prepared, native)
                chunks = [(files[i], _plain(batch[i][2]), _plain(batch[i][3])) for i in members]
                for i, found in zip(members, prepared.read(chunks, native, drop_axes), strict=True):
                    present[i] = found
            if native is not array:
                array[...] = native

        await _in_thread(run)
        return present

    async def _write(self, batch: list[Chunk], value: NDBuffer, drop_axes: tuple[int, ...]) -> None:
        _writable(batch)
        groups = self._groups(batch)
        array = _numpy(value)
        if type(batch[0][0].store) is not LocalStore:
            native = _native(array)
            selected, _ = self._select(batch, groups, native, drop_axes)
            _warn_if_lossy(self)
            await _stores.write(selected, native)
            return
        _warn_if_lossy(self)

        def run() -> None:
            size_pool()
            native = _native(array)
            beneath = _beneath(batch)
            for prepared, members in groups:
                _check_dtype(prepared, native)
                chunks = [
                    (
                        batch[i][0].path,
                        _plain(batch[i][2]),
                        _plain(batch[i][3]),
                        self._replaces(batch[i]),
                    )
                    for i in members
                ]
                keep_empty = batch[members[0]][1].config.write_empty_chunks
                prepared.write(beneath, chunks, native, drop_axes, keep_empty)

        await _in_thread(run)

    def _select(
        self,
        batch: list[Chunk],
        groups: list[tuple[_core.ChunkPipeline, list[int]]],
        array: NDArray[Any],
        drop_axes: tuple[int, ...],
    ) -> tuple[list[_stores.Chunk], list[int]]:
        """Chunks for `_stores`, and which ones of the batch these are."""
        size_pool()
        chunks, order = [], []
        for prepared, members in groups:
            _check_dtype(prepared, array)
            some = [(str(batch[i][0]), _plain(batch[i][2]), _plain(batch[i][3])) for i in members]
            with _knowing_selections():
                selected = prepared.select(some, array.shape, drop_axes)
            for number, i in enumerate(members):
                path, spec, *_ = batch[i]
                replaces = self._replaces(batch[i])
                chunks.append(_stores.Chunk(selected, number, path, spec, replaces))
            order += members
        return chunks, order

    def _replaces(self, chunk: Chunk) -> bool:
        """Whether writing all of a chunk that is in the array replaces what is beyond it too.

        As in zarr-python, it does not in a shard: what a smaller shape left there comes back when
        the array grows.
        """
        return chunk[4] and not self.supports_partial_encode

    def _groups(self, batch: list[Chunk]) -> list[tuple[_core.ChunkPipeline, list[int]]]:
        """Prepared codecs, and which chunks of the batch they are for.

        The chunks of a batch are of one array: their specs differ in shape, if at all.
        """
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, (_, spec, *_) in enumerate(batch):
            shapes.setdefault(spec.shape, []).append(i)
        return [(self._prepare(batch[members[0]][1]), members) for members in shapes.values()]

    def _prepare(self, spec: ArraySpec) -> _core.ChunkPipeline:
        fill = spec.fill_value
        if isinstance(fill, np.generic | np.ndarray):  # an array, if the metadata have a list
            fill = fill.tobytes()  # NaN equals itself, and 0.0 is not -0.0
        # A new alias may make a codec Rust's.
        key = (spec.shape, spec.dtype, fill, spec.order, len(aliases))
        prepared = self._prepared.get(key)
        if prepared is None:
            try:
                # zarr-python 3.1 has no other order.
                order = getattr(self.array_bytes_codec, "subchunk_write_order", "morton")
                prepared = _core.ChunkPipeline(json.dumps(self._metadata(spec)), order)
            except _FallbackError as e:
                prepared = str(e)
            except LimitError:
                raise  # zarr-python would allocate it
            except (TypeError, ValueError) as e:
                prepared = f"Rust cannot use the metadata: {e}"
            self._prepared[key] = prepared
        if isinstance(prepared, str):
            raise _FallbackError(prepared)
        return prepared

    def _metadata(self, spec: ArraySpec) -> dict[str, Any]:
        """Metadata of an array of one chunk."""
        _trusted(spec.dtype, {"name": "the data type"})
        codec = self.array_bytes_codec
        is_v2 = type(codec) is V2Codec
        fill = spec.dtype.default_scalar() if spec.fill_value is None else spec.fill_value
        dtype: Any = spec.dtype.to_json(zarr_format=2 if is_v2 else 3)
        metadata: dict[str, Any] = {
            "shape": spec.shape,
            "fill_value": spec.dtype.to_json_scalar(fill, zarr_format=2 if is_v2 else 3),
            "attributes": {},
        }
        if is_v2:
            stages = [*(codec.filters or ()), codec.compressor]  # type: ignore[attr-defined]
            configs = [None if c is None else _trusted(c, c.get_config()) for c in stages]
            return metadata | {
                "zarr_format": 2,
                "chunks": spec.shape,
                "dtype": dtype["name"],
                "order": spec.order,
                "filters": configs[:-1] or None,
                "compressor": configs[-1],
            }
        return metadata | {
            "zarr_format": 3,
            "fill_value": _exact(fill, metadata["fill_value"]),
            "node_type": "array",
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.shape}},
            "chunk_key_encoding": {"name": "default"},
            "codecs": [_trusted(c, c.to_dict()) for c in self],
        }


def _exact(fill: Any, spelled: Any) -> Any:
    """`spelled`, a fill value in Zarr V3 metadata, with the bits of each NaN, not just "NaN"."""
    if isinstance(fill, np.complexfloating):
        return [_exact(*part) for part in zip((fill.real, fill.imag), spelled, strict=True)]
    if isinstance(fill, np.floating) and np.isnan(fill):
        return f"0x{np.asarray(fill, fill.dtype.newbyteorder('>')).tobytes().hex()}"
    return spelled


# zarr-python finds the class by this name, in its configuration and in pickles.
CodecPipeline.__module__ = "tempozarr"


def _trusted(codec: Any, config: Any) -> Any:
    """Give `config` back if the codec is what its name says."""
    name = config.get("name", config.get("id"))
    if type(codec).__module__.partition(".")[0] not in _TRUSTED and name not in aliases:
        kind = f"{type(codec).__module__}.{type(codec).__qualname__}"
        raise _FallbackError(f"{name} is implemented by {kind}, which only Python can run")
    if isinstance(codec, ShardingCodec):
        for inner in (*codec.codecs, *codec.index_codecs):
            _trusted(inner, inner.to_dict())
    return config


def _warn_if_lossy(codecs: Iterable[Any]) -> None:
    """Warn of delta filters of floats: sums of rounded differences are other values."""
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            _warn_if_lossy(codec.codecs)
        elif isinstance(codec, V2Codec):
            _warn_if_lossy(codec.filters or ())
        elif getattr(codec, "codec_id", "") == "delta" or isinstance(codec, Delta):
            config = codec.codec_config if isinstance(codec, Delta) else codec.get_config()
            if np.dtype(str(config["dtype"])).kind == "f":
                warnings.warn(lossy_warning(str(config["dtype"])), UserWarning, stacklevel=2)


def _is_nested(batch: Sequence[Chunk]) -> bool:
    """Whether this is a codec's own call (sharding): its chunks are no files of their own.

    The call that it is part of has been counted.
    """
    return not batch or not isinstance(batch[0][0], StorePath)


def _writable(batch: Sequence[Chunk]) -> None:
    if batch[0][0].store.read_only:
        raise _FallbackError("the store is read-only")  # Python's way raises zarr's error


def _beneath(batch: Sequence[Chunk]) -> _core.Beneath:
    """The folder of a `LocalStore`, to write to."""
    root = batch[0][0].store.root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    return _core.Beneath(str(root), _follow_links)


def _expect_inside(batch: Sequence[Chunk]) -> None:
    """Refuse links that lead out of a store of files, which zarr-python would follow.

    Raises
    ------
    StoreError
        If there is one on the way to a chunk.
    """
    store = batch[0][0].store
    if isinstance(store, LocalStore) and not store.read_only and os.name == "posix":
        beneath = _beneath(batch)
        for folder in {chunk[0].path.rpartition("/")[0] for chunk in batch}:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.close(beneath.folder(folder))


def _files(batch: Sequence[Chunk]) -> list[str] | None:
    """Files of the chunks, if that is what the store has, and all that it does."""
    store = batch[0][0].store
    if type(store) is not LocalStore:
        return None
    root = str(store.root.absolute())
    return [f"{root}/{getter.path}" for getter, *_ in batch]


def _numpy(buffer: NDBuffer) -> NDArray[Any]:
    array: Any = buffer.as_ndarray_like()
    if not isinstance(array, np.ndarray):
        raise _FallbackError(f"the data is in a {type(array).__name__}, no numpy array")
    return array


def _native(array: NDArray[Any]) -> NDArray[Any]:
    is_native = array.dtype.isnative and array.flags.aligned
    return array if is_native else array.astype(array.dtype.newbyteorder("="))


def _check_dtype(prepared: _core.ChunkPipeline, array: NDArray[Any]) -> None:
    if array.dtype != np.dtype(prepared.dtype):
        raise _FallbackError(f"the data is {array.dtype}, chunks are {prepared.dtype}")


def _plain(selection: Any) -> Any:
    """Turn masks and unsigned indices into signed indices, which mean the same."""
    if type(selection) is not tuple:
        return _signed(selection)
    return tuple(map(_signed, selection))


def _signed(item: Any) -> Any:
    if isinstance(item, np.ndarray) and item.dtype.kind in "bu":
        return item.nonzero()[0] if item.dtype == np.bool_ else item.astype(np.intp)
    return item


@contextmanager
def _knowing_selections() -> Iterator[None]:
    try:
        yield
    except _core.Unsupported as e:
        raise _FallbackError(f"Rust does not know the selection: {e}") from None


async def _in_thread(run: Any) -> None:
    with _knowing_selections():
        await asyncio.to_thread(run)


_lock = threading.Lock()
_calls = {"rust_reads": 0, "rust_writes": 0, "python_reads": 0, "python_writes": 0}
_reasons: Counter[str] = Counter()
_STRICT_BY_DEFAULT = os.environ.get("TEMPOZARR_STRICT", "").lower() not in {"", "0", "false"}
_strict = _STRICT_BY_DEFAULT
_follow_links = False
_before = _ZARRS_OWN


def _renew_lock() -> None:
    """Forget a lock that a thread held which a fork left behind."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _count(way: str, reason: str | None = None) -> None:
    if reason is not None and _strict:
        raise TempozarrError(
            f"strict mode: expected Rust to do this, but zarr-python would: {reason}. Allow it "
            "with tempozarr.enable(strict=False), or by unsetting TEMPOZARR_STRICT"
        )
    with _lock:
        _calls[way] += 1
        if reason is not None:
            _reasons[reason] += 1


def pipeline_stats(*, reset: bool = False) -> dict[str, Any]:
    """Count which way zarr-python's reads and writes went since the process began.

    Parameters
    ----------
    reset
        Start again from zero afterwards.

    Returns
    -------
    dict
        `rust_reads`, `rust_writes`, `python_reads`, `python_writes`: numbers of calls, each for
        one selection; `reasons`: how often Python had to do it, by reason.
    """
    with _lock:
        stats = _calls | {"reasons": dict(_reasons)}
        if reset:
            _calls.update(dict.fromkeys(_calls, 0))
            _reasons.clear()
    return stats


class _Enabled:
    """What `enable` returns: undoes it at the end of a `with` block."""

    def __init__(self, path: str, *, strict: bool, follow_links: bool) -> None:
        self._path = path
        self._strict = strict
        self._follow_links = follow_links

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        _set(self._path, strict=self._strict, follow_links=self._follow_links)


def _set(path: str, *, strict: bool, follow_links: bool) -> None:
    global _strict, _follow_links
    _strict, _follow_links = strict, follow_links
    zarr.config.set({"codec_pipeline.path": path})


def enable(*, strict: bool | None = None, follow_links: bool | None = None) -> _Enabled:
    """Make zarr-python use `tempozarr.CodecPipeline` for arrays opened from now on.

    As a context manager (`with tempozarr.enable(): ...`), until the end of the block.

    Parameters
    ----------
    strict
        Raise a `TempozarrError`, with the reason, instead of leaving a read or write to
        zarr-python. By default as before: off, or as the environment variable `TEMPOZARR_STRICT`
        says.
    follow_links
        Whether chunks of a `LocalStore` are written through symbolic links that lead out of it, to
        another disk say. Otherwise that is a `StoreError`, as a store from elsewhere may have a
        link to anywhere. Reading follows links; so does zarr-python where it writes metadata. By
        default as before: off.
    """
    global _before  # noqa: PLW0603
    path = zarr.config.get("codec_pipeline.path")
    if path != _PATH:
        _before = path
    undo = _Enabled(path, strict=_strict, follow_links=_follow_links)
    _set(
        _PATH,
        strict=_strict if strict is None else strict,
        follow_links=_follow_links if follow_links is None else follow_links,
    )
    return undo


def disable() -> None:
    """Give zarr-python the pipeline back that it had before `enable`; end its other settings."""
    path = zarr.config.get("codec_pipeline.path")
    _set(_before if path == _PATH else path, strict=_STRICT_BY_DEFAULT, follow_links=False)
