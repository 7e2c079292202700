"""Puts the gateway together and runs it: the only place that knows all of its parts."""

import asyncio
import contextlib
import logging
import secrets
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tokenferry.admin import LOGIN_PAGE, Admin, Parts
from tokenferry.broker import Broker
from tokenferry.config import Config, Source
from tokenferry.errors import CorruptFile, StorageFailed, TokenferryError, UsageError
from tokenferry.gateway import (
    AccessLog,
    Board,
    DecisionLog,
    Gateway,
    Guard,
    Listener,
    Listening,
    Metrics,
    OneOffKey,
    Place,
    Recorder,
    Relay,
    Supervisor,
    TrustedProxies,
    Upstreams,
    allow_connections,
    check_reach,
    connection_limit,
    guests,
    hide_memory,
    is_remote,
    listening,
    remote_lines,
    remove_port_file,
    tune_interpreter,
    write_port_file,
)
from tokenferry.keep import Keeper
from tokenferry.pool import Pool
from tokenferry.refresh import send
from tokenferry.reloading import Reloading
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import State, UsageProbe, local_key

__all__ = ["PrivateGateway", "serve"]

logger = logging.getLogger(__name__)

_REFRESH_SECONDS: Final = 30.0
_LONGEST_GRANT: Final = 120.0
_PRIVATE_DRAIN: Final = 1.0
_SECRET_BYTES: Final = 32


def _say_nothing(_: str) -> None:
    pass


def _take_no_note(_: Config) -> None:
    pass


def _no_hangup() -> bool:
    return False


async def _do_nothing() -> None:
    pass


def serve(
    home: Home,
    config: Config,
    *,
    host: str | None = None,
    port: int | None = None,
    port_file: Path | None = None,
    say: Callable[[str], None] = _say_nothing,
    tell: Callable[[str], None] = _say_nothing,
    broker: Broker | None = None,
    states: Callable[[], Mapping[str, str]] = dict,
    source: Source | None = None,
    adopted: Callable[[Config], None] = _take_no_note,
) -> signal.Signals | None:
    """Run the gateway until INT, TERM or HUP, and give the signal that ended it.

    With a `source` it follows that, when it changes and at a HUP, which ends nothing then; requests under way go on by
    what held when they began. `adopted` gets each configuration that is followed from then on, in each worker.

    `host` and `port` stand before those of `[server]`; port 0 takes a free one. The port file is written once clients
    can connect, and removed at the end. `say` gets each line that tells the operator where it listens and what is
    missing, `tell` what happens later: what an ending gateway waits for, which worker was replaced.
    `states` gives each account's state in a word, by name, for the metrics.
    Raises `ConfigError` (no loopback host, or another without a key for others; port or socket in use, no certificate),
    `PolicyRefused` (a subscription would be served to others), `UsageError`, `UnsafeFile`, `CorruptFile`,
    `StorageFailed`.
    """
    given = config
    config = _placed_as(lambda: given, host, port)
    server = config.server
    if port_file is not None and not server.tcp:
        raise UsageError("--port-file is for a TCP port, and this gateway has none; add --port, or leave it out")
    hide_memory()
    allow_connections()
    with contextlib.ExitStack() as stack:
        reloading = None
        if source is not None:
            read = partial(_placed_as, source.read, host, port)
            reloading = Reloading(home, config, replace(source, read=read), tell, check=partial(_check_keys, home))
            stack.enter_context(reloading.hangups_heard())
        check_reach(server, config.policy)
        where = stack.enter_context(listening(server, home.locks))
        with State(home.state) as state:
            opened = tuple(remote_lines(server, guests(state.keys.list(), time.time()))) if is_remote(server) else ()
            local_key(home, state)
            resolved = broker or Broker.from_home(home, config)
            resolved.check_keys(state.keys.list(), config.policy)

        def announce() -> None:
            if port_file is not None and where.port is not None:
                write_port_file(port_file, where.port)
                stack.callback(remove_port_file, port_file, where.port)
            for line in _start_lines(where.urls, home, resolved):
                say(line)
            for line in opened:
                tell(line)

        board = Board(server.workers) if server.workers > 1 else None
        # Of the parent, so that a login that one worker began can be finished by any.
        secret = Secret(secrets.token_urlsafe(_SECRET_BYTES))
        run = partial(
            _run,
            home,
            where=where,
            broker=resolved,
            tell=tell,
            states=states,
            board=board,
            secret=secret,
            reloading=reloading,
            adopted=adopted,
        )
        if server.workers == 1:
            return run(config, started=partial(asyncio.to_thread, announce))

        def work(worker: Place) -> int:
            run(config if reloading is None else reloading.current, started=worker.begin, worker=worker)
            resolved.drain(_LONGEST_GRANT)  # a second signal has not waited for it
            return 0

        following = None if reloading is None else reloading.for_supervisor(resolved.adopt)
        return Supervisor(
            server.workers, work, ready=announce, ending=where.close, tell=tell, following=following
        ).run()


