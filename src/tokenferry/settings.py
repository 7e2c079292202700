"""Where things are, and what the configuration can say: one frozen class per section."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from tokenferry.errors import ConfigError

__all__ = [
    "AUTO_MAP_REGEX",
    "BACKGROUND_REGEX",
    "LONGEST_DRAIN",
    "MOST_WORKERS",
    "AccountCaps",
    "GatewaySettings",
    "Home",
    "KeepSettings",
    "LogLevel",
    "ModelMapping",
    "ModelSettings",
    "Overage",
    "PolicySettings",
    "PoolSettings",
    "RefreshSettings",
    "RouterSettings",
    "RuleSettings",
    "ServerSettings",
    "Strategy",
]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of all that tokenferry keeps (0700), and the names in it."""

    path: Path
    config_file: Path | None = None
    """What is read in place of the home's config.toml."""

    @classmethod
    def from_environment(cls) -> "Home":
        """TOKENFERRY_HOME, else the platform's place; the configuration is there, or where TOKENFERRY_CONFIG says.

        Raises `ConfigError` when there is no home directory.
        """
        try:
            config = Path(file).expanduser().absolute() if (file := os.environ.get("TOKENFERRY_CONFIG")) else None
            if named := os.environ.get("TOKENFERRY_HOME"):
                return cls(Path(named).expanduser().absolute(), config)
            if sys.platform == "win32" and (roaming := os.environ.get("APPDATA")):
                return cls(Path(roaming) / "tokenferry", config)
            return cls(Path.home() / ".config" / "tokenferry", config)
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
        """Holds the accounts whose credential rests in another program's store."""
        return self.path / "attached"

    @property
    def published(self) -> Path:
        """Holds a record of each profile of the official SDKs that is ours."""
        return self.path / "published"

    @property
    def keeper(self) -> Path:
        """What the lock of whoever keeps is named by; its time is that of the last `refresh --due`."""
        return self.path / "keeper"

    @property
    def gateway_id(self) -> Path:
        """What its gateways add to `Via`."""
        return self.path / "gateway-id"

    @property
    def setup(self) -> Path:
        """Holds what `setup` replaced in the settings of other programs."""
        return self.path / "setup"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def move_to_claude_code(self) -> Path:
        """The record of a move into Claude Code's store that is under way, or was cut short."""
        return self.path / "moves" / "claude-code.json"

    @property
    def statement(self) -> Path:
        """What the operator stated about the use of their subscription, with the date."""
        return self.path / "policy.json"

    @property
    def seal(self) -> Path:
        """Says that the documents are sealed, and where the key rests; absent where they aren't."""
        return self.path / "seal.json"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def ledger(self) -> Path:
        """What was used, at what price."""
        return self.path / "ledger.db"

    @property
    def audit(self) -> Path:
        return self.path / "audit.log"

    @property
    def local_key(self) -> Path:
        return self.path / "local.key"

    @property
    def gateways(self) -> Path:
        """Holds a record of each gateway that runs."""
        return self.path / "gateways"

    @property
    def active(self) -> Path:
        """Holds the name of the account in `use`."""
        return self.path / "active"

    @property
    def default_provider(self) -> Path:
        """Holds the name of the provider that serves models which nothing maps."""
        return self.path / "default-provider"


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

MOST_WORKERS: Final = 64
LONGEST_DRAIN: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`[server]`: where the gateway listens and how, and which `Host` names besides its own it answers to."""

    host: str = "127.0.0.1"
    port: int = 13456
    log_level: LogLevel = "info"
    allowed_hosts: tuple[str, ...] = ()
    allow_remote: bool = False
    """Whether `host` may be an address that other machines reach."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks, and `unix`: of these X-Forwarded-For is believed."""
    uds: Path | None = None
    """A Unix socket to listen on."""
    tcp: bool = True
    """Whether it listens on `host` and `port`; where `uds` is set only if one of those is, too."""
    tls_cert: Path | None = None
    """PEM files for TLS on `host` and `port`: the certificate with its chain, and the key."""
    tls_key: Path | None = None
    tls_by_option: bool = False
    """Whether the command line named them, so that a fault is told in its words."""
    workers: int = 1
    """Processes that serve."""
    drain: float = 30.0
    """How many seconds requests have to finish when the gateway is told to end."""
    log_format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`[gateway]`: one account for everything, or the order of providers; and how upstreams are reached."""

    account: str | None = None
    providers: tuple[str, ...] = ()
    ca_file: Path | None = None
    """Certificates in PEM, to be trusted beside the system's."""
    max_connections: int | None = None
    """To one upstream; further requests wait for a turn."""
    connect_timeout: float | None = None
    """Seconds until a connection to an upstream stands; None for 10."""
    answer_timeout: float | None = None
    """Seconds from a request's write to its answer's head; None for 600. Streams get no more than 120."""


