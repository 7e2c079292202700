"""What each outcome of a grant leads to, over real files and between brokers that share them."""

import errno
import os
import socket
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typing_extensions import override

from refresh.rig import LIFETIME, NAME, PATIENCE, PROVIDERS, START, Rig, answer, document, put, token, value, wait_for
from tokenferry.accounts import Accounts
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import (
    ChainCopied,
    CorruptFile,
    CredentialRefused,
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    RefreshUncertain,
    StorageFailed,
)
from tokenferry.oauth import NotSent, TokenResponse, TokenResponseLost
from tokenferry.providers import Provider
from tokenferry.refresh import FileJournal, RefreshAttempt, RefreshRequest, _driver, send
from tokenferry.refresh import _flow as flow
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home, RefreshSettings
from tokenferry.stores import Account, Disk, Document, FileLock, FileStore, ProcessIdentity, _process

DEAD = answer(400, error="invalid_grant")


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_SIBLING_WAIT", 0.0)
    monkeypatch.setattr(flow, "_REPUBLISH_EVERY", 0.02)


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


# -- uncertain


def test_a_lost_answer_keeps_the_living_token_and_is_retried_once_nothing_is_left_to_lose(rig: Rig) -> None:
    rig.put(token(left=25))
    rig.endpoint.script.append(TokenResponseLost("cut"))
    broker = rig.broker()
    for _ in range(5):
        assert value(broker.resolve(NAME)) == "access-0"
    assert rig.endpoint.requests == 1
    rig.clock.advance(24)
    with pytest.raises(RefreshUncertain, match="the present token is used while it lives"):
        broker.refresh(NAME)
    rig.clock.advance(1)
    with pytest.raises(RefreshUncertain, match="tried once more in 95 s"):
        broker.refresh(NAME)
    rig.clock.advance(5)
    for other in (broker, rig.broker()):
        with pytest.raises(RefreshUncertain, match="tried once more in 90 s") as caught:
            other.resolve(NAME)
        assert caught.value.retry_after == 90
    rig.clock.advance(89)
    with pytest.raises(RefreshUncertain):
        broker.resolve(NAME)
    rig.clock.advance(1)
    assert value(broker.resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0"] * 2
    assert broker.journal.attempt(NAME) is None


def test_the_wait_ends_120_seconds_after_this_process_saw_it_however_the_clock_is_set(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(TokenResponseLost("cut"))
    steady = [1000.0]
    broker, other = (rig.broker(monotonic=lambda: steady[0]) for _ in range(2))
    with pytest.raises(RefreshUncertain):
        broker.resolve(NAME)
    rig.clock.advance(-5)  # set back, and the token is used up still
    steady[0] += 50
    for one, left in ((broker, 70), (other, 120)):
        with pytest.raises(RefreshUncertain) as caught:
            one.resolve(NAME)
        assert caught.value.retry_after == left
    steady[0] += 69
    with pytest.raises(RefreshUncertain):
        broker.resolve(NAME)
    steady[0] += 1
    assert value(broker.resolve(NAME)) == "access-2"


def test_a_changed_document_ends_the_wait_at_once(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(TokenResponseLost("cut"))
    broker = rig.broker()
    with pytest.raises(RefreshUncertain):
        broker.resolve(NAME)
    rig.put(token(number=7))
    assert value(broker.resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0", "refresh-7"]


GONE = ProcessIdentity(1, "0", "gone")


def test_an_attempt_of_which_no_byte_left_counts_for_nothing(rig: Rig) -> None:
    """Killed before the note, as often as may be: closed, presented at once, and a lost answer is the first one."""
    rig.put(token())
    journal = FileJournal(rig.home.journal)
    for _ in range(3):
        journal.begin(NAME, RefreshAttempt.begin(Secret("refresh-0").sha256, START, GONE, 1))
        rig.endpoint.script.append(answer(503))
        with pytest.raises(RefreshFailed):
            rig.broker().resolve(NAME)
        rig.clock.advance(600)
    journal.begin(NAME, RefreshAttempt.begin(Secret("refresh-0").sha256, START, GONE, 1))
    assert value(rig.broker().resolve(NAME)) == "access-4"


def test_an_attempt_that_came_between_is_not_replaced_and_nothing_is_sent(rig: Rig) -> None:
    """As happens to a process that lost its lock without notice: what it didn't see on record is another one's."""
    rig.put(token())

    class Raced(FileJournal):
        @override
        def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None:
            other = RefreshAttempt.begin(attempt.token, START, GONE, 1)
            super().begin(name, other, replaces=replaces)
            super().begin(name, attempt, replaces=replaces)

    with pytest.raises(RefreshBusy, match="another attempt to refresh it is on record; nothing was sent"):
        rig.broker(journal=Raced(rig.home.journal)).resolve(NAME)
    assert rig.endpoint.requests == 0
    assert value(rig.broker().resolve(NAME)) == "access-1"


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_lock_that_was_lost_before_anything_left_sends_nothing_and_leaves_no_attempt_of_its_own(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    rig.put(token())
    broker = rig.broker()
    other = replace(RefreshAttempt.begin(Secret("refresh-0").sha256, START, GONE, 1), state="open")

    def is_still_ours(_: FileLock) -> bool:
        mine = broker.journal.attempt(NAME)
        assert mine is not None
        if is_replaced:
            broker.journal.begin(NAME, other, replaces=mine.id)
        return False

    monkeypatch.setattr(FileLock, "is_still_ours", is_still_ours)
    with pytest.raises(RefreshBusy, match="another program took its lock before anything was sent"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 0
    assert broker.journal.attempt(NAME) == (other if is_replaced else None)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "earlier version"])
def test_an_attempt_of_which_bytes_may_have_left_is_uncertain_for_120_seconds(rig: Rig, *, noted: bool) -> None:
    """A record of the earlier version says nothing of sending, so it counts as sent, from its beginning."""
    rig.put(token())
    journal = FileJournal(rig.home.journal)
    begun = RefreshAttempt.begin(Secret("refresh-0").sha256, START, GONE, 1)
    journal.begin(NAME, begun if noted else replace(begun, state="open"))
    if noted:
        journal.sending(NAME, begun, START + 40)
    since = 40 if noted else 0
    rig.clock.advance(since + 119)
    with pytest.raises(RefreshUncertain, match="tried once more in 1 s"):
        rig.broker().resolve(NAME)
    rig.clock.advance(1)
    rig.endpoint.script.append(TokenResponseLost("cut"))
    with pytest.raises(NeedsLogin, match="both answers were lost"):
        rig.broker().resolve(NAME)
    assert rig.endpoint.requests == 1


def test_a_second_attempt_of_which_no_byte_left_leaves_the_first_one_counted(rig: Rig) -> None:
    rig.put(token())
    journal = FileJournal(rig.home.journal)
    journal.begin(NAME, RefreshAttempt.begin(Secret("refresh-0").sha256, START, GONE, 2))
    rig.clock.advance(120)
    rig.endpoint.script.append(TokenResponseLost("cut"))
    with pytest.raises(NeedsLogin, match="both answers were lost"):
        rig.broker().resolve(NAME)


class BrokenDisk(Disk):
    """Writes nothing in place."""

    def open(self, path: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_without_a_durable_note_no_byte_leaves(rig: Rig) -> None:
    """Against a real socket: the connection is made, and nothing comes through it."""
    rig.put(token())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake = PROVIDERS["fake"]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token"
        providers = {"fake": replace(fake, oauth=replace(fake.oauth, token_endpoint=url))}
        journal = FileJournal(rig.home.journal, disk=BrokenDisk())
        broker = rig.broker(journal=journal, providers=providers, send=send)
        with pytest.raises(RefreshFailed, match="could not be written"):
            broker.resolve(NAME)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""
    assert FileJournal(rig.home.journal).attempt(NAME) is None


def test_what_kills_the_process_finds_the_note_on_disk(rig: Rig) -> None:
    """Whatever the endpoint sees was noted before."""
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    thread = threading.Thread(target=broker.resolve, args=(NAME,))
    thread.start()
    assert rig.endpoint.entered.wait(PATIENCE)
    attempt = FileJournal(rig.home.journal).attempt(NAME)
    rig.endpoint.gate.set()
    thread.join(PATIENCE)
    assert attempt is not None
    assert (attempt.state, attempt.at) == ("open", START)


@pytest.mark.parametrize(
    "second", [TokenResponseLost("cut"), TokenResponse(200, {}, b"<html>")], ids=["cut", "unreadable"]
)
def test_two_lost_answers_end_the_login(rig: Rig, second: Any) -> None:
    rig.put(token())
    rig.endpoint.script.extend([TokenResponseLost("cut"), second])
    broker = rig.broker()
    with pytest.raises(RefreshUncertain, match="its answer was lost"):
        broker.resolve(NAME)
    rig.clock.advance(120)
    with pytest.raises(NeedsLogin, match="both answers were lost"):
        rig.broker().resolve(NAME)
    with pytest.raises(NeedsLogin, match="both answers were lost"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 2


def test_a_refused_token_with_an_uncertain_refresh_is_retried(rig: Rig) -> None:
    rig.put(token(left=25))
    rig.endpoint.script.append(TokenResponseLost("cut"))
    broker = rig.broker()
    first = broker.resolve(NAME)
    broker.invalidate(NAME, first.secret)
    with pytest.raises(RefreshUncertain, match="tried once more in 120 s"):
        broker.resolve(NAME)
    rig.clock.advance(120)
    assert value(broker.resolve(NAME)) == "access-2"


def with_grace(seconds: float) -> dict[str, Provider]:
    fake = PROVIDERS["fake"]
    return {"fake": replace(fake, oauth=replace(fake.oauth, reuse_grace=seconds))}


@pytest.mark.parametrize(("age", "is_replayed"), [(-1, False), (0, True), (29, True), (30, False)])
def test_an_answer_that_another_process_lost_is_asked_for_again_within_the_grace(
    rig: Rig, age: float, *, is_replayed: bool
) -> None:
    rig.put(token())
    attempt = RefreshAttempt.begin(Secret("refresh-0").sha256, START - age, GONE, 1)
    FileJournal(rig.home.journal).begin(NAME, replace(attempt, state="open"))
    broker = rig.broker(providers=with_grace(30))
    if is_replayed:
        assert value(broker.resolve(NAME)) == "access-1"
    else:
        with pytest.raises(RefreshUncertain):
            broker.resolve(NAME)
    assert rig.endpoint.requests == int(is_replayed)


@pytest.mark.parametrize(("grace", "seconds"), [(0, 30), (1, 5), (30, 15), (100, 30)])
def test_a_grant_gives_up_early_enough_for_a_replay_within_the_grace(rig: Rig, grace: float, seconds: float) -> None:
    rig.put(token())
    allowed: list[float] = []

    def send(request: Any, timeout: float, sending: Any) -> Any:
        allowed.append(timeout)
        return rig.endpoint(request, timeout, sending)

    rig.broker(send=send, providers=with_grace(grace)).resolve(NAME)
    assert allowed == [seconds]


class OutOfReach(FileJournal):
    """It holds an attempt of another host, which can't be asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        begun = RefreshAttempt.begin(Secret("refresh-0").sha256, START - 500, replace(GONE, instance="far:7"), 1)
        self._id = begun.id
        self.begin(NAME, replace(begun, state="open"))

    @override
    def attempt(self, name: str) -> RefreshAttempt | None:
        found = super().attempt(name)
        return replace(found, state="orphaned") if found is not None and found.id == self._id else found


def test_an_attempt_of_a_host_out_of_reach_is_repeated_at_once_for_a_token_that_is_refused(rig: Rig) -> None:
    rig.put(token(3600))
    broker = rig.broker(journal=OutOfReach(rig.home.journal))
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    assert value(broker.resolve(NAME)) == "access-1"


@pytest.mark.parametrize("left", [0, -10, -119])
def test_an_attempt_of_a_host_out_of_reach_is_repeated_120_seconds_after_its_token_has_ended(
    rig: Rig, left: float
) -> None:
    """That host may have renewed it, and nobody here knows before its records come back."""
    rig.put(token(left))
    broker = rig.broker(journal=OutOfReach(rig.home.journal))
    with pytest.raises(RefreshUncertain, match=r"is with host far \(.* forget-host far\)") as caught:
        broker.resolve(NAME)
    assert caught.value.retry_after == 120 + left
    rig.clock.advance(119 + left)
    with pytest.raises(RefreshUncertain, match="in 1 s"):
        broker.resolve(NAME)
    rig.clock.advance(1)
    assert value(broker.resolve(NAME)) == "access-1"


def test_a_declared_grace_is_used_at_once_and_once(rig: Rig) -> None:
    rig.put(token())
    providers = with_grace(30)
    rig.endpoint.script.append(TokenResponseLost("cut"))
    assert value(rig.broker(providers=providers).resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0"] * 2
    rig.clock.advance(LIFETIME)
    rig.endpoint.script.extend([TokenResponseLost("cut"), TokenResponseLost("cut")])
    with pytest.raises(NeedsLogin, match="both answers were lost"):
        rig.broker(providers=providers).resolve(NAME)
    assert rig.endpoint.requests == 4


# -- the disk


class MountedFile(Disk):
    """The document is a mount point of its own."""

    def check_replaceable(self, path: Path) -> None:
        raise StorageFailed(f"{path} can't be replaced: it is a mount point of its own; mount its folder instead")


def test_a_document_that_can_not_be_replaced_means_that_nothing_is_sent(rig: Rig) -> None:
    rig.put(token(left=25))
    broker = rig.broker(store=FileStore(rig.home, disk=MountedFile()))
    assert value(broker.resolve(NAME)) == "access-0"
    rig.clock.advance(30)
    with pytest.raises(StorageFailed, match="mount its folder instead"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 0
    assert broker.journal.attempt(NAME) is None


def test_a_store_of_several_hosts_is_told_which_token_was_presented(rig: Rig) -> None:
    """It lets the document go only if it still holds that one, whatever its generation."""
    presented: list[str] = []

    class Comparing(FileStore):
        def publish(self, name: str, expected: int, new: Document, digest: str) -> None:
            presented.append(digest)
            self.swap(name, expected, new)

    rig.put(token())
    assert value(rig.broker(store=Comparing(rig.home)).resolve(NAME)) == "access-1"
    assert presented == [Secret("refresh-0").sha256]
    assert value(rig.store.read(NAME).credential) == "access-1"


class FullDisk(Disk):
    """Refuses new files while it is full; what exists can be written in place."""

    def __init__(self) -> None:
        self.is_full = False
        self.refused = threading.Event()

    def create(self, path: Path) -> int:
        if self.is_full:
            self.refused.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)


def test_a_disk_that_is_full_before_the_grant_means_that_nothing_is_sent(rig: Rig) -> None:
    rig.put(token(left=25))
    disk = FullDisk()
    disk.is_full = True
    broker = rig.broker(journal=FileJournal(rig.home.journal, disk=disk))
    assert value(broker.resolve(NAME)) == "access-0"
    rig.clock.advance(30)
    with pytest.raises(StorageFailed, match="No space left"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 0
    disk.is_full = False
    assert value(broker.resolve(NAME)) == "access-1"


def test_a_disk_that_is_full_after_the_grant_delays_the_document_and_loses_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.put(token())
    disk = FullDisk()

    def send(*arguments: Any) -> Any:
        disk.is_full = True
        return rig.endpoint(*arguments)

    broker = rig.broker(store=FileStore(rig.home, disk=disk), send=send)
    assert value(broker.resolve(NAME)) == "access-1"
    assert disk.refused.is_set()
    assert value(broker.resolve(NAME)) == "access-1", "served from memory"
    assert rig.store.read(NAME).credential == token()
    other = rig.broker(settings=RefreshSettings(wait=0.05))
    with pytest.raises(RefreshBusy):
        other.resolve(NAME)
    for _ in range(3):
        disk.refused.clear()
        assert disk.refused.wait(PATIENCE)
    assert caplog.text.count("is served from memory until it can be written") == 1
    disk.is_full = False
    wait_for(lambda: rig.store.read(NAME).generation == 2)
    assert value(other.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1
    wait_for(lambda: broker.journal.attempt(NAME) is None)


@pytest.mark.parametrize("is_expired", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
def test_what_its_process_could_not_write_is_used_by_the_next_also_where_it_is_too_late(
    rig: Rig, caplog: pytest.LogCaptureFixture, *, is_full: bool, is_expired: bool
) -> None:
    rig.put(token())
    disk = FullDisk()

    def send(*arguments: Any) -> Any:
        disk.is_full = True
        return rig.endpoint(*arguments)

    given: dict[str, Any] = {"store": FileStore(rig.home, disk=disk), "send": send}
    first, second = rig.broker(**given), rig.broker(**given)
    assert value(first.resolve(NAME)) == "access-1"
    assert first.drain(PATIENCE)
    assert rig.store.read(NAME).credential == token()
    disk.is_full = is_full
    rig.clock.advance(LIFETIME + 1 if is_expired else 0)
    flight = second._engine.start(RefreshRequest(NAME))
    if is_full:
        found = flight.future.result(PATIENCE)
        assert (value(found.document.credential), found.granted) == ("access-1", True)
        assert second.drain(PATIENCE)
        assert second.statistics(NAME).failures == ({"storage_failed": 1} if is_expired else {})
        assert rig.endpoint.presented == ["refresh-0"]
    else:
        access, presented = ("access-2", ["refresh-0", "refresh-1"]) if is_expired else ("access-1", ["refresh-0"])
        assert value(flight.future.result(PATIENCE).document.credential) == access
        assert rig.endpoint.presented == presented
        assert rig.store.read(NAME).generation == 2, "the first grant is written before another one is made"
    assert "ends with this process" not in caplog.text, "it is in the journal"


def test_an_attempt_that_is_left_on_record_after_its_token_is_published_costs_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a provider that returns no other refresh token, so that the document still has the one that was presented."""
    rig.put(token())
    rig.endpoint.script.extend(answer(200, access_token=f"access-{n}", expires_in=LIFETIME) for n in (1, 2))
    broker = rig.broker()

    def close(*_: Any) -> None:
        raise StorageFailed("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(broker.journal, "close", close)
        assert value(broker.resolve(NAME)) == "access-1"
    assert broker.journal.attempt(NAME) is not None
    rig.clock.advance(LIFETIME)
    assert value(broker.resolve(NAME)) == "access-2"
    assert rig.endpoint.presented == ["refresh-0"] * 2
    assert broker.journal.attempt(NAME) is None


@pytest.mark.parametrize("is_lost", [False, True])
def test_only_a_login_that_could_be_written_nowhere_is_reported_as_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, is_lost: bool
) -> None:
    rig.put(token())
    disk = FullDisk()

    def send(*arguments: Any) -> Any:
        disk.is_full = True
        return rig.endpoint(*arguments)

    def answer(*_: Any) -> None:
        raise StorageFailed("the journal is on a disk that broke")

    broker = rig.broker(store=FileStore(rig.home, disk=disk), send=send)
    if is_lost:
        monkeypatch.setattr(broker.journal, "answer", answer)
    assert value(broker.resolve(NAME)) == "access-1"
    assert broker.drain(PATIENCE)
    assert broker.statistics(NAME).grants == 1
    assert ("could not be written anywhere and ends with this process; log in again with" in caplog.text) == is_lost


def test_a_corrupt_journal_is_left_as_it_is_and_named(rig: Rig) -> None:
    rig.put(token())
    rig.home.journal.mkdir(mode=0o700)
    attempt = rig.home.journal / f"{NAME}.attempt"
    attempt.write_bytes(b"Xgarbage")
    attempt.chmod(0o600)
    with pytest.raises(CorruptFile, match=rf"{NAME}\.attempt can't be understood; .*keep it; log in again"):
        rig.broker().resolve(NAME)
    assert rig.endpoint.requests == 0
    assert attempt.read_bytes() == b"Xgarbage"


def test_a_failure_that_can_not_be_read_only_advised(rig: Rig) -> None:
    rig.put(token())
    rig.home.journal.mkdir(mode=0o700)
    failure = rig.home.journal / f"{NAME}.verdict"
    failure.write_bytes(b'{"kind": "needs-login"')
    failure.chmod(0o600)
    assert value(rig.broker().resolve(NAME)) == "access-1"


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
