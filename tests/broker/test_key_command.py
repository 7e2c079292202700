"""Keys that a command prints, as the broker and a gateway on it hand them out."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from gateway.rig import Source, answering, json_answer, running_gate, running_origin
from tokenferry import Broker
from tokenferry.accounts import KeyCommandSettings
from tokenferry.credentials import ApiKey
from tokenferry.errors import KeyCommandFailed
from tokenferry.providers import Provider
from tokenferry.secret import HiddenBytes, Secret
from tokenferry.settings import RefreshSettings, RouterSettings
from tokenferry.stores import MemoryStore

pytestmark = pytest.mark.anyio

FIRST, SECOND = "sk-first-0123456789abcdef", "sk-second-0123456789abcdef"
REFUSED = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
MESSAGE = b'{"id":"msg_1","type":"message","content":[],"usage":{"input_tokens":1,"output_tokens":2}}'


class Vault:
    """What the accounts' commands print next, and which threads ran them."""

    def __init__(self) -> None:
        self.prints: dict[str, list[str | int]] = {}
        self.threads: list[threading.Thread] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, argv: Sequence[str], _: float) -> tuple[int | None, HiddenBytes]:
        self.gate.wait(10)
        self.threads.append(threading.current_thread())
        left = self.prints[argv[0]]
        result = left.pop(0) if len(left) > 1 else left[0]
        return (0, HiddenBytes(result.encode())) if isinstance(result, str) else (result, HiddenBytes())


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    found = Vault()
    monkeypatch.setattr("tokenferry.accounts._key_command.run", found.run)
    return found


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broker_of(url: str, clock: Clock, *names: str, settings: RefreshSettings | None = None) -> Broker:
    commands = [KeyCommandSettings(name, "mine", (name,), 300.0) for name in names]
    providers = {"mine": Provider("mine", "mine", url)}
    return Broker(store=MemoryStore(), providers=providers, sources=commands, settings=settings, now=clock)


@pytest.fixture
def broker(vault: Vault, clock: Clock) -> Broker:
    vault.prints = {"a": [FIRST, SECOND]}
    return broker_of("https://llm.example.com", clock, "a")


def value(credential: Any) -> str:
    assert isinstance(credential, ApiKey)
    return credential.secret.reveal()


async def test_it_is_run_off_the_loop_once_for_all_and_then_at_hand(broker: Broker, vault: Vault, clock: Clock) -> None:
    vault.gate.clear()
    asked = [asyncio.ensure_future(broker.aresolve("a")) for _ in range(100)]
    async with asyncio.timeout(10):  # behind all of these: none of them keeps a thread while it waits
        await asyncio.to_thread(lambda: None)
    assert broker.fresh("a") is None
    vault.gate.set()
    assert {value(one) for one in await asyncio.gather(*asked)} == {FIRST}
    assert [thread.name for thread in vault.threads] == ["tokenferry-key-a"]
    assert value(broker.fresh("a")) == FIRST
    clock.now += 300
    assert broker.fresh("a") is None
    assert value(await broker.aresolve("a")) == SECOND


async def test_a_run_that_takes_too_long_keeps_no_thread_waiting(vault: Vault, clock: Clock) -> None:
    vault.prints = {"a": [FIRST]}
    impatient = RefreshSettings(wait=0.05)
    broker = await asyncio.to_thread(broker_of, "https://llm.example.com", clock, "a", settings=impatient)
    vault.gate.clear()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(KeyCommandFailed, match="its command is still running"):
                await broker.aresolve("a")
    finally:
        vault.gate.set()


async def test_a_refused_key_is_printed_again(broker: Broker) -> None:
    assert value(await broker.aresolve("a")) == FIRST
    assert value(await broker.aresolve("a", refused=Secret(FIRST))) == SECOND
    assert value(broker.resolve("a")) == SECOND


async def test_a_failure_is_raised_and_the_account_is_listed_all_the_same(broker: Broker, vault: Vault) -> None:
    vault.prints["a"] = [3]
    with pytest.raises(KeyCommandFailed, match="exit code 3"):
        await broker.aresolve("a")
    assert [account.name for account in broker.accounts()] == ["a"]


async def test_a_gateway_asks_again_for_a_refused_key_and_passes_over_one_that_fails(
    vault: Vault, clock: Clock
) -> None:
    vault.prints = {"a": [1], "b": [FIRST, SECOND]}
    refusal = answering(
        b"HTTP/1.1 401 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REFUSED) + REFUSED
    )
    async with running_origin() as origin:
        origin.scripts = [refusal, json_answer(MESSAGE)]
        source = cast("Source", await asyncio.to_thread(broker_of, origin.url, clock, "a", "b"))
        async with running_gate(source, settings=RouterSettings(providers=("mine",))) as gate:
            body = b'{"model":"claude-x","max_tokens":9,"messages":[]}'
            reply = await gate.call(b"/v1/messages", [(b"anthropic-version", b"2023-06-01")], body)
    assert reply.status == 200, reply.body
    assert [seen.all(b"x-api-key") for seen in origin.seen] == [[FIRST.encode()], [SECOND.encode()]]
