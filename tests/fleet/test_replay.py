"""What a failover loses comes back from whoever has it, and nothing later is overwritten by that."""

import pytest
from msgspec.structs import replace

from contracts import begun, document, presented
from fleet.rig import TwoHosts
from tokenferry.credentials import OAuthToken
from tokenferry.errors import Conflict, RefreshBusy, StorageFailed
from tokenferry.refresh import RefreshAttempt


def granted(number: int) -> OAuthToken:
    token = document(number).credential
    assert isinstance(token, OAuthToken)
    return token


def attempt_of(fleet: TwoHosts, host: str = "h1", number: int = 0, tries: int = 1) -> RefreshAttempt:
    return replace(begun(number, tries), process=fleet.identity(host))


def publish(fleet: TwoHosts, host: str = "h1", *, number: int = 0) -> RefreshAttempt:
    """A whole refresh: the token of that number is used up for the next one."""
    store, journal = fleet.process(host)
    attempt = attempt_of(fleet, host, number)
    journal.begin("work", attempt)
    journal.sending("work", attempt, fleet.time)
    journal.answer("work", attempt, granted(number + 1))
    row = store.read("work")
    store.publish("work", row.generation, replace(row, credential=granted(number + 1)), attempt.token)
    journal.close("work", attempt)
    return attempt


def test_an_answer_comes_back_from_the_spill(fleet: TwoHosts) -> None:
    store, _ = fleet.process()
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet)
    fleet.database.fail_over(5)
    again, journal = fleet.process()
    assert again.read("work") == document()
    with pytest.raises(RefreshBusy, match="restarted"):
        journal.begin("work", attempt_of(fleet))
    again.heartbeat.beat()
    assert again.read("work").credential == granted(1)


def test_an_answer_comes_back_after_a_failover_that_lost_a_login_in_use(fleet: TwoHosts) -> None:
    store, journal = fleet.process()
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet)
    store.swap("work", 2, document(7))
    journal.begin("work", attempt_of(fleet, number=7))
    fleet.database.fail_over(5)
    again, _ = fleet.process()
    again.heartbeat.beat()
    assert again.read("work").credential == granted(1)


def test_an_entry_that_cannot_be_read_keeps_no_other_account_back(
    fleet: TwoHosts, caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = fleet.process()
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet)
    (fleet.folder / "h1" / "spill" / "aaa~0123.attempt").write_bytes(b"O torn")
    (fleet.folder / "h1" / "spill" / "aaa~0123.attempt").chmod(0o600)
    fleet.database.fail_over(5)
    again, _ = fleet.process()
    again.heartbeat.beat()
    again.heartbeat.beat()
    assert again.read("work").credential == granted(1)
    assert [record.levelname for record in caplog.records if "aaa" in record.getMessage()] == ["WARNING"]


def test_two_renewals_come_back_one_after_the_other(fleet: TwoHosts) -> None:
    store, _ = fleet.process()
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet, "h1")
    publish(fleet, "h2", number=1)
    fleet.database.fail_over(5)
    for host in ("h2", "h1", "h2"):
        fleet.process(host)[0].replay()
    assert store.read("work").credential == granted(2)


def test_a_document_comes_back_from_whoever_read_it(fleet: TwoHosts) -> None:
    """The host that renewed it is gone with its disk."""
    store, _ = fleet.process("h2")
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet, "h1")
    store.read("work")
    fleet.database.fail_over(5)
    store.heartbeat.beat()
    assert store.read("work").credential == granted(1)


def test_a_login_of_the_new_epoch_is_not_overwritten(fleet: TwoHosts) -> None:
    (store, _), (other, _) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    fleet.time += 10
    publish(fleet, "h1")
    store.read("work")
    fleet.database.fail_over(5)
    other.heartbeat.measure()
    other.swap("work", 1, document(7))
    store.heartbeat.beat()
    assert other.read("work").credential == granted(7)


def test_an_account_that_got_a_removed_ones_name_is_not_overwritten(fleet: TwoHosts) -> None:
    """Its first generation is older than the removed one's last by number alone."""
    (store, _), (other, _) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    store.swap("work", 1, document(1))
    store.read("work")
    other.swap("work", 2, None)
    other.swap("work", None, document(7))
    store.heartbeat.beat()
    assert other.read("work").credential == granted(7)
    other.read("work")
    fleet.database.fail_over(0)
    for one in (store, other):
        one.heartbeat.beat()
    assert store.read("work").credential == granted(7)


def test_a_generation_that_came_again_is_not_overwritten(fleet: TwoHosts) -> None:
    store, _ = fleet.process()
    store.swap("work", None, document())
    store.swap("work", 1, document(5))
    with pytest.raises(Conflict):
        store.publish("work", 2, document(1), presented(0))
    store.publish("work", 2, document(6), presented(5))
    assert store.read("work").credential == granted(6)


