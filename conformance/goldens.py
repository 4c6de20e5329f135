"""Goldens on disk: one JSON file holds a small store, and what reading it must give.

`python conformance/goldens.py FILE FOLDER` unpacks the store of one golden, for a look at it with
any other tool.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "goldens"


@dataclass(frozen=True)
class Golden:
    """One golden, written by one release of zarr-python."""

    file: Path

    @property
    def name(self) -> str:
        """Writer and case, for example `zarr-3.1.6/delta-i4`."""
        return f"{self.file.parent.name}/{self.file.stem}"

    @cached_property
    def content(self) -> dict[str, Any]:
        """The whole file."""
        return json.loads(self.file.read_text(encoding="utf-8"))

    @property
    def not_yet(self) -> str:
        """Why tempozarr does not read it natively yet; empty if it does."""
        return self.content["not_yet_read_natively"]

    @property
    def expected(self) -> np.ndarray:
        """What reading the whole array must give."""
        return from_json(self.content["expected"])

    def unpack(self, folder: Path) -> Path:
        """Write the store into `folder` and return it."""
        for key, value in self.content["store"].items():
            file = folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            is_metadata = isinstance(value, dict)
            file.write_bytes(json.dumps(value).encode() if is_metadata else bytes.fromhex(value))
        return folder


def goldens() -> list[Golden]:
    """Every golden of every writer.

    Raises FileNotFoundError if there is none: a test that finds nothing must not pass.
    """
    files = sorted(FOLDER.glob("zarr-*/*.json"))
    if not files:
        raise FileNotFoundError(f"no goldens in {FOLDER}")
    return [Golden(file) for file in files]


def pack(store: Path) -> dict[str, Any]:
    """The files of `store`: metadata as JSON, chunks in hexadecimal."""
    packed: dict[str, Any] = {}
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        content = file.read_bytes()
        is_metadata = file.name == "zarr.json" or file.name.startswith(".z")
        packed[file.relative_to(store).as_posix()] = (
            json.loads(content) if is_metadata else content.hex()
        )
    return packed


def to_json(values: np.ndarray) -> dict[str, Any]:
    """`values`: little-endian elements in C order, in hexadecimal; or a list of text or bytes."""
    shape = list(values.shape)
    if values.dtype.kind == "T":
        return {"dtype": "T", "shape": shape, "values": values.ravel().tolist()}
    if values.dtype.kind == "O":
        return {"dtype": "O", "shape": shape, "values": [v.hex() for v in values.ravel()]}
    little = values.astype(values.dtype.newbyteorder("<"))
    names = little.dtype.names
    dtype = [list(field) for field in little.dtype.descr] if names else little.dtype.str
    return {"dtype": dtype, "shape": shape, "data": little.tobytes().hex()}


def from_json(packed: dict[str, Any]) -> np.ndarray:
    """The inverse of `to_json`."""
    if packed["dtype"] == "T":
        values = np.array(packed["values"], np.dtypes.StringDType())
    elif packed["dtype"] == "O":
        values = np.empty(len(packed["values"]), object)
        values[:] = [bytes.fromhex(v) for v in packed["values"]]
    else:
        described = packed["dtype"]
        dtype = np.dtype(described if isinstance(described, str) else [tuple(f) for f in described])
        values = np.frombuffer(bytes.fromhex(packed["data"]), dtype)
    return values.reshape(packed["shape"])


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal shape, type and bits, whatever the byte order in memory."""
    return to_json(np.asarray(left)) == to_json(np.asarray(right))


if __name__ == "__main__":
    print(Golden(Path(sys.argv[1])).unpack(Path(sys.argv[2])))
