import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.config_key import ConfigKey, format_duration, keys_of, parse_duration
from tokenferry.errors import nearest

_METADATA_HOSTS: Final = (
    "100.100.100.200",
    "fd00:ec2::254",
    "instance-data",
    "metadata",
    "metadata.google.internal",
)
# The last label of a name holds a letter: resolvers read 2852039166 and 0xa9fea9fe as addresses.
_HOST_NAME: Final = re.compile(r"(?:[a-z0-9_-]+\.)*(?!0x)(?=[0-9_-]*[a-z])[a-z0-9_-]+\.?")


_Section = TypeVar("_Section", bound=Struct)
_Place: TypeAlias = tuple[str | int, ...]
_PATTERN_FAULTS: Final = {
    "missing ),": "a ( has no )",
    "unbalanced parenthesis": "a ) has no (",
    "unterminated character set": "a [ has no ]",
    "bad character range": "a range in [ ] runs backwards",
    "nothing to repeat": "there is nothing to repeat",
    "multiple repeat": "something is repeated twice",
    "min repeat": "a repetition's first number is larger than its second",
    "bad escape": "a backslash is followed by what it can't escape",
    "incomplete escape": "an escape is incomplete",
    "look-behind": "a look-behind matches texts of several lengths",
    "invalid group reference": "there is no such group",
    "unknown group name": "there is no such group",
    "redefinition": "two groups have one name",
    "unknown extension": "(? begins nothing that is known",
    "global flags": "flags like (?i) belong at the beginning",
}
"""The messages of Python's parser, and plainer ones for people."""


class Fault(Struct, frozen=True):
    """A fault of a document, and the keys and list indexes that lead to its place."""

    place: _Place
    text: str
    line: int | None = None

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class Setting(Struct, frozen=True):
    """A value that was read, by its dotted path; in the document it is `name` in a table."""

    path: str
    table: _Place
    name: str
    key: ConfigKey
    value: Any
    is_given: bool
    is_in_document: bool
    """Whether the document can contain it as it is; a built-in provider's needs a table first."""

    def __repr__(self) -> str:
        return f"Setting({self.path!r})"  # the value may be a key that was written where none belongs


class Reading(Struct):
    """The result of reading one document."""

    folder: Path = field(default_factory=Path)
    """The folder to which relative paths refer."""
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks that aren't faults."""
    settings: list[Setting] = field(default_factory=list)
    """Every value that was read."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The present names of former keys, by dotted path without list indexes."""


class Table:
    """One TOML table while it is read. `done` reports keys that nothing read as unknown.

    Faults are collected, so that all are reported at once. `place` is the table's place in the document, None for one
    that isn't there; `path` is its name in messages.
    """

    def __init__(self, data: object, path: str, reading: Reading, place: _Place | None = ()) -> None:
        self.path = path
        self.reading = reading
        self.place = place or ()
        self._is_in_document = place is not None
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        self._former: dict[str, tuple[Table, str, Callable[[Any], Any]]] = {}
        self._asked: set[str] = set()
        self._ignored: set[str] = set()
        if not isinstance(data, dict):
            reading.faults.append(Fault(self.place, f"{path} must be a table"))

    def __contains__(self, key: str) -> bool:
        return key in self._data or key in self._former

    def at(self, key: str) -> str:
        """Give the key's path from the top of the document."""
        return f"{self.path}.{key}" if self.path else key

    def names(self) -> list[str]:
        """Give every key of the table."""
        return list(self._data)

    def problem(self, key: str, must: str) -> None:
        """Report a fault of the key's value."""
        table, name, _ = self._former.get(key, (self, key, None))
        self.reading.faults.append(Fault((*table.place, name), f"{table.at(name)} {must}"))

    def note(self, key: str, what: str) -> None:
        """Add a remark about the key that isn't a fault."""
        self.reading.notes.append(f"{self.at(key)} {what}")

    def former(
        self, table: "Table", former: str, key: str, convert: Callable[[Any], Any] = lambda value: value
    ) -> None:
        """Read the key from its former place and name, `former` of that table; `convert` gives the present value."""
        if not table.ignore(former):
            return
        if key in self._data:
            table.problem(former, f"and {self.at(key)} say the same thing; keep the latter")
        else:
            self._former[key] = (table, former, convert)

    def raw(self, key: str) -> Any:
        """Give the key's value, unread."""
        return self._data.get(key)

    def read(self, defaults: _Section, *, but: Collection[str] = ()) -> _Section:
        """Give the section with the table's values. A wrong value leaves the default."""
        keys = keys_of(type(defaults))
        values = {name: self.get(key, getattr(defaults, name)) for name, key in keys.items() if name not in but}
        return replace(defaults, **values)

    def read_whole(self, defaults: _Section) -> _Section:
        """Give the section; every other key is a fault."""
        section = self.read(defaults)
        self.done()
        return section

    def get(self, key: ConfigKey, default: Any) -> Any:
        """Give the value of one key; the default if it is missing or wrong."""
        self._asked.add(key.name)
        table, name, convert = self._former.get(key.name, (self, key.name, None))
        value, is_given = default, name in table
        if is_given:
            try:
                raw = table.raw(name)
                value = _value(key, raw if convert is None else convert(raw), self.reading.folder)
            except ValueError as fault:
                self.problem(key.name, str(fault))
        self.reading.settings.append(
            Setting(self.at(key.name), table.place, name, key, value, is_given, self._is_in_document)
        )
        return value

    def ignore(self, key: str) -> bool:
        """Accept a key without suggesting it in messages; tell whether it is there."""
        self._ignored.add(key)
        return key in self._data

    def table(self, key: str, *, is_former: bool = False) -> "Table":
        """Give the table with this name. A former name isn't suggested in messages."""
        (self._ignored if is_former else self._asked).add(key)
        data = self._data.get(key, {})
        return Table(data, self.at(key), self.reading, (*self.place, key) if self._is_in_document else None)

    def tables(self, key: str) -> list["Table"]:
        self._asked.add(key)
        value = self._data.get(key, [])
        if not isinstance(value, list):
            self.problem(key, f"must be written as [[{self.at(key)}]]")
            return []
        return [
            Table(item, f"{self.at(key)}[{number}]", self.reading, (*self.place, key, number - 1))
            for number, item in enumerate(value, 1)
        ]

    def done(self) -> None:
        """Note every key that was not read, with the nearest known one."""
        for key in self._data:
            if key in self._asked | self._ignored:
                continue
            steps = [step for step in self.place if isinstance(step, str)]
            if steps[:1] == ["accounts"]:
                steps[1:] = ["NAME"]
            path = ".".join([*steps, key])
            if path in self.reading.renamed:
                self.problem(key, f"is now {self.reading.renamed[path]}")
                continue
            known = sorted(self._asked - self._ignored)
            near = nearest(key, known)
            hint = f"; did you mean {near}?" if near else f"; known here: {', '.join(known) or 'none'}"
            self.problem(key, f"is not a known key{hint}")


