import time
from collections.abc import Callable
from threading import Lock
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.state._database import Database, Row

ScopeKind: TypeAlias = Literal["account", "organization", "provider"]

_KEY: Final = ("kind", "name", "family", "cause")
_FACTS: Final = ("source", "until", "evidence", "noted_at")
_PUT: Final = (
    f"INSERT INTO cooldowns ({', '.join((*_KEY, *_FACTS))}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608  # names of ours
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _FACTS)
)

_ROUNDED: Final = 1
"""Ends are stored in whole seconds, rounded up, so equal ends may differ by less than this."""
_SLIGHTLY: Final = 0.05
_A_WHILE: Final = 30
CLOCK_ERROR: Final = 300
"""The most seconds by which the clocks of hosts differ. What was noted later than that was noted by a wrong clock."""


class Scope(Struct, frozen=True):
    """What a cooldown excludes: an account, an organization or a provider, for all models or one family."""

    kind: ScopeKind
    name: str
    family: str = ""


class Cooldown(Struct, frozen=True):
    """Why something isn't used, and until when. There is one cooldown for each scope and cause.

    Times are seconds since 1970 UTC. `source` is who reported it, and `evidence` what they saw, without secrets.
    """

    scope: Scope
    cause: str
    source: str
    until: int | None = None
    """None if the end is unknown."""
    evidence: str = ""
    noted_at: int = 0

    def is_over(self, now: float) -> bool:
        """Whether it has ended, or was noted before the clock was set back: its end says nothing then."""
        return (self.until is not None and self.until <= now) or self.noted_at > now + CLOCK_ERROR


class Cooldowns:
    """The cooldowns of this machine; ended ones stay until they are pruned. Thread-safe.

    `now` gives seconds since 1970 UTC.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._reading = Lock()
        self._revision: int | None = None
        self._known: tuple[Cooldown, ...] = ()
        self._is_followed = database.follow("cooldowns", self._reload)
        if self._is_followed:
            self._reload()

    def list(self) -> "tuple[Cooldown, ...]":
        """Give every stored cooldown, oldest first. Raises `StorageFailed`.

        An event loop may call it: while the database is unchanged it takes a few microseconds.
        """
        if not self._is_followed and self._database.revision("cooldowns") != self._revision:
            self._reload()
        return self._known

    def _reload(self) -> None:
        with self._reading:
            revision = self._database.revision("cooldowns")
            rows = self._database.rows("SELECT * FROM cooldowns ORDER BY noted_at, kind, name, family, cause")
            self._known, self._revision = tuple(map(_cooldown, rows)), revision

    def put(self, cooldown: Cooldown, *, is_better_informed: bool = False) -> Cooldown:
        """Store a cooldown, and give the one that is stored afterwards. Raises `StorageFailed`.

        Of two ends for one cause the later one is kept. An end that is known and in the future is preferred to an
        unknown one. A cooldown from a better source, such as a successful probe or a person, replaces the stored one. A
        cooldown that says nothing new isn't written, because each process that was refused reports it.
        """
        now = int(self._now())
        new = replace(cooldown, noted_at=now)
        scope = new.scope
        if not is_better_informed:  # a transaction is a write by itself
            known = next((one for one in self.list() if (one.scope, one.cause) == (scope, new.cause)), None)
            if known is not None and not _is_news(known, new, now):
                return known
        key = (scope.kind, scope.name, scope.family, new.cause)
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM cooldowns WHERE kind = ? AND name = ? AND family = ? AND cause = ?", key
            ).fetchone()
            if row is not None and not is_better_informed:
                known = _cooldown(row)
                if not _is_news(known, new, now):
                    return known
            connection.execute(_PUT, (*key, new.source, new.until, new.evidence, new.noted_at))
        return new

    def clear(self, scope: Scope, cause: str | None = None) -> int:
        """Delete the cooldowns of exactly this scope, of one cause or of all. Give how many were deleted."""
        with self._database.transaction() as connection:
            return connection.execute(
                "DELETE FROM cooldowns WHERE kind = ? AND name = ? AND family = ? AND cause = coalesce(?, cause)",
                (scope.kind, scope.name, scope.family, cause),
            ).rowcount

    def claim(self, cooldown: Cooldown) -> bool:
        """Claim the check of whether a cooldown still applies. Only one of several processes gets True.

        The claim makes the cooldown look new to the others, so that they wait before they check.
        """
        scope = cooldown.scope
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE cooldowns SET noted_at = ? WHERE kind = ? AND name = ? AND family = ? AND cause = ? "
                "AND noted_at = ?",
                (int(self._now()), scope.kind, scope.name, scope.family, cooldown.cause, cooldown.noted_at),
            ).rowcount
        return bool(changed)

    def prune(self, before: float) -> None:
        """Delete the cooldowns that ended before a time (seconds since 1970 UTC)."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM cooldowns WHERE until < ?", (int(before),))


def later(old: Cooldown, new: Cooldown, now: float) -> Cooldown:
    """Choose between two cooldowns of one scope and cause: the later end; a known future end before an unknown one."""
    if old.until is None or old.is_over(now):
        return new
    return old if new.until is None or new.until < old.until else new


def _is_news(old: Cooldown, new: Cooldown, now: float) -> bool:
    """Whether the second cooldown of one scope and cause says something new that is worth a write.

    An end that is later by less than a second, or by less than 5 % of the remaining time, is not new. Without a known
    end, another source or other evidence is new, because it names another credential. A cooldown that was noted long
    ago is noted again, which delays the next probe of every process.
    """
    if later(old, new, now) is old:
        return False
    if now - old.noted_at >= _A_WHILE or old.is_over(now):
        return True
    if old.until is None or new.until is None:
        return (old.until, old.source, old.evidence) != (new.until, new.source, new.evidence)
    more, left = new.until - old.until, old.until - now
    return more > (_ROUNDED if left * _SLIGHTLY >= _ROUNDED else 0)


def _cooldown(row: Row) -> Cooldown:
    values = {key: row[key] for key in ("cause", *_FACTS)}
    return Cooldown(Scope(row["kind"], row["name"], row["family"]), **values)
