import contextlib
import logging
import re
import secrets
from typing import Final

from tokenferry.errors import TokenferryError
from tokenferry.settings import Home
from tokenferry.stores import FileLock, read_private_file, replace_private_file

logger = logging.getLogger(__name__)

_BYTES: Final = 8
_LOCK_TIMEOUT: Final = 10.0
_WRITTEN: Final = re.compile(rb"[0-9a-f]{16}\n?")


def gateway_id(home: Home) -> str:
    """By what the gateways of this home know a request that comes back to them: 64 random bits in hexadecimal.

    It is no secret; upstreams see it. Where it can't be read or kept, it holds for this process alone.
    """
    try:
        with FileLock(home.gateway_id, home.locks).held(_LOCK_TIMEOUT):
            with contextlib.suppress(FileNotFoundError):
                written = read_private_file(home.gateway_id)
                if _WRITTEN.fullmatch(written):
                    return written.decode("ascii").strip()
            made = secrets.token_hex(_BYTES)
            replace_private_file(home.gateway_id, made.encode("ascii") + b"\n")
            return made
    except (TokenferryError, OSError) as fault:
        logger.warning("requests that come back are known to this process alone: %s", fault)
        return secrets.token_hex(_BYTES)
