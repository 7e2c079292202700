"""Hosts on machines and a network of their own, over a real PostgreSQL."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.conftest import Tell
from e2e.fleet import Fleet, FleetHost
from e2e.network import Machine, Network, new_network
from e2e.parties import CHILDREN, SandboxProcess, end
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
    return fleet_of(site, sandbox, tmp_path, site.postgres.url(database), database)


def fleet_of(site: Site, sandbox: SandboxProcess, folder: Path, url: str, database: str) -> Fleet:
    hosts = []
    for machine in site.machines:
        machine.forward(sandbox.url)
        hosts.append(FleetHost(folder / machine.name, url, sandbox.url, folder / "keys" / "seal", machine=machine))
    made = Fleet(hosts, site.postgres, database, sandbox)
    made.form()
    return made


def test_one_login_serves_every_host_and_is_refreshed_once(fleet: Fleet, tell: Tell) -> None:
    """Two hundred processes of three hosts ask at once for a login that has expired."""
    fleet.add_expired()
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
