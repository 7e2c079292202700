from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import structs
from msgspec.structs import replace

from tokenferry.pool import AccountGroup, Target
from tokenferry.providers import Provider
from tokenferry.routing._default_targets import (
    DefaultTargets,
    add_command,
    default_targets,
    default_targets_for,
    group_for,
    no_account,
    not_served,
)
from tokenferry.routing._loggable import loggable, loggable_name
from tokenferry.routing._router import MappedTarget, NoRoute, Route
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey
from tokenferry.stores import Account

_MOST_KNOWN: Final = 256


class RoutePlan(msgspec.Struct, frozen=True, eq=False):
    """The targets for a request, in order, and the rule that chose them."""

    targets: tuple[Target, ...]
    rule: str
    pinned: str | None = None
    """The only account that may serve."""
    without_tag: bool = False
    """Whether to remove the sub-agent's tag from the body."""
    is_own: bool = False
    """Whether the client's own credential is sent in place of an account's."""
    route: Route | None = None
    """How the model was decided; None if no rule is configured."""


class KeyView:
    """The accounts and providers that a client key may use.

    Plans and refusals name no others.
    """

    def __init__(
        self,
        settings: RouterSettings,
        providers: Mapping[str, Provider],
        accounts: Sequence[Account],
        default_provider: str | None,
        key: ClientKey | None = None,
    ) -> None:
        """`key` is None for a key without restrictions."""
        self._key = key
        if key is None:
            self._defaults = default_targets(settings, providers, accounts, default_provider)
        else:
            self._defaults = default_targets_for(key, settings, providers, accounts, default_provider)
            rights = key.rights
            accounts = [account for account in accounts if rights.names_account(account.name)]
            providers = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
            settings = settings if rights.pin is None else replace(settings, account=rights.pin)
        self._pinned = settings.account
        by_default = settings.providers or (default_provider or "",)
        if settings.account is not None:
            by_default = tuple(account.provider for account in accounts if account.name == settings.account)
        self._has_slash_names = any(providers[name].slash_names for name in by_default if name in providers)
        self._providers = providers
        self._accounts = accounts
        self._groups: dict[str, AccountGroup | None] = {}
        if isinstance(self._defaults, DefaultTargets):
            self._groups.update((group.provider, group) for group in self._defaults.groups)
        self._targets: dict[tuple[MappedTarget, ...], tuple[Target, ...]] = {}
        # Most requests repeat earlier ones.
        self.plan = lru_cache(_MOST_KNOWN)(self._plan)
        """Give the plan for a route, or why no account may serve it."""
        self.by_default = lru_cache(_MOST_KNOWN)(self._default_plan)
        """Give the plan for a model without a mapping; "" stands for a request without a model."""

    def _default_plan(self, model: str) -> RoutePlan | NoRoute:
        found = self._defaults
        if isinstance(found, NoRoute):
            return found
        return RoutePlan(tuple([Target(group, model) for group in found.groups]), found.rule, found.pinned)

    def prefixed(self, route: Route) -> MappedTarget | None:
        """Give the provider that the model's name begins with; None if the default providers' names contain slashes."""
        return None if self._has_slash_names else route.prefixed

    def _plan(self, route: Route) -> RoutePlan | NoRoute:
        if not route.targets and (named := self.prefixed(route)) is not None:
            route = structs.replace(route, targets=(named,))
            if route.rule == "default":
                reason = f"its name begins with that of provider {named.provider}"
                route = structs.replace(route, rule="provider_prefix", reason=reason, model=named.model)
        return self._mapped(route) if route.targets else self._unmapped(route)

    def _unmapped(self, route: Route) -> RoutePlan | NoRoute:
        """Give the plan for a route without targets of `[[models]]`."""
        found = self.by_default(route.model or "")
        if isinstance(found, NoRoute):
            return found
        return RoutePlan(found.targets, f"{rule_of(route)}; {found.rule}", found.pinned, route.without_tag, route=route)

    def _mapped(self, route: Route) -> RoutePlan | NoRoute:
        """Give the plan for the targets of `[[models]]`, limited to the pinned account if there is one."""
        targets = self._targets.get(route.targets)
        if targets is None:
            found = [(self._group(one.provider), one) for one in route.targets]
            targets = tuple(
                Target(group, one.model, one.max_output_tokens, one.drop, one.efforts)
                for group, one in found
                if group is not None
            )
            self._targets[route.targets] = targets
        pinned = self._pinned
        if pinned is None:
            if not targets:
                return self._unserved(route)
            return RoutePlan(targets, rule_of(route), None, route.without_tag, route=route)
        held = tuple(target for target in targets if pinned in target.group.by_name)
        if held:
            return RoutePlan(held, rule_of(route), pinned, route.without_tag, route=route)
        plan = self.by_default(route.requested or "")
        if isinstance(plan, NoRoute):
            return plan
        model = loggable_name(route.model or "") or "the model"
        rule = f"{plan.rule}, and nothing that {model} is mapped to has that account"
        return RoutePlan(plan.targets, rule, plan.pinned, route.without_tag, route=route)

    def _unserved(self, route: Route) -> NoRoute:
        model = f"model {loggable_name(route.model or '') or 'of that name'}"
        if self._key is not None:
            name = self._key.name
            return no_account(
                f"no account that client key {name} may use can serve {model}; see: tokenferry key show {name}"
            )
        names = list(dict.fromkeys(one.provider for one in route.targets))
        provider = self._providers.get(names[0])
        if provider is None or not provider.serves_mapped:
            why = f"provider {names[0]} {not_served(provider)}"
            return no_account(f"no account serves {model}: {why}; correct [[providers]] in config.toml")
        return no_account(
            f"no account serves {model}, which is mapped to {', '.join(names)}; "
            f"add one with: {add_command(names[0], self._providers)}"
        )

    def _group(self, name: str) -> AccountGroup | None:
        """Give the provider's group, always the same object: the pool compares groups by identity."""
        if name not in self._groups:
            self._groups[name] = group_for(self._providers.get(name), self._accounts)
        return self._groups[name]


def rule_of(route: Route) -> str:
    """Give the rule and its model for records. A client's names appear only if they may be logged."""
    if route.model == route.requested:
        return f"{route.rule}: {route.reason}"
    requested, model = loggable(route.requested or "") or "the model", loggable_name(route.model or "") or "another"
    return f"{route.rule}: {route.reason}, so {requested} goes to {model}"
