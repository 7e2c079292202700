"""Puts the gateway together and runs it: the only place that knows all of its parts."""

import asyncio
import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.errors import StorageFailed
from tokenferry.gateway import (
    GRACE,
    Gateway,
    Guard,
    KeyRing,
    Listener,
    OneOffKey,
    Relay,
    Upstreams,
    bind,
    own_hosts,
    write_port_file,
)
from tokenferry.secret import Secret
from tokenferry.settings import GatewaySettings, Home
from tokenferry.state import State, local_key

__all__ = ["PrivateGateway", "serve"]

_DRAIN: Final = 30.0
_PRIVATE_GRACE: Final = 1.0
_DESCRIPTORS: Final = 65_536


def serve(
    home: Home,
    config: Config,
    *,
    host: str | None = None,
    port: int | None = None,
    port_file: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    broker: Broker | None = None,
) -> signal.Signals | None:
    """Run the gateway until INT, TERM or HUP, and give the signal that ended it.

    `host` and `port` stand before those of `[server]`; port 0 takes a free one. The port file is written once clients
    can connect. `say` gets each line that tells the operator where it listens and what is missing.
    Raises `ConfigError` (no loopback host, port in use), `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """
    _limit_process()
    with contextlib.ExitStack() as stack:
        sock = bind(host or config.server.host, config.server.port if port is None else port)
        stack.callback(sock.close)
        state = stack.enter_context(State(home.state))
        local_key(home, state)
        resolved = broker or Broker.from_home(home, config)

        async def record_use() -> None:
            with contextlib.suppress(StorageFailed):
                await asyncio.to_thread(state.keys.record_use)

        def announce() -> None:
            if port_file is not None:
                write_port_file(port_file, sock.getsockname()[1])
            for line in _start_lines(_url(sock), home, resolved):
                say(line)

        async def started() -> None:
            await asyncio.to_thread(announce)

        listener = _listener(
            sock=sock,
            broker=resolved,
            settings=config.gateway,
            keys=state.keys,
            allowed_hosts=config.server.allowed_hosts,
            started=started,
            every_minute=record_use,
        )
        return listener.run_until_stopped()


class PrivateGateway:
    """A gateway for one child process: on a random port, with a key that is in memory alone, in a thread of its own.

    `account` pins one account. Entering raises what `serve` raises.
    """

    def __init__(self, home: Home, config: Config, *, account: str | None = None, broker: Broker | None = None) -> None:
        self._settings = config.gateway if account is None else replace(config.gateway, account=account)
        self._broker = broker or Broker.from_home(home, config)
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
        sock = bind("127.0.0.1", 0)
        self.url = _url(sock)
        running = threading.Event()

        async def entered() -> None:
            running.set()

        self._listener = _listener(
            sock=sock,
            broker=self._broker,
            settings=self._settings,
            keys=self._ring,
            started=entered,
            grace=_PRIVATE_GRACE,
        )

        def run(listener: Listener) -> None:
            try:
                listener.run_until_stopped()
            except BaseException as fault:  # noqa: BLE001  # it is raised where the gateway was asked for
                self._failure = fault
            finally:
                running.set()

        self._thread = threading.Thread(target=run, args=(self._listener,), name="tokenferry-gateway")
        self._thread.start()
        running.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._listener is not None
        assert self._thread is not None
        self._listener.stop()
        self._thread.join()


def _listener(
    *,
    sock: socket.socket,
    broker: Broker,
    settings: GatewaySettings,
    keys: KeyRing,
    allowed_hosts: tuple[str, ...] = (),
    started: Callable[[], Awaitable[None]],
    every_minute: Callable[[], Awaitable[None]] | None = None,
    grace: float = GRACE,
) -> Listener:
    host, port = sock.getsockname()[:2]
    upstreams = Upstreams()
    gateway = Gateway(
        guard=Guard(keys, own_hosts(host, port, allowed_hosts)),
        relay=Relay(source=broker, settings=settings, keys=keys, upstreams=upstreams),
    )

    async def drain() -> None:
        # A grant in flight is waited for: with its answer lost, the login may be, too.
        await asyncio.to_thread(broker.drain, _DRAIN)

    return Listener(
        gateway, sock, started=started, every_minute=every_minute, finish=upstreams.aclose, last=drain, grace=grace
    )


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _start_lines(url: str, home: Home, broker: Broker) -> Iterator[str]:
    yield f"listening on {url}"
    yield f"client key in {home.local_key} (shown by: tokenferry token --gateway)"
    listing = broker.listing()
    if listing.accounts:
        yield "accounts: " + ", ".join(f"{account.name} ({account.provider})" for account in listing.accounts)
    else:
        yield "no account yet; add one with: tokenferry accounts add NAME --provider anthropic"
    for name, fault in listing.broken.items():
        yield f"account {name} can't be used: {fault}"


def _limit_process() -> None:
    """Leave no core dump, which would hold tokens, and allow for many connections."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
