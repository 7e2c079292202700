"""The paths of the home, and the settings of the configuration: one frozen class per section."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Struct

from tokenferry.config_key import ConfigKey
from tokenferry.errors import ConfigError
from tokenferry.secret import Concealing, Secret

__all__ = [
    "AUTO_MAP_REGEX",
    "BACKGROUND_REGEX",
    "LONGEST_DRAIN",
    "MOST_WORKERS",
    "NO_CAPS",
    "XDG_VARIABLES",
    "AccountSettings",
    "AlertKind",
    "AlertSettings",
    "BackgroundRefreshSettings",
    "BudgetSettings",
    "Caps",
    "DashboardOrigin",
    "DashboardSettings",
    "Home",
    "LedgerSettings",
    "LogLevel",
    "LogSettings",
    "MetricsSettings",
    "ModelMapping",
    "ModelSettings",
    "Overage",
    "PluginSettings",
    "PolicySettings",
    "PoolSettings",
    "PriceSettings",
    "RefreshSettings",
    "RouterSettings",
    "RuleSettings",
    "ServerSettings",
    "StoreSettings",
    "Strategy",
    "Subscriptions",
    "UpstreamSettings",
]


class Home(Struct, frozen=True):
    """The folder with all files of tokenferry (0700), their paths, and the path of the configuration."""

    path: Path
    config_file: Path | None = None
    """The named configuration; None for config.toml in the folder."""
    is_config_named: bool = False
    """Whether TOKENFERRY_CONFIG names the file, so that it must exist."""

    @classmethod
    def from_environment(cls) -> "Home":
        """Give the home that the environment names.

        TOKENFERRY_HOME is the folder of everything; without it the places of the XDG base directory specification are
        used. TOKENFERRY_CONFIG names another configuration. Raises `ConfigError` for a relative TOKENFERRY_HOME,
        without a home directory, and if the accounts are still in the default folder of former versions.
        """
        try:
            named = os.environ.get("TOKENFERRY_CONFIG")
            config = Path(named).expanduser().absolute() if named else None
            if folder := os.environ.get("TOKENFERRY_HOME"):
                path = Path(folder).expanduser()
                if not path.is_absolute():
                    raise ConfigError(
                        f"TOKENFERRY_HOME is {folder!r}, which would be another folder in each working directory; "
                        f"set it to an absolute path, such as {path.absolute()}"
                    )
                return cls(path, config, config is not None)
            path = _xdg("XDG_DATA_HOME", ".local/share")
            _refuse_former(path, Path.home() / ".config" / "tokenferry")
            return cls(path, config or _xdg("XDG_CONFIG_HOME", ".config") / "config.toml", config is not None)
        except RuntimeError:
            raise ConfigError("no home directory is known here; set HOME, or TOKENFERRY_HOME to a folder") from None

    @property
    def config(self) -> Path:
        return self.config_file or self.path / "config.toml"

    @property
    def accounts(self) -> Path:
        return self.path / "accounts"

    @property
    def attached(self) -> Path:
        """The folder of accounts whose credential another program stores."""
        return self.path / "attached"

    @property
    def published(self) -> Path:
        """The folder with a record of each profile of the official SDKs that we wrote."""
        return self.path / "published"

    @property
    def renewer(self) -> Path:
        """The file that names the renewer's lock; its modification time is that of the last `refresh --due`."""
        return self.path / "keeper"

    @property
    def gateway_id(self) -> Path:
        """The file with the id that the home's gateways add to `Via`."""
        return self.path / "gateway-id"

    @property
    def login_secret(self) -> Path:
        """The file with the secret that finishes logins begun at another gateway of the home."""
        return self.path / "login-secret"

    @property
    def setup(self) -> Path:
        """The folder with the content that `setup` replaced in other programs' settings."""
        return self.path / "setup"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def spill(self) -> Path:
        """The folder with this host's attempts to refresh logins that several hosts share."""
        return self.path / "spill"

    @property
    def move_to_claude_code(self) -> Path:
        """The record of a running or interrupted move into Claude Code's store."""
        return self.path / "moves" / "claude-code.json"

    @property
    def statement(self) -> Path:
        """The file with the operator's dated statement about the use of their subscription."""
        return self.path / "policy.json"

    @property
    def seal(self) -> Path:
        """The file that says that the documents are sealed, and where the key is; missing if they aren't."""
        return self.path / "seal.json"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def ledger(self) -> Path:
        """The usage and cost of requests."""
        return self.path / "ledger.db"

    @property
    def config_undo(self) -> Path:
        """The content of config.toml before its last change by `config set` or the dashboard."""
        return self.path / "config-undo.json"

    @property
    def audit(self) -> Path:
        return self.path / "audit.log"

    @property
    def local_key(self) -> Path:
        return self.path / "local.key"

    @property
    def gateways(self) -> Path:
        """The folder with a record of each running gateway."""
        return self.path / "gateways"

    @property
    def active(self) -> Path:
        """The file with the name of the account in `use`."""
        return self.path / "active"

    @property
    def default_provider(self) -> Path:
        """The file with the name of the provider that serves unmapped models."""
        return self.path / "default-provider"


