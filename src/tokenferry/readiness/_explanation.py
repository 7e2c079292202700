from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from tokenferry.errors import Unfit
from tokenferry.pool import Criteria, PassedOver, Pool, Target, account_group
from tokenferry.providers import Provider
from tokenferry.readiness._services import Unusable, choose, status_of
from tokenferry.routing import ListedAccounts, NoRoute, RouteRequest, RouteResolver, codec_for
from tokenferry.secret import Concealing
from tokenferry.state import ClientKey
from tokenferry.wire import WireFormat

_OK = 200
_UNFIT = 400
_CONVERSATIONS = (b'"messages"', b'"input"', b'"contents"')


class RouteQuestion(Concealing, frozen=True):
    """A request to explain. `body` is its JSON, `key` a client key's name or id; None means the asker's own."""

    hidden: ClassVar = ("body",)

    body: str
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case; without credentials."""
    key: str | None = None
    wire_format: WireFormat = "anthropic"
    """The API that it is sent to."""


class TargetExplanation(Struct, frozen=True):
    """The account of one target that would serve, and why no other would."""

    provider: str
    model: str | None
    account: str | None
    why: str | None
    passed_over: tuple[PassedOver, ...]


class RouteExplanation(Struct, frozen=True):
    """Where a request would go. `status` is the client's: 200 if an account serves it."""

    status: int
    refused: str = ""
    """Why no provider may serve it; empty if one may."""
    plan: str = ""
    """Why it goes there, in words."""
    rule: str = "default"
    reason: str = ""
    requested: str | None = None
    targets: tuple[TargetExplanation, ...] = ()
    limits: str = ""
    """The limits of its client key; empty for none."""
    budgets: tuple[str, ...] = ()
    """The use of each of its client key's budgets."""
    worker: int | None = None
    """The number of the worker that answered, if the gateway has several."""

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object per target, in order, or one for a refusal."""
        if self.refused:
            return [
                {
                    "provider": None,
                    "status": self.status,
                    "refused": self.refused,
                    "budgets": list(self.budgets),
                }
            ]
        return [
            {
                "rule": self.rule,
                "reason": self.reason,
                "requested": self.requested,
                "key_limits": self.limits or None,
                "budgets": list(self.budgets),
                "provider": one.provider,
                "model": one.model,
                "account": one.account,
                "why": one.why,
                "passed_over": [passed_over.to_json() for passed_over in one.passed_over],
            }
            for one in self.targets
        ]


def explain_route(
    resolver: RouteResolver,
    pool: Pool,
    request: RouteRequest,
    key: ClientKey,
    *,
    affinity: str,
    providers: Mapping[str, Provider],
    listing: ListedAccounts,
    unusable: Mapping[str, Unusable],
    last_account: str | None = None,
    shows_denied: bool = True,
) -> RouteExplanation:
    """Explain where a request would go, by this resolver and pool. It takes no slot and starts no probe.

    `last_account` served the session last; if it is given, the pool must belong to this call alone. Accounts that the
    client key may not use are named only with `shows_denied`.
    """
    plan = resolver.resolve(request, key)
    if isinstance(plan, NoRoute):
        return RouteExplanation(plan.status, plan.message)
    criteria = Criteria(affinity, None, plan.pinned)
    if last_account is not None:
        pool.selector.remember(plan.targets, criteria, last_account)
    targets: list[TargetExplanation] = []
    considered: list[PassedOver] = []
    unfit: list[str] = []
    for target in pool.selector.order(plan.targets):
        if (why := _unfit(target, providers, request)) is not None:
            unfit.append(why)
            targets.append(TargetExplanation(target.group.provider, target.model or None, None, why, ()))
            continue
        choice = choose(pool, target, criteria, unusable)
        considered += choice.passed_over
        denied = _denied(target, providers, listing)
        shown = [one for one in (*choice.passed_over, *denied) if one.is_allowed or shows_denied]
        name = None if choice.account is None else choice.account.name
        targets.append(
            TargetExplanation(target.group.provider, target.model or None, name, choice.reason or None, tuple(shown))
        )
    is_served = any(one.account is not None for one in targets)
    route = plan.route
    return RouteExplanation(
        _OK if is_served else _UNFIT if len(unfit) == len(targets) else status_of(considered, unusable),
        plan=plan.rule,
        rule="default" if route is None else route.rule,
        reason=plan.rule if route is None else route.reason,
        requested=None if request.facts is None else request.facts.model,
        targets=tuple(targets),
        limits=str(key.caps) if key.caps.is_limited else "",
    )


def _unfit(target: Target, providers: Mapping[str, Provider], request: RouteRequest) -> str | None:
    """Say why the target's format can't express the request; None if it can."""
    codec = codec_for(providers[target.group.provider], target, request.wire_format)
    if codec is None or request.facts is None or not any(name in request.facts.body for name in _CONVERSATIONS):
        return None  # a question about a model alone can't be unfit
    try:
        codec.request(request.facts.body, target.model)
    except Unfit as fault:
        return f"its format can't say what is asked for: {fault}"
    return None


def _denied(target: Target, providers: Mapping[str, Provider], listing: ListedAccounts) -> Sequence[PassedOver]:
    """Return the provider's accounts that the client key may not use; a plan leaves them out."""
    everybody = account_group(providers[target.group.provider], listing.accounts).accounts
    return [
        PassedOver(one.name, "its client key may not use it", is_allowed=False)
        for one in everybody
        if one.name not in target.group.by_name
    ]
