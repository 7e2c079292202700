import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.conftest import configure
from cli.harness import Outcome, Terminal, begin, end, eventually, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


def revocations(sandbox: Sandbox) -> int:
    count: int = sandbox.counters()["totals"]["revocations"]
    return count


def is_gone(home: Home, name: str = "work") -> bool:
    return not (home.accounts / f"{name}.json").exists()


def test_logging_out_ends_the_login_at_the_provider_and_removes_the_account(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside
) -> None:
    issued = login()
    outcome = inside("logout", "work")
    assert (outcome.code, outcome.out, outcome.err) == (0, "logged out of account work\n", "")
    assert is_gone(home)
    assert revocations(sandbox) == 1
    inside("account", "add", "again", "--provider", "sandbox", stdin=json.dumps(issued))
    assert inside("refresh", "again").code == 5
    assert '"action": "account.logout"' in home.audit.read_text()


def test_removing_an_account_ends_its_login_too(home: Home, sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login()
    assert inside("account", "remove", "work", "--yes").out == "removed account work\n"
    assert is_gone(home)
    assert revocations(sandbox) == 1


@pytest.mark.parametrize("command", [["logout", "work"], ["account", "remove", "work", "--yes"]])
def test_the_login_is_kept_at_the_provider_where_that_is_wanted(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside, command: list[str]
) -> None:
    login()
    assert inside(*command, "--keep-remote").code == 0
    assert is_gone(home)
    assert revocations(sandbox) == 0


@pytest.mark.parametrize("command", [["logout", "work"], ["account", "remove", "work", "--yes"]])
def test_a_provider_that_can_not_be_reached_or_refuses_prevents_no_removal(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside, command: list[str]
) -> None:
    login()
    configure(home, "http://127.0.0.1:1")
    outcome = inside(*command)
    assert (outcome.code, outcome.out) == (0, "removed account work\n")
    assert "is valid until it expires: 127.0.0.1 could not be reached" in outcome.err
    assert is_gone(home)
    configure(home, sandbox.url)
    login()
    sandbox.fault("status", status=500, path="/v1/oauth/token/revoke", message="broken")
    assert "is valid until it expires: HTTP 500" in inside(*command).err
    assert is_gone(home)


def test_a_provider_without_a_place_for_it_is_reported(home: Home, inside: Inside) -> None:
    home.config.write_text(
        '[[providers]]\nname = "idp"\nbase_url = "https://llm.example"\nauth_type = "oauth"\n'
        '[providers.oauth]\ntoken_endpoint = "https://llm.example/token"\n'
    )
    home.config.chmod(0o600)
    given = json.dumps({"access_token": "fake", "refresh_token": "fake2", "expires_at": 4_000_000_000})
    inside("account", "add", "work", "--provider", "idp", stdin=given)
    outcome = inside("logout", "work")
    assert outcome.code == 0
    assert "declares no revocation_endpoint" in outcome.err
    assert is_gone(home)


@pytest.mark.parametrize("command", ["logout", "accounts"])
def test_a_copied_login_may_be_in_use_elsewhere_and_is_not_ended(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside, command: str
) -> None:
    login()
    path = home.accounts / "work.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": "another"}))
    outcome = inside("logout", "work") if command == "logout" else inside("account", "remove", "work", "--yes")
    assert "copied from another machine" in outcome.err
    assert revocations(sandbox) == 0
    assert is_gone(home)


def test_what_there_is_no_logging_out_of_is_refused(home: Home, sandbox: Sandbox, inside: Inside) -> None:
    inside("account", "add", "key", "--provider", "sandbox", "--kind", "api-key", stdin="fake-key")
    outcome = inside("logout", "key")
    assert outcome.code == 2
    assert "tokenferry account remove key" in outcome.one_line()
    assert inside("logout", "nobody").code == 4
    assert not is_gone(home, "key")


def test_a_login_whose_chain_is_anothers_is_not_ended(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside
) -> None:
    login()
    path = home.accounts / "work.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"owner": "external"}))
    assert inside("logout", "work").code == 2
    assert inside("account", "remove", "work", "--yes").code == 0
    assert revocations(sandbox) == 0


def test_killed_between_the_two_steps_it_can_be_done_again(home: Home, sandbox: Sandbox, login: Login) -> None:
    """The login is ended first: what is left is an account that says it needs a login, and goes at the next try."""
    login()
    sandbox.fault("hang", path="/v1/oauth/token/revoke", after_work=True)
    process = begin("logout", "work")
    eventually(lambda: revocations(sandbox))
    process.kill()
    end(process)
    sandbox.clear()
    assert not is_gone(home)
    assert tokenferry("refresh", "work").code == 5
    assert tokenferry("logout", "work").out == "logged out of account work\n"
    assert is_gone(home)


def test_it_waits_for_a_refresh_and_ends_the_token_that_came_of_it(home: Home, sandbox: Sandbox, login: Login) -> None:
    login(expires_in=-60)
    sandbox.fault("hang", path="/v1/oauth/token", after_work=True)
    refresh = Terminal("refresh", "work")
    eventually(lambda: sandbox.counters()["totals"]["refreshes"])
    process = begin("logout", "work")
    sandbox.clear()
    assert refresh.end() == 0
    assert end(process).out == "logged out of account work\n"
    counts = sandbox.counters()["totals"]
    assert (counts["revocations"], counts["reuses"]) == (1, 0)
