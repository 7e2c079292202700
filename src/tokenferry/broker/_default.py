"""The default broker of this process, and functions that use it."""

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
    """The broker of this process, made at first use."""

    broker: Broker | None = None
    guard = threading.Lock()


def default_broker() -> Broker:
    """Return the broker that the functions of `tokenferry` use by default.

    The first call makes it from TOKENFERRY_HOME, the configuration there and the environment; later changes of the
    environment don't affect it. Raises `ConfigError`, `UnsafeFile`.
    """
    broker = Default.broker
    if broker is None:
        with Default.guard:
            broker = Default.broker = Default.broker or Broker.from_home()
    return broker


def _renew_guard() -> None:
    Default.guard = threading.Lock()  # a thread of the parent may have held the old one


after_fork_in_child(_renew_guard)


def resolve(name: str | None = None, *, min_ttl: float | None = None) -> Credential:
    """`Broker.resolve` of the default broker."""
    return default_broker().resolve(name, min_ttl=min_ttl)


async def aresolve(name: str | None = None, *, min_ttl: float | None = None) -> Credential:
    """`Broker.aresolve` of the default broker."""
    broker = Default.broker
    if broker is None:
        import asyncio  # noqa: PLC0415  # 50 ms, for asynchronous callers alone

        broker = await asyncio.to_thread(default_broker)  # it reads files
    return await broker.aresolve(name, min_ttl=min_ttl)


def invalidate(name: str | None, secret: Secret) -> None:
    """`Broker.invalidate` of the default broker."""
    default_broker().invalidate(name, secret)


def settle_default_provider(home: Home, config: Config | None = None) -> None:
    """Record the present default provider before a change that could decide another one."""
    if home.default_provider.exists() or not home.path.exists():
        return
    with contextlib.suppress(TokenferryError):
        Broker.from_home(home, config).record_default_provider()
