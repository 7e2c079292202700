import re
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct, field

from tokenferry.config_key import ConfigKey
from tokenferry.credentials import (
    API_KEY_PREFIX,
    SETUP_TOKEN_PREFIX,
    ApiKey,
    Credential,
    ExchangedToken,
    FederatedToken,
    KeyHeader,
    Kind,
    OAuthToken,
    SetupToken,
)
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers._table import is_loopback
from tokenferry.settings import NO_CAPS, Caps, Strategy

AuthType: TypeAlias = Literal["api_key", "setup_token", "oauth"]
WireFormat: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini", "vertex", "vertex-anthropic"]
Dialect: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini", "vertex"]

KIND_OF_AUTH_TYPE: Final[dict[AuthType, Kind]] = {
    "api_key": "api-key",
    "setup_token": "setup-token",
    "oauth": "oauth",
}

# Hosts whose logins are claude.ai logins. platform.claude.com is the Console's and serves both.
_SUBSCRIPTION_HOSTS: Final = ("claude.ai", "claude.com")
_CONSOLE_HOSTS: Final = ("platform.claude.com",)
_VENDOR_HOSTS: Final = ("anthropic.com", "claude.ai", "claude.com")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._@+-]+")
_KNOWN_KEYS: Final = {
    "sk-ant-admin": "an Admin API key of Anthropic, which answers no model request",
    "sk-ant-api": "an API key of Anthropic",
    "sk-ant-oat": "a setup token of Anthropic",
    "sk-ant-ort": "a refresh token",
    "sk-proj-": "a key of OpenAI",
    "sk-or-": "a key of OpenRouter",
    "AIza": "a key of Google",
    "ya29.": "an access token of Google",
    "gsk_": "a key of Groq",
    "xai-": "a key of xAI",
}
"""Kinds of keys by prefix, for the warning that a key belongs to another vendor."""
_ODD: Final = "doesn't"
NOWHERE: Final = "https://nowhere.invalid"
"""Replaces a base_url that is missing or wrong."""
_SHORT_KEY: Final = 16
_VENDOR_CLIENT: Final = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"


