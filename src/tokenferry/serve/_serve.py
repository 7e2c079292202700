import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.config import Config, ConfigSource
from tokenferry.databases import open_login_secret, open_state
from tokenferry.errors import UsageError
from tokenferry.gateway import (
    Listening,
    SharedMemory,
    Supervisor,
    WorkerSlot,
    allow_connections,
    check_reach,
    check_upstreams,
    hide_memory,
    is_remote,
    listening,
    remote_keys,
    remote_lines,
    remove_port_file,
    share_heap,
    write_port_file,
)
from tokenferry.readiness import services, unusable_accounts
from tokenferry.reloading import Reloading
from tokenferry.secret import Secret
from tokenferry.serve._dashboard import dashboard_origin
from tokenferry.serve._parts import say_nothing
from tokenferry.serve._waiting import once_there
from tokenferry.serve._worker import LONGEST_GRANT, run_gateway
from tokenferry.settings import Home, ServerSettings
from tokenferry.state import GatewayRegistration, local_key
from tokenferry.wire import load_codecs


class _Prepared(NamedTuple):
    """The results of preparing a start."""

    opened: tuple[str, ...]
    dashboard: str | None
    secret: Secret


def _take_no_note(_: Config) -> None:
    pass


def serve(
    home: Home,
    config: Config,
    *,
    host: str | None = None,
    port: int | None = None,
    port_file: Path | None = None,
    say: Callable[[str], None] = say_nothing,
    tell: Callable[[str], None] = say_nothing,
    broker: Broker | None = None,
    states: Callable[[], Mapping[str, str]] = dict,
    source: ConfigSource | None = None,
    adopted: Callable[[Config], None] = _take_no_note,
) -> signal.Signals | None:
    """Run the gateway until INT, TERM or HUP, and return the signal that ended it.

    With a `source`, it reloads the configuration when that changes and at a HUP, which then ends nothing. Requests
    under way keep the configuration they started with. `adopted` gets each reloaded configuration, in each worker.
    `host` and `port` override those of `[server]`; port 0 takes a free one. The port file is written once clients
    can connect, and removed at the end. `say` gets the lines of the start: where it listens and what is missing.
    `tell` gets later lines: what an ending gateway waits for, which worker was replaced.
    `states` gives each account's state as a word, by name, for the metrics.
    Raises `ConfigError` (no loopback host, or another without a key for others; port or socket in use, no certificate),
    `PolicyRefused` (a subscription would be served to others), `UsageError`, `UnsafeFile`, `CorruptFile`,
    `StorageFailed`.
    """
    given = config
    config = _placed_as(lambda: given, host, port)
    server = config.server
    _check_port_file(server, port_file)
    hide_memory()
    share_heap()
    allow_connections()
    taken: list[int | None] = []
    with contextlib.ExitStack() as stack:
        reloading = None
        if source is not None:
            read = partial(_placed_as, source.read, host, port)
            reloading = Reloading(
                home, config, replace(source, read=read), tell, check=partial(_check, home, server, taken)
            )
            stack.enter_context(reloading.hangups_heard())
        check_reach(server, config.policy)
        where = stack.enter_context(listening(server, home.locks))
        check_upstreams(config.providers.values(), server, where.port)
        taken.append(where.port)
        resolved = broker or Broker.from_home(home, config)
        prepare = partial(_prepare, home, config, where, resolved)
        prepared = once_there(prepare, home, config, where, resolved, tell=tell, follows=source is not None)
        if isinstance(prepared, signal.Signals):
            return prepared
        registration = GatewayRegistration(home, url=where.url, socket=where.uds, dashboard=prepared.dashboard)
        stack.callback(registration.end)

        def announce() -> None:
            # Read the home first: a program that waits for the port file may change it at once.
            lines = (*_start_lines(where.urls, home, resolved), *_unserved(home, config, resolved, states))
            if port_file is not None and where.port is not None:
                write_port_file(port_file, where.port)
                stack.callback(remove_port_file, port_file, where.port)
            for line in lines:
                say(line)
            for line in prepared.opened:
                tell(line)

        board = SharedMemory(server.workers) if server.workers > 1 else None
        run = partial(
            run_gateway,
            home,
            where=where,
            broker=resolved,
            tell=tell,
            states=states,
            board=board,
            secret=prepared.secret,
            dashboard=prepared.dashboard,
            reloading=reloading,
            adopted=adopted,
        )
        if server.workers == 1:
            return run(config, started=partial(asyncio.to_thread, announce), ending=registration.end)

        load_codecs()  # for all workers, which share that memory

        def work(worker: WorkerSlot) -> int:
            run(config if reloading is None else reloading.current, started=worker.begin, worker=worker)
            resolved.drain(LONGEST_GRANT)  # a second signal has not waited for it
            return 0

        def end() -> None:
            registration.end()
            where.close()

        following = None if reloading is None else reloading.for_supervisor(resolved.adopt)
        return Supervisor(server.workers, work, ready=announce, ending=end, tell=tell, following=following).run()


