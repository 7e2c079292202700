"""Programs of the official SDK on a published profile, which nobody but a renewer renews."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from e2e.conftest import AddLogin, Tell
from e2e.parties import CHILDREN, COMMAND, SandboxProcess, begin, digest, document, end, eventually, fetch, tokenferry
from tokenferry.background_refresh import renewer_of
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

PROCESSES = 8
ROTATIONS = 3
LIFETIME = 24
"""Seconds; the renewer renews at half of it, and the SDK reads its profile at every request."""


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "profiles"))


def published_token() -> str:
    path = Path(os.environ["ANTHROPIC_CONFIG_DIR"]) / "credentials" / "alice.json"
    token: str = json.loads(path.read_text())["access_token"]
    return token


@pytest.mark.parametrize("command", ["refresh --watch", "serve --port 0", "serve --port 0 --workers 2"])
def test_programs_never_meet_an_expired_token_though_the_keeper_is_killed(
    sandbox: SandboxProcess, home: Home, add_login: AddLogin, tell: Tell, command: str
) -> None:
    """Two renewers run; the one at work is killed at each rotation, and another one begins to wait."""
    sandbox.settings(token_lifetime=LIFETIME)
    add_login("alice")
    assert tokenferry("profile", "publish", "alice").code == 0
    renewers = [begin(COMMAND, *command.split())]
    eventually(lambda: renewer_of(home), "it keeps")
    programs = [
        begin(sys.executable, str(CHILDREN / "profile_user.py"), "0", stdin_open=True) for _ in range(PROCESSES)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    generations = [published_token()]
    for _ in range(ROTATIONS):
        renewers.append(begin(COMMAND, *command.split()))
        eventually(lambda: published_token() not in generations, "another token")
        generations.append(published_token())
        shown = digest(generations[-1])[:8]
        eventually(
            lambda shown=shown: (
                sum(shown in one["credentials"] for one in sandbox.requests("/v1/messages")) >= PROCESSES
            ),  # type: ignore[misc]  # mypy can't infer the default
            "all follow",
        )
        renewers[0].kill()
        end(renewers.pop(0))
        eventually(lambda: renewer_of(home), "another keeps")
    answers = [json.loads(end(program).out) for program in programs]
    assert [answer["failures"] for answer in answers] == [[]] * PROCESSES
    for renewer in renewers:
        renewer.send_signal(signal.SIGTERM)
        assert end(renewer).code == 0
    counters = sandbox.counters()
    asked = sum(answer["asked"] for answer in answers)
    tell(f"{command}: {PROCESSES} SDK processes, {asked} requests, {counters['refreshes']} refreshes by renewers")
    assert (counters["reuses"], counters["refreshes_failed"]) == (0, 0)
    assert counters["refreshes"] >= 1 + ROTATIONS
    paths = fetch(f"{sandbox.url}/_sandbox/counters")["paths"]
    assert {path: count for path, count in paths.items() if "oauth" in path} == {
        "/v1/oauth/token": counters["refreshes"]
    }
    assert digest(published_token()) == document(home, "alice").credential.secret.sha256
