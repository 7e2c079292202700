"""The sockets that a server listens on: TCP, Unix and TLS, and the file that names its port."""

import contextlib
import errno
import os
import secrets
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from ssl import SSLContext
from typing import Final, Self

from msgspec import Struct

from tokenferry.errors import ConfigError, StorageFailed, UnsafeFile
from tokenferry.gateway.auth.guard import own_hosts
from tokenferry.providers import is_loopback
from tokenferry.settings import LONGEST_SOCKET, ServerSettings
from tokenferry.state import reachable_url
from tokenferry.stores import FileLock, make_private_folder, read_private_file

_BACKLOG: Final = 2048
_LISTENING: Final = "0A"
_PATIENCE: Final = 10.0


class Listening(Struct, frozen=True):
    """Listening sockets, the `Host` values they accept, and their addresses as text."""

    sockets: tuple[socket.socket, ...]
    hosts: frozenset[bytes]
    port: int | None = None
    urls: tuple[str, ...] = ()
    tls: SSLContext | None = None
    address: str | None = None
    """The TCP address it listens on."""
    uds: Path | None = None
    """The Unix socket it listens on."""

    @property
    def open_at(self) -> str | None:
        """The address at which other machines reach it; None for none."""
        return None if is_loopback(self.address) else self.address

    @property
    def url(self) -> str | None:
        """The URL at which this machine reaches it; None without TCP."""
        if self.address is None or self.port is None:
            return None
        return reachable_url(self.address, self.port, "http" if self.tls is None else "https")

    def hosts_with(self, allowed: Sequence[str]) -> frozenset[bytes]:
        """Give the `Host` values it accepts if `allowed` are added."""
        return frozenset() if self.address is None or self.port is None else own_hosts(self.address, self.port, allowed)

    @classmethod
    def privately(cls) -> Self:
        """Listen on a free loopback port."""
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        return cls((sock,), own_hosts("127.0.0.1", port, ()), port, (_url_of(sock, "http"),))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@contextlib.contextmanager
def listening(server: ServerSettings, locks: Path) -> Iterator[Listening]:
    """Listen at the configured addresses within the block. Raises `ConfigError`, `UnsafeFile`."""
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
            hosts = own_hosts(address, port, server.host_names)
            urls.append(_url_of(sock, "http" if tls is None else "https"))
        if server.uds is not None:
            path = server.uds.expanduser().absolute()
            sockets.append(stack.enter_context(bind_unix(path, locks)))
            stack.callback(remove_unix, path, path.lstat())
            urls.append(f"the Unix socket {path}")
        yield Listening(tuple(sockets), hosts, port, tuple(urls), tls, address, path)


def _url_of(sock: socket.socket, scheme: str) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def bind(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
    """Listen on a loopback address, or on any address if `allow_remote`. Port 0 means any free port.

    Raises `ConfigError` for another address, and for a port in use, with the process that uses it.
    """
    address = _address(host, allow_remote=allow_remote)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sets TCP_NODELAY on connections only if their listener was made as TCP by number.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as fault:
        sock.close()
        if fault.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {address} is in use by {holder(port)}; stop it, or choose another port with --port"
            ) from None
        raise ConfigError(
            f"can't listen on {address} port {port}: {fault.strerror}; choose another with --port"
        ) from None
    return sock


def check_host(server: ServerSettings) -> None:
    """Raise `ConfigError` for a host that `bind` refuses."""
    if server.tcp:
        _address(server.host, allow_remote=server.allow_remote)


def _address(host: str, *, allow_remote: bool) -> str:
    if not is_loopback(host):
        if not allow_remote:
            raise ConfigError(
                f"{host!r} is not a loopback address; set host under [server] to 127.0.0.1 or ::1, or open the "
                "gateway to other machines with --allow-remote"
            )
        try:
            return str(ip_address(host))
        except ValueError:
            raise ConfigError(
                f"{host!r} is not an IP address; set host to one of this machine's, or to 0.0.0.0 for all of them"
            ) from None
    try:
        return str(ip_address(host))
    except ValueError:
        return "127.0.0.1"  # localhost, without a resolver


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Describe the process that listens on a port of this machine, if it can be found (proc(5))."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if sockets:
        for process in proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                for descriptor in (process / "fd").iterdir():
                    if _link(descriptor) in sockets:
                        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                        return f"process {process.name} ({name})"
    return "another process"  # such as another user's, or a gateway, which hides its memory


