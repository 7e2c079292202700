from dataclasses import dataclass, replace
from typing import Final, Literal

_URLS: Final = (
    "issuer",
    "authorize_url",
    "token_url",
    "revoke_url",
    "device_url",
    "federation_url",
    "api_key_url",
    "profile_url",
    "redirect_uri",
)


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """`[providers.oauth]`: where and how a provider logs in and renews. `reuse_grace_s` is in seconds."""

    issuer: str | None = None
    """Whose metadata (RFC 8414) tell what isn't declared, and who must have answered a login (RFC 9207)."""
    authorize_url: str | None = None
    authorize_parameters: tuple[tuple[str, str], ...] = ()
    """What the authorization request carries besides the standard's parameters."""
    token_url: str | None = None
    revoke_url: str | None = None
    device_url: str | None = None
    """Where a device asks for a code that a person confirms elsewhere (RFC 8628)."""
    federation_url: str | None = None
    """Where a workload's identity token is exchanged (RFC 7523); None means the token_url."""
    federation_parameters: tuple[tuple[str, str], ...] = ()
    """What such an exchange carries besides the standard's parameters."""
    federation_headers: tuple[tuple[str, str], ...] = ()
    api_key_url: str | None = None
    """Where a login can have an API key made."""
    profile_url: str | None = None
    """Where a login is told whose it is, if the token answer doesn't say so."""
    client_id: str | None = None
    client_secret_file: str | None = None
    client_auth: Literal["body", "basic"] = "body"
    """How the client secret is presented (RFC 6749 2.3.1)."""
    scopes: tuple[str, ...] = ()
    redirect_uri: str | None = None
    """The provider's own page, which shows the code for pasting."""
    loopback_redirect: str | None = None
    """The address on this machine; `{port}` in it stands for the port."""
    token_body: Literal["json", "form"] = "json"  # noqa: S105  # an encoding, no password
    state_in_exchange: bool = False
    names_issuer: bool = False
    """Whether the answer to a login always names the issuer (RFC 9207)."""
    reuse_grace_s: float = 0.0

    def at(self, base_url: str) -> "OAuthEndpoints":
        """Give these endpoints with `{base_url}` in them filled in."""
        urls = {name: url.replace("{base_url}", base_url) for name in _URLS if (url := getattr(self, name))}
        return replace(self, **urls)
