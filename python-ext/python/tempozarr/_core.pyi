"""The compiled part of tempozarr. Everything that reads, decodes or writes releases the GIL."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Selector: TypeAlias = tuple[int, int, int] | NDArray[np.int64]
"""`(start, count, step)`, or a 1-D array of indices; all indices within the dimension."""

Rows: TypeAlias = NDArray[np.int64]
"""Numbers of rows, in one dimension."""

__version__: str

def limits() -> dict[str, int]:
    """Return the limits of this process, by name."""

def set_limits(**values: int) -> None:
    """Set limits of this process, by name; ValueError if there is no such one."""

class Unsupported(NotImplementedError):  # noqa: N818
    """A selection that Rust does not know. Raised before anything is read or written."""

def read_document(path: Path) -> str | None:
    """Text of the metadata in a file, None if there is none.

    A StoreError if what is there is no regular file, or cannot be read; a MetadataError if it has
    more than 64 MiB, is nested more than 127 deep, or is no UTF-8.
    """

def document_text(content: bytes, place: str) -> str:
    """Text of metadata that were fetched from `place`; errors as for `read_document`."""

@final
class Objects:
    """A prefix of an object store."""

    def __new__(cls, url: str, options: dict[str, str]) -> Objects:
        """Prepare what is below a URL, with options as `object_store` names them."""

    def get(self, keys: list[str]) -> list[bytes | None]:
        """Contents of small objects, fetched side by side; None for one that does not exist."""

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder."""

@final
class Beneath:
    """A folder that files are written beneath, and through no link that leads out of it."""

    def __new__(cls, root: str, follow_links: bool = False) -> Beneath:
        """Write beneath a folder that is there; with `follow_links`, through any link."""

    @property
    def root(self) -> Path:
        """The folder, as it was given."""

    @property
    def follow_links(self) -> bool:
        """Whether links may lead out of it."""

    def folder(self, path: str, create: bool = False) -> int:
        """Open a folder, for `dir_fd`; with `create`, make it and those above if missing.

        A StoreError if a link leads out, else OSErrors. Not on Windows.
        """

def exchange(one: str, other: str) -> bool:
    """Swap two folders in one step; False if the file system cannot."""

@final
class Array:
    """One array of a store; opened once, cheap to share between threads."""

    def __new__(
        cls,
        root: str | Objects,
        path: str,
        cache: Cache | None = None,
        metadata: str | None = None,
    ) -> Array:
        """Open the array at `path` (`""` or `a/b`) of the store in folder `root`, or in objects.

        Decoded chunks are kept in `cache`, which may be that of other arrays too. The metadata, as
        JSON, is read from the folder, unless it is given; of objects it has to be.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of what is decoded at once: the inner chunks where the array is sharded."""

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of what is stored in one file, where the array is sharded."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks, or shards, in each dimension."""

    @property
    def dtype(self) -> str:
        """Numpy data type that `read` fills, native order; `T` and `O`: use `read_objects`."""

    @property
    def metadata(self) -> str:
        """Stored metadata as JSON text, a v2 array's attributes merged in."""

    def explain(self) -> tuple[bool, str]:
        """Whether chunks are decoded in one pass; and the steps, or the reason why not."""

    def read(self, selection: tuple[Selector, ...], out: NDArray[Any]) -> None:
        """Fill `out`, of one length per selector, with an orthogonal selection."""

    def read_points(self, coords: tuple[NDArray[np.int64], ...], out: NDArray[Any]) -> None:
        """Fill the 1-D `out` with the elements at `coords`, one array of indices per dimension."""

    def read_objects(self, selection: tuple[Selector, ...]) -> list[str] | list[bytes]:
        """Read an orthogonal selection of a variable-length data type, flat and in C order."""

    def stats(self) -> tuple[int, ...]:
        """Hits and misses; bytes read, decoded; nanoseconds of reading, decoding, copying."""

@final
class Cache:
    """Decoded chunks, the last used ones up to a number of bytes."""

    def __new__(cls, limit: int, /) -> Cache:
        """Keep up to `limit` bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes kept now, by this process."""

@final
class Appender:
    """Encodes rows for the end of one array into files that are staged, not yet in the store."""

    def __new__(
        cls,
        beneath: Beneath,
        path: str,
        rows: int,
        staging: str,
        lz4_level: int | None = None,
        zstd_fast_decode: bool = False,
    ) -> Appender:
        """Append to the array at `path` of the store, of which `rows` rows are kept.

        Files are staged beneath its root as `staging`-0, `staging`-1, ... `lz4_level`, 2 to 12, and
        `zstd_fast_decode` are as in a schema; without such a codec each is a MetadataError.
        """

    @property
    def unit_rows(self) -> int:
        """Rows that are encoded at once: those of a subchunk, or of a chunk that has none."""

    def put(self, start: int, rows: NDArray[Any]) -> None:
        """Encode rows `start..` of the array; `start` is the first row of a subchunk.

        They replace what was put there before. Behind the last one are fill values if it is not
        the last of a subchunk.
        """

    def stage(self, sync: bool) -> list[tuple[str, str]]:
        """Write what has changed; give the files staged since the last call, and their places.

        Both are paths beneath the root.
        """

