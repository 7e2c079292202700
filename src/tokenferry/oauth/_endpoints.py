from typing import Annotated, Final, Literal

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


class OAuthEndpoints(Struct, frozen=True):
    """`[providers.oauth]`: where and how a provider logs in and renews. `reuse_grace` is in seconds."""

    issuer: Annotated[
        str | None,
        ConfigKey("Whose metadata (RFC 8414) names what is left out here.", example='"https://auth.example.com"'),
    ] = None
    """Also who must have answered a login (RFC 9207)."""
    authorization_endpoint: Annotated[
        str | None, ConfigKey("Where people log in.", example='"{base_url}/oauth/authorize"')
    ] = None
    authorize_parameters: Annotated[
        tuple[tuple[str, str], ...], ConfigKey("What its URL says besides the standard's parameters.")
    ] = ()
    token_endpoint: Annotated[
        str | None, ConfigKey("Where tokens are issued and refreshed.", example='"{base_url}/oauth/token"')
    ] = None
    revocation_endpoint: Annotated[
        str | None, ConfigKey("Where logout revokes them.", example='"{base_url}/oauth/revoke"')
    ] = None
    device_authorization_endpoint: Annotated[
        str | None, ConfigKey("Where login --device asks for a code (RFC 8628).", example='"{base_url}/oauth/device"')
    ] = None
    federation_url: Annotated[
        str | None,
        ConfigKey("Where identity tokens are exchanged (RFC 7523), if not there.", example='"{base_url}/oauth/token"'),
    ] = None
    """None means the token_endpoint."""
    federation_parameters: Annotated[
        tuple[tuple[str, str], ...], ConfigKey("What the exchange says besides the standard's parameters.")
    ] = ()
    federation_headers: Annotated[tuple[tuple[str, str], ...], ConfigKey("Request headers of the exchange.")] = ()
    api_key_url: Annotated[
        str | None, ConfigKey("Where a login can have an API key made.", example='"{base_url}/oauth/create_api_key"')
    ] = None
    profile_url: Annotated[
        str | None, ConfigKey("Where a login learns whose it is.", example='"{base_url}/oauth/profile"')
    ] = None
    client_id: Annotated[str | None, ConfigKey("What the server calls this client.", example='"my-client"')] = None
    client_secret_file: Annotated[
        str | None, ConfigKey("The path of a 0600 file with the client's secret.", example='"client.secret"')
    ] = None
    client_auth: Annotated[Literal["body", "basic"], ConfigKey("How the secret is presented (RFC 6749, 2.3.1).")] = (
        "body"
    )
    scopes: Annotated[tuple[str, ...], ConfigKey("What a login asks for.")] = ()
    redirect_uri: Annotated[
        str | None, ConfigKey("The provider's own page that shows the code.", example='"{base_url}/oauth/code"')
    ] = None
    loopback_redirect: Annotated[
        str | None,
        ConfigKey(
            "The address on this machine that the browser returns to.", example='"http://localhost:{port}/callback"'
        ),
    ] = None
    token_body: Annotated[
        Literal["json", "form"], ConfigKey("How token requests are encoded; form where an issuer is named.")
    ] = "json"  # noqa: S105  # an encoding, no password
    state_in_exchange: Annotated[bool, ConfigKey("Whether the exchange of a code repeats the state.")] = False
    reuse_grace: Annotated[
        float, ConfigKey("How long a used refresh token may be presented again.", 0, 86_400, "duration")
    ] = 0.0
    names_issuer: bool = False
    """Whether the answer to a login always names the issuer (RFC 9207)."""

    def at(self, base_url: str) -> "OAuthEndpoints":
        """Give these endpoints with `{base_url}` in them filled in."""
        urls = {name: url.replace("{base_url}", base_url) for name in _URLS if (url := getattr(self, name))}
        return replace(self, **urls)
