"""Many processes at one expired login, all at once: one grant, and everybody has its token."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from e2e.conftest import AddLogin, Tell
from e2e.issuer import Issuer
from e2e.parties import (
    CHILDREN,
    COMMAND,
    SandboxProcess,
    begin,
    digest,
    document,
    end,
    eventually,
    tokenferry,
    write_config,
)
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

PROCESSES = 100
THREADS = 4
WAVE = 10
COMMANDS = 50
EXCHANGE = "/copilot_internal/v2/token"
EXCHANGED = f"""
[[providers]]
name = "exchanged"
base_url = "URL"
[providers.token_exchange]
url = "URL{EXCHANGE}"
method = "GET"
headers = {{ authorization = "token {{token}}" }}
token_field = "token"
expiry_field = "expires_at"
endpoint_field = "endpoints.api"
endpoint_hosts = ["127.0.0.1"]
"""


@contextmanager
def herd(name: str, gate: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that resolves once everybody's stdin, the pipe `gate`, is at its end."""
    arguments = [sys.executable, str(CHILDREN / "herd.py"), name, str(THREADS)]
    with subprocess.Popen(
        arguments, stdin=gate, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_hundred_processes_of_four_threads_make_one_grant(issuer: Issuer, home: Home, tell: Tell) -> None:
    issuer.add(home, "work")
    gate, opener = os.pipe()
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        try:
            while len(processes) < PROCESSES:  # in waves, for two processors
                wave = [stack.enter_context(herd("work", gate)) for _ in range(WAVE)]
                for process in wave:
                    assert process.stdout is not None
                    assert process.stdout.readline() == "ready\n"
                processes += wave
        finally:
            os.close(gate)
            os.close(opener)
        outcomes = [end(process) for process in processes]
    assert [outcome for outcome in outcomes if outcome.code] == []
    told = [json.loads(outcome.out) for outcome in outcomes]
    given = [token for one in told for token in one["given"]]
    presented = issuer.presentations()
    tell(
        f"{PROCESSES} processes x {THREADS} threads: {len(given)} resolves gave {len(set(given))} token,"
        f" {issuer.figures('work')}, {sum(one['adopted'] for one in told)} flows adopted it"
    )
    assert len(given) == PROCESSES * THREADS
    assert set(given) == {presented[0]["granted"]} == {document(home, "work").credential.secret.sha256}
    assert len(presented) == 1
    assert presented[0]["form"]
    assert issuer.figures("work") == {"grants": 1, "reuses": 0}
    assert sum(one["grants"] for one in told) == 1


def test_fifty_commands_make_one_grant(sandbox: SandboxProcess, home: Home, add_login: AddLogin) -> None:
    add_login("alice")
    sandbox.fault("hang", path="/v1/oauth/token", after_work=True)
    processes = [begin(COMMAND, "token") for _ in range(COMMANDS)]
    eventually(lambda: sandbox.is_asked("/v1/oauth/token"), "one of them refreshes")
    sandbox.clear()
    outcomes = [end(process) for process in processes]
    assert {(outcome.code, outcome.err) for outcome in outcomes} == {(0, "")}
    tokens = {outcome.out for outcome in outcomes}
    assert {digest(token.strip()) for token in tokens} == {document(home, "alice").credential.secret.sha256}
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["reuses"], counters["refreshes_failed"]) == (1, 0, 0)


def test_fifty_processes_make_one_exchange_of_a_long_lived_token(sandbox: SandboxProcess, home: Home) -> None:
    write_config(home, EXCHANGED.replace("URL", sandbox.url))
    outcome = tokenferry("account", "add", "bot", "--provider", "exchanged", stdin=sandbox.long_lived("alice"))
    assert outcome.code == 0, outcome.err
    path = home.accounts / "bot.json"
    kept = json.loads(path.read_text())
    kept["credential"]["expires_at"] -= kept["credential"]["lifetime"] + 60  # used up
    path.write_text(json.dumps(kept))
    sandbox.fault("hang", path=EXCHANGE, after_work=True)
    processes = [begin(COMMAND, "token", "bot") for _ in range(COMMANDS)]
    eventually(lambda: sandbox.is_asked(EXCHANGE), "one of them exchanges")
    sandbox.clear()
    outcomes = [end(process) for process in processes]
    assert {(outcome.code, outcome.err) for outcome in outcomes} == {(0, "")}
    tokens = {outcome.out for outcome in outcomes}
    assert {digest(token.strip()) for token in tokens} == {document(home, "bot").credential.secret.sha256}
    assert sandbox.counters()["exchanges"] == 2  # the first by `account add`
    assert len(sandbox.requests(EXCHANGE)) == 2
