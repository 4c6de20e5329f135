"""Stores at URLs: a real S3 server, static HTTP servers, and what goes wrong between."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from moto.server import ThreadedMotoServer

import tempozarr
from conftest import ARRAYS, equal
from faulty import Faulty, closed_port, files, forwarding, seconds, serving

SHARDS, SHARD = 32, 16000
BUCKET = "bucket"
SECRET = "correct-horse-battery"
KEYS = {"aws_access_key_id": "test-key-id", "aws_secret_access_key": SECRET, "region": "us-east-1"}
ROWS = (np.arange(SHARDS * SHARD * 20) // 7 % 1000).astype("f4").reshape(-1, 20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, stores: Path) -> Path:
    """A folder with what is stored in the bucket."""
    root = tmp_path_factory.mktemp("objects")
    shutil.copytree(stores, root / "all")
    (root / "all" / "one" / "c" / "1").unlink()  # of fill values
    group = zarr.create_group(root / "big")
    group.create_array("x", data=ROWS, chunks=(250, 20), shards=(SHARD, 20))
    group.attrs["made"] = "by test"
    for version in (2, 3):
        folder = root / f"consolidated{version}"
        one = zarr.create_group(folder, zarr_format=version)
        one.create_array("a", data=np.arange(5), attributes={"unit": "s"})
        one.create_group("b").create_array("c", data=np.arange(6))
        zarr.consolidate_metadata(folder)
    return root


def put(port: int, path: str, content: bytes = b"") -> None:
    """Store an object, or make a bucket; the server asks nobody who they are."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", path, content)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.fixture(scope="module")
