"""Hosts that share a login: commands and processes in homes of their own, over one real PostgreSQL."""

import contextlib
import json
import re
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest

from e2e.balancer import ask
from e2e.fleet import Fleet, FleetHost
from e2e.parties import SandboxProcess, Server, begin, end, eventually, running
from e2e.postgres import VERSIONS, PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("postgres", VERSIONS[:1], indirect=True)]


@pytest.fixture
def fleet(sandbox: SandboxProcess, postgres: PostgresServer, tmp_path: Path) -> Fleet:
    database = postgres.create()
    key = tmp_path / "keys" / "seal"
    hosts = [FleetHost(tmp_path / f"h{n}", postgres.url(database), sandbox.url, key) for n in range(3)]
    made = Fleet(hosts, postgres, database, sandbox)
    made.form()
    return made


def test_no_secret_is_in_a_dump_of_a_sealed_store(fleet: Fleet, postgres: PostgresServer) -> None:
    fleet.add()
    token = fleet.hosts[1].run("token", "alice").out.strip()
    dump = postgres.run("pg_dump", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", fleet.database)
    assert "alice" in dump
    assert token not in dump
    assert token.encode().hex() not in dump
    assert "sk-" not in dump


def test_a_host_without_the_key_stores_nothing_in_clear(fleet: Fleet, sandbox: SandboxProcess) -> None:
    fleet.hosts[0].home.seal.unlink()
    login = sandbox.issue("alice")
    outcome = fleet.hosts[0].run("account", "add", "alice", "--provider", "sandbox", stdin=json.dumps(login))
    assert outcome.code == 2
    assert "encryption enable" in outcome.one_sentence()
    assert "alice" not in fleet.hosts[1].run("account", "list").out


def test_a_renewal_that_a_failover_loses_comes_back_from_its_host(fleet: Fleet, postgres: PostgresServer) -> None:
    """The server goes on from what it had before the refresh, as a standby does that lags behind."""
    fleet.add()
    standby = postgres.data.with_name("standby")
    postgres.stop()
    shell("cp", "-a", postgres.data, standby)
    postgres.start()
    fleet.end_hold_off()
    token = fleet.hosts[0].run("token", "alice").out.strip()
    assert token
    assert fleet.hosts[1].run("token", "alice").out.strip() == token
    postgres.stop("immediate")
    shell("rm", "-rf", postgres.data)
    shell("mv", standby, postgres.data)
    postgres.start()
    refused = fleet.hosts[1].run("token", "alice")
    assert (refused.code, "was restarted" in refused.err) == (6, True)
    assert fleet.hosts[0].run("token", "alice").out.strip() == token
    assert fleet.hosts[1].run("token", "alice").out.strip() == token
    assert fleet.figures() == (1, 0)


def shell(*words: object) -> None:
    outcome = end(begin(*map(str, words)))
    assert outcome.code == 0, outcome.err


def test_gateways_of_two_hosts_serve_one_login_and_hear_of_what_another_one_changes(
    fleet: Fleet,
    sandbox: SandboxProcess,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet.add()
    made = fleet.hosts[2].run("key", "create", "ci")
    (key,) = re.findall(r"tfk_[\w-]+", made.out)
    with contextlib.ExitStack() as stack:
        gateways = []
        for number, host in enumerate(fleet.hosts[:2]):
            for name, value in host.environment.items():
                monkeypatch.setenv(name, value)
            folder = tmp_path / f"gateway{number}"
            folder.mkdir()
            gateways.append((stack.enter_context(running("serve", folder)), key))
        assert [served_by(sandbox, *gateway) for gateway in gateways] == ["alice", "alice"]
        assert fleet.figures() == (1, 0)
        for words in (("add", "dave", "--provider", "sandbox"), ("remove", "alice", "--yes")):
            outcome = fleet.hosts[2].run("account", *words, stdin=sandbox.api_key("dave"))
            assert outcome.code == 0, outcome.err
        for gateway in gateways:
            eventually(partial(_is_served_by, sandbox, *gateway, "dave"), "the other account serves")
        postgres.stop("immediate")
        try:
            assert [served_by(sandbox, *gateway) for gateway in gateways] == ["dave", "dave"], "the database is away"
        finally:
            postgres.start()


_LIFETIME = 12
"""Seconds of an access token: an outage of minutes is as long for one of an hour."""


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "stopped"])
def test_while_the_database_is_away_nothing_is_granted_and_then_all_heals(
    fleet: Fleet, sandbox: SandboxProcess, postgres: PostgresServer, tmp_path: Path, *, is_frozen: bool
) -> None:
    """A fresh token goes on until it expires. An unknown key can't be looked up, so nothing says that it is wrong."""
    sandbox.settings(token_lifetime=_LIFETIME)
    fleet.add()
    (key,) = re.findall(r"tfk_[\w-]+", fleet.hosts[2].run("key", "create", "ci").out)
    with running("serve", tmp_path, variables=fleet.hosts[0].environment) as gateway:
        eventually(partial(_is_served_by, sandbox, gateway, key, "alice"), "the gateway has heard of the key")
        before = fleet.figures()
        eventually(lambda: _is_served_by(sandbox, gateway, key, "alice") and fleet.figures() > before, "a fresh token")
        before = fleet.figures()
        postgres.freeze() if is_frozen else postgres.stop("immediate")
        try:
            assert served_by(sandbox, gateway, key) == "alice"
            unknown = served_by(sandbox, gateway, f"tfk_{'x' * 43}")
            assert (unknown[:3], "database" in unknown) == ("503", True), unknown
            eventually(lambda: not _is_served_by(sandbox, gateway, key, "alice"), "its token expires")
            refused = served_by(sandbox, gateway, key)
            assert (refused[:3], "can't be used" in refused) == ("503", True), refused
            assert "PostgreSQL" not in refused, "its name and address are the operator's to see"
            assert fleet.figures() == before
        finally:
            postgres.thaw() if is_frozen else postgres.start()
        if not is_frozen:
            fleet.end_hold_off()
        eventually(partial(_is_served_by, sandbox, gateway, key, "alice"), "it is served again")
        grants, reuses = fleet.figures()
        assert (grants > before[0], reuses) == (True, 0)


def served_by(sandbox: SandboxProcess, gateway: Server, key: str) -> str:
    """The account that serves a request to this gateway, or the status and what is said of the error."""
    body = {"model": "claude-sonnet-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    status, said = ask(gateway, "/v1/messages", key, body=json.dumps(body))
    return str(sandbox.requests("/v1/messages")[-1]["account"]) if status == HTTPStatus.OK else f"{status} {said}"


def _is_served_by(sandbox: SandboxProcess, gateway: Server, key: str, account: str) -> bool:
    return served_by(sandbox, gateway, key) == account
