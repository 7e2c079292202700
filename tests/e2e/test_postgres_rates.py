"""Gateways that share the rates of client keys in a real PostgreSQL."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.postgres import PostgresServer
from tokenferry.errors import StorageFailed
from tokenferry.gateway import SharedKeyRates
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.postgres import ConnectionPool, PostgresRates
from tokenferry.rates import Permit, RateReport, Share, SubjectUse
from tokenferry.state import ClientKey, key_caps

pytestmark = pytest.mark.e2e

CAPS = key_caps(requests_per_minute=60, tokens_per_minute=6000, max_concurrency=4)
KEY = ClientKey("key_1", "ci", "client", 0, "", caps=CAPS)


def report(requests: float = 0, tokens: float = 0, busy: int = 0, subject: str = "key_1") -> RateReport:
    return RateReport(subject, requests, tokens, busy, CAPS)


def test_what_each_reports_all_learn_and_it_drains_by_the_rate(connections: ConnectionPool) -> None:
    one, other = PostgresRates(connections), PostgresRates(connections)
    assert one.exchange([]) == (Share(0, 1), {})
    assert one.exchange([report(30, 3000, busy=2)]).uses == {"key_1": SubjectUse(30, 3000, 0)}
    share, uses = other.exchange([report(10, -1000, busy=1), report(5, subject="key_2")])
    assert share.workers == 2
    assert {one.exchange([]).share.number, share.number} == {0, 1}
    assert uses["key_1"].requests == pytest.approx(40, abs=1)
    assert uses["key_1"].tokens == pytest.approx(2000, abs=100)
    assert uses["key_1"].busy_elsewhere == 2
    assert uses["key_2"].requests == 5
    time.sleep(1.1)
    assert one.exchange([report(busy=2)]).uses["key_1"].requests == pytest.approx(39, abs=1)
    assert one.exchange([report(busy=0)]).uses["key_1"].busy_elsewhere == 1
    other.leave()
    assert one.exchange([report()]).share == Share(0, 1)
    assert one.exchange([report()]).uses["key_1"].busy_elsewhere == 0


def test_a_process_that_is_not_heard_of_lets_its_slots_go(connections: ConnectionPool) -> None:
    gone, alive = PostgresRates(connections), PostgresRates(connections)
    gone.exchange([report(busy=4)])
    assert alive.exchange([report()]).uses["key_1"].busy_elsewhere == 4
    with connections.lease() as connection:
        connection.execute("UPDATE rate_holders SET seen_at = seen_at - interval '21 seconds'")
    share, uses = alive.exchange([report()])
    assert (share.workers, uses["key_1"].busy_elsewhere) == (1, 0)
    assert gone.exchange([report(busy=4)]).share.workers == 2


def test_a_clock_that_was_set_back_leaves_no_rate_owed_and_no_slot_held(connections: ConnectionPool) -> None:
    gone, alive = PostgresRates(connections), PostgresRates(connections)
    gone.exchange([report(60, busy=4)])
    with connections.lease() as connection:
        connection.execute("UPDATE rate_holders SET seen_at = seen_at + interval '5 hours'")
        connection.execute("UPDATE rates SET at = at + interval '5 hours'")
    share, uses = alive.exchange([report()])
    assert (share.workers, uses["key_1"].busy_elsewhere) == (1, 0)
    time.sleep(1.1)
    assert alive.exchange([report()]).uses["key_1"].requests < 59.1


def test_processes_that_exchange_at_once_lose_nothing_and_never_wait_for_each_other_in_a_ring(
    connections: ConnectionPool,
) -> None:
    hosts = [PostgresRates(connections) for _ in range(4)]

    def exchange(host: PostgresRates) -> None:
        for _ in range(25):
            subjects = random.sample(["a", "b", "c", "d"], 4)
            host.exchange([report(1, subject=subject) for subject in subjects])

    begun = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(exchange, hosts)] == [None] * 4
    owed = hosts[0].exchange([report(subject="a")]).uses["a"].requests
    assert 100 - (time.monotonic() - begun) - 1 <= owed <= 100


@pytest.mark.parametrize("seed", range(4))
def test_two_gateways_together_let_through_what_is_stated(connections: ConnectionPool, seed: int) -> None:
    """Requests, exchanges and ends in any order: no more than the cap, half of it, and a second's worth."""
    chance = random.Random(seed)
    hosts = [(SharedKeyRates(), PostgresRates(connections)) for _ in range(2)]

    def exchange(one: int) -> None:
        rates, shared = hosts[one]
        rates.adopt(shared.exchange(rates.reports()))

    for one in (0, 1, 0):
        exchange(one)
    begun, held = time.monotonic(), list[tuple[int, Permit]]()
    passed = [0, 0]
    while sum(passed) < 60 or time.monotonic() - begun < 1:
        one = chance.choice((0, 0, 0, 1)) if seed % 2 else chance.randrange(2)
        try:
            held.append((one, hosts[one][0].admit(KEY, 10)))
            passed[one] += 1
        except GatewayError:
            pass
        assert len(held) <= 4 + 2, "requests at a time"
        if held and chance.random() < 0.7:
            owner, permit = held.pop(chance.randrange(len(held)))
            hosts[owner][0].settle(permit, 10)
        if chance.random() < 0.3:
            exchange(one)
    seconds = time.monotonic() - begun
    assert 60 <= sum(passed) <= 60 + 30 + seconds + 1
    assert min(passed) > 0


def test_while_the_database_is_away_each_has_its_even_part(
    connections: ConnectionPool, postgres: PostgresServer
) -> None:
    rates, shared = SharedKeyRates(), PostgresRates(connections)
    PostgresRates(connections).exchange([])
    rates.adopt(shared.exchange([]))
    rates.admit(KEY, 10)
    postgres.stop("immediate")
    try:
        reports = rates.reports()
        with pytest.raises(StorageFailed):
            shared.exchange(reports)
        rates.lose(reports)
        rates.admit(KEY, 10)
        with pytest.raises(GatewayError, match="4 requests at a time"):
            rates.admit(KEY, 10)
    finally:
        postgres.start()
    (again,) = rates.reports()
    assert again.requests == 2, "what may not have come is reported again"
    rates.adopt(shared.exchange([again]))
