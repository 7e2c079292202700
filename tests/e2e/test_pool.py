"""Several accounts behind one gateway: what the real Claude Code and the SDK see of their limits."""

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import anthropic
import httpx2
import pytest

from e2e.claude import Claude, is_answered
from e2e.conftest import AddLogin
from e2e.parties import SandboxProcess, Server, begin, end, eventually, fetch, running, tokenferry
from e2e.recorder import ClosedDoor, closed_door

pytestmark = pytest.mark.e2e

MODEL: Final = "claude-sonnet-5-5"
LIMITED: Final = {"5h": {"status": "rejected", "utilization": 1.0, "reset_in": 7200}}


@pytest.fixture
def accounts(sandbox: SandboxProcess, add_login: AddLogin) -> tuple[str, str]:
    """Two subscriptions, of which `alice` comes first."""
    for name in ("alice", "bob"):
        add_login(name, expires_in=28_800)
    return "alice", "bob"


@pytest.fixture
def door() -> Iterator[ClosedDoor]:
    with closed_door() as door:
        yield door
    assert door.asked == []


@pytest.fixture
def claude(door: ClosedDoor, tmp_path: Path) -> Claude:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    return Claude(person, door.url)


@dataclass(frozen=True)
class Way:
    url: str
    key: str

    @property
    def variables(self) -> dict[str, str]:
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_AUTH_TOKEN": self.key}

    def ask(self, text: str = "hi") -> str:
        """Have a conversation of one turn, in a session of its own, with the SDK, which tries once."""
        with (
            httpx2.Client(trust_env=False) as http,
            anthropic.Anthropic(base_url=self.url, auth_token=self.key, max_retries=0, http_client=http) as client,
            client.messages.stream(
                model=MODEL,
                max_tokens=50,
                messages=[{"role": "user", "content": text}],
                extra_headers={"x-claude-code-session-id": str(uuid4())},
            ) as stream,
        ):
            return stream.get_final_text()


def to(gateway: Server) -> Way:
    return Way(gateway.url, tokenferry("token", "--gateway").out.strip())


def served_by(sandbox: SandboxProcess) -> list[tuple[str, int]]:
    """Which account each request for a message came with, and what it was answered."""
    return [(one["account"], one["status"]) for one in sandbox.requests("/v1/messages") if "count" not in one["path"]]


def test_an_account_that_hits_its_limit_during_a_session_is_replaced_unnoticed(
    accounts: tuple[str, str], claude: Claude, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    session = str(uuid4())
    with running("serve", tmp_path) as gateway:
        way = to(gateway)
        first = end(claude.begin("-p", "hi", "--session-id", session, **way.variables))
        assert is_answered(first), first
        sandbox.settings(account="alice", limits=LIMITED)
        second = end(claude.begin("-p", "and again", "--resume", session, **way.variables))
        assert is_answered(second), second
        third = end(claude.begin("-p", "and again", "--resume", session, **way.variables))
        assert is_answered(third), third
    assert served_by(sandbox) == [("alice", 200), ("alice", 429), ("bob", 200), ("bob", 200)]
    lines = [line for line in gateway.log.read_text().splitlines() if " path=/v1/messages " in line]
    assert [re.findall(r" status=(\d+) .* attempts=(\d)", line)[0] for line in lines] == [
        ("200", "1"), ("200", "2"), ("200", "1"),
    ]  # fmt: skip
    request_id = re.findall(r" id=(\S+)", lines[1])[0]
    told = tokenferry("explain", "request", request_id).out
    assert "alice" in told
    assert "window 5h" in told
    assert "bob" in told


def test_when_all_are_limited_the_user_sees_one_true_sentence(
    accounts: tuple[str, str], claude: Claude, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    for name in accounts:
        sandbox.settings(account=name, limits=LIMITED)
    with running("serve", tmp_path) as gateway:
        outcome = end(claude.begin("-p", "hi", **to(gateway).variables))
    assert outcome.code == 1
    shown = outcome.out + outcome.err
    assert "no account can serve this now" in shown
    for name in accounts:
        assert f"{name}: " in shown
    assert re.search(r"; try again in \d+ (h|min)( \d+ (min|s))?$", shown.strip())
    assert served_by(sandbox) == [("alice", 429), ("bob", 429)]  # and it did not ask again


def test_an_overload_at_the_beginning_of_a_stream_is_answered_elsewhere(
    accounts: tuple[str, str], claude: Claude, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    sandbox.fault("status", path="/v1/messages", account="alice", status=529, times=2)
    with running("serve", tmp_path) as gateway:
        outcome = end(claude.begin("-p", "hi", **to(gateway).variables))
    assert is_answered(outcome), outcome
    assert served_by(sandbox) == [("alice", 529), ("alice", 529), ("bob", 200)]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_workers_and_a_restart_remember_limited_accounts_until_they_are_cleared(
    accounts: tuple[str, str], sandbox: SandboxProcess, tmp_path: Path, workers: str
) -> None:
    sandbox.settings(account="alice", limits=LIMITED)
    with running("serve", tmp_path, "--workers", workers) as gateway:
        way = to(gateway)
        for number in range(12):
            assert f"you said: {number}" in way.ask(str(number))
        eventually(lambda: "alice" in tokenferry("cooldown", "list").out, "it is on record")
        asked = served_by(sandbox).count(("alice", 429))
        assert 1 <= asked <= int(workers)
        gateway.process.kill()
        gateway.process.wait()
    (tmp_path / "serve.port").unlink()
    with running("serve", tmp_path, "--workers", workers) as gateway:
        way = to(gateway)
        for number in range(6):
            assert f"you said: {number}" in way.ask(str(number))
        assert served_by(sandbox).count(("alice", 429)) == asked
        sandbox.settings(account="alice", limits=None)
        assert tokenferry("cooldown", "clear", "alice").code == 0
        answered = itertools.count()
        eventually(lambda: way.ask(f"again {next(answered)}") and served_by(sandbox)[-1] == ("alice", 200), "it serves")


def test_requests_under_load_lose_nothing_when_one_account_is_limited(
    accounts: tuple[str, str], sandbox: SandboxProcess, tmp_path: Path
) -> None:
    with running("serve", tmp_path, "--workers", "2") as gateway:
        way = to(gateway)
        code = (
            "import sys, anthropic, httpx2\n"
            "url, key, name = sys.argv[1:]\n"
            "http = httpx2.Client(trust_env=False)\n"
            "client = anthropic.Anthropic(base_url=url, auth_token=key, max_retries=0, http_client=http)\n"
            "for n in range(25):\n"
            "    message = client.messages.create(model='claude-sonnet-5-5', max_tokens=50,"
            " messages=[{'role': 'user', 'content': f'{name} {n}'}])\n"
            "    assert f'you said: {name} {n}' in message.content[0].text\n"
        )
        clients = [begin(sys.executable, "-c", code, way.url, way.key, f"c{number}") for number in range(4)]
        eventually(lambda: len(sandbox.requests("/v1/messages")) > 20, "they are at work")
        sandbox.settings(account="alice", limits=LIMITED)
        outcomes = [end(client) for client in clients]
    assert [outcome.code for outcome in outcomes] == [0] * 4, outcomes
    statuses = served_by(sandbox)
    assert sum(status == 200 for _, status in statuses) == 100
    assert fetch(f"{sandbox.url}/_sandbox/counters")["accounts"]["bob"]["requests"] > 0
