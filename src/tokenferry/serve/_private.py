import contextlib
import logging
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError
from tokenferry.gateway import AccessLog, EphemeralKey, Forwarder, Gateway, Guard, Listening, Server, UpstreamClients
from tokenferry.pool import Pool
from tokenferry.secret import Secret
from tokenferry.serve._parts import GatewayLifespan, cooldown_sync_of, look_at_accounts, router_of, server_of
from tokenferry.serve._usage import usage_log_of
from tokenferry.settings import Home
from tokenferry.state import gateway_id

logger = logging.getLogger(__name__)

_PRIVATE_DRAIN: Final = 1.0


@dataclass(eq=False)
class _PrivateLifespan(GatewayLifespan):
    running: threading.Event

    async def started(self) -> None:
        self.running.set()


class PrivateGateway:
    """A gateway for one child process: on a random port, with a key that exists only in memory, in its own thread.

    `account` pins one account. Entering raises the errors of `serve`.
    """

    def __init__(self, home: Home, config: Config, *, account: str | None = None, broker: Broker | None = None) -> None:
        self._settings = config.router if account is None else replace(config.router, account=account)
        self._upstream = config.upstream
        self._pool = Pool(config.pool, limit_rules=config.limit_rules)
        self._home = home
        self._stack = contextlib.ExitStack()
        self._broker = broker or Broker.from_home(home, config)
        self._router = router_of(config)
        self._ring = EphemeralKey()
        self._usage_log = usage_log_of(home, config, self._broker, self._pool, lambda: self._ring.listed)
        self._listener: Server | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.url = ""
        """The address at which it listens, once entered."""

    @property
    def key(self) -> Secret:
        """The key that it accepts."""
        return self._ring.secret

    def __enter__(self) -> Self:
        where = Listening.privately()
        (self.url,) = where.urls
        running = threading.Event()
        access_log = AccessLog()

        look_at_accounts(self._broker)
        upstreams = UpstreamClients.configured(self._upstream, gateway_id=gateway_id(self._home))
        forwarder = Forwarder(
            source=self._broker,
            settings=self._settings,
            keys=self._ring,
            router=self._router,
            upstreams=upstreams,
            pool=self._pool,
        )
        self._listener = server_of(
            Gateway(
                guard=Guard(self._ring, where.hosts),
                forwarder=forwarder,
                access_log=access_log,
                usage_log=self._usage_log,
                budgets=self._usage_log.budgets.book,
            ),
            where,
            _PrivateLifespan(self._broker, upstreams, running),
            drain=_PRIVATE_DRAIN,
        )

        self._share_cooldowns()

        def run(listener: Server) -> None:
            try:
                with access_log, self._usage_log:
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
        """Share cooldowns with other processes, in both directions. If that fails, serve without."""
        if not has_state(self._home):
            return
        try:
            state = self._stack.enter_context(open_state(self._home))
        except TokenferryError as fault:
            logger.warning("cooldowns are not shared with other processes: %s", fault)
        else:
            self._stack.enter_context(cooldown_sync_of(self._pool, state, self._broker))
