"""What metadata and chunks of a stranger may ask for: named errors, no more memory than documented."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import tempozarr

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
OPENS = ("open", "append")
# Python and Rust look at them, whoever comes first.
RANKS = r"expected as many|\d dimensions, expected \d"
ALL = (*OPENS, "zarr", "write")
READS = ("read", "all", "verify", "zarr")


def metadata(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [100],
        "data_type": "int32",
        "chunk_grid": grid(100),
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [LITTLE],
        "attributes": {},
    } | changes


def metadata_v2(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": [100],
        "chunks": [100],
        "dtype": "<i4",
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "compressor": None,
    } | changes


def grid(*shape: int) -> dict[str, Any]:
    return codec("regular", chunk_shape=shape)


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def sharding(*shape: int, codecs: Any = (LITTLE,), index: Any = (LITTLE,)) -> dict[str, Any]:
    return codec("sharding_indexed", chunk_shape=shape, codecs=codecs, index_codecs=index)


def sharded(shape: list[int], chunk: list[int], *subchunk: int, **changes: Any) -> dict[str, Any]:
    """Metadata of an array of one codec, sharding."""
    codecs = [sharding(*subchunk, **changes)]
    return metadata(shape=shape, chunk_grid=grid(*chunk), codecs=codecs)


def index(*entries: int) -> bytes:
    return np.array(entries, "<u8").tobytes()


@dataclass
class Case:
    """An array, what is done with it, and the error that this is."""

    metadata: dict[str, Any]
    message: str
    error: str = "MetadataError"
    actions: tuple[str, ...] = OPENS
    chunk: bytes | int | None = None
    """Of the first chunk: its bytes, or how long it is, all zeros."""
    key: str = "c/0"


def nested(levels: int) -> list[Any]:
    codecs: list[Any] = [LITTLE]
    for _ in range(levels):
        codecs = [sharding(100, codecs=codecs)]
    return codecs


BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0, "typesize": 4}
NUMCODECS_BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0, "typesize": 4}

CASES = {
    "pcodec_2_53": Case(
        metadata(shape=[1 << 53], chunk_grid=grid(1 << 53), codecs=[codec("numcodecs.pcodec")]),
        r"decoded bytes of a chunk .* expected at most 4294967296.*`chunk_bytes`",
        "LimitError",
        ALL,
    ),
    "pcodec_2_47": Case(
        metadata(shape=[1 << 47], chunk_grid=grid(1 << 47), codecs=[codec("numcodecs.pcodec")]),
        "decoded bytes of a chunk",
        "LimitError",
        ALL,
    ),
    "pcodec_zeros": Case(
        metadata(shape=[1 << 30], chunk_grid=grid(1 << 30), codecs=[codec("numcodecs.pcodec")]),
        "numcodecs.pcodec.*corrupt",
        "CodecError",
        ("read",),
        20,
    ),
    "pcodec_no_pages": Case(
        metadata(codecs=[codec("numcodecs.pcodec", equal_pages_up_to=0)]),
        "equal_pages_up_to 0 is out of range",
    ),
    "pcodec_small_pages": Case(
        metadata(
            shape=[1 << 30],
            chunk_grid=grid(1 << 30),
            codecs=[codec("numcodecs.pcodec", equal_pages_up_to=1)],
        ),
        "numcodecs.pcodec.*corrupt",
        "CodecError",
        ("read",),
        20,
    ),
    "rank_of_subchunks": Case(
        sharded([5, 4], [4, 4], 2, 2, 1 << 31),
        RANKS,
        chunk=300,
        key="c/0/0",
        actions=(*OPENS, "verify"),
    ),
    "fewer_dimensions": Case(sharded([5, 4], [4, 4], 2), RANKS),
    "rank_of_nested": Case(
        sharded([8, 8], [8, 8], 4, 4, codecs=[sharding(2, 2, 2)]), "3 dimensions, expected 2"
    ),
    "rank_of_grid": Case(metadata(chunk_grid=grid(10, 10)), RANKS),
    "rank_of_names": Case(metadata(dimension_names=["a", "b"]), RANKS),
    "rank_of_transpose": Case(
        metadata(codecs=[codec("transpose", order=[1, 0]), LITTLE]), "transpose", actions=("open",)
    ),
    "3000_filters": Case(
        metadata(codecs=[{"name": "temporal_xor"}] * 3000 + [LITTLE]),
        "codecs of an array: 3001, expected at most 64",
        error="LimitError",
    ),
    "3000_nested": Case(
        metadata(codecs=[sharding(100, codecs=[{"name": "temporal_xor"}] * 3000 + [LITTLE])]),
        "codecs of an array: 300",
        error="LimitError",
    ),
    "many_checksums": Case(
        metadata(codecs=[LITTLE] + [{"name": "crc32c"}] * 100_000),
        "codecs of an array: 100001",
        error="LimitError",
    ),
    "many_v2_filters": Case(
        metadata_v2(filters=[{"id": "delta", "dtype": "<i4"}] * 3000),
        "codecs of an array: 3000",
        actions=("open",),
        error="LimitError",
    ),
    "shards_in_shards": Case(
        metadata(codecs=nested(9)), "codecs inside codecs: 9", error="LimitError"
    ),
    "json_in_json": Case(metadata(codecs=nested(60)), "", actions=("open",)),
    "2_30_subchunks": Case(
        metadata(shape=[1 << 30], chunk_grid=grid(1 << 30), codecs=[sharding(1)]),
        "subchunks of a shard: 1073741824, expected at most 16777216",
        "LimitError",
        ALL,
    ),
    "2_32_subchunks": Case(
        metadata(shape=[1 << 32], chunk_grid=grid(1 << 32), codecs=[sharding(1)]),
        "subchunks of a shard",
        "LimitError",
        ALL,
    ),
    "2_90_subchunks": Case(
        sharded([1 << 30] * 3, [1 << 30] * 3, 1, 1, 1), "more than 2\\^56 elements"
    ),
    "many_nested_subchunks": Case(
        sharded([1 << 30], [1 << 30], 1 << 28, codecs=[sharding(1)]),
        "subchunks of a shard",
        "LimitError",
        ALL,
    ),
    "large_subchunks": Case(
        sharded([1 << 40], [1 << 40], 1 << 39),
        "decoded bytes of a subchunk",
        "LimitError",
        ALL,
    ),
    "columns": Case(
        metadata(shape=[0, 1 << 62], chunk_grid=grid(1, 1)),
        "too many subchunks side by side",
        actions=("append",),
        error="LimitError",
    ),
    "r0": Case(
        metadata(shape=[1 << 50], chunk_grid=grid(1 << 50), data_type="r0", fill_value=[]),
        "elements of 0 bytes",
        actions=("open",),
    ),
    "V0": Case(
        metadata_v2(shape=[1 << 50], chunks=[1 << 50], dtype="|V0", fill_value=None),
        "elements of 0 bytes",
        actions=("open",),
    ),
    "U0": Case(metadata_v2(dtype="<U0", fill_value=""), "elements of 0 bytes", actions=("open",)),
    "long_elements": Case(
        metadata_v2(dtype="<U1000000000", fill_value=""),
        "bytes of an element",
        actions=("open",),
        error="LimitError",
    ),
    "long_raw": Case(
        metadata(data_type="r80000000000", fill_value="AA=="),
        "bytes of an element",
        actions=("open",),
        error="LimitError",
    ),
    "long_array": Case(metadata(shape=[1 << 63]), "2\\^63", actions=("open",)),
    "many_dimensions": Case(
        metadata(shape=[1] * 65, chunk_grid=grid(*[1] * 65)),
        "dimensions of an array: 65",
        actions=("open",),
        error="LimitError",
    ),
    "rectilinear": Case(
        metadata(chunk_grid=codec("rectilinear", kind="inline", chunk_shapes=[[[1, 1 << 40]]])),
        "lengths of the chunks of a dimension",
        actions=("open",),
        error="LimitError",
    ),
    "rectangular": Case(
        metadata(chunk_grid=codec("rectangular", chunk_shape=[[(1 << 64) - 1, 101]])),
        "expected less than 2\\^63",
        actions=("open",),
    ),
    "reshape": Case(
        metadata(codecs=[codec("reshape", shape=[1 << 32, 1 << 32]), LITTLE]),
        "reshape",
        actions=("open",),
    ),
    "packbits": Case(
        metadata(codecs=[codec("packbits", last_bit=(1 << 63))]),
        "packbits: last_bit",
        actions=("open",),
    ),
    "suffix": Case(
        metadata(
            chunk_key_encoding=codec("zarrs.default_suffix", suffix="/../../x", separator="/")
        ),
        'chunk key encoding "zarrs.default_suffix": expected "default" or "v2"',
        actions=("open", "append"),
    ),
    "separator": Case(
        metadata(chunk_key_encoding=codec("default", separator="/../")),
        "chunk key encoding",
        actions=("open", "append"),
    ),
    "blosc_2_32": Case(
        metadata(codecs=[LITTLE, codec("blosc", **BLOSC | {"typesize": (1 << 32) - 1})]),
        "typesize 4294967295 is out of range",
    ),
    "blosc_2_31": Case(
        metadata(codecs=[LITTLE, codec("blosc", **BLOSC | {"typesize": 1 << 31})]),
        "typesize 2147483648 is out of range",
    ),
    "numcodecs_blosc_2_32": Case(
        metadata(
            codecs=[
                LITTLE,
                codec("numcodecs.blosc", **NUMCODECS_BLOSC | {"typesize": (1 << 32) - 1}),
            ]
        ),
        "typesize 4294967295 is out of range",
        actions=("open", "append"),
    ),
    "numcodecs_blosc_2_31": Case(
        metadata(
            codecs=[LITTLE, codec("numcodecs.blosc", **NUMCODECS_BLOSC | {"typesize": 1 << 31})]
        ),
        "typesize 2147483648 is out of range",
        actions=("open", "append"),
    ),
    "numcodecs_blosc_negative": Case(
        metadata(codecs=[LITTLE, codec("numcodecs.blosc", **NUMCODECS_BLOSC | {"typesize": -1})]),
        "integer `-1`",
        actions=("open", "append"),
    ),
    "v2_blosc_2_31": Case(
        metadata_v2(filters=[{"id": "blosc", **NUMCODECS_BLOSC, "typesize": 1 << 31}]),
        "typesize",
        actions=("open",),
    ),
    "blosc_header": Case(
        metadata(codecs=[LITTLE, codec("blosc", **BLOSC)]),
        "",
        "CodecError",
        READS,
        bytes([2, 1, 0x21, 255]) + np.array([400, 7, 32], "<u4").tobytes() + bytes(16),
    ),
    "numcodecs_blosc_header": Case(
        metadata(codecs=[LITTLE, codec("numcodecs.blosc", **NUMCODECS_BLOSC)]),
        "",
        "CodecError",
        READS,
        bytes([2, 1, 0x21, 0]) + np.array([400, 1 << 31, 32], "<u4").tobytes() + bytes(16),
    ),
    "long_chunk": Case(
        metadata(),
        "3221225472 encoded bytes, and its metadata allow",
        "CodecError",
        ("all", "verify"),
        3 << 30,
    ),
    "long_compressed_chunk": Case(
        metadata(codecs=[LITTLE, codec("zstd", level=1, checksum=False)]),
        "3221225472 encoded bytes",
        "CodecError",
        (*READS, "write"),
        3 << 30,
    ),
    "long_transposed_chunk": Case(
        metadata(
            shape=[10, 10],
            chunk_grid=grid(10, 10),
            codecs=[codec("transpose", order=[1, 0]), LITTLE, codec("gzip", level=1)],
        ),
        "3221225472 encoded bytes",
        "CodecError",
        READS,
        3 << 30,
        "c/0/0",
    ),
    "long_text": Case(
        metadata(data_type="string", fill_value="", codecs=[{"name": "vlen-utf8"}]),
        "encoded bytes",
        "CodecError",
        ("read", "verify"),
        5 << 30,
    ),
    "short_shard": Case(
        metadata(shape=[1 << 24], chunk_grid=grid(1 << 24), codecs=[sharding(1)]),
        "20 bytes are too short to hold its index",
        "CodecError",
        ("read", "verify", "zarr", "write"),
        20,
    ),
    "empty_nested_shard": Case(
        metadata(codecs=[sharding(50, codecs=[sharding(10)])]),
        "shard",
        "CodecError",
        READS,
        index(0, 0, 0, 0),
    ),
    "short_nested_shard": Case(
        metadata(codecs=[sharding(50, codecs=[sharding(10)])]),
        "shard",
        "CodecError",
        READS,
        bytes(79) + index(0, 79, 0, 79),
    ),
    "overlapping_subchunks": Case(
        metadata(codecs=[sharding(10)]),
        "overlap",
        "CodecError",
        ("verify", "write"),
        bytes(40) + index(*[0, 40] * 10),
    ),
    "long_entry": Case(
        metadata(codecs=[sharding(10)]),
        "shard index is corrupt",
        "CodecError",
        ("all", "verify", "write"),
        bytes(40) + index(*[0, 1 << 62] * 10),
    ),
}


def write(folder: Path, case: Case) -> None:
    folder.mkdir()
    name = "zarr.json" if case.metadata["zarr_format"] == 3 else ".zarray"
    (folder / name).write_text(json.dumps(case.metadata))
    (folder / "actions.json").write_text(json.dumps(case.actions))
    if case.chunk is not None:
        chunk = folder / case.key
        chunk.parent.mkdir(parents=True)
        if isinstance(case.chunk, int):
            with chunk.open("wb") as file:
                file.truncate(case.chunk)
        else:
            chunk.write_bytes(case.chunk)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str] | None]]:
    """What came of each action with each array; all in one process, with 6 GiB of addresses."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, case in CASES.items():
        write(folder / name, case)
    script = Path(__file__).with_name("hostile.py")
    process = subprocess.run(
        [sys.executable, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outcomes: dict[str, dict[str, list[str] | None]] = {}
    for line in map(json.loads, process.stdout.splitlines()):
        if "name" in line:
            current = outcomes.setdefault(line["name"], {})
        else:
            current[line["action"]] = line["outcome"]
    assert process.returncode == 0, (list(outcomes.items())[-1], process.stderr[-2000:])
    return outcomes


@pytest.mark.parametrize("name", CASES)
def test_is_refused_with_a_named_error(
    name: str, outcomes: dict[str, dict[str, list[str] | None]]
) -> None:
    case = CASES[name]
    assert set(outcomes[name]) == set(case.actions)
    for action, outcome in outcomes[name].items():
        assert outcome is not None, action
        error, message = outcome
        expected = "ValueError" if action == "verify" and error == "ValueError" else case.error
        assert error == expected, (action, outcome)
        assert re.search(case.message, message), (action, message)
        assert "internal error" not in message, (action, message)


@pytest.fixture
def _restored() -> Iterator[None]:
    before = tempozarr.limits()
    yield
    tempozarr.set_limits(**dataclasses.asdict(before))


def test_defaults() -> None:
    assert dataclasses.asdict(tempozarr.limits()) == {
        "dimensions": 64,
        "codecs": 64,
        "nesting": 8,
        "element_bytes": 1 << 20,
        "chunk_bytes": 4 << 30,
        "subchunks": 1 << 24,
    }


@pytest.mark.usefixtures("_restored")
def test_a_limit_that_is_raised_lets_the_array_pass(tmp_path: Path) -> None:
    large = metadata(shape=[1 << 31], chunk_grid=grid(1 << 31))
    write(tmp_path / "a", Case(large, ""))
    with pytest.raises(tempozarr.LimitError, match="8589934592, expected at most 4294967296"):
        tempozarr.open(tmp_path / "a")
    before = tempozarr.set_limits(chunk_bytes=1 << 33)
    assert before.chunk_bytes == 4 << 30
    assert tempozarr.limits() == dataclasses.replace(before, chunk_bytes=1 << 33)
    array = tempozarr.open_array(tmp_path / "a")
    assert array.shape == (1 << 31,)
    assert array.nbytes == 1 << 33
    np.testing.assert_array_equal(array[:3], [0, 0, 0])


@pytest.mark.usefixtures("_restored")
def test_a_limit_that_is_lowered_binds(tmp_path: Path) -> None:
    write(tmp_path / "a", Case(sharded([100], [100], 1), ""))
    tempozarr.open(tmp_path / "a")
    tempozarr.set_limits(subchunks=99)
    with pytest.raises(
        tempozarr.LimitError, match="subchunks of a shard: 100, expected at most 99"
    ):
        tempozarr.open(tmp_path / "a")


@pytest.mark.usefixtures("_restored")
def test_text_that_decodes_to_more_than_the_limit(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(10,), dtype="string")[:] = ["x" * 10_000] * 10
    array = tempozarr.open_array(tmp_path)
    tempozarr.set_limits(chunk_bytes=50_000)
    with pytest.raises(tempozarr.CodecError, match=r"more than 50000 bytes.*`chunk_bytes`"):
        array[:]


def test_limits_are_positive_integers() -> None:
    for value in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="chunk_bytes: expected an integer from 1 to"):
            tempozarr.set_limits(chunk_bytes=value)
    with pytest.raises(TypeError, match=r"subchunks: expected an integer, got 1\.5"):
        tempozarr.set_limits(subchunks=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["blosc", "numcodecs.blosc"])
@pytest.mark.parametrize("typesize", [1, 255, 256, 300, (1 << 31) - 1])
def test_blosc_of_any_typesize_round_trips(tmp_path: Path, name: str, typesize: int) -> None:
    parameters = (BLOSC if name == "blosc" else NUMCODECS_BLOSC) | {"typesize": typesize}
    values = np.arange(8192, dtype="<i4") * 7
    codecs = [LITTLE, codec(name, **parameters)]
    write(tmp_path / "a", Case(metadata(shape=[0], chunk_grid=grid(8192), codecs=codecs), ""))
    with tempozarr.Writer(tmp_path / "a", mode="a") as writer:
        writer.append(values)
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path / "a")[:], values)
    assert tempozarr.verify(tmp_path / "a").ok


