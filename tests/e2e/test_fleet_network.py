"""Hosts on machines and a network of their own, over a real PostgreSQL."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.conftest import Tell
from e2e.fleet import Fleet, FleetHost
from e2e.network import Machine, Network, new_network
from e2e.parties import CHILDREN, SandboxProcess, end, eventually
from e2e.postgres import VERSIONS, PostgresServer, running_postgres

pytestmark = pytest.mark.e2e

_HOSTS = ("h1", "h2", "h3")
_PROCESSES = 67
"""Of each host: 201 in all."""


class Site(NamedTuple):
    """What the tests share: the machines and the database's server."""

    network: Network
    machines: tuple[Machine, ...]
    postgres: PostgresServer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(new_network(tmp_path_factory.mktemp("network")))
        machines = tuple(network.add(name) for name in _HOSTS)
        place = network.add("db1")
        server = running_postgres(VERSIONS[0], address=place.address, inside=place.on_network)
        yield Site(network, machines, stack.enter_context(server))


@pytest.fixture
def fleet(site: Site, sandbox: SandboxProcess, tmp_path: Path) -> Fleet:
    database = site.postgres.create()
    hosts = hosts_of(site, sandbox, tmp_path, site.postgres.url(database))
    made = Fleet(hosts, site.postgres, database, sandbox)
    made.form()
    return made


def hosts_of(site: Site, sandbox: SandboxProcess, folder: Path, url: str) -> list[FleetHost]:
    for machine in site.machines:
        machine.forward(sandbox.url)
    key = folder / "keys" / "seal"
    return [FleetHost(folder / one.name, url, sandbox.url, key, machine=one) for one in site.machines]


def test_one_login_serves_every_host_and_is_refreshed_once(fleet: Fleet, tell: Tell) -> None:
    """Two hundred processes of three hosts ask at once for a login that has expired."""
    fleet.add()
    assert [host.run("account", "list").out.count("alice") for host in fleet.hosts] == [1, 1, 1]
    start = time.time() + 10
    child = (sys.executable, str(CHILDREN / "crowd.py"), "alice", str(_PROCESSES), str(start))
    given: list[str] = []
    for process in [host.begin(*child) for host in fleet.hosts]:
        outcome = end(process)
        assert outcome.code == 0, outcome.err
        given += json.loads(outcome.out)
    assert len(given) == len(_HOSTS) * _PROCESSES
    assert {len(one) for one in given} == {64}, set(given)
    assert len(set(given)) == 1
    assert fleet.figures() == (1, 0)
    assert given[0] == fleet.hosts[2].token()
    assert not any(host.home.accounts.exists() for host in fleet.hosts)
    tell(f"{len(given)} processes of 3 hosts were served after {time.time() - start:.1f} s, by one grant")


_TOKEN = "/v1/oauth/token"


def hold_answers(fleet: Fleet, count: int = 1) -> None:
    """Let the provider grant, and keep the answers until `clear`."""
    fleet.sandbox.fault("hang", path=_TOKEN, after_work=True, times=count)


def are_asked(fleet: Fleet, count: int = 1) -> bool:
    return [request["status"] for request in fleet.sandbox.requests(_TOKEN)].count(None) == count


def test_a_host_that_is_cut_off_amid_a_refresh_loses_and_overwrites_nothing(fleet: Fleet, site: Site) -> None:
    """It serves its own callers from memory. What it writes late lands, unless another host has taken over."""
    first, second, third = fleet.hosts
    for name in ("alice", "bob"):
        fleet.add(name)
    fleet.sandbox.settings(account="bob", reuse_grace=3600)  # so that the second presentation is granted, too
    hold_answers(fleet, 2)
    cut = {name: first.linger(name) for name in ("alice", "bob")}
    eventually(lambda: are_asked(fleet, 2), "both refreshes")
    site.network.unplug(site.machines[0])
    fleet.let_pass(21)
    for name in cut:
        waits = second.run("token", name)
        assert (waits.code, "is with host" in waits.err) == (6, True), waits
    fleet.sandbox.clear()
    given = {name: process.hear() for name, process in cut.items()}
    assert [fleet.figures(name) for name in given] == [(1, 0), (1, 0)], given
    fleet.let_pass(121)
    taken = second.token("bob")
    assert taken != given["bob"]
    site.network.plug(site.machines[0])
    eventually(
        lambda: fleet.execute("SELECT * FROM accounts WHERE name = 'alice' AND generation = 2"), "it is published"
    )
    eventually(lambda: cut["bob"].ask() == taken, "the host that came back serves what the other one was granted")
    for host in (second, third):
        assert (host.token("alice"), host.token("bob")) == (given["alice"], taken)
    assert (fleet.figures("alice"), fleet.figures("bob")) == ((1, 0), (2, 0))
    assert fleet.execute("SELECT generation FROM accounts WHERE name = 'bob'") == [(2,)]


