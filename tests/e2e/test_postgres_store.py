"""Accounts, attempts and locks in a real PostgreSQL: the contracts of files, and what only several hosts meet."""

import itertools
import shutil
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from contracts import JournalContract, LockContract, Opener, StoreContract, begun, document, presented
from e2e.postgres import PostgresServer
from fleet.sealing_host import Countdown, Killed, SealingHost
from tokenferry.errors import Conflict, CorruptFile, RefreshBusy, StorageFailed, TryLater, UsageError
from tokenferry.fleet import FleetJournal, FleetStore, Heartbeat, HostKeys, Spill, shared_key
from tokenferry.postgres import ConnectionPool, PostgresTables
from tokenferry.settings import Home
from tokenferry.stores import ProcessIdentity, Seal

pytestmark = pytest.mark.e2e


class Host:
    """One host: its folder, its connections, and as many stores and journals as there are processes."""

    def __init__(self, name: str, connections: ConnectionPool, folder: Path) -> None:
        self.name = name
        self.tables = PostgresTables(connections)
        self.seal = Seal(Home(folder))
        self.spill = Spill(folder / "spill", seal=self.seal)

    def open(self, *, unsealed: bool = True) -> tuple[FleetStore, FleetJournal]:
        store = FleetStore(self.tables, self.seal, self.spill, unsealed=unsealed)
        return store, FleetJournal(self.tables, self.spill, store.heartbeat, self.name)

    def own(self) -> ProcessIdentity:
        return replace(ProcessIdentity.own(), instance=self.name)


@pytest.fixture(autouse=True)
def _no_hold_off(connections: ConnectionPool) -> None:
    """Whatever test restarted the server before."""
    with connections.lease() as connection:
        connection.execute(b"UPDATE fleet SET epoch_since = '-infinity', started = pg_postmaster_start_time()")


@pytest.fixture
def hosts(connections: ConnectionPool, tmp_path: Path) -> tuple[Host, Host]:
    return Host("h1", connections, tmp_path / "h1"), Host("h2", connections, tmp_path / "h2")


@pytest.fixture
def opener(connections: ConnectionPool, tmp_path: Path) -> Opener:
    return Host("", connections, tmp_path).open


class TestStore(StoreContract):
    """The store."""


class TestLock(LockContract):
    """Its locks."""


class TestJournal(JournalContract):
    """The journal."""


def test_a_late_publication_and_a_new_attempt_are_serial(hosts: tuple[Host, Host], connections: ConnectionPool) -> None:
    """The attempt waits for the row that is being published, and then finds another token in it."""
    (store, journal), (_, other) = hosts[0].open(), hosts[1].open()
    store.swap("work", None, document())
    first = replace(begun(), process=hosts[0].own())
    journal.begin("work", first)
    faults: list[Exception] = []

    def begin() -> None:
        try:
            other.begin("work", begun(tries=2), replaces=first.id)
        except Conflict as fault:
            faults.append(fault)

    thread = threading.Thread(target=begin)
    with connections.lease() as connection, connection.transaction():
        connection.execute(b"UPDATE accounts SET refresh = 'another', generation = 2")
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it did not wait for the row"
    thread.join()
    assert len(faults) == 1
    assert other.attempt("work") is not None


def test_a_generation_that_came_again_is_not_overwritten(hosts: tuple[Host, Host]) -> None:
    store, _ = hosts[0].open()
    store.swap("work", None, document())
    store.swap("work", 1, document(5))
    with pytest.raises(Conflict):
        store.publish("work", 2, document(1), presented(0))
    store.publish("work", 2, document(6), presented(5))
    assert store.read("work") == replace(document(6), generation=3)


def test_an_account_that_got_a_removed_ones_name_is_not_overwritten(hosts: tuple[Host, Host]) -> None:
    (store, _), (other, _) = hosts[0].open(), hosts[1].open()
    store.swap("work", None, document())
    store.swap("work", 1, document(1))
    store.read("work")
    other.swap("work", 2, None)
    other.swap("work", None, document(7))
    store.replay()
    assert other.read("work") == document(7)
    (row,) = hosts[0].tables.accounts(["work"])
    assert not hosts[0].tables.put_forward(replace(row, added=row.added - 1, generation=9))
    assert hosts[0].tables.put_forward(replace(row, generation=9))


