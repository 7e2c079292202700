from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from tokenferry.credentials import API_KEY_PREFIX, SETUP_TOKEN_PREFIX, Credential, Kind, OAuthToken

AuthType: TypeAlias = Literal["api_key", "setup_token", "oauth"]
Strategy: TypeAlias = Literal["priority", "round-robin", "least-utilised", "drain-soonest-reset"]

KIND_OF_AUTH_TYPE: Final[dict[AuthType, Kind]] = {
    "api_key": "api-key",
    "setup_token": "setup-token",
    "oauth": "oauth",
}

# Hosts whose logins are claude.ai logins. platform.claude.com is the Console's and serves both.
_SUBSCRIPTION_HOSTS: Final = ("claude.ai", "claude.com")
_CONSOLE_HOSTS: Final = ("platform.claude.com",)
_VENDOR_HOSTS: Final = ("anthropic.com", "claude.ai", "claude.com")


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """`[providers.oauth]`: where and how a provider logs in and renews. `reuse_grace_s` is in seconds."""

    authorize_url: str | None = None
    token_url: str | None = None
    revoke_url: str | None = None
    client_id: str | None = None
    client_secret_file: str | None = None
    scopes: tuple[str, ...] = ()
    redirect_uri: str | None = None
    loopback_redirect: str | None = None
    token_body: Literal["json", "form"] = "json"  # noqa: S105  # an encoding, no password
    state_in_exchange: bool = False
    reuse_grace_s: float = 0.0

    def at(self, base_url: str) -> "OAuthEndpoints":
        """Give these endpoints with `{base_url}` in them filled in."""
        names = ("authorize_url", "token_url", "revoke_url", "redirect_uri")
        urls = {name: url.replace("{base_url}", base_url) for name in names if (url := getattr(self, name))}
        return replace(self, **urls)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who issues and takes credentials: `[[providers]]`."""

    name: str
    provider_type: str
    base_url: str
    auth_type: AuthType = "api_key"
    enabled: bool = True
    subscription: bool = False
    accounts: tuple[str, ...] | None = None
    """The accounts it uses, in order; None means all that name it."""
    strategy: Strategy = "priority"
    oauth: OAuthEndpoints = OAuthEndpoints()
    """As declared; `endpoints` is what to call."""

    @property
    def endpoints(self) -> OAuthEndpoints:
        return self.oauth.at(self.base_url)

    @property
    def kind(self) -> Kind:
        """The kind of credential it takes where nothing else is said."""
        return KIND_OF_AUTH_TYPE[self.auth_type]

    def bills_subscription(self, credential: Credential) -> bool:
        """Tell whether requests with this credential are billed to a Claude subscription.

        On the vendor's own hosts every `sk-ant-oat` token counts as one, unless a Console login made it.
        """
        if self.subscription:
            return True
        value = credential.secret.reveal()
        if value.startswith(API_KEY_PREFIX) or not on_host(self.base_url, _VENDOR_HOSTS):
            return False
        if isinstance(credential, OAuthToken) and self.provider_type == "console":
            return credential.subscription_type is not None
        return value.startswith(SETUP_TOKEN_PREFIX)


def on_host(url: str | None, hosts: tuple[str, ...]) -> bool:
    """Tell whether a URL's host is one of these or below one of them."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower() if url else ""
    return any(host == known or host.endswith("." + known) for known in hosts)


def logs_in_at_subscription(base_url: str, endpoints: OAuthEndpoints) -> bool:
    """Tell whether a declaration names a claude.ai login or host, whatever it calls itself."""
    urls = (base_url, endpoints.authorize_url)
    return any(on_host(url, _SUBSCRIPTION_HOSTS) and not on_host(url, _CONSOLE_HOSTS) for url in urls)
