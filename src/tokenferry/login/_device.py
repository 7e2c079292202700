"""Drives one login that is confirmed on another device (RFC 8628)."""

import time
from collections.abc import Callable
from typing import Final

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed
from tokenferry.oauth import (
    Authorization,
    DeviceCode,
    DevicePoll,
    HttpOutcome,
    OAuthEndpoints,
    TokenRequest,
    device_request,
    read_device,
)
from tokenferry.providers import url_fault
from tokenferry.refresh import read_client_secret
from tokenferry.secret import Secret

_TIMEOUT: Final = 30.0
_LOOK: Final = 1.0


class DeviceLogin:
    """One login at a provider whose `device_authorization_endpoint` and `token_endpoint` are known.

    `show` gets the code to confirm, `know` its secret, and `tick` each second the number of seconds left.
    """

    def __init__(
        self,
        endpoints: OAuthEndpoints,
        *,
        show: Callable[[DeviceCode], None],
        send: Callable[[TokenRequest, float], HttpOutcome],
        know: Callable[[Secret], None] = lambda _: None,
        tick: Callable[[float], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = endpoints
        self._show = show
        self._send = send
        self._know = know
        self._tick = tick
        self._sleep = sleep
        self._now = now
        self._monotonic = monotonic

    def run(self) -> OAuthToken:
        """Log in and return the tokens. Raises `LoginFailed`, `TryLater`, and what `read_client_secret` raises."""
        client_secret = read_client_secret(self._endpoints)
        begun = Authorization.begin(self._endpoints) if self._endpoints.device_grant == "user_code" else None
        if begun is not None:
            self._know(begun.verifier)
        answer = self._send(device_request(self._endpoints, client_secret, begun), _TIMEOUT)
        device = read_device(answer, self._endpoints, url_fault, self._now(), begun)
        self._know(device.code)
        deadline = self._monotonic() + device.expires_in
        self._show(device)
        poll = DevicePoll(self._endpoints, device, client_secret, begun)
        while self._wait(poll.wait, deadline):
            sent_at = self._now()
            token = poll.read(self._send(poll.request(), _TIMEOUT), sent_at, self._now())
            if token is not None:
                return token
        raise LoginFailed("the code was not confirmed in time; log in again for a new one")

    def _wait(self, seconds: float, deadline: float) -> bool:
        """Wait; False if the code expires first."""
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0:
            if until > deadline and self._monotonic() >= deadline:
                return False
            self._tick(max(0.0, deadline - self._monotonic()))
            self._sleep(min(left, _LOOK))
        return self._monotonic() <= deadline
