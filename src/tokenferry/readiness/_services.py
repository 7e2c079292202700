import time
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.errors import PolicyRefused, TokenferryError
from tokenferry.pool import PAUSED, Choice, Criteria, PassedOver, Pool, PoolAccount, Target, how_to_resume
from tokenferry.readiness._resolver import ANYONE, resolver_of
from tokenferry.readiness._standing import is_presentable
from tokenferry.routing import NoRoute, RoutePlan
from tokenferry.settings import RouterSettings, UpstreamSettings
from tokenferry.state import ClientKey, Cooldown, State
from tokenferry.stores import Account, Document
from tokenferry.units import moment

_NOT_WITHOUT_A_PERSON: Final = frozenset({"needs-login", "copied", "refused", "uncertain"})
_NEVER: Final = frozenset({"locked", "broken"})
_FORBIDDEN: Final = 403
_LIMITED: Final = 429
_UNAVAILABLE: Final = 503
_OK: Final = 200


class Unusable(Struct, frozen=True):
    """Why an account can't serve any request: the client's status, and the reason."""

    status: int
    reason: str


class ServiceStatus(Struct, frozen=True):
    """What a request for a model gets now. `status` is 200 if an account serves it."""

    model: str | None
    """None for an unmapped model."""
    status: int
    reason: str
    account: str | None = None
    provider: str | None = None
    cause: str = ""
    """The cause, as one word, why no provider may serve it."""
    paused: tuple[str, ...] = ()
    """The paused accounts that could serve it."""

    @property
    def is_served(self) -> bool:
        return self.status == _OK

    @property
    def subject(self) -> str:
        return "a model that nothing maps" if self.model is None else f"model {self.model}"

    @property
    def bare_reason(self) -> str:
        """The reason without the commands that resume accounts."""
        return reduce(lambda text, name: text.replace(how_to_resume(name), ""), self.paused, self.reason)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "status": self.status,
            "account": self.account,
            "provider": self.provider,
            "reason": self.reason,
            "cause": self.cause,
            "paused": list(self.paused),
        }

    def __str__(self) -> str:
        if self.is_served:
            return f"{self.subject}: account {self.account} at {self.provider}"
        return f"{self.subject}: nothing serves it, a client gets {self.status}: {self.reason}"


def unusable_accounts(
    broker: Broker, states: Mapping[str, str], documents: Mapping[str, Document] | None = None
) -> dict[str, Unusable]:
    """Return the accounts that can't serve at all, by name. `states` gives each account's state in a word.

    `documents` limits the check to these accounts; without it every account is read.
    """
    found: dict[str, Unusable] = {}
    names = None if documents is None else tuple(documents)
    if documents is None:
        listing, documents = broker.book.read_all()
        names = tuple(account.name for account in listing.accounts)
    for name in names or ():
        state = states.get(name, "")
        try:
            document = documents.get(name) or broker.book.read(name)
            broker.check_policy(document)
        except PolicyRefused:
            reason = "policy hands it to Claude Code alone (see: tokenferry policy show)"
            found[name] = Unusable(_FORBIDDEN, reason)
            continue
        except TokenferryError as fault:
            found[name] = Unusable(_UNAVAILABLE, str(fault))
            continue
        if state in _NEVER or (state in _NOT_WITHOUT_A_PERSON and not is_presentable(broker, document, time.time())):
            found[name] = Unusable(_UNAVAILABLE, f"its state is {state}")
    return found


def pool_of(config: Config, state: State | None) -> Pool:
    """Make a pool with the recorded cooldowns, and without a running gateway's other knowledge."""
    pool = Pool(config.pool)
    if state is not None:
        pool.cooldowns.adopt(state.cooldowns.list(), state.organizations.all(), 0)
    return pool


def limits_of(config: Config, account: Account) -> list[str]:
    """Describe an account's limits, and where each is set; empty for none."""
    return Pool(config.pool).capacity.sentences(PoolAccount(account.name, account.provider))


def choose(pool: Pool, target: Target, criteria: Criteria, unusable: Mapping[str, Unusable]) -> Choice:
    """Choose the account of a target that would serve, with the reasons against the others."""
    choice = pool.selector.report(target, criteria, unusable.keys())
    others = [
        replace(one, reason=unusable[one.account].reason, until=None)
        if one.is_allowed and one.account in unusable
        else one
        for one in choice.passed_over
    ]
    return replace(choice, passed_over=tuple(others))


def status_of(passed_over: Iterable[PassedOver], unusable: Mapping[str, Unusable]) -> int:
    """Return the client's status if all these accounts are passed over."""
    statuses = {
        unusable[one.account].status if one.account in unusable else _LIMITED if _may_return(one) else _UNAVAILABLE
        for one in passed_over
        if one.is_allowed
    }
    return next((status for status in (_LIMITED, _UNAVAILABLE) if status in statuses), _FORBIDDEN)


def _may_return(one: PassedOver) -> bool:
    """Whether waiting helps, by the pool's rules."""
    return one.until is not None or one.is_limit or not one.cause


def services(
    config: Config, broker: Broker, state: State | None, states: Mapping[str, str], key: ClientKey = ANYONE
) -> list[ServiceStatus]:
    """Return what requests get now: for unmapped models, for each configured model, and for limited families."""
    listing = broker.book.listing()
    resolver, pool, unusable = (
        resolver_of(config, broker, listing),
        pool_of(config, state),
        unusable_accounts(broker, states),
    )
    limited = [] if state is None else state.cooldowns.list()
    return [
        _service(model, resolver.resolve_model(model, key), pool, unusable)
        for model in _models(config, limited)
        if key.rights.allows_model(model)
    ]


def _models(config: Config, limited: Iterable[Cooldown]) -> list[str | None]:
    router = config.router
    targets = (router.default, router.background, router.think, router.websearch, *(one.model for one in router.rules))
    names = [model.name for model in config.models] + [target for target in targets if target is not None]
    if router.unmapped == "reject":
        return list(dict.fromkeys(names))
    families = [one.scope.family for one in limited if one.scope.family and not one.is_over(time.time())]
    return [None, *dict.fromkeys(names + families)]


def _service(
    model: str | None, plan: RoutePlan | NoRoute, pool: Pool, unusable: Mapping[str, Unusable]
) -> ServiceStatus:
    if isinstance(plan, NoRoute):
        return ServiceStatus(model, plan.status, plan.message, cause=plan.cause)
    passed_over: list[PassedOver] = []
    for target in pool.selector.order(plan.targets):
        choice = choose(pool, target, Criteria(pinned=plan.pinned), unusable)
        if choice.account is not None:
            return ServiceStatus(model, _OK, choice.reason, choice.account.name, target.group.provider)
        passed_over += choice.passed_over
    reasons = [
        f"{one.account}: {one.reason.removesuffix('.')}" + ("" if one.until is None else f", until {moment(one.until)}")
        for one in passed_over
        if one.is_allowed
    ]
    paused = [one.account for one in passed_over if one.is_allowed and one.cause == PAUSED]
    return ServiceStatus(
        model,
        status_of(passed_over, unusable),
        "; ".join(reasons),
        paused=tuple(name for name in dict.fromkeys(paused) if name not in unusable),
    )


def expects_service(config: Config, keys: Iterable[ClientKey], *, runs: bool) -> bool:
    """Whether service is expected: a gateway runs, a client has a key, or the configuration routes."""
    is_configured = bool(config.models) or config.router != RouterSettings() or config.upstream != UpstreamSettings()
    live = [key for key in keys if key.is_live(time.time()) and key.role == "client" and key.name != ANYONE.name]
    return runs or bool(live) or is_configured
