"""`/oauth/callback`, to which a provider redirects the browser, and the page that errors about dead logins name.

Neither takes a key. The callback is bound to a login by its state, which works once, and to the browser by a cookie
that was set before the redirect to the provider. An answer in another browser does nothing: its page shows the code to
give to `/api/oauth/exchange`, which needs a key.
"""

import secrets
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tokenferry.actions import CALLBACK, LoginService, secret_of
from tokenferry.admin._pages import page
from tokenferry.errors import TokenferryError
from tokenferry.oauth import answer_parameters
from tokenferry.secret import Fields, Secret
from tokenferry.stores import ACCOUNT_NAME

_COOKIE: Final = "tokenferry_login_"
_COOKIE_BYTES: Final = 32
_OWN: Final = ("none", "same-origin")
_NO_LOGIN: Final = "This answers no login: it was finished, has expired, or was not started here."


class Pages:
    def __init__(self, service: LoginService, status_of: Callable[[TokenferryError], int]) -> None:
        self._service = service
        self._status_of = status_of

    def callback(self, request: Request) -> Response:
        """Redirect a browser to the provider, and finish the login that it returns with."""
        query = secret_of(request.scope["query_string"].decode("latin-1"))
        given = Fields() if query is None else answer_parameters(query.reveal())
        state = secret_of(given.get("login", "") or given.get("state", ""))
        redirect_uri = None if state is None else self._service.redirect_of(state)
        if query is None or state is None or redirect_uri is None:
            return page(400, "No such login", _NO_LOGIN)
        cookie = _Cookie(state, is_secure=redirect_uri.startswith("https:"))
        try:
            if "login" in given:
                return self._lead(request, state, cookie)
            return self._take(request, state, query, given, cookie)
        except TokenferryError as fault:
            return page(self._status_of(fault), "The login failed", f"{fault}.")

    def _lead(self, request: Request, state: Secret, cookie: "_Cookie") -> Response:
        """Bind the login to the browser that opened its address, and redirect it."""
        is_own = request.headers.get("sec-fetch-site", "none") in _OWN
        if not is_own and not self._service.is_of_dashboard(state):
            return page(403, "Not like this", "Another page can't start a login.")
        browser = cookie.value(request) or Secret(secrets.token_urlsafe(_COOKIE_BYTES))
        response = RedirectResponse(self._service.lead(state, browser), 303)
        cookie.set(response, browser.reveal(), self._service.lifetime)
        return response

    def _take(self, request: Request, state: Secret, query: Secret, given: Fields, cookie: "_Cookie") -> Response:
        browser = cookie.value(request)
        stored = None if browser is None else self._service.take_back(state, query, browser)
        if stored is None and self._service.redirect_of(state) is None:  # another request of this browser was faster
            return page(400, "No such login", _NO_LOGIN)
        if stored is None:
            return _for_pasting(given, state)
        who = f" as {stored.token.email}" if stored.token.email else ""
        what = f"You are logged in{who}: account {stored.name} was {'updated' if stored.has_replaced else 'stored'}."
        response = page(200, "Thank you", what, "You can close this page.")
        cookie.set(response, "", 0)
        return response

    def login_page(self, request: Request) -> Response:
        """Say how to log in again."""
        asked = request.query_params.get("account", "")
        name = asked if ACCOUNT_NAME.fullmatch(asked) else "NAME"
        return page(
            200,
            "Log in again",
            "A login that this gateway uses has ended, and a person has to log in again. The error that named this "
            f"page names the account. On the gateway's machine, run: tokenferry login {name}. Or log in again in the "
            "dashboard, which this opens:",
            code=f"tokenferry dashboard --account {name}",
        )


def _for_pasting(given: Fields, state: Secret) -> Response:
    """Show the code in a browser that the login isn't bound to, and do nothing."""
    code = secret_of(given.get("code", ""))
    if code is None:
        return page(400, "The login failed", "The provider's answer holds no code. Start the login again.")
    return page(
        200,
        "Almost done",
        "Another browser started this login. If it is yours, give this whole code to the program that started it "
        "(POST /api/oauth/exchange); keep it to yourself.",
        code=f"{code.reveal()}#{state.reveal()}",
    )


class _Cookie:
    """The cookie that binds a login to a browser. Each login has its own, so that several don't mix."""

    def __init__(self, state: Secret, *, is_secure: bool) -> None:
        self._name = _COOKIE + state.fingerprint
        self._is_secure = is_secure

    def value(self, request: Request) -> Secret | None:
        return secret_of(request.cookies.get(self._name, ""))

    def set(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self._name,
            value,
            max_age=seconds,
            path=CALLBACK,
            secure=self._is_secure,
            httponly=True,
            samesite="lax",
        )
