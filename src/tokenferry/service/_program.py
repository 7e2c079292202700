import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

MARK: Final = "Made by: tokenferry service install"
"""Stands in a comment of every file that is ours; one without it is left alone."""

_PASSED: Final = (
    "TOKENFERRY_HOME",
    "TOKENFERRY_CONFIG",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_SECURESTORAGE_CONFIG_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


class Program(Struct, frozen=True):
    """What the service runs: an absolute path with arguments, and the variables it is given, none of them secret."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    serves: bool = False

    @property
    def description(self) -> str:
        return "tokenferry: the gateway, and logins kept alive" if self.serves else "tokenferry: logins kept alive"


def own_command() -> tuple[str, ...]:
    """The command of this installation, by its absolute path."""
    beside = Path(sys.executable).absolute().with_name("tokenferry")
    return (str(beside),) if beside.is_file() else (str(Path(sys.executable).absolute()), "-m", "tokenferry")


def passed_on(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that say where files lie and how the network is reached, and the names of those that hold a login.

    The latter, of a proxy, have no place in a file that the whole system reads.
    """
    proxies = [variant for name in _PROXIES for variant in (name, name.lower())]
    found = {name: environ[name] for name in (*_PASSED, *proxies) if environ.get(name)}
    secret = [name for name in proxies if "@" in found.get(name, "")]
    return {name: value for name, value in found.items() if name not in secret}, secret
