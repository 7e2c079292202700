import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.harness import Outcome, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.secret import fingerprint
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State, local_key

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]
KEY = "sk-ant-api03-" + "k" * 40


def programs(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    return {program["program"]: program for program in outcome.json["programs"]}


def source(program: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in program["sources"] if one["name"] == name)


def test_both_programs_and_tokenferrys_own_choice_are_reported(home: Home, inside: Inside) -> None:
    outcome = inside("explain", "credentials", "--json")
    assert {name: program["winner"] for name, program in programs(outcome).items()} == {
        "sdk": None,
        "claude-code": None,
    }
    assert outcome.json["tokenferry"]["account"] is None
    assert "tokenferry account add" in outcome.json["tokenferry"]["reason"]
    text = inside("explain", "credentials", "--env").out
    assert text.count("= it finds no credential") == 2
    assert "tokenferry itself would choose no account" in text


def test_one_program_alone_can_be_asked_for(home: Home, inside: Inside) -> None:
    assert list(programs(inside("explain", "credentials", "--for", "sdk", "--json"))) == ["sdk"]
    assert "Claude Code" not in inside("explain", "credentials", "--for", "sdk").out


def test_a_credential_is_shown_by_its_fingerprint_and_by_the_account_it_is(
    home: Home, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    tokenferry("account", "add", "work", "--provider", "anthropic", stdin=KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", local_key(home).reveal())
    outcome = inside("explain", "credentials", "--json")
    sdk, claude_code = programs(outcome).values()
    assert (sdk["winner"], sdk["sends"]) == ("ANTHROPIC_API_KEY", {"authorization": "ANTHROPIC_API_KEY"})
    found = source(sdk, "ANTHROPIC_API_KEY")
    assert (found["kind"], found["fingerprint"], found["account"]) == ("API key", fingerprint(KEY), "account work")
    assert source(sdk, "ANTHROPIC_AUTH_TOKEN")["account"] == "the gateway's local key"
    assert source(sdk, "ANTHROPIC_AUTH_TOKEN")["state"] == "shadowed"
    assert claude_code["winner"] == "ANTHROPIC_AUTH_TOKEN"
    assert outcome.json["tokenferry"] == {"account": "work", "reason": "it is the only one"}
    text = inside("explain", "credentials")
    assert f"API key {fingerprint(KEY)}, account work" in text.out
    assert outcome.hides(KEY)
    assert text.hides(KEY)


def profile(name: str, **tokens: Any) -> Path:
    folder = Path(os.environ["HOME"]) / ".config" / "anthropic"
    for kind, content in (("configs", {"authentication": {"type": "user_oauth"}}), ("credentials", tokens)):
        path = folder / kind / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        path.chmod(0o600)
    return path


def test_problems_are_listed_below_their_source(home: Home, inside: Inside) -> None:
    path = profile("default", access_token="secret-of-a-profile", expires_at=int(time.time() * 1000) + 10**7)
    outcome = inside("explain", "credentials", "--for", "sdk")
    assert f"but: {path}: expires_at is in milliseconds" in outcome.out
    assert outcome.hides("secret-of-a-profile")
    path.chmod(0o644)
    assert "= it stops at active profile, and nothing is sent" in inside("explain", "credentials", "--for", "sdk").out


def test_a_login_in_two_places_causes_a_warning(home: Home, login: Login, inside: Inside) -> None:
    issued = login("work")
    path = Path(os.environ["HOME"]) / ".claude" / ".credentials.json"
    path.parent.mkdir()
    section = {"accessToken": issued["access_token"], "refreshToken": issued["refresh_token"]}
    path.write_text(json.dumps({"claudeAiOauth": section}))
    path.chmod(0o600)
    outcome = inside("explain", "credentials", "--for", "claude-code", "--json")
    (warning,) = programs(outcome)["claude-code"]["warnings"]
    assert "has the refresh token of account work" in warning
    assert outcome.hides(issued["refresh_token"], issued["access_token"])


def test_an_attached_login_is_no_clone(home: Home, inside: Inside) -> None:
    path = Path(os.environ["HOME"]) / ".claude" / ".credentials.json"
    path.parent.mkdir(mode=0o700)
    section = {"accessToken": "secret-access", "refreshToken": "secret-refresh", "expiresAt": 4_000_000_000}
    path.write_text(json.dumps({"claudeAiOauth": section}))
    path.chmod(0o600)
    assert inside("account", "add", "mine", "--store", "claude-code").code == 0
    program = programs(inside("explain", "credentials", "--for", "claude-code", "--json"))["claude-code"]
    assert program["warnings"] == []
    assert source(program, "login")["account"] == "account mine"


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        (28_800, "it is fresh, and used as it is"),
        (500, "tokenferry token, which wants 10 min, refreshes it first"),
        (200, "while one caller refreshes it"),
        (10, "it is refreshed before it is used"),
        (-10, "it is refreshed before it is used"),
    ],
)
def test_an_accounts_resolution_depends_on_the_life_it_has_left(
    sandbox: Sandbox, login: Login, inside: Inside, expires_in: int, expected: str
) -> None:
    issued = login("work", expires_in=expires_in)
    outcome = inside("explain", "account", "work", "--json")
    told = outcome.json
    assert expected in told["steps"]["renewal"]
    assert list(told["steps"]) == ["provider", "policy", "owner", "renewal"]
    assert told["windows"] == {"advisory": 300, "mandatory": 30}
    assert told["place"].endswith("accounts/work.json")
    assert told["chosen"] == "also where no account is named: it is the only one"
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 0
    assert expected in inside("explain", "account", "work").out


def test_which_account_is_meant_and_why_is_reported(
    home: Home, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    for name in ("a", "b"):
        tokenferry("account", "add", name, "--provider", "anthropic", stdin=f"{KEY}{name}")
    assert "several accounts" in inside("explain", "credentials", "--json").json["tokenferry"]["reason"]
    assert inside("explain", "account", "b").out.count("only when it is named") == 1
    inside("use", "a")
    assert inside("explain", "credentials", "--json").json["tokenferry"] == {"account": "a", "reason": "it is in use"}
    assert "otherwise it is a: it is in use" in inside("explain", "account", "b").out
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "b")
    assert inside("explain", "credentials", "--json").json["tokenferry"] == {
        "account": "b",
        "reason": "TOKENFERRY_ACCOUNT names it",
    }
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "c")
    assert "can't be used" in inside("explain", "credentials", "--json").json["tokenferry"]["reason"]