@dataclass(frozen=True, slots=True)
class ModelMapping:
    """`[[models.mappings]]`: a provider, and the name under which it has the model."""

    provider: str
    actual_model: str


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`[[models]]`: a name that clients ask for, and who serves it."""

    name: str
    mappings: tuple[ModelMapping, ...]
    """In the order in which they are tried: by `priority`, then as written."""
    display_name: str | None = None
    """What lists show; None for the name."""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """`[[router.rules]]`: requests that meet every condition it names go to a model."""

    name: str
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case, and the regular expressions that are to be found in their values."""
    keys: tuple[str, ...] = ()
    """Labels of client keys."""
    requested: str | None = None
    """A regular expression that is to be found in the model's name as the client sent it."""
    at_least: int | None = None
    """Bytes of body."""
    at_most: int | None = None


BACKGROUND_REGEX: Final = "(?i)claude.*haiku"
AUTO_MAP_REGEX: Final = "^claude-"


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """`[router]`: which model a request goes to. Models are names of `[[models]]`, or what providers call them."""

    default: str | None = None
    """What `auto_map_regex` turns models into; without it nothing is turned."""
    background: str | None = None
    think: str | None = None
    websearch: str | None = None
    auto_map_regex: str = AUTO_MAP_REGEX
    auto_map_defined: bool = True
    """Whether it also turns models that `[[models]]` names."""
    background_regex: str = BACKGROUND_REGEX
    """Looked for in the name that the client sent."""
    think_adaptive: bool = False
    """Whether `thinking.type == "adaptive"` counts as thinking; current clients send it always."""
    subagent_tag: bool = True
    """Whether a tag in the system prompt may name the model."""
    unmapped: Literal["default", "refuse"] = "default"
    """Whether a model that `[[models]]` doesn't name goes to the default providers under its own name."""
    list_models: Literal["beside", "only", "upstream"] = "beside"
    """What `GET /v1/models` tells: those of `[[models]]` beside the upstream's, those alone, or the upstream's."""
    rules: tuple[RuleSettings, ...] = ()


Strategy: TypeAlias = Literal["priority", "round-robin", "least-utilised", "drain-soonest-reset"]
Overage: TypeAlias = Literal["allow", "avoid", "refuse"]


@dataclass(frozen=True, slots=True)
class AccountCaps:
    """How much one account is asked at most by one worker; 0 for as much as comes."""

    rate: float = 0.0
    """Requests per second."""
    concurrency: int = 0
    """Requests at a time."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`[pool]`: which of several accounts serves, and how hard a request is tried."""

    strategy: Strategy = "priority"
    affinity_header: str | None = None
    """What keeps requests together that name no session, in lower case."""
    attempts: int = 10
    """So often a request is sent at most."""
    total: float = 120.0
    """After so many seconds nothing is sent anew."""
    queue: int = 100
    """So many requests wait at most while every account is at its cap."""
    quota_threshold: float | None = None
    """The share of a limit that is warned about once it is used up."""
    overage: Overage = "allow"
    """Whether an account that bills use beyond its subscription serves: like others, only if no other can, or not."""
    caps: AccountCaps = AccountCaps()
    account_caps: Mapping[str, AccountCaps] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Those of single accounts, by name."""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """`[policy]`: whether credentials billed to a Claude subscription may be handed to anything but Claude Code."""

    subscription: Literal["off", "own"] = "off"
    source: Literal["default", "config.toml", "statement"] = field(default="default", compare=False)
    stated_at: int | None = field(default=None, compare=False)
    """When it was stated with `tokenferry policy set own-use`, in seconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """When our own chains are refreshed, and how long anybody waits. All in seconds."""

    advisory: float = 300.0
    """Less left than this: one caller refreshes, the others use the old token."""
    mandatory: float = 30.0
    """Less left than this: callers wait for the refresh."""
    wait: float = 60.0
    """The longest a caller waits for a refresh, its own or somebody else's."""
    timeout: float = 30.0
    """The longest one grant request takes."""
    settle: float = 60.0
    """A token that a grant of ours minted more recently than this is not refreshed again because it was refused."""
    watch: float = 0.5
    """How often a long-lived process looks for documents changed by others."""


@dataclass(frozen=True, slots=True)
class KeepSettings:
    """When a keeper renews logins that nobody asks for. All in seconds, but `idle`."""

    ahead: float = 600.0
    """A published account is renewed when its token has less left; programs keep the old one until 120 are left."""
    refresh_life: float = 30 * 86_400.0
    """What a refresh token is taken to live where the provider doesn't say."""
    idle: float = 2 / 3
    """The share of a refresh token's life after which a login that nobody uses is renewed."""
    look: float = 0.5
    """How often it looks for changes, and at the clock."""
    sweep: float = 60.0
    """How often it looks at profiles and moves that others left behind."""
