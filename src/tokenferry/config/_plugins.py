"""Providers that installed packages declare as data, if `[plugins] enabled` names the package."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from tokenferry.config._toml import toml_fault
from tokenferry.limits import Action, CooldownRule, Rule, Scope
from tokenferry.manifest import depend_on
from tokenferry.providers import Provider, Reading, Table, declare, is_builtin_vendor, presets
from tokenferry.wire import Quirks

PLUGIN_FILE: Final = "tokenferry.toml"
_TAKEN: Final = (
    "name",
    "base_url",
    "wire_format",
    "key_header",
    "env_var",
    "models",
    "check_url",
    "max_output_tokens",
    "slash_names",
)
_MORE: Final = ("quirks", "headers", "limits")
_HEADER: Final = re.compile(r"x-(?!api-key$|stainless|app$|claude|goog|tokenferry)[a-z0-9-]{1,60}")
_VALUE: Final = re.compile(r"[!-~]+(?: [!-~]+)*")

_SAID: Final = re.compile(
    r"(?:Object (?:contains unknown|(?P<lacks>missing required)) field `(?P<field>\w+)`|Expected `(?P<type>\w+)|.*?)"
    r"[^$]*(?:`\$(?P<place>[^`]*)`)?\Z",
    re.DOTALL,
)
"""The messages of msgspec, and plainer ones for people."""
_TYPES: Final = {
    "str": "text",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_Kind = TypeVar("_Kind")


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """A row of `[[providers.limits]]`: the meaning of an answer."""

    statuses: list[int]
    cause: str
    reason: str
    codes: list[str] = []
    says: str = ""
    scope: Scope = "account"
    action: Action = "fail-over"
    hold: CooldownRule = "retry-after"


class Packaged(NamedTuple):
    """The declarations of packages, by the provider's name, and their files."""

    providers: Mapping[str, Provider]
    limit_rules: Mapping[str, tuple[Rule, ...]]
    files: tuple[Path, ...]


def read_packages(table: Table, packages: Sequence[str], builtin: Mapping[str, Provider]) -> Packaged:
    """Read the declaration of each package, without importing it.

    A fault of a package is reported as a fault of `enabled` in `table`: a wrong name or file, or a provider that is
    built in.
    """
    providers: dict[str, Provider] = {}
    rules: dict[str, tuple[Rule, ...]] = {}
    files: list[Path] = []
    for package in packages:
        try:
            file = _file_of(package)
            files.append(file)
            found = [_provider(data, builtin) for data in _tables(file)]
        except (OSError, ValueError) as fault:
            table.problem("enabled", f"names {package!r}, which {fault}")
            continue
        for provider, limit_rules in found:
            if provider.name in providers:
                table.problem("enabled", f"names two packages that declare {provider.name!r}; keep one of them")
            providers[provider.name], rules[provider.name] = provider, limit_rules
    return Packaged(providers, {name: found for name, found in rules.items() if found}, tuple(files))


def _file_of(package: str) -> Path:
    """Give the path of the package's declaration. Raises `ValueError`."""
    try:
        found = distribution(package).files or []
    except (PackageNotFoundError, ValueError):
        raise ValueError(f"is not installed here; install it with: pip install {package}") from None
    for file in found:
        if file.name == PLUGIN_FILE:
            return Path(str(file.locate()))
    raise ValueError(f"has no {PLUGIN_FILE}, so it declares no provider")


def _tables(file: Path) -> list[dict[str, Any]]:
    depend_on("file", file)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"has a {PLUGIN_FILE} that is not valid TOML: {toml_fault(fault)}") from None
    tables = data.get("providers")
    if not isinstance(tables, list) or set(data) != {"providers"} or not all(isinstance(one, dict) for one in tables):
        raise ValueError(f"has a {PLUGIN_FILE} that holds something besides [[providers]]")
    return tables


def _provider(data: dict[str, Any], builtin: Mapping[str, Provider]) -> tuple[Provider, tuple[Rule, ...]]:
    """Give one declared provider with its rules. Raises `ValueError`."""
    name = data.get("name")
    if unknown := sorted(set(data) - {*_TAKEN, *_MORE}):
        raise ValueError(
            f"declares {unknown[0]} for provider {name!r}; a package may say {', '.join((*_TAKEN, *_MORE))}"
        )
    reading = Reading()
    given = {key: value for key, value in data.items() if key in _TAKEN and key != "slash_names"}
    provider = declare(Table(given, "providers", reading), {})
    if provider is None or reading.faults:
        raise ValueError(f"can't be used: {reading.faults[0] if reading.faults else 'a provider has no name'}")
    host = urlsplit(provider.base_url).hostname or ""
    if name in {*builtin, *presets()} or is_builtin_vendor(provider.base_url):
        raise ValueError(f"declares {name!r} at {host}, and that name or host is built in")
    quirks, rows, headers = data.get("quirks", {}), data.get("limits", []), data.get("headers", {})
    try:
        _converted("quirks", quirks, Quirks)
        rows = _converted("limits", rows, list[_Row])
        headers = _converted("headers", headers, dict[str, str])
    except ValueError as fault:
        raise ValueError(f"can't be used: provider {name!r}: {fault}") from None
    for key, value in headers.items():
        if not _HEADER.fullmatch(key.lower()) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"declares the header {key!r} for {name!r}; a fixed header begins with x- and is not a credential"
            )
    provider = replace(
        provider,
        quirks=tuple(quirks.items()),
        slash_names=data.get("slash_names") is True,
        headers=tuple((key.lower(), value) for key, value in headers.items()),
    )
    return provider, tuple(_rule(row) for row in rows)


def _converted(key: str, value: object, kind: type[_Kind]) -> _Kind:
    """Convert the value to a `kind`. Raises `ValueError` with the fault and its place under `key`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        said = _SAID.match(str(fault))
    if said is None:
        raise ValueError(f"{key} can't be understood")
    place = f"{key}{said['place'] or ''}".replace("[...]", " (each value)")
    if said["field"]:
        raise ValueError(f"{place} {'lacks' if said['lacks'] else 'has an unknown key,'} {said['field']}")
    wanted = _TYPES.get(said["type"])
    raise ValueError(f"{place} must be {wanted}" if wanted else f"{place} has a value that isn't known")


def _rule(row: _Row) -> Rule:
    return Rule(
        statuses=frozenset(row.statuses),
        codes=frozenset(row.codes),
        says=re.escape(row.says) if row.says else "",
        cause=row.cause,
        scope=row.scope,
        action=row.action,
        hold=row.hold,
        reason=row.reason.replace("{", "{{").replace("}", "}}"),
    )
