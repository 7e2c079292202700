"""Keeps a gateway that serves in step with its configuration."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from ssl import SSLContext
from typing import Final

from msgspec.structs import replace

from tokenferry.background import file_stamp
from tokenferry.config import Config, ConfigSource, Follower
from tokenferry.errors import TokenferryError
from tokenferry.gateway import ReloadHooks, Terminal, check_reach, renew_tls, server_tls
from tokenferry.settings import Home

__all__ = ["Reloading"]

logger = logging.getLogger(__name__)

_FIXED: Final = ("host", "port", "allow_remote", "uds", "tls_cert", "tls_key", "workers", "public_url")
"""What of `[server]` counts when a gateway starts, and never after."""


class Reloading:
    """Follows the `source` of a configuration by which a gateway runs, with its workers.

    In one process it looks for changes by itself; of several the supervisor looks, and its workers do as it tells. At
    a HUP it is read in any case. What can't be used, or what `check` raises of, is refused and logged; what held before
    stays. `tell` gets a line for each configuration that is followed, which names what will count from the next start
    alone.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        source: ConfigSource,
        tell: Callable[[str], None],
        *,
        check: Callable[[Config], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._check = check
        self._running = config.server
        self._source = source
        self._tell = tell
        self._terminal = Terminal()
        self._is_worker = False
        self.trust = _trust(config)
        """Another value where the certificates trusted for upstreams changed."""
        self._follower = Follower(config, read=self._read, watched=self._watched)

    @property
    def current(self) -> Config:
        """The configuration that a worker begins with."""
        return self._follower.current

    @contextlib.contextmanager
    def hangups_heard(self) -> Iterator[None]:
        """Within the block, a HUP without another handler reads the configuration again."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
            yield
            return
        before = signal.getsignal(signal.SIGHUP)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: self._follower.ask())
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def hang_up(self) -> bool:
        """Have the configuration read; for a signal's handler. False if it is the HUP of a terminal that was closed."""
        if not self._is_worker and self._terminal.is_gone():
            return False
        self._follower.ask()
        return True

    def for_supervisor(self, adopt: Callable[[Config], None]) -> ReloadHooks:
        """What a supervisor does; its own process adopts the configuration, too, for the workers that it will start."""
        refused: list[str] = []

        def refuse(reason: str) -> None:
            refused.append(reason)
            logger.error("%s", reason)

        def take(new: Config | None) -> bool:
            if new is not None:
                adopt(new)
                self._tell_of(new)
            is_news = new is not None or bool(refused)  # workers count what was refused
            refused.clear()
            return is_news

        self._follower.complain = refuse
        return ReloadHooks(
            look=lambda: take(self._follower.look()),
            reread=lambda: take(self._follower.reread()),
            is_end=self._terminal.is_gone,
        )

    @contextlib.contextmanager
    def in_background(
        self,
        adopt: Callable[[Config], None],
        refused: Callable[[], None],
        *,
        tls: SSLContext | None = None,
        is_worker: bool = False,
    ) -> Iterator[None]:
        """Follow within the block, which the running event loop enters: there `adopt` and `refused` are called.

        The certificate of `tls` is renewed before `adopt` is called.
        """
        self._is_worker = is_worker
        loop = asyncio.get_running_loop()

        def in_loop(call: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(call)

        def refuse(reason: str) -> None:
            logger.log(logging.DEBUG if is_worker else logging.ERROR, "%s", reason)
            in_loop(refused)

        def take(new: Config) -> None:
            self._renew_certificate(tls)
            adopt(new)
            if not is_worker:
                self._tell_of(new)

        self._follower.complain = refuse
        with self._follower.in_background(lambda new: in_loop(lambda: take(new)), looks=not is_worker):
            yield

    def _read(self) -> Config:
        """Raises `TokenferryError` also if a gateway that runs could not go by it."""
        config = self._source.read()
        self._check(config)
        self.trust = _trust(config)
        server = self._running
        check_reach(replace(server, trusted_proxies=config.server.trusted_proxies), config.policy)
        if server.tls_cert is not None and server.tls_key is not None:
            server_tls(server.tls_cert, server.tls_key, by_option=server.tls_by_option)
        return config

    def _watched(self, config: Config) -> Iterator[Path]:
        yield self._source.path
        yield self._home.statement
        yield from config.files
        yield from filter(None, (self._running.tls_cert, self._running.tls_key))

    def _renew_certificate(self, tls: SSLContext | None) -> None:
        server = self._running
        if tls is not None and server.tls_cert is not None and server.tls_key is not None:
            try:
                renew_tls(tls, server.tls_cert, server.tls_key, by_option=server.tls_by_option)
            except TokenferryError as fault:
                logger.error("the former TLS certificate stays: %s", fault)  # noqa: TRY400  # it is one sentence

    def _tell_of(self, new: Config) -> None:
        kept = [f"server.{name}" for name in _FIXED if getattr(new.server, name) != getattr(self._running, name)]
        rest = f"; {' and '.join(kept)} will count from the next start" if kept else ""
        self._tell(f"{self._source.path} was read, and is followed from now on{rest}")
        for warning in new.warnings:
            self._tell(warning)


def _trust(config: Config) -> Hashable:
    file = config.upstream.ca_file
    return None if file is None else file_stamp(file)