XDG_VARIABLES: Final = ("XDG_CONFIG_HOME", "XDG_DATA_HOME")
"""The variables that place the home, unless TOKENFERRY_HOME is set."""


def _xdg(variable: str, default: str) -> Path:
    """Give our folder below a base directory. A relative base directory is ignored, as the specification says."""
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path.home() / default) / "tokenferry"


def _refuse_former(path: Path, former: Path) -> None:
    """Raise `ConfigError` if the home is empty and the former default folder has accounts."""
    try:
        if path == former or (path.is_dir() and any(path.iterdir())):
            return
    except OSError:  # a folder that can't be listed exists
        return
    if any(former.glob("accounts/*.json")) or any(former.glob("attached/*.json")):
        raise ConfigError(
            f"there is no account in {path}; the accounts in {former}, where they lay before, are used with: "
            f"export TOKENFERRY_HOME={shlex.quote(str(former))}"
        )


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "human", "logfmt", "json"]
Strategy: TypeAlias = Literal["priority", "round-robin", "least-utilised", "drain-soonest-reset"]
DashboardOrigin: TypeAlias = Literal["name", "address"]
Overage: TypeAlias = Literal["allow", "avoid", "refuse"]
Subscriptions: TypeAlias = Literal["claude-code-only", "own-use"]

MOST_WORKERS: Final = 64
LONGEST_DRAIN: Final = 3600.0
_DAY: Final = 86_400.0
_SHORTEST: Final = 0.001
_FORMER_FORMATS: Final = MappingProxyType({"text": "auto"})
_RUST_LEVELS: Final = MappingProxyType({"trace": "debug", "warn": "warning"})
_FORMER_POLICIES: Final = MappingProxyType({"off": "claude-code-only", "own": "own-use"})


LONGEST_SOCKET: Final = 103
"""The most bytes of a Unix socket's path: sun_path has 108 on Linux, 104 on macOS, with the NUL that ends it."""


