"""Parts that every gateway has, put together in the same way."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.errors import TokenferryError
from tokenferry.gateway import (
    BaseLifespan,
    CooldownSync,
    Gateway,
    Listening,
    Server,
    UpstreamClients,
    WorkerSlot,
    connection_limit,
)
from tokenferry.pool import Pool
from tokenferry.readiness import services
from tokenferry.refresh import send
from tokenferry.routing import Router
from tokenferry.state import ClientKey, State, UsageProbe
from tokenferry.stores import Account

_REFRESH_SECONDS: Final = 30.0


def say_nothing(_: str) -> None:
    pass


@dataclass(eq=False)
class GatewayLifespan(BaseLifespan):
    """What the end of every gateway waits for: its upstream connections, then refreshes in flight."""

    broker: Broker
    upstreams: UpstreamClients

    def waiting_for(self) -> list[str]:
        return [f"the refresh of account {name}" for name in self.broker.refreshing()]

    async def finish(self) -> None:
        await self.upstreams.aclose()

    async def last(self) -> None:
        # A grant in flight is waited for: with its answer lost, the login may be, too.
        if names := self.waiting_for():
            self.tell(f"waiting for {' and '.join(names)}")
        await asyncio.to_thread(self.broker.drain, _REFRESH_SECONDS)


def server_of(
    gateway: Gateway, where: Listening, lifespan: GatewayLifespan, *, drain: float, worker: WorkerSlot | None = None
) -> Server:
    return Server(
        gateway,
        where.sockets,
        drain=drain,
        tls=where.tls,
        connections=connection_limit(),
        supervisor=worker,
        lifespan=lifespan,
    )


def router_of(config: Config) -> Router:
    return Router(config.router, config.models, config.providers)


def readiness_of(
    in_force: Sequence[Config], broker: Broker, state: State, states: Callable[[], Mapping[str, str]]
) -> Callable[[ClientKey], list[dict[str, Any]]]:
    """What tells a client key's holder what its requests get, by the one configuration that is in force."""

    def readiness(key: ClientKey) -> list[dict[str, Any]]:
        return [one.to_json() for one in services(in_force[0], broker, state, states(), key)]

    return readiness


def recorder_of(pool: Pool, state: State, broker: Broker) -> CooldownSync:
    """What keeps a pool in step with the cooldowns on record, and asks usage endpoints about those."""
    probe = UsageProbe(
        state.cooldowns,
        providers=lambda: broker.providers,
        accounts=broker.accounts,
        resolve=broker.resolve,
        send=send,
    )
    seen: object = None

    def accounts() -> Sequence[Account]:
        nonlocal seen
        if broker.listing() is not seen:
            broker.record_default_provider(environment=True)
            seen = broker.listing()
        return broker.listing().accounts

    return CooldownSync(
        pool,
        state,
        fingerprint=lambda name: broker.book.read(name).credential.secret.fingerprint,
        accounts=accounts,
        look=probe.look,
    )


def look_at_accounts(broker: Broker) -> None:
    """List them before there is an event loop: a keychain may take seconds to be read, a watcher sees to the rest."""
    with contextlib.suppress(TokenferryError):  # whoever asks for one is told
        broker.listing()
