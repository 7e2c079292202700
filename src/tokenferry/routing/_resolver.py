"""Resolves which accounts may serve a request, for the gateway, `explain route`, `doctor` and `status`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from tokenferry.pool import AccountGroup, PoolAccount, Target
from tokenferry.providers import Provider, may_pass_through
from tokenferry.routing._key_view import KeyView, RoutePlan, rule_of
from tokenferry.routing._members import TooComplex
from tokenferry.routing._rights import model_denied
from tokenferry.routing._router import NoRoute, Route, Router
from tokenferry.routing._scan import BodyFacts
from tokenferry.secret import Secret
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account
from tokenferry.wire import WireFormat

OWN: Final = "(the client's own)"
"""The account in records of a client's own credential."""

_MOST_KNOWN: Final = 256


class ListedAccounts(Protocol):
    """The accounts, and the default provider."""

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts in order."""
        ...

    @property
    def default_provider(self) -> str | None:
        """The provider for models without a mapping; None without one."""
        ...


class RouteRequest(msgspec.Struct, frozen=True):
    """The parts of a request that routing depends on."""

    facts: BodyFacts | None = None
    """The facts of its body, if the route has one with a model."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Headers with names in lower case."""
    own: Secret | None = None
    """The client's own credential, sent beside its key."""
    wire_format: WireFormat = "anthropic"
    """The client's format."""


class RouteResolver:
    """Resolves requests by one configuration. It does no I/O and belongs to one thread.

    `listing` gives the accounts. Views are cached as long as it gives the same object.
    """

    def __init__(
        self,
        settings: RouterSettings,
        providers: Mapping[str, Provider],
        router: Router,
        listing: Callable[[], ListedAccounts],
    ) -> None:
        self.router = router
        self._settings = settings
        self._providers = providers
        self._listing = listing
        self._listed: ListedAccounts | None = None
        self._everything: KeyView | None = None
        self._views: dict[tuple[str, Rights], KeyView] = {}
        """The views of keys with rights."""

    def resolve(self, request: RouteRequest, key: ClientKey) -> RoutePlan | NoRoute:
        """Give the targets for the request in order, or why no account may serve it and how to change that."""
        try:
            facts = request.facts
            if facts is not None and key.rights.models:
                denied = model_denied(key, self.router.named_by_client(facts), self._bare_name)
                if denied is not None:
                    return denied
            if request.own is not None:
                own = self._with_own(request, request.own, key)
                if own is not None:
                    return own
            view = self._view(key)
            if facts is None or not (self.router.is_configured or "/" in (facts.model or "")):
                return view.by_default("" if facts is None else facts.model or "")
            route = self._route(facts, request.headers, key)
            if isinstance(route, NoRoute):
                return route
            return view.plan(route)
        except TooComplex as fault:
            return NoRoute(400, str(fault), "too_complex")

    def resolve_model(self, model: str | None, key: ClientKey) -> RoutePlan | NoRoute:
        """Resolve a model without applying rules; None stands for a request without a model."""
        view = self._view(key)
        if model is None or not (self.router.is_configured or "/" in model):
            return view.by_default(model or "")
        route = self.router.named(model)
        if isinstance(route, NoRoute):
            return route
        return view.plan(route)

    def _with_own(self, request: RouteRequest, secret: Secret, key: ClientKey) -> RoutePlan | NoRoute | None:
        """Give the plan for a client's own credential; None if no allowed provider accepts it."""
        rights, facts = key.rights, request.facts
        if rights.pin is not None or rights.accounts:
            return None
        names: Sequence[str] = self._settings.providers or tuple(self._providers)
        model, rule, without_tag = None if facts is None else facts.model, "", False
        route: Route | None = None
        if facts is not None and (self.router.is_configured or "/" in (model or "")):
            found = self._route(facts, request.headers, key)
            if isinstance(found, NoRoute):
                return found
            route, model, named = found, found.model, self._view(key).prefixed(found)
            if found.is_mapped:
                names, model = [found.targets[0].provider], found.targets[0].model
            elif named is not None and self._accepts(named.provider, secret):
                names, model = [named.provider], named.model
            rule, without_tag = f"{rule_of(route)}; ", route.without_tag
        accepting = next((name for name in names if self._accepts(name, secret) and rights.allows_provider(name)), None)
        if accepting is None:
            return None
        return RoutePlan(
            (Target(AccountGroup(accepting, (PoolAccount(OWN, accepting),)), model or ""),),
            f"{rule}the client's own credential goes to its vendor",
            without_tag=without_tag,
            is_own=True,
            route=route,
        )

    def _bare_name(self, key: ClientKey, model: str) -> str | None:
        """Give the model's name without a provider's prefix; None if it has no such prefix."""
        route = self.router.named(model)
        prefixed = None if isinstance(route, NoRoute) else self._view(key).prefixed(route)
        return None if prefixed is None else prefixed.model

    def _accepts(self, name: str, secret: Secret) -> bool:
        provider = self._providers.get(name)
        return provider is not None and provider.is_served and may_pass_through(provider, secret.reveal())

    def _route(self, facts: BodyFacts, headers: Sequence[tuple[bytes, bytes]], key: ClientKey) -> Route | NoRoute:
        if not self.router.is_configured and facts.model is not None:
            return self.router.named(facts.model)
        return self.router.route(facts, headers=headers, key=key.name, size=len(facts.body))

    def _view(self, key: ClientKey) -> KeyView:
        listed = self._listing()
        if listed is not self._listed:
            self._listed, self._everything = listed, None
            self._views.clear()
        if key.rights.is_everything:
            if self._everything is None:
                self._everything = KeyView(self._settings, self._providers, listed.accounts, listed.default_provider)
            return self._everything
        view = self._views.get((key.name, key.rights))
        if view is None:
            if len(self._views) >= _MOST_KNOWN:
                self._views.clear()
            view = KeyView(self._settings, self._providers, listed.accounts, listed.default_provider, key)
            self._views[key.name, key.rights] = view
        return view
