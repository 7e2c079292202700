"""A gateway under test: a scripted upstream on one side, a client that shows bytes on the other, a source between."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import httptools

from tokenferry.accounts import AccountList
from tokenferry.broker import ForcedRenewals
from tokenferry.budgets import BudgetBook
from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.gateway import (
    AccessLog,
    BaseLifespan,
    BodyBudget,
    DecisionLog,
    EphemeralKey,
    Forwarder,
    Gateway,
    Guard,
    KeyRing,
    Metrics,
    Server,
    UpstreamClients,
    UsageLog,
    bind,
    own_hosts,
)
from tokenferry.gateway.auth.rate_limit import BadKeys
from tokenferry.gateway.control.control_plane import Control
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.pool import Pool
from tokenferry.providers import Provider
from tokenferry.refresh import RefreshStatistics
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import RouterSettings
from tokenferry.stores import Account
from tokenferry.upstream import Timeouts
from tokenferry.wire import load_codecs

load_codecs()  # as serve does, before requests come

Headers = list[tuple[bytes, bytes]]
PATIENCE = 20.0


@dataclass
class Seen:
    """A request as the upstream received it."""

    method: str
    target: bytes
    headers: Headers
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class _Collector:
    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.body: list[bytes] = []
        self.head_done = self.done = False
        self.reason = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head_done = True

    def on_body(self, part: bytes) -> None:
        self.body.append(part)

    def on_message_complete(self) -> None:
        self.done = True


Script = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(raw: bytes) -> Script:
    """A script that writes these bytes and closes the connection."""

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return script


def json_answer(body: bytes = b'{"ok":true}', *, status: int = 200, headers: Iterable[bytes] = ()) -> Script:
    lines = [b"HTTP/1.1 %d X" % status, b"content-type: application/json", b"content-length: %d" % len(body), *headers]
    return answering(b"\r\n".join([*lines, b"", b""]) + body)


class Origin:
    """An upstream that answers each request by the next script, the last one for good."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [json_answer()]
        self.seen: list[Seen] = []
        self.url = ""
        self.lost = asyncio.Event()
        """Set when a peer has closed its connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            collector = _Collector()
            parser = httptools.HttpRequestParser(collector)
            while not collector.done:
                data = await reader.read(1 << 20)
                if not data:
                    return
                parser.feed_data(data)
            method = parser.get_method().decode()
            seen = Seen(method, collector.target, collector.headers, b"".join(collector.body))
            self.seen.append(seen)
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            await script(seen, reader, writer)
        writer.close()


@contextlib.asynccontextmanager
async def running_origin() -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, limit=1 << 20)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()


async def queued(pool: Pool) -> None:
    """Wait until a request waits for a place."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if pool.waiting:
                return
            await asyncio.sleep(0.01)


class Source:
    """Accounts and what each resolves to next: a credential or a fault."""

    def __init__(self, providers: Iterable[Provider] = (), accounts: Iterable[Account] = ()) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self.known = list(accounts)
        self.results: dict[str, list[Credential | TokenferryError]] = {}
        self.invalidated: list[tuple[str, Secret]] = []
        self.renewed: list[tuple[str, Secret]] = []
        """What another credential was asked for, since it was refused."""
        self.is_warm = True
        """Whether credentials are at hand; faults never are."""
        self.default_provider: str | None = None
        self._listing = AccountList((), {})

    def accounts(self) -> list[Account]:
        return list(self.known)

    def listing(self) -> AccountList:
        if self._listing.accounts != tuple(self.known):
            if self.default_provider is None and self.known:
                self.default_provider = self.known[0].provider
            self._listing = AccountList(tuple(self.known), {}, default_provider=self.default_provider)
        return self._listing

    def fresh(self, name: str) -> Credential | None:
        results = self.results[name]
        if not self.is_warm or isinstance(results[0], TokenferryError):
            return None
        result = results.pop(0) if len(results) > 1 else results[0]
        assert not isinstance(result, TokenferryError)
        return result

    async def aresolve(self, name: str | None = None, *, refused: Secret | None = None) -> Credential:
        assert name is not None
        if refused is not None:
            self.renewed.append((name, refused))
        results = self.results[name]
        result = results.pop(0) if len(results) > 1 else results[0]
        if isinstance(result, TokenferryError):
            raise result
        return result

    def invalidate(self, name: str, secret: Secret) -> None:
        self.invalidated.append((name, secret))

    def forced_renewals(self, name: str) -> ForcedRenewals:
        return ForcedRenewals(granted=2, capped=1)

    def statistics(self, name: str) -> RefreshStatistics:
        return RefreshStatistics(grants=3, failures={"refresh_failed": 1})


class Records(AccessLog):
    """Keeps what would be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], None] = lambda: None
        self._all: list[RequestRecord] = []
        self._added = asyncio.Event()

    @property
    def all(self) -> list[RequestRecord]:
        """Those of every request that has ended by now."""
        self.settle()
        return self._all

    def add(self, *records: RequestRecord) -> None:
        self._all += records
        self._added.set()

    async def last(self, count: int = 1) -> RequestRecord:
        """The latest record, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.all) < count:
                self._added.clear()
                await self._added.wait()
        return self.all[-1]


def token(value: str) -> OAuthToken:
    return OAuthToken(Secret(f"sk-ant-oat01-{value}"))


def api_key(value: str = "one") -> ApiKey:
    return ApiKey(Secret(f"sk-ant-api03-{value}"))


def error_of(body: bytes) -> dict[str, str]:
    """The error in an Anthropic envelope of ours."""
    document = json.loads(body)
    assert document["type"] == "error"
    assert document["request_id"].startswith("tf_")
    error: dict[str, str] = document["error"]
    return error