def test_an_update_of_a_long_shard_reads_what_it_keeps(tmp_path: Path) -> None:
    """A shard of 3 GiB, most of it in no subchunk."""
    tempozarr.enable()
    array = zarr.create_array(
        tmp_path, shape=(8,), shards=(8,), chunks=(2,), dtype="i4", fill_value=0
    )
    array[:] = np.arange(1, 9)
    shard = tmp_path / "c" / "0"
    stored = shard.read_bytes()
    with shard.open("r+b") as file:
        file.truncate(3 << 30)
        file.seek((3 << 30) - 68)
        file.write(stored[-68:])
    array[1] = 77
    np.testing.assert_array_equal(tempozarr.open_array(tmp_path)[:], [1, 77, 3, 4, 5, 6, 7, 8])
    assert shard.stat().st_size < len(stored) + 100


# -- memory whose size comes from metadata or stored bytes ---------------------------------------

SOURCES = [
    *Path(__file__).parents[2].glob("codecs/src/**/*.rs"),
    *Path(__file__).parents[2].glob("python-ext/src/**/*.rs"),
]
LENGTH = r"(?:\w+\.)*\w+\.(?:len|dimensionality)\(\)(?: [+] 1)?|\d+|[A-Z_]+"
ARGUMENT = r"((?:[^(),]|\([^()]*\))+)"
INFALLIBLE = re.compile(
    rf"vec!\[[^;\]]+; ([^\]]+)\]|with_capacity\({ARGUMENT}\)"
    rf"|\.(?:resize|resize_with|reserve|reserve_exact)\({ARGUMENT}[,)]"
)


