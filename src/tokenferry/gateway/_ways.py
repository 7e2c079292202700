"""Whom a request goes to: as `[gateway]` says, as models are routed, or as its own credential demands."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenferry.gateway._access_log import told, told_name
from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._headers import Header, Presented
from tokenferry.gateway._own_credential import OWN, goes_to
from tokenferry.gateway._routing import Lineup, line_up, line_up_for, roster_for
from tokenferry.pool import Hop, Member, Roster
from tokenferry.providers import Provider
from tokenferry.routing import BodyFacts, NoRoute, Route, Router
from tokenferry.routing import Hop as RouteHop
from tokenferry.secret import Secret
from tokenferry.settings import GatewaySettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account

_MOST_KNOWN: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """The providers to ask with their accounts, in order, and by which rule."""

    hops: tuple[Hop, ...]
    rule: str
    pinned: str | None = None
    """The only account that may serve."""
    without_tag: bool = False
    """Whether the sub-agent's tag is to be taken out of the body."""
    own: Presented | None = None
    """The client's own credential, which is presented in place of an account's."""


class Ways:
    """Finds ways by one configuration. What follows from the present accounts is kept until they change."""

    def __init__(self, settings: GatewaySettings, providers: Mapping[str, Provider], router: Router) -> None:
        self.router = router
        self._settings = settings
        self._providers = providers
        self._accounts: Sequence[Account] = ()
        self._all: _Scope | None = None
        self._scopes: dict[tuple[str, Rights], _Scope] = {}
        """Of keys with rights."""

    def way(
        self, accounts: Sequence[Account], facts: BodyFacts | None, headers: Sequence[Header], key: ClientKey
    ) -> Way:
        """Raises `Refusal` that says what is missing, and how to add it."""
        scope = self._scope(accounts, key)
        if facts is None or not self.router.is_configured:
            return scope.by_lineup("" if facts is None else facts.model or "")
        route = self._route(facts, headers, key, scope.defaults)
        if route.is_mapped:
            return scope.mapped(route)
        found = scope.by_lineup(route.model or "")
        return Way(found.hops, f"{_told(route)}; {found.rule}", found.pinned, route.without_tag)

    def own_way(
        self, secret: Secret, presented: Presented, facts: BodyFacts | None, headers: Sequence[Header], key: ClientKey
    ) -> Way | None:
        """The way for a client's own credential; None where it is for no provider that this request may go to."""
        rights = key.rights
        if rights.pin is not None or rights.accounts:
            return None
        names = self._settings.providers or tuple(self._providers)
        takers = [name for name in names if self._takes(name, secret) and rights.allows_provider(name)]
        model, rule, without_tag = None if facts is None else facts.model, "", False
        if facts is not None and self.router.is_configured:
            route = self._route(facts, headers, key, lambda: takers)
            first = route.hops[0].provider if route.hops else ""
            takers = [first] if self._takes(first, secret) and rights.allows_provider(first) else []
            model, rule, without_tag = route.hops[0].model if takers else None, f"{_told(route)}; ", route.without_tag
        if not takers:
            return None
        rule += "the client's own credential goes to its vendor"
        roster = Roster(takers[0], (Member(OWN, takers[0]),))
        return Way((Hop(roster, model or ""),), rule, None, without_tag, presented)

    def _scope(self, accounts: Sequence[Account], key: ClientKey) -> "_Scope":
        if accounts is not self._accounts:
            self._accounts, self._all = accounts, None
            self._scopes.clear()
        if key.rights.is_everything:
            if self._all is None:
                self._all = _Scope(self._settings, self._providers, accounts)
            return self._all
        scope = self._scopes.get((key.name, key.rights))
        if scope is None:
            if len(self._scopes) >= _MOST_KNOWN:
                self._scopes.clear()
            scope = self._scopes[key.name, key.rights] = _Scope(self._settings, self._providers, accounts, key)
        return scope

    def _takes(self, name: str, secret: Secret) -> bool:
        provider = self._providers.get(name)
        return provider is not None and provider.is_served and goes_to(provider, secret)

    def _route(
        self, facts: BodyFacts, headers: Sequence[Header], key: ClientKey, defaults: Callable[[], Sequence[str]]
    ) -> Route:
        route = self.router.route(facts, defaults=defaults, headers=headers, key=key.name, size=len(facts.body))
        if isinstance(route, NoRoute):
            raise Refusal(route.status, route.kind, route.message, cause=route.cause)
        return route


