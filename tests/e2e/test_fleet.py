"""Hosts that share a login: commands and processes in homes of their own, over one real PostgreSQL."""

import contextlib
import json
import re
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.conftest import Tell
from e2e.parties import (
    CHILDREN,
    COMMAND,
    PATIENCE,
    Outcome,
    SandboxProcess,
    Server,
    begin,
    digest,
    end,
    eventually,
    running,
    write_config,
)
from e2e.postgres import VERSIONS, PostgresServer
from tokenferry.settings import Home

if TYPE_CHECKING:
    from subprocess import Popen

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("postgres", VERSIONS[:1], indirect=True)]

_PROCESSES = 66
"""Of each of three hosts."""


class FleetHost:
    """A home of its own, as on another machine, with a copy of the sealing key."""

    def __init__(self, folder: Path, url: str, provider: str, key: Path) -> None:
        self.home = Home(folder)
        self.environment = {
            "TOKENFERRY_HOME": str(folder),
            "TOKENFERRY_SEAL_KEY_FILE": str(key),
            "TMPDIR": str(folder / "temporary"),
        }
        folder.mkdir(mode=0o700)
        store = f'[store]\nurl = "{url}"\nshare_accounts = true\npool = 2\n'
        write_config(self.home, f'{store}[[providers]]\nname = "sandbox"\nbase_url = "{provider}"\n')

    def begin(self, *words: str, stdin: str = "") -> "Popen[str]":
        return begin(*words, stdin=stdin, stdin_open=False, **self.environment)

    def run(self, *words: str, stdin: str = "") -> Outcome:
        return end(self.begin(COMMAND, *words, stdin=stdin))


@pytest.fixture
def hosts(sandbox: SandboxProcess, postgres: PostgresServer, tmp_path: Path) -> list[FleetHost]:
    postgres.execute("ALTER SYSTEM SET max_connections = 500")
    postgres.stop()
    postgres.start()
    url = postgres.url(postgres.create())
    made = [FleetHost(tmp_path / f"h{n}", url, sandbox.url, tmp_path / "keys" / "seal") for n in range(3)]
    for words in (("store", "init"), *[("encryption", "enable")] * 3):
        host = made[0] if words[0] == "store" else next(one for one in made if not one.home.seal.exists())
        outcome = host.run(*words)
        assert outcome.code == 0, outcome.err
    return made


def add_expired(host: FleetHost, sandbox: SandboxProcess) -> None:
    login = sandbox.issue("alice", expires_in=-3600)
    outcome = host.run("account", "add", "alice", "--provider", "sandbox", stdin=json.dumps(login))
    assert outcome.code == 0, outcome.err


def test_one_login_serves_every_host_and_is_refreshed_once(
    hosts: list[FleetHost], sandbox: SandboxProcess, tell: Tell
) -> None:
    """Two hundred processes of three hosts ask at once for a login that has expired."""
    add_expired(hosts[0], sandbox)
    assert [host.run("account", "list").out.count("alice") for host in hosts] == [1, 1, 1]
    start = time.time() + 15
    crowd = [
        host.begin(sys.executable, str(CHILDREN / "crowd.py"), "alice", str(_PROCESSES), str(start)) for host in hosts
    ]
    given: list[str] = []
    for process in crowd:
        outcome = end(process)
        assert outcome.code == 0, outcome.err
        given += json.loads(outcome.out)
    assert len(given) == 3 * _PROCESSES
    assert {len(one) for one in given} == {64}, set(given)
    assert len(set(given)) == 1
    counters = sandbox.counters()
    assert (counters["grants"], counters["reuses"]) == (1, 0)
    assert given[0] == digest(hosts[2].run("token", "alice").out.strip())
    assert not hosts[0].home.accounts.exists()
    tell(f"{len(given)} processes of 3 hosts were served after {time.time() - start:.1f} s, by one grant")


