"""The broker of this process, and the functions that are sugar over it."""

import contextlib
import threading

from tokenferry.background import after_fork_in_child
from tokenferry.broker._broker import Broker
from tokenferry.config import Config
from tokenferry.credentials import Credential
from tokenferry.errors import TokenferryError
from tokenferry.secret import Secret
from tokenferry.settings import Home


class Default:
    """The broker of this process, once somebody needs it."""

    broker: Broker | None = None
    guard = threading.Lock()


def default_broker() -> Broker:
    """The broker that the functions of `tokenferry` use when they are given none.

    It is made at the first call, from TOKENFERRY_HOME, the configuration there and the environment, which may change
    afterwards without effect on it. Raises `ConfigError`, `UnsafeFile`.
    """
    broker = Default.broker
    if broker is None:
        with Default.guard:
            broker = Default.broker = Default.broker or Broker.from_home()
    return broker


def _renew_guard() -> None:
    Default.guard = threading.Lock()  # some thread of the parent may have held the old one


after_fork_in_child(_renew_guard)


def resolve(name: str | None = None, *, min_ttl: float | None = None) -> Credential:
    """`Broker.resolve` of the default broker."""
    return default_broker().resolve(name, min_ttl=min_ttl)


async def aresolve(name: str | None = None, *, min_ttl: float | None = None) -> Credential:
    """`Broker.aresolve` of the default broker."""
    broker = Default.broker
    if broker is None:
        import asyncio  # noqa: PLC0415  # 50 ms that synchronous callers are spared

        broker = await asyncio.to_thread(default_broker)  # it reads files
    return await broker.aresolve(name, min_ttl=min_ttl)


def invalidate(name: str | None, secret: Secret) -> None:
    """`Broker.invalidate` of the default broker."""
    default_broker().invalidate(name, secret)


def settle_default_provider(home: Home, config: Config | None = None) -> None:
    """Put the default provider on record as it is, before something is changed that could decide otherwise."""
    if home.default_provider.exists() or not home.path.exists():
        return
    with contextlib.suppress(TokenferryError):
        Broker.from_home(home, config).record_default_provider()