class ServerSettings(Struct, frozen=True):
    """`[server]`: the addresses on which the gateway listens."""

    host: Annotated[str, ConfigKey("The address or host name to listen on.")] = "127.0.0.1"
    port: Annotated[int, ConfigKey("The port to listen on; 0 takes a free one.", 0, 65_535)] = 13456
    uds: Annotated[Path | None, ConfigKey("A Unix socket to listen on; TCP only if host or port is set, too.")] = None
    tls_cert: Annotated[Path | None, ConfigKey("PEM file for TLS on TCP: the certificate and its chain.")] = None
    tls_key: Annotated[Path | None, ConfigKey("PEM file with the certificate's key: mode 0600, no password.")] = None
    workers: Annotated[int, ConfigKey("The number of worker processes.", 1, MOST_WORKERS)] = 1
    public_url: Annotated[
        str | None,
        ConfigKey("The URL in browsers behind a proxy, such as https://gateway.example."),
    ] = None
    drain_timeout: Annotated[
        float, ConfigKey("Time for requests to finish when it stops.", 0, LONGEST_DRAIN, "duration")
    ] = 30.0
    drain_delay: Annotated[
        float,
        ConfigKey("Time between /readyz's first 503 and the stop; requests are still accepted.", 0, 300, "duration"),
    ] = 0.0
    allow_remote: Annotated[bool, ConfigKey("Whether host may be an address that other machines reach.")] = False
    allowed_hosts: Annotated[tuple[str, ...], ConfigKey("Further Host names to answer to: NAME or NAME:PORT.")] = ()
    trusted_proxies: Annotated[
        tuple[str, ...], ConfigKey('Addresses, networks and "unix": only these may send X-Forwarded-For.')
    ] = ()
    tcp: bool = True
    """Whether it listens on `host` and `port`; with `uds` only if one of those is set, too."""
    tls_by_option: bool = False
    """Whether the command line named the files, so that an error names the option."""

    @property
    def host_names(self) -> tuple[str, ...]:
        """Give the `Host` values that it accepts besides the listener's own."""
        return self.allowed_hosts + (() if self.public_url is None else (self.public_url.partition("//")[2],))


class LogSettings(Struct, frozen=True):
    """`[log]`: what a gateway logs, and in which form."""

    level: Annotated[LogLevel, ConfigKey("The lowest level to log.", aliases=_RUST_LEVELS)] = "info"
    format: Annotated[
        LogFormat,
        ConfigKey(
            "The format of records; auto is human on a terminal, else logfmt.",
            aliases=_FORMER_FORMATS,
        ),
    ] = "auto"
    file: Annotated[Path | None, ConfigKey("A file to append the log to, opened again when it was moved.")] = None
    """None for stderr."""


class PolicySettings(Struct, frozen=True):
    """`[policy]`: the permitted use of Claude subscriptions."""

    subscriptions: Annotated[
        Subscriptions,
        ConfigKey(
            "Who may use logins billed to a Claude subscription: only Claude Code, or their owner's programs.",
            aliases=_FORMER_POLICIES,
        ),
    ] = "claude-code-only"
    source: Literal["default", "config.toml", "statement"] = "default"
    stated_at: int | None = None
    """When `tokenferry policy set` recorded it, in seconds since 1970 UTC."""

    def __eq__(self, other: object) -> bool:
        """Whether the same is allowed, wherever it was stated."""
        return isinstance(other, PolicySettings) and self.subscriptions == other.subscriptions

    def __hash__(self) -> int:
        return hash(self.subscriptions)


class UpstreamSettings(Struct, frozen=True):
    """`[upstream]`: how tokenferry connects to providers. Times are in seconds."""

    connect_timeout: Annotated[
        float, ConfigKey("Time to open a connection, proxy and TLS included.", _SHORTEST, _DAY, "duration")
    ] = 10.0
    response_timeout: Annotated[
        float, ConfigKey("Time from a request to its response headers.", _SHORTEST, _DAY, "duration")
    ] = 600.0
    stream_start_timeout: Annotated[
        float, ConfigKey("The same for streams, if shorter.", _SHORTEST, _DAY, "duration")
    ] = 120.0
    max_connections: Annotated[
        int, ConfigKey("Connections to one host; further requests wait. 0 means no limit.", 0, 65_536)
    ] = 0
    ca_file: Annotated[Path | None, ConfigKey("PEM certificates to trust besides the system's.")] = None