def infallible(source: str) -> Iterator[str]:
    """Lines that allocate as much as a number says, and neither may fail nor say why not."""
    lines = source.split("#[cfg(test)]", maxsplit=1)[0].splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        found = None if line.lstrip().startswith("//") else INFALLIBLE.search(line)
        size = next((group for group in found.groups() if group), "") if found else "0"
        reserved = before.lstrip().startswith(("// Memory: ", "memory::reserve", "reserve_exact("))
        if not re.fullmatch(LENGTH, size) and not reserved:
            yield line.strip()


def test_memory_that_numbers_size_is_allocated_fallibly() -> None:
    """By `tempozarr::memory`, unless it is as long as something that is in memory."""
    assert len(SOURCES) > 60
    found = {
        f"{path.name}: {line}"
        for path in SOURCES
        if path.name != "tests.rs"
        for line in infallible(path.read_text())
    }
    assert not found


def test_the_test_finds_such_memory() -> None:
    for line in (
        "vec![0; count]",
        "Vec::with_capacity(a.len() * size)",
        "out.resize(start + n, 0);",
    ):
        assert list(infallible(line)), line
    for line in ("vec![0; shape.len()]", "// vec![0; count]", "vec![0; 16]", "vec![a, b]"):
        assert not list(infallible(line)), line


