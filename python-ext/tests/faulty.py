"""A server on loopback that is as slow and unreliable as asked, and counts what it is asked."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Response = tuple[int, dict[str, str], bytes]
Answer = Callable[[str, str, dict[str, str], bytes], Response]

FAULTS = ("500", "503", "truncate", "drop", "stall")


@dataclass
class Faulty:
    """What the server does, and what it was asked."""

    answer: Answer
    latency: float = 0.0
    rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    seed: int = 0
    stall: float = 2.0  # seconds, longer than the reader's timeout
    url: str = ""
    gets: Counter[str] = field(default_factory=Counter)
    injected: int = 0
    most: int = 0  # in flight
    _flying: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(self.seed)
        self.closing = threading.Event()

    @contextlib.contextmanager
    def counted(self, method: str, path: str) -> Iterator[str | None]:
        """Count a request until it is answered; the fault that it gets, if any."""
        with self._lock:
            self._flying += 1
            self.most = max(self.most, self._flying)
            self.gets[path] += method == "GET"
            fault = None
            if method == "GET" and self._random.random() < self.rate:
                self.injected += 1
                fault = self._random.choice(self.faults)
        try:
            yield fault
        finally:
            with self._lock:
                self._flying -= 1

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self.gets.clear()
            self.injected = self.most = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faulty: Faulty

    def do_GET(self) -> None:
        faulty = self.faulty
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with faulty.counted(self.command, unquote(self.path.partition("?")[0])) as fault:
            faulty.closing.wait(faulty.latency)
            if fault == "stall":
                faulty.closing.wait(faulty.stall)
            if fault in {"drop", "stall"}:
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            response = faulty.answer(self.command, self.path, headers, body)
        # Once the client has all of it, it may ask for more: the request is counted no longer.
        try:
            if fault in {"500", "503"}:
                self._send(int(fault), {"content-length": "0"}, b"")
                return
            status, headers, content = response
            if fault == "truncate" and content:
                self.close_connection = True
                content = content[: len(content) // 2]
            self._send(status, headers, content)
        except OSError:
            self.close_connection = True  # the client did not wait

    do_HEAD = do_POST = do_PUT = do_PROPFIND = do_GET  # noqa: N815

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextlib.contextmanager
def serving(faulty: Faulty) -> Iterator[Faulty]:
    """Serve on a free port of loopback."""
    handler = type("Handler", (_Handler,), {"faulty": faulty})
    server = _Server(("127.0.0.1", 0), handler)
    faulty.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        faulty.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def forwarding(port: int) -> Answer:
    """Answer as the server at another port of loopback does."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, body, headers | {"connection": "close"})
        response = connection.getresponse()
        content = response.read()
        kept = {
            name.lower(): value
            for name, value in response.getheaders()
            if name.lower() not in {"connection", "transfer-encoding", "server", "date"}
        }
        if method != "HEAD":
            kept["content-length"] = str(len(content))
        connection.close()
        return response.status, kept, content

    return answer


def files(root: Path, *, ranges: bool = True, tags: bool = True) -> Answer:
    """Answer with the files of a folder."""

    def answer(method: str, path: str, headers: dict[str, str], __: bytes) -> Response:
        file = root / unquote(path.partition("?")[0]).lstrip("/")
        if method not in {"GET", "HEAD"}:
            return 405, {"content-length": "0"}, b""
        if not file.is_file():
            return 404, {"content-length": "0"}, b""
        content = file.read_bytes()
        found = {}
        if tags:
            found["etag"] = f'"{hashlib.md5(content).hexdigest()}"'
            found["last-modified"] = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
        status, size = 200, len(content)
        if ranges and (wanted := headers.get("range")):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(size - int(last), 0)
            stop = min(int(last) + 1, size) if first and last else size
            if start >= size:
                return 416, {"content-length": "0", "content-range": f"bytes */{size}"}, b""
            status, content = 206, content[start:stop]
            found["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        return status, found | {"content-length": str(len(content))}, content

    return answer


def closed_port() -> int:
    """A port of loopback that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def seconds(job: Callable[[], Any]) -> float:
    """How long a job takes."""
    start = time.monotonic()
    job()
    return time.monotonic() - start


@contextlib.contextmanager
def speaking(
    talk: Callable[[socket.socket, bytes], bool], encryption: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve bytes as they are: `talk` answers a request, and says whether the connection stays.

    Yields the URL. What `talk` sends to clients that have gone away is an OSError, and no fault.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if encryption is not None:
                connection = encryption.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            pending = b""
            while True:
                while b"\r\n\r\n" not in pending:
                    if not (part := connection.recv(1 << 16)):
                        return
                    pending += part
                request, _, pending = pending.partition(b"\r\n\r\n")
                if not talk(connection, request):
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        scheme = "http" if encryption is None else "https"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
