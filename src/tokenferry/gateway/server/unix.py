import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from tokenferry.errors import ConfigError, UnsafeFile
from tokenferry.stores import FileLock, make_private_folder

_BACKLOG: Final = 2048
_LONGEST: Final = 103  # of bytes in sun_path: 108 on Linux, 104 on macOS, with the NUL that ends it
_PATIENCE: Final = 10.0


def bind_unix(path: Path, locks: Path) -> socket.socket:
    """Listen on a Unix socket, 0600 in a 0700 folder, which is made if it is missing.

    A socket that a dead process left is replaced. Raises `ConfigError` if somebody listens there or the path can't be
    used, `UnsafeFile` if others could reach it.
    """
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(f"the path {path} is too long for a Unix socket: {_LONGEST} bytes at most; choose a shorter")
    make_private_folder(path.parent)
    _check_folder(path.parent)
    # Or two that start at once could each find the other's socket dead, between its bind and its listen.
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
    """Remove the socket if it is still the one that was made."""
    with contextlib.suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()


def _check_folder(folder: Path) -> None:
    try:
        status = folder.stat()
    except OSError as fault:
        raise UnsafeFile(f"the folder {folder} can't be looked at: {fault.strerror}") from None
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
        raise ConfigError(f"{path} exists and is no socket; move it away, or choose another with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:  # BlockingIOError: its backlog is full, so somebody holds it
            pass
    raise ConfigError(f"another process listens on {path}; stop it, or choose another with --uds")
