from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """What tells this run of the machine from others; empty where the system doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
