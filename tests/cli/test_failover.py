"""Accounts of a running gateway that are limited: real processes, a fake provider with its knobs."""

import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.conftest import configure
from cli.harness import Running, begin, bundle, end, eventually, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import State

ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "ahoy"}]}
LIMITED = {"5h": {"status": "rejected", "reset_in": 7200}}


class Gate:
    """A gateway in processes of its own."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        file = tmp_path / "port"
        file.unlink(missing_ok=True)
        self.process: Running = begin("serve", "--port", "0", "--port-file", str(file), *arguments)
        eventually(lambda: file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, end(self.process)
        self.url = f"http://127.0.0.1:{file.read_text().strip()}"
        self.key = tokenferry("token", "--gateway").out.strip()

    def ask(self, *, session: str = "s", path: str = "/v1/messages", **more: Any) -> httpx2.Response:
        headers = {"x-api-key": self.key, "anthropic-version": "2023-06-01", "x-claude-code-session-id": session}
        return httpx2.post(f"{self.url}{path}", json=ASKED | more, headers=headers, trust_env=False, timeout=60)

    def end(self) -> None:
        self.process.terminate()
        assert end(self.process).code == 0


@pytest.fixture
def accounts(sandbox: Sandbox, home: Home) -> None:
    for name in ("alice", "bob"):
        issued = sandbox.issue(name, expires_in=28_800)
        outcome = tokenferry("account", "add", name, "--provider", "sandbox", stdin=bundle(issued))
        assert outcome.code == 0, outcome.err


def refused(sandbox: Sandbox) -> int:
    """How often the provider said that an account is limited."""
    return sum(one["status"] == 429 for one in sandbox.requests())


def causes(home: Home) -> dict[str, str]:
    with State(home.state) as state:
        return {one.scope.name: one.cause for one in state.cooldowns.list()}


def test_an_account_hits_its_limit_in_the_middle_and_the_user_sees_nothing(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    assert gate.ask().status_code == 200
    sandbox.settings("alice", limits=LIMITED)
    for stream in (True, False, True):
        answer = gate.ask(stream=stream)
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text
    eventually(lambda: causes(home) == {"alice": "window"})
    (first, *_) = tokenferry("explain", "route", "--session", "s", "--json").json
    assert first["account"] == "bob"
    assert first["passed_over"][0]["cause"] == "window"
    told = tokenferry("explain", "request", gate.ask().headers["x-tokenferry-request-id"])
    assert "alice was skipped: The account has used up its window 5h, until" in told.out
    gate.end()


def test_the_log_has_a_dated_line_of_each_change_and_the_list_says_who_is_limited(
    sandbox: Sandbox, home: Home, tmp_path: Path
) -> None:
    issued = sandbox.issue("alice", expires_in=10)
    assert tokenferry("account", "add", "alice", "--provider", "sandbox", stdin=bundle(issued)).code == 0
    gate = Gate(tmp_path)
    assert gate.ask().status_code == 200
    sandbox.settings("alice", limits=LIMITED)
    assert gate.ask().status_code == 429
    eventually(lambda: tokenferry("account", "list", "--json").json[0]["state"] == "limited")
    assert "limited until 20" in tokenferry("account", "list").out
    gate.process.terminate()
    told = [
        line
        for line in end(gate.process).err.splitlines()
        if "account alice" in line or 'message="no account can' in line
    ]
    dated = r'time=\d+ level=(?:info|warning) logger=tokenferry\.[a-z._]+ message="'
    assert [re.sub(dated, "", line)[:29] for line in told] == [
        "account alice was refreshed; ",
        "account alice has used up 100",
        "account alice is in cooldown ",
        "no account can serve this now",
    ]
    assert all(re.match(dated, line) for line in told)


def test_all_are_limited_and_the_user_sees_one_true_sentence(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    sandbox.settings("alice", limits=LIMITED)
    sandbox.settings("bob", limits={"7d": {"status": "rejected", "reset_in": 90_000}})
    for _ in range(2):
        answer = gate.ask()
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert error["type"] == "rate_limit_error"
        assert error["message"].startswith(
            "no account can serve this now (alice: the account has used up its window 5h"
        )
        assert "bob: the account has used up its window 7d" in error["message"]
        assert 7190 <= int(answer.headers["retry-after"]) <= 7240
        assert answer.headers["x-should-retry"] == "false"
    # Of the second request nothing was sent.
    asked = [one for one in sandbox.requests() if one["path"] == "/v1/messages"]
    assert len(asked) == 2
    sandbox.settings("alice", limits=None)
    eventually(lambda: set(causes(home)) == {"alice", "bob"})
    assert tokenferry("cooldown", "clear", "alice").code == 0
    began = time.monotonic()
    eventually(lambda: gate.ask().status_code == 200)
    assert time.monotonic() - began < 30
    gate.end()


def test_workers_share_what_one_of_them_found_out_and_a_restart_forgets_nothing(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path
) -> None:
    home.config.write_text(f"[server]\nworkers = 2\n{home.config.read_text()}")
    gate = Gate(tmp_path)
    sandbox.settings("alice", limits=LIMITED)
    assert gate.ask().status_code == 200
    eventually(lambda: causes(home) == {"alice": "window"})
    for number in range(12):
        assert gate.ask(session=f"s{number}").status_code == 200
    gate.end()
    before = refused(sandbox)
    assert before <= 2, "each worker is told once at most"
    gate = Gate(tmp_path)
    for number in range(6):
        assert gate.ask(session=f"t{number}").status_code == 200
    assert refused(sandbox) == before
    gate.end()


def test_an_overloaded_stream_goes_on_before_its_first_content_and_never_after(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    sandbox.fault("sse_error", type="overloaded_error", deltas=0, times=1)
    answer = gate.ask(stream=True)
    assert answer.status_code == 200
    assert "overloaded_error" not in answer.text
    assert "message_stop" in answer.text
    sandbox.fault("sse_error", type="overloaded_error", deltas=2, times=1)
    answer = gate.ask(stream=True)
    assert "overloaded_error" in answer.text
    assert answer.text.count("event: message_start") == 1
    assert "message_stop" not in answer.text
    assert causes(home) == {}
    gate.end()


def test_a_provider_that_is_not_there_is_the_local_network_and_benches_no_account(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        configure(home, f"http://127.0.0.1:{taken.getsockname()[1]}")
        gate = Gate(tmp_path)
        answer = gate.ask()
    assert answer.status_code == 502
    assert "local network" in answer.json()["error"]["message"]
    assert causes(home) == {}
    gate.end()


def test_a_running_gateway_takes_the_account_in_use_first_within_a_second_and_ignores_the_variable(
    sandbox: Sandbox, home: Home, accounts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "bob")
    gate = Gate(tmp_path)

    def served() -> str:
        assert gate.ask().status_code == 200
        return str(sandbox.requests()[-1]["account"])

    assert served() == "alice"
    assert tokenferry("use", "bob").code == 0
    since = time.monotonic()
    eventually(lambda: served() == "bob")  # of the same session
    assert time.monotonic() - since < 5  # a second, on a machine that does nothing else
    sandbox.settings("bob", limits=LIMITED)
    assert served() == "alice"
    gate.process.terminate()
    outcome = end(gate.process)
    assert "TOKENFERRY_ACCOUNT is set, and serve ignores it" in outcome.err
