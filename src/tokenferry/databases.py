"""Opens state and ledger: files of a home, or the database in `[store]` of its configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tokenferry.errors import ConfigError
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
    """Import the room `postgres`. Raises `ConfigError` if its extra is not installed."""
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
    """Give `[store]` of the home's configuration. With such a section, raises what `load` raises."""
    try:
        content = home.config.read_bytes() if home.config.is_file() else b""  # reading a pipe would block
    except OSError:
        return StoreSettings()
    if b"store" not in content:
        return StoreSettings()
    from tokenferry.config import load  # noqa: PLC0415  # few homes have a [store]

    return load(home.config).store


def open_state(
    home: Home,
    settings: StoreSettings | None = None,
    *,
    now: Callable[[], float] = time.time,
    is_followed: bool = False,
) -> State:
    """Open client keys, cooldowns and logins. Raises `ConfigError`, `StorageFailed`, `CorruptFile`, `UnsafeFile`.

    `is_followed` is for servers: a thread follows changes of other hosts, so that no event loop queries the database.
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
    watch.start()  # after its readers are registered
    return state


def open_login_secret(home: Home, settings: StoreSettings) -> Secret:
    """Give the secret with which the gateways of a home or database begin and finish logins."""
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
    """Whether there is a state file, or a database, which is not queried."""
    return home.state.exists() or bool(store_settings(home).url)


def open_ledger(home: Home, settings: StoreSettings | None = None) -> Ledger:
    """Open the ledger. Raises as `open_state` does."""
    from tokenferry.ledger import Ledger  # noqa: PLC0415  # as above

    settings = store_settings(home) if settings is None else settings
    if not settings.url:
        return Ledger(home.ledger)
    return Ledger(postgres().PostgresDatabase(_connect(settings), "ledger"))


def has_ledger(home: Home) -> bool:
    """Whether there is a ledger file, or a database, which is not queried."""
    return home.ledger.exists() or bool(store_settings(home).url)


def _connect(settings: StoreSettings) -> ConnectionPool:
    doubt()  # the output of `token` depends on more than files
    room = postgres()
    connections: ConnectionPool = room.ConnectionPool(settings)
    room.check(connections, settings)
    return connections