# -- panics --------------------------------------------------------------------------------------

# By file: they do no more than ask, check arguments, or run on the pool, which catches panics.
UNCAUGHT = {
    "append.rs": {"new", "put", "stage"},
    "array.rs": {"new", "shape", "chunks", "shards", "grid", "explain"},
    "beneath.rs": {"python", "folder", "exchange"},
    "document.rs": {"read_document", "document_text"},
    "kernels.rs": {"register_alias", "xor_encode", "xor_decode"},
    "limits.rs": {"set_limits"},
    "objects.rs": {"new"},
    "pipeline.rs": {"new"},
    "selected.rs": {"merges"},
}
FOR_PYTHON = re.compile(
    r"^(?P<in> *)(?:pub )?fn (?P<name>\w+)(?:<'py>)?\([^{]*-> (?:Py)?Result<(?P<body>.*?)^(?P=in)\}$",
    re.MULTILINE | re.DOTALL,
)


def for_python(source: str) -> Iterator[tuple[str, str]]:
    """Names and bodies of the functions that Python calls and that can fail."""
    blocks = re.findall(r"^#\[pymethods\]\n.*?^\}$", source, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^#\[pyfunction\]\n.*?^\}$", source, re.MULTILINE | re.DOTALL)
    for block in blocks:
        for found in FOR_PYTHON.finditer(block):
            yield found["name"], found["body"]


def test_no_panic_becomes_an_exception_that_nobody_catches() -> None:
    """PyO3's PanicException is no Exception: `errors::caught` makes errors of panics."""
    uncaught: dict[str, set[str]] = {}
    for path in Path(__file__).parents[1].glob("src/*.rs"):
        for name, body in for_python(path.read_text()):
            if "caught(" not in body:
                uncaught.setdefault(path.name, set()).add(name)
    assert uncaught == UNCAUGHT
