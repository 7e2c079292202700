"""The ledger of several hosts over a real PostgreSQL."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.postgres import PostgresServer
from ledger.books import DAY, NOW, PRICES, entry
from ledger.test_budgets import Clock, Simulation, check_budget
from tokenferry.ledger import Ledger
from tokenferry.postgres import ConnectionPool, PostgresDatabase, grant
from tokenferry.settings import LedgerSettings, StoreSettings
from tokenferry.state import Transaction

pytestmark = pytest.mark.e2e


def test_hosts_that_write_at_once_count_each_request_once(
    postgres: PostgresServer, connections: ConnectionPool
) -> None:
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)

    def host(number: int) -> None:
        pool = ConnectionPool(StoreSettings(url=url))
        with Ledger(PostgresDatabase(pool, "ledger"), now=lambda: NOW) as ledger:
            for batch in range(10):
                # Each request is written by two hosts, as after an answer to a commit was lost.
                first = (number // 2) * 1000 + batch * 20
                ledger.write([entry(first + one, session=f"s-{one}") for one in range(20)], PRICES)

    with ThreadPoolExecutor(4) as hosts:
        list(hosts.map(host, range(4)))
    ledger = Ledger(PostgresDatabase(connections, "ledger"))
    (rows,) = ledger.rows(
        "SELECT count(*) AS n, sum(cost_micros) AS cost, count(DISTINCT request_id) AS ids FROM requests"
    )
    assert (rows["n"], rows["ids"]) == (400, 400)
    for table in ("hours", "days"):
        (sums,) = ledger.rows(f"SELECT sum(requests) AS n, sum(cost_micros) AS cost FROM {table}")
        assert (sums["n"], sums["cost"]) == (400, rows["cost"])


def test_days_are_tables_of_their_own_and_go_as_a_whole(postgres: PostgresServer, connections: ConnectionPool) -> None:
    """The role that serves has them made and dropped, though it may make and drop no table."""
    with connections.lease() as connection:
        name = connection.info.dbname
    role = f"serves_{name}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    grant(connections, role)
    pool = ConnectionPool(StoreSettings(url=postgres.url(name, user=role)))
    now = [NOW]
    with Ledger(PostgresDatabase(pool, "ledger"), now=lambda: now[0]) as ledger:
        ledger.write([entry(1), entry(2, at=NOW - DAY)], PRICES)  # before there is a table for the day

        def places() -> dict[str, int]:
            found = ledger.rows("SELECT tableoid::regclass::text AS part, count(*) AS n FROM requests GROUP BY 1")
            return {row["part"]: row["n"] for row in found}

        today = int(NOW) // DAY
        assert places() == {"requests_other": 2}
        assert ledger.retain(LedgerSettings(keep_requests=5 * DAY)) == 0
        assert places() == {"requests_other": 1, f"requests_{today}": 1}
        now[0] += DAY
        ledger.write([entry(3, at=now[0])], PRICES)
        assert places()[f"requests_{today + 1}"] == 1
        now[0] += 6 * DAY
        assert ledger.retain(LedgerSettings(keep_requests=5 * DAY)) == 0
        assert places() == {}
        tables = ledger.rows("SELECT relname FROM pg_class WHERE relname ~ '^requests_[0-9]+$'")
        assert f"requests_{today}" not in {row["relname"] for row in tables}
        assert ledger.rows("SELECT sum(requests) AS n FROM days")[0]["n"] == 3
    connections.close()
    postgres.drop(name)
    postgres.execute(f"DROP ROLE {role}")


def test_hosts_share_a_budget_within_its_bound_though_any_may_die(connections: ConnectionPool) -> None:
    class Timed(PostgresDatabase):
        """One whose clock is the simulation's."""

        def __init__(self, clock: Clock) -> None:
            super().__init__(connections, "ledger")
            self._clock = clock

        def now(self, transaction: Transaction) -> float:
            return self._clock()

        def close(self) -> None:
            """The others go on with its connections."""

    check_budget(Simulation(Timed, random.Random(7), processes=3))
