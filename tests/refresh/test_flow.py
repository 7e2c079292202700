"""What each outcome of a grant leads to, over real files and between brokers that share them."""

import os
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from refresh.rig import (
    LIFETIME,
    NAME,
    PATIENCE,
    PROVIDERS,
    START,
    FullDisk,
    Rig,
    answer,
    document,
    put,
    token,
    value,
    wait_for,
)
from tokenferry.accounts import Accounts
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import (
    ChainCopied,
    CredentialRefused,
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    RefreshUncertain,
    StorageFailed,
)
from tokenferry.oauth import NotSent, TokenResponse
from tokenferry.refresh import FileJournal, RefreshAttempt, RefreshRequest, _driver
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home, RefreshSettings
from tokenferry.stores import Account, Document, FileLock, FileStore, ProcessIdentity, _process

pytestmark = pytest.mark.usefixtures("no_long_waits")

DEAD = answer(400, error="invalid_grant")


# -- nothing was granted


@pytest.mark.parametrize(
    "outcome",
    [NotSent("no route"), answer(429), answer(500), answer(503), answer(401, error="invalid_client"), answer(404)],
    ids=lambda outcome: str(getattr(outcome, "status", "not sent")),
)
def test_what_decided_nothing_is_tried_again_after_a_back_off_that_all_brokers_share(rig: Rig, outcome: Any) -> None:
    rig.put(token())
    rig.endpoint.script.append(outcome)
    first, second = rig.broker(), rig.broker()
    with pytest.raises(RefreshFailed, match=r"could not be refreshed: .*; the next try is in 1 s") as caught:
        first.resolve(NAME)
    assert caught.value.retry_after
    assert 0.5 <= caught.value.retry_after <= 1.0
    for broker in (first, second):
        with pytest.raises(RefreshFailed):
            broker.resolve(NAME)
    assert rig.endpoint.requests == 1
    assert first.journal.attempt(NAME) is None
    rig.clock.advance(1.5)
    assert value(second.resolve(NAME)) == "access-2"
    assert first.journal.failure(NAME) is None
    assert rig.endpoint.presented == ["refresh-0"] * 2


