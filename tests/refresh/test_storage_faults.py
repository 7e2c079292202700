"""Refreshes on disks and stores that fail."""

from pathlib import Path
from typing import Any

import pytest

from refresh.rig import LIFETIME, NAME, PATIENCE, FullDisk, Rig, answer, token, value, wait_for
from tokenferry.errors import (
    CorruptFile,
    RefreshBusy,
    StorageFailed,
)
from tokenferry.refresh import FileJournal, RefreshRequest
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings
from tokenferry.stores import Disk, Document, FileStore

pytestmark = pytest.mark.usefixtures("no_long_waits")


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
