"""A warm `Broker.resolve`, compared with what other libraries do before each request: `python -m bench resolve`."""

import gc
import logging
import tempfile
import time
import timeit
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

from anthropic.lib.credentials import AccessToken
from anthropic.lib.credentials._cache import TokenCache

import tokenferry
from tokenferry.accounts import machine_id
from tokenferry.broker import Broker
from tokenferry.credentials import OAuthToken
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore

CALLS: Final = 50_000
ROUNDS: Final = 15
OURS: Final = "Broker.resolve(name)"
THEIRS: Final = "anthropic: TokenCache.get_token()"


def make_broker(folder: Path) -> Broker:
    """A broker with one fresh fake login, in files of a home of its own."""
    home = Home(folder / "home")
    token = OAuthToken(Secret("fake-" + "a" * 100), Secret("fake-refresh"), expires_at=int(time.time()) + 28_800)
    document = Document(Account("bench", "sandbox", "oauth"), token, machine=machine_id())
    FileStore(home).swap("bench", None, document)
    return Broker(home=home)


def drive(make: Callable[[], object]) -> Callable[[], None]:
    """Run a coroutine that never waits, without a loop: the cost of an `await`."""

    def call() -> None:
        try:
            make().send(None)  # type: ignore[attr-defined]  # a coroutine
        except StopIteration:
            return

    return call


async def _never_asked_again(**_: bool) -> AccessToken:
    return AccessToken("fake", int(time.time()) + 28_800)


def google_valid() -> Callable[[], object] | None:
    """google-auth's check before each request; None if it isn't installed, because nothing here needs it."""
    try:
        module = import_module("google.oauth2.credentials")
    except ImportError:
        return None
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415  # see above

    expiry = (datetime.now(UTC) + timedelta(hours=8)).replace(tzinfo=None)
    credentials = module.Credentials("fake", expiry=expiry)
    return lambda: credentials.valid


def best(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The minimum seconds per call of each; runs alternate."""
    timers = {name: timeit.Timer("call()", globals={"call": call}) for name, call in calls.items()}
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            found[name] = min(found[name], timer.timeit(CALLS) / CALLS)
    return found


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        broker = make_broker(Path(folder))
        given = tokenferry.anthropic_credentials("bench", broker=broker)
        expires = int(time.time()) + 28_800
        cached = TokenCache(lambda **_: AccessToken("fake", expires))
        through = TokenCache(given)
        async_cached = TokenCache(_never_asked_again)
        drive(async_cached.async_get_token)()
        calls: dict[str, Callable[[], object]] = {
            OURS: lambda: broker.resolve("bench"),
            "Broker.aresolve(name)": drive(lambda: broker.aresolve("bench")),
            "anthropic_credentials()()": given,
            THEIRS: cached.get_token,
            "anthropic: TokenCache.async_get_token()": drive(async_cached.async_get_token),
            "the same over anthropic_credentials()": through.get_token,
        }
        if valid := google_valid():
            calls["google-auth: Credentials.valid"] = valid
        gc.disable()
        figures = best(calls)
        gc.enable()
        broker.drain(1)
    for name, seconds in figures.items():
        print(f"{name:40} {seconds * 1e9:8.0f} ns   {seconds / figures[THEIRS]:5.2f} x {THEIRS}")
    if "google-auth: Credentials.valid" not in figures:
        print("google-auth is not installed, so its Credentials.valid is not among them")


if __name__ == "__main__":
    main()
