import json
from base64 import b64encode
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode

from msgspec import Struct

from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.secret import Concealing, Fields, Secret

MAX_ANSWER: Final = 1024 * 1024
"""The most bytes read of a token endpoint's answer."""


class TokenRequest(Concealing, frozen=True):
    """A request to an authorization server, ready to send; its headers and body may hold secrets and aren't shown."""

    hidden: ClassVar = ("headers", "body")

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    method: Literal["GET", "POST"] = "POST"


class TokenResponse(Concealing, frozen=True):
    """A complete HTTP answer; headers and body may hold secrets and aren't shown. Header names are lower-case."""

    hidden: ClassVar = ("headers", "body")

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSent(Struct, frozen=True):
    """Not a byte of the request left this machine (DNS, connect, TLS): it may be sent again."""

    reason: str


class TokenResponseLost(Struct, frozen=True):
    """The request may have been received, and no complete answer came back."""

    reason: str


HttpOutcome: TypeAlias = TokenResponse | NotSent | TokenResponseLost


def client_request(
    endpoints: OAuthEndpoints, url: str, fields: Mapping[str, str | int], client_secret: Secret | None
) -> TokenRequest:
    """Build a request to a token or revocation endpoint that authenticates the client as declared (RFC 6749 2.3.1)."""
    fields = Fields(fields)
    if client_secret is not None and endpoints.client_auth == "basic":
        request = encode_request(url, fields, endpoints.token_body)
        authorization = ("authorization", f"Basic {_basic(endpoints.client_id or '', client_secret)}")
        return TokenRequest(url, (*request.headers, authorization), request.body)
    if endpoints.client_id is not None:
        fields["client_id"] = endpoints.client_id
    if client_secret is not None:
        fields["client_secret"] = client_secret.reveal()
    return encode_request(url, fields, endpoints.token_body)


def _basic(client_id: str, client_secret: Secret) -> str:
    return b64encode(f"{quote_plus(client_id)}:{quote_plus(client_secret.reveal())}".encode("ascii")).decode("ascii")


def encode_request(url: str, fields: Mapping[str, str | int], encoding: Literal["json", "form"]) -> TokenRequest:
    """Build the request in the encoding the provider declares (RFC 6749 says form; some take JSON alone)."""
    if encoding == "json":
        body, content_type = json.dumps(fields).encode("ascii"), "application/json"
    else:
        body, content_type = urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded"
    return TokenRequest(url, (("content-type", content_type), ("accept", "application/json")), body)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from a `Retry-After` header (RFC 9110 10.2.3), given as seconds or as a date; None if unusable."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004  # more digits can't be a wait
        return float(value)
    if not value:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # a slow import that few answers need

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