def test_no_secret_is_in_a_dump_of_a_sealed_store(
    hosts: list[FleetHost], sandbox: SandboxProcess, postgres: PostgresServer
) -> None:
    add_expired(hosts[0], sandbox)
    token = hosts[1].run("token", "alice").out.strip()
    database = hosts[0].home.config.read_text().partition(f"{postgres.port}/")[2].partition('"')[0]
    dump = postgres.run("pg_dump", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", database)
    assert "alice" in dump
    assert token not in dump
    assert token.encode().hex() not in dump
    assert "sk-" not in dump


def test_a_host_without_the_key_stores_nothing_in_clear(hosts: list[FleetHost], sandbox: SandboxProcess) -> None:
    hosts[0].home.seal.unlink()
    login = sandbox.issue("alice")
    outcome = hosts[0].run("account", "add", "alice", "--provider", "sandbox", stdin=json.dumps(login))
    assert outcome.code == 2
    assert "encryption enable" in outcome.one_sentence()
    assert "alice" not in hosts[1].run("account", "list").out


def test_a_renewal_that_a_failover_loses_comes_back_from_its_host(
    hosts: list[FleetHost], sandbox: SandboxProcess, postgres: PostgresServer
) -> None:
    """The server goes on from what it had before the refresh, as a standby does that lags behind."""
    add_expired(hosts[0], sandbox)
    standby = postgres.data.with_name("standby")
    postgres.stop()
    shell("cp", "-a", postgres.data, standby)
    postgres.start()
    forget_hold_off(postgres, hosts[0])
    token = hosts[0].run("token", "alice").out.strip()
    assert token
    assert hosts[1].run("token", "alice").out.strip() == token
    postgres.stop("immediate")
    shell("rm", "-rf", postgres.data)
    shell("mv", standby, postgres.data)
    postgres.start()
    refused = hosts[1].run("token", "alice")
    assert (refused.code, "was restarted" in refused.err) == (6, True)
    assert hosts[0].run("token", "alice").out.strip() == token
    assert hosts[1].run("token", "alice").out.strip() == token
    assert (sandbox.counters()["grants"], sandbox.counters()["reuses"]) == (1, 0)


def test_a_host_says_what_became_of_a_process_that_was_killed(hosts: list[FleetHost], sandbox: SandboxProcess) -> None:
    add_expired(hosts[0], sandbox)
    sandbox.fault("hang", path="/v1/oauth/token")
    killed = hosts[0].begin(COMMAND, "token", "alice")
    eventually(lambda: sandbox.is_asked("/v1/oauth/token"), "the refresh")
    busy = hosts[1].run("refresh", "alice")
    assert busy.code == 6
    killed.kill()
    end(killed)
    told = hosts[0].run("token", "alice")
    assert (told.code, "its last refresh was lost" in told.err) == (6, True)
    other = hosts[1].run("token", "alice")
    assert (other.code, "its last refresh was lost" in other.err) == (6, True), other.err
    assert sandbox.counters()["reuses"] == 0


def forget_hold_off(postgres: PostgresServer, host: FleetHost) -> None:
    """Let the 90 s pass that follow a restart."""
    database = host.home.config.read_text().partition(f"{postgres.port}/")[2].partition('"')[0]
    postgres.execute("UPDATE fleet SET epoch_since = '-infinity', started = pg_postmaster_start_time()", database)


def shell(*words: object) -> None:
    outcome = end(begin(*map(str, words)))
    assert outcome.code == 0, outcome.err


def test_gateways_of_two_hosts_serve_one_login_and_hear_of_what_another_one_changes(
    hosts: list[FleetHost],
    sandbox: SandboxProcess,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_expired(hosts[0], sandbox)
    made = hosts[2].run("key", "create", "ci")
    (key,) = re.findall(r"tfk_[\w-]+", made.out)
    with contextlib.ExitStack() as stack:
        gateways = []
        for number, host in enumerate(hosts[:2]):
            for name, value in host.environment.items():
                monkeypatch.setenv(name, value)
            folder = tmp_path / f"gateway{number}"
            folder.mkdir()
            gateways.append((stack.enter_context(running("serve", folder)), key))
        assert [served_by(sandbox, *gateway) for gateway in gateways] == ["alice", "alice"]
        assert (sandbox.counters()["grants"], sandbox.counters()["reuses"]) == (1, 0)
        for words in (("add", "dave", "--provider", "sandbox"), ("remove", "alice", "--yes")):
            outcome = hosts[2].run("account", *words, stdin=sandbox.api_key("dave"))
            assert outcome.code == 0, outcome.err
        for gateway in gateways:
            eventually(partial(_is_served_by, sandbox, *gateway, "dave"), "the other account serves")
        postgres.stop("immediate")
        try:
            assert [served_by(sandbox, *gateway) for gateway in gateways] == ["dave", "dave"], "the database is away"
        finally:
            postgres.start()


def served_by(sandbox: SandboxProcess, gateway: Server, key: str) -> str:
    """The account that serves a request to this gateway, or what is said of the error."""
    body = {"model": "claude-sonnet-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/messages",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE):
            return str(sandbox.requests("/v1/messages")[-1]["account"])
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.read().decode()


def _is_served_by(sandbox: SandboxProcess, gateway: Server, key: str, account: str) -> bool:
    return served_by(sandbox, gateway, key) == account
