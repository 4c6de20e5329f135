"""The elements of an array, each as the JSON that zarr-python gives a fill value of that element.

`python conformance/fill_values.py --array_path PATH` prints them, one to a line: the command line
that the public conformance suites ask of every implementation, here for zarr-python with its
chunks decoded by tempozarr. `--write` writes `fill_values.json`, what zarr-python alone says of one
golden for each data type, with which the tests compare `tempozarr_conformance`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import zarr

from goldens import FOLDER, Golden

FILE = Path(__file__).parent / "fill_values.json"
CASES = (
    *("bytes-*", "fixed-utf32", "vlen-utf8", "shard-missing"),
    *("v2-[cfiu][0-9]*", "v2-bool", "v2-be-*", "v2-fixed-*U3", "v2-vlen-utf8", "v2-order-f"),
)


def fill_values(path: str | Path) -> list[Any]:
    """The elements of the array at `path` in C order, as Zarr V3 metadata would hold them."""
    array = zarr.open_array(str(path), mode="r")
    metadata = array.metadata
    dtype = metadata.dtype if metadata.zarr_format == 2 else metadata.data_type
    return [dtype.to_json_scalar(value, zarr_format=3) for value in array[...].flat]


def of_golden(golden: Golden) -> list[Any]:
    """What `fill_values` gives for the store of `golden`."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(json.dumps(fill_values(golden.unpack(Path(folder)))))


def write() -> None:
    """Write `fill_values.json`."""
    writer = FOLDER / "zarr-3.4.2"
    files = sorted({file for case in CASES for file in writer.glob(f"{case}.json")})
    values = {golden.name: of_golden(golden) for golden in map(Golden, files)}
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Print the elements of an array, or write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--array_path")
    what.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.write:
        return write()
    import tempozarr

    tempozarr.enable()
    for value in fill_values(arguments.array_path):
        print(json.dumps(value))
    return None


if __name__ == "__main__":
    main()
