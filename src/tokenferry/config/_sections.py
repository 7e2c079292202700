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
    Section(("log",), "What a gateway logs.", _keys(LogSettings)),
    Section(("policy",), "What Claude subscriptions may be used for.", _keys(PolicySettings)),
    Section(("upstream",), "How tokenferry connects to providers.", _keys(UpstreamSettings)),
    Section(
        ("pool",),
        "Which account serves, how much each is asked, and how hard a request is tried.",
        _keys(PoolSettings, Caps),
    ),
    Section(("accounts", "NAME"), "What is different for one account.", _keys(AccountSettings)),
    Section(
        ("providers",),
        "Upstreams. One with a built-in provider's name amends that. Its limits are for all its accounts together.",
        (*_keys(Provider, Caps), API_KEY),
        is_list=True,
    ),
    Section(
        ("providers", "oauth"),
        "How to log in there. {base_url} stands for the provider's.",
        (*_keys(OAuthEndpoints), ENTERPRISE_URL),
    ),
    Section(
        ("providers", "token_exchange"),
        "How a login's token, or one that was added, becomes one that the API takes.",
        _keys(TokenExchange),
    ),
    Section(("models",), "Names that clients can ask for.", _keys(ModelSettings), is_list=True),
    Section(("models", "mappings"), "The providers that have the model.", _keys(ModelMapping), is_list=True),
    Section(("router",), "Where requests go.", _keys(RouterSettings)),
    Section(
        ("router", "rules"), "Requests that meet every condition go to a model.", _keys(RuleSettings), is_list=True
    ),
    Section(("plugins",), "Packages that declare providers.", _keys(PluginSettings)),
    Section(("ledger",), "How long it is kept what was used.", _keys(LedgerSettings)),
    Section(("alerts",), "What the operator hears of at once.", (WEBHOOK, *_keys(AlertSettings))),
    Section(("metrics",), "What GET /metrics tells beyond the usual.", _keys(MetricsSettings)),
    Section(("store",), "The PostgreSQL that several hosts share; see `tokenferry help hosts`.", _keys(StoreSettings)),
    Section(("dashboard",), "The page for people, and who may see it.", _keys(DashboardSettings)),
    Section(
        ("budgets",),
        "How much may be used in a period. Several may hold at once.",
        _keys(BudgetSettings),
        is_list=True,
    ),
    Section(
        ("prices",), "What models cost you, where that is no list price.", (*_keys(PriceSettings), SINCE), is_list=True
    ),
)
