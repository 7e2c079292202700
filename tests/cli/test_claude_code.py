"""`claude-code switch NAME` and `claude-code switch --next`, as a person sees them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from cli.harness import Outcome, begin, bundle, end, tokenferry
from tokenferry.claude_code.moves import MoveFile, MoveRecord
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State

CONFIG: Final = """[[providers]]
name = "claude-max"
base_url = "{url}"

[providers.oauth]
token_endpoint = "{url}/v1/oauth/token"

[policy]
subscriptions = "{policy}"
"""

Inside: TypeAlias = Callable[..., Outcome]


def configure(home: Home, sandbox: Sandbox, policy: str) -> None:
    home.config.write_text(CONFIG.format(url=sandbox.url, policy=policy))
    home.config.chmod(0o600)


@pytest.fixture
def sandbox(home: Home, tokenferry_sandbox: Sandbox) -> Sandbox:
    configure(home, tokenferry_sandbox, "claude-code-only")
    return tokenferry_sandbox


@pytest.fixture
def credentials() -> Path:
    return Path(os.environ["HOME"]) / ".claude" / ".credentials.json"


@pytest.fixture
def logins(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in ("alice", "bob"):
        found[name] = sandbox.issue(name, expires_in=28_800)
        outcome = tokenferry("account", "add", name, "--provider", "claude-max", stdin=bundle(found[name]))
        assert outcome.code == 0
    return found


def refresh_token(credentials: Path) -> str:
    token: str = json.loads(credentials.read_bytes())["claudeAiOauth"]["refreshToken"]
    return token


def test_a_move_says_what_became_of_both_logins(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, home: Home
) -> None:
    first = inside("claude-code", "switch", "alice")
    assert (first.code, first.out, first.err) == (0, "Claude Code has account alice now\n", "")
    assert refresh_token(credentials) == logins["alice"]["refresh_token"]
    again = inside("claude-code", "switch", "alice")
    assert (again.code, again.out) == (0, "Claude Code already has account alice\n")
    assert inside("claude-code", "switch", "alice", "--json").json["owner"] == "claude-code"
    second = inside("claude-code", "switch", "bob")
    assert second.out.splitlines() == [
        "Claude Code has account bob now",
        "its previous login is account alice's again",
    ]
    rows = {one["name"]: one for one in inside("account", "list", "--json").json}
    assert {name: row["owner"] for name, row in rows.items()} == {"alice": "tokenferry", "bob": "claude-code"}
    assert not home.move_to_claude_code.exists()
    assert second.hides(*(login[key] for login in logins.values() for key in ("access_token", "refresh_token")))


def test_a_moved_login_is_not_served_from_the_copy_that_was_left_behind(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, home: Home, sandbox: Sandbox
) -> None:
    """Not by the quick way either, which reads one document alone."""
    configure(home, sandbox, "own-use")
    inside("claude-code", "switch", "alice")
    document = json.loads(credentials.read_bytes())
    document["claudeAiOauth"]["accessToken"] = "sk-ant-oat01-renewed-by-claude-code"
    credentials.write_text(json.dumps(document))
    assert tokenferry("token", "alice").out == "sk-ant-oat01-renewed-by-claude-code\n"


def test_a_login_without_an_account_is_reported(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, sandbox: Sandbox
) -> None:
    login = sandbox.issue("carol", expires_in=28_800)
    section = {"accessToken": login["access_token"], "refreshToken": login["refresh_token"], "expiresAt": 1}
    credentials.parent.mkdir(mode=0o700)
    credentials.write_text(json.dumps({"claudeAiOauth": section}))
    credentials.chmod(0o600)
    outcome = inside("claude-code", "switch", "alice")
    assert outcome.err == ("tokenferry: its previous login belonged to no account, and is now account claude-code\n")
    assert tokenferry("refresh", "claude-code").code == 0
    assert sandbox.counters()["accounts"]["carol"]["refreshes"] == 1


def test_a_logout_in_between_is_reported(logins: object, credentials: Path, inside: Inside) -> None:
    inside("claude-code", "switch", "alice")
    document = json.loads(credentials.read_bytes())
    document["claudeAiOauth"] |= {"accessToken": "", "refreshToken": "", "expiresAt": 0}
    credentials.write_text(json.dumps(document))
    outcome = inside("claude-code", "switch", "bob")
    assert outcome.code == 0
    assert "had been logged out of account alice" in outcome.err
    assert outcome.err.rstrip().endswith("tokenferry login alice")


def test_what_can_not_be_moved_has_a_code_and_a_sentence(
    logins: object, credentials: Path, inside: Inside, home: Home
) -> None:
    inside("account", "add", "key", stdin="sk-ant-api03-" + "k" * 80)
    for arguments, code, word in (
        (("claude-code", "switch", "nobody"), 4, "no account 'nobody'"),
        (("claude-code", "switch", "key"), 5, "tokenferry run --account key -- claude"),
        (("claude-code", "switch"), 2, "--next"),
        (("claude-code", "switch", "alice", "--next"), 2, "not both"),
        (("claude-code", "switch", "alice", "--until", "1800000000"), 2, "--next"),
        (("claude-code", "switch", "--next", "--until", "soon"), 2, "'soon' is not a time"),
        (("claude-code", "switch", "--next"), 7, 'subscriptions = "own-use"'),
    ):
        outcome = inside(*arguments)
        assert (outcome.code, word in outcome.one_line()) == (code, True), outcome
    assert not credentials.exists()


def test_swap_prints_who_takes_over(logins: object, inside: Inside, home: Home, sandbox: Sandbox) -> None:
    configure(home, sandbox, "own-use")
    inside("claude-code", "switch", "alice")
    outcome = inside("claude-code", "switch", "--next", "--until", str(int(time.time()) + 5400))
    assert (outcome.code, outcome.out, outcome.err) == (0, "bob@example.com\n", "")
    again = inside("claude-code", "switch", "--next")
    assert again.code == 6
    assert again.one_line().startswith("All OAuth accounts are rate-limited. Earliest reset in 90 minute(s) (at ")
    inside("account", "remove", "alice", "--yes")
    lonely = inside("claude-code", "switch", "--next")
    assert (lonely.code, "fewer than 2 accounts" in lonely.one_line()) == (4, True)


def test_a_renewer_switches_what_is_on_record_as_limited_if_it_is_asked_to(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, home: Home, sandbox: Sandbox
) -> None:
    configure(home, sandbox, "own-use")
    inside("claude-code", "switch", "alice")
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "alice"), "window", "answer", int(time.time()) + 5400))
    assert inside("refresh", "--due").code == 0
    assert refresh_token(credentials) == logins["alice"]["refresh_token"]
    outcome = inside("refresh", "--due", "--switch-claude-code")
    assert outcome.code == 0, outcome.err
    assert "account alice is limited, so Claude Code has bob@example.com now" in outcome.out + outcome.err
    assert refresh_token(credentials) == logins["bob"]["refresh_token"]


def test_a_move_that_was_cut_short_is_shown_and_completed(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, home: Home
) -> None:
    inside("claude-code", "switch", "alice")
    record = MoveRecord(
        to="bob",
        home="alice",
        step="preparing",
        place=str(credentials),
        config_dir=str(credentials.parent),
        present="a digest",
        coming="a digest",
        account_id=None,
        organization_id=None,
        at=int(time.time()),
    )
    MoveFile(home.move_to_claude_code).write(record)
    status = inside("status")
    assert status.err.count("\n") == 1
    assert status.err.rstrip().endswith("tokenferry claude-code switch bob")
    assert inside("status", "--json").json["interrupted_move"] == {
        "to": "bob",
        "home": "alice",
        "step": "preparing",
        "at": record.at,
    }
    (finding,) = (one for one in inside("doctor", "--json").json if "cut short" in one["what"])
    assert finding["cure"] == "tokenferry claude-code switch bob"
    assert inside("claude-code", "switch", "bob").code == 0
    assert inside("status", "--json").json["interrupted_move"] is None
    assert refresh_token(credentials) == logins["bob"]["refresh_token"]


def test_removing_a_moved_account_leaves_claude_code_its_login(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside, home: Home
) -> None:
    inside("claude-code", "switch", "alice")
    assert inside("account", "remove", "alice", "--yes").code == 0
    assert [one["name"] for one in inside("account", "list", "--json").json] == ["bob"]
    assert refresh_token(credentials) == logins["alice"]["refresh_token"]
    assert not (home.accounts / "alice.json").exists()


def test_a_wait_for_claude_code_is_explained(logins: dict[str, dict[str, Any]], credentials: Path) -> None:
    credentials.parent.mkdir(mode=0o700)
    lock = credentials.with_name(".oauth_refresh.lock")
    lock.mkdir()
    process = begin("claude-code", "switch", "alice")
    assert process.stderr is not None
    told = process.stderr.readline()
    assert told.startswith("tokenferry: warning: waiting up to ")
    assert f"{lock} is held by Claude Code" in told
    lock.rmdir()
    outcome = end(process)
    assert (outcome.code, outcome.out) == (0, "Claude Code has account alice now\n")


def test_the_status_names_the_account_that_claude_code_has(
    logins: dict[str, dict[str, Any]], credentials: Path, inside: Inside
) -> None:
    assert "attach its login with: tokenferry claude-code attach NAME" in inside("claude-code", "status").out
    inside("claude-code", "switch", "alice")
    out = inside("claude-code", "status").out
    assert out.startswith("account  alice: ")
    assert "uses     login" in out
    found = inside("claude-code", "status", "--json").json
    assert (found["account"]["name"], found["uses"]["winner"], found["interrupted_move"]) == ("alice", "login", None)
