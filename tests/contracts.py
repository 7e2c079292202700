"""What every store, its locks and every journal must do, whatever they keep things in."""

import threading
from collections.abc import Callable
from typing import TypeAlias

import pytest
from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import Conflict, LockTimeout, TokenferryError, UnknownAccount, UsageError
from tokenferry.refresh import Journal, RefreshAttempt, RefreshFailure
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document, ProcessIdentity, Store, held

Opener: TypeAlias = Callable[[], tuple[Store, Journal]]
"""Opens what is shared once more, as another process would."""


def document(number: int = 0, name: str = "work") -> Document:
    token = OAuthToken(Secret(f"access-{number:040}"), Secret(f"refresh-{number:040}"), 1_900_000_000)
    return Document(Account(name, "console", "oauth", labels={"team": "red"}), token, machine="m")


def presented(number: int = 0) -> str:
    refresh = document(number).credential.refresh  # type: ignore[union-attr]  # an OAuth token's
    assert refresh is not None
    return refresh.sha256


def begun(number: int = 0, tries: int = 1) -> RefreshAttempt:
    return RefreshAttempt.begin(presented(number), 1_800_000_000.0, ProcessIdentity.own(), tries)


class StoreContract:
    """Each test gets `opener` from the fixture of the suite that is tested."""

    def test_a_document_comes_back_one_generation_higher_for_everybody(self, opener: Opener) -> None:
        (store, _), (other, _) = opener(), opener()
        assert store.names() == []
        store.swap("work", None, replace(document(), generation=7))
        assert other.read("work") == document()
        other.swap("work", 1, document(1))
        assert store.read("work") == replace(document(1), generation=2)
        assert store.names() == other.names() == ["work"]

    def test_a_generation_that_is_over_writes_nothing(self, opener: Opener) -> None:
        store, _ = opener()
        store.swap("work", None, document())
        for expected in (None, 0, 2):
            for new in (document(1), None):
                with pytest.raises(Conflict):
                    store.swap("work", expected, new)
        with pytest.raises(Conflict):
            store.swap("home", 1, document(1, "home"))
        assert store.read("work") == document()
        assert store.names() == ["work"]

    def test_what_is_removed_is_unknown_and_may_be_added_again(self, opener: Opener) -> None:
        store, _ = opener()
        store.swap("work", None, document())
        store.swap("work", 1, None)
        with pytest.raises(UnknownAccount, match="work"):
            store.read("work")
        store.swap("work", None, None)
        store.swap("work", None, document(1))
        assert store.read("work") == document(1)

    def test_a_readable_document_is_not_discarded(self, opener: Opener) -> None:
        store, _ = opener()
        store.swap("work", None, document())
        with pytest.raises(Conflict):
            store.discard("work")
        assert store.read("work") == document()

    def test_a_stamp_changes_with_its_document_alone(self, opener: Opener) -> None:
        (store, _), (other, _) = opener(), opener()
        store.swap("work", None, document())
        store.swap("home", None, document(0, "home"))
        before = dict(other.stamps())
        store.swap("work", 1, document(1))
        after = dict(other.stamps())
        assert after["work"] != before["work"]
        assert after["home"] == before["home"]
        store.swap("work", 2, None)
        assert "work" not in other.stamps()

    def test_of_two_names_that_differ_in_case_alone_one_is_taken(self, opener: Opener) -> None:
        for twins in (("work", "Work"), ("HOME", "home")):
            store, _ = opener()
            first, second = twins
            store.swap(first, None, document(0, first))
            with pytest.raises(UsageError, match="differs in case alone"):
                store.swap(second, None, document(0, second))
        assert store.names() == ["HOME", "work"]

    def test_twins_added_at_once_leave_one(self, opener: Opener) -> None:
        start, faults = threading.Barrier(8), list[TokenferryError]()

        def add(name: str) -> None:
            store, _ = opener()
            start.wait()
            try:
                with store.exclusive(name, 10):
                    store.swap(name, None, document(0, name))
            except TokenferryError as fault:
                faults.append(fault)

        names = ("work", "Work", "WORK", "wOrK", "woRk", "worK", "WOrk", "WoRk")
        threads = [threading.Thread(target=add, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opener()[0].names()) == 1
        assert [type(fault) for fault in faults] == [UsageError] * 7


class LockContract:
    """One holder at a time; who can't have it hears who has."""

    def test_it_excludes_until_it_is_released(self, opener: Opener) -> None:
        (store, _), (other, _) = opener(), opener()
        lock = store.lock("work")
        assert not lock.is_still_ours()
        with held(lock, 1):
            assert lock.is_still_ours()
            with pytest.raises(LockTimeout) as caught:
                other.lock("work").acquire(0)
            assert caught.value.holder
            with other.exclusive("home", 1):
                pass
        assert not lock.is_still_ours()
        with other.exclusive("work", 1):
            lock.release()  # harmless: another one holds it
            with pytest.raises(LockTimeout):
                store.lock("work").acquire(0)

    def test_who_waits_gets_it(self, opener: Opener) -> None:
        (store, _), (other, _) = opener(), opener()
        lock = store.lock("work")
        lock.acquire(1)
        timer = threading.Timer(0.05, lock.release)
        timer.start()
        with other.exclusive("work", 10):
            assert not lock.is_still_ours()
        timer.join()


class JournalContract:
    """An attempt is begun by comparing, so that none is lost when a lock was."""

    def test_an_attempt_replaces_the_one_that_was_seen_alone(self, opener: Opener) -> None:
        (store, journal), (_, other) = opener(), opener()
        store.swap("work", None, document())
        first, second = begun(), begun(tries=2)
        assert journal.attempt("work") is None
        journal.begin("work", first)
        for replaces in (None, second.id):
            with pytest.raises(Conflict):
                other.begin("work", second, replaces=replaces)
        assert other.attempt("work") == first
        other.begin("work", second, replaces=first.id)
        assert journal.attempt("work") == second

    def test_an_attempt_is_sent_answered_and_closed(self, opener: Opener) -> None:
        (store, journal), (_, other) = opener(), opener()
        store.swap("work", None, document())
        attempt, answer = begun(), document(1).credential
        assert isinstance(answer, OAuthToken)
        journal.begin("work", attempt)
        journal.sending("work", attempt, 1_800_000_001.5)
        assert other.attempt("work") == replace(attempt, state="open", at=1_800_000_001.5)
        journal.answer("work", attempt, answer)
        assert journal.attempt("work") == replace(attempt, state="open", at=1_800_000_001.5, answer=answer)
        journal.mark("work", attempt, "uncertain")
        seen = other.attempt("work")
        assert seen is not None
        assert seen.state == "uncertain"
        journal.close("work", attempt)
        assert other.attempt("work") is None
        journal.begin("work", begun())

    def test_failures_and_totals_are_everybodys(self, opener: Opener) -> None:
        (store, journal), (_, other) = opener(), opener()
        store.swap("work", None, document())
        failure = RefreshFailure("failed", presented(), 1_800_000_000.0, "it is down", 1_800_000_060.0, 3, "ab")
        assert journal.failure("work") is None
        journal.record_failure("work", failure)
        journal.record_failure("work", failure)
        assert other.failure("work") == failure
        journal.record_failure("work", None)
        assert other.failure("work") is None
        assert other.totals("work") == {"failed": 2, "granted": 1}
        journal.begin("work", begun())
        other.forget("work")
        assert journal.attempt("work") is None
        assert journal.totals("work") == {}
