"""What one host changes counts on the others, and what holds while the database is away."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts import document
from e2e.postgres import PostgresServer
from tokenferry.broker import Broker, open_backend
from tokenferry.broker._fleet_backend import FleetBackend
from tokenferry.errors import StorageFailed, StoreAway
from tokenferry.postgres import ConnectionPool, PostgresDatabase, PostgresTables, RevisionWatch
from tokenferry.settings import Home, StoreSettings
from tokenferry.state import Cooldown, Scope, State

pytestmark = pytest.mark.e2e

HERE = Scope("account", "alice")
Host = Callable[..., contextlib.AbstractContextManager[State]]


def within(seconds: float, is_so: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.005)


@pytest.fixture
def host(postgres: PostgresServer, connections: ConnectionPool) -> Host:
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)

    @contextlib.contextmanager
    def made(**settings: float) -> Iterator[State]:
        """The state of a gateway on a host of its own."""
        stored = StoreSettings(url=url, **settings)  # type: ignore[arg-type]
        pool = ConnectionPool(stored)
        watch = RevisionWatch(pool, stored)
        with State(PostgresDatabase(pool, "state", watch)) as state:
            watch.start()
            yield state

    return made


def test_keys_cooldowns_and_sessions_of_one_host_count_on_the_other(host: Host) -> None:
    with host() as one, host() as other:
        _, secret = one.keys.create("ci")
        within(1, lambda: other.keys.verify(secret.reveal()))
        one.cooldowns.put(Cooldown(HERE, "rate-limited", "answer", until=int(time.time()) + 60))
        within(1, lambda: [each.scope for each in other.cooldowns.list()] == [HERE])
        _, cookie = one.sessions.begin(name="ci", role="client", way="key", key=one.keys.list()[0].id)
        within(1, lambda: other.sessions.find(cookie))
        one.keys.revoke("ci")
        within(1, lambda: other.keys.verify(secret.reveal()) is None)
        within(1, lambda: other.sessions.find(cookie) is None)


def test_a_change_without_a_notification_is_found_by_polling(host: Host, connections: ConnectionPool) -> None:
    with connections.lease() as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION raise_revision() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN UPDATE revisions SET number = number + 1 WHERE name = TG_ARGV[0]; RETURN NULL; END $$"
        )
    with host() as one, host() as other:
        _, secret = one.keys.create("ci")
        within(3, lambda: other.keys.verify(secret.reveal()))


def test_no_event_loop_asks_the_database(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with host() as one, host() as other:
        _, secret = one.keys.create("ci")
        within(1, lambda: other.keys.verify(secret.reveal()))

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the database was asked")

        with monkeypatch.context() as patched:
            patched.setattr(PostgresDatabase, "rows", refuse)
            patched.setattr(PostgresDatabase, "transaction", refuse)
            assert other.keys.verify(secret.reveal()) is not None
            assert other.keys.verify("tfk_" + "x" * 43) is None
            assert other.cooldowns.list() == ()
            assert other.version() >= 0
            assert other.away_for() == 0


def test_while_the_database_is_away_known_keys_count_for_as_long_as_is_said(
    host: Host, postgres: PostgresServer
) -> None:
    with host(serve_stale=1.0) as brief, host() as patient:
        _, secret = patient.keys.create("ci")
        within(1, lambda: brief.keys.verify(secret.reveal()))
        assert not patient.keys.is_away()
        postgres.stop("immediate")
        try:
            within(3, patient.keys.is_away)
            assert patient.keys.verify(secret.reveal()) is not None
            with pytest.raises(StorageFailed):
                patient.keys.create("other")
            within(5, lambda: brief.keys.verify(secret.reveal()) is None)
            assert brief.away_for() > 1
            assert patient.keys.verify(secret.reveal()) is not None
        finally:
            postgres.start()
        within(8, lambda: brief.keys.verify(secret.reveal()))
        within(8, lambda: not patient.keys.is_away())
        within(1, lambda: (brief.away_for(), patient.away_for()) == (0, 0))


def test_a_frozen_server_counts_as_away_within_seconds(host: Host, postgres: PostgresServer) -> None:
    with host() as one:
        within(3, lambda: not one.keys.is_away())
        postgres.freeze()
        try:
            within(10, one.keys.is_away)
        finally:
            postgres.thaw()
        within(8, lambda: not one.keys.is_away())


@pytest.fixture
def gateway(
    postgres: PostgresServer, connections: ConnectionPool, host: Host, tmp_path: Path
) -> Callable[..., contextlib.AbstractContextManager[Broker]]:
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)

    @contextlib.contextmanager
    def made(name: str, **settings: float) -> Iterator[Broker]:
        """The broker of a gateway on a host of its own."""
        home = Home(tmp_path / name)
        home.path.mkdir(mode=0o700)
        stored = StoreSettings(url=url, unsealed=True, **settings)  # type: ignore[arg-type]
        backend = open_backend(home, stored)
        assert isinstance(backend, FleetBackend)
        broker = Broker(backend=backend)
        broker.listing()
        with host(**settings) as state:
            broker.follow(state.follow)
            yield broker
            broker.drain(0)
            backend.store.heartbeat._thread.stop()
            backend._pool.close()

    return made


Gateway = Callable[..., contextlib.AbstractContextManager[Broker]]


def add(broker: Broker, name: str, number: int = 0) -> None:
    made = document(number, name)
    broker.add(made.account, made.credential)


def serves(broker: Broker, name: str, number: int = 0) -> bool:
    is_listed = name in {account.name for account in broker.listing().accounts}
    return is_listed and broker.resolve(name) == document(number).credential


def test_accounts_of_one_host_serve_on_the_other(gateway: Gateway) -> None:
    with gateway("h1") as one, gateway("h2") as other:
        add(one, "work")
        assert serves(one, "work"), "its own change counts at once"
        within(1, lambda: serves(other, "work"))
        one.remove("work")
        within(1, lambda: other.listing().accounts == ())
        add(one, "work", 7)
        within(1, lambda: serves(other, "work", 7))


def test_accounts_without_a_notification_are_found_by_polling(gateway: Gateway, connections: ConnectionPool) -> None:
    with gateway("h1") as one, gateway("h2") as other:
        add(one, "work")
        within(1, lambda: serves(other, "work"))
        with connections.lease() as connection, connection.transaction():
            connection.execute("UPDATE revisions SET number = number + 1 WHERE name = 'accounts'")
            connection.execute("DELETE FROM accounts")
        within(3, lambda: other.listing().accounts == ())


def test_no_request_asks_the_database_for_an_account(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway("h1") as one, gateway("h2") as other:
        add(one, "work")
        within(1, lambda: serves(other, "work"))

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the database was asked")

        with monkeypatch.context() as patched:
            patched.setattr(PostgresTables, "_lease", refuse)
            other.invalidate("work", document(3).credential.secret)
            for _ in range(2):
                assert serves(other, "work")
                other._entries.clear()


def test_while_the_database_is_away_known_accounts_serve_for_as_long_as_is_said(
    gateway: Gateway, postgres: PostgresServer
) -> None:
    with gateway("h1", serve_stale=1.0) as brief, gateway("h2") as patient:
        add(patient, "work")
        within(1, lambda: serves(brief, "work"))
        postgres.stop("immediate")
        try:
            assert serves(brief, "work")
            within(5, lambda: raises_away(brief))
            assert serves(patient, "work")
            with pytest.raises(StorageFailed):
                add(patient, "other")
        finally:
            postgres.start()
        within(8, lambda: not raises_away(brief))
        assert serves(brief, "work")


def raises_away(broker: Broker) -> bool:
    try:
        broker.resolve("work")
        broker.listing()
    except StoreAway:
        return True
    return False