def _listening_inodes(port: int, proc: Path) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def write_port_file(path: Path, port: int) -> None:
    """Write the port in decimal. The file is renamed into place, so that it is never incomplete."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="ascii") as file:
            file.write(f"{port}\n")
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise StorageFailed(f"the port file {path} could not be written: {fault.strerror}") from None


def remove_port_file(path: Path, port: int) -> None:
    """Remove the file, unless it names another port."""
    with contextlib.suppress(OSError, ValueError):
        if int(path.read_text(encoding="ascii")) == port:
            path.unlink()


def bind_unix(path: Path, locks: Path) -> socket.socket:
    """Listen on a Unix socket, 0600 in a 0700 folder, which is made if it is missing.

    Replaces the socket of a dead process. Raises `ConfigError` if a process listens there or the path can't be used,
    `UnsafeFile` if other users could reach it.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise ConfigError(
            f"the path {path} is too long for a Unix socket: {LONGEST_SOCKET} bytes at most; choose a shorter"
        )
    make_private_folder(path.parent)
    _check_folder(path.parent)
    # Without the lock, two that start at once could each find the other's socket dead, between bind and listen.
    with FileLock(path, locks).held(_PATIENCE):
        _remove_dead(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o177)
        try:
            sock.bind(str(path))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as fault:
            sock.close()
            raise ConfigError(f"can't listen on {path}: {fault.strerror}; choose another with --uds") from None
        finally:
            os.umask(umask)
    return sock


def remove_unix(path: Path, made: os.stat_result) -> None:
    """Remove the socket if it is still the same file."""
    with contextlib.suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()


def _check_folder(folder: Path) -> None:
    try:
        status = folder.stat()
    except OSError as fault:
        raise UnsafeFile(f"the folder {folder} can't be examined: {fault.strerror}") from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UnsafeFile(
            f"the folder {folder} has mode {stat.S_IMODE(status.st_mode):04o} and belongs to user {status.st_uid}; "
            f"a gateway's socket needs one that is yours alone: chmod 0700 '{folder}', or choose another with --uds"
        )


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} exists and is not a socket; move it away, or choose another with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:  # BlockingIOError: its backlog is full, so a process holds it
            pass
    raise ConfigError(f"another process listens on {path}; stop it, or choose another with --uds")


def renew_tls(context: ssl.SSLContext, certificate: Path, key: Path, *, by_option: bool = False) -> None:
    """Reload a listener's certificate and key. Open connections continue. Raises as `server_tls`."""
    # Checked first: a context that has loaded only one of two files would be unusable.
    server_tls(certificate, key, by_option=by_option)
    context.load_cert_chain(certificate.resolve(), key.resolve())


def server_tls(certificate: Path, key: Path, *, by_option: bool = False) -> ssl.SSLContext:
    """Give TLS 1.2 or later for a listener, from PEM files: the certificate with its chain, and the key with mode 0600.

    `by_option`: the command line named the files, not `[server]`.
    Raises `ConfigError`, and `UnsafeFile` if other users could read the key or write either.
    """
    certificate, key = certificate.resolve(), key.resolve()
    named_key = "--tls-key" if by_option else "tls_key under [server]"
    names = "--tls-cert and --tls-key" if by_option else "tls_cert and tls_key under [server]"
    for path, readable_by_others in ((certificate, True), (key, False)):
        try:
            read_private_file(path, readable_by_others=readable_by_others)
        except FileNotFoundError:
            raise ConfigError(f"{path} not found; name existing files with {names}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse() -> str:
        raise ConfigError(f"{key} is protected by a password; name a key without one with {named_key}")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except (ssl.SSLError, ValueError) as fault:
        reason = getattr(fault, "reason", None) or "no PEM"
        raise ConfigError(
            f"{certificate} and {key} make no TLS certificate ({reason}); name PEM files that belong together"
        ) from None
    return context
