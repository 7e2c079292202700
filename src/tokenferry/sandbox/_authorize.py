"""The pages of a login: authorization (RFC 6749, 7636, 8252, 9207) and devices (RFC 8628)."""

import re
from html import escape
from urllib.parse import urlencode, urlsplit

from tokenferry.sandbox import _pages
from tokenferry.sandbox._accounts import find
from tokenferry.sandbox._http import Answer, Request, json_answer
from tokenferry.sandbox._oauth import NO_STORE, OAuthError, client, needed, parameters, scopes_of
from tokenferry.sandbox._state import State

_CODE_LIFETIME = 600  # seconds, RFC 6749, 4.1.2
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PASSED_ON = (
    "code",
    "client_id",
    "response_type",
    "redirect_uri",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "state",
)


def authorize(state: State, request: Request) -> Answer:
    """`GET` shows the accounts that can log in, `POST` takes the choice.

    `login_hint`, or `account` with `approve=1`, skips the page.
    """
    given = dict(request.form) if request.method == "POST" else request.parameters
    redirect_uri = given.get("redirect_uri", "")
    if not given.get("client_id"):
        return _pages.message("Login refused", "client_id is missing.", 400)
    if not _redirect_allowed(state, redirect_uri):
        text = "redirect_uri must be http://localhost:PORT/callback, http://127.0.0.1:PORT/… or the sandbox's own page."
        return _pages.message("Login refused", text, 400)
    try:
        scopes = _checked(given)
    except OAuthError as error:
        return _redirect(state, given, {"error": error.error, "error_description": error.description})
    chosen = _chosen(request, given)
    if chosen is None:
        hidden = [(name, given[name]) for name in _PASSED_ON if name in given]
        text = f"{given['client_id']} asks for: {', '.join(scopes)}. Who are you?"
        return _pages.choice("Sandbox login", text, request.path, hidden)
    account = find(chosen)
    if account is None or not account.can_login:
        return _redirect(state, given, {"error": "access_denied", "error_description": "The user said no."})
    code = state.ledger.new_code(
        account.name,
        client_id=given["client_id"],
        redirect_uri=redirect_uri,
        challenge=given["code_challenge"],
        state=given.get("state"),
        scopes=scopes,
        expires_at=state.clock.now() + _CODE_LIFETIME,
    )
    return _redirect(state, given, {"code": code.code})


def _checked(given: dict[str, str]) -> tuple[str, ...]:
    if given.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code.")
    if given.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise OAuthError("invalid_request", "A code_challenge with the method S256 is needed.")
    return scopes_of(given.get("scope", ""))


def _chosen(request: Request, given: dict[str, str]) -> str | None:
    """The account's name; empty if the user refused; None if a page must be shown first."""
    if "deny" in given:
        return ""
    if "account" in given and (request.method == "POST" or given.get("approve") == "1"):
        return given["account"]
    hint = given.get("login_hint", "")
    return hint if request.method == "GET" and find(hint) is not None else None


def _redirect_allowed(state: State, uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    own = urlsplit(state.issuer)
    if parts.scheme != "http" or parts.fragment or parts.username is not None or not uri.isascii() or port is None:
        return False
    if re.search(r"[\x00-\x20\x7f\\]", uri):
        return False
    if port == own.port:
        return parts.hostname in {own.hostname, "localhost"} and parts.path == "/oauth/code/callback"
    return parts.hostname in {"127.0.0.1", "::1"} or (parts.hostname == "localhost" and parts.path == "/callback")


def _redirect(state: State, given: dict[str, str], answer: dict[str, str]) -> Answer:
    if "state" in given:
        answer = answer | {"state": given["state"]}
    uri = given["redirect_uri"]
    location = f"{uri}{'&' if '?' in uri else '?'}{urlencode(answer | {'iss': state.issuer})}"
    return Answer(302, [("location", location), ("cache-control", "no-store"), ("referrer-policy", "no-referrer")])


def code_callback(_state: State, request: Request) -> Answer:
    """The hosted redirect: it shows `CODE#STATE` for pasting."""
    given = request.parameters
    if "error" in given:
        return _pages.message("Login refused", f"{given['error']}: {given.get('error_description', '')}")
    if not given.get("code"):
        return _pages.message("No code", "This page shows the code of a login that ended here.", 400)
    return _pages.code_page(f"{given['code']}#{given.get('state', '')}")


def device_authorization(state: State, request: Request) -> Answer:
    """`POST /oauth/device_authorization` (RFC 8628, 3.1). The client id may be left out."""
    given = parameters(request) if request.body else {}
    scopes = scopes_of(given.get("scope", ""))
    lifetime = state.device_lifetime
    device = state.ledger.new_device(
        client(request, given),
        scopes,
        state.clock.now() + lifetime,
        state.device_interval,
    )
    return json_answer(
        {
            "device_code": device.device_code,
            "user_code": device.user_code,
            "verification_uri": f"{state.issuer}/oauth/device",
            "verification_uri_complete": f"{state.issuer}/oauth/device?user_code={device.user_code}",
            "expires_in": round(lifetime),
            "interval": device.interval,
        },
        headers=NO_STORE,
    )


def device_page(state: State, request: Request) -> Answer:
    """`GET` asks for the user code, maybe prefilled; `POST` takes it with an account or a refusal."""
    if request.method == "GET":
        value = escape(request.parameters.get("user_code", ""))
        field = f'<p><label>Code <input name=user_code value="{value}" required autocomplete=off></label>'
        return _pages.choice("Sandbox device login", "Compare the code, then say who you are.", request.path, [], field)
    given = dict(request.form)
    device = state.ledger.device_by_user_code(needed(given, "user_code"))
    if device is None or device.expires_at <= state.clock.now():
        return _pages.message("No such code", "The code is unknown or has expired.", 404)
    if device.account is not None or device.denied:
        return _pages.message("Already answered", "This code was answered before.", 409)
    if "deny" in given:
        device.denied = True
        return _pages.message("Denied", "The device was refused.")
    account = find(given.get("account", ""))
    if account is None or not account.can_login:
        return _pages.message("No such account", "No account of that name can log in here.", 400)
    device.account = account.name
    return _pages.message("Done", "The device is logged in. You can close this page.")
