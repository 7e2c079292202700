"""Two running gateways over one database, as behind a load balancer."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.balancer import Place, answers, ask, balanced, within
from e2e.parties import COMMAND, Server, begin, end, running, tokenferry
from e2e.postgres import VERSIONS, PostgresServer, PostgresServers
from tokenferry.postgres import ConnectionPool
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

CONFIG = """
[server]
drain_delay = "2s"
[store]
url = "{url}"
serve_stale = "3s"
[router]
list_models = "mapped"
[[providers]]
name = "fake"
base_url = "http://127.0.0.1:9"
api_key = "$FAKE_KEY"
[[models]]
name = "fast"
mappings = [{{ provider = "fake", actual_model = "m" }}]
"""


@pytest.fixture
def postgres(postgres_servers: PostgresServers) -> PostgresServer:
    """The newest: what differs between servers is below the gateways, and tried on both there."""
    return postgres_servers.get(VERSIONS[-1])


@pytest.fixture
def homes(
    postgres: PostgresServer, connections: ConnectionPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Home]:
    """Those of two hosts; commands are of the last one."""
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)
    monkeypatch.setenv("FAKE_KEY", "sk-fake-key")
    made = []
    for name in ("h1", "h2"):
        home = Home(tmp_path / name)
        home.path.mkdir(mode=0o700)
        home.config.write_text(CONFIG.format(url=url))
        home.config.chmod(0o600)
        monkeypatch.setenv("TOKENFERRY_HOME", str(home.path))
        made.append(home)
    return made


@pytest.fixture
def gateways(homes: list[Home], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        servers = []
        for home in homes:
            monkeypatch.setenv("TOKENFERRY_HOME", str(home.path))
            servers.append(stack.enter_context(running("serve", home.path)))
        yield servers


def test_a_key_opens_both_gateways_and_a_revoked_one_neither(
    gateways: list[Server], tell: Callable[[str], None]
) -> None:
    made = json.loads(tokenferry("key", "create", "ci", "--json").out)
    key = made["key"]
    for server in gateways:
        within(2, partial(answers, server, 200, key=key))
    assert tokenferry("key", "revoke", "ci").code == 0
    took = [within(1, partial(answers, server, 401, key=key)) for server in gateways]
    tell(f"a revoked key stopped at both gateways {max(took) * 1000:.0f} ms after the command had ended")


def test_a_local_key_that_a_command_makes_opens_the_gateways(gateways: list[Server], homes: list[Home]) -> None:
    homes[-1].local_key.unlink()
    made = tokenferry("token", "--gateway")
    assert made.code == 0, made.err
    for server in gateways:
        within(2, partial(answers, server, 200, key=made.out.strip()))
    assert not homes[-1].state.exists()


def test_known_keys_work_while_the_database_hangs_and_all_recovers(
    gateways: list[Server], postgres: PostgresServer
) -> None:
    key = json.loads(tokenferry("key", "create", "ci", "--json").out)["key"]
    for server in gateways:
        within(2, partial(answers, server, 200, key=key))
    postgres.stop("immediate")
    try:
        for server in gateways:
            within(3, partial(answers, server, 503, key="tfk_" + "x" * 43))
            assert ask(server, key=key)[0] == 200
            assert ask(server, "/readyz")[0] == 200, "a short outage must not make every gateway unready at once"
            assert ask(server, "/healthz")[0] == 200
        for server in gateways:
            within(12, partial(answers, server, 503, key=key))
            status, said = ask(server, "/readyz")
            assert (status, json.loads(said)["reason"]) == (503, "the database is away")
    finally:
        postgres.start()
    for server in gateways:
        within(8, partial(answers, server, 200, key=key))
        within(1, partial(answers, server, 200, "/readyz"))


def test_a_key_that_no_gateway_has_heard_of_is_looked_up_before_it_is_refused(
    gateways: list[Server], postgres: PostgresServer, connections: ConnectionPool
) -> None:
    with connections.lease() as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION raise_revision() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$"
        )
    unknown = "tfk_" + "x" * 43
    paths = {"/v1/models": (), "/api/accounts": ("--role", "admin"), "/metrics": ("--role", "metrics")}
    for number, (path, role) in enumerate(paths.items()):
        key = json.loads(tokenferry("key", "create", f"ci{number}", *role, "--json").out)["key"]
        assert [ask(server, path, key)[0] for server in gateways] == [200, 200], path
        assert ask(gateways[0], path, unknown)[0] == 401
    postgres.freeze()
    try:
        for path in paths:
            begun = time.monotonic()
            status, said = ask(gateways[0], path, unknown)
            assert status == 503, said
            assert time.monotonic() - begun < 1
    finally:
        postgres.thaw()
    within(5, partial(answers, gateways[0], 401, key=unknown))


def test_gateways_share_the_rate_of_a_key(gateways: list[Server], tell: Callable[[str], None]) -> None:
    key = json.loads(tokenferry("key", "create", "ci", "--rpm", "20", "--json").out)["key"]
    for server in gateways:
        within(2, partial(answers, server, 200, key=key))
    begun, passed = time.monotonic(), [0, 0]
    for number in range(80):
        body = '{"model":"fast","max_tokens":1,"messages":[]}'
        passed[number % 2] += ask(gateways[number % 2], "/v1/messages", key, body=body)[0] != 429
    seconds = time.monotonic() - begun
    tell(f"of 80 requests at two gateways in {seconds:.1f} s, {passed} passed a rate of 20 a minute")
    assert 20 <= sum(passed) <= 20 + 10 + (seconds + 1) / 3
    assert min(passed) > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_that_starts_while_the_database_is_away_becomes_ready_by_itself(
    homes: list[Home], postgres: PostgresServer, workers: int
) -> None:
    key = json.loads(tokenferry("key", "create", "ci", "--json").out)["key"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Place(f"http://127.0.0.1:{probe.getsockname()[1]}")
    port = str(urlsplit(server.url).port)
    with gone(postgres):
        detached = tokenferry("serve", "--detach", "--port", port, "--workers", str(workers))
        assert (detached.code, "answers 503 until its database is available" in detached.err) == (0, True)
        within(20, partial(is_reached, server))
        status, said = ask(server, "/readyz")
        assert (status, json.loads(said)["reason"]) == (503, "the database is away")
        assert ask(server, "/healthz")[0] == 200
        for path in ("/v1/models", "/api/accounts", "/metrics"):
            assert ask(server, path, key)[0] == 503, path
        assert tokenferry("stop").code == 0, "it can be ended while it waits"
        gateway = begin(COMMAND, "serve", "--port", port, "--workers", str(workers))
        within(20, partial(is_reached, server))
    within(12, partial(answers, server, 200, "/readyz"))
    within(2, partial(answers, server, 200, key=key))
    assert tokenferry("stop").code == 0
    assert end(gateway).err.count("not ready, and trying again until the database is there") == 1


@contextlib.contextmanager
def gone(postgres: PostgresServer) -> Iterator[None]:
    postgres.stop("immediate")
    try:
        yield
    finally:
        postgres.start()


def is_reached(server: Place) -> bool:
    with contextlib.suppress(OSError):
        return answers(server, 200, "/healthz")
    return False


def test_gateways_are_restarted_one_after_the_other_without_a_failed_request(
    homes: list[Home], tell: Callable[[str], None]
) -> None:
    key = json.loads(tokenferry("key", "create", "ci", "--json").out)["key"]
    with balanced(homes, lambda server: ask(server, key=key)) as balancer:
        for home in homes:
            balancer.restart(home)
    assert balancer.failed == []
    assert balancer.served > 100
    tell(f"a rolling restart of two gateways: {balancer.served} requests, none failed")
