import codecs
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tokenferry.config._files import files_of
from tokenferry.config._gateway import read_gateway
from tokenferry.config._models import read_models
from tokenferry.config._place import read_config_file
from tokenferry.config._policy import read_policy
from tokenferry.config._pool import read_pool
from tokenferry.config._providers import read_providers
from tokenferry.config._router import read_router
from tokenferry.config._server import read_server
from tokenferry.credentials import ApiKey
from tokenferry.errors import ConfigError
from tokenferry.providers import Provider, Setting, Table, builtin_providers
from tokenferry.secret import Fields
from tokenferry.settings import (
    GatewaySettings,
    ModelSettings,
    PolicySettings,
    PoolSettings,
    RouterSettings,
    ServerSettings,
)
from tokenferry.statement import stated_at

_SECTION: Final = re.compile(r"[^.\[ ]+")
_RULING: Final = ("policy", "store", "seal", "sealing", "encryption", "subscription")

_NEAR: Final = 0.7  # "polcy" is near enough, "pool" isn't


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration says, and where it said so."""

    path: Path | None = None
    server: ServerSettings = field(default_factory=ServerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    models: tuple[ModelSettings, ...] = ()
    router: RouterSettings = field(default_factory=RouterSettings)
    providers: Mapping[str, Provider] = field(default_factory=builtin_providers)
    """By name: declared ones in their order, then the built-in ones."""
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """The accounts that exist because a provider's `api_key` says so, by the provider's name."""
    files: tuple[Path, ...] = ()
    """What was read besides: keys and certificates."""
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """What can't be used of it; none unless it was read for one credential alone."""

    def check(self) -> None:
        """Raise `ConfigError` if there is any fault."""
        if self.faults:
            raise ConfigError(f"{self.path} can't be used:", self.faults)

    def check_provider(self, name: str) -> None:
        """Raise `ConfigError` if a fault is about this provider."""
        about = tuple(fault for fault in self.faults if fault.startswith((f"providers.{name}.", f"providers.{name} ")))
        if about:
            raise ConfigError(f"{self.path} can't be used:", about)


def load(
    path: Path,
    *,
    required: bool = False,
    environ: Mapping[str, str] | None = None,
    statement: Path | None = None,
    for_credential: bool = False,
) -> Config:
    """Read the file; built-in settings if there is none and it isn't `required`.

    What it doesn't say about policy, the operator's `statement` does. `for_credential` says that it is read to hand out
    a credential alone: then faults of sections that don't rule that are kept in `faults`, and whoever hands it out
    asks `check_provider`. Raises `ConfigError` listing every fault,
    `UnsafeFile` if others could write it, `CorruptFile` for a statement that can't be understood.
    """
    environ = Fields(os.environ if environ is None else environ)  # whose repr, unlike that of environ, tells nothing
    config = _load(path, required=required, environ=environ, is_lenient=for_credential)
    if statement is None or config.policy.source != "default":
        return config
    at = stated_at(statement)
    return config if at is None else replace(config, policy=PolicySettings("own", "statement", at))


def _load(path: Path, *, required: bool, environ: Mapping[str, str], is_lenient: bool) -> Config:
    try:
        content = read_config_file(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path} not found; name an existing file with --config, or leave it out") from None
        return Config()
    data = parse(content, path)
    problems: list[str] = []
    config = read(data, path, environ, problems)
    if problems and (not is_lenient or any(map(_rules_credentials, problems))):
        raise ConfigError(f"{path} can't be used:", tuple(problems))
    return replace(config, faults=tuple(problems)) if problems else config


def _rules_credentials(problem: str) -> bool:
    """Whether a fault is about who may have which credential, or may be: a section that is misspelt counts, too."""
    if problem.startswith("providers"):
        return not problem.startswith(("providers.", "providers["))  # those are of one provider
    section = _SECTION.match(problem)
    return section is None or bool(get_close_matches(section[0], _RULING, cutoff=_NEAR))


def parse(content: bytes, path: Path) -> Fields:
    """Raises `ConfigError` for what is no TOML."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path} begins with a byte order mark, which TOML has none of; save it as UTF-8 without BOM")
    try:
        return Fields(tomllib.loads(content.decode("utf-8")))
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as fault:
        reason = str(fault)
    raise ConfigError(f"{path} is no TOML: {reason}")


def read(
    data: Mapping[str, Any],
    path: Path,
    environ: Mapping[str, str],
    problems: list[str],
    seen: list[Setting] | None = None,
) -> Config:
    """What the document says, of use only if it adds no problems; `seen` gets every setting there is."""
    seen = [] if seen is None else seen
    warnings: list[str] = []
    notes: list[str] = []
    root = Table(data, "", problems, seen)

    providers, keys, listed = read_providers(root, path, environ, warnings)
    server, timeouts = read_server(root.table("server"), path.parent, notes)
    gateway = read_gateway(root.table("gateway"), path.parent, providers, timeouts)
    policy = read_policy(root.table("policy"))
    pool = read_pool(root.table("pool"))
    models = read_models(root.tables("models"), providers, listed, notes)
    router = read_router(root.table("router"), models, notes)
    warnings.extend(f"{path}: {note}" for note in notes)
    root.done()
    return Config(
        path=path,
        server=server,
        gateway=gateway,
        policy=policy,
        pool=pool,
        models=models,
        router=router,
        providers=MappingProxyType(providers),
        keys=MappingProxyType(keys),
        files=() if problems else tuple(files_of(seen, path.parent)),  # what names no file may be a key
        warnings=tuple(warnings),
    )
