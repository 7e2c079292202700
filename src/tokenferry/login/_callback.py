"""The loopback address that receives the answer to a login (RFC 8252 7.3)."""

import secrets
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from tokenferry.errors import LoginFailed
from tokenferry.login._http import CallbackReply, CallbackRequest
from tokenferry.oauth import Authorization, AuthorizationCode
from tokenferry.secret import Secret

_COOKIE: Final = "tokenferry_login"
_COOKIE_BYTES: Final = 32


class Callback:
    """One path with two uses, each once: without a query it redirects to the provider, with one it takes the answer.

    The redirect sets a cookie that the answer must bring, so that both are from one browser. This way the login's state
    is in no command line, where other users of this machine could read it.
    """

    def __init__(self, authorization: Authorization, redirect_uri: str) -> None:
        self.redirect_uri = redirect_uri
        self.code: AuthorizationCode | None = None
        self.fault: LoginFailed | None = None
        self._authorization = authorization
        self._path = urlsplit(redirect_uri).path
        port = urlsplit(redirect_uri).port
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}
        self._cookie: Secret | None = None

    @property
    def is_over(self) -> bool:
        return self.code is not None or self.fault is not None

    def answer(self, request: CallbackRequest | None) -> CallbackReply:  # noqa: PLR0911  # one return for each rule
        """Answer one request, which may set `code` or `fault`."""
        if request is None:
            return _page(HTTPStatus.BAD_REQUEST, "This is not a browser's request.")
        if request.headers.get("host", "").lower() not in self._hosts:
            return _page(HTTPStatus.MISDIRECTED_REQUEST, "This address has another name.")
        if request.path != self._path:
            return _page(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if request.method != "GET":
            return _page(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is answered here.", ("allow", "GET"))
        if not _is_navigation(request):
            return _page(HTTPStatus.FORBIDDEN, "Open this page in a browser; other requests are refused.")
        if self.is_over:
            return _page(HTTPStatus.GONE, "This login has ended.")
        return self._accept(request) if request.query else self._redirect(request)

    def _redirect(self, request: CallbackRequest) -> CallbackReply:
        if request.headers.get("sec-fetch-site", "none") != "none":
            return _page(HTTPStatus.FORBIDDEN, "Another page can't start a login.")
        if self._cookie is not None:
            self.fault = LoginFailed(
                f"{self.redirect_uri} was opened twice, so the login was ended: another user of this machine may "
                "have tried to join it; log in again"
            )
            return _page(HTTPStatus.GONE, "This address was opened before, so the login was ended. Start it again.")
        self._cookie = Secret(secrets.token_urlsafe(_COOKIE_BYTES))
        cookie = f"{_COOKIE}={self._cookie.reveal()}; HttpOnly; SameSite=Lax; Path={self._path}"
        url = self._authorization.url(self.redirect_uri)
        return CallbackReply(
            HTTPStatus.SEE_OTHER,
            "One moment",
            "The provider's page follows.",
            (("location", url), ("set-cookie", cookie)),
        )

    def _accept(self, request: CallbackRequest) -> CallbackReply:
        if self._cookie is None or _cookie_of(request) != self._cookie:
            return _page(
                HTTPStatus.FORBIDDEN,
                "Another browser started this login. Copy the address of this page, and paste it into the terminal.",
            )
        try:
            self.code = self._authorization.read_redirect(request.query, self.redirect_uri)
        except LoginFailed as fault:
            self.fault = fault
            return _page(HTTPStatus.BAD_REQUEST, "The login failed. The terminal says why.")
        if self.code is None:
            return _page(HTTPStatus.BAD_REQUEST, "This doesn't answer the login that is waiting here.")
        gone = f"{_COOKIE}=; Max-Age=0; Path={self._path}"
        return CallbackReply(
            HTTPStatus.OK,
            "Thank you",
            "You can close this page. Go on in the terminal.",
            (("set-cookie", gone),),
        )


def _page(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> CallbackReply:
    return CallbackReply(status, status.phrase, text, headers)


def _is_navigation(request: CallbackRequest) -> bool:
    """Whether a person opened it, as opposed to an image, frame, script or prefetch of a page."""
    wanted = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    is_embedded = any(request.headers.get(name, value) != value for name, value in wanted.items())
    return not is_embedded and not {"origin", "purpose", "sec-purpose"} & set(request.headers)


def _cookie_of(request: CallbackRequest) -> Secret | None:
    from http.cookies import CookieError, SimpleCookie  # noqa: PLC0415  # 2 ms of a start

    try:
        return Secret(SimpleCookie(request.headers.get("cookie", ""))[_COOKIE].value)
    except (CookieError, KeyError, ValueError):
        return None
