import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.config._alerts import read_alerts
from tokenferry.config._budgets import read_budgets
from tokenferry.config._dashboard import read_dashboard
from tokenferry.config._files import files_of
from tokenferry.config._lines import with_lines
from tokenferry.config._models import read_models
from tokenferry.config._place import read_config_file
from tokenferry.config._policy import read_policy
from tokenferry.config._pool import read_pool
from tokenferry.config._prices import read_prices
from tokenferry.config._providers import read_providers
from tokenferry.config._renamed import RENAMED
from tokenferry.config._router import read_router
from tokenferry.config._server import read_log, read_server
from tokenferry.config._store import read_store
from tokenferry.config._toml import parse
from tokenferry.config._upstream import read_upstream
from tokenferry.credentials import ApiKey
from tokenferry.errors import ConfigError, nearest
from tokenferry.policy_statement import stated_at
from tokenferry.providers import Fault, Provider, Reading, Table, builtin_providers
from tokenferry.secret import Fields
from tokenferry.settings import (
    AlertSettings,
    DashboardSettings,
    LedgerSettings,
    LogSettings,
    MetricsSettings,
    ModelSettings,
    PluginSettings,
    PolicySettings,
    PoolSettings,
    PriceSettings,
    RouterSettings,
    ServerSettings,
    StoreSettings,
    UpstreamSettings,
)
from tokenferry.stores import check_folder

if TYPE_CHECKING:
    from tokenferry.budgets import Budget
    from tokenferry.limits import Rule

_SECTION: Final = re.compile(r"[^.\[ ]+")
_RULING: Final = ("policy", "store", "seal", "sealing", "encryption", "subscription")

_NEAR: Final = 0.7  # "polcy" is near enough, "pool" isn't


class Config(Struct, frozen=True):
    """A configuration, and the sources of its values."""

    path: Path | None = None
    server: ServerSettings = field(default_factory=ServerSettings)
    log: LogSettings = field(default_factory=LogSettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    models: tuple[ModelSettings, ...] = ()
    router: RouterSettings = field(default_factory=RouterSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
    prices: tuple[PriceSettings, ...] = ()
    budgets: "tuple[Budget, ...]" = ()
    providers: Mapping[str, Provider] = field(default_factory=builtin_providers)
    """By name: declared ones in their order, then the built-in ones."""
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """The accounts of providers' `api_key`, by the provider's name."""
    limit_rules: "Mapping[str, tuple[Rule, ...]]" = field(default_factory=dict)
    """The limit rules that packages declare, by the provider's name."""
    files: tuple[Path, ...] = ()
    """Other files that were read: keys, certificates and declarations of packages."""
    warnings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    """Faults; empty unless it was read for one credential only."""

    def check(self) -> None:
        """Raise `ConfigError` if there is any fault."""
        if self.faults:
            raise ConfigError(f"{self.path} can't be used:", tuple(map(str, self.faults)))

    def check_provider(self, name: str) -> None:
        """Raise `ConfigError` if a fault concerns this provider."""
        begins = (f"providers.{name}.", f"providers.{name} ")
        about = tuple(str(fault) for fault in self.faults if fault.text.startswith(begins))
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
    """Read the file; built-in settings if it is missing and not `required`.

    The operator's `statement` decides the policy unless the file does. `for_credential` means that it is read to hand
    out one credential: faults of sections that don't affect that are stored in `faults`, and the caller calls
    `check_provider`. Raises `ConfigError` with every fault, `UnsafeFile` if others can write the file, `CorruptFile`
    for an invalid statement.
    """
    environ = Fields(os.environ if environ is None else environ)  # its repr, unlike that of environ, shows no value
    config = _load(path, required=required, environ=environ, is_lenient=for_credential)
    if statement is None or config.policy.source != "default":
        return config
    at = stated_at(statement)
    return config if at is None else replace(config, policy=PolicySettings("own-use", "statement", at))


def _load(path: Path, *, required: bool, environ: Mapping[str, str], is_lenient: bool) -> Config:
    try:
        content = read_config_file(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path} not found; name an existing file with --config, or leave it out") from None
        return Config()
    if not required:  # it counts because it lies there, so no other user may put another one in its place
        check_folder(path.parent)
    config, reading = read(parse(content, path), path, environ)
    config = replace(config, faults=with_lines(reading.faults, content))
    if not is_lenient or any(_rules_credentials(fault.text) for fault in config.faults):
        config.check()
    return config


def _rules_credentials(problem: str) -> bool:
    """Tell whether a fault may concern who gets which credential; a misspelt section does."""
    if problem.startswith("providers"):
        return not problem.startswith(("providers.", "providers["))  # those are of one provider
    section = _SECTION.match(problem)
    return section is None or nearest(section[0], _RULING, cutoff=_NEAR) is not None


def read(data: Mapping[str, Any], path: Path, environ: Mapping[str, str]) -> tuple[Config, Reading]:
    """Give the document's configuration, which is usable only without faults, and the result of reading it."""
    reading = Reading(path.parent, renamed=RENAMED)
    root = Table(data, "", reading)

    packaged, limit_rules, declarations = _packaged(root.table("plugins"))
    providers, keys = read_providers(root, path, environ, packaged)
    server, log = root.table("server"), root.table("log")
    log.former(server, "log_level", "level")
    upstream = read_upstream(root.table("upstream"), server.table("timeouts", is_former=True))
    models = read_models(root.tables("models"), providers)
    config = Config(
        path=path,
        server=read_server(server),
        log=read_log(log),
        upstream=upstream,
        policy=read_policy(root.table("policy")),
        pool=read_pool(root.table("pool"), root.table("accounts"), providers),
        models=models,
        router=read_router(root.table("router"), root.table("gateway", is_former=True), models, providers),
        ledger=root.table("ledger").read_whole(LedgerSettings()),
        alerts=read_alerts(root.table("alerts"), environ),
        metrics=root.table("metrics").read_whole(MetricsSettings()),
        store=read_store(root.table("store")),
        dashboard=read_dashboard(root.table("dashboard")),
        prices=read_prices(root.tables("prices"), providers),
        budgets=read_budgets(root.tables("budgets")),
        providers=MappingProxyType(providers),
        keys=MappingProxyType(keys),
        limit_rules=limit_rules,
        # Where there is a fault, what should name a file may be a key.
        files=() if reading.faults else (*files_of(reading.settings, path.parent), *declarations),
        warnings=tuple(f"{path}: {note}" for note in reading.notes),
    )
    root.done()
    return config, reading


def _packaged(table: Table) -> "tuple[Mapping[str, Provider], Mapping[str, tuple[Rule, ...]], tuple[Path, ...]]":
    """Give the providers and rules that `[plugins]` adds, by the provider's name, and the packages' files."""
    settings = table.read_whole(PluginSettings())
    if not settings.enabled:
        return {}, {}, ()
    from tokenferry.config._plugins import read_packages  # noqa: PLC0415  # few name any, and metadata is slow to read

    return read_packages(table, settings.enabled, builtin_providers())