def test_an_attempt_comes_back_in_place_of_one_that_counts_fewer_presentations(fleet: TwoHosts) -> None:
    (store, first), (_, second) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    older = attempt_of(fleet, "h1")
    first.begin("work", older)
    first.sending("work", older, fleet.time)
    fleet.time += 10
    later = attempt_of(fleet, "h2", tries=2)
    second.begin("work", later, replaces=older.id)
    second.sending("work", later, fleet.time)
    fleet.database.fail_over(5)
    for host in ("h2", "h1"):
        fleet.process(host)[0].replay()
    recorded = fleet.database.contents.attempts["work"][0]
    assert (recorded.id, recorded.tries) == (later.id, 2)


def test_an_attempt_in_doubt_is_withdrawn_and_was_no_presentation(fleet: TwoHosts) -> None:
    store, journal = fleet.process()
    store.swap("work", None, document())
    fleet.in_doubt = True
    attempt = attempt_of(fleet)
    while "work" not in fleet.database.contents.attempts:  # it came through, and nobody was told
        with pytest.raises(StorageFailed):
            journal.begin("work", attempt)
    fleet.in_doubt = False
    seen = journal.attempt("work")
    assert seen is not None
    assert not seen.may_be_spent
    store.heartbeat.beat()
    assert journal.attempt("work") is None


@pytest.mark.parametrize("sent", [True, False])
def test_a_host_says_what_became_of_its_dead(fleet: TwoHosts, *, sent: bool) -> None:
    (store, journal), (_, other) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    attempt = attempt_of(fleet)
    journal.begin("work", attempt)
    if sent:
        journal.sending("work", attempt, fleet.time)
    fleet.gone.add(attempt.process)
    fleet.process("h1")[0].heartbeat.beat()
    seen = other.attempt("work")
    assert (seen and seen.state) == ("uncertain" if sent else None)


def test_a_denial_missing_in_the_database_is_recorded_later(fleet: TwoHosts) -> None:
    (store, journal), (_, other) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    attempt = attempt_of(fleet)
    journal.begin("work", attempt)
    journal.sending("work", attempt, fleet.time)
    fleet.spill().mark("work", attempt, "denied")
    fleet.time += 60
    store.heartbeat.drop(attempt.id)
    fleet.process("h1")[0].heartbeat.beat()
    seen = other.attempt("work")
    assert seen is not None
    assert seen.state == "denied"


def test_an_attempt_of_a_silent_host_is_orphaned_not_gone(fleet: TwoHosts) -> None:
    (store, journal), (_, other) = fleet.process("h1"), fleet.process("h2")
    store.swap("work", None, document())
    journal.begin("work", attempt_of(fleet))
    fleet.time += 19
    store.heartbeat.beat()
    fleet.time += 19
    for seconds, state in ((0, "open"), (2, "orphaned")):
        fleet.time += seconds
        seen = other.attempt("work")
        assert seen is not None
        assert seen.state == state


def test_what_was_recorded_long_ago_is_not_sent(fleet: TwoHosts) -> None:
    store, journal = fleet.process()
    store.swap("work", None, document())
    attempt = attempt_of(fleet)
    journal.begin("work", attempt)
    fleet.time += 10.1
    with pytest.raises(StorageFailed, match="nothing was sent"):
        journal.sending("work", attempt, fleet.time)


def test_a_lapsed_lock_is_not_renewed(fleet: TwoHosts) -> None:
    (store, _), (other, _) = fleet.process("h1"), fleet.process("h2")
    lock, taken = store.lock("work"), other.lock("work")
    assert lock.try_acquire() is None
    assert taken.try_acquire() is not None
    fleet.time += 20.1
    assert not lock.is_still_ours()
    assert taken.try_acquire() is None
    store.heartbeat.beat()
    assert not lock.is_still_ours()
    assert taken.is_still_ours()
    lock.release()
    assert taken.is_still_ours()
    assert store.lock("work").try_acquire() is not None


def test_an_attempt_that_came_to_nothing_counts_for_nothing_though_the_database_was_away(fleet: TwoHosts) -> None:
    store, journal = fleet.process()
    store.swap("work", None, document())
    attempt = attempt_of(fleet)
    journal.begin("work", attempt)
    journal.sending("work", attempt, fleet.time)
    fleet.database.is_away = True
    with pytest.raises(StorageFailed):
        journal.close("work", attempt)
    fleet.database.is_away = False
    seen = journal.attempt("work")
    assert seen is not None
    assert not seen.may_be_spent
    fleet.process()[0].heartbeat.beat()
    assert journal.attempt("work") is None
