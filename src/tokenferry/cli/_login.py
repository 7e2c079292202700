"""Showing a login while it runs, and storing it as an account."""

import sys

from tokenferry.audit import note_change
from tokenferry.broker import Broker, store_login
from tokenferry.cli._home import know, what_serves
from tokenferry.cli._logs import redactor
from tokenferry.cli._output import note, say
from tokenferry.cli._revocation import tell_revocation
from tokenferry.credentials import Credential, Kind, OAuthToken, SetupToken
from tokenferry.errors import LoginFailed, UsageError
from tokenferry.login import (
    Addresses,
    DeviceLogin,
    LoginFlow,
    LoginOptions,
    Paste,
    identified,
    make_api_key,
    open_browser,
)
from tokenferry.oauth import DeviceCode, OAuthEndpoints
from tokenferry.providers import Provider
from tokenferry.refresh import send
from tokenferry.settings import Home
from tokenferry.units import moment, span


def log_in(endpoints: OAuthEndpoints, options: LoginOptions) -> OAuthToken:
    """Log in by browser. Raises `LoginFailed`, `TryLater`."""
    login = LoginFlow(endpoints, options, show=_show, complain=note, send=send)
    redactor.know(login.authorization.verifier)
    redactor.know(login.authorization.state)
    token = login.run(_paste(is_only_way=not options.browser))
    know(token)
    return identified(endpoints, token, send)


def log_in_elsewhere(endpoints: OAuthEndpoints) -> OAuthToken:
    """Log in by a code that the user confirms on another device. Raises `LoginFailed`, `TryLater`."""
    progress = _Progress()
    try:
        login = DeviceLogin(endpoints, show=_show_code, send=send, know=redactor.know, tick=progress.show)
        token = login.run()
    finally:
        progress.clear()
    know(token)
    return identified(endpoints, token, send)


class _Progress:
    """A countdown line on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._is_shown = False

    def show(self, left: float) -> None:
        if sys.stderr.isatty():
            self._is_shown = True
            sys.stderr.write(f"\r\x1b[Kwaiting for you to confirm it; {span(left)} left")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _paste(*, is_only_way: bool) -> Paste | None:
    """Typed input; piped input only if no browser can answer."""
    if sys.stdin is None or not (is_only_way or sys.stdin.isatty()):
        return None
    try:
        return Paste(sys.stdin.fileno())
    except (OSError, ValueError):
        return None


def _show(addresses: Addresses) -> None:
    lines = []
    if addresses.local is not None:
        is_opened = open_browser(addresses.local)
        lines += ["opened your browser at" if is_opened else "open this in a browser of this machine:"]
        lines += [addresses.local]
    if addresses.hosted is not None:
        lines += [
            "Or open this in any browser, and paste what its last page shows:" if lines else "open this in a browser:"
        ]
        lines += [addresses.hosted]
    if addresses.local is None:
        lines += ["Then paste here what the page shows, or its address."]
    lines += ["It waits for five minutes; Ctrl-C cancels."]
    note("\n".join(lines))


def _show_code(device: DeviceCode) -> None:
    lines = [f"open this in a browser anywhere, and enter the code {device.user_code} there:", device.url]
    if device.direct_url is not None:
        lines += ["Or open this, which has the code in it:", device.direct_url]
    lines += [
        "Go on only if you began this login yourself, just now.",
        f"It waits for {span(device.expires_in)}; Ctrl-C cancels.",
    ]
    note("\n".join(lines))


def keep(broker: Broker, provider: Provider, wanted: str | None, token: OAuthToken, kind: Kind) -> str:
    """Store the result of a login as an account, and give the account's name.

    A login that can't be stored is revoked at its provider, because no program could use it. A login made for an API
    key is always revoked.
    """
    made: list[Credential] = []

    def make() -> Credential:
        made.append(_credential(provider, token, kind))
        return made[0]

    try:
        stored = store_login(broker, provider.name, token, wanted, kind, make=make)
    except BaseException:
        if kind == "api-key" and made:
            note(f"an API key was made (fingerprint {made[0].secret.fingerprint}) and could not be stored; delete it")
        raise
    name, kind, fingerprint = stored.name, stored.credential.kind, stored.credential.secret.fingerprint
    know(stored.credential)
    note_change(
        Home.from_environment(), "account.login", name, provider=provider.name, kind=kind, fingerprint=fingerprint
    )
    if kind == "api-key":
        tell_revocation(broker.revoke_token(provider.name, token))
    if stored.is_known and name != wanted:
        note(f"{token.email or 'this login'} is already account {name}, which was updated")
    verb = "updated" if stored.has_replaced else "stored"
    who = f" as {token.email}" if token.email else ""
    ends = (
        "no expiry is known"
        if stored.credential.expires_at is None
        else f"expires {moment(stored.credential.expires_at)}"
    )
    say(f"logged in{who}: {verb} account {name} ({provider.name}, {kind}, fingerprint {fingerprint}, {ends})")
    say(what_serves(name, broker))
    return name


def _credential(provider: Provider, token: OAuthToken, kind: Kind) -> Credential:
    """The credential that the login becomes. Raises `LoginFailed`, `TryLater`."""
    if kind == "api-key":
        credential: Credential = make_api_key(provider.endpoints, token, send)
    elif kind == "setup-token":
        credential = _setup_token(token)
    else:
        credential = token
    know(credential)
    return credential


def _setup_token(token: OAuthToken) -> SetupToken:
    try:
        return SetupToken(token.secret, obtained_at=token.obtained_at, expires_at=token.expires_at)
    except UsageError:
        raise LoginFailed("the provider gave a token that is not a setup token; nothing was stored") from None
