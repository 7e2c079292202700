"""`/oauth/callback`, where a browser brings a login home, and the page that a dead login's error names.

Neither takes a key. The callback is bound to a login by its state, which is good once, and to the browser by a cookie
that was set when that browser was led to the provider. An answer that comes in another browser does nothing: its page
shows what to give to `/api/oauth/exchange`, for which a key is needed.
"""

import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tokenferry.actions import CALLBACK, LoginService, secret_of
from tokenferry.admin._pages import page
from tokenferry.errors import TokenferryError
from tokenferry.secret import Fields, Secret
from tokenferry.stores import ACCOUNT_NAME

_COOKIE: Final = "tokenferry_login_"
_COOKIE_BYTES: Final = 32
_MOST_PARAMETERS: Final = 20
_OWN: Final = ("none", "same-origin")
_NO_LOGIN: Final = "There is no login that this answers: it was finished, has expired, or never began here."


class Pages:
    def __init__(self, service: LoginService, status_of: Callable[[TokenferryError], int]) -> None:
        self._service = service
        self._status_of = status_of

    def callback(self, request: Request) -> Response:
        """Lead a browser to the provider, and take the login that it brings home."""
        query = secret_of(request.scope["query_string"].decode("latin-1"))
        given = Fields() if query is None else _parameters(query.reveal())
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
            return page(self._status_of(fault), "The login came to nothing", f"{fault}.")

    def _lead(self, request: Request, state: Secret, cookie: "_Cookie") -> Response:
        """A person opened the login's address: remember the browser, and lead it on."""
        is_own = request.headers.get("sec-fetch-site", "none") in _OWN
        if not is_own and not self._service.is_of_dashboard(state):
            return page(403, "Not like this", "A login isn't begun by another page.")
        browser = cookie.value(request) or Secret(secrets.token_urlsafe(_COOKIE_BYTES))
        response = RedirectResponse(self._service.lead(state, browser), 303)
        cookie.set(response, browser.reveal(), self._service.lifetime)
        return response

    def _take(self, request: Request, state: Secret, query: Secret, given: Fields, cookie: "_Cookie") -> Response:
        browser = cookie.value(request)
        kept = None if browser is None else self._service.take_back(state, query, browser)
        if kept is None and self._service.redirect_of(state) is None:  # another request of this browser was faster
            return page(400, "No such login", _NO_LOGIN)
        if kept is None:
            return _for_pasting(given, state)
        who = f" as {kept.token.email}" if kept.token.email else ""
        what = f"You are logged in{who}: account {kept.name} was {'updated' if kept.has_replaced else 'stored'}."
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
            "A login that this gateway uses has ended, and only a person can begin it again. The error that led you "
            f"here names the account. On the machine where the gateway runs: tokenferry login {name}. Or log in again "
            "in the dashboard, which this opens:",
            code=f"tokenferry dashboard --account {name}",
        )


def _for_pasting(given: Fields, state: Secret) -> Response:
    """What came in a browser that this login isn't bound to is shown there, and nothing is done."""
    code = secret_of(given.get("code", ""))
    if code is None:
        return page(400, "The login came to nothing", "The provider's answer holds no code. Begin the login again.")
    return page(
        200,
        "Almost done",
        "This login was not begun in this browser. If it is yours, give this code, whole, to the program that began it "
        "(POST /api/oauth/exchange); keep it to yourself.",
        code=f"{code.reveal()}#{state.reveal()}",
    )


def _parameters(query: str) -> Fields:
    """The parameters; none of them where one is there twice (RFC 6749 3.1)."""
    try:
        pairs = parse_qsl(query, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return Fields()
    given = Fields(pairs)
    return given if len(given) == len(pairs) else Fields()


class _Cookie:
    """What binds a login to a browser. Each login has one of its own, so that several in one browser don't mix."""

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
