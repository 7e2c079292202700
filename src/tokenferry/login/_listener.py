import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

from tokenferry.errors import LoginFailed
from tokenferry.login._http import MAX_HEAD, CallbackReply, CallbackRequest

_ADDRESSES: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_TRIES: Final = 20
_MOST_CONNECTIONS: Final = 16
_PATIENCE: Final = 10.0
_NO_SUCH_ADDRESS: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class CallbackListener:
    """Listens on 127.0.0.1 and ::1, at one port of both, until it is closed. Nothing blocks.

    The caller waits for `sockets` with `select`, and calls `ready` with each readable one.
    """

    def __init__(
        self, template: str, port: int | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Listen at the port, at the template's fixed port, or at a free one. Raises `LoginFailed`."""
        self._monotonic = monotonic
        self._open: dict[socket.socket, _Connection] = {}
        fixed = None if "{port}" in template else urlsplit(template).port
        if fixed is not None and port not in {None, fixed}:
            raise LoginFailed(f"the provider's loopback_redirect has the fixed port {fixed}; leave --callback-port out")
        self._listening = _listen(port or fixed)
        self.port: int = self._listening[0].getsockname()[1]
        self.redirect_uri = template.replace("{port}", str(self.port))

    def sockets(self) -> list[socket.socket]:
        """Return the sockets to wait for; idle connections are dropped."""
        now = self._monotonic()
        for connection in [one for one, state in self._open.items() if state.until <= now]:
            self._drop(connection)
        return [*self._listening, *self._open]

    def ready(self, ready: socket.socket, answer: Callable[[CallbackRequest | None], CallbackReply]) -> None:
        """Accept a connection, or read from one and reply once its head is complete."""
        if ready in self._listening:
            with contextlib.suppress(OSError):
                connection, _ = ready.accept()
                connection.setblocking(False)
                if len(self._open) >= _MOST_CONNECTIONS:
                    self._drop(next(iter(self._open)))
                self._open[connection] = _Connection(self._monotonic() + _PATIENCE)
        elif ready in self._open:
            self._read(ready, self._open[ready], answer)

    def _read(
        self, connection: socket.socket, state: "_Connection", answer: Callable[[CallbackRequest | None], CallbackReply]
    ) -> None:
        try:
            data = connection.recv(MAX_HEAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        head, end, _ = state.take(data)
        if data and not end and len(head) < MAX_HEAD:
            return
        if data:
            with contextlib.suppress(OSError):
                connection.send(answer(CallbackRequest.of(head) if end else None).to_bytes())
                connection.shutdown(socket.SHUT_WR)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._open[connection]
        connection.close()

    def close(self) -> None:
        for one in (*self._listening, *self._open):
            one.close()
        self._open.clear()


class _Connection:
    """A connection with an incomplete head, to be dropped at `until`."""

    def __init__(self, until: float) -> None:
        self.until = until
        self._data = bytearray()

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        self._data += data
        return bytes(self._data).partition(b"\r\n\r\n")


def _listen(port: int | None) -> tuple[socket.socket, ...]:
    """Bind one port at both addresses: `localhost` may mean either, and neither may be another program's."""
    fault: OSError | None = None
    for _ in range(1 if port else _TRIES):
        sockets: list[socket.socket] = []
        try:
            for family, address in _ADDRESSES:
                sockets += _bound(family, address, sockets[0].getsockname()[1] if sockets else port or 0)
        except OSError as caught:
            fault = caught
            for one in sockets:
                one.close()
            continue
        return tuple(sockets)
    assert fault is not None
    where = f"port {port} of this machine" if port else "any port of this machine"
    raise LoginFailed(
        f"the login can't listen for its answer on {where}: {fault.strerror}; give another --callback-port, or use "
        "--no-browser"
    )


def _bound(family: socket.AddressFamily, address: str, port: int) -> Iterator[socket.socket]:
    """Yield the listening socket; nothing on a machine without IPv6."""
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as fault:
        if family == socket.AF_INET6 and fault.errno in _NO_SUCH_ADDRESS:
            return
        raise
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        one.listen(_MOST_CONNECTIONS)
        one.setblocking(False)
    except OSError as fault:
        one.close()
        if family == socket.AF_INET6 and fault.errno in _NO_SUCH_ADDRESS:
            return
        raise
    yield one
