from collections.abc import Callable
from typing import Final

from tokenferry.broker._federation import exchange, exchange_token
from tokenferry.broker._revocation import Revocation, revoke
from tokenferry.broker._rules import Rules
from tokenferry.credentials import ApiKey, ExchangedToken, FederatedToken, Federation, OAuthToken
from tokenferry.errors import ConfigError, UsageError
from tokenferry.oauth import (
    Authorization,
    AuthorizationCode,
    HttpOutcome,
    OAuthEndpoints,
    TokenRequest,
    exchange_request,
    read_exchange,
)
from tokenferry.providers import Provider, logs_in_at_subscription
from tokenferry.refresh import Discovery, Needed, read_client_secret
from tokenferry.secret import Secret
from tokenferry.stores import Document, Seal

_TIMEOUT: Final = 30.0


class Logins:
    """Logs in, exchanges and revokes at providers, by declared or discovered endpoints.

    `rules` gives the present rules, `now` seconds since 1970 UTC; `seal` seals new logins.
    """

    def __init__(
        self,
        rules: Callable[[], Rules],
        send: Callable[[TokenRequest, float], HttpOutcome],
        now: Callable[[], float],
        seal: Seal | None,
    ) -> None:
        self._rules = rules
        self._send = send
        self._now = now
        self._seal = seal
        self._discovery = Discovery(send)

    def check_can_keep(self) -> None:
        """Raise `NeedsUnlock` or `SealKeyLost` if a new login could not be stored."""
        if self._seal is not None:
            self._seal.for_new()

    def endpoints(self, provider: Provider, *, device: bool) -> OAuthEndpoints:
        """Return the endpoints of a login, by browser or device code. Raises `RefreshFailed`, `ConfigError`."""
        self.check_can_keep()
        needed: Needed = "device_authorization_endpoint" if device else "authorization_endpoint"
        endpoints = self._discovery.complete(provider.endpoints, needed, "token_endpoint")
        if logs_in_at_subscription(provider.base_url, endpoints) and not provider.subscription:
            raise ConfigError(
                f"provider {provider.name!r} makes logins that are billed to a Claude subscription; set "
                "subscription = true for it in config.toml"
            )
        return endpoints

    def exchange(self, authorization: Authorization, answer: AuthorizationCode) -> OAuthToken:
        """Exchange an approved login for its tokens, with their owner's identity if known.

        Raises `LoginFailed`, `TryLater`, and what `read_client_secret` raises.
        """
        from tokenferry.login import identified  # noqa: PLC0415  # sockets and pages, for logins alone

        endpoints = authorization.endpoints
        request = exchange_request(authorization, answer, read_client_secret(endpoints))
        sent_at = self._now()
        token = read_exchange(self._send(request, _TIMEOUT), authorization, answer, sent_at, self._now())
        return identified(endpoints, token, self._send)

    def federate(self, provider: Provider, federation: Federation) -> FederatedToken:
        """Exchange a workload's identity token for an access token. Raises `UsageError`, and what `exchange` raises."""
        self.check_can_keep()
        endpoints = provider.endpoints
        if endpoints.federation_url is None and not provider.uses_vendors_client:
            endpoints = self._discovery.complete(endpoints, "token_endpoint")
        if endpoints.federation_url is None and (provider.uses_vendors_client or endpoints.token_endpoint is None):
            can = [one.name for one in self._rules().providers.values() if one.oauth.federation_url]
            raise UsageError(
                f"provider {provider.name!r} declares no federation_url to exchange an identity token at; use "
                f"{' or '.join(can)}"
            )
        return exchange(endpoints, federation, self._send, self._now)

    def make_api_key(self, provider: Provider, token: OAuthToken) -> ApiKey:
        """Create an API key with a login, at its provider's `api_key_url`. Raises `LoginFailed`, `TryLater`."""
        from tokenferry.login import make_api_key  # noqa: PLC0415  # like `identified`

        return make_api_key(provider.endpoints, token, self._send, self._now)

    def exchange_token(self, provider: Provider, subject: Secret, login: OAuthToken | None) -> ExchangedToken:
        """Exchange a long-lived token for its first API token. Raises as `exchange_token` does."""
        self.check_can_keep()
        declared = provider.endpoints.token_exchange
        assert declared is not None
        return exchange_token(declared, subject, login, self._send, self._now)

    def renewal_endpoints(self, document: Document) -> OAuthEndpoints:
        """Return the endpoints at which the account's login is renewed. Raises `UnknownProvider`, `RefreshFailed`."""
        endpoints = self._rules().provider_of(document.account).endpoints
        if isinstance(document.credential, FederatedToken) and endpoints.federation_url is not None:
            return endpoints
        if isinstance(document.credential, ExchangedToken):
            return endpoints
        return self._discovery.complete(endpoints, "token_endpoint")

    def end(self, provider: str, token: OAuthToken) -> Revocation:
        """Revoke a login at the provider of that name. Raises nothing."""
        known = self._rules().providers.get(provider)
        if known is None:
            return Revocation(reason=f"provider {provider!r} is not declared")
        return revoke(lambda: self._discovery.complete(known.endpoints, "revocation_endpoint"), token, self._send)