def _value(key: ConfigKey, value: Any, folder: Path) -> Any:  # noqa: C901, # a case for each kind
    """Convert a value of the document. Raises `ValueError` that says what it must be."""
    limits = f"from {_limit(key, key.least)} to {_limit(key, key.most)}"
    match key.kind:
        case "flag":
            if not isinstance(value, bool):
                raise ValueError("must be true or false")  # noqa: TRY004  # of a file's content
        case "whole" | "number":
            is_whole, valid = key.kind == "whole", isinstance(value, int | float) and not isinstance(value, bool)
            if not valid or not key.least <= value <= key.most or (is_whole and value != int(value)):
                raise ValueError(f"must be a {'whole ' if is_whole else ''}number {limits}")
            value = int(value) if is_whole else value
        case "duration":
            value = parse_duration(value)
            if value is None or not key.least <= value <= key.most:
                raise ValueError(f'must be a duration {limits}, as in "30s" or "5m"')
        case "texts":
            if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
                raise ValueError("must be a list of strings")
            value = tuple(value)
        case "strings":
            if not isinstance(value, dict) or not all(isinstance(one, str) and one for one in value.values()):
                raise ValueError("must be a table of strings that are not empty")
            value = tuple(value.items())
        case _:
            value = _text(key, value, folder)
    return value


def _text(key: ConfigKey, value: Any, folder: Path) -> str | Path | None:
    if key.kind == "choice":
        choice = key.aliases.get(value, value) if isinstance(value, str) else value
        if choice not in key.choices:
            raise ValueError(f"must be one of {', '.join(key.choices)}")
        return str(choice)
    if not isinstance(value, str):
        raise ValueError("must be a string" + ("" if key.is_optional else " that is not empty"))  # noqa: TRY004  # as above
    if not value:
        if key.is_optional or key.kind == "pattern":
            return None if key.is_optional else str(key.default)
        raise ValueError("must be a string that is not empty")
    if key.kind == "pattern" and (fault := pattern_fault(value)):
        raise ValueError(fault)
    if key.kind == "url" and (fault := url_fault(value)):
        raise ValueError(fault)
    return value if key.kind != "path" else _path(value, folder)


def _path(name: str, folder: Path) -> Path:
    if "\0" in name:
        raise ValueError("is not a file's path")
    try:
        return folder.absolute() / Path(name).expanduser()
    except RuntimeError:
        raise ValueError("names a home directory that is not known here") from None


def _limit(key: ConfigKey, limit: float) -> str:
    return format_duration(limit) if key.kind == "duration" else f"{limit:.12g}"


def pattern_fault(pattern: str) -> str | None:
    """Say why a text isn't a valid regular expression; None if it is."""
    try:
        re.compile(pattern)
    except re.error as fault:
        place = "" if fault.pos is None else f"at character {fault.pos + 1}, "
        reason = next(
            (plain for words, plain in _PATTERN_FAULTS.items() if fault.msg.startswith(words)), "it can't be read"
        )
    except (RecursionError, OverflowError):
        place, reason = "", "it is too long or repeats too often"
    else:
        return None
    return f"isn't a regular expression: {place}{reason}"


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address can only mean this machine."""
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
    """Say why a URL can't be an upstream or a token endpoint; None if it can be."""
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        return "must be a URL in ASCII without blanks"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "is not a URL"
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
