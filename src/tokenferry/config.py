"""Reads config.toml into settings. Every fault is told at once, with its key, its place and the nearest known key."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from tokenferry.credentials import ApiKey
from tokenferry.errors import ConfigError, UnsafeFile
from tokenferry.providers import Provider, Table, builtin_providers, declare
from tokenferry.secret import Fields, Secret
from tokenferry.settings import LONGEST_DRAIN, MOST_WORKERS, GatewaySettings, PolicySettings, ServerSettings
from tokenferry.statement import stated_at
from tokenferry.stores import ACCOUNT_NAME, read_private_file

__all__ = ["Config", "load"]

_LATER: Final = ("models", "router")
_PORTS: Final = 65_535
_CONNECTIONS: Final = 65_536
_VARIABLE: Final = re.compile(r"\$(\{)?([A-Za-z_][A-Za-z0-9_]*)(?(1)\})")


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration says, and where it said so."""

    path: Path | None = None
    server: ServerSettings = field(default_factory=ServerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    providers: Mapping[str, Provider] = field(default_factory=builtin_providers)
    """By name: declared ones in their order, then the built-in ones."""
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """The accounts that exist because a provider's `api_key` says so, by name."""
    warnings: tuple[str, ...] = ()


def load(
    path: Path,
    *,
    required: bool = False,
    environ: Mapping[str, str] | None = None,
    statement: Path | None = None,
) -> Config:
    """Read the file; built-in settings if there is none and it isn't `required`.

    What it doesn't say about policy, the operator's `statement` does. Raises `ConfigError` listing every fault,
    `UnsafeFile` if others could write it, `CorruptFile` for a statement that can't be understood.
    """
    environ = Fields(os.environ if environ is None else environ)  # whose repr, unlike that of environ, tells nothing
    config = _load(path, required=required, environ=environ)
    if statement is None or config.policy.source != "default":
        return config
    at = stated_at(statement)
    return config if at is None else replace(config, policy=PolicySettings("own", "statement", at))


def _load(path: Path, *, required: bool, environ: Mapping[str, str]) -> Config:
    try:
        data = Fields(tomllib.loads(read_private_file(path, readable_by_others=True).decode("utf-8")))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path} not found; name an existing file with --config, or leave it out") from None
        return Config()
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as fault:
        reason = str(fault)
    else:
        return _read(data, path, environ)
    raise ConfigError(f"{path} is no TOML: {reason}")


def _read(data: Fields, path: Path, environ: Mapping[str, str]) -> Config:
    problems: list[str] = []
    warnings: list[str] = []
    root = Table(data, "", problems)

    providers, keys = _providers(root.tables("providers"), path, environ, warnings)
    server = _server(root.table("server"), path.parent)
    gateway = _gateway(root.table("gateway"), path.parent, providers)
    policy = _policy(root.table("policy"))
    if later := [key for key in _LATER if root.ignore(key)]:
        warnings.append(f"{path}: {' and '.join(later)} accepted but without effect: this version does not route")
    root.done()
    if problems:
        raise ConfigError(f"{path} can't be used:", tuple(problems))
    return Config(
        path=path,
        server=server,
        gateway=gateway,
        policy=policy,
        providers=MappingProxyType(providers),
        keys=MappingProxyType(keys),
        warnings=tuple(warnings),
    )


def _providers(
    tables: Iterable[Table], path: Path, environ: Mapping[str, str], warnings: list[str]
) -> tuple[dict[str, Provider], dict[str, ApiKey]]:
    builtin = builtin_providers()
    declared: dict[str, Provider] = {}
    keys: dict[str, ApiKey] = {}
    for table in tables:
        provider = declare(table, builtin)
        key = _api_key(table, path, environ, warnings)
        if provider and "api_key" in table and not ACCOUNT_NAME.fullmatch(provider.name):
            table.problem("name", "with an api_key also names an account: letters, digits and . _ @ + - only")
        if provider and key:
            keys[provider.name] = key
        if table.ignore("models"):
            warnings.append(f"{path}: {table.path}.models accepted but without effect: this version does not route")
        table.done()
        if provider is None:
            continue
        if provider.name in declared:
            table.problem("name", "is declared twice; give each provider a name of its own")
        if provider.strategy != "priority":
            warnings.append(f"{path}: {table.path}.strategy: this version knows priority alone and uses that")
        declared[provider.name] = provider
    return {**declared, **{name: one for name, one in builtin.items() if name not in declared}}, keys