def test_nothing_is_stored_in_clear_unless_that_is_allowed(hosts: tuple[Host, Host]) -> None:
    store, _ = hosts[0].open(unsealed=False)
    with pytest.raises(UsageError, match=r"encryption enable .*unsealed = true"):
        store.swap("work", None, document())
    hosts[0].open()[0].swap("work", None, document())
    with pytest.raises(CorruptFile, match="unsealed = true"):
        store.read("work")


def test_after_a_restart_nothing_begins_until_what_was_lost_can_be_back(
    hosts: tuple[Host, Host], postgres: PostgresServer
) -> None:
    store, journal = hosts[0].open()
    store.swap("work", None, document())
    postgres.stop("immediate")
    with pytest.raises(StorageFailed):
        store.read("work")
    postgres.start()
    with pytest.raises(RefreshBusy, match="restarted") as caught:
        journal.begin("work", begun())
    assert caught.value.retry_after is not None
    assert 80 < caught.value.retry_after <= 90
    assert journal.attempt("work") is None
    assert hosts[0].spill.accounts() == frozenset()


@pytest.mark.parametrize("apart", [-301, 301, -290, 290])
def test_a_host_whose_clock_is_wrong_by_five_minutes_refreshes_nothing(
    hosts: tuple[Host, Host], connections: ConnectionPool, apart: int
) -> None:
    hosts[0].tables = PostgresTables(connections, now=lambda: time.time() + apart)
    store, journal = hosts[0].open()
    store.swap("work", None, document())
    if abs(apart) < 300:
        journal.begin("work", begun())
        return
    with pytest.raises(RefreshBusy, match=r"30[01] s apart, so nothing is refreshed here; set the clock"):
        journal.begin("work", begun())
    assert (journal.attempt("work"), hosts[0].spill.accounts()) == (None, frozenset())
    hosts[1].open()[1].begin("work", begun())


def test_an_operator_says_of_a_host_that_it_is_gone(hosts: tuple[Host, Host]) -> None:
    (store, _), (_, journal) = hosts[0].open(), hosts[1].open()
    store.swap("work", None, document())
    attempt = replace(begun(), process=replace(ProcessIdentity.own(), instance="h2:namespace"))
    journal.begin("work", attempt)
    _, other = hosts[0].open()
    for count, host, is_gone in ((0, "h3", False), (1, "h2", True)):
        assert hosts[0].tables.forget_host(host) == count
        seen = other.attempt("work")
        assert seen is not None
        assert (seen.state, seen.process.instance == "" and seen.process.is_gone()) == ("open", is_gone)


def test_renewing_takes_no_lock_back(hosts: tuple[Host, Host], connections: ConnectionPool) -> None:
    tables = hosts[0].tables
    assert tables.take("work", "a", "first") is None
    assert tables.renew(["a"], []) == {"a"}
    with connections.lease() as connection:
        connection.execute(b"UPDATE locks SET until = clock_timestamp() - interval '1 s'")
    assert tables.take("work", "b", "second") is None
    assert tables.renew(["a"], []) == frozenset()
    tables.release("work", "a")
    assert tables.take("work", "c", "third") == "second"
    tables.release("work", "b")
    assert tables.renew(["b"], []) == frozenset()
    assert tables.take("work", "c", "third") is None


def test_a_lock_from_before_the_clock_was_set_back_is_free(
    hosts: tuple[Host, Host], connections: ConnectionPool
) -> None:
    tables = hosts[0].tables
    assert tables.take("work", "a", "first") is None
    with connections.lease() as connection:
        connection.execute(b"UPDATE locks SET until = until + interval '15 s'")
        assert tables.take("work", "b", "second") == "first"
        connection.execute(b"UPDATE locks SET until = until + interval '5 hours'")
    assert tables.take("work", "b", "second") is None
    assert tables.renew(["a", "b"], []) == {"b"}


