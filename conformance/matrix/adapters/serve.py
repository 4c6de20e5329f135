"""The protocol of an adapter: one request per line of standard input, one answer per line of
standard output, both JSON.

A request to write has the keys `write` (the folder of the new store), `case` (its name, see
`families.py`), `document` (array metadata that say the same), `region` (a start and an end for
each dimension) and `values` (a file of what is written there: little-endian elements in C order).
One to read has `read` (the folder) and `into` (the file for what is read). The answer to it has
`dtype` (numpy's spelling; the file holds it little-endian) and `shape`. Instead of an answer there
may be an `error`. The first line of all is `versions`, without a request.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], np.ndarray]
    Write = Callable[[dict[str, Any]], None]


def whole(array: Any) -> np.ndarray:
    """All of `array`; without dimensions it is a scalar, which may know less of its data type."""
    found = array[...]
    return found if isinstance(found, np.ndarray) else np.asarray(found, array.dtype)


def values(request: dict[str, Any], dtype: np.dtype) -> np.ndarray:
    """What a request wants written."""
    shape = [end - start for start, end in request["region"]]
    return np.fromfile(request["values"], dtype).reshape(shape)


def slices(request: dict[str, Any]) -> tuple[slice, ...]:
    """Where a request wants it written."""
    return tuple(slice(start, end) for start, end in request["region"])


def answer(request: dict[str, Any], read: Read, write: Write | None) -> dict[str, Any]:
    """Do what `request` asks."""
    if "read" in request:
        found = np.asarray(read(request["read"]))
        little = found.astype(found.dtype.newbyteorder("<"), order="C", copy=False)
        Path(request["into"]).write_bytes(little.tobytes())
        names = little.dtype.names
        dtype = [list(field) for field in little.dtype.descr] if names else little.dtype.str
        return {"dtype": dtype, "shape": list(little.shape)}
    if write is None:
        raise NotImplementedError("this adapter only reads")
    write(request)
    return {}


def serve(versions: dict[str, str], read: Read, write: Write | None = None) -> None:
    """Answer requests until there are no more."""
    warnings.simplefilter("ignore")
    # Libraries may print: they get standard error, only answers get standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), read, write)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)
