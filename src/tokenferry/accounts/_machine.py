import os
from hashlib import sha256
from pathlib import Path
from typing import Final

_SOURCES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def machine_id() -> str:
    """Return a unique name of this machine: a digest, which reveals nothing about it."""
    for source in _SOURCES:
        try:
            value = source.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            continue
        if value:
            return _digest(value)
    return _digest(os.uname().nodename)


def _digest(value: str) -> str:
    return sha256(b"tokenferry machine " + value.encode()).hexdigest()[:16]
