import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from tokenferry.state import Cooldown, Scope, later

Key: TypeAlias = tuple[str, str, str, str]

_MOST_WAITING: Final = 10_000


@dataclass(frozen=True, slots=True)
class Noted:
    """A cooldown to be written down. One that is better informed takes the place of what is on record."""

    number: int
    cooldown: Cooldown
    is_better_informed: bool = False


@dataclass(frozen=True, slots=True)
class Cleared:
    """A cooldown that turned out to be over."""

    number: int
    scope: Scope
    cause: str


@dataclass(frozen=True, slots=True)
class Learned:
    """The organization that an answer named for an account."""

    number: int
    account: str
    organization: str


Change: TypeAlias = Noted | Cleared | Learned


class Block(NamedTuple):
    """Why a member is passed over, and until when (seconds since 1970 UTC; infinity where that isn't known)."""

    cooldown: Cooldown
    until: float


class Records:
    """The cooldowns that are known here: those on record, and one's own that are still to be written.

    What is changed here counts at once and lies in `changes`, for whoever writes it down elsewhere. That one tells with
    `adopt` what is on record by then. `version` is another number whenever anything changed.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._all: dict[Key, Cooldown] = {}
        self._by_name: dict[tuple[str, str], tuple[Cooldown, ...]] = {}
        self._number = 0
        self._unwritten: deque[Change] = deque(maxlen=_MOST_WAITING)
        self._incoming: tuple[tuple[Cooldown, ...], Mapping[str, str], int] | None = None
        self.changes: deque[Change] = deque(maxlen=_MOST_WAITING)
        """Taken away from the left by who writes them; safe between two threads."""
        self.organizations: dict[str, str] = {}
        self.version = 0
        self.narrow: frozenset[str] = frozenset()
        """The families and models that have cooldowns of their own."""

    def adopt(self, cooldowns: Iterable[Cooldown], organizations: Mapping[str, str], written: int) -> None:
        """Tell what is on record after the change of that number was written. From any thread."""
        self._incoming = tuple(cooldowns), dict(organizations), written

    def refresh(self) -> None:
        """Let what was told by `adopt` count; nothing if nothing was."""
        if self._incoming is None:
            return
        (cooldowns, organizations, written), self._incoming = self._incoming, None
        while self._unwritten and self._unwritten[0].number <= written:
            self._unwritten.popleft()
        self._all = {key_of(one): one for one in cooldowns}
        self.organizations = dict(organizations)
        for change in self._unwritten:
            self._apply(change)
        self._index()

    def note(self, cooldown: Cooldown, *, is_better_informed: bool = False) -> None:
        self._change(Noted(self._next(), cooldown, is_better_informed))

    def clear(self, cooldown: Cooldown) -> None:
        self._change(Cleared(self._next(), cooldown.scope, cooldown.cause))

    def learn(self, account: str, organization: str) -> None:
        self._change(Learned(self._next(), account, organization))

    def of(self, kind: str, name: str) -> tuple[Cooldown, ...]:
        """All on record of an account, an organization or a provider; they may be over, or not apply to a model."""
        return self._by_name.get((kind, name), ())

    def current(self, cooldown: Cooldown) -> Cooldown | None:
        """What is known by now of the same scope and cause."""
        return self._all.get(key_of(cooldown))

    def __bool__(self) -> bool:
        return bool(self._all)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _change(self, change: Change) -> None:
        self.refresh()
        self._apply(change)
        self._unwritten.append(change)
        self.changes.append(change)
        self._index()

    def _apply(self, change: Change) -> None:
        match change:
            case Noted(cooldown=new):
                old = None if change.is_better_informed else self._all.get(key_of(new))
                self._all[key_of(new)] = new if old is None else later(old, new, self._now())
            case Cleared(scope=scope, cause=cause):
                self._all.pop((scope.kind, scope.name, scope.family, cause), None)
            case Learned(account=account, organization=organization):
                self.organizations[account] = organization

    def _index(self) -> None:
        found: dict[tuple[str, str], list[Cooldown]] = {}
        for one in self._all.values():
            found.setdefault((one.scope.kind, one.scope.name), []).append(one)
        self._by_name = {name: tuple(many) for name, many in found.items()}
        self.narrow = frozenset(one.scope.family for one in self._all.values() if one.scope.family)
        self.version += 1


def key_of(cooldown: Cooldown) -> Key:
    scope = cooldown.scope
    return scope.kind, scope.name, scope.family, cooldown.cause


def end_of(cooldown: Cooldown) -> float:
    """When it ends; infinity where that isn't known."""
    return math.inf if cooldown.until is None else cooldown.until