def test_the_back_off_doubles_up_to_five_minutes(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.extend([answer(503)] * 12)
    broker = rig.broker()
    waits = []
    for _ in range(12):
        with pytest.raises(RefreshFailed) as caught:
            broker.resolve(NAME)
        waits.append(caught.value.retry_after or 0.0)
        rig.clock.advance(400)
    assert all(2**number / 2 <= wait <= 2**number for number, wait in enumerate(waits[:8]))
    assert all(150 <= wait <= 300 for wait in waits[9:])


@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_obeyed(rig: Rig, is_date: bool) -> None:  # noqa: FBT001  # parametrized
    rig.put(token())
    when = format_datetime(datetime.fromtimestamp(START + 90, UTC), usegmt=True) if is_date else "90"
    rig.endpoint.script.append(answer(429, {"retry-after": when}))
    broker = rig.broker()
    with pytest.raises(RefreshFailed) as caught:
        broker.resolve(NAME)
    assert caught.value.retry_after == 90
    rig.clock.advance(89)
    with pytest.raises(RefreshFailed, match="the next try is in 1 s"):
        rig.broker().resolve(NAME)
    rig.clock.advance(2)
    assert value(broker.resolve(NAME)) == "access-2"


class TellingStore(FileStore):
    """Tells when its lock was found taken."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.met = threading.Event()

    def lock(self, name: str) -> FileLock:
        store = self

        class TellingLock(FileLock):
            def try_acquire(self) -> bool:
                is_mine = super().try_acquire()
                if not is_mine:
                    store.met.set()
                return is_mine

        return TellingLock(self.path(name), self._home.locks)


def test_a_caller_waiting_for_the_lock_of_a_grant_that_fails_takes_its_failure_and_sends_nothing(rig: Rig) -> None:
    """Even if the back-off is over by the time the lock is free."""
    rig.put(token())
    rig.endpoint.script.append(answer(503))
    rig.endpoint.gate.clear()
    store = TellingStore(rig.home)
    first, second = rig.broker(), rig.broker(store=store)
    errors: list[BaseException] = []

    def resolve(broker: Broker) -> None:
        with pytest.raises(RefreshFailed) as caught:
            broker.resolve(NAME)
        errors.append(caught.value)

    threads = [threading.Thread(target=resolve, args=(broker,)) for broker in (first, second)]
    threads[0].start()
    assert rig.endpoint.entered.wait(PATIENCE)
    threads[1].start()
    assert store.met.wait(PATIENCE)
    original = first.journal.record_failure

    def record_failure(name: str, failure: Any) -> None:
        original(name, failure)
        rig.clock.advance(100)

    first.journal.record_failure = record_failure  # type: ignore[method-assign]  # time passes between the failure and the release
    rig.endpoint.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(errors) == 2
    assert rig.endpoint.requests == 1


def test_a_lock_that_stays_taken_is_reported_with_its_holder_and_a_living_token_is_used(rig: Rig) -> None:
    rig.put(token(left=29))
    broker = rig.broker(settings=RefreshSettings(wait=0.05))
    with rig.store.exclusive(NAME, 0):
        assert value(broker.resolve(NAME)) == "access-0"
        rig.clock.advance(30)
        with pytest.raises(RefreshBusy):
            broker.resolve(NAME)
        with pytest.raises(
            RefreshBusy, match=rf"process {os.getpid()} \(.+\) is refreshing it and was not done"
        ) as caught:
            broker.refresh(NAME)
        assert caught.value.retry_after == 1.0
    assert rig.endpoint.requests == 0


def test_a_failure_on_record_is_raised_without_waiting_for_the_lock(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(DEAD)
    broker = rig.broker(settings=RefreshSettings(wait=0.05))
    with pytest.raises(NeedsLogin):
        broker.resolve(NAME)
    with rig.store.exclusive(NAME, 0), pytest.raises(NeedsLogin, match="refresh token is dead"):
        broker.resolve(NAME)


@pytest.mark.parametrize("when", ["before", "during the wait", "under the lock"])
def test_a_token_that_another_process_renewed_is_adopted_whenever_it_is_found(rig: Rig, when: str) -> None:
    rig.put(token())
    store = TellingStore(rig.home)
    broker = rig.broker(store=store)
    renewed = document(token(left=3600, number=7))
    lock = rig.store.lock(NAME)
    lock.acquire(0)
    if when == "before":
        rig.store.swap(NAME, 1, renewed)
    flight = broker._engine.start(RefreshRequest(NAME, wait=0.2 if when == "during the wait" else PATIENCE))
    if when != "before":
        assert store.met.wait(PATIENCE)
        rig.store.swap(NAME, 1, renewed)
    if when == "under the lock":
        lock.release()
    found = flight.future.result(PATIENCE)
    lock.release()
    assert (found.document.credential, found.granted) == (renewed.credential, False)
    statistics = broker.statistics(NAME)
    assert (statistics.adopted, statistics.grants, rig.endpoint.requests) == (1, 0, 0)
    assert statistics.waiters == 0
    if when == "before":
        assert (statistics.lock_waits, statistics.lock_wait_seconds) == (0, 0.0)
    if when == "during the wait":
        assert statistics.lock_waits == 1
        assert statistics.lock_wait_seconds >= 0.2


@pytest.mark.parametrize("is_ending", [False, True])
def test_a_lock_is_waited_for_as_long_as_asked_unless_the_process_ends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, is_ending: bool
) -> None:
    monkeypatch.setattr(_driver, "_LOCK_SLICE", 0.01)
    rig.put(token())
    store = TellingStore(rig.home)
    broker = rig.broker(store=store)
    with rig.store.exclusive(NAME, 0):
        flight = broker._engine.start(RefreshRequest(NAME, wait=PATIENCE))
        for _ in range(5):
            store.met.clear()
            assert store.met.wait(PATIENCE)
        if is_ending:
            assert broker.drain(PATIENCE / 2)
    if is_ending:
        with pytest.raises(RefreshBusy):
            flight.future.result(PATIENCE)
    else:
        assert flight.future.result(PATIENCE).granted


def test_an_early_refresh_waits_for_no_other(rig: Rig) -> None:
    rig.put(token(left=200))
    broker = rig.broker()
    with rig.store.exclusive(NAME, 0):
        assert value(broker.resolve(NAME)) == "access-0"
        wait_for(lambda: broker.statistics(NAME).failures == {"refresh_busy": 1})
    assert rig.endpoint.requests == 0


# -- a refresh token that can't be read


ODD = answer(200, access_token="access-odd", refresh_token=17, expires_in=LIFETIME)


def test_a_refresh_token_of_an_odd_type_costs_neither_the_access_token_nor_the_login(rig: Rig) -> None:
    """The old one is presented once more at most, and not before the access token is used up."""
    rig.put(token())
    rig.endpoint.script.append(ODD)
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-odd"
    attempt = broker.journal.attempt(NAME)
    assert attempt is not None
    assert attempt.state == "uncertain"
    rig.clock.advance(LIFETIME - 10)
    for other in (broker, rig.broker()):
        assert value(other.resolve(NAME)) == "access-odd", "used while it lives"
    with pytest.raises(RefreshUncertain, match="held no refresh token that can be read"):
        broker.refresh(NAME)
    assert rig.endpoint.requests == 1
    rig.clock.advance(11)
    assert value(broker.resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0"] * 2
    assert broker.journal.attempt(NAME) is None


def test_it_is_presented_once_more_when_the_access_token_is_refused(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(ODD)
    broker = rig.broker()
    odd = broker.resolve(NAME)
    rig.clock.advance(61)
    broker.invalidate(NAME, odd.secret)
    assert value(broker.resolve(NAME)) == "access-2"


def test_two_odd_refresh_tokens_end_the_login_with_the_access_token(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.extend([ODD, answer(200, access_token="access-last", refresh_token={}, expires_in=LIFETIME)])
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-odd"
    rig.clock.advance(LIFETIME + 1)
    assert value(broker.resolve(NAME)) == "access-last"
    rig.clock.advance(LIFETIME - 10)
    assert value(broker.resolve(NAME)) == "access-last"
    rig.clock.advance(11)
    with pytest.raises(NeedsLogin, match="no refresh token in them could be read"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 2


def test_an_odd_answer_that_was_not_published_is_published_by_the_next_process(rig: Rig) -> None:
    """Killed after the answer was journalled: the access token is not lost, nor is the mark on the refresh token."""
    rig.put(token())
    attempt = RefreshAttempt.begin(Secret("refresh-0").sha256, START, ProcessIdentity(1, "0", "gone"), 1)
    journal = FileJournal(rig.home.journal)
    journal.begin(NAME, attempt)
    journal.mark(NAME, attempt, "answered")
    journal.answer(NAME, attempt, token(left=LIFETIME, secret=Secret("access-odd")))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-odd"
    rig.clock.advance(LIFETIME - 10)
    assert value(broker.resolve(NAME)) == "access-odd"
    rig.clock.advance(11)
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.presented == ["refresh-0"]


@pytest.mark.parametrize(("outcome", "state"), [(ODD, "answered"), (None, "open")])
def test_the_record_of_an_answer_says_whether_its_refresh_token_could_be_read(
    rig: Rig, outcome: TokenResponse | None, state: str
) -> None:
    rig.put(token())
    disk = FullDisk()

    def send(*arguments: Any) -> Any:
        disk.is_full = True
        return outcome or rig.endpoint(*arguments)

    broker = rig.broker(store=FileStore(rig.home, disk=disk), send=send)
    broker.resolve(NAME)
    assert broker.drain(PATIENCE)
    attempt = broker.journal.attempt(NAME)
    assert attempt is not None
    assert (attempt.state, attempt.answer is not None) == (state, True)


# -- needs login


def test_a_dead_refresh_token_is_presented_once_and_a_new_login_clears_the_failure(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(DEAD)
    first, second = rig.broker(), rig.broker()
    with pytest.raises(NeedsLogin, match=r"refresh token is dead \(invalid_grant\); .*tokenferry login work"):
        first.resolve(NAME)
    for ask in (first.resolve, second.resolve, second.refresh):
        with pytest.raises(NeedsLogin, match="refresh token is dead"):
            ask(NAME)
    assert rig.endpoint.presented == ["refresh-0"]
    assert first.journal.attempt(NAME) is None, "the failure says it for all"
    assert rig.store.read(NAME).credential == token(), "nothing is written over on failure"
    rig.put(token(number=50))
    rig.endpoint.extra = {"expires_in": LIFETIME}
    assert value(second.resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0", "refresh-50"]
    assert first.journal.failure(NAME) is None


def test_a_refusal_that_can_not_be_recorded_stays_with_its_attempt(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(token())
    rig.endpoint.script.append(DEAD)
    broker = rig.broker()

    def record_failure(*_: Any) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(broker.journal, "record_failure", record_failure)
    for one in (broker, rig.broker()):
        with pytest.raises(NeedsLogin, match="refresh token is dead"):
            one.resolve(NAME)
    assert rig.endpoint.presented == ["refresh-0"]
    attempt = broker.journal.attempt(NAME)
    assert attempt is not None
    assert attempt.state == "denied"


def test_a_living_token_outlives_its_dead_chain(rig: Rig) -> None:
    rig.put(token(left=20))
    rig.endpoint.script.append(DEAD)
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    assert value(broker.resolve(NAME)) == "access-0"
    rig.clock.advance(21)
    with pytest.raises(NeedsLogin):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 1


def test_a_token_that_another_program_renewed_without_our_lock_is_not_taken_for_dead(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put(token())

    def sibling(*_: Any) -> TokenResponse:
        rig.store.swap(NAME, 1, document(token(left=3600, number=6)))
        return DEAD

    broker = rig.broker(send=sibling)
    marks: list[str] = []
    monkeypatch.setattr(broker.journal, "mark", lambda *given: marks.append(given[-1]))
    assert value(broker.resolve(NAME)) == "access-6"
    assert (broker.statistics(NAME).adopted, broker.statistics(NAME).grants) == (1, 0)
    assert marks == ["denied"], "noted first: a failover may lose what the other one wrote"
    assert broker.journal.failure(NAME) is None
    assert broker.journal.attempt(NAME) is None


@pytest.mark.parametrize(
    ("written", "access", "is_granted"),
    [
        (None, "access-1", True),
        (document(token(), priority=3), "access-1", True),
        (document(token(left=3600, number=6), priority=3), "access-6", False),
    ],
    ids=["nothing", "settings", "a login"],
)
def test_a_grant_overwrites_no_login_and_no_settings_that_were_written_meanwhile(
    rig: Rig, written: Document | None, access: str, *, is_granted: bool
) -> None:
    rig.put(token())

    def meddle(*arguments: Any) -> Any:
        if written is not None:
            rig.store.swap(NAME, 1, written)
        return rig.endpoint(*arguments)

    broker = rig.broker(send=meddle)
    found = broker._engine.start(RefreshRequest(NAME)).future.result(PATIENCE)
    assert (value(found.document.credential), found.granted) == (access, is_granted)
    assert found.document == rig.store.read(NAME)
    assert found.document.account.priority == (written or document(token())).account.priority
    assert broker.statistics(NAME).grants == int(is_granted)
    assert broker.journal.attempt(NAME) is None


def test_a_copied_document_is_used_while_it_lives_then_refreshed_only_when_confirmed(rig: Rig) -> None:
    copied = document(token(left=10))
    put(rig.store, Document(copied.account, copied.credential, machine="another"))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    rig.clock.advance(11)
    with pytest.raises(ChainCopied, match="tokenferry account confirm work"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 0
    Accounts(rig.store).confirm(NAME, broker.machine)
    assert value(broker.resolve(NAME)) == "access-1"


def test_an_account_that_became_an_api_key_since_is_not_refreshed(rig: Rig) -> None:
    put(rig.store, Document(Account(NAME, "fake", "api-key"), ApiKey(Secret("sk-key"))))
    with pytest.raises(CredentialRefused, match="holds an API key or setup token, which can't be refreshed"):
        rig.broker().refresh(NAME)


# -- other documents and answers


def test_an_attempt_in_flight_of_a_living_process_without_its_lock_is_waited_for(rig: Rig) -> None:
    rig.put(token())
    journal = FileJournal(rig.home.journal)
    parent = ProcessIdentity(os.getppid(), _process._start(os.getppid()), ProcessIdentity.own().boot)
    refresh = token().refresh
    assert refresh is not None
    journal.begin(NAME, RefreshAttempt.begin(refresh.sha256, START, parent, 1))
    with pytest.raises(RefreshBusy, match=f"process {os.getppid()} has a refresh in flight"):
        rig.broker().resolve(NAME)
    assert rig.endpoint.requests == 0


def test_what_an_answer_leaves_out_is_kept_and_odd_lifetimes_discard_nothing(rig: Rig) -> None:
    rig.put(token(scopes=("user:inference",), email="a@example.com", unknown=Fields(future="kept")))
    rig.endpoint.extra = {"expires_in": -5}
    renewed = rig.broker().resolve(NAME)
    assert isinstance(renewed, OAuthToken)
    assert (renewed.scopes, renewed.email, renewed.lifetime) == (("user:inference",), "a@example.com", 60)
    assert renewed.unknown == {"future": "kept"}
    assert renewed.source == "refresh"


def test_the_providers_of_a_document_must_say_where_to_renew(rig: Rig) -> None:
    rig.put(token(), provider="key")
    providers = {**PROVIDERS, "key": type(PROVIDERS["fake"])("key", "key", "https://api.invalid")}
    with pytest.raises(NeedsLogin, match="declares no token_endpoint"):
        rig.broker(providers=providers).resolve(NAME)
