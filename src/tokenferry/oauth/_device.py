"""Device authorization: a code is shown here, and confirmed in a browser anywhere (RFC 8628)."""

import re
from collections.abc import Callable
from typing import ClassVar, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth._authorize import Authorization
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._exchange import with_identity
from tokenferry.oauth._pkce import challenge_of
from tokenferry.oauth._token_answer import (
    error_of,
    number_of,
    odd_token_type,
    read_token,
    refuses,
    seconds_until,
    server_words,
    text_of,
)
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse, client_request, retry_after
from tokenferry.secret import Concealing, Fields, Secret, parse_object

_PENDING: Final = ("authorization_pending", "pending")  # RFC 8628's code and a variant; status 200 occurs, too
_GRANT: Final = "urn:ietf:params:oauth:grant-type:"
_INTERVAL: Final = 5.0  # seconds, RFC 8628 3.2
_MILLISECONDS_FROM: Final = 1000.0
"""A longer interval than that would outlast the code."""
_SLOWER: Final = 5.0  # seconds, RFC 8628 3.5
_LONGEST_PAUSE: Final = 60.0
_LONGEST: Final = 1800.0  # seconds to wait for a person, whatever the server says
_TOO_MANY: Final = 429
_SHOWN: Final = re.compile(r"[!-~]{1,500}")
_CODE: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")


class DeviceCode(Concealing, frozen=True):
    """A code to confirm: `user_code` at `url`, or `direct_url`, which contains it. Times in seconds."""

    hidden: ClassVar = ("direct_url",)

    code: Secret
    user_code: str
    url: str
    direct_url: str | None = None
    expires_in: float = _LONGEST
    interval: float = _INTERVAL


def device_request(
    endpoints: OAuthEndpoints, client_secret: Secret | None, begun: Authorization | None = None
) -> TokenRequest:
    """Build the request for a code (RFC 8628 3.1). `endpoints` must have a device_authorization_endpoint.

    `begun` is the login at a provider whose user code redeems it.
    """
    assert endpoints.device_authorization_endpoint is not None
    fields = Fields(scope=" ".join(endpoints.scopes)) if endpoints.scopes else Fields()
    if begun is not None:
        challenge = challenge_of(begun.verifier)
        fields.update(response_type="code", code_challenge=challenge, code_challenge_method="S256")
        fields["state"] = begun.state.reveal()
    return client_request(endpoints, endpoints.device_authorization_endpoint, fields, client_secret)


def read_device(
    outcome: HttpOutcome,
    endpoints: OAuthEndpoints,
    url_fault: Callable[[str], str | None],
    now: float,
    begun: Authorization | None = None,
) -> DeviceCode:
    """Read the code. `url_fault` says why a URL can't be shown; `now` is seconds since 1970 UTC.

    Raises `TryLater` where asking again may succeed later, `LoginFailed` where something else has to change first.
    """
    host = urlsplit(endpoints.device_authorization_endpoint or "").hostname
    if not isinstance(outcome, TokenResponse):
        raise TryLater(f"no code could be asked for: {outcome.reason}; log in again later")
    fields = parse_object(outcome.body)
    status = outcome.status
    if status // 100 != 2:  # noqa: PLR2004  # the class of success
        words = server_words(*error_of(fields), ())
        reason = f"{host} gave no code: HTTP {status}" + (f" ({words})" if words else "")
        if status == _TOO_MANY or status // 100 == 5:  # noqa: PLR2004  # the class of server errors
            raise TryLater(f"{reason}; log in again later", retry_after=retry_after(outcome.headers, now))
        raise LoginFailed(f"{reason}; log in without --device, or declare another device_authorization_endpoint")
    if begun is not None and fields is not None:
        if fields.get("state") != begun.state.reveal():
            raise LoginFailed(f"{host} answered with a code that isn't for this login; log in again")
        fields = Fields(fields, device_code=fields.get("user_code"))
    device = None if fields is None else _device(fields, url_fault, now)
    if device is None:
        raise LoginFailed(f"{host} gave no code that can be shown; log in without --device")
    return device