def test_a_clock_that_was_set_back_after_a_restart_holds_off_no_longer_than_the_restart(
    hosts: tuple[Host, Host], connections: ConnectionPool
) -> None:
    tables = hosts[0].tables
    number = tables.epoch().number
    with connections.lease() as connection:
        connection.execute(b"UPDATE fleet SET epoch_since = clock_timestamp() + interval '5 hours'")
    found = tables.epoch()
    assert found.number == number
    assert 80 < found.hold_off <= 90


def test_keys_are_named_once_every_live_host_can_open_them(hosts: tuple[Host, Host]) -> None:
    tables = hosts[0].tables
    assert (tables.epoch().sealed_with, list(tables.hosts())) == (None, [])
    one, two = HostKeys("h1", "a", frozenset(("k1", "k2"))), HostKeys("h2", "b", frozenset(("k1",)))
    for host in (two, replace(one, opens=frozenset()), one):
        tables.appear(host)
    assert list(tables.hosts()) == [one, two]
    assert not tables.adopt("k1"), "it was not proposed"
    for key, is_adopted in (("k1", True), ("k2", False)):
        tables.propose(key)
        assert tables.adopt(key) == is_adopted
    assert (tables.epoch().sealed_with, tables.epoch().next_key) == ("k1", "k2")
    tables.forget_host("h2")
    assert tables.adopt("k2")
    assert tables.epoch().next_key is None
    assert shared_key(tables).lines() == ["key k2"]


def test_a_host_that_is_silent_for_ten_minutes_keeps_no_key_back(
    hosts: tuple[Host, Host], connections: ConnectionPool
) -> None:
    tables = hosts[0].tables
    for name, minutes in (("gone", 11), ("live", 9)):
        tables.appear(HostKeys(name, "a", frozenset()))
        with connections.lease() as connection:
            connection.execute(
                b"UPDATE hosts SET seen_at = seen_at - make_interval(mins => %s) WHERE name = %s", (minutes, name)
            )
    tables.propose("k")
    assert [host.name for host in tables.hosts()] == ["live"]
    assert not tables.adopt("k")
    tables.appear(HostKeys("live", "a", frozenset("k")))
    assert tables.adopt("k")


def test_a_rotation_that_ends_at_any_step_is_continued(
    connections: ConnectionPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "start", lambda _: None)
    monkeypatch.setattr("tokenferry.accounts._sealing.refuse_temporary", lambda _: None)

    def host(name: str, countdown: Countdown | None = None) -> SealingHost:
        return SealingHost(tmp_path, name, PostgresTables(connections), countdown=countdown)

    def rotate(countdown: Countdown | None = None) -> None:
        try:
            host("h1", countdown).sealing.rotate()
        except TryLater:
            shutil.copy(host("h1").key_file, host("h2").key_file)
            host("h2").store.heartbeat.beat()
            host("h1", countdown).sealing.rotate()

    names = ("home", "work")
    host("h1").enable()
    shutil.copy(host("h1").key_file, host("h2").key_file)
    host("h2").enable()
    for number, name in enumerate(names):
        host("h2").store.swap(name, None, document(number, name))
    for step in itertools.count(2, 9):
        before = key_named(connections)
        try:
            rotate(Countdown(step))
        except Killed:
            with connections.lease() as connection:
                connection.execute(b"DELETE FROM locks")  # which lapse in 20 seconds
            for number, name in enumerate(names):
                for reader in ("h1", "h2"):
                    assert host(reader).store.read(name).credential == document(number, name).credential
            rotate()
        else:
            break
        headers = [host("h2").store.header(name) for name in names]
        assert {header and header.key for header in headers} == {key_named(connections)} != {before}
        assert host("h2").sealing.seal().changed == ()
    assert step > 50


def key_named(connections: ConnectionPool) -> str | None:
    return PostgresTables(connections).epoch().sealed_with
