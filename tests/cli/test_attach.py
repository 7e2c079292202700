"""`claude-code attach`: Claude Code's own login, attached, never copied."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli.harness import Outcome, Terminal, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

CONFIG = """[[providers]]
name = "claude-max"
base_url = "{url}"

[providers.oauth]
token_endpoint = "{url}/v1/oauth/token"

[policy]
subscriptions = "{policy}"
"""


@pytest.fixture
def credentials() -> Path:
    """Claude Code's file in the throw-away home."""
    folder = Path(os.environ["HOME"]) / ".claude"
    folder.mkdir(mode=0o700)
    return folder / ".credentials.json"


@pytest.fixture
def sandbox(home: Home, tokenferry_sandbox: Sandbox, credentials: Path) -> Sandbox:
    configure(home, tokenferry_sandbox, "claude-code-only")
    log_in(credentials, tokenferry_sandbox, expires_in=-60)
    return tokenferry_sandbox


def configure(home: Home, sandbox: Sandbox, policy: str) -> None:
    home.config.write_text(CONFIG.format(url=sandbox.url, policy=policy))
    home.config.chmod(0o600)


def log_in(credentials: Path, sandbox: Sandbox, expires_in: int) -> dict[str, Any]:
    issued = sandbox.issue("alice", expires_in=expires_in)
    login = {
        "accessToken": issued["access_token"],
        "refreshToken": issued["refresh_token"],
        "expiresAt": issued["expires_at"] * 1000,
        "scopes": issued["scopes"],
        "subscriptionType": "max",
        "unknownHere": {"kept": True},
    }
    credentials.write_text(json.dumps({"claudeAiOauth": login, "mcpOAuth": {"server": "kept"}}))
    credentials.chmod(0o600)
    return issued


def attach(name: str = "mine") -> Outcome:
    return tokenferry("claude-code", "attach", name)


def test_an_expired_login_is_renewed_in_place_and_the_rest_of_the_file_survives(
    sandbox: Sandbox, credentials: Path, home: Home
) -> None:
    before = json.loads(credentials.read_text())["claudeAiOauth"]
    assert attach().out.startswith("attached account mine to the login of claude-code")
    assert "expired, refreshed at its next use" in tokenferry("account", "list").out
    assert tokenferry("refresh", "mine").code == 0
    document = json.loads(credentials.read_text())
    after = document["claudeAiOauth"]
    assert after["accessToken"] != before["accessToken"]
    assert after["refreshToken"] != before["refreshToken"]
    assert after["expiresAt"] > time.time() * 1000
    assert after["unknownHere"] == {"kept": True}
    assert document["mcpOAuth"] == {"server": "kept"}
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert not list(credentials.parent.glob("*.lock"))
    assert "ort01" not in "".join(path.read_text() for path in home.attached.iterdir())


def test_a_living_login_is_left_to_its_owner(sandbox: Sandbox, credentials: Path) -> None:
    log_in(credentials, sandbox, expires_in=3600)
    attach()
    outcome = tokenferry("refresh", "mine")
    assert outcome.code == 6
    assert "refreshed only when its token has expired or was refused" in outcome.one_line()
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 0


def test_it_is_handed_to_others_under_policy_own_alone(sandbox: Sandbox, home: Home, credentials: Path) -> None:
    attach()
    assert tokenferry("token", "mine").code == 7
    configure(home, sandbox, "own-use")
    token = tokenferry("token", "mine").out.strip()
    assert token == json.loads(credentials.read_text())["claudeAiOauth"]["accessToken"]


def test_its_login_is_neither_replaced_nor_removed_nor_attached_twice(sandbox: Sandbox, credentials: Path) -> None:
    attach()
    before = credentials.read_bytes()
    again = tokenferry("account", "add", "mine", "--provider", "claude-max", "--replace", stdin='{"access_token": "x"}')
    assert again.code == 2
    assert "log in there" in again.one_line()
    assert attach("other").code == 2
    assert tokenferry("account", "remove", "mine", "--yes").code == 0
    assert credentials.read_bytes() == before
    assert tokenferry("account", "list", "--json").json == []


