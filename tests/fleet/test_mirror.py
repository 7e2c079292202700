"""What a process knows of the accounts that hosts share: all that a request's way reads."""

import pytest
from msgspec.structs import replace

from contracts import document
from fleet.rig import TwoHosts
from tokenferry.broker import Broker, GivenBackend
from tokenferry.errors import StorageFailed, StoreAway, UnknownAccount
from tokenferry.fleet import FleetStore
from tokenferry.settings import StoreSettings

SERVE_STALE = StoreSettings().serve_stale


def mirrored(fleet: TwoHosts) -> FleetStore:
    """The store of a process that has looked once."""
    store, _ = fleet.process("h2")
    assert store.mirror.stamps().keys() == {"work"}
    return store


@pytest.fixture
def other(fleet: TwoHosts) -> FleetStore:
    store, _ = fleet.process("h1")
    store.swap("work", None, document())
    return store


def test_a_command_that_has_not_looked_asks_the_database(fleet: TwoHosts, other: FleetStore) -> None:
    store, _ = fleet.process("h2")
    other.swap("work", 1, document(1))
    assert store.mirror.read("work") == replace(document(1), generation=2)
    assert store.mirror.names() == ["work"]
    fleet.database.is_away = True
    with pytest.raises(StorageFailed):
        store.mirror.read("work")


def test_what_was_read_counts_while_the_database_is_away_and_no_longer(fleet: TwoHosts, other: FleetStore) -> None:
    assert other.mirror.read("work") == document()
    mirror = mirrored(fleet).mirror
    fleet.database.is_away = True
    fleet.time += SERVE_STALE
    with pytest.raises(StorageFailed):
        mirror.stamps()
    assert (mirror.read("work"), mirror.names()) == (document(), ["work"])
    fleet.time += 1
    assert mirror.stamps() == {}, "whoever watches forgets what it has handed out"
    for read in (mirror.names, lambda: mirror.read("work"), lambda: mirror.header("work")):
        with pytest.raises(StoreAway, match="more than 900 s"):
            read()
    fleet.database.is_away = False
    assert mirror.stamps().keys() == {"work"}
    assert mirror.read("work") == document()


def test_changes_of_others_are_seen_at_the_next_look_and_ones_own_at_once(fleet: TwoHosts, other: FleetStore) -> None:
    store = mirrored(fleet)
    changes: list[int] = []
    store.mirror.notify(lambda: changes.append(1))
    other.swap("work", 1, document(1))
    assert store.mirror.read("work") == document()
    assert changes == []
    store.mirror.stamps()
    assert (store.mirror.read("work").generation, len(changes)) == (2, 1)
    store.swap("home", None, document(0, "home"))
    assert store.mirror.names() == ["home", "work"]
    store.swap("work", 2, None)
    with pytest.raises(UnknownAccount, match="home"):
        store.mirror.read("work")
    assert len(changes) == 3


def test_who_hears_of_changes_does_not_ask(fleet: TwoHosts, other: FleetStore) -> None:
    store = mirrored(fleet)
    heard = []

    def follow(table: str, *calls: object) -> bool:
        heard.append((table, calls))
        return True

    store.mirror.follow(follow)
    ((table, (read, forget)),) = heard
    assert table == "accounts"
    other.swap("work", 1, document(1))
    store.mirror.stamps()  # what changed between the last look and the first notice
    other.swap("work", 2, document(2))
    store.mirror.stamps()
    assert store.mirror.read("work").generation == 2
    assert callable(read)
    read()
    assert store.mirror.read("work").generation == 3
    assert callable(forget)
    forget()
    assert store.mirror.stamps() == {}
    with pytest.raises(StoreAway):
        store.mirror.read("work")
    read()
    assert store.mirror.read("work").generation == 3


def test_a_gateway_lists_and_resolves_without_the_database(fleet: TwoHosts, other: FleetStore) -> None:
    store, journal = fleet.process("h2")
    broker = Broker(backend=GivenBackend(store, journal), now=lambda: fleet.time)
    (account,) = broker.listing().accounts
    assert account.name == "work"
    fleet.database.is_away = True
    assert broker.resolve("work") == document().credential
    with pytest.raises(StorageFailed):
        other.read("work")
