"""Logins that are started over the API, and finished by a pasted code or the browser."""

import hmac
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.actions._actor import Actor
from tokenferry.actions._context import CALLBACK, ActionContext
from tokenferry.actions._device_logins import DeviceLogins
from tokenferry.audit import note_change
from tokenferry.broker import StoredLogin, check_login_name, store_login
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, PolicyRefused, UnknownName, UnknownProvider, UsageError
from tokenferry.login import identified
from tokenferry.oauth import (
    Authorization,
    AuthorizationCode,
    DeviceCode,
    HttpOutcome,
    OAuthEndpoints,
    TokenRequest,
    exchange_request,
    pasted_state,
    read_exchange,
)
from tokenferry.policy_statement import LOGIN_REFUSED
from tokenferry.providers import Provider
from tokenferry.refresh import read_client_secret, send
from tokenferry.secret import Concealing, Secret
from tokenferry.state import StartedLogin

_ALIASES: Final = {"max": "claude-max"}
_TIMEOUT: Final = 30.0
_LOST: Final = (
    "the state of this login is unknown: it was used, has expired, was started with another key, or before this "
    "gateway "
    "was started; begin again with: POST /api/oauth/authorize"
)


class LoginInProgress(Concealing, frozen=True):
    """A login that waits `expires_in` seconds for its answer.

    `url` is the provider's page. `login_url` is this gateway's address that redirects a browser there and binds the
    login to it; None if the provider shows a code to paste.
    """

    hidden: ClassVar = ("url", "login_url")

    provider: Provider
    url: str
    login_url: str | None
    state: Secret
    handle: Secret
    """The answer's `verifier`: an opaque value without a use. It isn't the PKCE verifier, nor derived from it."""
    expires_in: int


class LoginOffer(Struct, frozen=True):
    """The ways to log in at a provider."""

    provider: str
    is_by_browser: bool
    comes_back: bool
    """Whether the browser returns to the gateway; else the last page shows a code to paste."""
    is_by_device: bool
    """Whether it may offer a code to confirm on another device."""
    needs_statement: bool
    """Whether the operator must first state that the subscription is theirs alone."""
    vendors_command: str | None
    """The vendor's own login command, if the login uses the vendor's client id."""


