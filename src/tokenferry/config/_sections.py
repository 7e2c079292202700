"""Every key of config.toml by section: for reading, showing, `config init` and the documentation."""

from typing import Final

from msgspec import Struct

from tokenferry.config._alerts import WEBHOOK
from tokenferry.config._prices import SINCE
from tokenferry.config._providers import API_KEY
from tokenferry.config_key import ConfigKey, keys_of
from tokenferry.oauth import OAuthEndpoints, TokenExchange
from tokenferry.providers import ENTERPRISE_URL, Provider
from tokenferry.settings import (
    AccountSettings,
    AlertSettings,
    BudgetSettings,
    Caps,
    DashboardSettings,
    LedgerSettings,
    LogSettings,
    MetricsSettings,
    ModelMapping,
    ModelSettings,
    PluginSettings,
    PolicySettings,
    PoolSettings,
    PriceSettings,
    RouterSettings,
    RuleSettings,
    ServerSettings,
    StoreSettings,
    UpstreamSettings,
)


class Section(Struct, frozen=True):
    """A table of the file, by the path of keys that leads to it."""

    path: tuple[str, ...]
    sentence: str
    keys: tuple[ConfigKey, ...]
    is_list: bool = False
    """Whether it may occur several times, written `[[so]]`."""

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def header(self) -> str:
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]"


def _keys(*settings: type) -> tuple[ConfigKey, ...]:
    return tuple(key for each in settings for key in keys_of(each).values())


SECTIONS: Final = (
    Section(("server",), "Where clients connect.", _keys(ServerSettings)),
    Section(("log",), "The log.", _keys(LogSettings)),
    Section(("policy",), "The use of Claude subscriptions.", _keys(PolicySettings)),
    Section(("upstream",), "Connections to providers.", _keys(UpstreamSettings)),
    Section(
        ("pool",),
        "The selection of accounts, limits per account, and attempts per request.",
        _keys(PoolSettings, Caps),
    ),
    Section(("accounts", "NAME"), "Overrides for one account.", _keys(AccountSettings)),
    Section(
        ("providers",),
        "Upstreams. A built-in provider's name changes that provider. Limits apply to all of its accounts together.",
        (*_keys(Provider, Caps), API_KEY),
        is_list=True,
    ),
    Section(
        ("providers", "oauth"),
        "Logging in. {base_url} stands for the provider's.",
        (*_keys(OAuthEndpoints), ENTERPRISE_URL),
    ),
    Section(
        ("providers", "token_exchange"),
        "Exchanging a login's token, or an added one, for one that the API accepts.",
        _keys(TokenExchange),
    ),
    Section(("models",), "Names that clients can ask for.", _keys(ModelSettings), is_list=True),
    Section(("models", "mappings"), "The providers of the model.", _keys(ModelMapping), is_list=True),
    Section(("router",), "Routing.", _keys(RouterSettings)),
    Section(
        ("router", "rules"), "Send requests that meet every condition to a model.", _keys(RuleSettings), is_list=True
    ),
    Section(("plugins",), "Packages that declare providers.", _keys(PluginSettings)),
    Section(("ledger",), "How long usage is stored.", _keys(LedgerSettings)),
    Section(("alerts",), "Notifications to the operator.", (WEBHOOK, *_keys(AlertSettings))),
    Section(("metrics",), "Optional parts of GET /metrics.", _keys(MetricsSettings)),
    Section(("store",), "The PostgreSQL that several hosts share; see `tokenferry help hosts`.", _keys(StoreSettings)),
    Section(("dashboard",), "The dashboard, and its users.", _keys(DashboardSettings)),
    Section(
        ("budgets",),
        "Limits on usage per period. Several may apply at once.",
        _keys(BudgetSettings),
        is_list=True,
    ),
    Section(
        ("prices",),
        "Your prices of models, if they differ from the list.",
        (*_keys(PriceSettings), SINCE),
        is_list=True,
    ),
)
