import contextlib
import secrets
from pathlib import Path

from tokenferry.errors import StorageFailed, UsageError
from tokenferry.secret import HiddenBytes
from tokenferry.stores._files import DISK, Disk, reason_of


def create_private_file(path: Path, data: bytes, *, disk: Disk = DISK) -> None:
    """Create a 0600 file that doesn't exist yet, complete and durable, or not at all.

    Raises `UsageError` if the name exists, `UnsafeFile`, `StorageFailed`.
    """
    content = HiddenBytes(data)
    del data  # a traceback shows the locals of this frame
    disk.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp.{secrets.token_hex(4)}")
    try:
        descriptor = disk.create(temporary)
        try:
            disk.write(descriptor, content)
            disk.fsync(descriptor)
        finally:
            disk.close(descriptor)
        path.hardlink_to(temporary)  # unlike a rename it replaces nothing
        disk.unlink(temporary)
        disk.sync_folder(path.parent)
    except FileExistsError:
        raise UsageError(f"{path} exists already and is not written over; name another file, or remove it") from None
    except OSError as fault:
        raise StorageFailed(f"{path} could not be written: {reason_of(fault)}") from None
    finally:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
