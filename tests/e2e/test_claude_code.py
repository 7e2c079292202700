"""The real Claude Code command-line client through the gateway: emptied environment, throw-away home, no way out."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx2
import pytest

from e2e.conftest import AddLogin
from e2e.parties import (
    COMMAND,
    MODULES,
    PATIENCE,
    Outcome,
    SandboxProcess,
    Server,
    end,
    eventually,
    lacking,
    tokenferry,
)
from e2e.recorder import ClosedDoor, Relay, closed_door, recording_relay
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ANSWER: Final = "Hello from the sandbox, you said: hi ⛴"
OAUTH_BETA: Final = "oauth-2025-04-20"
_QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_BUG_COMMAND": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Claude:
    """The client in a home and a working directory of its own; whatever it asks of the world meets a closed door."""

    path: str
    person: Path
    door: ClosedDoor

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        proxies = {"HTTP_PROXY": self.door.url, "HTTPS_PROXY": self.door.url, "NO_PROXY": "127.0.0.1,localhost"}
        base = {"PATH": "/usr/bin:/bin", "HOME": str(self.person), "TERM": "dumb", "LANG": "C.UTF-8"}
        return base | _QUIET | proxies | dict(more)

    def run(self, *arguments: str, before: tuple[str, ...] = (), variables: Mapping[str, str]) -> Outcome:
        work = self.person / "work"
        work.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [*before, self.path, *arguments],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(variables),
        )
        return end(process)

    def settings(self, **settings: str) -> None:
        folder = self.person / ".claude"
        folder.mkdir(mode=0o700)
        (folder / "settings.json").write_text(json.dumps(settings))


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Claude]:
    path = MODULES / "@anthropic-ai/claude-code-linux-x64/claude"
    if not path.is_file():
        lacking("the npm package @anthropic-ai/claude-code-linux-x64")
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    with closed_door() as door:
        yield Claude(str(path), person, door)
    assert door.asked == []


@pytest.fixture
def relay(gateway: Server) -> Iterator[Relay]:
    """Stands before the gateway and notes what the client sends."""
    with recording_relay(gateway.url) as relay:
        yield relay


def check_upstream(sandbox: SandboxProcess, relay: Relay, key: str) -> None:
    """What arrived is what was sent, under the account's credential and no other, with the betas merged once."""
    arrived = sandbox.requests("/v1/messages")
    sent = relay.messages()
    assert Counter((one.body_sha256, one.body_length) for one in sent) == Counter(
        (one["body_sha256"], one["body_length"]) for one in arrived
    )
    assert {one["status"] for one in arrived} == {200}
    assert {one["account"] for one in arrived} == {"alice"}
    credentials = {credential for one in arrived for credential in one["credentials"]}
    assert len(credentials) == 1, "one access token was good for all of it"
    for one, original in zip(arrived, sent, strict=True):
        headers = [(name.lower(), value) for name, value in one["headers"]]
        names = [name for name, _ in headers]
        assert "x-api-key" not in names
        assert names.count("authorization") == 1
        assert all(key not in value for _, value in headers)
        betas = [value for name, value in headers if name == "anthropic-beta"]
        assert len(betas) == 1
        assert betas[0] == f"{original.header('anthropic-beta')},{OAUTH_BETA}"
        assert one["query"] == original.path.partition("?")[2]
        for name in ("anthropic-version", "user-agent", "x-claude-code-session-id"):
            assert dict(headers)[name] == original.header(name)
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["reuses"], counters["refreshes_failed"]) == (1, 0, 0)


def check_answers(claude: Claude, **variables: str) -> None:
    text = claude.run("-p", "hi", variables=variables)
    assert (text.code, text.out.strip()) == (0, ANSWER), text
    told = claude.run("-p", "hi", "--output-format", "json", variables=variables)
    assert told.code == 0, told
    result = json.loads(told.out)
    assert (result["result"], result["is_error"], result["subtype"]) == (ANSWER, False, "success")