def _api_key(table: Table, path: Path, environ: Mapping[str, str], warnings: list[str]) -> ApiKey | None:
    """`api_key = "$VAR"` or the path of a 0600 file; never the key itself."""
    where = table.text("api_key")
    if where is None:
        return None
    value: str | None
    if variable := _VARIABLE.fullmatch(where):
        value = environ.get(variable[2])
        if not value:
            warnings.append(f"{path}: {table.path}.api_key: {variable[2]} is not set, so that account is missing")
            return None
    else:
        try:
            value = read_private_file(path.parent / Path(where).expanduser()).decode("ascii", "replace")
        except (OSError, RuntimeError, UnsafeFile, ValueError) as fault:
            # What names no file may be a key, so only the path of one that is there is shown.
            reason = f"; {fault}" if isinstance(fault, UnsafeFile) and _is_there(path.parent / where) else ""
            table.problem(
                "api_key",
                'must be "$VARIABLE" or the path of a file that can be read; '
                f"a key itself does not belong here{reason}",
            )
            return None
    try:
        return ApiKey(Secret(value.strip()))
    except ValueError as fault:
        table.problem("api_key", f"leads to no usable key: {fault}")
        return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _server(table: Table, folder: Path) -> ServerSettings:
    default = ServerSettings()
    port = table.number("port", default.port, least=0, most=_PORTS)
    if port != int(port):
        table.problem("port", "must be a whole number")
    workers = table.number("workers", default.workers, least=1, most=MOST_WORKERS)
    if workers != int(workers):
        table.problem("workers", "must be a whole number")
    uds = _file(table, "uds", folder)
    certificate, key = _file(table, "tls_cert", folder), _file(table, "tls_key", folder)
    if (certificate is None) != (key is None):
        table.problem("tls_cert", "and tls_key must be set together")
    settings = ServerSettings(
        host=table.text("host", default.host) or default.host,
        port=int(port),
        log_level=table.choice("log_level", default.log_level, ("debug", "info", "warning", "error")),
        log_format=table.choice("log_format", default.log_format, ("text", "json")),
        allowed_hosts=table.texts("allowed_hosts", default.allowed_hosts),
        uds=uds,
        tcp=uds is None or "host" in table or "port" in table,
        tls_cert=certificate,
        tls_key=key,
        workers=int(workers),
        drain=table.number("drain", default.drain, least=0, most=LONGEST_DRAIN),
    )
    table.done()
    return settings


def _file(table: Table, key: str, folder: Path) -> Path | None:
    """A file's path, seen from the folder of the configuration."""
    name = table.text(key)
    if name is None:
        return None
    if "\0" in name:
        table.problem(key, "is no file's path")
        return None
    try:
        return folder.absolute() / Path(name).expanduser()
    except RuntimeError:
        table.problem(key, "names a home directory that is not known here")
        return None


def _gateway(table: Table, folder: Path, providers: Mapping[str, Provider]) -> GatewaySettings:
    ca_file = _file(table, "ca_file", folder)
    if ca_file is not None and not _is_there(ca_file):
        table.problem("ca_file", "must be the path of a file of certificates in PEM that is there")
    connections = table.number("max_connections", 0, least=0, most=_CONNECTIONS)
    if connections != int(connections):
        table.problem("max_connections", "must be a whole number")
    settings = GatewaySettings(
        account=table.text("account"),
        providers=table.texts("providers", ()),
        ca_file=ca_file,
        max_connections=int(connections) or None,
    )
    for name in settings.providers:
        if name not in providers:
            table.problem("providers", f"names {name!r}, which is no provider; known: {', '.join(providers)}")
    table.done()
    return settings


def _policy(table: Table) -> PolicySettings:
    source: Literal["default", "config.toml"] = "config.toml" if "subscription" in table else "default"
    settings = PolicySettings(table.choice("subscription", "off", ("off", "own")), source)
    table.done()
    return settings
