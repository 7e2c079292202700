import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tokenferry.errors import CorruptFile, StorageFailed
from tokenferry.state._alert_claims import AlertClaims
from tokenferry.state._cooldowns import Cooldowns
from tokenferry.state._database import Database
from tokenferry.state._decisions import Decisions
from tokenferry.state._keys import ClientKeys
from tokenferry.state._known_limits import KnownLimits
from tokenferry.state._logins import StartedLogins
from tokenferry.state._migrations import STATE_SCHEMA
from tokenferry.state._organizations import Organizations
from tokenferry.state._sessions import DashboardSessions
from tokenferry.state._sqlite import SqliteDatabase


class State:
    """Everything but credentials that processes share: in a file on one machine, in a database for several hosts.

    A file is made if it is missing. Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """

    def __init__(
        self,
        place: Path | Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.database: Database = SqliteDatabase(place, STATE_SCHEMA) if isinstance(place, Path) else place
        try:
            self.keys = ClientKeys(self.database, monotonic=monotonic, now=now)
            self.cooldowns = Cooldowns(self.database, now=now)
            self.organizations = Organizations(self.database)
            self.limits = KnownLimits(self.database, now=now)
            self.logins = StartedLogins(self.database, now=now)
            self.decisions = Decisions(self.database)
            self.alerts = AlertClaims(self.database)
            self.sessions = DashboardSessions(self.database, self.keys, now=now)
        except BaseException:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_shared(self) -> bool:
        """Whether several hosts share it."""
        return self.database.is_shared

    def follow(self, table: str, read: Callable[[], object], forget: Callable[[], object] | None = None) -> bool:
        """Have `read` called after changes by others, if the database supports that; returns whether it does.

        `forget` is called once what was read is too old.
        """
        return self.database.follow(table, read, forget)

    def away_for(self) -> float:
        """For how many seconds the database hasn't answered; 0 while it does, and of a file."""
        return self.database.away_for()

    def version(self) -> int:
        """A number that differs whenever anything here was changed. Raises `StorageFailed`, `CorruptFile`."""
        return self.database.version()

    def close(self) -> None:
        """Write pending changes and close the file or the database."""
        with contextlib.suppress(StorageFailed, CorruptFile):
            self.keys.record_use()
        self.database.close()