class Caps(Struct, frozen=True):
    """Limits of one account, provider or client key; 0 is no limit. Several workers share them."""

    requests_per_minute: Annotated[
        float, ConfigKey("Requests per minute, evenly spread. 0 means no limit.", 0, 60_000_000)
    ] = 0.0
    tokens_per_minute: Annotated[
        float,
        ConfigKey("Tokens per minute: input, cache writes and output, without cache reads. 0 means no limit.", 0, 1e12),
    ] = 0.0
    burst: Annotated[int, ConfigKey("Requests that may start at once before spreading begins.", 1, 65_536)] = 1
    max_concurrency: Annotated[int, ConfigKey("Concurrent requests. 0 means no limit.", 0, 65_536)] = 0

    @property
    def is_limited(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute or self.max_concurrency)

    def __str__(self) -> str:
        parts = (
            (self.requests_per_minute, "requests a minute"),
            (self.tokens_per_minute, "tokens a minute"),
            (self.max_concurrency, "at a time"),
        )
        return ", ".join(f"{most:,.10g} {what}" for most, what in parts if most) or "no limit"


NO_CAPS: Final = Caps()


class AccountSettings(Caps, frozen=True):
    """`[accounts.NAME]`: overrides what `account set` stored, and the limits of `[pool]`."""

    priority: Annotated[
        int | None, ConfigKey("Overrides the stored priority; lower comes first.", -1000, 1000, example="10")
    ] = None
    paused: Annotated[
        bool | None, ConfigKey("Whether the account is paused; overrides the stored state.", example="true")
    ] = None
    provider: Annotated[
        str | None, ConfigKey("The provider of an account whose key `command` prints.", example='"z.ai"')
    ] = None
    command: Annotated[
        tuple[str, ...],
        ConfigKey(
            "A program with arguments that prints the account's key; runs without a shell, and needs `provider`."
        ),
    ] = ()
    command_ttl: Annotated[float, ConfigKey("Time before the command runs again.", 1, _DAY, "duration")] = 300.0


class PoolSettings(Struct, frozen=True):
    """`[pool]`: how accounts are selected and requests are retried."""

    strategy: Annotated[Strategy, ConfigKey("The order of accounts.")] = "priority"
    max_attempts: Annotated[int, ConfigKey("Maximum attempts per request.", 1, 100)] = 10
    total_timeout: Annotated[float, ConfigKey("Time after which no further attempt begins.", 1, 600, "duration")] = (
        120.0
    )
    max_queue: Annotated[int, ConfigKey("Requests that may wait while every account is at its limit.", 0, 100_000)] = (
        100
    )
    affinity_header: Annotated[
        str | None, ConfigKey("A request header; requests with the same value stay on one account.")
    ] = None
    """In lower case."""
    overage: Annotated[
        Overage, ConfigKey("When to use accounts that are billed beyond their plan: like others, last, or never.")
    ] = "allow"
    quota_warning: Annotated[float, ConfigKey("Log once when this share of a window is used. 0 means never.", 0, 1)] = (
        0.9
    )
    caps: Caps = NO_CAPS
    """The limits of each account."""
    accounts: Mapping[str, AccountSettings] = MappingProxyType({})
    """Different settings for single accounts, by name."""
    providers: Mapping[str, Caps] = MappingProxyType({})
    """The limits of all accounts of a provider together, by its name; a missing one has none."""


class LedgerSettings(Struct, frozen=True):
    """`[ledger]`: how long usage is stored, in seconds, and what happens without the ledger. Daily sums are kept."""

    keep_requests: Annotated[
        float, ConfigKey("Time before a request's row is deleted.", 3600, 36_500 * 86_400, "duration")
    ] = 90 * 86_400.0
    keep_hours: Annotated[
        float,
        ConfigKey("Time before hourly sums are deleted; at least that of requests.", 3600, 36_500 * 86_400, "duration"),
    ] = 400 * 86_400.0
    on_store_away: Annotated[
        Literal["allow", "refuse"],
        ConfigKey(
            "While the ledger's database is away. allow: what each budget's on_error says, and of rates each gateway's "
            "even part. refuse: a 503 once what was taken ahead is used."
        ),
    ] = "allow"


