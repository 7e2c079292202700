"""Listen while the database of `[store] url` is unreachable at the start, and start once it is reachable."""

import asyncio
import signal
from collections.abc import Callable
from random import Random
from typing import Any, Final, Generic, NoReturn, TypeVar

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.errors import StoreAway
from tokenferry.gateway import BaseLifespan, Forwarder, Gateway, Guard, Listening, Server, UpstreamClients, store_away
from tokenferry.settings import Home
from tokenferry.state import ClientKey, GatewayRegistration

_BACK_OFF: Final = (0.1, 5.0)
_DRAIN: Final = 1.0
_Prepared = TypeVar("_Prepared")


class _NoKeysYet:
    """A `KeyRing` that can't be read: each key may be valid."""

    def verify(self, presented: str) -> ClientKey | None:  # noqa: ARG002  # of the protocol, as below
        return None

    def expired(self, presented: str) -> ClientKey | None:  # noqa: ARG002
        return None

    def is_away(self) -> bool:
        return True

    def is_sole(self) -> bool:
        return False


class WaitingLifespan(BaseLifespan, Generic[_Prepared]):
    """Retries with full-jitter back-off of 0.1 to 5 seconds, and stops its server after success or another error."""

    def __init__(
        self, prepare: Callable[[], _Prepared], stop: Callable[[], None], *, follows: bool, rng: Random | None = None
    ) -> None:
        self.prepared: list[_Prepared] = []
        self.fault: BaseException | None = None
        self._prepare = prepare
        self._stop = stop
        self._follows = follows
        self._rng = rng or Random()  # noqa: S311  # it spreads waits
        self._trying: asyncio.Task[None] | None = None

    async def started(self) -> None:
        self._trying = asyncio.create_task(self._try())

    def hang_up(self) -> bool:
        return self._follows  # the configuration is followed once there is a gateway

    async def finish(self) -> None:
        if self._trying is not None:
            self._trying.cancel()

    async def _try(self) -> None:
        wait, most = _BACK_OFF
        while not self.prepared and self.fault is None:
            await asyncio.sleep(self._rng.uniform(0, wait))
            wait = min(2 * wait, most)
            try:
                self.prepared.append(await asyncio.to_thread(self._prepare))
            except StoreAway:
                continue
            except Exception as fault:  # noqa: BLE001  # raised where the gateway begins
                self.fault = fault
        self._stop()


def once_there(
    prepare: Callable[[], _Prepared],
    home: Home,
    config: Config,
    where: Listening,
    broker: Broker,
    *,
    tell: Callable[[str], None],
    follows: bool,
) -> _Prepared | signal.Signals:
    """Return the result of `prepare`. While it raises `StoreAway`, the gateway listens but isn't ready.

    Returns a signal if one ended the wait; with `follows`, a HUP doesn't. Raises the other errors of `prepare`.
    """
    try:
        return prepare()
    except StoreAway as fault:
        tell(f"not ready, and trying again until the database is there: {fault}")  # `serve --detach` looks for it
    keys = _NoKeysYet()
    gateway = Gateway(
        guard=Guard(keys, where.hosts, open_at=where.open_at),
        forwarder=Forwarder(
            source=broker, settings=config.router, keys=keys, upstreams=UpstreamClients.configured(config.upstream)
        ),
        control=_refuse,
        unready=lambda: "the database is away",
    )
    lifespan = WaitingLifespan(prepare, lambda: server.stop(), follows=follows)  # noqa: PLW0108  # there is none yet
    # Stopping closes these copies; clients that connect before that wait for the real gateway.
    sockets = [sock.dup() for sock in where.sockets]
    server = Server(gateway, sockets, drain=_DRAIN, tls=where.tls, lifespan=lifespan)
    registration = GatewayRegistration(home, url=where.url, socket=where.uds)
    try:
        ended = server.run_until_stopped()
    finally:
        registration.end()
    if ended is not None:
        return ended
    if lifespan.fault is not None:
        raise lifespan.fault
    (prepared,) = lifespan.prepared
    tell("the database is there")
    return prepared


async def _refuse(*_: Any) -> NoReturn:
    raise store_away()