class Provider(Struct, frozen=True):
    """A service that accepts credentials, and may issue them: `[[providers]]`."""

    name: Annotated[str, ConfigKey("The provider's name.", example='"z.ai"')]
    provider_type: Annotated[
        str, ConfigKey("A built-in provider or preset that supplies the other keys.", example='"z.ai"')
    ]
    base_url: Annotated[
        str,
        ConfigKey(
            "The provider's address; required unless provider_type has one.",
            kind="url",
            example='"https://api.z.ai/api/anthropic"',
        ),
    ]
    auth_type: Annotated[
        AuthType, ConfigKey("The kind of credential.", aliases=MappingProxyType({"apikey": "api_key"}))
    ] = "api_key"
    wire_format: Annotated[WireFormat, ConfigKey("The provider's API; all but anthropic serve only mapped models.")] = (
        "anthropic"
    )
    key_header: Annotated[
        KeyHeader,
        ConfigKey("The header for an API key; by default that of the wire format. authorization sends a Bearer token."),
    ] = "x-api-key"
    env_var: Annotated[
        str | None, ConfigKey("The variable in which programs look for its key or token.", example='"ZAI_API_KEY"')
    ] = None
    """The variable that holds a key; None for the type's usual one."""
    accounts: Annotated[
        tuple[str, ...] | None,
        ConfigKey("Accounts to use, in order; by default all of the provider's.", example='["work"]'),
    ] = None
    enabled: Annotated[bool, ConfigKey("Whether requests may go to it.")] = True
    subscription: Annotated[bool, ConfigKey("Whether its logins are billed to a Claude subscription.")] = False
    passthrough: Annotated[bool, ConfigKey("Whether clients may send their own credentials to it.")] = False
    """Whether a client's own credential of this vendor is sent in place of an account's."""
    region: Annotated[
        str | None, ConfigKey("The region in the address, if provider_type needs one.", example='"eu-central-1"')
    ] = None
    resource: Annotated[
        str | None, ConfigKey("The resource in the address, if provider_type needs one.", example='"my-resource"')
    ] = None
    project_id: Annotated[
        str | None, ConfigKey("The project in the address, if provider_type needs one.", example='"my-project"')
    ] = None
    location: Annotated[
        str | None, ConfigKey("The location in the address, if provider_type needs one.", example='"europe-west4"')
    ] = None
    api_version: Annotated[
        str | None,
        ConfigKey(
            "The version of Azure's older OpenAI API, whose addresses have a deployment in the path.",
            example='"2024-10-21"',
        ),
    ] = None
    max_output_tokens: Annotated[
        int | None,
        ConfigKey(
            "The models' maximum output; translated requests are lowered to it.",
            1,
            2**31,
            example="8192",
        ),
    ] = None
    command: Annotated[
        tuple[str, ...],
        ConfigKey(
            "A program with arguments that prints the key of an account of this name; runs without a shell.",
        ),
    ] = ()
    command_ttl: Annotated[float, ConfigKey("Time before the command runs again.", 1, 86_400, "duration")] = 300.0
    google_credentials: Annotated[
        str | None,
        ConfigKey(
            "Google's credentials, for an account of this name: default (application default credentials) or a file's "
            "path; needs tokenferry[vertex].",
            example='"default"',
        ),
    ] = None
    models: Annotated[tuple[str, ...], ConfigKey("Models to serve under their own names.")] = ()
    strategy: Annotated[
        Strategy | None, ConfigKey("The order of accounts; overrides [pool].", example='"round-robin"')
    ] = None
    usage_url: Annotated[str | None, ConfigKey("The path of an account's usage.", example='"{base_url}/usage"')] = None
    """As declared; call `usage_endpoint`."""
    check_url: Annotated[
        str | None, ConfigKey("A GET request that is free and needs a valid key.", example='"{base_url}/v1/models"')
    ] = None
    """As declared; None if no such URL is known."""
    oauth: OAuthEndpoints = field(default_factory=OAuthEndpoints)
    """As declared; use `endpoints`."""
    vendor_hosts: tuple[str, ...] = ()
    """The hosts that may get a client's own credential; empty for the host of `base_url` only."""
    key_prefixes: tuple[str, ...] = ()
    """The prefixes of this vendor's credentials, if they identify it."""
    caps: Caps = NO_CAPS
    """The limits of all its accounts together."""
    quirks: tuple[tuple[str, object], ...] = ()
    """For a format other than Anthropic's: what differs in its API, as fields of `wire.Quirks`."""
    headers: Annotated[
        tuple[tuple[str, str], ...],
        ConfigKey("Headers that each request to it has, in place of the client's.", example='{ x-team = "search" }'),
    ] = ()
    """Additional request headers; names in lower case."""
    slash_names: Annotated[
        bool, ConfigKey("Whether its models' names have slashes; the default provider passes such names on.")
    ] = False
    """Whether a slash in a model name is part of the name, not the end of a provider's name."""
    key_shape: str | None = None
    """A regular expression that the API keys of its host match as a whole; None if it is unknown."""

    @property
    def endpoints(self) -> OAuthEndpoints:
        return self.oauth.at(self.base_url)

    @property
    def usage_endpoint(self) -> str | None:
        return self.usage_url and self.usage_url.replace("{base_url}", self.base_url)

    def check_endpoint(self, credential: Credential) -> str | None:
        """Give the URL of a free GET request that shows whether a credential works; None if unknown."""
        if isinstance(credential, SetupToken | FederatedToken | ExchangedToken):
            return None
        url = self.check_url and self.check_url.replace("{base_url}", self.base_url)
        return self.endpoints.profile_url or url if isinstance(credential, OAuthToken) else url

    def key_fault(self, credential: Credential) -> str | None:
        """Say why this can't be an API key of the provider's host; None if it can be or that is unknown."""
        if self.key_shape is None or not isinstance(credential, ApiKey):
            return None
        if re.fullmatch(self.key_shape, credential.secret.reveal()):
            return None
        host, beginning = urlsplit(self.base_url).hostname, self.key_shape.partition("[")[0]
        return f"an API key of {host} begins with {beginning}, and this one {_looks_like(credential)}"

    def key_doubt(self, credential: Credential) -> str | None:
        """Say why this is probably another key or setup token than was meant; None if nothing suggests that.

        Servers on this machine accept any key.
        """
        if isinstance(credential, SetupToken) and on_host(self.base_url, _VENDOR_HOSTS):
            return None
        if self.is_local or not isinstance(credential, ApiKey | SetupToken) or self.key_fault(credential):
            return None
        if self.key_prefixes and credential.secret.reveal().startswith(self.key_prefixes):
            return None
        looks = _looks_like(credential)
        return None if looks == _ODD and len(credential.secret.reveal()) >= _SHORT_KEY else f"the key {looks}"

    def key_warning(self, account: str, credential: Credential) -> str:
        """Give the warning for a stored key that is probably the wrong one; empty if nothing suggests that."""
        doubt = self.key_doubt(credential)
        if doubt is None:
            return ""
        return f"{doubt}; if it isn't the one you meant, replace it with: tokenferry account add {account} --replace"

    @property
    def kind(self) -> Kind:
        """Give the kind of credential that it takes by default."""
        return "api-key" if self.oauth.token_exchange is not None else KIND_OF_AUTH_TYPE[self.auth_type]

    @property
    def login_kind(self) -> Kind:
        """Give the kind of credential that a login produces."""
        return "oauth" if self.oauth.token_exchange is None else "exchanged"

    def bills_subscription(self, credential: Credential) -> bool:
        """Return whether requests with this credential are billed to a Claude subscription.

        On the vendor's hosts every `sk-ant-oat` token counts as one, unless a Console login or a workload got it. An
        exchanged token counts by the address that its answer named.
        """
        if self.subscription:
            return True
        if isinstance(credential, FederatedToken):
            return False
        value = credential.secret.reveal()
        if value.startswith(API_KEY_PREFIX) or not on_host(credential.endpoint or self.base_url, _VENDOR_HOSTS):
            return False
        if credential.kind == "oauth" and isinstance(credential, OAuthToken) and self.provider_type == "console":
            return credential.subscription_type is not None
        return value.startswith(SETUP_TOKEN_PREFIX)

    def may_bill_subscription(self, kind: Kind) -> bool:
        """Tell whether requests with a credential of this kind may be billed to a subscription."""
        if self.subscription:
            return True
        is_token = kind in {"setup-token", "exchanged"} or (kind == "oauth" and self.provider_type != "console")
        return is_token and on_host(self.base_url, _VENDOR_HOSTS)

    def suits_claude_code(self, credential: Credential) -> bool:
        """Tell whether Claude Code could use it as its own login. One of a provider on this machine counts, too."""
        return self.bills_subscription(credential) or self.is_local

    @property
    def uses_vendors_client(self) -> bool:
        """Tell whether its logins use the public client id of the Claude Code CLI."""
        return self.oauth.client_id == _VENDOR_CLIENT

    @property
    def dialect(self) -> Dialect:
        """Give the wire format of its requests and answers, without regard to a cloud's paths."""
        return "anthropic" if self.wire_format == "vertex-anthropic" else self.wire_format

    @property
    def is_hosted(self) -> bool:
        """Tell whether a cloud serves its format at other paths; see `routing.hosted_target`."""
        return self.wire_format == "vertex-anthropic" or self.api_version is not None

    @property
    def is_served(self) -> bool:
        """Tell whether it can become the default provider: it has the models that Claude Code asks for."""
        return self.enabled and self.wire_format == "anthropic"

    @property
    def serves_mapped(self) -> bool:
        """Tell whether requests that name it can be relayed to it, translated if necessary."""
        return self.enabled and self.base_url != NOWHERE

    @property
    def is_at_vendor(self) -> bool:
        """Tell whether its requests go to the vendor's own hosts, if those are known."""
        return not self.vendor_hosts or on_host(self.base_url, self.vendor_hosts)

    @property
    def key_account(self) -> str:
        """Give the name of the account that its `api_key` makes."""
        return account_of_key(self.name)

    @property
    def is_local(self) -> bool:
        """Tell whether its requests stay on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname)


def _looks_like(credential: ApiKey | SetupToken) -> str:
    value = credential.secret.reveal()
    known = next((what for prefix, what in _KNOWN_KEYS.items() if value.startswith(prefix)), None)
    short = "has only a few characters" if len(value) < _SHORT_KEY else _ODD
    return f"looks like {known}" if known else short


def account_of_key(provider: str) -> str:
    """Give the name of the account of a provider's `api_key`: the provider's, without invalid characters."""
    return _NO_NAME.sub("-", provider).strip("-")[:64]


def on_host(url: str | None, hosts: tuple[str, ...]) -> bool:
    """Return whether a URL's host is one of these or below one of them."""
    try:
        host = (urlsplit(url or "").hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    return any(host == known or host.endswith("." + known) for known in hosts)


def logs_in_at_subscription(base_url: str, endpoints: OAuthEndpoints) -> bool:
    """Tell whether a declaration uses a claude.ai login or host, under whatever name."""
    exchange = endpoints.token_exchange
    urls = (
        base_url,
        endpoints.authorization_endpoint,
        endpoints.device_authorization_endpoint,
        endpoints.issuer,
        None if exchange is None else exchange.url,
    )
    return any(on_host(url, _SUBSCRIPTION_HOSTS) and not on_host(url, _CONSOLE_HOSTS) for url in urls)
