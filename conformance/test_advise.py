"""Who reads what `tempozarr.advise` recommends: its table, held against the readers."""

from __future__ import annotations

import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tempozarr import Writer
from tempozarr._candidates import (
    READERS,
    Chain,
    chain_of,
    expanded,
    filters,
    first,
    narrowings,
    readers,
)
from tempozarr.schema import ArraySchema

from goldens import same
from test_peers import PEERS

if TYPE_CHECKING:
    from pathlib import Path

    from test_peers import Read

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

DTYPES = ("?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "M8[ns]")
ROW_SHAPES = ((), (3,))
ROWS = 40


def rows_of(schema: ArraySchema) -> np.ndarray:
    """Small whole numbers, which every narrowing bears."""
    numbers = np.arange(ROWS * int(np.prod(schema.row_shape))) % 50
    if schema.numpy_dtype.kind in "mM":
        numbers = numbers.astype("i8")
    return numbers.astype(schema.numpy_dtype).reshape(ROWS, *schema.row_shape)


def schemas() -> dict[str, ArraySchema]:
    """Arrays with all codecs that are tried together, at one level of each, by their names."""
    found: dict[Any, ArraySchema] = {}
    for dtype, row_shape in product(DTYPES, ROW_SHAPES):
        like = ArraySchema(name="x", dtype=dtype, row_shape=row_shape)
        may_round = 1e-3 if like.numpy_dtype.kind == "f" else None
        narrow = narrowings(like.numpy_dtype, may_round, relative=False)
        narrow += narrowings(like.numpy_dtype, may_round, relative=True)
        for filtered in filters(like, narrow):
            for codecs, level in [*((c, None) for c in first(filtered)), *expanded(filtered)]:
                key = dtype, row_shape, tuple(codec["name"] for codec in codecs)
                if key not in found:
                    found[key] = chain_of(codecs, like, level).schema(like)
    return {f"{i} {s.dtype} {Chain(s.codecs).text}": s for i, s in enumerate(found.values())}


SCHEMAS = schemas()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every array."""
    folder = tmp_path_factory.mktemp("advised")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, schema in SCHEMAS.items():
            with Writer(folder / name, schema, layout={"": (16, None)}, sync=False) as writer:
                writer.append(rows_of(schema))
    return folder


@pytest.mark.parametrize("peer", PEERS)
def test_the_table_of_readers_is_true(peer: str, stores: Path) -> None:
    """Of every chain and data type; bit for bit where it says that it can be read."""
    reader = {"zarrita": "zarrita.js"}.get(peer, peer)
    assert reader in READERS
    read: Read = PEERS[peer](stores)
    wrong = []
    for name, schema in SCHEMAS.items():
        if peer == "zarr-python" and any(c["name"] == "temporal_xor" for c in schema.codecs):
            continue  # that reader has `oracle.py`, so that it can be compared
        found = read[name]
        can = not isinstance(found, str) and same(found, rows_of(schema))
        if can != (reader in readers(schema.codecs, schema.numpy_dtype)):
            wrong.append(f"{name}: {'can' if can else found}")
    assert not wrong, "\n".join(wrong)
