import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from tokenferry.limits import Classification, cooldown_until, model_family
from tokenferry.pool._account import PoolAccount
from tokenferry.state import Cooldown, Scope, later

Key: TypeAlias = tuple[str, str, str, str]
_Place: TypeAlias = tuple[str, str, str]

SOURCE: Final = "answer"
_OF_AN_ACCOUNT: Final = frozenset({"account", "credential", "organization"})
_MOST_WAITING: Final = 10_000
_MOST_NARROW: Final = 1000


class CooldownAdded(Struct, frozen=True):
    """A cooldown to be written down. One that is better informed takes the place of what is on record."""

    number: int
    cooldown: Cooldown
    is_better_informed: bool


class CooldownCleared(Struct, frozen=True):
    """A cooldown that turned out to be over."""

    number: int
    scope: Scope
    cause: str


class OrganizationSeen(Struct, frozen=True):
    """The organization that an answer named for an account."""

    number: int
    account: str
    organization: str


Change: TypeAlias = CooldownAdded | CooldownCleared | OrganizationSeen


class ActiveCooldown(NamedTuple):
    """Why an account is passed over, and until when (seconds since 1970 UTC; infinity where that isn't known)."""

    cooldown: Cooldown
    until: float


class CooldownCache:
    """The cooldowns that are known here: those on record, and one's own that are still to be written.

    What is changed here counts at once and lies in `changes`, for whoever writes it down elsewhere. That one tells with
    `adopt` what is on record by then. `version` is another number whenever anything changed.

    Clients name models as they like, and shall not make anybody remember all of them: of `most_narrow` families and
    models at most there are cooldowns of their own. Where there are so many, what is over gives way to a further one,
    or else the one that nothing was noted of for the longest time: no flood of names keeps one from being noted.
    """

    def __init__(self, now: Callable[[], float], *, most_narrow: int = _MOST_NARROW) -> None:
        self._now = now
        self._most_narrow = most_narrow
        self._all: dict[_Place, dict[str, Cooldown]] = {}
        self._first_end = math.inf
        self._number = 0
        self._unwritten: deque[Change] = deque(maxlen=_MOST_WAITING)
        self.incoming: tuple[tuple[Cooldown, ...], Mapping[str, str], int] | None = None
        """What `adopt` brought last, until `refresh` applies it."""
        self.changes: deque[Change] = deque(maxlen=_MOST_WAITING)
        """Taken away from the left by who writes them; safe between two threads."""
        self.organizations: dict[str, str] = {}
        self.version = 0
        self.narrow: dict[str, dict[_Place, None]] = {}
        """The families and models that have cooldowns of their own, and where; noted last, last in order."""

    def adopt(self, cooldowns: Iterable[Cooldown], organizations: Mapping[str, str], written: int) -> None:
        """Tell what is on record after the change of that number was written. From any thread."""
        self.incoming = tuple(cooldowns), dict(organizations), written

    def refresh(self) -> None:
        """Apply the last `adopt`, if there was one since."""
        if self.incoming is None:
            return
        (cooldowns, organizations, written), self.incoming = self.incoming, None
        while self._unwritten and self._unwritten[0].number <= written:
            self._unwritten.popleft()
        self._all, self.narrow, self._first_end = {}, {}, math.inf
        for one in cooldowns:
            self._put(one)
        self.organizations = dict(organizations)
        for change in self._unwritten:
            self._apply(change)
        self.version += 1

    def note(self, cooldown: Cooldown, *, is_better_informed: bool = False) -> None:
        self.refresh()
        family = cooldown.scope.family
        if family and family not in self.narrow and len(self.narrow) >= self._most_narrow:
            self._make_room()
        self._change(CooldownAdded(self._next(), cooldown, is_better_informed))

    def clear(self, cooldown: Cooldown) -> None:
        self.refresh()
        self._clear(cooldown)

    def learn(self, account: str, organization: str) -> None:
        self.refresh()
        self._change(OrganizationSeen(self._next(), account, organization))

    def of(self, kind: str, name: str, families: Iterable[str] = ("",)) -> list[Cooldown]:
        """Those of an account, an organization or a provider for all models; or for these families or models alone.

        They may be over.
        """
        return [one for family in families for one in self._all.get((kind, name, family), {}).values()]

    def current(self, cooldown: Cooldown) -> Cooldown | None:
        """What is known of the same scope and cause."""
        return self._all.get(_place_of(cooldown.scope), {}).get(cooldown.cause)

    def __bool__(self) -> bool:
        return bool(self._all)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _make_room(self) -> None:
        now = self._now()
        if self._first_end <= now:  # else none can be over, and not all need be looked at
            narrow = [one for places in self.narrow.values() for place in places for one in self._all[place].values()]
            for one in narrow:
                if one.is_over(now):
                    self._clear(one)
            self._first_end = min((end_of(one) for one in narrow if not one.is_over(now)), default=math.inf)
        while len(self.narrow) >= self._most_narrow:
            oldest = next(iter(self.narrow.values()))
            for one in [one for place in oldest for one in self._all[place].values()]:
                self._clear(one)

    def _clear(self, cooldown: Cooldown) -> None:
        self._change(CooldownCleared(self._next(), cooldown.scope, cooldown.cause))

    def _change(self, change: Change) -> None:
        self._apply(change)
        self._unwritten.append(change)
        self.changes.append(change)
        self.version += 1

    def _apply(self, change: Change) -> None:
        match change:
            case CooldownAdded(cooldown=new):
                old = None if change.is_better_informed else self.current(new)
                self._put(new if old is None else later(old, new, self._now()))
            case CooldownCleared(scope=scope, cause=cause):
                self._drop(_place_of(scope), cause)
            case OrganizationSeen(account=account, organization=organization):
                self.organizations[account] = organization

    def _put(self, cooldown: Cooldown) -> None:
        place = _place_of(cooldown.scope)
        self._all.setdefault(place, {})[cooldown.cause] = cooldown
        if family := cooldown.scope.family:
            places = self.narrow[family] = self.narrow.pop(family, {})  # last in order from now on
            places[place] = None
            self._first_end = min(self._first_end, end_of(cooldown))

    def _drop(self, place: _Place, cause: str) -> None:
        causes = self._all.get(place, {})
        if causes.pop(cause, None) is None or causes:
            return
        del self._all[place]
        if family := place[2]:
            del self.narrow[family][place]
            if not self.narrow[family]:
                del self.narrow[family]


