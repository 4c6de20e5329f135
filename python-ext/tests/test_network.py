"""Servers that are no friends: where credentials go, what errors show, and what has bounds."""

from __future__ import annotations

import contextlib
import datetime
import functools
import gzip
import itertools
import random
import re
import ssl
import string
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import tempozarr
from faulty import Answer, Faulty, files, seconds, serving, speaking

pytestmark = pytest.mark.slow

SHARDS, SHARD = 32, 500
ROWS = (np.arange(SHARDS * SHARD * 20) // 7 % 1000).astype("f4").reshape(-1, 20)
QUICK = {"max_retries": 0, "retry_timeout": 10, "timeout": 5}
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one store: `bucket/x`, of shards that are read in parts."""
    root = tmp_path_factory.mktemp("network")
    # Shards that decode to more than the gap between ranges that are one request.
    rows = np.repeat(ROWS, 32, axis=0)
    zarr.create_array(root / "bucket" / "x", data=rows, chunks=(250, 20), shards=(SHARD * 32, 20))
    small = zarr.create_group(root / "bucket" / "group")
    small.create_array("a", data=np.arange(5))
    return root


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "s3": (
        "s3://bucket/x",
        {
            "aws_access_key_id": "access-key-id",
            "aws_secret_access_key": "secret-access-key",
            "aws_session_token": "session-token",
            "region": "eu-west-1",
        },
    ),
    "google": ("gs://bucket/x", {"google_bearer_token": "bearer-token"}),
    "azure_sas": (
        "az://bucket/x",
        {"azure_storage_account_name": "a", "azure_storage_sas_key": "sv=1&sig=signature%3D"},
    ),
    "azure_key": (
        "az://bucket/x",
        {"azure_storage_account_name": "a", "azure_storage_account_key": "c2VjcmV0LWtleQ=="},
    ),
    "azure_token": (
        "az://bucket/x",
        {"azure_storage_account_name": "a", "azure_storage_token": "storage-token"},
    ),
}
ENDPOINT = {"s3": "endpoint", "google": "google_base_url", "azure": "endpoint"}


def options(cloud: str, server: str, **more: Any) -> dict[str, Any]:
    endpoint = ENDPOINT[cloud.partition("_")[0]]
    return SETTINGS[cloud][1] | {endpoint: server, "allow_http": True} | QUICK | more


class Seen(list[tuple[str, str, dict[str, str]]]):
    """What a server was asked: method, path and headers."""

    def by(self, answer: Answer) -> Answer:
        def seeing(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
            self.append((method, path, headers))
            return answer(method, path, headers, body)

        return seeing


def redirecting(status: int, to: Callable[[str], str]) -> Answer:
    def answer(_: str, path: str, __: dict[str, str], ___: bytes) -> Any:
        return status, {"location": to(path), "content-length": "0"}, b""

    return answer


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("cloud", SETTINGS)
def test_credentials_do_not_follow_redirects(cloud: str, status: int, data: Path) -> None:
    there = Seen()
    with serving(Faulty(there.by(files(data)))) as other:
        seen = Seen()
        away = redirecting(status, lambda path: other.url + path.partition("?")[0])
        with serving(Faulty(seen.by(away))) as web:
            url, _ = SETTINGS[cloud]
            with pytest.raises(tempozarr.StoreError) as refused:
                tempozarr.open(url, storage_options=options(cloud, web.url))
            text = str(refused.value)
            assert f"{web.url} redirects to {other.url}, and credentials are not sent" in text
            if cloud == "s3":
                assert seen[0][2]["x-amz-security-token"] == "session-token"
            with pytest.raises(tempozarr.StoreError, match="redirects to"):
                tempozarr.open(f"{url[:-2]}/zarr", storage_options=options(cloud, web.url))
    assert not there


def test_listings_with_credentials_do_not_follow_redirects(data: Path) -> None:
    there, here = Seen(), files(data)
    with serving(Faulty(there.by(files(data)))) as other:

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
            if "list-type" in path:
                return 307, {"location": other.url + path, "content-length": "0"}, b""
            return here(method, path, headers, body)

        with serving(Faulty(answer)) as web:
            group = tempozarr.open_group(
                "s3://bucket/group", storage_options=options("s3", web.url)
            )
            with pytest.raises(tempozarr.StoreError, match="credentials are not sent"):
                list(group)
    assert not there


def test_tokens_are_not_asked_for_elsewhere() -> None:
    """Nor are secrets sent on that buy tokens."""
    there = Seen()
    with serving(Faulty(there.by(redirecting(307, lambda path: path)))) as other:
        seen = Seen()
        with serving(Faulty(seen.by(redirecting(307, lambda path: other.url + path)))) as web:
            metadata = {"aws_metadata_endpoint": web.url, "region": "eu-west-1"} | QUICK
            with pytest.raises(tempozarr.StoreError, match="redirects to"):
                tempozarr.open("s3://bucket/x", storage_options=metadata)
            client = {
                "azure_storage_account_name": "a",
                "azure_client_id": "id",
                "azure_client_secret": "client-secret",
                "azure_tenant_id": "tenant",
                "azure_authority_host": web.url,
                "allow_http": True,
            }
            with pytest.raises(tempozarr.StoreError, match="redirects to"):
                tempozarr.open("az://bucket/x", storage_options=client | QUICK)
            assert {method for method, _, _ in seen} == {"PUT", "POST"}
    assert not there


def test_credentials_stay_where_a_server_redirects_to_itself(data: Path) -> None:
    here = files(data)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        if "/moved/" in path:
            place = path.replace("/moved/", "/x/")
            return 307, {"location": place, "content-length": "0"}, b""
        return here(method, path, headers, body)

    with serving(Faulty(answer)) as web:
        moved = tempozarr.open_array("s3://bucket/moved", storage_options=options("s3", web.url))
        np.testing.assert_array_equal(moved[:5], ROWS[:1].repeat(5, 0))


def test_requests_without_credentials_follow_redirects(data: Path) -> None:
    there = Seen()
    with serving(Faulty(there.by(files(data)))) as other:

        def to(path: str) -> str:
            return other.url.replace("//", "//user:password@") + path + "?signature=secret#here"

        with serving(Faulty(redirecting(302, to))) as web:
            array = tempozarr.open_array(f"{web.url}/bucket/x")
            np.testing.assert_array_equal(array[3:5], ROWS[:1].repeat(2, 0))
            anonymous = {"skip_signature": True, "endpoint": web.url, "allow_http": True}
            array = tempozarr.open_array("s3://bucket/x", storage_options=anonymous | QUICK)
            np.testing.assert_array_equal(array[3:5], ROWS[:1].repeat(2, 0))
    assert there
    sent = {name for _, _, headers in there for name in headers}
    assert sent <= {"accept", "host", "range", "user-agent"}
    assert all(path.endswith("?signature=secret") for _, path, _ in there)


@pytest.mark.parametrize(("times", "message"), [(10, None), (11, "redirects more than 10 times")])
def test_redirects_are_bounded(times: int, message: str | None, data: Path) -> None:
    here = files(data)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        path, _, count = path.partition("?")
        if int(count or 0) < times:
            return 302, {"location": f"{path}?{int(count or 0) + 1}", "content-length": "0"}, b""
        return here(method, path, headers, body)

    with serving(Faulty(answer)) as web:
        context = pytest.raises(tempozarr.StoreError, match=message) if message else None
        with context or contextlib.nullcontext():
            tempozarr.open_array(f"{web.url}/bucket/x", storage_options=QUICK)


@pytest.mark.parametrize("location", ["ftp://host/a", "file:///etc/passwd", "http://", "//"])
def test_redirects_to_what_is_no_http(location: str) -> None:
    with (
        serving(Faulty(redirecting(302, lambda _: location))) as web,
        pytest.raises(tempozarr.StoreError, match="redirects to "),
    ):
        tempozarr.open(f"{web.url}/a", storage_options=QUICK)


def test_encryption_is_not_given_up(data: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2100))
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    style = serialization.PrivateFormat.PKCS8
    file = tmp_path / "server.pem"
    file.write_bytes(key.private_bytes(pem, style, none) + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    there = Seen()
    with serving(Faulty(there.by(files(data)))) as other:

        def talk(connection: Any, request: bytes) -> bool:
            path = request.split()[1].decode()
            connection.sendall(
                f"HTTP/1.1 302 Found\r\nlocation: {other.url}{path}\r\n"
                "content-length: 0\r\n\r\n".encode()
            )
            return True

        with speaking(talk, context) as url:
            trusting = {"allow_invalid_certificates": True} | QUICK
            with pytest.raises(tempozarr.StoreError, match=r"redirects to .* without encryption"):
                tempozarr.open(f"{url}/bucket/x", storage_options=trusting)
            with pytest.raises(tempozarr.StoreError, match="error while connecting"):
                tempozarr.open(f"{url}/bucket/x", storage_options=QUICK)
    assert not there


def test_cookies_are_not_kept(data: Path) -> None:
    seen, here = Seen(), files(data)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        status, found, content = here(method, path, headers, body)
        return status, found | {"set-cookie": "session=1; Path=/"}, content

    with serving(Faulty(seen.by(answer))) as web:
        tempozarr.open_array(f"{web.url}/bucket/x")[:5]
    assert len(seen) > 1
    assert all("cookie" not in headers for _, _, headers in seen)


# Secrets


def shown(job: Callable[[], Any]) -> str:
    """All that somebody sees of a job that fails, or of what it returns."""
    try:
        result = job()
    except (tempozarr.TempozarrError, ValueError, TypeError, OSError) as e:
        error: BaseException | None = e
        parts = ["".join(traceback.format_exception_only(e))]
        while error is not None:
            parts += [
                type(error).__name__,
                str(error),
                repr(error),
                *getattr(error, "__notes__", ()),
            ]
            error = error.__cause__ or error.__context__
        return "\n".join(parts)
    return f"{result!r} {result}"


def secrets(seed: int, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.Random(f"{seed} {length}").choices(alphabet, k=length))


# Options of which nothing is shown, whatever they hold.
SECRET = {
    "s3": [
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_token",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "token",
        "aws_sse_customer_key_base64",
        "aws_sse_kms_key_id",
        "aws_server_side_encryption",
        "aws_container_credentials_relative_uri",
        "aws_web_identity_token_file",
        "aws_checksum_algorithm",
        "aws_skip_signature",
        "proxy_ca_certificate",
    ],
    "google": [
        "google_bearer_token",
        "bearer_token",
        "google_service_account",
        "google_service_account_key",
        "google_application_credentials",
        "service_account_key",
        "google_skip_signature",
    ],
    "azure": [
        "azure_storage_account_key",
        "azure_storage_access_key",
        "azure_storage_master_key",
        "azure_storage_sas_key",
        "azure_storage_sas_token",
        "azure_storage_token",
        "bearer_token",
        "access_key",
        "sas_token",
        "azure_client_secret",
        "azure_storage_client_secret",
        "azure_storage_encryption_key",
        "azure_fabric_session_token",
        "azure_federated_token_file",
        "azure_credential_type",
        "azure_skip_signature",
    ],
}
TOKENS = {
    "azure_client_id": "client",
    "azure_tenant_id": "tenant",
    "azure_authority_host": "http://127.0.0.1:1",
}
CLOUD = {"s3": "s3", "google": "google", "azure": "azure_sas"}


def repeating(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
    """Answer with all that was sent, with the status that the path asks for."""
    said = f"{method} {path} {headers} {body!r}".replace("\n", " ").encode("ascii", "replace")
    flat = said.decode()
    status = int(path.partition("status")[2][:3] or 403)
    head = {"content-length": str(len(said)), "etag": flat, "x-said": flat}
    if status == 206 or "range" in headers:
        head["content-range"] = f"bytes {flat}/100"
    if status == 200:
        head["last-modified"] = flat
    return status, head, said


@pytest.fixture(scope="module")
def echo() -> Iterator[Faulty]:
    with serving(Faulty(repeating)) as server:
        yield server


STATUSES = (200, 206, 302, 400, 401, 403, 404, 409, 416)


@pytest.mark.parametrize(
    ("cloud", "name"), [(cloud, name) for cloud in SECRET for name in SECRET[cloud]]
)
def test_no_option_shows_in_errors(cloud: str, name: str, echo: Faulty) -> None:
    """What errors say is the same for any two secrets of a length, whatever servers say."""
    url = SETTINGS[CLOUD[cloud]][0]
    for length in range(1, 41):
        status = STATUSES[length % len(STATUSES)]
        for more in ({}, TOKENS) if cloud == "azure" else ({},):
            told = set()
            for seed in range(2):
                given = options(CLOUD[cloud], echo.url) | more | {name: secrets(seed, length)}
                if more and name not in {"azure_storage_sas_key", "sas_token"}:
                    del given["azure_storage_sas_key"]
                place = f"{url}/status{status}"
                said = shown(functools.partial(tempozarr.open, place, storage_options=given))
                # Of several documents, any may be the first to fail.
                told.add(re.sub(r"\.z(array|group|attrs|metadata)", ".z", said))
            assert len(told) == 1, told
            assert "Error" in next(iter(told))


@pytest.mark.parametrize(
    "account",
    [
        "{secret}",
        '{{"private_key": "{secret}"}}',
        '{{"private_key": ["{secret}"]}}',
        '{{"type": "{secret}", "client_email": "{secret}"}}',
        '{{"private_key": "{secret}", "private_key_id": "k", "client_email": "{secret}"}}',
        (
            '{{"client_email": "e", "private_key_id": "k", "private_key": "-----BEGIN PRIVATE KEY-----\\n'
            '{secret}\\n-----END PRIVATE KEY-----\\n"}}'
        ),
        (
            '{{"gcs_base_url": "http://{secret}@127.0.0.1", "disable_oauth": true, "client_email": "", '
            '"private_key": "", "private_key_id": ""}}'
        ),
        (
            '{{"client_id": "{secret}", "client_secret": "{secret}", "refresh_token": 1, "type": '
            '"authorized_user"}}'
        ),
        '{{"client_email": "e", "private_key": 1{secret}',
    ],
)
def test_malformed_service_accounts(account: str, tmp_path: Path, echo: Faulty) -> None:
    for length in range(1, 41, 3):
        told = set()
        for seed in range(2):
            text = account.format(secret=secrets(seed, length))
            (tmp_path / "account.json").write_text(text)
            for given in (
                {"google_service_account": str(tmp_path / "account.json")},
                {"google_service_account_key": text},
                {"google_application_credentials": str(tmp_path / "account.json")},
            ):
                more = {"google_base_url": echo.url, "allow_http": True} | QUICK | given
                said = shown(
                    functools.partial(tempozarr.open, "gs://bucket/x", storage_options=more)
                )
                assert "Error" in said
                told.add((next(iter(given)), said))
        assert len(told) == 3, told


SOURCES = [
    "ftp://user:{secret}@127.0.0.1:1/a?token={secret}",
    "FTP://{secret}@127.0.0.1:1/",
    " https://user:{secret}@host/a",
    "https:/user:{secret}@host/a?token={secret}",
    "s3:/{secret}@bucket",
    "nonsense://host/?password={secret}#{secret}",
    "simplecache::s3://{secret}@bucket",
    "s3://user:{secret}@bucket/a",
    "s3://{secret}@bucket/a",
    "gs://{secret}@bucket/a",
    "https://{secret}@host/a",
    "https://host/a?token={secret}",
    "https://host/a#{secret}",
    "s3://bucket/a?X-Amz-Signature={secret}",
    "abfss://container:{secret}@account.dfs.core.windows.net/a",
    "https://[{secret}",
    "http://user:{secret}@:99999/",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("how", ["open", "path", "loader", "writer", "copy", "options", "info"])
def test_no_url_shows_its_secrets(source: str, how: str, tmp_path: Path) -> None:
    def job(text: str) -> Any:
        match how:
            case "open":
                return tempozarr.open(text)
            case "path":
                return tempozarr.open(Path(text))
            case "loader":
                return tempozarr.WindowLoader([text], {"x": "x"}, length=1, batch_size=1)
            case "writer":
                return tempozarr.Writer(text, mode="a")
            case "copy":
                return tempozarr.copy(text, tmp_path / "copy")
            case "options":
                return tempozarr.open(text, storage_options={"region": "a", "timeout": "1s"})
            case _:
                return tempozarr.info(text)

    for length in (1, 2, 5, 8, 20, 40):
        told = {
            shown(functools.partial(job, source.format(secret=secrets(seed, length))))
            for seed in range(2)
        }
        assert len(told) == 1, told
        assert "Error" in next(iter(told))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "http://{secret}@{host}"),
        ("endpoint", "http://u:{secret}@{host}"),
        ("endpoint", "http://{host}?sig={secret}"),
        ("endpoint", "{secret}"),
        ("proxy_url", "http://u:{secret}@{host}"),
        ("proxy_url", "http://u:{secret}@127.0.0.1:1"),
        ("aws_metadata_endpoint", "http://u:{secret}@{host}"),
        ("aws_endpoint_url_sts", "http://u:{secret}@{host}"),
    ],
)
def test_no_endpoint_shows_its_secrets(name: str, value: str, echo: Faulty) -> None:
    host = echo.url.removeprefix("http://")
    for length in (1, 3, 8, 24):
        told = set()
        for seed in range(2):
            given = options("s3", echo.url) | {
                name: value.format(secret=secrets(seed, length), host=host)
            }
            if name == "aws_metadata_endpoint":
                for key in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
                    del given[key]
            told.add(
                shown(functools.partial(tempozarr.open, "s3://bucket/x", storage_options=given))
            )
        assert len(told) == 1, told


def test_a_host_that_repeats_what_was_sent_is_not_named() -> None:
    def answer(_: str, __: str, headers: dict[str, str], ___: bytes) -> Any:
        token = headers["x-amz-security-token"]
        return 302, {"location": f"http://{token}.example/", "content-length": "0"}, b""

    with serving(Faulty(answer)) as web:
        for token in ("sessiontoken1", "Session-Token-Longer"):
            given = options("s3", web.url, aws_session_token=token)
            said = shown(functools.partial(tempozarr.open, "s3://b/x", storage_options=given))
            assert "credentials are not sent" in said
            assert token.lower() not in said.lower()


def test_credentials_that_headers_cannot_have() -> None:
    for name in ("aws_session_token", "aws_access_key_id"):
        for text in ("line\n", "\x00", "ключ"):
            given = options("s3", "http://127.0.0.1:1") | {name: text}
            with pytest.raises((tempozarr.StoreError, ValueError)) as error:
                tempozarr.open("s3://bucket/x", storage_options=given)
            assert text.strip("\n") not in str(error.value).replace("line break", "")


def test_what_is_opened_shows_no_options(data: Path) -> None:
    with serving(Faulty(files(data))) as web:
        given = options("s3", web.url)
        array = tempozarr.open_array("s3://bucket/x", storage_options=given)
        group = tempozarr.open_group("s3://bucket/group", storage_options=given)
        texts = [f"{x!r} {x}" for x in (array, group, array.explain(), array.stats())]
        root: Any = array._root
        texts += [repr(root), str(root), repr(root.core)]
        for key in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            assert given[key] not in " ".join(texts)


# Ranges


@pytest.mark.parametrize("ends", ["keeps", "closes", "resets"])
def test_servers_that_ignore_ranges(ends: str, data: Path) -> None:
    """They may also answer HEAD with a body, which nobody may take for the next answer."""
    heads = []

    def talk(connection: Any, request: bytes) -> bool:
        method, path, *_ = request.decode().split()
        heads.extend([method] if method != "GET" else [])
        file = data / path.lstrip("/")
        body = file.read_bytes() if file.is_file() else b""
        status = "200 OK" if file.is_file() else "404 Not Found"
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        for start in range(0, len(body), 5000):
            connection.sendall(body[start : start + 5000])
        return ends == "keeps"

    rows = np.arange(3, len(ROWS) * 32, SHARD * 32)
    with speaking(talk) as url:
        for _ in range(3):
            array = tempozarr.open_array(f"{url}/bucket/x")
            np.testing.assert_array_equal(array.oindex[rows], ROWS[rows // 32])
            np.testing.assert_array_equal(array[5:15], ROWS[:1].repeat(10, 0))
    assert not heads


@pytest.mark.parametrize("cloud", ["s3", "google", "azure_sas"])
def test_clouds_that_ignore_ranges(cloud: str, data: Path) -> None:
    seen = Seen()
    with serving(Faulty(seen.by(files(data, ranges=False)))) as web:
        url, _ = SETTINGS[cloud]
        array = tempozarr.open_array(url, storage_options=options(cloud, web.url))
        np.testing.assert_array_equal(array[3:5], ROWS[:1].repeat(2, 0))
    assert all(method == "GET" for method, _, _ in seen)


@pytest.mark.parametrize(
    "junk", [b"junk", b"\x00" * 20, b"HTTP/1.1 200", b"HTTP/9.9 200 OK\r\n\r\n"]
)
def test_what_comes_behind_an_answer_is_no_answer(junk: bytes, data: Path) -> None:
    """A connection that is out of step is given up, and the request sent again."""
    turn = itertools.count()

    def talk(connection: Any, request: bytes) -> bool:
        path = request.decode().split()[1]
        file = data / path.lstrip("/")
        if next(turn) % 2:
            connection.sendall(junk)
            return False
        body = file.read_bytes() if file.is_file() else b""
        status = "200 OK" if file.is_file() else "404 Not Found"
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return True

    with speaking(talk) as url:
        array = tempozarr.open_array(f"{url}/bucket/x", storage_options={"concurrency": 1})
        np.testing.assert_array_equal(array[:5], ROWS[:1].repeat(5, 0))


# Bounds


class Endless:
    """Answers with a head, and then a piece again and again, as long as somebody reads."""

    def __init__(self, head: bytes, piece: bytes, pause: float = 0.0) -> None:
        self.head, self.piece, self.pause = head, piece, pause
        self.sent = 0
        self.closing = threading.Event()

    def __call__(self, connection: Any, request: bytes) -> bool:
        del request
        connection.settimeout(20)
        connection.sendall(self.head)
        while not self.closing.is_set():
            connection.sendall(self.piece)
            self.sent += len(self.piece)
            self.closing.wait(self.pause)
        return False


def chunked(status: str, content: bytes) -> tuple[bytes, bytes]:
    head = f"HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode(), b"%x\r\n%s\r\n" % (len(content), content)


SPACES = b" " * MEBIBYTE


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        (chunked("200 OK", SPACES), 32),  # of unknown length
        (chunked("403 Forbidden", SPACES), 32),
        (chunked("500 Oops", SPACES), 32),
        (chunked("404 Not Found", SPACES), 32),
        ((b"HTTP/1.1 200 OK\r\n", b"x-header: " + b"a" * 1000 + b"\r\n"), 32),
        ((b"HTTP/1.1 200 OK\r\nx-header: ", SPACES), 32),
        # They are read and forgotten until the time is up.
        ((b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000), 1 << 20),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 60), SPACES), 32),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999999999\r\n\r\n", SPACES), 32),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", SPACES), 32),
        ((b"HTTP/1.1 302 Found\r\nlocation: /a\r\n", b"x: " + b"a" * 1000 + b"\r\n"), 64),
    ],
)
def test_answers_without_an_end(answer: tuple[bytes, bytes], most: int) -> None:
    endless = Endless(*answer)
    try:
        with speaking(endless) as url:
            limits = {"max_retries": 0, "timeout": 2, "retry_timeout": 4}

            def read() -> None:
                with pytest.raises(tempozarr.TempozarrError):
                    tempozarr.open(f"{url}/a", storage_options=limits)

            assert seconds(read) < 20
    finally:
        endless.closing.set()
    assert endless.sent < most * MEBIBYTE


def test_slow_answers_end() -> None:
    endless = Endless(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b" ", 0.05)
    try:
        with speaking(endless) as url:
            limits = {"max_retries": 1, "timeout": 0.5, "retry_timeout": 3}

            def read() -> None:
                with pytest.raises(tempozarr.StoreError, match=r"took longer|no complete answer"):
                    tempozarr.open(f"{url}/a", storage_options=limits)

            assert seconds(read) < 10
    finally:
        endless.closing.set()


def _page(names: str, token: str) -> bytes:
    return (
        f"<ListBucketResult><IsTruncated>true</IsTruncated>{names}"
        f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
    ).encode()


def test_listings_are_bounded(data: Path) -> None:
    here = files(data)
    prefix = "<CommonPrefixes><Prefix>group/{}/</Prefix></CommonPrefixes>"
    many = "".join(prefix.format(f"a{i:0>1000}") for i in range(4000))
    pages = itertools.count()

    def listing(path: str) -> Any:
        page = _page(
            many if "%2Fgroup" not in path and large else prefix.format("a"), str(next(pages))
        )
        return 200, {"content-length": str(len(page))}, page

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        return listing(path) if "list-type" in path else here(method, path, headers, body)

    with serving(Faulty(answer)) as web:
        given = options("s3", web.url, retry_timeout=30)
        for large, message in ((True, "more than 67108864 bytes"), (False, "no complete answer")):
            if not large:
                given["retry_timeout"] = 1
            group = tempozarr.open_group("s3://bucket/group", storage_options=given)
            with pytest.raises(tempozarr.StoreError, match=message):
                list(group)
            assert next(pages) < (100 if large else 100_000)


def test_documents_are_bounded() -> None:
    endless = Endless(b"HTTP/1.1 207 Multi\r\ncontent-type: text/xml\r\n\r\n", SPACES)

    def talk(connection: Any, request: bytes) -> bool:
        if request.startswith(b"PROPFIND"):
            return endless(connection, request)
        document = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(document)
        connection.sendall(head + document)
        return True

    with speaking(talk) as url:
        group = tempozarr.open_group(
            f"{url}/a", storage_options=QUICK | {"timeout": 60, "retry_timeout": 60}
        )
        with pytest.raises(tempozarr.StoreError, match="more than 67108864 bytes"):
            list(group)
    assert endless.sent < 96 * MEBIBYTE
    with (
        serving(Faulty(lambda *_: (200, {"content-length": str(1 << 30)}, b""))) as web,
        pytest.raises(tempozarr.StoreError, match="expected no more than 67108864 bytes"),
    ):
        tempozarr.open(f"{web.url}/a", storage_options=QUICK)


def test_answers_are_not_decompressed() -> None:
    seen = Seen()
    bomb = gzip.compress(bytes(64 * MEBIBYTE))

    def answer(*_: Any) -> Any:
        return 200, {"content-length": str(len(bomb)), "content-encoding": "gzip"}, bomb

    with (
        serving(Faulty(seen.by(answer))) as web,
        pytest.raises(tempozarr.MetadataError, match="expected JSON in"),
    ):
        tempozarr.open(f"{web.url}/a", storage_options=QUICK)
    assert all("accept-encoding" not in headers for _, _, headers in seen)


def test_announced_bytes_are_not_allocated_at_once(data: Path) -> None:
    """Only what comes is: many answers that announce much and send little are small."""
    here = files(data, ranges=False)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        status, found, content = here(method, path, headers, body)
        if "/c/" in path:
            found["content-length"] = str(30 * MEBIBYTE)
        return status, found, content

    with serving(Faulty(answer)) as web:
        limits = {"max_retries": 0, "timeout": 0.5, "retry_timeout": 2}
        array = tempozarr.open_array(f"{web.url}/bucket/x", storage_options=limits)
        with pytest.raises(tempozarr.StoreError):
            array[...]