class DashboardSettings(Struct, frozen=True):
    """`[dashboard]`: the pages for people, and who may see them."""

    enabled: Annotated[bool, ConfigKey("Whether to serve the dashboard.")] = True
    origin: Annotated[
        DashboardOrigin,
        ConfigKey("Its address: a random .localhost name, or the gateway's own address."),
    ] = "name"
    remote: Annotated[
        bool, ConfigKey("Whether to serve it even if other machines reach the gateway without https and public_url.")
    ] = False
    user_header: Annotated[
        str | None, ConfigKey("The header in which a proxy of trusted_proxies names the signed-in user.")
    ] = None
    """In lower case."""
    admins: Annotated[
        tuple[str, ...], ConfigKey("Users in that header with the right to change things; others may only look.")
    ] = ()


AlertKind: TypeAlias = Literal["needs-login", "exhausted", "budget"]


class StoreSettings(Struct, frozen=True):
    """`[store]`: the PostgreSQL that several hosts share."""

    url: Annotated[
        str | None,
        ConfigKey("The database, without a password: postgresql://tokenferry@db/tokenferry?sslmode=verify-full."),
    ] = None
    fleet: Annotated[str, ConfigKey("The required name of the database; a restored copy has another.")] = "default"
    password_file: Annotated[Path | None, ConfigKey("A file with the password, mode 0600; by default PGPASSFILE.")] = (
        None
    )
    listen_url: Annotated[
        str | None, ConfigKey("The database's URL without the pooler, if the pooler doesn't support LISTEN.")
    ] = None
    pool: Annotated[int, ConfigKey("Connections per process.", 1, 64)] = 4
    serve_stale: Annotated[
        float,
        ConfigKey(
            "Time that cached keys and accounts stay valid while the database is unreachable.", 1, 86_400, "duration"
        ),
    ] = 900.0
    unsealed: Annotated[bool, ConfigKey("Whether the database may hold unencrypted accounts.")] = False
    spill: Annotated[
        Path | None,
        ConfigKey(
            "A folder on this host's own disk for data that the database may lose; by default spill in the home."
        ),
    ] = None
    orphan_wait: Annotated[
        float,
        ConfigKey(
            "Time before an expired login is refreshed again after its host was lost during a refresh.",
            30,
            3600,
            "duration",
        ),
    ] = 120.0


class AlertSettings(Concealing, frozen=True):
    """`[alerts]`: the events that are reported to the operator."""

    hidden = ("webhook",)
    webhook: Secret | None = None
    """The URL that gets each alert. Its path may be a secret."""
    secret_file: Annotated[
        Path | None, ConfigKey("A file, mode 0600, with the key that signs each POST: x-tokenferry-signature.")
    ] = None
    on: Annotated[tuple[str, ...], ConfigKey("The kinds to send: needs-login, exhausted, budget.")] = (
        "needs-login",
        "exhausted",
        "budget",
    )


class MetricsSettings(Struct, frozen=True):
    """`[metrics]`: what GET /metrics reports beyond the default."""

    client_keys: Annotated[
        bool, ConfigKey("Whether to count requests, tokens and cost by client key, too (100 keys at most).")
    ] = False


class PluginSettings(Struct, frozen=True):
    """`[plugins]`: installed packages that declare providers."""

    enabled: Annotated[
        tuple[str, ...],
        ConfigKey("Names of packages that declare providers; nothing else in them is loaded."),
    ] = ()


_PRICE: Final = 1_000_000.0


class PriceSettings(Struct, frozen=True):
    """`[[prices]]`: the operator's own prices, in place of list prices or as a percentage of them."""

    model: Annotated[str, ConfigKey("A model's name, or a pattern with *.", example='"glm-5"')]
    provider: Annotated[str | None, ConfigKey("The provider; by default all.")] = None
    percent: Annotated[
        float, ConfigKey("Percentage of the prices below, or of the list price without them.", 0, 10_000)
    ] = 100.0
    input: Annotated[float | None, ConfigKey("Dollars per million input tokens.", 0, _PRICE, example="0.60")] = None
    output: Annotated[float | None, ConfigKey("The same for output.", 0, _PRICE, example="2.20")] = None
    cache_read: Annotated[
        float | None, ConfigKey("For input read from the cache; by default as input.", 0, _PRICE, example="0.11")
    ] = None
    cache_write: Annotated[
        float | None,
        ConfigKey("For input written to the cache for five minutes; by default as input.", 0, _PRICE, example="0.75"),
    ] = None
    cache_write_1h: Annotated[
        float | None, ConfigKey("For input written to the cache for an hour.", 0, _PRICE, example="1.20")
    ] = None
    web_search: Annotated[float | None, ConfigKey("Dollars per thousand web searches.", 0, _PRICE, example="10")] = None
    since: str = ""
    """The key `from`: the first day of the price, UTC, as an ISO date; empty for always."""


