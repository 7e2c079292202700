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
"""Ends are whole seconds, rounded up: two that are less than a second apart may differ by one."""
_SLIGHTLY: Final = 0.05
_A_WHILE: Final = 30


class Scope(Struct, frozen=True):
    """What is passed over: an account, an organization or a provider, for all models or those of one family."""

    kind: ScopeKind
    name: str
    family: str = ""


class Cooldown(Struct, frozen=True):
    """Why something is passed over, and until when. Times are seconds since 1970 UTC.

    There is one for each scope and cause. `source` is who says so, `evidence` what they saw, without any secret.
    """

    scope: Scope
    cause: str
    source: str
    until: int | None = None
    """None where no end is known."""
    evidence: str = ""
    noted_at: int = 0

    def is_over(self, now: float) -> bool:
        return self.until is not None and self.until <= now


class Cooldowns:
    """The cooldowns of this machine, with those that are over until they are cleared. Thread-safe.

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
        """Every cooldown on record, whichever process noted it, oldest first. Raises `StorageFailed`.

        Fit for an event loop: while the database is unchanged it costs a few microseconds.
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
        """Record it, and give the cooldown on record then: of two ends of one cause the later one.

        A known end counts before an unknown one while it lies ahead. What is better informed, as is a probe that
        succeeded or a person who says so, takes the place of what was known. Only news is written, for each process
        that an upstream refuses reports it. Raises `StorageFailed`.
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
        """Delete the cooldowns of exactly this scope, of one cause or of all. Gives their number."""
        with self._database.transaction() as connection:
            return connection.execute(
                "DELETE FROM cooldowns WHERE kind = ? AND name = ? AND family = ? AND cause = coalesce(?, cause)",
                (scope.kind, scope.name, scope.family, cause),
            ).rowcount

    def claim(self, cooldown: Cooldown) -> bool:
        """Take it upon oneself to find out whether it still holds; of several processes one may.

        To the others it was noted just now, so that they leave it alone for a while.
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
        """Delete the cooldowns that were over before then (seconds since 1970 UTC)."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM cooldowns WHERE until < ?", (int(before),))


def later(old: Cooldown, new: Cooldown, now: float) -> Cooldown:
    """The one of two of one scope and cause that counts: the later end; a known future end before an unknown one."""
    if old.until is None:
        return new
    if new.until is None:
        return new if old.until <= now else old
    return new if new.until >= old.until else old


def _is_news(old: Cooldown, new: Cooldown, now: float) -> bool:
    """Whether the second of one scope and cause counts, and differs by more than a little.

    A little is an end later by less than a second and by less than 5 % of what is left. A known end says it all;
    where none is known, source and evidence count: they say whose credential it was. What was noted a while ago is
    noted again, for that puts off every process's next probe.
    """
    if later(old, new, now) is old:
        return False
    if now - old.noted_at >= _A_WHILE:
        return True
    if old.until is None or new.until is None:
        return (old.until, old.source, old.evidence) != (new.until, new.source, new.evidence)
    more, left = new.until - old.until, old.until - now
    return more > (_ROUNDED if left * _SLIGHTLY >= _ROUNDED else 0)


def _cooldown(row: Row) -> Cooldown:
    values = {key: row[key] for key in ("cause", *_FACTS)}
    return Cooldown(Scope(row["kind"], row["name"], row["family"]), **values)
