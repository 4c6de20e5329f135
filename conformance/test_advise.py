"""Who reads what `tempozarr.advise` recommends: its table, held against the readers."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tempozarr
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
from tempozarr._chains import Encoding
from tempozarr.schema import ArraySchema

from goldens import same, to_json
from independent import independent
from test_peers import PEERS

if TYPE_CHECKING:
    from test_peers import Read

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

DTYPES = ("?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "M8[ns]")
ROW_SHAPES = ((), (3,))
ROWS = 40
BOOKS = Path(__file__).parents[1] / "examples/data/books.zarr"


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
            usual = ((codecs, Encoding()) for codecs in first(filtered))
            for codecs, encoding in [*usual, *expanded(filtered)]:
                key = dtype, row_shape, encoding, tuple(codec["name"] for codec in codecs)
                if key not in found:
                    found[key] = chain_of(codecs, like, encoding).schema(like)
    return {
        f"{i} {s.dtype} {Chain(s.codecs, s.encoding).text}": s for i, s in enumerate(found.values())
    }


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


@pytest.mark.parametrize("peer", PEERS)
def test_everybody_reads_zstd_for_fast_decoding(peer: str, tmp_path: Path) -> None:
    """Of a real book, which has matches and literals."""
    rows = tempozarr.open_array(BOOKS / "spot-btcusdt/book_raw")[:2000]
    for level in (1, 6, 19):
        zstd = {"name": "zstd", "configuration": {"level": level, "checksum": True}}
        schema = ArraySchema(
            name="x", dtype="f4", row_shape=(50, 3), codecs=[zstd], zstd_fast_decode=True
        )
        with Writer(tmp_path / str(level), schema, layout=(512, 1024)) as writer:
            writer.append(rows)
    read: Read = PEERS[peer](tmp_path)
    assert all(same(read[str(level)], rows) for level in (1, 6, 19))


@pytest.mark.parametrize("market", ["cm-btcusd", "usdm-btcusdt", "spot-btcusdt"])
def test_plain_zarr_python_reads_the_books_that_are_advised(market: str, tmp_path: Path) -> None:
    """Bit for bit: what is recommended, and the small and fast ones that it is chosen from."""
    source = tempozarr.open_array(BOOKS / market / "book")
    advice = tempozarr.advise(source, seconds=60)[""]
    chosen = {c.chain: c for c in advice.candidates if c.recommended_for or "float16, " in c.chain}
    del chosen["float16, xor, shuffle 2, zstd 3"]  # which needs tempozarr
    rows = source[:2000]
    for chain, candidate in chosen.items():
        layout = {"": advice.layout(candidate)}
        with Writer(tmp_path / chain, advice.best(candidate), layout=layout) as writer:
            writer.append(rows)
    assert {"float16, lz4-hc 9", "float16, zstd 6 fast-decode", "float16, zstd 19"} <= set(chosen)
    assert independent(tmp_path) == dict.fromkeys(chosen, to_json(rows))
