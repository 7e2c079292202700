"""Signals that end a process while a grant is in flight: it is completed and published before that."""

import signal
import sys
import threading
from pathlib import Path

import anthropic
import pytest

from e2e.conftest import AddLogin
from e2e.parties import (
    COMMAND,
    PATIENCE,
    SandboxProcess,
    Server,
    begin,
    digest,
    document,
    end,
    eventually,
    tokenferry,
)
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

TOKEN_PATH = "/v1/oauth/token"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
MODEL = "claude-sonnet-5-5"


def check_kept(sandbox: SandboxProcess, home: Home, old: str) -> None:
    """The one grant's token is in the document, nothing is left over, and the chain goes on."""
    stored = document(home, "alice").credential.secret.sha256
    assert stored != old
    assert FileJournal(home.journal).attempt("alice") is None
    after = tokenferry("token", "alice")
    assert (after.code, digest(after.out.strip())) == (0, stored)
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["refreshes_failed"]) == (1, 0)
    assert tokenferry("refresh", "alice").code == 0
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["reuses"], counters["refreshes_failed"]) == (2, 0, 0)


def asked(sandbox: SandboxProcess) -> None:
    eventually(lambda: sandbox.is_asked(TOKEN_PATH), "the refresh is in flight")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_command_finishes_its_grant(
    sandbox: SandboxProcess, home: Home, add_login: AddLogin, number: signal.Signals, *, again: bool
) -> None:
    old = digest(add_login("alice")["access_token"])
    sandbox.fault("hang", path=TOKEN_PATH, after_work=True)
    process = begin(COMMAND, "token", "alice")
    asked(sandbox)
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.readline() == "tokenferry: finishing the refresh in flight…\n"
    if again:
        process.send_signal(number)
    assert process.poll() is None
    sandbox.clear()
    outcome = end(process)
    assert (outcome.code, outcome.out, outcome.err) == (128 + number, "", "")
    check_kept(sandbox, home, old)


def ask(gateway: Server, key: str) -> threading.Thread:
    """A client whose request needs the refresh; what it is answered doesn't matter."""

    def run() -> None:
        with anthropic.Anthropic(base_url=gateway.url, auth_token=key, max_retries=0) as client:
            try:
                client.messages.create(model=MODEL, max_tokens=10, messages=[{"role": "user", "content": "hi"}])
            except anthropic.APIError:
                return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_gateway_finishes_its_grant(
    gateway: Server, sandbox: SandboxProcess, home: Home, key: str, number: signal.Signals
) -> None:
    old = document(home, "alice").credential.secret.sha256
    sandbox.fault("hang", path=TOKEN_PATH, after_work=True)
    client = ask(gateway, key)
    asked(sandbox)
    gateway.process.send_signal(number)
    waiting = "waiting for 1 request, the refresh of account alice"
    eventually(lambda: waiting in gateway.log.read_text(), "it says what it waits for")
    gateway.process.send_signal(number)
    client.join(PATIENCE)  # requests are not waited for after a second signal; the grant is
    assert gateway.process.poll() is None, gateway.log.read_text()
    sandbox.clear()
    assert gateway.process.wait(PATIENCE) == (130 if number == signal.SIGINT else 0), gateway.log.read_text()
    check_kept(sandbox, home, old)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_run_passes_the_signal_on_and_finishes_its_grant(
    sandbox: SandboxProcess, home: Home, add_login: AddLogin, tmp_path: Path, number: signal.Signals
) -> None:
    old = digest(add_login("alice")["access_token"])
    sandbox.fault("hang", path=TOKEN_PATH, after_work=True)
    program = (
        "import json, os, urllib.request as web\n"
        "body = json.dumps({'model': 'claude-x', 'max_tokens': 5, 'messages': [{'role': 'user', 'content': 'hi'}]})\n"
        "headers = {'authorization': 'Bearer ' + os.environ['ANTHROPIC_AUTH_TOKEN'],"
        " 'anthropic-version': '2023-06-01', 'content-type': 'application/json'}\n"
        "web.urlopen(web.Request(os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages', body.encode(), headers))\n"
    )
    path = tmp_path / "program.py"
    path.write_text(program)
    process = begin(COMMAND, "run", "--", sys.executable, str(path))
    asked(sandbox)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    assert children.read_text()
    process.send_signal(number)
    eventually(lambda: not children.read_text(), "the signal ended the program")
    assert process.poll() is None
    sandbox.clear()
    assert end(process).code == 128 + number
    check_kept(sandbox, home, old)
