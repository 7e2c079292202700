"""`tokenferry setup claude-code`, and then the real Claude Code: through the gateway, and straight to the provider."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e.claude import Claude, is_answered
from e2e.parties import Outcome, SandboxProcess, Server, end, fetch, tokenferry
from e2e.recorder import closed_door

pytestmark = pytest.mark.e2e

MINE: Final = '{\n\t"model": "sonnet",\n\t"env": {"MY_OWN": "1"}\n}\n'


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claude]:
    person = tmp_path / "claude"
    (person / ".claude").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.chdir(person)
    with closed_door() as door:
        yield Claude(person, door.url)
    assert door.asked == []


def set_up(*arguments: str) -> Outcome:
    outcome = tokenferry("setup", "claude-code", "--yes", *arguments)
    assert outcome.code == 0, outcome
    return outcome


def status(claude: Claude) -> tuple[bool, str | None]:
    _, told = claude.status()
    return told["loggedIn"], told.get("apiKeySource")


def test_set_up_it_answers_through_the_gateway_and_undone_it_knows_nothing_of_it(
    claude: Claude, gateway: Server, sandbox: SandboxProcess
) -> None:
    settings = claude.person / ".claude" / "settings.json"
    settings.write_text(MINE)
    assert set_up("--url", gateway.url).err == "", "nothing goes before it, and the gateway runs"
    assert status(claude) == (True, "apiKeyHelper")
    outcome = end(claude.ask())
    assert is_answered(outcome), outcome
    assert {one["account"] for one in sandbox.requests("/v1/messages")} == {"alice"}
    assert sandbox.counters()["refreshes"] == 1
    set_up("--undo")
    assert settings.read_text() == MINE
    assert status(claude) == (False, None)


def test_what_explain_says_of_it_is_what_it_does(claude: Claude, gateway: Server) -> None:
    set_up("--url", gateway.url, "--project")
    (program,) = json.loads(tokenferry("explain", "credentials", "--for", "claude-code", "--json").out)["programs"]
    assert (program["winner"], program["base_url"], program["warnings"]) == ("apiKeyHelper", gateway.url, [])
    assert program["base_url_from"].endswith(".claude/settings.local.json")
    assert is_answered(end(claude.ask()))


def test_a_variable_that_goes_before_it_is_warned_of_and_does(
    claude: Claude, gateway: Server, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "nonsense")
    assert "ANTHROPIC_AUTH_TOKEN in the environment overrides apiKeyHelper" in set_up("--url", gateway.url).err
    set_up("--undo")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN")
    (claude.person / ".claude" / "settings.json").write_text('{"env": {"ANTHROPIC_API_KEY": "nonsense"}}')
    assert "overrides apiKeyHelper" in set_up("--url", gateway.url).err
    assert status(claude) == (True, "ANTHROPIC_API_KEY")


def test_directly_it_answers_with_an_accounts_key(claude: Claude, sandbox: SandboxProcess) -> None:
    key = fetch(f"{sandbox.url}/_sandbox/issue", {"account": "dave", "kind": "api-key"})["key"]
    assert tokenferry("account", "add", "dave", "--provider", "sandbox", stdin=key).code == 0
    set_up("--direct", "--account", "dave")
    assert os.environ["TOKENFERRY_HOME"] in (claude.person / ".claude" / "settings.json").read_text()
    outcome = end(claude.ask())
    assert is_answered(outcome), outcome
    assert {one["account"] for one in sandbox.requests("/v1/messages")} == {"dave"}
