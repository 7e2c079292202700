"""Two watchers on loopback: a relay that notes what passes, and a proxy that lets nothing out and notes who asked."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}
_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Passed:
    """One request as the client sent it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body_sha256: str
    body_length: int
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Relay:
    url: str = ""
    passed: list[Passed] = field(default_factory=list)

    def messages(self) -> list[Passed]:
        return [one for one in self.passed if one.path.startswith("/v1/messages")]


@contextlib.contextmanager
def recording_relay(upstream: str) -> Iterator[Relay]:
    """Relay every request, byte for byte in its body, and note it."""
    relay = Relay()
    target = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = tuple(self.headers.items())
            relay.passed.append(Passed(self.command, self.path, headers, sha256(body).hexdigest(), len(body), body))
            connection = HTTPConnection(target, timeout=_TIMEOUT)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers:
                    if name.lower() not in _HOP_BY_HOP | {"host"}:
                        connection.putheader(name, value)
                connection.putheader("host", target)
                connection.endheaders(body or None)
                answer = connection.getresponse()
                self.send_response(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                while chunk := answer.read1(65_536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            finally:
                connection.close()
                self.close_connection = True

        do_GET = do_HEAD = do_POST = _pass  # noqa: N815  # the names the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with serving(Handler) as relay.url:
        yield relay


@dataclass
class ClosedDoor:
    """A proxy's address, and what was asked of it."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def closed_door() -> Iterator[ClosedDoor]:
    """Refuse every request and CONNECT, and note it."""
    door = ClosedDoor()

    class Handler(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            door.asked.append(f"{self.command} {self.path}")
            self.send_error(403)

        do_CONNECT = do_GET = do_HEAD = do_POST = do_PUT = _refuse  # noqa: N815  # the names the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with serving(Handler) as door.url:
        yield door


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
