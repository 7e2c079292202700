"""HTTP as bytes: an upstream that answers what it is told, and a client that sends what it is told."""

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Final, TypeAlias, cast

Headers: TypeAlias = list[tuple[str, str]]

_TIMEOUT: Final = 20.0


@dataclass(frozen=True)
class Arrived:
    """A request as the upstream received it."""

    line: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Answered:
    """An answer as a client received it; `is_cut` if it broke off, status 0 if there was none."""

    status: int
    headers: Headers
    body: bytes
    is_cut: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Upstream:
    """Answers each request with the bytes that are due, and closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.arrived: list[Arrived] = []
        self.url = ""

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_TIMEOUT)
            with connection.makefile("rb") as reading:
                line = reading.readline().decode("latin-1").rstrip("\r\n")
                if not line:
                    return
                headers: Headers = []
                while text := reading.readline().decode("latin-1").rstrip("\r\n"):
                    name, _, value = text.partition(":")
                    headers.append((name.lower(), value.strip(" ")))
                length = int(dict(headers).get("content-length", 0))
                self.arrived.append(Arrived(line, headers, reading.read(length)))
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                reading.read()

    def run(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()


@contextlib.contextmanager
def running_upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with socket.create_server(("127.0.0.1", 0)) as server:
        upstream.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=upstream.run, args=(server,))
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(port: int, request: bytes, *, count: int = 1) -> list[Answered]:
    """Send these bytes on a connection of their own, and read this many answers."""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as connection:
        with contextlib.suppress(OSError):  # refused before it was all read
            connection.sendall(request)
        reader = _Kept(connection.makefile("rb", buffering=0))
        return [_read(reader, request.partition(b" ")[0].decode("latin-1")) for _ in range(count)]


class _Kept(io.BufferedReader):
    """Stays open after an answer, for the next one."""

    def close(self) -> None:
        """Leave it to the connection's end."""

    def makefile(self, _: str) -> "_Kept":
        """Pose as the socket of a response."""
        return self


def _read(reader: _Kept, method: str) -> Answered:
    response = HTTPResponse(cast("socket.socket", reader), method=method)
    try:
        response.begin()
    except (OSError, HTTPException):
        return Answered(0, [], b"", is_cut=True)
    headers = [(name.lower(), value) for name, value in response.getheaders()]
    try:
        return Answered(response.status, headers, response.read())
    except IncompleteRead as fault:
        return Answered(response.status, headers, fault.partial, is_cut=True)
    except (OSError, HTTPException):
        return Answered(response.status, headers, b"", is_cut=True)