class PrivateGateway:
    """A gateway for one child process: on a random port, with a key that is in memory alone, in a thread of its own.

    `account` pins one account. Entering raises what `serve` raises.
    """

    def __init__(self, home: Home, config: Config, *, account: str | None = None, broker: Broker | None = None) -> None:
        self._settings = config.gateway if account is None else replace(config.gateway, account=account)
        self._pool = Pool(config.pool)
        self._home = home
        self._stack = contextlib.ExitStack()
        self._broker = broker or Broker.from_home(home, config)
        self._router = _router(config)
        self._ring = OneOffKey()
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.url = ""
        """Where it listens, once entered."""

    @property
    def key(self) -> Secret:
        """The key it takes."""
        return self._ring.secret

    def __enter__(self) -> Self:
        where = Listening.privately()
        (self.url,) = where.urls
        running = threading.Event()
        access_log = AccessLog()

        async def entered() -> None:
            running.set()

        _look_at_accounts(self._broker)
        upstreams = Upstreams.configured(self._settings)
        relay = Relay(
            source=self._broker,
            settings=self._settings,
            keys=self._ring,
            router=self._router,
            upstreams=upstreams,
            pool=self._pool,
        )
        self._listener = _listener(
            Gateway(guard=Guard(self._ring, where.hosts), relay=relay, access_log=access_log),
            where,
            broker=self._broker,
            upstreams=upstreams,
            started=entered,
            drain=_PRIVATE_DRAIN,
        )

        self._share_cooldowns()

        def run(listener: Listener) -> None:
            try:
                with access_log:
                    listener.run_until_stopped()
            except BaseException as fault:  # noqa: BLE001  # it is raised where the gateway was asked for
                self._failure = fault
            finally:
                running.set()

        self._thread = threading.Thread(target=run, args=(self._listener,), name="tokenferry-gateway")
        self._thread.start()
        running.wait()
        if self._failure is not None:
            self._stack.close()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._listener is not None
        assert self._thread is not None
        self._listener.stop()
        self._thread.join()
        self._stack.close()

    def _share_cooldowns(self) -> None:
        """Know of the cooldowns that other processes note, and they of these. It serves without, too."""
        if not self._home.state.exists():
            return
        try:
            state = self._stack.enter_context(State(self._home.state))
        except TokenferryError as fault:
            logger.warning("cooldowns are not shared with other processes: %s", fault)
        else:
            self._stack.enter_context(_recorder(self._pool, state, self._broker))


def _run(
    home: Home,
    config: Config,
    *,
    where: Listening,
    broker: Broker,
    tell: Callable[[str], None],
    started: Callable[[], Awaitable[None]],
    states: Callable[[], Mapping[str, str]],
    board: Board | None,
    secret: Secret,
    reloading: Reloading | None,
    adopted: Callable[[Config], None],
    worker: Place | None = None,
) -> signal.Signals | None:
    """Serve in this process, which is one of several if `worker` says so."""
    _look_at_accounts(broker)
    with (
        State(home.state) as state,
        AccessLog() as access_log,
        DecisionLog(state.decisions.add) as decision_log,
        contextlib.ExitStack() as stack,
    ):
        trust = None if reloading is None else reloading.trust
        upstreams = Upstreams.configured(config.gateway, trust=trust)
        place = 0 if worker is None else worker.number - 1

        async def record_use() -> None:
            with contextlib.suppress(StorageFailed, CorruptFile):
                await asyncio.to_thread(state.keys.record_use)

        keeper = Keeper(broker)

        def tell_whose(line: str) -> None:
            access_log.later(partial(tell, line if worker is None else f"worker {worker.number}: {line}"))

        metrics = Metrics(broker, upstreams, states=states, cooldowns=state.cooldowns.list, board=board, place=place)
        own_hosts = set(where.hosts)
        parts = Parts(home, broker, state.keys, state.logins, secret, where.urls, own_hosts, states)
        if parts.base is not None:
            broker.login_page = f"{parts.base}{LOGIN_PAGE}"
        admin = Admin(parts)

        pool = Pool(config.pool)
        relay = partial(Relay, source=broker, keys=state.keys, upstreams=upstreams, pool=pool)
        proxies = TrustedProxies(config.server.trusted_proxies)
        guard = Guard(state.keys, where.hosts, proxies=proxies, open_at=where.open_at)
        gateway = Gateway(
            guard=guard,
            relay=relay(settings=config.gateway, router=_router(config)),
            access_log=access_log,
            decision_log=decision_log,
            control=admin,
            metrics=metrics,
        )

        def adopt(new: Config) -> None:
            """Go by it from here on; requests under way keep the relay they began with."""
            broker.adopt(new)
            upstreams.adopt(new.gateway, None if reloading is None else reloading.trust)
            pool.configure(new.pool)
            gateway.relay = relay(settings=new.gateway, router=_router(new))
            hosts = where.hosts_with(new.server.allowed_hosts)
            guard.answer_to(hosts, TrustedProxies(new.server.trusted_proxies))
            own_hosts.intersection_update(hosts)
            own_hosts.update(hosts)
            listener.drain_for(new.server.drain)
            adopted(new)
            metrics.note_reload(adopted=True)

        async def begin() -> None:
            assert reloading is not None
            refused = partial(metrics.note_reload, adopted=False)
            follow = reloading.in_background(adopt, refused, tls=where.tls, is_worker=worker is not None)
            stack.enter_context(follow)
            await started()

        listener = _listener(
            gateway,
            where,
            broker=broker,
            upstreams=upstreams,
            started=started if reloading is None else begin,
            every_second=metrics.publish,
            every_minute=record_use,
            drain=config.server.drain,
            tell=tell_whose,
            worker=worker,
            keeper=keeper,
            hangup=_no_hangup if reloading is None else reloading.hang_up,
        )
        recorder = _recorder(pool, state, broker)
        tune_interpreter()
        with access_log.instead_of(logging.getLogger()), recorder, keeper.in_background():
            ended = listener.run_until_stopped()
            admin.drain(_LONGEST_GRANT)  # a login that was exchanged is stored, after a second signal, too
            return ended