@final
class ChunkPipeline:
    """The codecs of one chunk shape, data type and fill value."""

    def __new__(
        cls,
        metadata: str,
        subchunk_order: str = "lexicographic",
        lz4_level: int | None = None,
        zstd_fast_decode: bool = False,
    ) -> ChunkPipeline:
        """Prepare the codecs of an array of one chunk; its data type must be of fixed size.

        `subchunk_order` is how writes order the subchunks of shards, as zarr-python calls it; not
        of shards within shards, nor where other codecs follow. The rest is as for `Appender`.
        """

    @property
    def dtype(self) -> str:
        """Numpy data type of a decoded chunk, native order."""

    def read(
        self,
        chunks: Sequence[tuple[str, Any, Any]],
        out: NDArray[Any],
        drop_axes: tuple[int, ...],
    ) -> list[bool]:
        """Read `(file, chunk_selection, out_selection)` into `out`; say which chunks exist."""

    def write(
        self,
        beneath: Beneath,
        chunks: Sequence[tuple[str, Any, Any, bool]],
        value: NDArray[Any],
        drop_axes: tuple[int, ...],
        write_empty_chunks: bool,
    ) -> None:
        """Write `(key, chunk_selection, value_selection, is_complete_chunk)` from `value`."""

    def select(
        self,
        chunks: Sequence[tuple[str, Any, Any]],
        shape: tuple[int, ...],
        drop_axes: tuple[int, ...],
    ) -> Selected:
        """Prepare `(name, chunk_selection, selection of an array of that shape)` of chunks."""

    def decode(self, data: bytes | bytearray | memoryview) -> NDArray[Any]:
        """Decode one whole chunk."""

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Encode one whole chunk."""

@final
class Selected:
    """What is selected of chunks whose bytes Python fetches and stores. Errors name the chunk."""

    def indexes(self, gap: int) -> list[tuple[bool, int] | None]:
        """What to fetch first of each chunk: an index, `(is at the end, bytes)`, or all of it.

        All of it (None) if it has up to `gap` bytes, is not sharded, or most of it is selected.
        """

    def ranges(
        self, number: int, index: NDArray[np.uint8], gap: int, limit: int
    ) -> list[tuple[int, int]] | None:
        """Which bytes of a shard to fetch next, `(start, end)`; None for all of it.

        What lies up to `gap` bytes apart is one range, of up to `limit` bytes.
        """

    def read(
        self,
        chunks: Sequence[
            tuple[int, NDArray[np.uint8] | None, list[tuple[int, NDArray[np.uint8]]] | None]
        ],
        out: NDArray[Any],
    ) -> None:
        """Read `(number, bytes, pieces)` into `out`.

        `bytes` is None for a chunk that does not exist; with `(start, bytes)` pieces of a shard,
        it is the index.
        """

    def merges(self, number: int, is_complete: bool) -> bool:
        """Whether a write needs the bytes that are there."""

    def write(
        self,
        chunks: Sequence[tuple[int, bool, NDArray[np.uint8] | None]],
        value: NDArray[Any],
        write_empty_chunks: bool,
    ) -> list[NDArray[np.uint8] | None]:
        """Encode chunks `(number, is_complete_chunk, bytes before)`; None is not to be stored."""

def read_rows(
    jobs: Sequence[
        tuple[
            Array,
            NDArray[np.int64],
            NDArray[np.int64],
            NDArray[np.int64],
            int,
            NDArray[Any],
            str | None,
        ]
    ],
) -> None:
    """Read runs of rows of arrays: jobs of `(array, rows, places, counts, step, out, cast)`.

    Run `i` of a job are the `counts[i]` rows `rows[i]`, `rows[i] + step`, ... of `array`. They
    become the rows from `places[i]` on of `out`, in C order, whose data type is `cast` (a numpy
    data type, or `bfloat16`, whose memory is uint16), or that of the array if that is None. Each
    chunk that the runs of a job meet is decoded once.
    """

Fault: TypeAlias = tuple[list[int], list[int] | None, tuple[int, int] | None, str | None]
"""Chunk, subchunk in it, rows `(start, stop)` of the array; what is wrong, None: not stored."""

def verify(
    array: Array, chunks: Sequence[Sequence[int]], complete: bool
) -> tuple[list[Fault], tuple[int, int, int]]:
    """Decode stored chunks without keeping them; give all that is wrong.

    And the number of subchunks that are stored, of those that are not (with `complete`, these are
    faults), and of bytes in shards that belong to none. Memory is that of one chunk, or subchunk,
    for each thread.
    """

def register_alias(name: str, target: str) -> None:
    """Read codec `name` as codec `target`."""

def xor_encode(data: NDArray[Any], axis: int) -> NDArray[Any]:
    """TemporalXOR's encoding of a chunk, in C order."""

def xor_decode(data: NDArray[Any], axis: int) -> NDArray[Any]:
    """Inverse of `xor_encode`."""

def set_threads(n: int) -> None:
    """Size the thread pool; 0 means one thread for each core."""
