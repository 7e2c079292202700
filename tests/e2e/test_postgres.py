"""State and ledger over a real PostgreSQL: the schema's way, and the same contracts as over files."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.postgres import PostgresServer
from tokenferry.errors import Conflict, StorageFailed, StoreAway, TokenferryError
from tokenferry.postgres import (
    ConnectionPool,
    grant,
    initialise,
    migrations,
    schema_status,
    shared_login_secret,
    upgrade,
)
from tokenferry.settings import StoreSettings

pytestmark = pytest.mark.e2e


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[ConnectionPool]:
    name = postgres.create()
    connections = ConnectionPool(StoreSettings(url=postgres.url(name)))
    yield connections
    connections.close()
    postgres.drop(name)


def test_several_hosts_make_the_tables_once(empty: ConnectionPool) -> None:
    assert schema_status(empty).fleet == ""
    with pytest.raises(StorageFailed, match="store init"), empty.lease() as connection:
        connection.execute("SELECT * FROM client_keys")
    ran: list[str] = []
    faults: list[TokenferryError] = []
    barrier = threading.Barrier(3)

    def make() -> None:
        barrier.wait()
        try:
            ran.extend(initialise(empty, "prod"))
        except TokenferryError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(ran), faults) == (sorted(one.name for one in migrations()), [])
    status = schema_status(empty)
    assert (status.fleet, status.schema) == ("prod", status.known)
    assert upgrade(empty) == []
    with pytest.raises(Conflict, match="holds the fleet 'prod'"):
        initialise(empty, "staging")


def test_a_database_of_another_program_is_left_alone(empty: ConnectionPool) -> None:
    with empty.lease() as connection:
        connection.execute("CREATE TABLE revisions (theirs text)")
    with pytest.raises(StorageFailed, match="a database of its own"):
        initialise(empty, "prod")
    assert schema_status(empty).fleet == ""


def test_a_migration_waits_for_locks_a_little_and_then_lets_others_pass(connections: ConnectionPool) -> None:
    waits: list[float] = []
    with connections.lease() as other:

        def let_go(seconds: float) -> None:
            waits.append(seconds)
            other.execute("ROLLBACK")

        other.execute("UPDATE fleet SET schema = schema - 1")
        other.execute("BEGIN")
        other.execute("LOCK TABLE fleet IN SHARE UPDATE EXCLUSIVE MODE")
        last = migrations()[-1]
        again = [type(last)(last.number, last.name, "SELECT 1")]
        assert upgrade(connections, known=again, wait=let_go) == [last.name]
    assert len(waits) == 1


def test_the_role_that_serves_cannot_change_tables(postgres: PostgresServer, connections: ConnectionPool) -> None:
    with connections.lease() as connection:
        name = connection.info.dbname
    role = f"serves_{name}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    serving = ConnectionPool(StoreSettings(url=postgres.url(name, user=role)))
    with pytest.raises(StorageFailed, match="store init --grant-to"), serving.lease() as connection:
        connection.execute("SELECT * FROM client_keys")
    grant(connections, role)
    with serving.lease() as connection:
        connection.execute("INSERT INTO organizations VALUES ('a', 'b')")
    with pytest.raises(StorageFailed), serving.lease() as connection:
        connection.execute("DROP TABLE organizations")
    serving.close()
    connections.close()
    postgres.drop(name)
    postgres.execute(f"DROP ROLE {role}")


def test_a_server_that_is_away_says_so_at_once_and_is_used_again(
    postgres: PostgresServer, connections: ConnectionPool
) -> None:
    facts = connections.facts()
    assert (facts.is_pooled, facts.is_standby) == (False, False)
    assert facts.version // 10000 == int(postgres.version)
    postgres.stop("immediate")
    with pytest.raises(StorageFailed, match="store status"):
        connections.facts()
    postgres.start()
    assert connections.facts().started != facts.started


def test_a_frozen_server_is_noticed_within_seconds_and_keeps_no_connection(
    postgres: PostgresServer, connections: ConnectionPool
) -> None:
    with connections.lease(answer_within=0.5) as one:
        pid = one.info.backend_pid
    postgres.freeze()
    try:
        begun = time.monotonic()
        with (
            pytest.raises(StoreAway, match="no answer within") as away,
            connections.lease(0.5) as one,
            one.transaction(),
        ):
            one.execute("SELECT 1")
        assert connections.name in str(away.value)
        assert connections.name not in (away.value.for_clients or connections.name), "clients may not read it"
        assert time.monotonic() - begun < 2
    finally:
        postgres.thaw()
    with connections.lease() as one:
        assert one.info.backend_pid != pid, "a late answer would be taken for the next statement's"
        assert list(one.execute("SELECT 2").fetchall()[0]) == [2]


def test_hosts_begin_and_finish_logins_with_one_secret(connections: ConnectionPool) -> None:
    with ThreadPoolExecutor(4) as hosts:
        (found,) = {*hosts.map(lambda _: shared_login_secret(connections), range(4))}
    assert len(found.reveal()) == 64


@pytest.mark.parametrize(("apart", "is_said", "stops"), [(29, False, False), (31, True, False), (301, True, True)])
def test_clocks_that_are_apart_are_said_with_what_follows(
    connections: ConnectionPool, apart: int, *, is_said: bool, stops: bool
) -> None:
    facts = connections.facts()
    for now in (facts.clock - apart, facts.clock + apart):
        said = facts.clocks_apart(now)
        assert bool(said) == is_said
        assert (f"{apart} s apart" in said) == is_said
        assert ("no login is refreshed here" in said) == stops