def _device(fields: Fields, url_fault: Callable[[str], str | None], now: float) -> DeviceCode | None:
    user_code = text_of(fields, "user_code") or ""
    url = text_of(fields, "verification_uri") or text_of(fields, "verification_url") or ""
    direct = text_of(fields, "verification_uri_complete")
    try:
        code = Secret(fields["device_code"])
    except (KeyError, TypeError, ValueError):
        return None
    if not _CODE.fullmatch(user_code) or not _can_be_shown(url, url_fault):
        return None
    if direct is not None and not _can_be_shown(direct, url_fault):
        direct = None
    lifetime, interval = number_of(fields, "expires_in"), number_of(fields, "interval")
    if lifetime is None:
        lifetime = number_of({"left": seconds_until(fields.get("expired_in"), now)}, "left")
    if interval is not None and interval >= _MILLISECONDS_FROM:
        interval /= 1000
    return DeviceCode(
        code,
        user_code,
        url,
        direct,
        min(lifetime, _LONGEST) if lifetime is not None and lifetime > 0 else _LONGEST,
        max(interval, 1.0) if interval is not None else _INTERVAL,
    )


def _can_be_shown(url: str, url_fault: Callable[[str], str | None]) -> bool:
    """Whether this foreign text may be shown to a person as an address to open."""
    return _SHOWN.fullmatch(url) is not None and url_fault(url.partition("#")[0].partition("?")[0]) is None


class DevicePoll:
    """Polls for the confirmation of a code at the server's pace. No I/O: the caller sends and waits.

    `wait` is the number of seconds to wait before the next `request`.
    """

    def __init__(
        self,
        endpoints: OAuthEndpoints,
        device: DeviceCode,
        client_secret: Secret | None,
        begun: Authorization | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._begun = begun
        self._device = device
        self._client_secret = client_secret
        self._interval = device.interval
        self.wait = device.interval

    def request(self) -> TokenRequest:
        """Build the token request (RFC 8628 3.4)."""
        assert self._endpoints.token_endpoint is not None
        kind = self._endpoints.device_grant
        fields = Fields({"grant_type": _GRANT + kind, kind: self._device.code.reveal()})
        if self._begun is not None:
            fields["code_verifier"] = self._begun.verifier.reveal()
        return client_request(self._endpoints, self._endpoints.token_endpoint, fields, self._client_secret)

    def read(self, outcome: HttpOutcome, sent_at: float, now: float) -> OAuthToken | None:
        """The tokens, or None while the person has not answered; `sent_at` and `now` are seconds since 1970 UTC.

        Raises `LoginFailed` when the login was refused or the code has expired.
        """
        self.wait = self._interval
        if not isinstance(outcome, TokenResponse):
            self._back_off()
            return None
        fields = parse_object(outcome.body)
        status = outcome.status
        code = error_of(fields)[0] or text_of(fields, "status")
        is_pending = code in _PENDING and text_of(fields, "access_token") is None
        is_failure = code == "error" and text_of(fields, "access_token") is None
        if status // 100 == 2 and not (refuses(fields) or is_pending or is_failure):  # noqa: PLR2004  # the class of success
            return self._token(fields, int(sent_at))
        words = server_words(*error_of(fields), (self._device.code, self._client_secret))
        if is_failure and not words:
            words = server_words(
                "", text_of(fields and fields.get("base_resp"), "status_msg") or "", (self._device.code,)
            )
        if is_pending:
            return None
        if code == "slow_down":
            self._interval = self.wait = self._interval + _SLOWER
            return None
        if status == _TOO_MANY or status // 100 == 5:  # noqa: PLR2004  # the class of server errors
            self._back_off()
            self.wait = max(self.wait, retry_after(outcome.headers, now) or 0.0)
            return None
        if code == "expired_token":
            raise LoginFailed("the code was not confirmed in time; log in again for a new one")
        if code == "access_denied":
            raise LoginFailed(f"the login was refused ({words})")
        host = urlsplit(self._endpoints.token_endpoint or "").hostname
        reason = f"HTTP {status}" + (f" ({words})" if words else "")
        raise LoginFailed(f"{host} refused to complete the login: {reason}; log in again")

    def _back_off(self) -> None:
        """Double the interval (RFC 8628 3.5), up to a minute or the server's own interval."""
        self._interval = self.wait = max(self._interval, min(2 * self._interval, _LONGEST_PAUSE))

    def _token(self, fields: Fields | None, sent_at: int) -> OAuthToken:
        token = None if fields is None else read_token(fields, None, sent_at, "login")
        host = urlsplit(self._endpoints.token_endpoint or "").hostname
        if fields is None or token is None:
            raise LoginFailed(f"{host} answered the login with no token that can be read; log in again")
        if (kind := odd_token_type(fields)) is not None:
            raise LoginFailed(f"{host} answered the login with a token of type {kind}; only Bearer ones can be used")
        token = token if token.scopes else replace(token, scopes=self._endpoints.scopes)
        return with_identity(token, fields)
