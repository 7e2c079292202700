"""Reload the configuration of a running gateway."""

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
"""The settings of `[server]` that take effect only when a gateway starts."""


class Reloading:
    """Reloads the configuration of a running gateway and its workers when its `source` changes.

    A single process looks for changes itself; with workers, the supervisor looks, and the workers follow it. A HUP
    always reloads. A configuration that is invalid, or that `check` raises for, is refused and logged; the former one
    stays in force. `tell` gets a line for each adopted configuration, which names the settings that need a restart.
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
        """A value that changes with the certificates trusted for upstreams."""
        self._follower = Follower(config, read=self._read, watched=self._watched)

    @property
    def current(self) -> Config:
        """The configuration for a worker that starts now."""
        return self._follower.current

    @contextlib.contextmanager
    def hangups_heard(self) -> Iterator[None]:
        """Reload at a HUP during the block, unless a HUP has another handler."""
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
        """Reload, from a signal's handler. False for the HUP of a closed terminal."""
        if not self._is_worker and self._terminal.is_gone():
            return False
        self._follower.ask()
        return True

    def for_supervisor(self, adopt: Callable[[Config], None]) -> ReloadHooks:
        """The hooks of a supervisor. Its process adopts the configuration, too, for workers that it starts later."""
        refused: list[str] = []

        def refuse(reason: str) -> None:
            refused.append(reason)
            logger.error("%s", reason)

        def take(new: Config | None) -> bool:
            if new is not None:
                adopt(new)
                self._tell_of(new)
            is_news = new is not None or bool(refused)  # workers count refused configurations
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
        """Reload during the block. Enter it on an event loop, which then calls `adopt` and `refused`.

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
        """Read the configuration. Raises `TokenferryError`, also if the running gateway couldn't adopt it."""
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
        fixed = [f"server.{name}" for name in _FIXED if getattr(new.server, name) != getattr(self._running, name)]
        rest = f"; {' and '.join(fixed)} will count from the next start" if fixed else ""
        self._tell(f"{self._source.path} was read, and is followed from now on{rest}")
        for warning in new.warnings:
            self._tell(warning)


def _trust(config: Config) -> Hashable:
    file = config.upstream.ca_file
    return None if file is None else file_stamp(file)
