import contextlib
import errno
import json
import os
import random
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from tokenferry.background import after_fork_in_child
from tokenferry.errors import LockTimeout, StorageFailed, UnsafeFile
from tokenferry.secret import parse_object
from tokenferry.stores._files import make_private_folder, reason_of
from tokenferry.stores._replaceable import unescaped
from tokenferry.stores._store import held

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.glusterfs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    )
)
_POLL_FIRST: Final = 0.005
_POLL_LONGEST: Final = 0.1
_HOLDER_BYTES: Final = 512


class FileLock:
    """An exclusive flock on a file of its own, named by the sha256 of the protected document's real path.

    It excludes threads and processes of this machine that ask for it in the same way; it does not stop a program that
    writes the document without asking. Network file systems are refused. The system lets go of
    it when the holder dies. It isn't re-entrant and not fair. Who waits asks for it some 13 times a second, which costs
    0.6 % of a core: a blocking flock could not be given up in time.
    """

    def __init__(self, document: Path, locks: Path) -> None:
        real = os.path.realpath(document)
        self.path = locks / f"{sha256(os.fsencode(real)).hexdigest()}.lock"
        self._document = document
        self._descriptor: int | None = None
        after_fork_in_child(self.forget)

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises `UnsafeFile` on a network file system or a replaced lock file.

        Raises `StorageFailed` where the file or a lock on it can't be had at all.
        """
        import fcntl  # noqa: PLC0415  # POSIX alone has it

        make_private_folder(self.path.parent)
        refuse_network_file_system(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as fault:
            if fault.errno == errno.ELOOP:
                raise UnsafeFile(f"{self.path} is a symbolic link; remove it") from None
            raise StorageFailed(f"the lock {self.path} can't be opened: {reason_of(fault)}") from None
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask was when it was made
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as fault:
            os.close(descriptor)
            raise StorageFailed(f"the lock {self.path} can't be taken: {fault.strerror}") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._sign()
        return True

    def acquire(self, timeout: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the lock, waiting `timeout` seconds at most. Raises `LockTimeout` naming the holder."""
        deadline = time.monotonic() + timeout
        pause = _POLL_FIRST
        while not self.try_acquire():
            left = deadline - time.monotonic()
            if left <= 0:
                holder = self.holder()
                raise LockTimeout(f"{self._document} is in use by {holder}; try again when it is done", holder=holder)
            sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311  # spreads the waiters, guards nothing
            pause = min(pause * 1.5, _POLL_LONGEST)

    def release(self) -> None:
        """Let go; harmless when it isn't held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            import fcntl  # noqa: PLC0415  # POSIX alone has it

            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a copy that some child inherited must not keep it
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether a process holds it. The check takes a shared lock for a moment and leaves the file unchanged."""
        import fcntl  # noqa: PLC0415  # POSIX alone has it

        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def is_still_ours(self) -> bool:
        """Whether it is held and its file is still the one that others would ask for."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def holder(self) -> str:
        """Say who holds the lock, as well as can be known."""
        try:
            signed = parse_object(self.path.read_bytes()[:_HOLDER_BYTES].rstrip(b"\0 \n"))
        except OSError:
            signed = None
        if not signed:
            return "another process"
        return f"process {signed.get('pid')} ({signed.get('program')})"

    def _sign(self) -> None:
        """Write the holder into the lock file; it is only read to name the holder to a user."""
        assert self._descriptor is not None
        note = json.dumps({"pid": os.getpid(), "program": Path(sys.argv[0] or "python").name[:80]})
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, note.encode()[:_HOLDER_BYTES], 0)

    def forget(self) -> None:
        """In a forked child: close the inherited descriptor without unlocking what the parent holds."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def held(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        """Hold it for a block. Raises `LockTimeout`."""
        return held(self, timeout)


def refuse_network_file_system(folder: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise `UnsafeFile` where flock can't be trusted: on file systems shared over a network."""
    kind = _file_system(os.path.realpath(folder), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise UnsafeFile(
            f"{folder} lies on a network file system ({kind}), where locks do not hold between machines; "
            "set TOKENFERRY_HOME to a folder on a local disk"
        )


def _file_system(folder: str, mounts: Path) -> str | None:
    """The type of a folder's file system, from mountinfo (proc(5)); None where there is no such table."""
    try:
        lines = mounts.read_bytes().split(b"\n")
    except OSError:
        return None
    best, kind = -1, None
    for line in filter(None, lines):
        fields, _, rest = line.partition(b" - ")
        point = os.fsdecode(unescaped(fields.split(b" ")[4]))
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), os.fsdecode(rest.split(b" ")[0])
    return kind
