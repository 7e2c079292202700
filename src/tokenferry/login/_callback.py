"""What the address on this machine answers while a login runs (RFC 8252 7.3)."""

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
    """One path, asked twice: without a query it leads to the provider, with one it takes the provider's answer.

    Each is answered once. The first sets a cookie that the second must bring, so that the answer comes from the browser
    that began the login. Thus the login's state is in no command line: other users of this machine could read it there.
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

    def answer(self, request: CallbackRequest | None) -> CallbackReply:  # noqa: PLR0911  # a list of rules, one return each
        """Answer one request; afterwards `code` or `fault` may be there."""
        if request is None:
            return _page(HTTPStatus.BAD_REQUEST, "That was no request that a browser makes.")
        if request.headers.get("host", "").lower() not in self._hosts:
            return _page(HTTPStatus.MISDIRECTED_REQUEST, "This is no address of that name.")
        if request.path != self._path:
            return _page(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if request.method != "GET":
            return _page(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is answered here.", ("allow", "GET"))
        if not _is_navigation(request):
            return _page(HTTPStatus.FORBIDDEN, "Only a person who opens this page is answered here.")
        if self.is_over:
            return _page(HTTPStatus.GONE, "This login is over.")
        return self._take(request) if request.query else self._lead(request)

    def _lead(self, request: CallbackRequest) -> CallbackReply:
        if request.headers.get("sec-fetch-site", "none") != "none":
            return _page(HTTPStatus.FORBIDDEN, "A login isn't begun by another page.")
        if self._cookie is not None:
            self.fault = LoginFailed(
                f"{self.redirect_uri} was opened twice; if that wasn't you, another user of this machine may have "
                "tried to take part in the login, so it was given up; log in again"
            )
            return _page(HTTPStatus.GONE, "This address was opened before, so the login was given up. Begin it again.")
        self._cookie = Secret(secrets.token_urlsafe(_COOKIE_BYTES))
        cookie = f"{_COOKIE}={self._cookie.reveal()}; HttpOnly; SameSite=Lax; Path={self._path}"
        url = self._authorization.url(self.redirect_uri)
        return CallbackReply(
            HTTPStatus.SEE_OTHER,
            "One moment",
            "The provider's page follows.",
            (("location", url), ("set-cookie", cookie)),
        )

    def _take(self, request: CallbackRequest) -> CallbackReply:
        if self._cookie is None or _cookie_of(request) != self._cookie:
            return _page(
                HTTPStatus.FORBIDDEN,
                "This login was begun in another browser. Copy the address of this page, and paste it where it began.",
            )
        try:
            self.code = self._authorization.read_redirect(request.query, self.redirect_uri)
        except LoginFailed as fault:
            self.fault = fault
            return _page(HTTPStatus.BAD_REQUEST, "The login came to nothing. The terminal says why.")
        if self.code is None:
            return _page(HTTPStatus.BAD_REQUEST, "That is no answer to the login that waits here.")
        gone = f"{_COOKIE}=; Max-Age=0; Path={self._path}"
        return CallbackReply(
            HTTPStatus.OK,
            "Thank you",
            "You can close this page. The terminal says what follows.",
            (("set-cookie", gone),),
        )


def _page(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> CallbackReply:
    return CallbackReply(status, status.phrase, text, headers)


def _is_navigation(request: CallbackRequest) -> bool:
    """Whether a person opened it: no picture, frame, script or prefetch of some page."""
    wanted = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    is_told_otherwise = any(request.headers.get(name, value) != value for name, value in wanted.items())
    return not is_told_otherwise and not {"origin", "purpose", "sec-purpose"} & set(request.headers)


def _cookie_of(request: CallbackRequest) -> Secret | None:
    from http.cookies import CookieError, SimpleCookie  # noqa: PLC0415  # 2 ms that a start is spared

    try:
        return Secret(SimpleCookie(request.headers.get("cookie", ""))[_COOKIE].value)
    except (CookieError, KeyError, ValueError):
        return None
