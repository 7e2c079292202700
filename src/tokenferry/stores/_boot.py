from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """Give the id of the present boot; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
