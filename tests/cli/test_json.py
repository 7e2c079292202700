"""`--json` of commands that change something: one document on stdout when it went well, else a sentence on stderr."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.harness import Outcome, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]

KEY = "sk-ant-api03-aaaaaaaaaaaaaaaa"


def added(name: str = "work") -> None:
    assert tokenferry("account", "add", name, "--provider", "anthropic", stdin=KEY).code == 0


def test_logout_says_whether_the_login_was_ended(inside: Inside, login: Login) -> None:
    login("work")
    outcome = inside("logout", "work", "--keep-remote", "--json")
    assert (outcome.code, outcome.json) == (0, {"removed": "work", "revoked": False})
    assert "account work" in outcome.err


def test_remove_and_confirm_give_the_account(home: Home, inside: Inside) -> None:
    added()
    inside("key", "create", "anna", "--pin", "work")
    assert inside("account", "confirm", "work", "--json").json["name"] == "work"
    outcome = inside("account", "remove", "work", "--yes", "--json")
    assert outcome.json == {"removed": "work", "revoked": False, "unserved_keys": ["anna"]}


def test_encryption_gives_the_state_then(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(tmp_path / "stick" / "key"))
    added()
    first = tokenferry("encryption", "enable", "--json").json
    assert first["sealed"] == ["work"]
    assert tokenferry("encryption", "status", "--json").json == first
    assert tokenferry("encryption", "rotate-key", "--json").json["key"] != first["key"]
    assert tokenferry("encryption", "disable", "--json").json["clear"] == ["work"]


def test_policy_model_and_provider_give_what_holds_then(home: Home, inside: Inside) -> None:
    assert inside("policy", "set", "off", "--json").json == {"subscriptions": "claude-code-only"}
    home.config.write_text('[[providers]]\nname = "sandbox"\nbase_url = "http://127.0.0.1:1"\n')
    home.config.chmod(0o600)
    assert inside("model", "add", "fast", "sandbox/m").code == 0
    assert inside("model", "remove", "fast", "--json").json == {"removed": "fast"}
    inside("account", "add", "alice", "--provider", "sandbox", stdin=KEY)
    assert inside("provider", "remove", "sandbox", "--json").json == {"removed": "sandbox", "accounts_left": ["alice"]}


def test_unpublish_lists_the_profiles(
    sandbox: Sandbox, inside: Inside, login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "anthropic"))
    login("work")
    assert inside("profile", "publish", "work").code == 0
    outcome = inside("profile", "unpublish", "work", "--json")
    assert outcome.json == {"unpublished": [{"profile": "work", "account": "work"}]}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("logout nope --json", 4),
        ("account remove nope --json", 4),
        ("account remove work --json", 2),
        ("account confirm nope --json", 4),
        ("encryption rotate-key --json", 2),
        ("policy set nope --json", 2),
        ("policy set own-use --json", 7),
        ("claude-code switch nope --json", 4),
        ("claude-code switch --json", 2),
        ("profile unpublish nope --json", 4),
        ("model remove nope --json", 4),
        ("provider remove nope --json", 4),
        ("service install --serve --switch-claude-code --json", 2),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_stdout_stays_empty(
    home: Home, inside: Inside, line: str, code: int
) -> None:
    added()
    outcome = inside(*line.split())
    assert outcome.code == code
    assert outcome.one_line()