def test_the_promotion_of_a_standby_that_lost_an_attempt_presents_nothing_twice(
    site: Site, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """Nothing begins in the hold-off. In it the host that sent the refresh puts its attempt forward again."""
    places = [site.network.add(name) for name in ("db2", "db3")]
    primary, standby = (partial(running_postgres, VERSIONS[0], address=p.address, inside=p.on_network) for p in places)
    with primary() as lost, standby(begin=lambda server: server.follow(lost)) as promoted:
        database = lost.create()
        servers = f"{lost.address}:{lost.port},{promoted.address}:{promoted.port}"
        url = f"postgresql://postgres@{servers}/{database}?target_session_attrs=read-write"
        before = Fleet(hosts_of(site, sandbox, tmp_path, url), lost, database, sandbox)
        fleet = Fleet(before.hosts, promoted, database, sandbox)
        before.form()
        before.add()
        eventually(lambda: fleet.execute("SELECT * FROM accounts"), "the standby has the account")
        site.network.unplug(places[1])
        hold_answers(fleet)
        sending = fleet.hosts[0].linger()
        eventually(lambda: are_asked(fleet), "the refresh")
        assert before.execute("SELECT state FROM attempts") == [("open",)]
        lost.stop("immediate")
        site.network.plug(places[1])
        promoted.promote()
        assert fleet.execute("SELECT * FROM attempts") == []
        refused = fleet.hosts[1].run("token", "alice")
        assert (refused.code, "was restarted" in refused.err) == (6, True), refused
        eventually(lambda: fleet.execute("SELECT * FROM attempts"), "the attempt is put forward")
        fleet.end_hold_off()
        busy = fleet.hosts[1].run("token", "alice")
        assert (busy.code, "in flight" in busy.err) == (6, True), busy
        sandbox.clear()
        token = sending.hear()
        assert [host.token() for host in fleet.hosts] == [token] * 3
        assert fleet.figures() == (1, 0)


def test_hosts_whose_clocks_are_wrong_go_by_that_of_the_database(fleet: Fleet) -> None:
    """One is 4 minutes fast, one is slow: neither serves a token that has expired, nor renews one that has not."""
    fleet.add("alice", expires_in=-100)
    fleet.add("bob", expires_in=1000)
    inside = fleet.hosts[0].inside
    for host, seconds in zip(fleet.hosts, ("+240s", "-240s"), strict=False):
        host.inside = (*inside, "faketime", "--exclude-monotonic", "-f", seconds)
    fast, slow, right = fleet.hosts
    assert slow.token("bob") == fast.token("bob") == right.token("bob")
    assert fleet.figures("bob") == (0, 0)
    assert slow.token("alice") == fast.token("alice") == right.token("alice")
    assert fleet.figures("alice") == (1, 0)


def test_a_host_whose_clock_is_far_off_refreshes_nothing_and_says_why(fleet: Fleet) -> None:
    fleet.add("alice", expires_in=-100)
    fleet.add("bob", expires_in=1000)
    wrong, right, _ = fleet.hosts
    wrong.inside = (*wrong.inside, "faketime", "--exclude-monotonic", "-f", "+1200s")
    with pytest.raises(AssertionError, match="are 1200 s apart, so nothing is refreshed here"):
        wrong.token("alice")
    assert wrong.token("bob") == right.token("bob")
    assert fleet.figures("alice") == (0, 0)
    right.token("alice")
    assert wrong.token("alice") == right.token("alice")
