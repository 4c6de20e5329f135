"""Turn the goldens into inputs of the fuzz targets: `python fuzz/seeds.py FOLDER`.

Each target gets a folder in FOLDER with files that are named after their content.
`fuzz/src/lib.rs` says what an input is.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDENS = Path(__file__).parent.parent / "conformance/goldens"
LARGEST = 8192
# Behind the last codec of the table: metadata follow.
OTHER = 255


def compact(document: Any) -> bytes:
    """JSON without spaces, and a zero byte."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\0"


def arrays(store: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Yield the metadata of each array of a golden, with its chunks."""
    for name in (".zarray", "zarr.json"):
        for key, metadata in store.items():
            folder, _, last = key.rpartition("/")
            if last == name and "shape" in metadata:
                prefix = f"{folder}/" if folder else ""
                chunks = [
                    bytes.fromhex(value)
                    for key, value in store.items()
                    if key.startswith(prefix) and isinstance(value, str)
                ]
                yield metadata, chunks


def codecs(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the codecs of an array, those of its subchunks too."""
    found = [
        *(metadata.get("codecs") or []),
        *(metadata.get("filters") or []),
        *filter(None, [metadata.get("compressor")]),
    ]
    for codec in list(found):
        found += codecs(codec.get("configuration", {}))
    return found


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield a target and an input."""
    for file in sorted(GOLDENS.glob("zarr-*/*.json")):
        for metadata, chunks in arrays(json.loads(file.read_text(encoding="utf-8"))["store"]):
            for chunk in chunks[:2] or [b""]:
                yield "array", compact(metadata) + chunk
                for codec in codecs(metadata):
                    for number in range(3):
                        start = bytes([OTHER, number, number])
                        yield "codecs", start + compact(codec) + chunk
                        yield "round_trip", start + compact(codec) + chunk
    # The numbers of a codec, a data type and a shape.
    for codec in range(64):
        for number in range(20):
            start = bytes([codec, number, number])
            yield "codecs", start + bytes(range(64))
            yield "round_trip", start + bytes(range(64))
    # The numbers of a data type, a shape and codecs.
    for number in range(256):
        filters = [(number * step) % 256 for step in (1, 9, 37)]
        for mode in (0, 1, 2, 3, 130):
            start = [number % 12, number % 9, *filters, number % 16, number % 6, mode]
            yield "fused", bytes(start) + bytes(range(0, 256, 3))


def main() -> None:
    """Write the inputs."""
    folder = Path(sys.argv[1])
    for target, data in seeds():
        if len(data) <= LARGEST:
            file = folder / target / hashlib.sha1(data, usedforsecurity=False).hexdigest()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


if __name__ == "__main__":
    main()
