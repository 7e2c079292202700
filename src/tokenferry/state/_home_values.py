import contextlib
import logging
import re
import secrets
from pathlib import Path
from typing import Final

from tokenferry.errors import TokenferryError
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import FileLock, read_private_file, replace_private_file

logger = logging.getLogger(__name__)

_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_LOCK_TIMEOUT: Final = 10.0


def gateway_id(home: Home) -> str:
    """By what the gateways of this home know a request that comes back to them: 64 random bits in hexadecimal.

    It is no secret; upstreams see it. Where it can't be read or stored, it holds for this process alone.
    """
    return _made_once(home, home.gateway_id, _ID_BYTES, "requests that come back are known to this process alone")


def login_secret(home: Home) -> Secret:
    """What a login is begun and finished with, so that one gateway of this home can finish what another has begun.

    Where it can't be read or stored, it holds for this process and its workers alone.
    """
    return Secret(_made_once(home, home.login_secret, _SECRET_BYTES, "a login can be finished by this process alone"))


def _made_once(home: Home, path: Path, length: int, otherwise: str) -> str:
    """So many random bytes in hexadecimal, made once for a home."""
    try:
        with FileLock(path, home.locks).held(_LOCK_TIMEOUT):
            with contextlib.suppress(FileNotFoundError):
                written = read_private_file(path)
                if re.fullmatch(rb"[0-9a-f]{%d}\n?" % (2 * length), written):
                    return written.decode("ascii").strip()
            made = secrets.token_hex(length)
            replace_private_file(path, made.encode("ascii") + b"\n")
            return made
    except (TokenferryError, OSError) as fault:
        logger.warning("%s: %s", otherwise, fault)
        return secrets.token_hex(length)
