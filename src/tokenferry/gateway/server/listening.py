import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Self

from tokenferry.gateway.auth.guard import own_hosts
from tokenferry.gateway.server.port import bind
from tokenferry.gateway.server.tls import server_tls
from tokenferry.gateway.server.unix import bind_unix, remove_unix
from tokenferry.providers import is_loopback
from tokenferry.settings import ServerSettings
from tokenferry.state import reachable_url


@dataclass(frozen=True, slots=True)
class Listening:
    """Sockets that listen, the `Host` values they answer to, and how they are told of."""

    sockets: tuple[socket.socket, ...]
    hosts: frozenset[bytes]
    port: int | None = None
    urls: tuple[str, ...] = ()
    tls: SSLContext | None = None
    address: str | None = None
    """The one it listens on by TCP."""
    uds: Path | None = None
    """The Unix socket it listens on."""

    @property
    def open_at(self) -> str | None:
        """The address at which other machines reach it, None if none does."""
        return None if is_loopback(self.address) else self.address

    @property
    def url(self) -> str | None:
        """Where this machine reaches it by TCP."""
        if self.address is None or self.port is None:
            return None
        return reachable_url(self.address, self.port, "http" if self.tls is None else "https")

    def hosts_with(self, allowed: Sequence[str]) -> frozenset[bytes]:
        """The `Host` values it answers to if these are allowed besides its own."""
        return frozenset() if self.address is None or self.port is None else own_hosts(self.address, self.port, allowed)

    @classmethod
    def privately(cls) -> Self:
        """On a free port of this machine."""
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        return cls((sock,), own_hosts("127.0.0.1", port, ()), port, (_url(sock, "http"),))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@contextlib.contextmanager
def listening(server: ServerSettings, locks: Path) -> Iterator[Listening]:
    """Listen where the settings say, within the block. Raises `ConfigError`, `UnsafeFile`."""
    with contextlib.ExitStack() as stack:
        sockets, urls = [], []
        hosts: frozenset[bytes] = frozenset()
        address = port = tls = path = None
        if server.tcp:
            if server.tls_cert is not None and server.tls_key is not None:
                tls = server_tls(server.tls_cert, server.tls_key, by_option=server.tls_by_option)
            sock = bind(server.host, server.port, allow_remote=server.allow_remote)
            sockets.append(stack.enter_context(sock))
            address, port = sock.getsockname()[:2]
            hosts = own_hosts(address, port, server.allowed_hosts)
            urls.append(_url(sock, "http" if tls is None else "https"))
        if server.uds is not None:
            path = server.uds.expanduser().absolute()
            sockets.append(stack.enter_context(bind_unix(path, locks)))
            stack.callback(remove_unix, path, path.lstat())
            urls.append(f"the Unix socket {path}")
        yield Listening(tuple(sockets), hosts, port, tuple(urls), tls, address, path)


def _url(sock: socket.socket, scheme: str) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