class BudgetSettings(Struct, frozen=True):
    """`[[budgets]]`: how much may be used in a period, and what happens when it is used up."""

    subject: Annotated[str, ConfigKey("key:NAME, group:NAME (of the keys with the label group=NAME), or all.")] = "all"
    limit: Annotated[str, ConfigKey("usd or tokens per day, week, month or in total.", example='"200usd/month"')] = ""
    per: Annotated[Literal["pool", "key"], ConfigKey("pool: all keys share the budget. key: each key has its own.")] = (
        "pool"
    )
    mode: Annotated[Literal["refuse", "warn"], ConfigKey("What to do when it is used up: a 429, or a log line.")] = (
        "refuse"
    )
    counts: Annotated[
        Literal["billed", "list"],
        ConfigKey("billed: paid requests. list: also those that a subscription covers, at list price."),
    ] = "billed"
    timezone: Annotated[str, ConfigKey("The time zone of its periods.")] = "UTC"
    week_start: Annotated[
        Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
        ConfigKey("The first day of a week."),
    ] = "monday"
    strict: Annotated[bool, ConfigKey("Whether to refuse a request whose estimated cost exceeds the rest.")] = False
    on_error: Annotated[Literal["allow", "refuse"], ConfigKey("What to do while the ledger is unreachable.")] = "allow"
    blocked_message: Annotated[str | None, ConfigKey("The message to a refused client.")] = None


class ModelMapping(Struct, frozen=True):
    """`[[models.mappings]]`: a provider, and its name for the model."""

    provider: Annotated[str, ConfigKey("The provider.", example='"z.ai"')]
    actual_model: Annotated[str, ConfigKey("The provider's name of the model.", example='"glm-5"')]
    priority: Annotated[int, ConfigKey("The order of mappings; the lowest is tried first.", 0, 2**32 - 1)] = 1
    max_output_tokens: Annotated[
        int | None,
        ConfigKey("The model's maximum output; translated requests are lowered to it.", 1, 2**31, example="8192"),
    ] = None
    drop: Annotated[
        tuple[str, ...],
        ConfigKey("Server tools to drop from translated requests; without this, such requests go to the next mapping."),
    ] = ()
    """Tools to leave out, by the prefixes of their types: `web_search`."""
    efforts: Annotated[
        tuple[str, ...] | None,
        ConfigKey(
            "The model's reasoning efforts, lowest first; [] for none. By default known by the model's name.",
            example='["low", "medium", "high"]',
        ),
    ] = None


class ModelSettings(Struct, frozen=True):
    """`[[models]]`: a model name that clients use, and who serves it."""

    name: Annotated[str, ConfigKey("The name that clients ask for.", example='"fast"')]
    mappings: tuple[ModelMapping, ...]
    """In the order of use: by `priority`, then as written."""
    display_name: Annotated[str | None, ConfigKey("What lists show; the name if left out.")] = None


class RuleSettings(Struct, frozen=True):
    """`[[router.rules]]`: sends requests that meet all its conditions to a model."""

    name: Annotated[str, ConfigKey("The rule's name in logs.", example='"large"')]
    model: Annotated[str, ConfigKey("The model for such requests.", example='"fast"')]
    headers: Annotated[
        tuple[tuple[str, str], ...],
        ConfigKey("Header names, each with a regular expression to search for in its value."),
    ] = ()
    """Names in lower case."""
    keys: Annotated[tuple[str, ...], ConfigKey("Names of client keys.")] = ()
    requested: Annotated[
        str | None, ConfigKey("A regular expression to search for in the requested name.", kind="pattern")
    ] = None
    min_bytes: Annotated[int | None, ConfigKey("Minimum size of the body.", 0, 2**40, example="200000")] = None
    max_bytes: Annotated[int | None, ConfigKey("Maximum size of the body.", 0, 2**40, example="9000000")] = None
    min_tokens: Annotated[int | None, ConfigKey("Minimum of estimated input tokens.", 0, 2**40, example="60000")] = None