def test_a_variable_is_used_if_there_is_no_account(home: Home, monkeypatch: pytest.MonkeyPatch, inside: Inside) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    own = inside("explain", "credentials", "--json").json["tokenferry"]
    assert own["account"] == "ANTHROPIC_API_KEY"
    assert "stands in for one" in own["reason"]


def test_the_policy_is_reported(home: Home, inside: Inside) -> None:
    setup_token = "sk-ant-oat01-" + "s" * 90
    tokenferry("account", "add", "mine", "--provider", "claude-max", stdin=setup_token)
    told = inside("explain", "account", "mine", "--json").json
    assert 'subscriptions = "claude-code-only" limits it to Claude Code' in told["steps"]["policy"]
    assert "renewal" not in told["steps"]
    configure(home, "http://127.0.0.1:1", '[policy]\nsubscriptions = "own-use"\n')
    told = inside("explain", "account", "mine", "--json").json
    assert "allows its use here" in told["steps"]["policy"]
    assert "can't be refreshed" in told["steps"]["renewal"]


def test_a_published_profile_and_a_cooldown_are_reported(
    sandbox: Sandbox, login: Login, home: Home, inside: Inside
) -> None:
    login("work")
    assert inside("profile", "publish", "work").code == 0
    until = int(time.time()) + 3600
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "work"), "rate-limited", "a test", until))
        state.cooldowns.put(Cooldown(Scope("account", "other"), "rate-limited", "a test", until))
        state.cooldowns.put(Cooldown(Scope("provider", "sandbox"), "overloaded", "a test", 1))
        state.organizations.put("work", "org-1")
        state.cooldowns.put(Cooldown(Scope("organization", "org-1"), "spend-limit", "a test"))
    told = inside("explain", "account", "work", "--json").json
    assert told["published"] == ["profile work: current"]
    cooldown, shared = told["cooldowns"]
    assert shared == "spend-limit of its organization until an unknown time, says a test"
    assert cooldown.startswith("rate-limited of its account until ")


def test_an_unknown_account_and_odd_options_are_refused(home: Home, inside: Inside) -> None:
    assert inside("explain", "account", "nobody").code == 4
    assert inside("explain", "account", "nobody", "--env").code == 2
    assert inside("explain", "account", "nobody", "--for", "sdk").code == 2
    assert inside("explain", "credentials", "--for", "other").code == 2


def test_it_looks_and_changes_nothing(home: Home, inside: Inside) -> None:
    profile("default", access_token="x")
    before = sorted(Path(os.environ["HOME"]).rglob("*")), sorted(home.path.rglob("*"))
    inside("explain", "credentials")
    assert (sorted(Path(os.environ["HOME"]).rglob("*")), sorted(home.path.rglob("*"))) == before
