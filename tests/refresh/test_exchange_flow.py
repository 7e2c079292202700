"""What each outcome of a workload's exchange leads to, over real files and between brokers that share them."""

import errno
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from refresh.rig import LIFETIME, NAME, PATIENCE, PROVIDERS, START, Rig, answer, document, put, value, wait_for
from tokenferry.broker import Broker
from tokenferry.credentials import FederatedToken, Federation
from tokenferry.errors import CredentialRefused, RefreshBusy, RefreshFailed
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenRequest, TokenResponseLost
from tokenferry.refresh import FileJournal, RefreshAttempt, RefreshRequest
from tokenferry.refresh import _exchange_flow as flow
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Disk, FileLock, FileStore, ProcessIdentity


class Exchanges:
    """A token endpoint of workloads: it notes what is presented, and answers as scripted, else with a token."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.presented: list[str] = []
        self.script: list[HttpOutcome] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(
        self, request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None
    ) -> HttpOutcome:
        assert timeout > 0
        self.presented.append(json.loads(request.body)["assertion"])
        number = len(self.presented)
        assert self.gate.wait(PATIENCE)
        if self.script:
            return self.script.pop(0)
        return answer(200, access_token=f"access-{number}", refresh_token="never-kept", expires_in=LIFETIME)


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_REPUBLISH_EVERY", 0.02)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity"
    path.write_text("identity-1\n")
    return path


@pytest.fixture
def exchanges(rig: Rig) -> Iterator[Exchanges]:
    exchanges = Exchanges(rig)
    yield exchanges
    exchanges.gate.set()


@pytest.fixture
def federated(identity: Path) -> FederatedToken:
    """A token that has expired."""
    federation = Federation(str(identity))
    return FederatedToken(Secret("access-0"), expires_at=int(START) - 10, lifetime=LIFETIME, federation=federation)


def store(rig: Rig, token: FederatedToken) -> None:
    put(rig.store, document(token, kind="federated"))


def stored(rig: Rig) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((rig.home.accounts / f"{NAME}.json").read_text())
    credential: dict[str, Any] = data["credential"]
    return credential


def broker(rig: Rig, exchanges: Exchanges, **given: Any) -> Broker:
    return rig.broker(send=exchanges, **given)


def test_one_exchange_serves_every_broker_until_the_token_is_used_up(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken
) -> None:
    store(rig, federated)
    brokers = [broker(rig, exchanges) for _ in range(4)]
    given: list[str] = []
    exchanges.gate.clear()
    threads = [threading.Thread(target=lambda one=one: given.append(value(one.resolve(NAME)))) for one in brokers * 3]
    for thread in threads:
        thread.start()
    wait_for(lambda: exchanges.presented)
    exchanges.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert given == ["access-1"] * 12
    assert exchanges.presented == ["identity-1"]
    assert sum(one.statistics(NAME).grants for one in brokers) == 1
    rig.clock.advance(LIFETIME - 100)
    assert value(brokers[0].resolve(NAME)) == "access-1"  # in the advisory window: another one is got meanwhile
    wait_for(lambda: stored(rig)["access_token"] == "access-2")
    assert "refresh_token" not in stored(rig)
    assert stored(rig)["identity_token_file"] == federated.federation.file


def test_the_identity_token_is_read_again_for_each_exchange(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, identity: Path
) -> None:
    store(rig, federated)
    one = broker(rig, exchanges)
    one.resolve(NAME)
    identity.write_text("identity-2")
    one.refresh(NAME)
    assert exchanges.presented == ["identity-1", "identity-2"]


def test_nothing_is_journalled_and_what_an_earlier_login_left_is_forgotten(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, home: Home
) -> None:
    store(rig, federated)
    journal = FileJournal(home.journal)
    journal.begin(NAME, RefreshAttempt.begin("f" * 64, START, ProcessIdentity.own(), 1))
    seen: list[bool] = []

    def look(request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        seen.append((home.journal / f"{NAME}.attempt").exists())
        return exchanges(request, timeout)

    rig.broker(send=look).resolve(NAME)
    assert seen == [False]


@pytest.mark.parametrize(
    "outcome",
    [
        NotSent("no route"),
        TokenResponseLost("cut"),
        answer(401, error="invalid_grant"),
        answer(503),
        answer(200, nothing=1),
    ],
    ids=["not sent", "lost", "invalid_grant", "503", "unreadable"],
)
def test_what_gave_nothing_is_tried_again_after_a_back_off_that_all_share(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, outcome: Any
) -> None:
    store(rig, federated)
    exchanges.script.append(outcome)
    first, second = broker(rig, exchanges), broker(rig, exchanges)
    for one in (first, second, first):
        with pytest.raises(RefreshFailed, match=r"the next try is in 1 s"):
            one.resolve(NAME)
    assert exchanges.presented == ["identity-1"]
    rig.clock.advance(1.5)
    assert value(second.resolve(NAME)) == "access-2"
    assert first.journal.failure(NAME) is None


def test_a_better_identity_token_is_tried_at_once(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, identity: Path
) -> None:
    store(rig, federated)
    exchanges.script.append(answer(401, {"retry-after": "600"}, error="invalid_grant"))
    one = broker(rig, exchanges)
    for _ in range(2):
        with pytest.raises(RefreshFailed, match=r"HTTP 401 \(invalid_grant\); the next try is in 600 s"):
            one.resolve(NAME)
    identity.write_text("identity-2")
    assert value(one.resolve(NAME)) == "access-2"


def test_the_present_token_is_used_while_it_lives(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, identity: Path
) -> None:
    store(rig, replace(federated, expires_at=int(START) + 20))
    identity.unlink()
    one = broker(rig, exchanges)
    assert value(one.resolve(NAME)) == "access-0"
    rig.clock.advance(30)
    with pytest.raises(RefreshFailed, match=r"identity can't be read \(No such file or directory\)"):
        one.resolve(NAME)
    assert not exchanges.presented
    assert one.journal.failure(NAME) is None  # it says nothing about what others could read


def test_a_refused_token_is_replaced_once_and_one_just_granted_is_not(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken
) -> None:
    store(rig, replace(federated, expires_at=int(START) + LIFETIME))
    one = broker(rig, exchanges)
    one.invalidate(NAME, one.resolve(NAME).secret)
    assert value(one.resolve(NAME)) == "access-1"
    one.invalidate(NAME, Secret("access-1"))
    with pytest.raises(CredentialRefused, match="refuses a token it granted 0 seconds ago"):
        one.resolve(NAME)
    assert len(exchanges.presented) == 1
    rig.clock.advance(61)
    assert value(one.resolve(NAME)) == "access-2"


def test_who_can_not_have_the_lock_names_who_has_it(rig: Rig, exchanges: Exchanges, federated: FederatedToken) -> None:
    store(rig, federated)
    settings = replace(rig.broker().settings, wait=0.2)
    with rig.store.exclusive(NAME, PATIENCE), pytest.raises(RefreshBusy, match="is exchanging its identity token"):
        broker(rig, exchanges, settings=settings).resolve(NAME)
    assert not exchanges.presented


class FullDisk(Disk):
    """A disk that takes no new file while it is full."""

    is_full = False
    refusals = 0

    def create(self, path: Path) -> int:
        if self.is_full and path.parent.name == "accounts":
            self.refusals += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)


def test_on_a_full_disk_one_exchange_serves_from_memory_until_it_is_written(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    store(rig, federated)
    disk = FullDisk()
    disk.is_full = True
    one = broker(rig, exchanges, store=FileStore(home, disk=disk))
    assert [value(one.resolve(NAME)) for _ in range(3)] == ["access-1"] * 3
    assert stored(rig)["access_token"] == "access-0"
    wait_for(lambda: disk.refusals > 2)
    disk.is_full = False
    wait_for(lambda: stored(rig)["access_token"] == "access-1")
    assert len(exchanges.presented) == 1
    assert caplog.text.count("its token is served from memory until it can be written") == 1


@pytest.mark.parametrize("is_used_up", [False, True])
def test_a_full_disk_outlasts_neither_the_process_nor_the_token(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, home: Home, *, is_used_up: bool
) -> None:
    store(rig, federated)
    disk = FullDisk()
    disk.is_full = True
    one = broker(rig, exchanges, store=FileStore(home, disk=disk))
    assert value(one.resolve(NAME)) == "access-1"
    if is_used_up:
        rig.clock.advance(LIFETIME - one.settings.mandatory)
        wait_for(lambda: not one._engine.in_flight())
    else:
        assert one.drain(PATIENCE)
    assert one.statistics(NAME).grants == 1
    assert stored(rig)["access_token"] == "access-0"


@pytest.mark.parametrize(
    ("oauth", "url"),
    [
        (OAuthEndpoints(federation_url="https://auth.invalid/federation"), "https://auth.invalid/federation"),
        (OAuthEndpoints(token_endpoint="https://auth.invalid/token"), "https://auth.invalid/token"),
        (OAuthEndpoints(), None),
    ],
)
def test_a_workload_needs_an_endpoint_of_its_provider(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, oauth: OAuthEndpoints, url: str | None
) -> None:
    store(rig, federated)
    asked: list[str] = []

    def send(request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        asked.append(request.url)
        return exchanges(request, timeout)

    one = rig.broker(send=send, providers={"fake": replace(PROVIDERS["fake"], oauth=oauth)})
    flight = one._engine.start(RefreshRequest(NAME))
    if url is None:
        with pytest.raises(RefreshFailed, match=r"declares no federation_url .* under \[providers.oauth\]"):
            flight.future.result(PATIENCE)
    else:
        assert flight.future.result(PATIENCE).document == rig.store.read(NAME)
    assert asked == ([] if url is None else [url])


def test_what_another_program_put_there_since_is_never_overwritten(
    rig: Rig, exchanges: Exchanges, federated: FederatedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(rig, federated)
    other = replace(federated, secret=Secret("access-other"), expires_at=int(START) + LIFETIME)

    def meddle(request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        with monkeypatch.context() as patch:
            patch.setattr(FileLock, "acquire", lambda *_: None)
            patch.setattr(FileLock, "release", lambda *_: None)
            store(rig, other)
        return exchanges(request, timeout)

    one = rig.broker(send=meddle)
    assert value(one.resolve(NAME)) == "access-other"
    assert (one.statistics(NAME).adopted, one.statistics(NAME).grants) == (1, 0)
    assert stored(rig)["access_token"] == "access-other"
