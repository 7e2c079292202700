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
    """Give the id by which this home's gateways recognize their own requests: 64 random bits in hexadecimal.

    It isn't a secret: upstreams see it. If it can't be read or stored, this process uses an id of its own.
    """
    return _made_once(home, home.gateway_id, _ID_BYTES, "requests that come back are known to this process alone")


def login_secret(home: Home) -> Secret:
    """Give the secret with which one gateway of this home can finish a login that another has begun.

    If it can't be read or stored, this process and its workers use one of their own.
    """
    return Secret(_made_once(home, home.login_secret, _SECRET_BYTES, "a login can be finished by this process alone"))


def _made_once(home: Home, path: Path, length: int, otherwise: str) -> str:
    """Give `length` random bytes in hexadecimal, made once for a home. Logs `otherwise` if they can't be stored."""
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