@pytest.mark.parametrize("variable", ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"])
def test_it_answers_with_the_key_in_a_variable(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str, variable: str
) -> None:
    check_answers(claude, ANTHROPIC_BASE_URL=relay.url, **{variable: key})
    check_upstream(sandbox, relay, key)


def test_it_answers_with_both_variables_set_to_the_key(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str
) -> None:
    check_answers(claude, ANTHROPIC_BASE_URL=relay.url, ANTHROPIC_AUTH_TOKEN=key, ANTHROPIC_API_KEY=key)
    check_upstream(sandbox, relay, key)


def test_it_answers_with_an_api_key_helper(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str, home: Home
) -> None:
    claude.settings(apiKeyHelper=f"TOKENFERRY_HOME='{home.path}' '{COMMAND}' token --gateway")
    check_answers(claude, ANTHROPIC_BASE_URL=relay.url)
    first = relay.messages()[0]
    assert first.header("authorization") == f"Bearer {key}"
    assert first.header("x-api-key") == key
    check_upstream(sandbox, relay, key)


def test_it_streams_its_partial_messages(claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str) -> None:
    told = claude.run(
        *("-p", "hi", "--output-format", "stream-json", "--include-partial-messages", "--verbose"),
        variables={"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key},
    )
    assert told.code == 0, told
    events = [json.loads(line) for line in told.out.splitlines()]
    deltas = [
        event["event"]["delta"]["text"]
        for event in events
        if event["type"] == "stream_event" and event["event"].get("delta", {}).get("type") == "text_delta"
    ]
    assert len(deltas) > 1
    assert "".join(deltas) == ANSWER
    check_upstream(sandbox, relay, key)


@pytest.mark.parametrize(
    ("options", "shadow"),
    [
        ((), ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-of-another-time")),
        (("--account", "alice"), ("ANTHROPIC_API_KEY", "sk-ant-api03-of-another-time")),
    ],
)
def test_run_gives_it_a_gateway_of_its_own(
    claude: Claude, add_login: AddLogin, sandbox: SandboxProcess, options: tuple[str, ...], shadow: tuple[str, str]
) -> None:
    """Credentials in the environment don't get past the gateway's."""
    add_login("alice")
    variables = {"TOKENFERRY_HOME": os.environ["TOKENFERRY_HOME"], shadow[0]: shadow[1]}
    outcome = claude.run("-p", "hi", before=(COMMAND, "run", *options, "--"), variables=variables)
    assert (outcome.code, outcome.out.strip()) == (0, ANSWER), outcome
    arrived = sandbox.requests("/v1/messages")
    assert [(one["status"], one["account"], len(one["credentials"])) for one in arrived] == [(200, "alice", 1)]
    assert sandbox.counters()["refreshes"] == 1


def test_a_dead_login_is_reported_in_one_sentence(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str
) -> None:
    sandbox.revoke("alice", "family")
    told = claude.run("-p", "hi", variables={"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key})
    assert told.code == 1
    assert "tokenferry login alice" in told.out + told.err
    assert sandbox.requests("/v1/messages") == []
    assert sandbox.counters()["reuses"] == 0


def test_a_refresh_in_flight_survives_the_client_that_waits_for_it(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str
) -> None:
    sandbox.fault("hang", path="/v1/oauth/token")
    process = subprocess.Popen(
        [claude.path, "-p", "hi"],
        cwd=claude.person,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=claude.environment({"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key}),
    )
    try:
        eventually(lambda: sandbox.is_asked("/v1/oauth/token"), "the refresh is in flight")
    finally:
        process.kill()
        process.wait()
    sandbox.clear()
    again = claude.run("-p", "hi", variables={"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key})
    assert (again.code, again.out.strip()) == (0, ANSWER), again
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["reuses"]) == (1, 0)


# -- accounts that are limited


def limit(sandbox: SandboxProcess, account: str, window: str, seconds: int) -> None:
    sandbox.settings(account=account, limits={window: {"status": "rejected", "reset_in": seconds}})


@pytest.fixture
def bob(gateway: Server, add_login: AddLogin) -> None:
    """A second account that the gateway, which notices within a second, has noticed."""
    add_login("bob", expires_in=28_800)
    of_bob = tokenferry("key", "create", "of-bob", "--pin", "bob").out.strip()
    headers = {"x-api-key": of_bob, "anthropic-version": "2023-06-01"}
    models = partial(httpx2.get, f"{gateway.url}/v1/models", headers=headers, trust_env=False, timeout=PATIENCE)
    eventually(lambda: models().status_code == 200, "bob serves")


@pytest.mark.usefixtures("bob")
def test_an_account_hits_its_5_hour_limit_in_the_middle_and_the_user_sees_nothing(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str
) -> None:
    variables = {"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key}
    first = claude.run("-p", "hi", variables=variables)
    assert (first.code, first.out.strip()) == (0, ANSWER), first
    limit(sandbox, "alice", "5h", 7200)
    for _ in range(2):
        later = claude.run("-p", "--continue", "hi", variables=variables)
        assert (later.code, later.out.strip(), later.err) == (0, ANSWER, ""), later
    answered = [(one["account"], one["status"]) for one in sandbox.requests("/v1/messages")]
    assert answered.count(("alice", 429)) == 1, "once it is known, nothing is sent there"
    assert answered[-1] == ("bob", 200)


@pytest.mark.usefixtures("bob")
def test_all_are_limited_and_the_user_sees_one_true_sentence(
    claude: Claude, relay: Relay, sandbox: SandboxProcess, key: str
) -> None:
    limit(sandbox, "alice", "5h", 7200)
    limit(sandbox, "bob", "7d", 90_000)
    told = claude.run("-p", "hi", variables={"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key})
    assert told.code == 1
    said = told.out + told.err
    assert "no account can serve this now (alice: the account has used up its window 5h, until 20" in said
    assert "bob: the account has used up its window 7d, until 20" in said
    assert "try again in 2 h" in said or "try again in 119 min" in said
    assert {one["status"] for one in sandbox.requests("/v1/messages")} == {429}
    assert len(relay.messages()) <= 2, "the client doesn't try in vain"


def test_a_used_up_budget_answers_with_its_own_message_until_it_is_raised(
    claude: Claude, relay: Relay, key: str
) -> None:
    """One answer uses it up: the client shows the sentence, sends nothing again, and works again with a larger one."""
    variables = {"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key}
    tokenferry("key", "set", "local", "--budget", "0.001usd/day")

    def percent() -> int:
        found: int = json.loads(tokenferry("status", "--json").out)["budgets"][0]["percent"]
        return found

    first = claude.run("-p", "hi", variables=variables)
    assert (first.code, first.out.strip()) == (0, ANSWER), first
    eventually(lambda: percent() > 100, "it is written down")
    before = len(relay.messages())
    told = claude.run("-p", "hi", variables=variables)
    assert told.code == 1
    assert "the budget of $0.001 a day for client key local is used up until 20" in told.out + told.err, told
    assert len(relay.messages()) - before <= 2, "the client doesn't try in vain"
    tokenferry("key", "set", "local", "--budget", "100usd/day")
    again = claude.run("-p", "hi", variables=variables)
    assert (again.code, again.out.strip()) == (0, ANSWER), again
