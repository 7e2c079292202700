import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias
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


SettingKind: TypeAlias = Literal["text", "flag", "number", "texts", "strings", "ignored"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as it was read: what kind it must be of, and whether it stood there or is the default."""

    table: "Table"
    key: str
    kind: SettingKind
    value: Any = field(repr=False)  # a key that was written where none belongs
    is_given: bool


class Table:
    """One TOML table being read: what was asked for is known, what is left at `done` is an unknown key.

    Faults are collected, not raised, so that all of them are told at once. `seen` gets each value that is read;
    `place` is where the document has the table, `path` what it is called.
    """

    def __init__(
        self,
        data: object,
        path: str,
        problems: list[str],
        seen: list[Setting] | None = None,
        place: tuple[str | int, ...] = (),
    ) -> None:
        self.path = path
        self.place = place
        self._problems = problems
        self._seen = seen
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        self._asked: set[str] = set()
        if not isinstance(data, dict):
            self._problems.append(f"{path} must be a table")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def at(self, key: str) -> str:
        """The key with its table's path before it."""
        return f"{self.path}.{key}" if self.path else key

    def names(self) -> list[str]:
        """Every key that is there."""
        return list(self._data)

    def problem(self, key: str, must: str) -> None:
        """Note that the key's value is not what it must be."""
        self._problems.append(f"{self.at(key)} {must}")

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self._take(key, default)
        valid = value is None or (isinstance(value, str) and value != "")
        text: str | None = self._checked(
            key, "text", value, default, valid=valid, must="must be a string that is not empty"
        )
        return text

    def text_or_none(self, key: str) -> str | None:
        """A string; one that is empty counts as left out."""
        value = self._take(key, None)
        valid = value is None or isinstance(value, str)
        text = self._checked(key, "text", value, None, valid=valid, must="must be a string")
        return text or None

    def pattern(self, key: str, default: str) -> str:
        """A regular expression; one that is empty counts as left out."""
        value = self._take(key, default)
        fault = pattern_fault(value) if isinstance(value, str) else "must be a string"
        pattern: str = self._checked(key, "text", value, default, valid=fault is None, must=fault or "")
        return pattern or default

    def choice(
        self, key: str, default: Any, options: Collection[str], aliases: Mapping[str, str] = MappingProxyType({})
    ) -> Any:
        """One of the options; `aliases` are what other programs call some of them."""
        value = self._take(key, default)
        if isinstance(value, str) and value in aliases:
            value = aliases[value]
        valid = value == default or (isinstance(value, str) and value in options)
        return self._checked(key, "text", value, default, valid=valid, must=f"must be one of {', '.join(options)}")

    def flag(self, key: str, default: bool) -> bool:  # noqa: FBT001  # a default, like the others
        value = self._take(key, default)
        return bool(
            self._checked(key, "flag", value, default, valid=isinstance(value, bool), must="must be true or false")
        )

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        value = self._take(key, default)
        valid = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        must = f"must be a number from {least:g} to {most:g}"
        number: float = self._checked(key, "number", value, default, valid=valid, must=must)
        return number

    def whole(self, key: str, default: int | None, *, least: int, most: int) -> int | None:
        value = self._take(key, default)
        valid = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        must = f"must be a whole number from {least} to {most}"
        whole: int | None = self._checked(key, "number", value, default, valid=valid or value is default, must=must)
        return whole

    def texts(self, key: str, default: Any) -> Any:
        value = self._take(key, default)
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            value = tuple(value)
        valid = value is default or isinstance(value, tuple)
        return self._checked(key, "texts", value, default, valid=valid, must="must be a list of strings")

    def strings(self, key: str, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """A table of strings, as pairs."""
        value = self._take(key, None)
        pairs = default if value is None else value
        if isinstance(value, dict) and all(isinstance(item, str) and item for item in value.values()):
            pairs = tuple(value.items())
        must = "must be a table of strings that are not empty"
        read: tuple[tuple[str, str], ...] = self._checked(
            key, "strings", pairs, default, valid=isinstance(pairs, tuple), must=must
        )
        return read

    def url(self, key: str, default: str | None = None) -> str | None:
        value = self.text(key, default)
        if value is not None and (fault := url_fault(value)):
            self.problem(key, fault)
            return default
        return value

    def ignore(self, key: str) -> bool:
        """Accept a key without reading it; tell whether it was there."""
        value = self._take(key, None)
        if value is not None:
            self._checked(key, "ignored", value, None, valid=True, must="")
        return value is not None

    def table(self, key: str) -> "Table":
        return Table(self._take(key, {}), self.at(key), self._problems, self._seen, (*self.place, key))

    def tables(self, key: str) -> list["Table"]:
        value = self._take(key, [])
        if not isinstance(value, list):
            self.problem(key, f"must be written as [[{self.at(key)}]]")
            return []
        return [
            Table(item, f"{self.at(key)}[{number}]", self._problems, self._seen, (*self.place, key, number - 1))
            for number, item in enumerate(value, 1)
        ]

    def done(self) -> None:
        """Note every key that nobody asked for, with the nearest known one."""
        for key in self._data:
            if key in self._asked:
                continue
            near = difflib.get_close_matches(key, self._asked, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(sorted(self._asked))}"
            self._problems.append(f"{self.at(key)} is no key that tokenferry knows{hint}")

    def _checked(self, key: str, kind: SettingKind, value: Any, default: Any, *, valid: bool, must: str) -> Any:
        if not valid:
            self.problem(key, must)
            value = default
        if self._seen is not None:
            self._seen.append(Setting(self, key, kind, value, key in self._data))
        return value

    def _take(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        return self._data.get(key, default)


def pattern_fault(pattern: str) -> str | None:
    """Say why a text is no regular expression; None if it is one."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as fault:
        return f"is no regular expression of Python's: {fault}"
    return None


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
