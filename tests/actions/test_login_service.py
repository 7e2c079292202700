"""What a login's errors let be seen, and what its verifier is made of."""

import contextlib
import dataclasses
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from admin.rig import code_of
from leaks import leaks, shows
from tokenferry.actions import ActionContext, LoginService
from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.errors import LoginFailed, StorageFailed, TokenferryError, TryLater, UsageError
from tokenferry.oauth import HttpOutcome, NotSent, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import ClientKey, State


@dataclass
class Desk:
    parts: ActionContext
    key: ClientKey
    sent: list[bytes]
    reply: Callable[[TokenRequest], HttpOutcome] | None = None

    def make(self, **changes: Any) -> LoginService:
        parts = dataclasses.replace(self.parts, **changes)  # noqa: TID251  # it has a field that is made
        return LoginService(parts, send=self.send)

    def send(self, request: TokenRequest, timeout: float) -> HttpOutcome:
        self.sent.append(request.body)
        return send(request, timeout) if self.reply is None else self.reply(request)


@pytest.fixture
def desk(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Desk]:
    home.config.write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{tokenferry_sandbox.url}"\n')
    home.config.chmod(0o600)
    broker = Broker.from_home(home, load(home.config))
    with State(home.state) as state:
        key, _ = state.keys.create("boss", role="admin")
        parts = ActionContext(home, broker, state, Secret(secrets.token_urlsafe(32)))
        yield Desk(parts, key, [])
    broker.drain(20)


def verifier_of(sent: bytes) -> str:
    verifier: str = json.loads(sent)["code_verifier"]
    return verifier


def test_any_desk_with_the_same_secret_finishes_a_login_and_no_other(desk: Desk) -> None:
    first, second = desk.make(), desk.make()
    code = Secret(code_of(first.begin("sandbox", desk.key).url))
    assert second.exchange(code, "work", desk.key).name == "work"
    code = Secret(code_of(first.begin("sandbox", desk.key).url))
    with pytest.raises(LoginFailed, match="before this gateway was started"):
        desk.make(secret=Secret("another-gateways-own")).exchange(code, "work", desk.key)


def test_each_login_has_a_verifier_of_its_own_which_its_state_does_not_tell(desk: Desk) -> None:
    made = desk.make()
    states = []
    handles = []
    for _ in range(3):
        begun = made.begin("sandbox", desk.key)
        handles.append(begun.handle.reveal())
        states.append(begun.state.reveal())
        made.exchange(Secret(code_of(begun.url)), "work", desk.key)
    verifiers = [verifier_of(body) for body in desk.sent]
    assert len({*states, *verifiers, *handles}) == 9
    assert not any(shows(verifier, handle) or shows(handle, verifier) for verifier in verifiers for handle in handles)
    assert all(len(verifier) == 43 for verifier in verifiers)
    other = desk.make(secret=Secret("another-gateways-own"))
    assert {other._verifier(Secret(state)).reveal() for state in states}.isdisjoint(verifiers)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (NotSent("no way there"), TryLater),
        (TokenResponseLost("it broke"), LoginFailed),
        (TokenResponse(500, {}, b"SECRETS"), TryLater),
        (TokenResponse(400, {}, b'{"error": "invalid_grant", "error_description": "SECRETS"}'), LoginFailed),
        (TokenResponse(200, {}, b'{"access_token": "two words"}'), LoginFailed),
    ],
)
def test_no_error_of_an_exchange_shows_code_state_or_verifier(
    desk: Desk, reply: HttpOutcome, kind: type[TokenferryError]
) -> None:
    begun = desk.make().begin("sandbox", desk.key)
    pasted = code_of(begun.url)

    def answer(request: TokenRequest) -> HttpOutcome:
        told = f"{pasted} {verifier_of(request.body)}".encode()
        return replace(reply, body=reply.body.replace(b"SECRETS", told)) if isinstance(reply, TokenResponse) else reply

    desk.reply = answer
    with pytest.raises(kind) as caught:
        desk.make().exchange(Secret(pasted), "work", desk.key)
    assert not leaks(caught.value, *pasted.split("#"), verifier_of(desk.sent[0]))
    assert not shows(repr(begun), *pasted.split("#"))


@pytest.mark.parametrize("name", ["a b", "work"])
def test_no_error_before_the_exchange_shows_them_either(desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = code_of(desk.make().begin("sandbox", desk.key).url)
    if name == "work":
        desk.parts.logins._database.close()
    with pytest.raises((UsageError, StorageFailed)) as caught:
        desk.make().exchange(Secret(pasted), name, desk.key)
    assert not leaks(caught.value, *pasted.split("#"))


def test_a_login_that_is_stored_nowhere_is_ended_at_the_provider(
    desk: Desk, tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(desk.parts.broker, "add", full)
    pasted = Secret(code_of(desk.make().begin("sandbox", desk.key).url))
    with pytest.raises(StorageFailed, match="full"):
        desk.make().exchange(pasted, "work", desk.key)
    assert tokenferry_sandbox.counters()["accounts"]["alice"]["revocations"] == 1


def test_two_logins_of_one_person_at_once_become_one_account(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk.make()
    codes = [Secret(code_of(made.begin("sandbox", desk.key).url)) for _ in range(2)]
    add, met = desk.parts.broker.add, threading.Barrier(2)

    def add_together(*arguments: Any, **options: Any) -> bool:
        if not met.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                met.wait(20)  # both have looked by now, and found nobody
                met.abort()
        return add(*arguments, **options)

    monkeypatch.setattr(desk.parts.broker, "add", add_together)
    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(lambda code: made.exchange(code, "work", desk.key), codes))
    assert [one.name for one in kept] == ["work", "work"]
    assert sorted(one.is_known for one in kept) == [False, True]


def test_who_ends_waits_for_a_login_that_is_being_stored(desk: Desk) -> None:
    asked, go = threading.Event(), threading.Event()

    def slowly(request: TokenRequest) -> HttpOutcome:
        asked.set()
        assert go.wait(20)
        return send(request, 20)

    desk.reply = slowly
    made = desk.make()
    assert made.drain(0)
    pasted = Secret(code_of(made.begin("sandbox", desk.key).url))
    thread = threading.Thread(target=made.exchange, args=(pasted, "work", desk.key))
    thread.start()
    assert asked.wait(20)
    assert not made.drain(0.01)
    go.set()
    assert made.drain(20)
    assert desk.parts.broker.book.store.names() == ["work"]
    thread.join()


def test_without_an_address_for_a_browser_a_provider_that_shows_no_code_is_refused(desk: Desk, home: Home) -> None:
    text = home.config.read_text()
    url = text.partition('base_url = "')[2].partition('"')[0]
    home.config.write_text(
        f'{text}\n[[providers]]\nname = "idp"\nbase_url = "{url}"\nauth_type = "oauth"\n\n'
        f'[providers.oauth]\nissuer = "{url}"\nclient_id = "idp"\n'
    )
    broker = Broker.from_home(home, load(home.config))
    with pytest.raises(UsageError, match="tokenferry login --provider idp"):
        desk.make(broker_source=broker, urls=("the Unix socket /x",)).begin("idp", desk.key)
    assert desk.make(broker_source=broker, urls=("http://127.0.0.1:1",)).begin("idp", desk.key).login_url is None
