import contextlib
import errno
import os
import secrets
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from tokenferry.errors import ConfigError, StorageFailed
from tokenferry.providers import is_loopback
from tokenferry.settings import ServerSettings

_BACKLOG: Final = 2048
_LISTENING: Final = "0A"


def bind(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
    """Listen on a loopback address, or on any if that is allowed; port 0 takes a free one.

    Raises `ConfigError` for any other address, and for a port in use, naming who holds it.
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
                f"the gateway listens on this machine alone, and {host!r} is no loopback address: set host under "
                "[server] to 127.0.0.1 or ::1; or open it to other machines with --allow-remote"
            )
        try:
            return str(ip_address(host))
        except ValueError:
            raise ConfigError(
                f"{host!r} is no address to listen on: give one of this machine's, or 0.0.0.0 for all of them"
            ) from None
    try:
        return str(ip_address(host))
    except ValueError:
        return "127.0.0.1"  # localhost, whatever a resolver makes of it


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Say which process listens on a port of this machine, as well as can be known (proc(5))."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if sockets:
        for process in proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                for descriptor in (process / "fd").iterdir():
                    if _link(descriptor) in sockets:
                        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                        return f"process {process.name} ({name})"
    return "another process"  # of another user, say, or one that hides its memory, as a gateway does


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
    """Write the port in decimal, under another name first: who finds the file finds all of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="ascii") as file:
            file.write(f"{port}\n")
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise StorageFailed(f"the port file {path} could not be written: {fault.strerror}") from None


def remove_port_file(path: Path, port: int) -> None:
    """Remove the file, unless it names another port by now."""
    with contextlib.suppress(OSError, ValueError):
        if int(path.read_text(encoding="ascii")) == port:
            path.unlink()
