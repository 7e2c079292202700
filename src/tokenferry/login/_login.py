"""Drives one login: waits for the browser's callback or a pasted code, then exchanges the code."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from msgspec import Struct

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed
from tokenferry.login._callback import Callback
from tokenferry.login._listener import CallbackListener
from tokenferry.login._paste import Paste
from tokenferry.oauth import (
    Authorization,
    AuthorizationCode,
    HttpOutcome,
    OAuthEndpoints,
    TokenRequest,
    exchange_request,
    read_exchange,
)
from tokenferry.refresh import read_client_secret

LIMIT: Final = 300.0
"""The longest a login may take, in seconds."""

_TIMEOUT: Final = 30.0
_LOOK: Final = 1.0
_LOOPBACK: Final = "http://127.0.0.1:{port}/callback"
_NEVER_CALLED: Final = 49_152  # the port of a redirect that a person copies


class LoginOptions(Struct, frozen=True):
    """The options of a login. `lifetime`, in seconds, is that of the access token to ask for."""

    scopes: tuple[str, ...] | None = None
    lifetime: int | None = None
    browser: bool = True
    port: int | None = None
    limit: float = LIMIT


class Addresses(Struct, frozen=True):
    """Where a person can log in: the address for a browser on this machine, and the one that shows a code to paste."""

    local: str | None
    hosted: str | None
    port: int | None = None


def redirect_for_paste(endpoints: OAuthEndpoints, port: int | None = None) -> str:
    """Return the redirect URI of a login whose answer a person pastes; nothing listens at it."""
    template = endpoints.redirect_uri or endpoints.loopback_redirect or _LOOPBACK
    return template.replace("{port}", str(port or _NEVER_CALLED))


class LoginFlow:
    """One login at a provider whose endpoints are complete.

    `show` gets the addresses once they work, `complain` a sentence about pasted text that doesn't answer the login.
    """

    def __init__(
        self,
        endpoints: OAuthEndpoints,
        options: LoginOptions,
        *,
        show: Callable[[Addresses], None],
        complain: Callable[[str], None],
        send: Callable[[TokenRequest, float], HttpOutcome],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.authorization = Authorization.begin(endpoints, options.scopes)
        self._endpoints = endpoints
        self._options = options
        self._show = show
        self._complain = complain
        self._send = send
        self._now = now
        self._monotonic = monotonic

    def run(self, paste: Paste | None) -> OAuthToken:
        """Log in and return the tokens. Raises `LoginFailed`, `TryLater`, and what `read_client_secret` raises."""
        client_secret = read_client_secret(self._endpoints)
        answer = self._answer(paste)
        request = exchange_request(self.authorization, answer, client_secret, self._options.lifetime)
        sent_at = self._now()
        outcome = self._send(request, _TIMEOUT)
        return read_exchange(outcome, self.authorization, answer, sent_at, self._now())

    def _answer(self, paste: Paste | None) -> AuthorizationCode:
        hosted = self._endpoints.redirect_uri
        template = self._endpoints.loopback_redirect or (None if hosted else _LOOPBACK)
        if template is None or not self._options.browser:
            redirect_uri = redirect_for_paste(self._endpoints, self._options.port)
            self._show(Addresses(None, self.authorization.url(redirect_uri)))
            return self._wait(None, None, paste, (redirect_uri,))
        with closing(CallbackListener(template, self._options.port, monotonic=self._monotonic)) as listener:
            callback = Callback(self.authorization, listener.redirect_uri)
            url = None if hosted is None else self.authorization.url(hosted)
            self._show(Addresses(listener.redirect_uri, url, listener.port))
            redirects = (listener.redirect_uri,) if hosted is None else (listener.redirect_uri, hosted)
            return self._wait(listener, callback, paste, redirects)

    def _wait(
        self,
        listener: CallbackListener | None,
        callback: Callback | None,
        paste: Paste | None,
        redirects: tuple[str, ...],
    ) -> AuthorizationCode:
        deadline = self._monotonic() + self._options.limit
        while (left := deadline - self._monotonic()) > 0:
            if listener is None and (paste is None or paste.is_over):
                raise LoginFailed("the login ended without a pasted code; log in again")
            sources: list[socket.socket | Paste] = [] if listener is None else [*listener.sockets()]
            sources += [] if paste is None or paste.is_over else [paste]
            readable, _, _ = select.select(sources, [], [], min(left, _LOOK))
            for one in readable:
                if not isinstance(one, socket.socket):
                    code = self._pasted(one, redirects)
                    if code is not None:
                        return code
                elif listener is not None and callback is not None:
                    listener.ready(one, callback.answer)
                    if callback.fault is not None:
                        raise callback.fault
                    if callback.code is not None:
                        return callback.code
        minutes = self._options.limit / 60
        raise LoginFailed(f"the login was not completed within {minutes:g} minutes and has ended; log in again")

    def _pasted(self, paste: Paste, redirects: tuple[str, ...]) -> AuthorizationCode | None:
        """Find the answer in pasted text. A terminal that wraps a long line may copy it as several.

        Several lines are joined only if the first one is certain to begin the answer: it has a `#`, or is an address.
        """
        for lines in paste.read():
            is_certain = len(lines) == 1 or "://" in lines[0] or "#" in lines[0]
            whole = ["".join(lines)] if is_certain else []
            for text in (*whole, *(line for line in lines if "://" in line)):
                code = self.authorization.read_pasted(text, redirects)
                if code is not None:
                    return code
            how = "as the page shows it" if len(lines) == 1 else "without line breaks"
            self._complain(f"that doesn't answer this login; paste CODE#STATE {how}, or the address of the page")
        return None