def _place_of(scope: Scope) -> _Place:
    return scope.kind, scope.name, scope.family


def key_of(cooldown: Cooldown) -> Key:
    scope = cooldown.scope
    return scope.kind, scope.name, scope.family, cooldown.cause


def end_of(cooldown: Cooldown) -> float:
    """When it ends; infinity where that isn't known."""
    return math.inf if cooldown.until is None else cooldown.until


def scope_of(error: Classification, account: PoolAccount, organization: str, model: str) -> Scope | None:
    """What is passed over for it; None for nothing. Where no organization is known, the account stands for it."""
    if not starts_cooldown(error):
        return None
    family = {"all": "", "family": model_family(model), "model": model}[error.models]
    match error.scope:
        case "account" | "credential":
            return Scope("account", account.name, family)
        case "organization" if organization and not account.bills_subscription:
            return Scope("organization", organization, family)
        case "organization":
            return Scope("account", account.name, family)
        case "provider":
            return Scope("provider", account.provider, family)
        case "request" | "transient":
            return None


def cooldown_of(
    error: Classification, scope: Scope, *, now: float, failures: int, rng: Random, evidence: str
) -> Cooldown:
    until = cooldown_until(error, now=now, failures=failures, rng=rng)
    return Cooldown(scope, error.cause, SOURCE, until, evidence, int(now))


def starts_cooldown(error: Classification) -> bool:
    """Whether anything is passed over for it."""
    return error.hold not in {"none", "later"}


def is_about_an_account(error: Classification) -> bool:
    """Whether another account may get another answer."""
    return error.scope in _OF_AN_ACCOUNT