def test_a_login_that_an_account_has_is_not_attached(sandbox: Sandbox, home: Home, credentials: Path) -> None:
    login = json.loads(credentials.read_text())["claudeAiOauth"]
    copy = {"access_token": login["accessToken"], "refresh_token": login["refreshToken"]}
    assert tokenferry("account", "add", "copy", "--provider", "claude-max", stdin=json.dumps(copy)).code == 0
    outcome = tokenferry("claude-code", "attach", "mine")
    assert outcome.code == 2
    assert outcome.one_line().startswith("account 'copy' has this login already")
    assert [one["name"] for one in tokenferry("account", "list", "--json").json] == ["copy"]


def test_an_attached_account_is_among_those_that_an_unknown_name_lists(sandbox: Sandbox, credentials: Path) -> None:
    assert tokenferry("claude-code", "attach", "mine").code == 0
    assert "there is mine" in tokenferry("account", "show", "other").one_line()


def test_without_a_login_it_says_how_to_get_one_and_attaches_nothing(sandbox: Sandbox, credentials: Path) -> None:
    credentials.unlink()
    outcome = attach()
    assert outcome.code == 5
    assert "claude /login" in outcome.one_line()
    assert tokenferry("account", "list", "--json").json == []


def test_a_log_out_later_is_a_state(sandbox: Sandbox, credentials: Path) -> None:
    attach()
    credentials.write_text('{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}')
    [row] = tokenferry("account", "list", "--json").json
    assert row["state"] == "broken"
    assert "claude /login" in row["text"]
    assert tokenferry("account", "remove", "mine", "--yes").code == 0


@pytest.mark.parametrize("provider", ["console", "elsewhere"])
def test_it_is_no_login_of_another_provider_to_whose_host_it_would_go(
    sandbox: Sandbox, home: Home, credentials: Path, provider: str
) -> None:
    """Not even one that doesn't name its plan."""
    login = json.loads(credentials.read_text())
    del login["claudeAiOauth"]["subscriptionType"]
    credentials.write_text(json.dumps(login))
    declared = '[[providers]]\nname = "elsewhere"\nbase_url = "https://api.example.com"\n'
    home.config.write_text(declared + home.config.read_text())
    outcome = tokenferry("account", "add", "mine", "--store", "claude-code", "--provider", provider)
    assert (outcome.code, "leave --provider out" in outcome.one_line()) == (2, True)
    imported = tokenferry("import", str(credentials), "--provider", provider)
    assert "a login of Claude Code, and provider" in imported.out
    assert imported.code == 1
    assert tokenferry("account", "list", "--json").json == []


def test_what_was_attached_as_another_provider_s_is_gated_all_the_same(
    sandbox: Sandbox, home: Home, credentials: Path
) -> None:
    login = log_in(credentials, sandbox, expires_in=3600)
    attach()
    attached = home.attached / "mine.json"
    attached.write_text(attached.read_text().replace('"claude-max"', '"console"'))
    document = json.loads(credentials.read_text())
    del document["claudeAiOauth"]["subscriptionType"]
    credentials.write_text(json.dumps(document))
    outcome = tokenferry("token", "mine", "--min-ttl", "0")
    assert outcome.code == 7
    assert outcome.hides(login["access_token"])
    assert "for Claude Code alone" in tokenferry("account", "list").out


def test_it_names_its_folder_and_follows_no_variable_that_is_set_later(
    sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    attach()
    (tmp_path / "other").mkdir(mode=0o700)
    shown = tokenferry("account", "show", "mine", "--json", CLAUDE_CONFIG_DIR=str(tmp_path / "other"))
    assert shown.json["labels"] == {"config_dir": str(credentials.parent)}
    assert shown.json["state"] == "expired"


def test_a_question_before_it_is_removed_says_that_the_login_stays(sandbox: Sandbox, credentials: Path) -> None:
    attach()
    terminal = Terminal("account", "remove", "mine")
    terminal.wait_for("Its login stays where it is.")
    terminal.type("n\n")
    assert terminal.end() == 1
