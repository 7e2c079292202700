import difflib
import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

_METADATA_HOSTS: Final = (
    "100.100.100.200",
    "fd00:ec2::254",
    "instance-data",
    "metadata",
    "metadata.google.internal",
)
# The last label of a name holds a letter: resolvers read 2852039166 and 0xa9fea9fe as addresses.
_HOST_NAME: Final = re.compile(r"(?:[a-z0-9_-]+\.)*(?!0x)(?=[0-9_-]*[a-z])[a-z0-9_-]+\.?")


class Table:
    """One TOML table being read: what was asked for is known, what is left at `done` is an unknown key.

    Faults are collected, not raised, so that all of them are told at once.
    """

    def __init__(self, data: object, path: str, problems: list[str]) -> None:
        self.path = path
        self._problems = problems
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        self._asked: set[str] = set()
        if not isinstance(data, dict):
            self._problems.append(f"{path} must be a table")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def problem(self, key: str, must: str) -> None:
        """Note that the key's value is not what it must be."""
        self._problems.append(f"{self._at(key)} {must}")

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self._take(key, default)
        if value is None or (isinstance(value, str) and value):
            return value
        self.problem(key, "must be a string that is not empty")
        return default

    def choice(self, key: str, default: Any, options: Collection[str]) -> Any:
        value = self._take(key, default)
        if value == default or (isinstance(value, str) and value in options):
            return value
        self.problem(key, f"must be one of {', '.join(options)}")
        return default

    def flag(self, key: str, default: bool) -> bool:  # noqa: FBT001  # a default, like the others
        value = self._take(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, "must be true or false")
        return default

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        value = self._take(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem(key, f"must be a number from {least:g} to {most:g}")
        return default

    def texts(self, key: str, default: Any) -> Any:
        value = self._take(key, default)
        if value is default:
            return default
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.problem(key, "must be a list of strings")
        return default

    def strings(self, key: str, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """A table of strings, as pairs."""
        value = self._take(key, None)
        if value is None:
            return default
        if isinstance(value, dict) and all(isinstance(item, str) and item for item in value.values()):
            return tuple(value.items())
        self.problem(key, "must be a table of strings that are not empty")
        return default

    def url(self, key: str, default: str | None = None) -> str | None:
        value = self.text(key, default)
        if value is not None and (fault := url_fault(value)):
            self.problem(key, fault)
            return default
        return value

    def ignore(self, key: str) -> bool:
        """Accept a key without reading it; tell whether it was there."""
        return self._take(key, None) is not None

    def table(self, key: str) -> "Table":
        return Table(self._take(key, {}), self._at(key), self._problems)

    def tables(self, key: str) -> list["Table"]:
        value = self._take(key, [])
        if not isinstance(value, list):
            self.problem(key, f"must be written as [[{key}]]")
            return []
        return [Table(item, f"{key}[{place}]", self._problems) for place, item in enumerate(value, 1)]

    def done(self) -> None:
        """Note every key that nobody asked for, with the nearest known one."""
        for key in self._data:
            if key in self._asked:
                continue
            near = difflib.get_close_matches(key, self._asked, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(sorted(self._asked))}"
            self._problems.append(f"{self._at(key)} is no key that tokenferry knows{hint}")

    def _take(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        return self._data.get(key, default)

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def is_loopback(host: str | None) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    if host is None:
        return False
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def url_fault(url: str) -> str | None:  # noqa: PLR0911  # a list of rules, one return each
    """Say why a URL can't be an upstream or a token endpoint; None if it can."""
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        return "must be a URL in ASCII without blanks"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "is no URL"
    if not host or parts.scheme not in {"http", "https"}:
        return "must begin with https:// (or http:// for this machine) and name a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if "?" in url or "#" in url:
        return "must not hold a query or a fragment"
    address = _address(host)
    if address is None and not _HOST_NAME.fullmatch(host):
        return "must name a host by a plain name or address"
    if parts.scheme == "http" and not is_loopback(host):
        return "must begin with https://; plain http is for this machine alone"
    if host.rstrip(".") in _METADATA_HOSTS or (address and (address.is_link_local or str(address) in _METADATA_HOSTS)):
        return "must not be a link-local or metadata address"
    return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.rstrip("."))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