BACKGROUND_REGEX: Final = "(?i)claude.*haiku"
AUTO_MAP_REGEX: Final = "^claude-"


class RouterSettings(Struct, frozen=True):
    """`[router]`: which model and providers a request goes to. Models are names of `[[models]]`, or of providers."""

    providers: Annotated[
        tuple[str, ...], ConfigKey("Providers of unmapped models, in order; [] is the default provider.")
    ] = ()
    account: Annotated[str | None, ConfigKey("The only account to use.")] = None
    default: Annotated[str | None, ConfigKey("The model for requests that auto_map_regex matches.")] = None
    background: Annotated[str | None, ConfigKey("The model for requests that background_regex matches.")] = None
    think: Annotated[str | None, ConfigKey("The model for requests with extended thinking.")] = None
    websearch: Annotated[str | None, ConfigKey("The model for requests with a web search tool.")] = None
    auto_map_regex: Annotated[str, ConfigKey("The requested names to replace by default.", kind="pattern")] = (
        AUTO_MAP_REGEX
    )
    auto_map_defined: Annotated[bool, ConfigKey("Whether it also replaces names of [[models]].")] = True
    background_regex: Annotated[str, ConfigKey("The requested names of background tasks.", kind="pattern")] = (
        BACKGROUND_REGEX
    )
    think_adaptive: Annotated[
        bool, ConfigKey("Whether adaptive thinking counts; current clients always ask for it.")
    ] = False
    subagent_tag: Annotated[bool, ConfigKey("Whether a tag in the system prompt may name the model.")] = True
    provider_prefix: Annotated[
        bool,
        ConfigKey("Whether openai/gpt-5 is a model of provider openai; names of [[models]] go first."),
    ] = True
    unmapped: Annotated[
        Literal["default", "reject"],
        ConfigKey("Unmapped models: pass to the default providers, or answer with a 400."),
    ] = "default"
    list_models: Annotated[
        Literal["merge", "mapped", "upstream"],
        ConfigKey("Content of GET /v1/models: [[models]] and the upstream's, only [[models]], or only the upstream's."),
    ] = "merge"
    rules: tuple[RuleSettings, ...] = ()


class RefreshSettings(Struct, frozen=True):
    """When our own token families are refreshed, and how long callers wait. In seconds."""

    advisory: float = 300.0
    """With less left than this, one caller refreshes and the others use the old token."""
    mandatory: float = 30.0
    """With less left than this, callers wait for the refresh."""
    wait: float = 60.0
    """How long a caller waits for a refresh, its own or another's."""
    timeout: float = 30.0
    """How long one grant request may take."""
    settle: float = 60.0
    """A refused token that our own grant issued more recently than this isn't refreshed again."""
    watch: float = 0.5
    """How often a long-lived process looks for documents changed by others."""
    orphan_wait: float = 120.0
    """How long after the token's expiry a host that was cut off in a refresh may still return with the answer."""


class BackgroundRefreshSettings(Struct, frozen=True):
    """When the renewer renews logins that no request uses. All in seconds, but `idle`."""

    ahead: float = 600.0
    """A published account's token is renewed with less left; programs use the old one until 120 are left."""
    refresh_life: float = 30 * 86_400.0
    """The assumed life of a refresh token if the provider doesn't say."""
    idle: float = 2 / 3
    """The part of a refresh token's life after which an unused login is renewed."""
    look: float = 0.5
    """How often it checks for changes and due renewals."""
    sweep: float = 60.0
    """How often it looks for profiles and moves that other processes left unfinished."""
