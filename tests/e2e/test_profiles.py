"""Programs of the official SDK on a profile we publish: they follow every rotation, and refresh nothing."""

import json
import sys
from pathlib import Path

import pytest

from cli.harness import Running
from e2e.conftest import AddLogin, Tell
from e2e.parties import (
    CHILDREN,
    COMMAND,
    SandboxProcess,
    Server,
    begin,
    digest,
    document,
    end,
    eventually,
    fetch,
    tokenferry,
)
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

PROCESSES = 8
ROTATIONS = 3
LIFETIME = 100
"""Seconds; with less than 120 left the SDK reads its profile at every request."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only thing of all this that the programs are told."""
    path = tmp_path / "profiles"
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(path))
    return path


def programs(retries: int = 0) -> list[Running]:
    started = [
        begin(sys.executable, str(CHILDREN / "profile_user.py"), str(retries), stdin_open=True)
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return started


def told(processes: list[Running]) -> list[dict[str, object]]:
    outcomes = [end(process) for process in processes]
    assert [outcome.err for outcome in outcomes if outcome.code] == []
    return [json.loads(outcome.out) for outcome in outcomes]


def published_token(folder: Path, profile: str = "alice") -> str:
    token: str = json.loads((folder / "credentials" / f"{profile}.json").read_text())["access_token"]
    return token


def wait_for_followers(sandbox: SandboxProcess, token: str) -> None:
    """Until as many requests as there are programs came with this token."""
    shown = digest(token)[:8]

    def all_follow() -> bool:
        return sum(shown in request["credentials"] for request in sandbox.requests("/v1/messages")) >= PROCESSES

    eventually(all_follow, "all follow")


def test_eight_processes_follow_three_rotations_and_refresh_nothing(
    sandbox: SandboxProcess, home: Home, add_login: AddLogin, folder: Path, tell: Tell
) -> None:
    sandbox.settings(token_lifetime=LIFETIME)
    add_login("alice")
    assert tokenferry("profile", "publish", "alice").code == 0
    processes = programs()
    generations = [published_token(folder)]
    for _ in range(ROTATIONS):
        assert tokenferry("refresh", "alice").code == 0
        generations.append(published_token(folder))
        wait_for_followers(sandbox, generations[-1])
    answers = told(processes)
    asked = [answer["asked"] for answer in answers]
    assert [answer["failures"] for answer in answers] == [[]] * PROCESSES
    assert len(set(generations)) == ROTATIONS + 1
    assert digest(generations[-1]) == document(home, "alice").credential.secret.sha256
    counters = sandbox.counters()
    tell(f"{PROCESSES} SDK processes, {ROTATIONS} rotations: {asked} requests, {counters['refreshes']} refreshes")
    assert counters["refreshes"] == 1 + ROTATIONS  # the first one by `profile publish`, for the login had expired
    assert (counters["reuses"], counters["refreshes_failed"]) == (0, 0)
    paths = fetch(f"{sandbox.url}/_sandbox/counters")["paths"]
    assert {path: count for path, count in paths.items() if "oauth" in path} == {"/v1/oauth/token": 1 + ROTATIONS}


def test_a_server_that_ends_the_old_token_at_once_is_followed_too(
    sandbox: SandboxProcess, add_login: AddLogin, folder: Path
) -> None:
    """Who is refused in the moment between grant and profile reads the profile again: the SDK retries a 401 once."""
    sandbox.settings(token_lifetime=LIFETIME, refresh_revokes_access=True)
    add_login("alice")
    assert tokenferry("profile", "publish", "alice").code == 0
    processes = programs(retries=5)
    for _ in range(ROTATIONS):
        assert tokenferry("refresh", "alice").code == 0
        wait_for_followers(sandbox, published_token(folder))
    failures = [answer["failures"] for answer in told(processes)]
    assert failures == [[]] * PROCESSES
    assert sandbox.counters()["refreshes"] == 1 + ROTATIONS
    assert sandbox.counters()["reuses"] == 0


def test_refreshes_by_many_commands_at_once_leave_the_newest_token(
    sandbox: SandboxProcess, home: Home, add_login: AddLogin, folder: Path
) -> None:
    add_login("alice")
    assert tokenferry("profile", "publish", "alice").code == 0
    commands = [begin(COMMAND, "refresh", "alice") for _ in range(6)]
    outcomes = [end(command) for command in commands]
    assert {outcome.code for outcome in outcomes} <= {0, 6}
    assert digest(published_token(folder)) == document(home, "alice").credential.secret.sha256
    assert sandbox.counters()["reuses"] == 0


def test_the_gateways_profile_routes_a_program_without_a_change(
    gateway: Server, sandbox: SandboxProcess, home: Home, folder: Path
) -> None:
    port = gateway.url.rpartition(":")[2]
    home.config.write_text(f"{home.config.read_text()}\n[server]\nport = {port}\n")
    assert tokenferry("profile", "publish", "--gateway").code == 0
    process = begin(sys.executable, str(CHILDREN / "profile_user.py"), "0", stdin="")
    outcome = end(process)
    assert json.loads(outcome.out.splitlines()[-1])["failures"] == []
    assert sandbox.counters()["refreshes"] == 1
    assert published_token(folder, "tokenferry").startswith("tfk_")
