"""The home of a command, its configuration, and a broker over both."""

import contextlib
import os
from typing import Final

from tokenferry.broker import Broker
from tokenferry.cli._logs import redactor
from tokenferry.cli._output import note
from tokenferry.config import Config, load
from tokenferry.credentials import Credential
from tokenferry.errors import StoreAway, TokenferryError
from tokenferry.settings import Home
from tokenferry.stores import Sealable

MIN_TTL: Final = 600
"""Remaining life in seconds that `token` asks for by default."""

_opened: Final[list[Broker]] = []


def find(*, for_credential: bool = False) -> tuple[Home, Config]:
    """The home and its configuration. Raises `ConfigError`, `UnsafeFile`. `for_credential` is that of `load`."""
    home = Home.from_environment()
    required = home.is_config_named
    return home, load(home.config, required=required, statement=home.statement, for_credential=for_credential)


def open_broker(home: Home | None = None, config: Config | None = None) -> Broker:
    """The broker of this machine's user. Raises `ConfigError`, `UnsafeFile`."""
    broker = Broker.from_home(home, config)
    _opened.append(broker)
    _know_secrets(broker)
    return broker


def tell_pin(named: str | None) -> str | None:
    """The account named by an option or by TOKENFERRY_ACCOUNT, else None. The variable's use is noted on stderr."""
    if pinned := pin_notice(named):
        note(pinned)
    return named or os.environ.get("TOKENFERRY_ACCOUNT") or None


def pin_notice(named: str | None) -> str:
    """A notice if TOKENFERRY_ACCOUNT picks the account because none is named; else empty."""
    pinned = None if named else os.environ.get("TOKENFERRY_ACCOUNT")
    return f"TOKENFERRY_ACCOUNT selects account {pinned}" if pinned else ""


def what_serves(name: str, broker: Broker, config: Config | None = None) -> str:
    """How the gateway uses the account, in one line."""
    from tokenferry.readiness import serving_line  # noqa: PLC0415  # SQLite, which few commands need

    home = Home.from_environment()
    return serving_line(config or load(home.config, statement=home.statement), broker, name)


def tell_default_provider(name: str | None) -> None:
    """Note that the removal of an account made this provider the default; nothing for None."""
    if name is not None:
        note(f"provider {name} is the default provider now, and serves unmapped models")


def grants_end(timeout: float) -> bool:
    """Wait up to `timeout` seconds for each refresh in flight; return whether all ended. No new one starts."""
    ended = [broker.drain(timeout) for broker in _opened]
    return all(ended)


def forget() -> None:
    """Drop the opened brokers."""
    _opened.clear()


def _know_secrets(broker: Broker) -> None:
    """Keep the secrets on disk, and the key that opens them, out of the logs."""
    with contextlib.suppress(StoreAway):  # `serve` waits for it; others fail where they need it
        for name in broker.book.store.names():
            with contextlib.suppress(TokenferryError):
                know(broker.book.store.read(name).credential)
    if isinstance(broker.book.store, Sealable):
        for key in broker.book.store.seal.keys:
            redactor.know(key.secret)


def know(credential: Credential) -> None:
    """Keep the credential's secrets out of the logs."""
    for secret in (getattr(credential, name, None) for name in ("secret", "refresh", "subject")):
        if secret is not None:
            redactor.know(secret)
