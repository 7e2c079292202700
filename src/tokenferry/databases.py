"""Opens state and ledger: files of a home, or the database that `[store]` in its configuration names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tokenferry.errors import ConfigError, StorageFailed
from tokenferry.manifest import doubt
from tokenferry.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenferry.ledger import Ledger
    from tokenferry.postgres import ConnectionPool
    from tokenferry.rates import SharedRates
    from tokenferry.secret import Secret
    from tokenferry.settings import Home
    from tokenferry.state import State

__all__ = [
    "has_ledger",
    "has_state",
    "open_ledger",
    "open_login_secret",
    "open_rates",
    "open_state",
    "postgres",
    "store_settings",
]


def postgres() -> Any:
    """The room of that name, which needs an extra. Raises `ConfigError` where that isn't installed."""
    try:
        from tokenferry import postgres as room  # noqa: PLC0415  # slow, and an extra
    except ModuleNotFoundError as fault:
        if fault.name is None or fault.name.partition(".")[0] != "psycopg":
            raise
        raise ConfigError(
            "[store] url needs a package that isn't installed; install it with: pip install 'tokenferry[postgres]'"
        ) from None
    return room


def store_settings(home: Home) -> StoreSettings:
    """`[store]` of the home's configuration. Raises what `load` does, if there is such a section."""
    try:
        content = home.config.read_bytes() if home.config.is_file() else b""  # a pipe would never end
    except OSError:
        return StoreSettings()
    if b"store" not in content:
        return StoreSettings()
    from tokenferry.config import load  # noqa: PLC0415  # few homes need it here

    return load(home.config).store


def open_state(
    home: Home,
    settings: StoreSettings | None = None,
    *,
    now: Callable[[], float] = time.time,
    is_followed: bool = False,
) -> State:
    """Client keys, cooldowns and logins. Raises `ConfigError`, `StorageFailed`, `CorruptFile`, `UnsafeFile`.

    `is_followed` is for what serves: a thread follows what other hosts change, so that no event loop asks a database.
    """
    from tokenferry.state import State  # noqa: PLC0415  # SQLite, which few commands need

    settings = store_settings(home) if settings is None else settings
    if not settings.url:
        return State(home.state, now=now)
    connections = _connect(settings)
    if not is_followed:
        return State(postgres().PostgresDatabase(connections, "state"), now=now)
    watch = postgres().RevisionWatch(connections, settings)
    state = State(postgres().PostgresDatabase(connections, "state", watch), now=now)
    watch.start()  # its readers are there now
    return state


def open_login_secret(home: Home, settings: StoreSettings) -> Secret:
    """What gateways begin and finish logins with: those of the home, or all that share a database."""
    from tokenferry.state import login_secret  # noqa: PLC0415  # as above

    if not settings.url:
        return login_secret(home)
    connections = _connect(settings)
    try:
        found: Secret = postgres().shared_login_secret(connections)
    finally:
        connections.close()
    return found


def open_rates(settings: StoreSettings) -> SharedRates | None:
    """Where several hosts add up what is asked with client keys; None without a database. Connects when used."""
    if not settings.url:
        return None
    found: SharedRates = postgres().PostgresRates(postgres().ConnectionPool(settings))
    return found


def has_state(home: Home) -> bool:
    """Whether anything was noted yet; a database counts without being asked."""
    return home.state.exists() or bool(store_settings(home).url)


def open_ledger(home: Home, settings: StoreSettings | None = None) -> Ledger:
    """What was used. Raises as `open_state` does."""
    from tokenferry.ledger import Ledger  # noqa: PLC0415  # as above

    settings = store_settings(home) if settings is None else settings
    if not settings.url:
        return Ledger(home.ledger)
    return Ledger(postgres().PostgresDatabase(_connect(settings), "ledger"))


def has_ledger(home: Home) -> bool:
    """Whether anything was written yet; as `has_state`."""
    return home.ledger.exists() or bool(store_settings(home).url)


def _connect(settings: StoreSettings) -> ConnectionPool:
    doubt()  # what `token` prints can't be recalled by files alone
    room = postgres()
    connections: ConnectionPool = room.ConnectionPool(settings)
    if fault := room.fault_of(connections.facts(), room.schema_status(connections), settings):
        raise StorageFailed(f"{connections.name} can't be used: {fault}")
    return connections
