"""The metadata of an authorization server (RFC 8414, OpenID Connect Discovery)."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import text_of
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse
from tokenferry.secret import parse_object

_OK: Final = 200
_KEYS: Final = {
    "authorization_endpoint": "authorization_endpoint",
    "token_endpoint": "token_endpoint",
    "revocation_endpoint": "revocation_endpoint",
    "device_authorization_endpoint": "device_authorization_endpoint",
}


def metadata_requests(issuer: str) -> tuple[TokenRequest, ...]:
    """Build the requests for the issuer's metadata, in the order to try (RFC 8414 3, 5)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    urls = (
        f"{root}/.well-known/oauth-authorization-server{path}",
        f"{root}{path}/.well-known/openid-configuration",
    )
    return tuple(TokenRequest(url, (("accept", "application/json"),), b"", "GET") for url in urls)


def read_metadata(
    outcome: HttpOutcome, endpoints: OAuthEndpoints, url_fault: Callable[[str], str | None]
) -> OAuthEndpoints | str:
    """Return the endpoints, those not declared from the answer; or say why they can't be read.

    `url_fault` says why a URL can't be an endpoint.
    """
    if not isinstance(outcome, TokenResponse):
        return outcome.reason
    fields = parse_object(outcome.body) if outcome.status == _OK else None
    if fields is None:
        return f"HTTP {outcome.status}" + ("" if outcome.status != _OK else " without a JSON object")
    if text_of(fields, "issuer") != endpoints.issuer:
        return "it names another issuer"  # RFC 8414 3.3
    found: dict[str, Any] = {}
    for name, key in _KEYS.items():
        url = text_of(fields, key)
        if getattr(endpoints, name) is not None or url is None:
            continue
        if url_fault(url) is not None:
            return f"its {key} is not a URL that can be used"
        found[name] = url
    names_issuer = fields.get("authorization_response_iss_parameter_supported") is True
    return replace(endpoints, **found, names_issuer=endpoints.names_issuer or names_issuer)