def moto(data: Path) -> Iterator[int]:
    """Port of an S3 server whose bucket has all that."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    put(port, f"/{BUCKET}")
    for file in data.rglob("*"):
        if file.is_file():
            put(port, f"/{BUCKET}/{file.relative_to(data).as_posix()}", file.read_bytes())
    yield port
    server.stop()


@pytest.fixture
def s3(moto: int) -> Iterator[Faulty]:
    with serving(Faulty(forwarding(moto))) as faulty:
        yield faulty


@pytest.fixture
def web(data: Path) -> Iterator[Faulty]:
    with serving(Faulty(files(data))) as faulty:
        yield faulty


def options(server: Faulty, **more: Any) -> dict[str, Any]:
    return KEYS | {"endpoint": server.url, "allow_http": True} | more


def big(server: Faulty, **more: Any) -> tempozarr.Array:
    url = f"s3://{BUCKET}/big/x"
    return tempozarr.open_array(url, storage_options=options(server, **more))


def by_shard(server: Faulty) -> dict[str, int]:
    return {path: n for path, n in server.gets.items() if "/c/" in path}


def test_whole_reads_are_one_request_per_shard_side_by_side(s3: Faulty) -> None:
    s3.latency = 0.02
    array = big(s3)
    s3.forget()
    np.testing.assert_array_equal(array[...], ROWS)
    counts = by_shard(s3)
    assert len(counts) == SHARDS
    assert max(counts.values()) <= 2
    assert s3.most >= 16
    assert array.stats().bytes_read < ROWS.nbytes


def test_parts_of_shards_are_an_index_and_a_range(s3: Faulty) -> None:
    s3.latency = 0.02
    array = big(s3)
    s3.forget()
    rows = np.arange(3, len(ROWS), SHARD)
    np.testing.assert_array_equal(array.oindex[rows], ROWS[rows])
    assert set(by_shard(s3).values()) == {2}
    assert s3.most >= 16
    fetched = array.stats().bytes_read
    whole = big(s3)
    whole.read()
    assert fetched < whole.stats().bytes_read / 4
    s3.forget()
    np.testing.assert_array_equal(array.oindex[rows + 500], ROWS[rows + 500])
    assert set(by_shard(s3).values()) == {1}  # the index is known


def test_concurrency_is_an_option(s3: Faulty) -> None:
    s3.latency = 0.02
    array = big(s3, concurrency=3)
    s3.forget()
    np.testing.assert_array_equal(array[...], ROWS)
    assert s3.most == 3


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_reads_as_from_files(name: str, s3: Faulty, data: Path) -> None:
    # `one` lacks a chunk here.
    here = tempozarr.open_array(data / "all" / name)
    url = f"s3://{BUCKET}/all/{name}"
    there = tempozarr.open_array(url, storage_options=options(s3), cache_bytes=1 << 20)
    assert there.metadata == here.metadata
    assert (there.shape, there.dtype, there.chunks) == (here.shape, here.dtype, here.chunks)
    assert str(there.explain()) == str(here.explain())
    for _ in range(2):  # from the cache, the second time
        equal(there[...], here[...])
        if here.ndim and len(here):
            rows = [0, len(here) - 1, len(here) // 2]
            for selection in (slice(1, None, 2), -1, slice(2, 4)):
                equal(there[selection], here[selection])
            equal(there.oindex[rows], here.oindex[rows])
            points = tuple(np.array(rows) % length for length in here.shape)
            equal(there.vindex[points], here.vindex[points])
            equal(there.windows([0, 2, 1], 2), here.windows([0, 2, 1], 2))
    if here.dtype.kind not in "TO":
        out = np.empty(here.shape, here.dtype)
        assert there.read(out=out) is out
        equal(out, here.read(out=np.empty_like(out)))


def test_groups(s3: Faulty, data: Path) -> None:
    there = tempozarr.open_group(f"s3://{BUCKET}/all", storage_options=options(s3))
    here = tempozarr.open_group(data / "all")
    assert list(there) == list(here)
    assert [name for name, _ in there.members()] == sorted(ARRAYS)
    assert dict(there.arrays()).keys() == dict(here.arrays()).keys()
    assert there.tree() == here.tree()
    assert "one" in there
    assert "nothing" not in there
    equal(np.asarray(there["one"]), np.asarray(here["one"]))
    with pytest.raises(
        KeyError, match="no array or group 'nothing' in s3://bucket/all; it has big"
    ):
        there["nothing"]
    big = tempozarr.open(f"s3://{BUCKET}/big/", storage_options=options(s3))
    assert dict(big.attrs) == {"made": "by test"}
    assert repr(big) == "<tempozarr.Group s3://bucket/big: x>"


@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_are_one_document(version: int, web: Faulty) -> None:
    group = tempozarr.open_group(f"{web.url}/consolidated{version}")
    web.forget()
    assert list(group) == ["a", "b"]
    assert list(group["b"]) == ["c"]
    assert group["a"].attrs == {"unit": "s"}
    assert not web.gets
    np.testing.assert_array_equal(group["b/c"], np.arange(6))
    again = pickle.loads(pickle.dumps(group))
    assert list(again) == ["a", "b"]
    assert again == group


def test_a_server_that_does_not_list(web: Faulty) -> None:
    group = tempozarr.open_group(f"{web.url}/big")
    np.testing.assert_array_equal(group["x"], ROWS)
    assert "what its store does not list" in repr(group)
    with pytest.raises(tempozarr.StoreError, match="consolidate the metadata, or open arrays by"):
        list(group)


def test_an_open_array_is_fetched_once_if_there_is_room(s3: Faulty) -> None:
    url = f"s3://{BUCKET}/big/x"
    array = tempozarr.open_array(url, storage_options=options(s3), cache_bytes=ROWS.nbytes)
    starts = np.arange(0, SHARD * 2, 900)
    windows = array.windows(starts, 100)
    s3.forget()
    np.testing.assert_array_equal(array.windows(starts, 100), windows)
    np.testing.assert_array_equal(windows[1], ROWS[900:1000])
    assert not s3.gets
    stats = array.stats()
    assert stats.hits
    assert stats.read_seconds > 0


def test_pickled_arrays_know_their_options(s3: Faulty) -> None:
    array = big(s3)
    again = pickle.loads(pickle.dumps(array))
    assert again == array
    assert hash(again) == hash(array)
    np.testing.assert_array_equal(again[-3:], ROWS[-3:])


@pytest.mark.parametrize("seed", range(4))
def test_faults_of_one_request_in_twenty_do_not_show(s3: Faulty, seed: int) -> None:
    array = big(s3, timeout=1, max_retries=8)
    rows = np.arange(3, len(ROWS), SHARD)
    s3.rate, s3.seed = 0.05, seed
    s3.__post_init__()
    for _ in range(3):
        np.testing.assert_array_equal(array[...], ROWS)
        np.testing.assert_array_equal(big(s3, timeout=1).oindex[rows], ROWS[rows])
    assert s3.injected


@pytest.mark.parametrize("fault", ["500", "503", "truncate", "drop", "stall"])
@pytest.mark.parametrize("tags", [True, False])
def test_a_server_that_always_fails_is_an_error_in_time(data: Path, fault: str, tags: bool) -> None:
    with serving(Faulty(files(data, tags=tags), faults=(fault,))) as web:
        array = tempozarr.open_array(
            f"{web.url}/big/x",
            storage_options={"timeout": 0.3, "max_retries": 2, "retry_timeout": 4},
        )
        web.rate = 1.0

        def read() -> None:
            with pytest.raises(tempozarr.StoreError, match=rf"{web.url}/big/x/c/\d+/0: "):
                array[...]

        assert seconds(read) < 20
        web.rate = 0.0
        np.testing.assert_array_equal(array[:10], ROWS[:10])


def test_nobody_answers() -> None:
    url = f"http://127.0.0.1:{closed_port()}/a"
    with pytest.raises(tempozarr.StoreError, match=f"{url}/zarr.json: .*error"):
        tempozarr.open(url, storage_options={"max_retries": 1})


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_static_servers(data: Path, ranges: bool, tags: bool) -> None:
    with serving(Faulty(files(data, ranges=ranges, tags=tags))) as web:
        array = tempozarr.open_array(f"{web.url}/big/x")
        rows = np.arange(3, len(ROWS), SHARD)
        np.testing.assert_array_equal(array.oindex[rows], ROWS[rows])
        np.testing.assert_array_equal(array[5:15], ROWS[5:15])
        np.testing.assert_array_equal(array[...], ROWS)
        one = tempozarr.open_array(f"{web.url}/all/one")
        np.testing.assert_array_equal(one[...], tempozarr.open_array(data / "all" / "one")[...])


def test_other_lengths_than_announced(data: Path) -> None:
    """A range of other bytes than those asked for, and more bytes than can be."""
    honest = files(data)
    lie: dict[str, str] = {}

    def lying(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        status, found, content = honest(method, path, headers, body)
        return status, found | (lie if "/c/" in path else {}), content

    with serving(Faulty(lying)) as web:
        options = {"max_retries": 1, "retry_timeout": 5, "timeout": 0.5}
        array = tempozarr.open_array(f"{web.url}/big/x", storage_options=options)
        for header in ({"content-range": "bytes 0-9/10"}, {"content-length": str(1 << 60)}):
            lie.clear()
            lie.update(header)
            with pytest.raises(tempozarr.StoreError):
                array[3]
        with pytest.raises(tempozarr.StoreError, match=r"no more than .* the server announces"):
            array[...]


def test_a_shard_that_is_replaced_is_read_anew(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "big", tmp_path / "big")
    with serving(Faulty(files(tmp_path))) as web:
        array = tempozarr.open_array(f"{web.url}/big/x")
        np.testing.assert_array_equal(array[3:5], ROWS[3:5])  # the index is kept
        changed = np.random.default_rng(0).random((SHARD, 20)).astype("f4")
        zarr.open_array(tmp_path / "big/x", mode="r+")[:SHARD] = changed
        np.testing.assert_array_equal(array[9000:9005], changed[9000:9005])


def test_a_corrupt_index_is_an_error(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "big" / "x", tmp_path / "x")
    shard = tmp_path / "x" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-7])
    with serving(Faulty(files(tmp_path))) as web:
        with pytest.raises(tempozarr.CodecError, match=f"{web.url}/x/c/0/0"):
            tempozarr.open_array(f"{web.url}/x")[3]
        shard.write_bytes(b"short")
        with pytest.raises(tempozarr.CodecError, match="too short to hold its index"):
            tempozarr.open_array(f"{web.url}/x")[3]


def _sum(array: tempozarr.Array) -> float:
    return float(array[:100].sum())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_have_requests_of_their_own(web: Faulty) -> None:
    array = tempozarr.open_array(f"{web.url}/big/x")
    expected = _sum(array)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_sum, [array] * 4).get(60) == [expected] * 4
    assert _sum(array) == expected


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_ends_a_read_that_waits(data: Path) -> None:
    with serving(Faulty(files(data), faults=("stall",), stall=120)) as web:
        code = (
            "import tempozarr\n"
            f"array = tempozarr.open_array('{web.url}/big/x')\n"
            "print('open', flush=True)\n"
            "input()\n"
            "print('reading', flush=True)\n"
            "array[...]\n"
        )
        command = [sys.executable, "-c", code]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, text=True, **pipes) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "open\n"
            web.rate = 1.0
            web.forget()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "reading\n"
            while not web.gets:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=25)  # a request would wait for 30 seconds
        assert "KeyboardInterrupt" in error


def test_loaders_take_urls(s3: Faulty, data: Path) -> None:
    url = f"s3://{BUCKET}/big"
    settings: dict[str, Any] = {"length": 64, "batch_size": 16, "stride": 4000, "shuffle": "chunk"}
    there = tempozarr.WindowLoader([url], {"x": "x"}, **settings, storage_options=options(s3))
    here = tempozarr.WindowLoader([data / "big"], {"x": "x"}, **settings)
    for ours, theirs in zip(there, here, strict=True):
        np.testing.assert_array_equal(ours["x"], theirs["x"])
    group = tempozarr.open(url, storage_options=options(s3))
    mixed = tempozarr.WindowLoader([group, data / "big"], {"x": "x"}, **settings)
    twice = tempozarr.WindowLoader([data / "big", data / "big"], {"x": "x"}, **settings)
    for ours, theirs in zip(mixed, twice, strict=True):
        np.testing.assert_array_equal(ours["x"], theirs["x"])


def test_copies_of_urls(s3: Faulty, tmp_path: Path) -> None:
    group = tempozarr.open(f"s3://{BUCKET}/consolidated3", storage_options=options(s3))
    report = tempozarr.copy(group, tmp_path / "copy", verify=True)
    assert report.rows == 11
    copied = tempozarr.open_group(tmp_path / "copy")
    np.testing.assert_array_equal(copied["b/c"], np.arange(6))
    assert copied.metadata["consolidated_metadata"]
    strings = tempozarr.open(f"s3://{BUCKET}/all/strings", storage_options=options(s3))
    with pytest.raises(tempozarr.StoreError, match="expected an array with rows that Rust copies"):
        tempozarr.copy(strings, tmp_path / "strings")


def test_google(data: Path) -> None:
    with serving(Faulty(files(data.parent))) as web:
        account = {"gcs_base_url": web.url, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        url = f"gs://{data.name}/big/x"
        secret = {"google_service_account_key": json.dumps(account), "allow_http": True}
        array = tempozarr.open_array(url, storage_options=secret)
        np.testing.assert_array_equal(array[3:5], ROWS[3:5])
        assert f"/{data.name}/big/x/c/0/0" in web.gets


def test_azure(data: Path) -> None:
    """Which has no ranges from the end."""
    with serving(Faulty(files(data.parent))) as web:
        array = tempozarr.open_array(
            f"az://{data.name}/big/x",
            storage_options={
                "azure_storage_account_name": "account",
                "endpoint": web.url,
                "skip_signature": True,
                "allow_http": True,
            },
        )
        np.testing.assert_array_equal(array[3:5], ROWS[3:5])
        assert f"/{data.name}/big/x/c/0/0" in web.gets


def test_the_environment_is_read(s3: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT", s3.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    array = tempozarr.open_array(f"s3://{BUCKET}/big/x")
    np.testing.assert_array_equal(array[:2], ROWS[:2])


def test_secrets_are_not_shown(data: Path) -> None:
    def refusing(_: str, path: str, headers: dict[str, str], __: bytes) -> Any:
        text = f"<Error><Code>AccessDenied</Code>{path} {headers} {SECRET} test-key-id</Error>"
        return 403, {"content-length": str(len(text))}, text.encode()

    with serving(Faulty(refusing)) as server:
        with pytest.raises(tempozarr.StoreError) as denied:
            tempozarr.open(f"s3://{BUCKET}/a", storage_options=options(server))
        text = str(denied.value)
        assert f"s3://{BUCKET}/a/zarr.json: access is denied; pass credentials" in text
        assert SECRET not in text
        assert "test-key-id" not in text
    with serving(Faulty(files(data))) as web:
        array = tempozarr.open_array(f"{web.url}/big/x", storage_options={"user_agent": "me"})
        assert "me" not in repr(array).replace("tempozarr", "")


def test_a_bucket_that_does_not_exist(s3: Faulty) -> None:
    with pytest.raises(tempozarr.StoreError, match=r"s3://nobody/a/zarr.json: .*NoSuchBucket"):
        tempozarr.open("s3://nobody/a", storage_options=options(s3))


@pytest.mark.parametrize(
    ("url", "more", "text"),
    [
        (
            "s3://bucket/a",
            {"foo": 1},
            'there is no storage option "foo" for AmazonS3; expected one',
        ),
        ("s3://bucket/a", {"timeout": "soon"}, 'failed to parse "soon" as Duration'),
        ("s3://bucket/a", {"user_agent": "a\nb"}, "user_agent: expected what a header can hold"),
        (
            "s3://bucket/a",
            {"skip_signature": "maybe"},
            "option skip_signature: it has a value that",
        ),
        ("s3://bucket/a", {"pool_max_idle_per_host": "x"}, 'failed to parse "x" as integer'),
        ("s3://bucket/a", {"max_retries": "few"}, 'max_retries: expected a number, got "few"'),
        ("s3://bucket/a", {"retry_timeout": "x"}, "retry_timeout: expected a duration such as"),
        ("s3://bucket/a?b=1", {}, "expected a URL without '?' and '#'"),
        ("https://me:secret@host/a", {}, "expected a URL without a user or a password"),
        ("s3://", {}, "s3://: "),
    ],
)
def test_urls_and_options_that_cannot_be_used(url: str, more: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("?", r"\?")) as error:
        tempozarr.open(url, storage_options=KEYS | more if "s3" in url else more)
    assert "secret@" not in str(error.value)


def test_urls_are_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(tempozarr.StoreError, match="expected a local folder to write to, got s3:"):
        tempozarr.Writer("s3://bucket/a", mode="a")
    with pytest.raises(ValueError, match="storage_options: expected a URL such as"):
        tempozarr.open(tmp_path, storage_options={"region": "x"})