class _Scope:
    """What there is for a key: of all accounts, or of those that its rights leave, of which alone it is told."""

    def __init__(
        self,
        settings: GatewaySettings,
        providers: Mapping[str, Provider],
        accounts: Sequence[Account],
        key: ClientKey | None = None,
    ) -> None:
        self._key = key
        if key is None:
            self._find: Callable[[], Lineup] = lambda: line_up(settings, providers, accounts)
        else:
            rights = key.rights
            self._find = lambda: line_up_for(key, settings, providers, accounts)
            accounts = [account for account in accounts if rights.names_account(account.name)]
            providers = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
            settings = settings if rights.pin is None else replace(settings, account=rights.pin)
        self._settings = settings
        self._providers = providers
        self._accounts = accounts
        self._lineup: Lineup | None = None
        self._rosters: dict[str, Roster | None] = {}
        self._hops: dict[tuple[RouteHop, ...], tuple[Hop, ...]] = {}
        self._unmapped: dict[str, Way] = {}

    def defaults(self) -> list[str]:
        """The providers of models that nothing maps."""
        return [roster.provider for roster in self._line_up().rosters]

    def by_lineup(self, model: str) -> Way:
        """The way of a model that nothing maps, under its own name."""
        lineup = self._line_up()
        way = self._unmapped.get(model)
        if way is None:
            if len(self._unmapped) >= _MOST_KNOWN:
                self._unmapped.clear()
            hops = tuple([Hop(roster, model) for roster in lineup.rosters])
            way = self._unmapped[model] = Way(hops, lineup.rule, lineup.pinned)
        return way

    def mapped(self, route: Route) -> Way:
        """The accounts of the providers that `[[models]]` names. One account for everything leaves out all others."""
        hops = self._hops.get(route.hops)
        if hops is None:
            found = [(self._roster(name), model) for name, model in route.hops]
            hops = tuple(Hop(roster, model or "") for roster, model in found if roster is not None)
            self._hops[route.hops] = hops
        pinned = self._settings.account
        if pinned is None:
            if not hops:
                raise self._nobody(route)
            return Way(hops, _told(route), None, route.without_tag)
        held = tuple(hop for hop in hops if pinned in hop.roster.by_name)
        if held:
            return Way(held, _told(route), pinned, route.without_tag)
        way = self.by_lineup(route.requested or "")
        rule = (
            f"{way.rule}, and nothing that {told_name(route.model or '') or 'the model'} is mapped to has that account"
        )
        return Way(way.hops, rule, way.pinned, route.without_tag)

    def _nobody(self, route: Route) -> Refusal:
        model = f"model {told_name(route.model or '') or 'of that name'}"
        if self._key is not None:
            name = self._key.name
            message = f"no account that client key {name} may use serves {model}; see: tokenferry key show {name}"
        else:
            names = list(dict.fromkeys(name for name, _ in route.hops))
            message = (
                f"no account serves {model}, which is mapped to {', '.join(names)}; "
                f"add one with: tokenferry accounts add NAME --provider {names[0]}"
            )
        return Refusal(503, "api_error", message, cause="no_account")

    def _line_up(self) -> Lineup:
        if self._lineup is None:
            self._lineup = self._find()
            self._rosters.update((roster.provider, roster) for roster in self._lineup.rosters)
        return self._lineup

    def _roster(self, name: str) -> Roster | None:
        """One for each provider, for the pool tells rosters apart by what they are, not by what they hold."""
        if self._lineup is None:
            with contextlib.suppress(Refusal):
                self._line_up()
        if name not in self._rosters:
            self._rosters[name] = roster_for(self._providers.get(name), self._accounts)
        return self._rosters[name]


def _told(route: Route) -> str:
    """Which rule led where, for records: of a client's own words only those that may be kept."""
    if route.model == route.requested:
        return f"{route.rule}: {route.reason}"
    requested, model = told(route.requested or "") or "the model", told_name(route.model or "") or "another"
    return f"{route.rule}: {route.reason}, so {requested} goes to {model}"
