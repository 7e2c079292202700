import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tokenferry.actions import LOGIN_PAGE, ActionContext, LoginService
from tokenferry.admin import make_api
from tokenferry.background_refresh import Renewer
from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.dashboard import make_dashboard
from tokenferry.databases import open_state
from tokenferry.errors import CorruptFile, StorageFailed
from tokenferry.gateway import (
    AccessLog,
    ControlApplications,
    DecisionLog,
    Forwarder,
    Gateway,
    Guard,
    LazyApplication,
    Listening,
    Metrics,
    RateExchange,
    ReasoningOwners,
    SharedMemory,
    TrustedProxies,
    UpstreamClients,
    WorkerSlot,
    tune_interpreter,
)
from tokenferry.pool import Pool
from tokenferry.rates import Share
from tokenferry.reloading import Reloading
from tokenferry.secret import Secret
from tokenferry.serve._alerts import alerts_of
from tokenferry.serve._dashboard import dashboard_guard, role_of
from tokenferry.serve._parts import (
    GatewayLifespan,
    cooldown_sync_of,
    explainer_of,
    login_ages,
    look_at_accounts,
    rate_exchange_of,
    readiness_of,
    router_of,
    running_of,
    server_of,
)
from tokenferry.serve._usage import price_table_of, usage_log_of
from tokenferry.settings import Home
from tokenferry.state import State, gateway_id
from tokenferry.wire import load_codecs

LONGEST_GRANT: Final = 120.0


@dataclass(eq=False)
class _ServeLifespan(GatewayLifespan):
    """The lifespan of one process of `tokenferry serve`."""

    renewer: Renewer
    metrics: Metrics
    state: State
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], None]
    report: Callable[[str], None]
    on_hangup: Callable[[], bool]
    is_ending: threading.Event
    share: Callable[[], None]
    rates: RateExchange | None

    async def started(self) -> None:
        if self.rates is not None:
            await self.rates.start()
        await self.begin()
        threading.Thread(
            target=load_codecs, name="tokenferry-codecs"
        ).start()  # in the background, so that the start needn't wait

    def every_second(self) -> None:
        self.metrics.publish()
        self.share()

    async def every_minute(self) -> None:
        with contextlib.suppress(StorageFailed, CorruptFile):
            await asyncio.to_thread(self.state.keys.record_use)

    def hang_up(self) -> bool:
        return self.on_hangup()

    def ending(self) -> None:
        self.is_ending.set()
        self.end()

    def tell(self, line: str) -> None:
        self.report(line)

    async def last(self) -> None:
        self.renewer.stop()
        if self.rates is not None:
            await self.rates.stop()
        await super().last()