def _check_port_file(server: ServerSettings, port_file: Path | None) -> None:
    if port_file is not None and not server.tcp:
        raise UsageError("--port-file is for a TCP port, and this gateway has none; add --port, or leave it out")


def _prepare(home: Home, config: Config, where: Listening, broker: Broker) -> _Prepared:
    """Do the steps of a start that need the state. May be repeated."""
    server = config.server
    with open_state(home, config.store) as state:
        keys = state.keys.list()
        opened = tuple(remote_lines(server, remote_keys(keys, time.time()))) if is_remote(server) else ()
        local_key(home, state)
        broker.check_keys(state.keys.list(), config.policy)
        dashboard = dashboard_origin(config, where, state)
    broker.record_default_provider(environment=True)
    return _Prepared(opened, dashboard, open_login_secret(home, config.store))


def _check(home: Home, server: ServerSettings, taken: Sequence[int | None], config: Config) -> None:
    """Raise for a configuration that a running gateway with this port can't adopt."""
    check_upstreams(config.providers.values(), replace(server, allowed_hosts=config.server.allowed_hosts), *taken)
    _check_keys(home, config)


def _check_keys(home: Home, config: Config) -> None:
    """Raise `PolicyRefused` for a configuration that would serve a subscription to another person's key."""
    if config.policy.subscriptions == "own-use":
        with open_state(home) as state:
            Broker.from_home(home, config).check_keys(state.keys.list())


def _start_lines(urls: Iterable[str], home: Home, broker: Broker) -> Iterator[str]:
    for url in urls:
        yield f"listening on {url}"
    yield f"client key in {home.local_key} (shown by: tokenferry token --gateway)"
    listing = broker.book.listing()  # the broker's own begins to watch, in a thread that forked workers wouldn't have
    if listing.accounts:
        yield "accounts: " + ", ".join(f"{account.name} ({account.provider})" for account in listing.accounts)
    else:
        yield "no account yet; add one with: tokenferry account add NAME --provider anthropic"
    for name, fault in {**listing.broken, **listing.locked}.items():
        yield f"account {name} can't be used: {fault}"


def _unserved(home: Home, config: Config, broker: Broker, states: Callable[[], Mapping[str, str]]) -> Iterator[str]:
    """Give the accounts that can't serve, and the requests that no account serves now."""
    listing, present = broker.book.listing(), states()
    for name, why in unusable_accounts(broker, present).items():
        if name not in listing.locked:
            yield f"account {name} can't serve: {why.reason}"
    if listing.accounts:
        with open_state(home) as state:
            yield from (str(one) for one in services(config, broker, state, present) if not one.is_served)


def _placed_as(read: Callable[[], Config], host: str | None, port: int | None) -> Config:
    """Read the configuration, with its host and port overridden by those of the command line."""
    config = read()
    if host is None and port is None:
        return config
    server = config.server
    server = replace(server, host=host or server.host, port=server.port if port is None else port, tcp=True)
    return replace(config, server=server)
