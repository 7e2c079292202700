"""Refreshes whose outcome is unknown, over real files."""

import errno
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typing_extensions import override

from refresh.rig import (
    LIFETIME,
    NAME,
    PATIENCE,
    PROVIDERS,
    START,
    Rig,
    answer,
    token,
    value,
)
from tokenferry.errors import (
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    RefreshUncertain,
)
from tokenferry.oauth import TokenResponse, TokenResponseLost
from tokenferry.providers import Provider
from tokenferry.refresh import FileJournal, RefreshAttempt, send
from tokenferry.secret import Secret
from tokenferry.stores import Disk, FileLock, ProcessIdentity

pytestmark = pytest.mark.usefixtures("no_long_waits")


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
