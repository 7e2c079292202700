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
    """Everything but credentials that processes share: a file on one machine, or a database for several hosts.

    A missing file is created. Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`.
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
        """Ask for `read` to be called after changes by others. Gives False if the database doesn't support that.

        `forget` is called once when what was read is too old.
        """
        return self.database.follow(table, read, forget)

    def away_for(self) -> float:
        """Give for how many seconds the database hasn't answered; 0 while it answers, and for a file."""
        return self.database.away_for()

    def version(self) -> int:
        """Give a number that differs after any change of the state. Raises `StorageFailed`, `CorruptFile`."""
        return self.database.version()

    def close(self) -> None:
        """Write pending changes and close the file or the database."""
        with contextlib.suppress(StorageFailed, CorruptFile):
            self.keys.record_use()
        self.database.close()
