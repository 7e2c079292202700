"""The gateway's parts in a program's own process, without a port; the transports of `in_process` use it."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.databases import open_state
from tokenferry.errors import TokenferryError
from tokenferry.gateway import (
    AnswerWriter,
    DecisionLog,
    EphemeralKey,
    Forwarder,
    Gateway,
    Guard,
    HeaderList,
    ReasoningOwners,
    RequestHandler,
    RequestHead,
    RequestLine,
    UpstreamClients,
)
from tokenferry.gateway.http.headers import Header
from tokenferry.pool import Pool
from tokenferry.serve._parts import cooldown_sync_of, look_at_accounts, router_of
from tokenferry.serve._usage import usage_log_of
from tokenferry.settings import Home
from tokenferry.state import gateway_id
from tokenferry.wire import load_codecs

logger = logging.getLogger(__name__)

_GRANT_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 45.0
IN_PROCESS: Final = "(in process)"
"""The name in the ledger and in decisions, in place of a client key's."""


class EmbeddedCall(Protocol):
    """A request in progress on the gateway's thread."""

    def disconnect(self) -> None:
        """Abort, because the gateway stops: the program gets no more of its answer."""


class EmbeddedGateway:
    """Routing, failover, refresh, limits and translation on its own event loop, in a thread of this process.

    Cooldowns are shared with the other processes of the home; decisions and usage are written where `explain request`
    and `usage` find them, under the name `(in process)`. It uses the configuration that it was made with. `account`
    pins one account.
    """

    def __init__(self, home: Home, config: Config, *, account: str | None = None, broker: Broker | None = None) -> None:
        self._home = home
        self._broker = broker or Broker.from_home(home, config)
        self._settings = config.router if account is None else replace(config.router, account=account)
        self._upstream = config.upstream
        self._router = router_of(config)
        self._pool = Pool(config.pool, limit_rules=config.limit_rules)
        self._key = EphemeralKey("key_in_process", IN_PROCESS)
        self._usage_log = usage_log_of(home, config, self._broker, self._pool, lambda: self._key.listed)
        self._guard = Guard(self._key, frozenset())
        self._stack = contextlib.ExitStack()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._owners = ReasoningOwners()
        self._gateways: dict[tuple[str, ...], Gateway] = {}
        self._calls: set[EmbeddedCall] = set()
        """Only for the loop's thread."""

    # From any thread.

    def start(self) -> None:
        """Start the thread. Raises `ConfigError`, `StorageFailed`, `CorruptFile`."""
        look_at_accounts(self._broker)
        load_codecs()
        self._stack.enter_context(self._usage_log)
        self._decision_log = self._open_state()
        self._upstreams = UpstreamClients.configured(self._upstream, gateway_id=gateway_id(self._home))
        # A daemon, since the interpreter joins all others before it calls what is registered for its exit.
        self._thread = threading.Thread(target=self._run, name="tokenferry-in-process", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._stack.close()
            raise self._failure

    def stop(self) -> None:
        """End the requests in progress, wait for a refresh in flight, and write the rest of the usage."""
        assert self._thread is not None
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)
        self._stack.close()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call a function on the gateway's thread. Raises `RuntimeError` once that has ended."""
        self.loop.call_soon_threadsafe(call)

    def hosts(self) -> dict[str, tuple[str, ...]]:
        """Give the providers, by the host of their addresses."""
        found: dict[str, tuple[str, ...]] = {}
        for name, provider in self._broker.providers.items():
            host = urlsplit(provider.base_url).netloc.lower()
            found[host] = (*found.get(host, ()), name)
        return found

    def paths(self, providers: Iterable[str]) -> list[str]:
        """Give the parts before /v1 or /v1beta in these providers' addresses, without empty ones."""
        paths = [urlsplit(self._broker.providers[name].base_url).path.rstrip("/") for name in providers]
        return [path for path in (one.removesuffix("/v1beta").removesuffix("/v1") for one in paths) if path]

    # On the loop's thread.

    def exchange(
        self,
        call: EmbeddedCall,
        method: str,
        target: bytes,
        headers: Sequence[Header],
        writer: AnswerWriter,
        *,
        providers: tuple[str, ...] = (),
    ) -> RequestHandler | None:
        """Handle a proxied request; None for any other path. `providers` are those of the host the program called."""
        secret = self._key.secret.reveal().encode("ascii")
        lines = HeaderList([*headers, (b"host", b"in-process"), (b"x-api-key", secret)])
        line = RequestLine(method, target, target.partition(b"?")[0], lines, RequestHead(lines), None, has_room=True)
        handler = self._gateway(providers).exchange(line, writer)
        if handler is not None:
            self._calls.add(call)
        return handler

    def ended(self, call: EmbeddedCall) -> None:
        self._calls.discard(call)

    def _gateway(self, providers: tuple[str, ...]) -> Gateway:
        """Give the gateway that prefers these providers, if they have accounts."""
        listed = {account.provider for account in self._broker.listing().accounts}
        asked = tuple(name for name in providers if name in listed)
        known = self._gateways.get(asked)
        if known is None:
            settings = self._settings
            if asked and settings.account is None:
                settings = replace(
                    settings, providers=(*asked, *(one for one in settings.providers if one not in asked))
                )
            forwarder = Forwarder(
                source=self._broker,
                settings=settings,
                keys=self._key,
                router=self._router,
                upstreams=self._upstreams,
                pool=self._pool,
                owners=self._owners,
            )
            known = self._gateways[asked] = Gateway(
                guard=self._guard,
                forwarder=forwarder,
                decision_log=self._decision_log,
                usage_log=self._usage_log,
                budgets=self._usage_log.budgets.book,
            )
        return known

    def _open_state(self) -> DecisionLog | None:
        """Share cooldowns and decisions with other processes. If that fails, serve without."""
        try:
            state = self._stack.enter_context(open_state(self._home))
            log = self._stack.enter_context(DecisionLog(state.decisions.add))
            self._stack.enter_context(cooldown_sync_of(self._pool, state, self._broker))
        except TokenferryError as fault:
            logger.warning("cooldowns and decisions are not shared with other processes: %s", fault)
            return None
        return log

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:  # noqa: BLE001  # it is raised where the gateway was asked for
            self._failure = fault
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._started.set()
        await self._stopping.wait()
        for call in tuple(self._calls):
            call.disconnect()
        await self._upstreams.aclose()
        for gateway in self._gateways.values():
            gateway.settle()
        # Wait for a grant in flight: losing its answer may lose the login.
        await asyncio.to_thread(self._broker.drain, _GRANT_SECONDS)
