"""Priority, labels, pausing and removing an account, by commands, and what gateways make of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.harness import PATIENCE, Outcome, eventually, tokenferry
from cli.test_failover import Gate
from tokenferry.cli._checks import examine
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.units import moment

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


@pytest.fixture
def two(login: Login) -> None:
    login("one", "alice")
    login("two", "bob")


def first(inside: Inside) -> str | None:
    (told,) = inside("explain", "route", "--json").json
    account: str | None = told["account"]
    return account


def test_a_paused_account_serves_nothing_within_a_second_and_everything_says_so(
    two: None, sandbox: Sandbox, inside: Inside, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)

    def server() -> str:
        gate.ask()
        return str([one for one in sandbox.requests(last=5) if one["path"] == "/v1/messages"][-1]["account"])

    assert server() == "alice"
    assert inside("account", "pause", "one").code == 0
    eventually(lambda: server() == "bob")
    assert inside("account", "pause", "two").code == 0
    eventually(lambda: gate.ask().status_code == 503, lambda: gate.ask().text)
    answer = gate.ask()
    assert "one: it is paused; resume it with: tokenferry account resume one" in answer.text
    assert "log in again" not in answer.text
    asked = len(sandbox.requests(last=100))
    assert [gate.ask().status_code for _ in range(5)] == [503] * 5
    assert len(sandbox.requests(last=100)) == asked, "no probe reaches it"
    identity = answer.headers["x-tokenferry-request-id"]
    eventually(lambda: "it is paused" in tokenferry("explain", "request", identity).out.lower())
    assert inside("account", "resume", "one").code == 0
    eventually(lambda: server() == "alice")
    gate.end()
    assert "paused" in inside("status").out
    assert "paused; fresh" in inside("account", "list").out
    assert [row["paused"] for row in inside("account", "list", "--json").json] == [False, True]
    assert "account resume two" in inside("account", "show", "two").out


def test_a_pause_with_an_end_is_shown_with_it_and_ends_by_itself(
    two: None, home: Home, sandbox: Sandbox, inside: Inside, tmp_path: Path
) -> None:
    assert inside("account", "pause", "two").code == 0
    done = inside("account", "pause", "one", "--for", "8h")
    assert "is paused until 20" in done.out
    end = inside("account", "show", "one", "--json").json["paused_until"]
    assert abs(end - time.time() - 8 * 3600) < PATIENCE
    shown = [inside(*command).out for command in (["status"], ["account", "list"], ["account", "show", "one"])]
    shown.append(inside("explain", "route").out)
    assert all(moment(end) in one for one in shown), shown
    gate = Gate(tmp_path)
    answer = gate.ask()
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert "one: it is paused, until" in answer.text
    assert 8 * 3600 - PATIENCE < int(answer.headers["retry-after"]) <= 8 * 3600 + 1
    assert inside("account", "pause", "one", "--for", "2s").code == 0
    eventually(lambda: gate.ask().status_code == 200, lambda: gate.ask().text)
    gate.end()
    assert "paused_until" in (home.path / "accounts" / "one.json").read_text(), "nothing wrote the document"
    assert inside("account", "show", "one", "--json").json["paused"] is False


@pytest.mark.parametrize(
    "given", [["--until", "2020-01-01"], ["--until", "soon"], ["--for", "8"], ["--for", "1h", "--until", "tomorrow"]]
)
def test_an_end_that_cannot_be_pauses_nothing(two: None, inside: Inside, given: list[str]) -> None:
    assert inside("account", "pause", "one", *given).code == 2
    assert inside("account", "show", "one", "--json").json["paused"] is False


def test_a_priority_is_the_order(two: None, inside: Inside, home: Home) -> None:
    assert first(inside) == "one"
    assert inside("account", "set", "two", "--priority", "5").code == 0
    assert first(inside) == "two"
    inside("account", "pause", "two")
    assert first(inside) == "one"
    assert '"action": "account.pause", "name": "two"' in home.audit.read_text()
    assert inside("account", "set", "two", "--priority", "10000000").code == 2


def test_labels_are_set_and_removed_and_what_tokenferry_goes_by_is_not(two: None, inside: Inside) -> None:
    assert inside("account", "set", "one", "--label", "team=build", "--label", "room=4").code == 0
    assert inside("account", "set", "one", "--label", "room-").code == 0
    assert inside("account", "show", "one", "--json").json["labels"] == {"team": "build"}
    for label in ("config_dir=/x", "email=x@y", "profile=p", "a b=c", "a=\x07", "nothing"):
        assert inside("account", "set", "one", "--label", label).code == 2
    assert inside("account", "set", "one").code == 2
    assert inside("account", "set", "nobody", "--priority", "1").code == 4
    assert inside("account", "pause", "nobody").code == 4


def test_a_paused_account_stays_so_when_it_is_logged_in_again(two: None, inside: Inside, login: Login) -> None:
    inside("account", "pause", "one")
    inside("account", "add", "key", "--provider", "anthropic", stdin="sk-ant-api03-" + "k" * 80)
    inside("account", "pause", "key")
    inside("account", "add", "key", "--replace", stdin="sk-ant-api03-" + "l" * 80)
    assert inside("account", "show", "key", "--json").json["paused"] is True


def test_an_attached_account_is_paused_too(inside: Inside, home: Home, tmp_path: Path) -> None:
    place = tmp_path / "claude"
    place.mkdir(mode=0o700)
    file = place / ".credentials.json"
    file.write_text(
        '{"claudeAiOauth": {"accessToken": "sk-ant-oat01-a", "refreshToken": "r", "expiresAt": 4000000000000}}'
    )
    file.chmod(0o600)
    environment = {"CLAUDE_CONFIG_DIR": str(place)}
    assert tokenferry("claude-code", "attach", "mine", **environment).code == 0
    before = file.read_bytes()
    assert tokenferry("account", "pause", "mine", **environment).code == 0
    assert tokenferry("account", "set", "mine", "--priority", "7", "--label", "a=b", **environment).code == 0
    found = tokenferry("account", "show", "mine", "--json", **environment).json
    assert (found["paused"], found["priority"], found["labels"]["a"]) == (True, 7, "b")
    assert file.read_bytes() == before


def test_an_account_of_the_environment_is_changed_there(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "k" * 80)
    (row,) = inside("account", "list", "--json").json
    outcome = inside("account", "pause", row["name"])
    assert outcome.code == 2
    assert "comes from the environment" in outcome.err


def test_removing_an_account_names_the_keys_that_no_account_serves_now(two: None, inside: Inside) -> None:
    inside("key", "create", "pinned", "--pin", "one")
    inside("key", "create", "limited", "--account", "one")
    inside("key", "create", "both", "--account", "one", "--account", "two")
    inside("key", "create", "gone", "--pin", "one")
    inside("key", "revoke", "gone")
    outcome = inside("account", "remove", "one", "--yes", "--keep-remote")
    assert outcome.code == 0
    assert "client keys now: pinned, limited; let others serve them with: tokenferry key set" in outcome.err
    assert "client keys" not in inside("account", "remove", "two", "--yes", "--keep-remote").err


def test_ending_the_cooldowns_of_what_is_not_here_is_an_error(two: None, inside: Inside) -> None:
    outcome = inside("cooldown", "clear", "onr")
    assert outcome.code == 4
    assert "did you mean 'one'?" in outcome.err
    assert inside("cooldown", "clear", "one").code == inside("cooldown", "clear", "sandbox").code == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("path", ["/proc/1/fd", "/proc/1/cwd/home"])
def test_doctor_names_a_home_that_cannot_be_looked_at(home: Home, path: str) -> None:
    examine(home)  # what it imports lies where that user can't read
    os.seteuid(65_534)
    try:
        found = examine(Home(Path(path)))
    finally:
        os.seteuid(0)
    assert all("defect" not in finding.what for finding in found)
    assert any("Permission denied" in finding.what for finding in found)


def test_doctor_goes_on_after_a_check_that_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr("tokenferry.cli._checks.check_seal", fail)
    (home.path / "config.toml").write_text("x = [")
    found = examine(home)
    assert "could not be examined (ZeroDivisionError), which is a defect" in [finding.what for finding in found]
    assert len(found) > 1


def test_doctor_looks_at_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert examine(Home(tmp_path / "file"))


def test_what_the_configuration_says_of_an_account_goes_before_what_is_stored(
    two: None, home: Home, inside: Inside
) -> None:
    assert first(inside) == "one"
    assert inside("config", "set", "accounts.two.priority", "5").code == 0
    assert first(inside) == "two"
    shown = inside("account", "show", "two").out
    assert "5, as [accounts.two] in config.toml says" in shown
    assert inside("account", "list", "--json").json[0]["name"] == "two"
    set_ = inside("account", "set", "two", "--priority", "200")
    assert (set_.code, first(inside)) == (0, "two")
    assert "remove that with: tokenferry config unset accounts.two.priority" in set_.err
    assert inside("config", "unset", "accounts.two.priority").code == 0
    assert first(inside) == "one"
    assert inside("config", "set", "accounts.one.paused", "true").code == 0
    assert first(inside) == "two"
    assert "tokenferry config unset accounts.one.paused" in inside("account", "resume", "one").err
    assert "yes, as [accounts.one] in config.toml says" in inside("account", "show", "one").out
