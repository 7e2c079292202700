"""Asks a provider once, on a free route, whether it accepts a credential."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.credentials import ApiKey, Credential
from tokenferry.oauth import HttpOutcome, TokenRequest, TokenResponse
from tokenferry.providers import Provider

Result: TypeAlias = Literal["accepted", "refused", "unclear", "unreachable", "no-route"]

_TIMEOUT: Final = 5.0  # seconds
_VERSION: Final = ("anthropic-version", "2023-06-01")
_BAD_REQUEST: Final = 400
_GOOGLES_REFUSAL: Final = b'"API_KEY_INVALID"'
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429


class Verification(Struct, frozen=True):
    """A provider's answer about a credential; `reason` is for people and doesn't show the secret."""

    result: Result
    reason: str


def verify(
    provider: Provider, credential: Credential, send: Callable[[TokenRequest, float], HttpOutcome], now: float
) -> Verification:
    """Ask with one GET of at most 5 seconds. Nothing is renewed; `now` is seconds since 1970 UTC."""
    url = provider.check_endpoint(credential)
    if url is None:
        return Verification("no-route", f"a {credential.kind} of {provider.name} can't be checked free of charge")
    if credential.expires_at is not None and credential.expires_at <= now:
        return Verification("unclear", "the access token has expired, and a check doesn't renew it")
    host = urlsplit(url).hostname
    if isinstance(credential, ApiKey):
        credential = replace(credential, header=provider.key_header)
    headers = (("accept", "application/json"), _VERSION, *credential.headers())
    answer = send(TokenRequest(url, headers, b"", "GET"), _TIMEOUT)
    if not isinstance(answer, TokenResponse):
        return Verification("unreachable", answer.reason)
    if answer.status // 100 == 2:  # noqa: PLR2004  # the class of success
        return Verification("accepted", f"{host} accepts it")
    if answer.status == _UNAUTHORIZED or (answer.status == _BAD_REQUEST and _GOOGLES_REFUSAL in answer.body):
        return Verification("refused", f"{host} refuses it (HTTP {answer.status})")
    is_passing = answer.status == _TOO_MANY or answer.status // 100 == 5  # noqa: PLR2004  # the class of server errors
    return Verification("unreachable" if is_passing else "unclear", f"{host} answered HTTP {answer.status}")
