import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.config_key import ConfigKey

_URLS: Final = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "device_authorization_endpoint",
    "federation_url",
    "api_key_url",
    "profile_url",
    "redirect_uri",
)
SUBJECT: Final = "{token}"
"""The placeholder for the long-lived token in the declaration of an exchange."""
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ADDRESS: Final = re.compile(
    rf"https?://(?:\[[0-9a-f:]+\]|{_LABEL}(?:\.{_LABEL})*)(?::[0-9]+)?(?:/(?!\.{{1,2}}(?:/|$))[a-z0-9._~!$&'()*+,;=:@%-]*)*",
    re.IGNORECASE,
)
"""The base URL of an upstream, in a form that every program parses alike."""


class TokenExchange(Struct, frozen=True):
    """`[providers.token_exchange]`: how a long-lived token is exchanged for one that the API accepts."""

    url: Annotated[
        str | None,
        ConfigKey("The URL that exchanges the long-lived token.", example='"https://api.example.com/v2/token"'),
    ] = None
    method: Annotated[Literal["GET", "POST"], ConfigKey("The request's method.")] = "POST"
    headers: Annotated[
        tuple[tuple[str, str], ...],
        ConfigKey(
            "The request's headers; {token} stands for the long-lived token.",
            example='{ authorization = "Bearer {token}" }',
        ),
    ] = ()
    parameters: Annotated[
        tuple[tuple[str, str], ...],
        ConfigKey("The fields of the body; {token} as in the headers.", example='{ subject_token = "{token}" }'),
    ] = ()
    body: Annotated[Literal["json", "form"], ConfigKey("The encoding of the body.")] = "json"
    token_field: Annotated[str, ConfigKey("The response's field with the token; dots lead into objects.")] = (
        "access_token"  # noqa: S105  # a name
    )
    expiry_field: Annotated[
        str, ConfigKey("The field with the token's expiry: seconds from now, seconds since 1970, or ISO 8601.")
    ] = "expires_in"
    endpoint_field: Annotated[
        str | None,
        ConfigKey("The field with the API's address, which replaces base_url.", example='"endpoints.api"'),
    ] = None
    endpoint_hosts: Annotated[
        tuple[str, ...],
        ConfigKey("Hosts that this address may name, with their subdomains.", example='["api.example.com"]'),
    ] = ()

    def at(self, base_url: str) -> "TokenExchange":
        """Return a copy with `{base_url}` filled in."""
        return replace(self, url=self.url and self.url.replace("{base_url}", base_url))

    def endpoint_fault(self, endpoint: str) -> str | None:
        """Say why requests must not go to the address that an answer named; None if they may."""
        try:
            parts = urlsplit(endpoint)
            host = parts.hostname or ""
        except ValueError:
            parts, host = urlsplit(""), ""
        if not any(host == known or host.endswith(f".{known}") for known in self.endpoint_hosts):
            return (
                f"its API is at {host[:100]!r}, which endpoint_hosts under [providers.token_exchange] doesn't list; "
                "add it there if it is the vendor's"
            )
        return None if _is_address(endpoint) else f"the API address that it names at {host} is not an https:// URL"


def _is_address(url: str) -> bool:
    parts = urlsplit(url)
    try:
        has_port = parts.port != 0
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or parts.hostname in _LOOPBACK
    return has_port and is_safe and _ADDRESS.fullmatch(url) is not None


class OAuthEndpoints(Struct, frozen=True):
    """`[providers.oauth]`: where and how a provider logs in and renews. `reuse_grace` is in seconds."""

    issuer: Annotated[
        str | None,
        ConfigKey(
            "The issuer whose metadata (RFC 8414) supplies the missing keys.", example='"https://auth.example.com"'
        ),
    ] = None
    """Answers to a login must be from it (RFC 9207)."""
    authorization_endpoint: Annotated[
        str | None, ConfigKey("The URL to log in at.", example='"{base_url}/oauth/authorize"')
    ] = None
    authorize_parameters: Annotated[tuple[tuple[str, str], ...], ConfigKey("Parameters to add to its URL.")] = ()
    token_endpoint: Annotated[
        str | None, ConfigKey("The URL that issues and refreshes tokens.", example='"{base_url}/oauth/token"')
    ] = None
    revocation_endpoint: Annotated[
        str | None, ConfigKey("The URL that revokes tokens.", example='"{base_url}/oauth/revoke"')
    ] = None
    device_authorization_endpoint: Annotated[
        str | None,
        ConfigKey("The URL of device codes for login --device (RFC 8628).", example='"{base_url}/oauth/device"'),
    ] = None
    device_grant: Annotated[
        Literal["device_code", "user_code"],
        ConfigKey("What to redeem: the device code (RFC 8628), or the user code with PKCE."),
    ] = "device_code"
    federation_url: Annotated[
        str | None,
        ConfigKey(
            "The URL that exchanges identity tokens (RFC 7523), if not token_endpoint.",
            example='"{base_url}/oauth/token"',
        ),
    ] = None
    """None means the token_endpoint."""
    federation_parameters: Annotated[tuple[tuple[str, str], ...], ConfigKey("Parameters to add to the exchange.")] = ()
    federation_headers: Annotated[tuple[tuple[str, str], ...], ConfigKey("Request headers of the exchange.")] = ()
    api_key_url: Annotated[
        str | None,
        ConfigKey("The URL at which a login can create an API key.", example='"{base_url}/oauth/create_api_key"'),
    ] = None
    profile_url: Annotated[
        str | None, ConfigKey("The URL of a login's profile.", example='"{base_url}/oauth/profile"')
    ] = None
    client_id: Annotated[str | None, ConfigKey("The client's id.", example='"my-client"')] = None
    client_secret_file: Annotated[
        str | None, ConfigKey("A file with the client's secret, mode 0600.", example='"client.secret"')
    ] = None
    client_auth: Annotated[Literal["body", "basic"], ConfigKey("How to send the secret (RFC 6749, 2.3.1).")] = "body"
    scopes: Annotated[tuple[str, ...], ConfigKey("The scopes to request.")] = ()
    redirect_uri: Annotated[
        str | None, ConfigKey("The provider's own page that shows the code.", example='"{base_url}/oauth/code"')
    ] = None
    loopback_redirect: Annotated[
        str | None,
        ConfigKey("The local address that the browser returns to.", example='"http://localhost:{port}/callback"'),
    ] = None
    token_body: Annotated[
        Literal["json", "form"], ConfigKey("The encoding of token requests; form if an issuer is set.")
    ] = "json"  # noqa: S105  # an encoding, no password
    state_in_exchange: Annotated[bool, ConfigKey("Whether to send the state when a code is exchanged.")] = False
    reuse_grace: Annotated[
        float, ConfigKey("Time in which a used refresh token may be sent again.", 0, 86_400, "duration")
    ] = 0.0
    names_issuer: bool = False
    """Whether the answer to a login always names the issuer (RFC 9207)."""
    token_exchange: TokenExchange | None = None
    """How a long-lived token is exchanged for one that the API accepts."""

    def at(self, base_url: str) -> "OAuthEndpoints":
        """Return a copy with `{base_url}` filled in."""
        urls = {name: url.replace("{base_url}", base_url) for name in _URLS if (url := getattr(self, name))}
        exchange = self.token_exchange and self.token_exchange.at(base_url)
        return replace(self, **urls, token_exchange=exchange)