class LoginService:
    """Starts and finishes logins. No process holds a login in memory, so any worker can finish it.

    The verifier is HMAC-SHA256 of the login's state with the gateway's secret: new for each login, unpredictable
    without the secret, and not stored.
    """

    def __init__(
        self,
        parts: ActionContext,
        *,
        send: Callable[[TokenRequest, float], HttpOutcome] = send,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._parts = parts
        self._broker = parts.broker
        self._logins = parts.logins
        self._send = send
        self._now = now
        self._changed = threading.Condition()
        self._finishing = 0
        self._devices = DeviceLogins(send, self._under_way)

    @property
    def lifetime(self) -> int:
        """The seconds for which a login waits."""
        return self._logins.lifetime

    def providers(self) -> list[str]:
        """Return the providers with a login."""
        known = self._broker.providers.values()
        return [
            one.name for one in known if (one.oauth.authorization_endpoint or one.oauth.issuer) and one.oauth.client_id
        ]

    def begin(self, oauth_type: str, by: Actor, account: str | None = None) -> LoginInProgress:
        """Start a login for the holder of a key or session.

        Raises `UnknownProvider`, `PolicyRefused`, `UsageError`, and what asking the issuer and reading the client
        secret raise.
        """
        provider = self._provider(_ALIASES.get(oauth_type, oauth_type))
        self._check_policy(provider)
        if account is not None:
            check_login_name(self._broker, account, provider.name)
        endpoints = self._endpoints(provider)
        read_client_secret(endpoints)  # a missing secret is reported before the user is sent to log in
        redirect_uri = self._redirect(provider, endpoints)
        state = self._logins.begin(
            provider.name, self._session(by), redirect_uri=redirect_uri, account=account, client=by.id
        )
        return LoginInProgress(
            provider,
            self._authorization(provider, state, redirect_uri).url(redirect_uri),
            f"{redirect_uri}?login={state.reveal()}" if self._comes_back(provider.name, redirect_uri) else None,
            state,
            self._derived("api-handle", state),
            self.lifetime,
        )

    def offers(self) -> list[LoginOffer]:
        """Return the providers with a login, and the ways to log in."""
        known = self._broker.providers
        return [self._offer(known[name]) for name in dict.fromkeys((*self.providers(), *self._device_providers()))]

    def pending(self, by: Actor) -> list[StartedLogin]:
        """Return the waiting logins started by this key or session. Raises `StorageFailed`."""
        return self._logins.pending(self._session(by))

    def begin_device(
        self, name: str, by: Actor, account: str | None = None, *, ended: Callable[[str], None] = lambda _: None
    ) -> DeviceCode:
        """Start a login by a code to confirm on another device, and return the code.

        A thread waits for the confirmation and stores the login; `ended` gets a sentence about the result. Raises as
        `begin` does, and `TryLater` while the maximum is waiting.
        """
        provider = self._known_provider(name)
        self._check_policy(provider)
        if account is not None:
            check_login_name(self._broker, account, provider.name)
        endpoints = self._broker.login_endpoints(provider, device=True)
        if endpoints.device_authorization_endpoint is None or endpoints.token_endpoint is None:
            raise UsageError(f"provider {name!r} has no login by a code on another device; log in by the browser")
        return self._devices.begin(endpoints, lambda token: self._store(provider.name, token, account, by), ended)

    def exchange(self, pasted: Secret, account: str | None, by: Actor) -> StoredLogin:
        """Finish the login that a pasted `CODE#STATE`, or address, answers, and store it as this account.

        Without a name it becomes the account that the login was started for, else one named by e-mail address.

        Raises `LoginFailed`, `TryLater`, `PolicyRefused`, `UsageError`, and what storing raises.
        """
        state = secret_of(pasted_state(pasted.reveal()))
        if state is None:
            raise LoginFailed("the code has no state; give all of it, as the page shows it: CODE#STATE")
        waiting = self._logins.find(state)
        if waiting is not None:  # check the name before the state is used up
            account = account or waiting.account
            if account is not None:
                check_login_name(self._broker, account, waiting.provider)
            self._check_policy(self._provider(waiting.provider))
        login = self._logins.take(state, self._session(by))
        if login is None:
            raise LoginFailed(_LOST)
        authorization = self._authorization(self._provider(login.provider), state, login.redirect_uri)
        answer = authorization.read_pasted(pasted.reveal(), (login.redirect_uri,))
        if answer is None:
            raise LoginFailed("the code can't be read; give all of it, as the page shows it: CODE#STATE")
        return self._finish(login, authorization, answer, account, by)

    def lead(self, state: Secret, browser: Secret) -> str:
        """Bind the login to this browser, and return the provider's address. Raises `LoginFailed`."""
        login = None if self.redirect_of(state) is None else self._logins.bind(state, browser)
        if login is None:
            raise LoginFailed(
                "this login no longer exists: it was finished, has expired, or its address was opened in another "
                "browser; start it again"
            )
        authorization = self._authorization(self._provider(login.provider), state, login.redirect_uri)
        return authorization.url(login.redirect_uri)

    def redirect_of(self, state: Secret) -> str | None:
        """Return this gateway's address that the login of this state returns to, or None."""
        login = self._logins.find(state)
        if login is None or not self._comes_back(login.provider, login.redirect_uri):
            return None
        return login.redirect_uri

    def is_of_dashboard(self, state: Secret) -> bool:
        """Whether the login was started by the dashboard, which has another host name."""
        login = self._logins.find(state)
        return login is not None and self._parts.state.sessions.get(login.client) is not None

    def take_back(self, state: Secret, query: Secret, browser: Secret) -> StoredLogin | None:
        """Finish the login of this state that returned in this browser; None if it isn't bound to it.

        Raises as `exchange` does.
        """
        login = self._logins.take_bound(state, browser)
        if login is None:
            return None
        by = self._living_actor(login)
        provider = self._provider(login.provider)
        self._check_policy(provider)
        authorization = self._authorization(provider, state, login.redirect_uri)
        answer = authorization.read_redirect(query.reveal(), login.redirect_uri)
        if answer is None:
            raise LoginFailed("the provider's answer holds no readable code; start the login again")
        return self._finish(login, authorization, answer, login.account, by)

    def _finish(
        self,
        login: StartedLogin,
        authorization: Authorization,
        answer: AuthorizationCode,
        account: str | None,
        by: Actor,
    ) -> StoredLogin:
        request = exchange_request(authorization, answer, read_client_secret(authorization.endpoints))
        with self._under_way():
            sent_at = self._now()
            token = read_exchange(self._send(request, _TIMEOUT), authorization, answer, sent_at, self._now())
            return self._store(login.provider, identified(authorization.endpoints, token, self._send), account, by)

    def _store(self, provider: str, token: OAuthToken, account: str | None, by: Actor) -> StoredLogin:
        stored = store_login(self._broker, provider, token, account)
        note_change(
            self._parts.home,
            "account.login",
            stored.name,
            provider=provider,
            kind=stored.credential.kind,
            fingerprint=stored.credential.secret.fingerprint,
            client=by.name or None,
        )
        return stored

    def drain(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until exchanged logins are stored; True if all are.

        Logins that wait for a code to be confirmed are ended.
        """
        self._devices.close()
        with self._changed:
            return self._changed.wait_for(lambda: not self._finishing, timeout)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._changed:
            self._finishing += 1
        try:
            yield
        finally:
            with self._changed:
                self._finishing -= 1
                self._changed.notify_all()

    def _device_providers(self) -> list[str]:
        known = self._broker.providers.values()
        return [one.name for one in known if one.oauth.device_authorization_endpoint and one.oauth.client_id]

    def _offer(self, provider: Provider) -> LoginOffer:
        redirect = provider.oauth.redirect_uri
        return LoginOffer(
            provider.name,
            is_by_browser=provider.name in self.providers(),
            comes_back=self._parts.base is not None
            and self._comes_back(provider.name, redirect or f"{self._parts.base}{CALLBACK}"),
            is_by_device=provider.oauth.device_authorization_endpoint is not None or provider.oauth.issuer is not None,
            needs_statement=provider.subscription and self._broker.policy.subscriptions != "own-use",
            vendors_command=None
            if not provider.uses_vendors_client
            else "claude /login"
            if provider.subscription
            else "ant auth login",
        )

    def _known_provider(self, name: str) -> Provider:
        if name not in self._broker.providers:
            raise UnknownProvider.at_login(name, ("max", *self.providers()))
        return self._broker.providers[name]

    def _provider(self, name: str) -> Provider:
        provider = self._known_provider(name)
        if name not in self.providers():
            raise UsageError(
                f"provider {name!r} declares no authorization_endpoint or no client_id under [providers.oauth], so "
                "there is no login there; store what you have with: POST /api/accounts"
            )
        return provider

    def _endpoints(self, provider: Provider) -> OAuthEndpoints:
        endpoints = self._broker.login_endpoints(provider)
        missing = [key for key in ("authorization_endpoint", "token_endpoint") if getattr(endpoints, key) is None]
        if missing:
            raise UsageError(
                f"provider {provider.name!r}: neither [providers.oauth] nor its issuer says {' and '.join(missing)}; "
                "declare that in config.toml"
            )
        return endpoints

    def _redirect(self, provider: Provider, endpoints: OAuthEndpoints) -> str:
        """Return the declared redirect, which a caller can't choose, else this gateway's own."""
        if endpoints.redirect_uri is not None:
            return endpoints.redirect_uri
        if self._parts.base is None or provider.uses_vendors_client:
            raise UsageError(
                f"provider {provider.name!r} declares no redirect_uri, and this gateway has no address that a browser "
                f"could return to; log in with: tokenferry login --provider {provider.name}"
            )
        return f"{self._parts.base}{CALLBACK}"

    def _check_policy(self, provider: Provider) -> None:
        if provider.subscription and self._broker.policy.subscriptions != "own-use":
            raise PolicyRefused(LOGIN_REFUSED)

    def _living_actor(self, login: StartedLogin) -> Actor:
        """Return the key or dashboard session that started a login, if it is still valid."""
        session = self._parts.state.sessions.get(login.client)
        if session is not None:
            return session
        try:
            key = self._parts.keys.get(login.client)
        except UnknownName:
            key = None
        if key is None or not key.is_live(self._now()):
            raise LoginFailed(
                "the key or session that started this login was revoked or has expired; start it again with another"
            )
        return key

    def _comes_back(self, provider: str, redirect_uri: str) -> bool:
        """Whether the browser returns to this gateway. The vendor's public client supports only pasting."""
        known = self._broker.providers.get(provider)
        return known is not None and not known.uses_vendors_client and self._parts.is_own_callback(redirect_uri)

    def _authorization(self, provider: Provider, state: Secret, redirect_uri: str) -> Authorization:
        endpoints = replace(self._endpoints(provider), redirect_uri=redirect_uri)
        return Authorization(endpoints, endpoints.scopes, self._verifier(state), state)

    def _verifier(self, state: Secret) -> Secret:
        return self._derived("verifier", state)

    def _derived(self, purpose: str, state: Secret) -> Secret:
        return Secret(urlsafe_b64encode(self._mac(purpose, state.reveal())).decode("ascii").rstrip("="))

    def _session(self, by: Actor) -> Secret:
        """Return what binds a login to the key's holder, and to this home's secret."""
        return Secret(self._mac("session", by.id).hex())

    def _mac(self, purpose: str, value: str) -> bytes:
        secret = self._parts.secret.reveal().encode("ascii")
        return hmac.digest(secret, f"{purpose}\0{value}".encode(), "sha256")


def secret_of(text: str) -> Secret | None:
    """Make a secret of a text; None if it can't be one."""
    try:
        return Secret(text.strip())
    except ValueError:
        return None
