"""The gateways of a home that run: each has a record, and holds a lock (flock) on it while it lives.

A port isn't enough: on a shared machine another user can take the port of a gateway that has ended.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tokenferry.background import after_fork_in_child
from tokenferry.errors import StorageFailed, TokenferryError, TryLater
from tokenferry.manifest import depend_on
from tokenferry.secret import parse_object
from tokenferry.settings import Home
from tokenferry.stores import DISK, make_private_folder, read_private_file, reason_of, refuse_network_file_system

_SUFFIX: Final = ".json"
_VERSION: Final = 1
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here


def reachable_url(host: str, port: int, scheme: str = "http") -> str:
    """Give the URL by which this machine reaches a listening address, also if it means all addresses."""
    host = _HERE.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class GatewayRecord(Struct, frozen=True):
    """Where a gateway of this home listens, and whether it runs. A record that is stale belongs to a killed one."""

    path: Path
    is_running: bool
    pid: int | None = None
    url: str | None = None
    """The URL by which this machine reaches it over TCP."""
    socket: Path | None = None
    dashboard: str | None = None
    """The origin of its dashboard."""

    @property
    def address(self) -> str:
        """Give its socket as `unix:PATH`, which no other user can take, else its URL."""
        return f"unix:{self.socket}" if self.socket is not None else self.url or "an unknown address"

    def __str__(self) -> str:
        return self.address if self.pid is None else f"{self.address} (process {self.pid})"

    def listens_at(self, address: str) -> bool:
        return address in {self.url, f"unix:{self.socket}"}


class GatewayRegistration:
    """The record of this process's gateway, valid until `end` or until the process dies.

    Children don't inherit it: neither forked workers nor started programs. It removes the records of killed gateways.
    Raises `UnsafeFile`, `StorageFailed`.
    """

    def __init__(
        self, home: Home, *, url: str | None = None, socket: Path | None = None, dashboard: str | None = None
    ) -> None:
        import fcntl  # noqa: PLC0415  # POSIX alone has it

        folder = home.gateways
        make_private_folder(folder)
        refuse_network_file_system(folder)
        _remove_stale(folder)
        self.path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        record = {"version": _VERSION, "pid": os.getpid(), "url": url, "socket": socket and str(socket)}
        record |= {} if dashboard is None else {"dashboard": dashboard}
        temporary = folder / f".{self.path.name}.tmp.{secrets.token_hex(4)}"
        self._descriptor: int | None = None
        after_fork_in_child(self.forget)
        try:
            self._descriptor = DISK.create(temporary)
            # It is locked before it can be found under its name, so that no process takes it for stale.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            DISK.write(self._descriptor, json.dumps(record).encode("ascii") + b"\n")
            DISK.rename(temporary, self.path)
        except OSError as fault:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self.forget()
            raise StorageFailed(f"the gateway's record {self.path} can't be written: {reason_of(fault)}") from None

    def end(self) -> None:
        """Remove the record. Call it before the gateway closes its port. A second call does nothing."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.forget()

    def forget(self) -> None:
        """Close the descriptor: a forked child leaves the lock to its parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def gateway_records(home: Home) -> list[GatewayRecord]:
    """Give the records of all gateways of the home, running or stale, oldest first. Raises `UnsafeFile`."""
    found = [(path.lstat().st_mtime_ns, path) for path in _paths(home.gateways)]
    return [record for _, path in sorted(found) if (record := _read(path)) is not None]


def running_gateway(home: Home) -> GatewayRecord:
    """Give the home's gateway that has run longest. Raises `TryLater` if none runs, `UnsafeFile`."""
    records = gateway_records(home)
    for record in records:
        if record.is_running:
            return record
    stale = f" ({records[-1]} was killed)" if records else ""
    raise TryLater(
        f"no gateway of this home runs{stale}, so its key is not printed: a program of another user may have taken its "
        "port; start it with: tokenferry serve"
    )


def _paths(folder: Path) -> Iterator[Path]:
    for name in DISK.names(folder):
        if name.endswith(_SUFFIX) and not name.startswith("."):
            yield folder / name


def _read(path: Path) -> GatewayRecord | None:
    """Read a record; None if its gateway has ended and removed it."""
    try:
        raw = read_private_file(path)
        is_running = _is_locked(path)
    except FileNotFoundError:
        return None
    record: dict[str, Any] = parse_object(raw) or {}
    pid, url, socket, dashboard = (record.get(name) for name in ("pid", "url", "socket", "dashboard"))
    return GatewayRecord(
        path,
        is_running and record.get("version") == _VERSION,
        pid if isinstance(pid, int) else None,
        url if isinstance(url, str) else None,
        Path(socket) if isinstance(socket, str) else None,
        dashboard if isinstance(dashboard, str) else None,
    )


def _is_locked(path: Path) -> bool:
    import fcntl  # noqa: PLC0415  # POSIX alone has it

    depend_on("lock", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove_stale(folder: Path) -> None:
    for path in _paths(folder):
        # Names are never used twice, so whatever isn't locked here stays so.
        with contextlib.suppress(OSError, TokenferryError):
            if not _is_locked(path):
                path.unlink()