def _listener(
    gateway: Gateway,
    where: Listening,
    *,
    broker: Broker,
    upstreams: Upstreams,
    started: Callable[[], Awaitable[None]],
    every_second: Callable[[], None] = lambda: None,
    every_minute: Callable[[], Awaitable[None]] = _do_nothing,
    drain: float,
    tell: Callable[[str], None] = _say_nothing,
    worker: Place | None = None,
    keeper: Keeper | None = None,
    hangup: Callable[[], bool] = _no_hangup,
) -> Listener:
    def refreshes() -> list[str]:
        return [f"the refresh of account {name}" for name in broker.refreshing()]

    async def finish_refreshes() -> None:
        if keeper is not None:
            keeper.stop()
        # A grant in flight is waited for: with its answer lost, the login may be, too.
        if names := refreshes():
            tell(f"waiting for {' and '.join(names)}")
        await asyncio.to_thread(broker.drain, _REFRESH_SECONDS)

    return Listener(
        gateway,
        where.sockets,
        drain=drain,
        tls=where.tls,
        connections=connection_limit(),
        supervisor=worker,
        started=started,
        every_second=every_second,
        every_minute=every_minute,
        finish=upstreams.aclose,
        last=finish_refreshes,
        tell=tell,
        waiting_for=refreshes,
        hangup=hangup,
    )


def _router(config: Config) -> Router:
    return Router(config.router, config.models, config.providers)


def _recorder(pool: Pool, state: State, broker: Broker) -> Recorder:
    """What keeps a pool in step with the cooldowns on record, and asks usage endpoints about those."""
    probe = UsageProbe(
        state.cooldowns,
        providers=lambda: broker.providers,
        accounts=broker.accounts,
        resolve=broker.resolve,
        send=send,
    )
    return Recorder(
        pool,
        state,
        fingerprint=lambda name: broker.book.read(name).credential.secret.fingerprint,
        accounts=broker.listed,
        look=probe.look,
    )


def _look_at_accounts(broker: Broker) -> None:
    """List them before there is an event loop: a keychain may take seconds to be read, a watcher sees to the rest."""
    with contextlib.suppress(TokenferryError):  # whoever asks for one is told
        broker.listing()


def _check_keys(home: Home, config: Config) -> None:
    """Raise `PolicyRefused` for a configuration under which a subscription would be served to somebody else's key."""
    if config.policy.subscription == "own":
        with State(home.state) as state:
            Broker.from_home(home, config).check_keys(state.keys.list())


def _start_lines(urls: Iterable[str], home: Home, broker: Broker) -> Iterator[str]:
    for url in urls:
        yield f"listening on {url}"
    yield f"client key in {home.local_key} (shown by: tokenferry token --gateway)"
    listing = broker.book.listing()  # the broker's own begins to watch, in a thread that forked workers wouldn't have
    if listing.accounts:
        yield "accounts: " + ", ".join(f"{account.name} ({account.provider})" for account in listing.accounts)
    else:
        yield "no account yet; add one with: tokenferry accounts add NAME --provider anthropic"
    for name, fault in {**listing.broken, **listing.locked}.items():
        yield f"account {name} can't be used: {fault}"


def _placed_as(read: Callable[[], Config], host: str | None, port: int | None) -> Config:
    """The configuration with the place to listen at that was asked for otherwise."""
    config = read()
    if host is None and port is None:
        return config
    server = config.server
    server = replace(server, host=host or server.host, port=server.port if port is None else port, tcp=True)
    return replace(config, server=server)
