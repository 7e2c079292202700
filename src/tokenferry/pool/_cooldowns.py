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
_MOST_UNSAVED: Final = 10_000
_MOST_NARROW: Final = 1000


class CooldownAdded(Struct, frozen=True):
    """A cooldown to be saved. A better informed one replaces a saved one that ends later."""

    number: int
    cooldown: Cooldown
    is_better_informed: bool


class CooldownCleared(Struct, frozen=True):
    """A cooldown that is over."""

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
    """The cooldown that blocks an account, and its end in seconds since 1970 UTC (infinity if unknown)."""

    cooldown: Cooldown
    until: float


class CooldownCache:
    """The cooldowns that this process knows: the saved ones, and its own that are not saved yet.

    A change applies at once, and is appended to `changes` to be saved. Whoever saves it passes the saved state to
    `adopt`. `version` changes with every change.

    Clients may name any model, so the number of families and models with their own cooldowns is limited to
    `most_narrow`. When it is reached, ended cooldowns make room, and then the least recently noted ones.
    """

    def __init__(self, now: Callable[[], float], *, most_narrow: int = _MOST_NARROW) -> None:
        self._now = now
        self._most_narrow = most_narrow
        self._all: dict[_Place, dict[str, Cooldown]] = {}
        self._first_end = math.inf
        self._number = 0
        self._unsaved: deque[Change] = deque(maxlen=_MOST_UNSAVED)
        self.incoming: tuple[tuple[Cooldown, ...], Mapping[str, str], int] | None = None
        """The last state passed to `adopt`, until `refresh` applies it."""
        self.changes: deque[Change] = deque(maxlen=_MOST_UNSAVED)
        """Changes to be saved, taken from the left. Safe between two threads."""
        self.organizations: dict[str, str] = {}
        self.version = 0
        self.narrow: dict[str, dict[_Place, None]] = {}
        """The families and models with their own cooldowns, and the places of these; the most recent last."""

    def adopt(self, cooldowns: Iterable[Cooldown], organizations: Mapping[str, str], written: int) -> None:
        """Pass the saved state after the change number `written`. Any thread may call it."""
        self.incoming = tuple(cooldowns), dict(organizations), written

    def refresh(self) -> None:
        """Apply the state that was passed to `adopt` since the last call."""
        if self.incoming is None:
            return
        (cooldowns, organizations, written), self.incoming = self.incoming, None
        while self._unsaved and self._unsaved[0].number <= written:
            self._unsaved.popleft()
        self._all, self.narrow, self._first_end = {}, {}, math.inf
        for one in cooldowns:
            self._put(one)
        self.organizations = dict(organizations)
        for change in self._unsaved:
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
        """Give the cooldowns of an account, organization or provider for these families or models ("" for all models).

        They may be over.
        """
        return [one for family in families for one in self._all.get((kind, name, family), {}).values()]

    def current(self, cooldown: Cooldown) -> Cooldown | None:
        """Give the known cooldown of the same scope and cause."""
        return self._all.get(_place_of(cooldown.scope), {}).get(cooldown.cause)

    def __bool__(self) -> bool:
        return bool(self._all)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _make_room(self) -> None:
        now = self._now()
        if self._first_end <= now:  # otherwise none can be over
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
        self._unsaved.append(change)
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
            places = self.narrow[family] = self.narrow.pop(family, {})  # moves it to the end
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
    """Give the end of a cooldown; infinity if it is unknown."""
    return math.inf if cooldown.until is None else cooldown.until


def scope_of(error: Classification, account: PoolAccount, organization: str, model: str) -> Scope | None:
    """Give the scope of an error's cooldown, or None. Without a known organization it is the account."""
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
    """Whether the error starts a cooldown."""
    return error.hold not in {"none", "later"}


def is_about_an_account(error: Classification) -> bool:
    """Whether another account may get a different answer."""
    return error.scope in _OF_AN_ACCOUNT
