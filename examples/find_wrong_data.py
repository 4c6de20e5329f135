"""Find arrays that known faults of other writers may have hit, and repair copies of them.

    python find_wrong_data.py STORE
    python find_wrong_data.py ARRAY --repair transposed|swapped|reread --to NEW

The first lists arrays by their metadata: what may be wrong, and which repair there is. Whether a
writer ran into the fault no metadata say: look at the values. `docs/correctness.md` has the faults.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import tempozarr

if TYPE_CHECKING:
    from collections.abc import Iterator

# What gives back the values of one chunk that was stored wrong. `reread` changes none: what helps
# there is that tempozarr reads them.
REPAIRS = {
    "transposed": lambda chunk: chunk.ravel().reshape(chunk.shape, order="F"),
    "swapped": lambda chunk: chunk.byteswap(),
    "reread": lambda chunk: chunk,
}
DTYPES = ("dtype", "astype", "encode_dtype", "decode_dtype")  # of the filters, in metadata


def find(store: Path) -> Iterator[tuple[Path, str]]:
    """The arrays and groups in `store` that a fault may have hit, and how."""
    for file in sorted([*store.rglob("zarr.json"), *store.rglob(".zarray")]):
        document = json.loads(file.read_text())
        hazards = stale(file.parent, document) if is_group(document) else in_array(document)
        for hazard in hazards:
            yield file.parent, hazard


def is_group(document: dict[str, Any]) -> bool:
    """Whether these are metadata of a group."""
    return document.get("node_type") == "group"


def stale(group: Path, document: dict[str, Any]) -> Iterator[str]:
    """Consolidated metadata that say something else than the arrays do."""
    consolidated = (document.get("consolidated_metadata") or {}).get("metadata", {})
    for name, copied in consolidated.items():
        file = group / name / "zarr.json"
        own = json.loads(file.read_text()) if file.exists() else None
        if not is_group(copied) and own != copied:
            yield f"consolidated metadata of {name} are out of date: zarr.consolidate_metadata"


def in_array(document: dict[str, Any]) -> Iterator[str]:
    """What may be wrong in an array with these metadata."""
    several = len(document["shape"]) > 1
    if "order" in document:  # Zarr V2
        if document["order"] == "F" and several:
            yield 'of zarr-python 3.0.0? It stored C order: in a copy, set "order" to "C"'
        return
    codecs = list(filters(document["codecs"]))
    names = {name for name, _ in codecs}
    if several and names & {"delta", "fixedscaleoffset", "packbits"}:
        yield "given Fortran-ordered chunks by zarr-python before 3.3? --repair transposed"
    casts = names & {"astype", "fixedscaleoffset", "quantize"}
    if casts or "delta" in names:
        is_exact = not casts and "int" in str(document["data_type"])
        yield "given big-endian values? " + ("--repair swapped" if is_exact else "No repair")
    for name, configuration in codecs:
        dtypes = [configuration[key] for key in DTYPES if key in configuration]
        if any(np.dtype(dtype).str[0] == ">" for dtype in dtypes):
            yield f"{name} names a big-endian type: wrong values, or readers differ. No repair here"
        if name == "delta":
            yield from in_delta(np.dtype(configuration["dtype"]), document["data_type"])
        if name in {"delta", "astype", "fixedscaleoffset"} and len(set(dtypes)) > 1:
            yield f"{name} casts: values that did not fit are others. No repair"


def in_delta(dtype: np.dtype[Any], data_type: str | dict[str, Any]) -> Iterator[str]:
    """What may be wrong behind a delta of `dtype`."""
    if dtype.kind == "b":
        yield "delta of bool: False after True reads as True. No repair"
    elif isinstance(data_type, str) and dtype.newbyteorder("=") != np.dtype(data_type):
        yield f"delta of {dtype.name} on {data_type}: zarr-python reads others. --repair reread"
    elif dtype.kind == "f":
        yield "delta of floats rounds, and loses what follows a NaN. No repair"


def filters(codecs: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Codecs of an array or of its shards, without the prefix of numcodecs."""
    for codec in codecs:
        configuration = codec.get("configuration", {})
        if codec["name"] == "sharding_indexed":
            yield from filters(configuration["codecs"])
        else:
            yield codec["name"].removeprefix("numcodecs."), configuration


def repair(source: Path, how: str, to: Path) -> None:
    """Write the array `source`, repaired, as the new array `to`; `reread` leaves its filters out.

    Chunks that end at the edge of the array stay as they are: these faults hit whole ones.
    Raises what zarr-python does if there is something at `to`.
    """
    tempozarr.enable()
    old = zarr.open_array(source, mode="r")
    keep = () if how == "reread" else "keep"
    new = zarr.from_array(to, data=old, write_data=False, filters=keep)
    for outer in blocks(old.shape, old.shards or old.chunks):
        values = old[outer]
        for inner in blocks(values.shape, old.chunks):
            if values[inner].shape == old.chunks:
                values[inner] = REPAIRS[how](values[inner])
        new[outer] = values


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The places of the blocks that `shape` is divided into."""
    starts = itertools.product(
        *(range(0, length, step) for length, step in zip(shape, block, strict=True))
    )
    for start in starts:
        ends = zip(start, block, shape, strict=True)
        yield tuple(slice(at, min(at + step, end)) for at, step, end in ends)


def main() -> None:
    """List what may be wrong, or repair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--repair", choices=REPAIRS)
    parser.add_argument("--to", type=Path, help="where the repaired array is written")
    arguments = parser.parse_args()
    if bool(arguments.repair) != bool(arguments.to):
        parser.error("--repair and --to go together")
    if arguments.repair:
        repair(arguments.path, arguments.repair, arguments.to)
        print(f"{arguments.to}: repaired; compare before you replace {arguments.path}")
        return
    found = list(find(arguments.path))
    for path, hazard in found:
        print(f"{path}: {hazard}")
    print(f"arrays and groups that may have wrong data: {len({path for path, _ in found})}")


if __name__ == "__main__":
    main()