def one_account(base_url: str, *results: Credential | TokenferryError) -> Source:
    """A source with the account `alice` of provider `fake`."""
    results = results or (api_key(),)
    kind = "oauth" if isinstance(results[0], TokenferryError) else results[0].kind
    source = Source([Provider("fake", "fake", base_url)], [Account("alice", "fake", kind)])
    source.results["alice"] = list(results)
    return source


@dataclass
class Reply:
    """An answer as the client received it; `complete` by its own framing."""

    status: int
    headers: Headers
    body: bytes
    complete: bool

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@dataclass
class Gate:
    """A gateway that runs in this event loop."""

    port: int
    gateway: Gateway
    listener: Server
    upstreams: UpstreamClients
    records: Records
    key: bytes = field(repr=False)

    @property
    def host(self) -> bytes:
        return b"127.0.0.1:%d" % self.port

    def head(
        self,
        target: bytes = b"/v1/messages",
        headers: Headers | None = None,
        *,
        method: bytes = b"POST",
        length: int = 0,
    ) -> bytes:
        given = dict(headers or [])
        lines = [b"%b %b HTTP/1.1" % (method, target)]
        if b"host" not in given:
            lines.append(b"host: " + self.host)
        if not {b"authorization", b"x-api-key"} & set(given):
            lines.append(b"authorization: Bearer " + self.key)
        if target.startswith(b"/v1/models") and b"anthropic-version" not in given:
            lines.append(b"anthropic-version: 2023-06-01")  # each client of that API sends it
        if method == b"POST":
            if b"content-type" not in given:
                lines.append(b"content-type: application/json")
            if not {b"content-length", b"transfer-encoding"} & set(given):
                lines.append(b"content-length: %d" % length)
        lines += [b"%b: %b" % header for header in headers or []]
        return b"\r\n".join([*lines, b"", b""])

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection whose reads must end in time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            async with asyncio.timeout(PATIENCE):
                yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def call(
        self,
        target: bytes = b"/v1/messages",
        headers: Headers | None = None,
        body: bytes = b"{}",
        *,
        method: bytes = b"POST",
    ) -> Reply:
        body = body if method == b"POST" else b""
        return await self.raw(self.head(target, headers, method=method, length=len(body)) + body, method=method)

    async def raw(self, *pieces: bytes, method: bytes = b"POST") -> Reply:
        async with self.open() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await read_reply(reader, method=method)


async def read_rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, in whichever way."""
    rest = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            rest += data
    return rest


async def read_reply(reader: asyncio.StreamReader, *, method: bytes = b"POST") -> Reply:
    """Read one answer, to its end or that of the connection."""
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    async with asyncio.timeout(PATIENCE):
        while not collector.done and not (collector.head_done and method == b"HEAD"):
            try:
                data = await reader.read(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                break
            parser.feed_data(data)
    if not collector.head_done:
        return Reply(0, [], b"", complete=False)
    return Reply(parser.get_status_code(), collector.headers, b"".join(collector.body), complete=collector.done)


class _RigLifespan(BaseLifespan):
    def __init__(self, running: asyncio.Event, upstreams: UpstreamClients, tell: Callable[[str], None]) -> None:
        self._running = running
        self._upstreams = upstreams
        self._tell = tell

    async def started(self) -> None:
        self._running.set()

    def tell(self, line: str) -> None:
        self._tell(line)

    async def finish(self) -> None:
        await self._upstreams.aclose()


@contextlib.asynccontextmanager
async def running_gate(
    source: Source,
    *,
    settings: RouterSettings | None = None,
    keys: KeyRing | None = None,
    key: str = "",
    allowed_hosts: tuple[str, ...] = (),
    timeouts: Timeouts | None = None,
    upstreams: UpstreamClients | None = None,
    body_limit: int = 32 << 20,
    budget: BodyBudget | None = None,
    budgets: BudgetBook | None = None,
    decision_log: DecisionLog | None = None,
    usage_log: UsageLog | None = None,
    pool: Pool | None = None,
    router: Router | None = None,
    control: Control | None = None,
    bad_keys: BadKeys | None = None,
    sock: socket.socket | None = None,
    connections: int = 900,
    drain: float = 0.0,
    tls: ssl.SSLContext | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Gate]:
    sock = sock or bind("127.0.0.1", 0)
    port = 0 if sock.family == socket.AF_UNIX else sock.getsockname()[1]
    if keys is None:
        keys = one_off = EphemeralKey()
        key = one_off.secret.reveal()
    upstreams = upstreams or UpstreamClients(timeouts=timeouts)
    records = Records()
    gateway = Gateway(
        guard=Guard(keys, own_hosts("127.0.0.1", port, allowed_hosts), bad_keys=bad_keys),
        forwarder=Forwarder(
            source=source,
            settings=settings or RouterSettings(),
            keys=keys,
            upstreams=upstreams,
            pool=pool,
            router=router,
        ),
        access_log=records,
        metrics=Metrics(source, upstreams, states=lambda: {"alice": "fresh"}),
        decision_log=decision_log,
        usage_log=usage_log,
        control=control,
        body_limit=body_limit,
        budget=budget,
        budgets=budgets,
    )
    records.settle = gateway.settle
    running = asyncio.Event()

    listener = Server(
        gateway,
        [sock],
        lifespan=_RigLifespan(running, upstreams, tell),
        drain=drain,
        tls=tls,
        connections=connections,
    )
    serving = asyncio.create_task(listener.serve())
    try:
        async with asyncio.timeout(PATIENCE):
            await running.wait()
        yield Gate(port, gateway, listener, upstreams, records, key.encode())
    finally:
        listener.stop()
        await serving
