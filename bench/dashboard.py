"""Time and CPU of each dashboard view on the server, with 200 accounts and a million requests."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenferry.actions import ActionContext, LoginService
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.dashboard import make_dashboard
from tokenferry.ledger import Ledger, LedgerEntry, WindowPoint
from tokenferry.prices import PriceTable
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import State
from tokenferry.stores import Account

_ACCOUNTS = 200
_ROWS = 1_000_000
_DAYS = 90
_TIMES = 20
_ORIGIN = "http://tf-bench.localhost"
_MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5", "claude-opus-4-6", "claude-sonnet-4-6")
_ERRORS = ((429, "rate_limit_error"), (529, "overloaded_error"), (502, "upstream_error"))
_VIEWS = (
    "/",
    "/accounts",
    "/accounts/account017",
    "/traffic",
    "/traffic?range=1h",
    "/traffic?range=7d&by=model&of=cost",
    "/traffic?range=90d",
    "/traffic?range=90d&account=account017&sort=ms",
    "/traffic?range=90d&status=failed",
    "/traffic?range=90d&status=slow",
    "/traffic?range=90d&order=up",
    "/traffic?range=90d&account=account017&order=up",
    "/traffic?range=90d&shows=sessions&sessions=cost",
    "/traffic?range=90d&shows=sessions",
    f"/traffic/sessions/session-{_ROWS // 2000 * 40 - 10}",
    "/routing",
    "/keys",
    "/settings",
    "/traffic.csv?range=90d",
)


def _entries(now: float, draw: random.Random) -> Iterator[LedgerEntry]:
    """Forty conversations at a time, of fifty requests each; a key uses five of the accounts."""
    for number in range(_ROWS):
        session = number // 2000 * 40 + number % 40
        status, error = draw.choice(_ERRORS) if draw.random() < 0.02 else (200, "")
        yield LedgerEntry(
            key_id=f"key_{session % 40}",
            key_name=f"key{session % 40}",
            account=f"account{session % 40 * 5 + session // 40 % 5:03}",
            provider="anthropic",
            asked=_MODELS[session // 7 % 5],
            model=_MODELS[session // 7 % 5],
            session=f"session-{session}",
            error=error,
            status=status,
            request_id=f"tf_{draw.randbytes(12).hex()}",
            attempts=1,
            input=draw.randrange(2000),
            output=draw.randrange(1500),
            cache_read=draw.randrange(150_000),
            billing="plan" if session % 2 else "metered",
            at=now - _DAYS * 86_400 * (1 - number / _ROWS),
            first_byte=draw.random() * 3,
            duration=draw.random() * 40,
        )


def _fill(home: Home, broker: Broker, state: State) -> None:
    now, draw = time.time(), random.Random(1)
    names = [f"account{number:03}" for number in range(_ACCOUNTS)]
    for number, name in enumerate(names):
        token = OAuthToken(Secret(f"fake-{name}"), Secret(f"fake-refresh-{name}"), expires_at=int(now) + 5000)
        credential = token if number % 2 else ApiKey(Secret(f"sk-ant-api03-{name}"))
        provider = "console" if number % 2 else "anthropic"
        broker.add(Account(name, provider, credential.kind, created_at=number + 1), credential)
    for number in range(40):
        state.keys.create(f"key{number}")
    points = [WindowPoint(name, "5h", now - 60, draw.random(), now + 7200) for name in names]
    with Ledger(home.ledger) as ledger:
        batch: list[LedgerEntry] = []
        for entry in _entries(now, draw):
            batch.append(entry)
            if len(batch) == 5000:
                ledger.write(batch, PriceTable({"anthropic": "https://api.anthropic.com"}), points)
                batch, points = [], []


async def _ask(application: Any, path: str, cookie: bytes) -> int:
    """Request a page as a signed-in browser does; give its size."""
    plain, _, query = path.partition("?")
    raw = f"/dashboard{plain}"
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "root_path": "",
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "headers": [(b"host", b"tf-bench.localhost"), (b"cookie", cookie)],
        "state": {"origin": _ORIGIN},
    }
    status, size = 0, 0

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, size
        status = message.get("status", status)
        size += len(message.get("body", b""))

    await application(scope, receive, send)
    assert status == 200, (path, status)
    return size


async def _measure(home: Home, broker: Broker, state: State) -> None:
    context = ActionContext(home, broker, state, Secret("bench"))
    _, secret = state.sessions.begin(name="bench", role="admin", way="command", address="")
    cookie = f"tf_session={secret.reveal()}".encode()
    started = time.process_time()
    application = make_dashboard(context, LoginService(context))
    await _ask(application, "/settings", cookie)
    print(f"{'first page, imports included':52}{(time.process_time() - started) * 1000:8.1f} ms of CPU")
    for path in _VIEWS:
        taken, used, size = [], [], 0
        for _ in range(_TIMES):
            clock, cpu = time.perf_counter(), time.process_time()
            size = await _ask(application, path, cookie)
            taken.append((time.perf_counter() - clock) * 1000)
            used.append((time.process_time() - cpu) * 1000)
        last = int(0.95 * _TIMES) - 1
        figures = f"{sorted(taken)[last]:8.1f} ms (p95){sorted(used)[last]:8.1f} ms of CPU{size / 1024:8.0f} kB"
        print(f"{path:52}{figures}")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tokenferry-bench-"))
    try:
        home = Home(folder)
        broker = Broker.from_home(home)
        with State(home.state) as state:
            _fill(home, broker, state)
            asyncio.run(_measure(home, broker, state))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
