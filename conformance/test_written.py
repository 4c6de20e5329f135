"""What Rust writes, others read: the whole table of cases, written through tempozarr's pipeline
and read by a zarr-python that knows nothing of tempozarr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tempozarr
import zarr
from tempozarr.schema import ArraySchema

from cases import Case, apply_edit, cases, create, expected, more_cases
from goldens import goldens, to_json
from independent import independent

HERE = Path(__file__).parent
NOT_YET = json.loads((HERE / "not_yet.json").read_text())["python"]
TABLE = [case for case in (*cases(), *more_cases()) if zarr.__version__ in case.writers]
GOLDEN = {golden.file.stem: golden for golden in goldens()}


def write(case: Case, folder: Path, **options: Any) -> None:
    """Write `case` through our pipeline; strictly, where Rust is to do all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tempozarr.enable(**options):
            create(case, folder)
    apply_edit(case, folder)


def is_native(case: Case) -> bool:
    """Whether the pipeline handles `case` without zarr-python's help."""
    return case.name not in NOT_YET and case.values not in {"text", "blobs"}


def wanted(case: Case) -> np.ndarray:
    """What reading `case` must give, for lossy chains by the goldens."""
    values = expected(case)
    return GOLDEN[case.name].expected if values is None else values


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `independent.py` reads of everything that was written, or why nothing was written."""
    folder = tmp_path_factory.mktemp("written")
    failed = {}
    for case in TABLE:
        try:
            write(case, folder / case.name, strict=is_native(case))
        except Exception as error:  # noqa: BLE001 - each case has a test of its own, which reports it
            failed[case.name] = {"error": f"not written: {type(error).__name__}: {error}"}
    return independent(folder) | failed


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
def test_zarr_python_reads_what_we_write(case: Case, written: dict[str, Any]) -> None:
    """Bit for bit, without tempozarr installed."""
    if case.refused:
        assert case.refused in written[case.name]["error"]
    else:
        assert written[case.name] == to_json(wanted(case))


def test_zarr_python_reads_every_encoding(tmp_path: Path) -> None:
    """What a writer encodes in another way, in shards and not, is LZ4 or zstd to everybody."""
    steps = np.random.default_rng(0).integers(-1, 2, (3000, 7)).astype("f4").cumsum(0)
    codecs = {level: {"name": "zstd", "configuration": {"level": level}} for level in (-1, 9, 19)}
    encodings: dict[str, dict[str, Any]] = {
        f"lz4 {level}": {"codecs": ["numcodecs.shuffle", "numcodecs.lz4"], "lz4_level": level}
        for level in (None, *range(2, 13))
    } | {
        f"zstd{level} {fast}": {"codecs": [codec], "zstd_fast_decode": fast == "fast"}
        for (level, codec), fast in product(codecs.items(), ("None", "fast"))
    }
    layouts = ((500, None), (500, 1500))
    for (name, settings), (chunk_rows, shard_rows) in product(encodings.items(), layouts):
        schema = ArraySchema(name="a", dtype="float32", row_shape=(7,), **settings)
        layout = {"": (chunk_rows, shard_rows)}
        folder = tmp_path / f"{name}-{shard_rows}"
        with tempozarr.Writer(folder, schema, layout=layout) as writer:
            writer.append(steps)
    read = independent(tmp_path)
    assert len(read) == len(encodings) * len(layouts)
    for name, values in read.items():
        assert values == to_json(steps), name
        usual = f"{name.split()[0]} None-{name.rpartition('-')[2]}"
        documents = [(tmp_path / store / "zarr.json").read_bytes() for store in (name, usual)]
        assert documents[0] == documents[1], name


def test_temporal_xor_of_the_wheel_writes_what_the_oracle_reads(tmp_path: Path) -> None:
    """The codec that zarr-python's own pipelines find by its entry points is the same codec."""
    table = [case for case in TABLE if case.uses_temporal_xor and is_native(case)]
    assert len(table) > 50
    for case in table:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            create(case, tmp_path / case.name)
    read = independent(tmp_path)
    assert {case.name: read[case.name] for case in table} == {
        case.name: to_json(wanted(case)) for case in table
    }


def test_without_tempozarr_nothing_of_it_is_there() -> None:
    """The reader above proves something only if tempozarr really is out of its reach."""
    code = (
        "import importlib.metadata, independent; independent.block('tempozarr')\n"
        "assert 'tempozarr' not in str(list(importlib.metadata.entry_points()))\n"
        "try: import tempozarr.codecs\n"
        "except ImportError: print('blocked')"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=HERE
    )
    assert done.stdout == "blocked\n"


def test_parts_of_chunks_are_written_in_place(tmp_path: Path) -> None:
    """Read, change, encode again: row by row from the end, every chunk is written several times."""
    table = [
        replace(case, shards=None)
        for case in TABLE
        if is_native(case) and case.lossless and case.written is None and len(case.shape) == 2
    ]
    assert len(table) > 30
    for case in table:
        values = expected(case)
        assert values is not None
        with warnings.catch_warnings(), tempozarr.enable(strict=True):
            warnings.simplefilter("ignore")
            array = create(replace(case, written=slice(0)), tmp_path / case.name)
            for row in reversed(range(case.shape[0])):
                array[row] = values[row]
    read = independent(tmp_path)
    for case in table:
        assert read[case.name] == to_json(wanted(case)), case.name