def run_gateway(
    home: Home,
    config: Config,
    *,
    where: Listening,
    broker: Broker,
    tell: Callable[[str], None],
    started: Callable[[], Awaitable[None]],
    states: Callable[[], Mapping[str, str]],
    board: SharedMemory | None,
    secret: Secret,
    dashboard: str | None,
    reloading: Reloading | None,
    adopted: Callable[[Config], None],
    ending: Callable[[], None] = lambda: None,
    worker: WorkerSlot | None = None,
) -> signal.Signals | None:
    """Serve in this process, as the given `worker` if there are several.

    `ending` is called before it stops listening.
    """
    look_at_accounts(broker)
    with (
        open_state(home, config.store, is_followed=True) as state,
        AccessLog() as access_log,
        DecisionLog(state.decisions.add) as decision_log,
        usage_log_of(
            *(home, config, broker),
            pool := Pool(config.pool, limit_rules=config.limit_rules, is_shared=state.is_shared),
            state.keys.listed,
        ) as usage_log,
        contextlib.ExitStack() as stack,
    ):
        upstreams = UpstreamClients.configured(
            config.upstream, trust=None if reloading is None else reloading.trust, gateway_id=gateway_id(home)
        )
        place, rates = 0 if worker is None else worker.number - 1, rate_exchange_of(config.store, lambda: in_force[0])

        renewer = Renewer(broker)

        metrics = Metrics(
            broker,
            upstreams,
            states=states,
            cooldowns=state.cooldowns.list,
            limits=pool.usage.states,
            login_ages=partial(login_ages, broker),
            sessions=lambda: len(state.sessions.list()),
            ledger=usage_log.statistics,
            costs=usage_log.costs,
            budgets=usage_log.budgets.states,
            settings=config.metrics,
            board=board,
            place=place,
        )
        own_hosts = set(where.hosts)
        in_force, is_ending = [config], threading.Event()
        parts = ActionContext(
            *(home, broker, state, secret, where.urls, own_hosts, states),
            readiness=readiness_of(in_force, broker, state, states),
            limits=pool.usage.state,
            running=running_of(lambda: gateway, worker),
            explain=explainer_of(home, lambda: gateway, broker, state, states, worker=worker),
            public_url=config.server.public_url,
            role_of=lambda user: role_of(in_force[0], user),
            is_ending=is_ending.is_set,
        )
        if parts.base is not None:
            broker.login_page = f"{parts.base}{LOGIN_PAGE}"
        service = LoginService(parts)
        control = ControlApplications(
            LazyApplication(partial(make_api, parts, service)), LazyApplication(partial(make_dashboard, parts, service))
        )

        owners = ReasoningOwners()
        forwarder = partial(Forwarder, source=broker, keys=state.keys, upstreams=upstreams, pool=pool, owners=owners)
        guard = Guard(
            state.keys,
            where.hosts,
            proxies=TrustedProxies(config.server.trusted_proxies),
            dashboard=dashboard_guard(dashboard, config),
            open_at=where.open_at,
            look=state.keys.look if state.is_shared else None,
        )
        gateway = Gateway(
            guard=guard,
            forwarder=forwarder(settings=config.router, router=router_of(config)),
            access_log=access_log,
            decision_log=decision_log,
            usage_log=usage_log,
            budgets=usage_log.budgets.book,
            key_rates=None if rates is None else rates.rates,
            control=control,
            metrics=metrics,
            unready=lambda: "the database is away" if state.away_for() > config.store.serve_stale else "",
        )

        def adopt(new: Config) -> None:
            """Use the new configuration; requests under way keep the forwarder they started with."""
            in_force[0] = new
            broker.adopt(new)
            upstreams.adopt(new.upstream, None if reloading is None else reloading.trust)
            pool.configure(new.pool, new.limit_rules)
            usage_log.adopt(price_table_of(new), new.ledger, new.budgets)
            gateway.forwarder = forwarder(settings=new.router, router=router_of(new))
            hosts = where.hosts_with(new.server.host_names)
            guard.answer_to(hosts, TrustedProxies(new.server.trusted_proxies), dashboard_guard(dashboard, new))
            own_hosts.intersection_update(hosts)
            own_hosts.update(hosts)
            listener.drain_for(new.server.drain_timeout, new.server.drain_delay)
            adopted(new)
            alerts.adopt(new.alerts)
            metrics.adopt(new.metrics)

        alerts = alerts_of(config, state.alerts, pool, states=states, budgets=usage_log.budgets.states)
        share = partial(_share, board, place, pool, gateway)

        async def begin() -> None:
            share()
            if reloading is not None:
                follow = reloading.in_background(
                    adopt, metrics.refuse_reload, tls=where.tls, is_worker=worker is not None
                )
                stack.enter_context(follow)
            await started()

        def tell_whose(line: str) -> None:
            access_log.later(partial(tell, line if worker is None else f"worker {worker.number}: {line}"))

        lifespan = _ServeLifespan(
            *(broker, upstreams, renewer, metrics, state),
            *(begin, ending, tell_whose, (lambda: False) if reloading is None else reloading.hang_up),
            is_ending=is_ending,
            share=share,
            rates=rates,
        )
        listener = server_of(
            *(gateway, where, lifespan),
            drain=config.server.drain_timeout,
            delay=config.server.drain_delay,
            worker=worker,
        )
        tune_interpreter()
        with (
            access_log.instead_of(logging.getLogger()),
            cooldown_sync_of(pool, state, broker),
            renewer.in_background(),
            alerts,
        ):
            ended = listener.run_until_stopped()
            service.drain(LONGEST_GRANT)  # store a login that was exchanged, even after a second signal
            return ended


def _share(board: SharedMemory | None, place: int, pool: Pool, gateway: Gateway) -> None:
    """Take this worker's part of each rate limit: all running workers have equal parts."""
    if board is not None:
        living = board.beat(place)
        part = Share(living.index(place), len(living))
        pool.share_with(part)
        gateway.key_rates.share_with(part)
