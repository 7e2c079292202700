"""Parts that every gateway has, each made in one way."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from tokenferry.accounts import credential_since
from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.databases import open_rates
from tokenferry.errors import PolicyRefused, TokenferryError, UnknownName, UsageError
from tokenferry.gateway import (
    BaseLifespan,
    CooldownSync,
    Gateway,
    Listening,
    RateExchange,
    Server,
    SharedKeyRates,
    UpstreamClients,
    WorkerSlot,
    connection_limit,
)
from tokenferry.pool import Pool
from tokenferry.readiness import (
    ANYONE,
    BudgetUse,
    RouteExplanation,
    RouteQuestion,
    services,
    unusable_accounts,
    within_budgets,
)
from tokenferry.refresh import send
from tokenferry.routing import Malformed, Router, scan
from tokenferry.settings import Home, StoreSettings
from tokenferry.state import ClientKey, State, UsageProbe, is_local_key, local_key_name
from tokenferry.stores import Account
from tokenferry.views import RunningRequest, RunningRequests

_REFRESH_SECONDS: Final = 30.0


def say_nothing(_: str) -> None:
    pass


@dataclass(eq=False)
class GatewayLifespan(BaseLifespan):
    """The end of every gateway: it closes its upstream connections, then waits for refreshes in flight."""

    broker: Broker
    upstreams: UpstreamClients

    def waiting_for(self) -> list[str]:
        return [f"the refresh of account {name}" for name in self.broker.refreshing()]

    async def finish(self) -> None:
        await self.upstreams.aclose()

    async def last(self) -> None:
        # Wait for a grant in flight: losing its answer may lose the login.
        if names := self.waiting_for():
            self.tell(f"waiting for {' and '.join(names)}")
        await asyncio.to_thread(self.broker.drain, _REFRESH_SECONDS)


def server_of(
    gateway: Gateway,
    where: Listening,
    lifespan: GatewayLifespan,
    *,
    drain: float,
    delay: float = 0.0,
    worker: WorkerSlot | None = None,
) -> Server:
    return Server(
        gateway,
        where.sockets,
        drain=drain,
        delay=delay,
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
    """Make the function that says what a client key's requests get, by the configuration in force."""

    def readiness(key: ClientKey) -> list[dict[str, Any]]:
        return [one.to_json() for one in services(in_force[0], broker, state, states(), key)]

    return readiness


def running_of(gateway: Callable[[], Gateway], worker: WorkerSlot | None) -> Callable[[], RunningRequests]:
    """Make the function that gives the requests under way in this process, on any thread."""
    number = None if worker is None else worker.number

    def running() -> RunningRequests:
        found = [(one, one.record) for one in tuple(gateway().running)]
        rows = [
            RunningRequest(
                record.request_id,
                record.at,
                one.stage,
                record.client or "",
                one.account,
                record.provider or "",
                record.upstream_model or record.model or "",
                record.session or "",
                record.agent or "",
                record.attempts,
                record.first_byte,
            )
            for one, record in found
        ]
        return RunningRequests(tuple(sorted(rows, key=lambda row: row.at)), number)

    return running


def explainer_of(
    home: Home,
    gateway: Callable[[], Gateway],
    broker: Broker,
    state: State,
    states: Callable[[], Mapping[str, str]],
    *,
    worker: WorkerSlot | None,
) -> Callable[[ClientKey, RouteQuestion], Awaitable[RouteExplanation]]:
    """Make the function that explains a request by the forwarder in force and its present pool and budgets."""

    def subject(asker: ClientKey, name: str | None) -> ClientKey:
        """The key of the request. A client key may ask only about itself."""
        if asker.role != "client":
            name = name or local_key_name(home, state)
        elif name is None or name in {asker.name, asker.id}:
            return asker
        elif not is_local_key(asker):
            raise PolicyRefused("a client key may ask only what its own requests get; leave out the key's name")
        try:
            return state.keys.get(name)
        except UnknownName:
            if name != local_key_name(home, state):
                raise
        return ANYONE

    async def explain(asker: ClientKey, asked: RouteQuestion) -> RouteExplanation:
        facts = scan([asked.body.encode("utf-8", "surrogatepass")])
        if isinstance(facts, Malformed):
            raise UsageError(facts.message)
        headers = [(name.lower().encode("ascii", "replace"), value.encode()) for name, value in asked.headers]
        key = await asyncio.to_thread(subject, asker, asked.key)
        unusable = await asyncio.to_thread(lambda: unusable_accounts(broker, states()))
        found = gateway().forwarder.explain(
            facts,
            headers,
            key,
            unusable,
            wire_format=asked.wire_format,
            shows_denied=asker.role != "client" or is_local_key(asker),
        )
        now = time.time()
        uses = [BudgetUse(counter, key.name) for counter in gateway().budgets.counters_of(key, now)]
        found = within_budgets(found, uses, now)
        return found if worker is None else replace(found, worker=worker.number)

    return explain


def cooldown_sync_of(pool: Pool, state: State, broker: Broker) -> CooldownSync:
    """Make what synchronizes a pool with the stored cooldowns, and asks usage endpoints about them.

    It also begins to follow other hosts' changes to accounts.
    """
    broker.follow(state.follow)
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

    sync = CooldownSync(
        pool,
        state,
        fingerprint=lambda name: broker.book.read(name, known=True).credential.secret.fingerprint,
        accounts=accounts,
        look=probe.look,
    )
    for table in ("cooldowns", "limits"):
        state.follow(table, sync.wake)
    return sync


def rate_exchange_of(settings: StoreSettings, in_force: Callable[[], Config]) -> RateExchange | None:
    """Make what shares the rates of client keys with gateways of other hosts; None without a database."""
    shared = open_rates(settings)
    if shared is None:
        return None
    return RateExchange(SharedKeyRates(refuses_away=lambda: in_force().ledger.on_store_away == "refuse"), shared)


def look_at_accounts(broker: Broker) -> None:
    """List the accounts before the event loop starts, because reading a keychain may take seconds."""
    with contextlib.suppress(TokenferryError):  # a request for one gets the error
        broker.listing()


def login_ages(broker: Broker) -> dict[str, float]:
    """Give, by account, the seconds since its credential was created or last renewed. Reads the documents."""
    ages: dict[str, float] = {}
    for account in broker.listing().accounts:
        with contextlib.suppress(TokenferryError):  # its state is in another metric
            if (since := credential_since(broker.book.read(account.name, known=True))) is not None:
                ages[account.name] = max(time.time() - since, 0.0)
    return ages
