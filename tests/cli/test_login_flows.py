"""Logins that end as something else, or begin on another device."""

import json
import re
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from cli.conftest import configure
from cli.harness import PATIENCE, Terminal, tokenferry
from cli.test_login import Command, Inside, browse, log_in, names, opened, stored
from tokenferry.broker import Broker
from tokenferry.cli._login import keep
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import StorageFailed
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home

__all__ = ["log_in", "opened"]  # fixtures

AS_CAROL = '\n[providers.oauth]\nauthorize_parameters = { login_hint = "carol" }\n'
CODE = re.compile(r"enter the code ([A-Z]{4}-[A-Z]{4}) there")

LogIn = Callable[..., Command]


@pytest.fixture
def carol(home: Home, sandbox: Sandbox) -> Sandbox:
    """A sandbox where everybody who comes to log in is Carol, who may make API keys."""
    home.config.write_text(home.config.read_text() + AS_CAROL)
    return sandbox


def confirm(sandbox: Sandbox, shown: str, **answer: str) -> None:
    found = CODE.search(shown)
    assert found is not None, shown
    given = {"user_code": found[1]} | answer
    assert httpx2.post(f"{sandbox.url}/oauth/device", data=given, timeout=PATIENCE).status_code == 200


# -- an API key


def test_a_login_makes_an_api_key_and_is_ended_again(home: Home, carol: Sandbox, log_in: LogIn) -> None:
    command = log_in("--provider", "sandbox", "--create-api-key")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert "stored account carol@example.com (sandbox, api-key" in outcome.out
    kept = stored(home, "carol@example.com")
    key = kept["credential"]["key"]
    assert outcome.hides(key)
    assert "access_token" not in json.dumps(kept)
    assert kept["labels"]["email"] == "carol@example.com"
    assert carol.counters()["accounts"]["carol"]["revocations"] == 1
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    assert httpx2.get(f"{carol.url}/v1/models", headers=headers, timeout=PATIENCE).status_code == 200
    assert tokenferry("token", "carol@example.com").out.strip() == key


def test_another_key_of_the_same_person_updates_the_account_and_says_so(
    home: Home, carol: Sandbox, log_in: LogIn
) -> None:
    for _ in range(2):
        command = log_in("--provider", "sandbox", "--create-api-key")
        browse(command.addresses()[0])
        outcome = command.end()
        assert outcome.code == 0, outcome.err
    assert "is already account carol@example.com, which was updated" in outcome.err
    assert names(home) == ["carol@example.com"]
    login = log_in("--provider", "sandbox")
    browse(login.addresses()[0])
    assert login.end().code == 0
    assert names(home) == ["carol@example.com", "carol@example.com-sandbox"]


def test_a_person_who_may_make_no_key_gets_an_error_and_the_login_is_ended(
    home: Home, sandbox: Sandbox, log_in: LogIn
) -> None:
    configure(home, sandbox.url)
    home.config.write_text(home.config.read_text() + AS_CAROL.replace("carol", "alice"))
    command = log_in("--provider", "sandbox", "--create-api-key")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == 1
    assert "127.0.0.1 made no API key: HTTP 403" in outcome.err
    assert not names(home)
    assert sandbox.counters()["accounts"]["alice"]["revocations"] == 1


def test_no_key_is_made_for_another_persons_account(home: Home, carol: Sandbox, log_in: LogIn) -> None:
    first = log_in("work", "--provider", "sandbox", "--create-api-key")
    browse(first.addresses()[0])
    assert first.end().code == 0
    home.config.write_text(home.config.read_text().replace("carol", "alice"))
    command = log_in("work", "--provider", "sandbox", "--create-api-key")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == 2
    assert "account 'work' is carol@example.com, and this login is alice@example.com" in outcome.err
    assert [one["path"] for one in carol.requests()].count("/api/oauth/claude_cli/create_api_key") == 1
    assert carol.counters()["accounts"]["alice"]["revocations"] == 1


def test_a_key_that_was_made_and_can_not_be_stored_is_reported(
    home: Home, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Broker.from_home(home)
    given = sandbox.issue("carol")
    token = OAuthToken(Secret(given["access_token"]), Secret(given["refresh_token"]), email="carol@example.com")
    made: list[ApiKey] = []

    def full(_account: object, credential: ApiKey, **_given: object) -> bool:
        made.append(credential)
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(broker, "add", full)
    with pytest.raises(StorageFailed):
        keep(broker, broker.providers["sandbox"], None, token, "api-key")
    told = capsys.readouterr().err
    assert f"an API key was made (fingerprint {made[0].secret.fingerprint}) and could not be stored; delete it" in told
    assert made[0].secret.reveal() not in told
    assert sandbox.counters()["accounts"]["carol"]["revocations"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "claude-max", "--create-api-key"], "makes no API keys; those at console, sandbox do"),
        (["--provider", "sandbox", "--create-api-key", "--setup-token"], "give one of them"),
        (["--provider", "sandbox", "--device", "--setup-token"], "--device excludes"),
        (["--provider", "sandbox", "--device", "--no-browser"], "--device excludes"),
        (["--provider", "console", "--device"], "declares no device_authorization_endpoint under [providers.oauth]"),
        (["--device"], "--provider, one of: sandbox"),
    ],
)
def test_an_impossible_change_is_refused_before_any_question(
    home: Home, inside: Inside, arguments: list[str], words: str
) -> None:
    outcome = inside("login", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert "It waits for" not in outcome.err


def test_another_setup_token_of_the_same_person_updates_the_account(home: Home, carol: Sandbox, log_in: LogIn) -> None:
    for _ in range(2):
        command = log_in("--provider", "sandbox", "--setup-token")
        browse(command.addresses()[0])
        outcome = command.end()
        assert outcome.code == 0, outcome.err
    assert "is already account carol@example.com, which was updated" in outcome.err
    assert names(home) == ["carol@example.com"]


# -- whose it is


def test_a_login_whose_answer_says_nothing_of_the_person_is_called_by_the_profile(
    home: Home, carol: Sandbox, log_in: LogIn
) -> None:
    carol.settings(token_answer={"account": None, "organization": None})
    for _ in range(2):
        command = log_in("--provider", "sandbox")
        browse(command.addresses()[0])
        outcome = command.end()
        assert outcome.code == 0, outcome.err
    assert "is already account carol@example.com" in outcome.err
    credential = stored(home, "carol@example.com")["credential"]
    assert {"email", "account_id", "organization_id"} <= credential.keys()
    assert "subscription_type" not in credential


def test_a_profile_that_can_not_be_had_costs_nothing_but_the_name(home: Home, carol: Sandbox, log_in: LogIn) -> None:
    carol.settings(token_answer={"account": None, "organization": None})
    carol.fault("status", status=500, path="/api/oauth/profile", times=0)
    command = log_in("--provider", "sandbox")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert names(home) == ["sandbox"]


# -- another device


def test_a_code_that_is_confirmed_on_another_device_becomes_an_account(
    home: Home, sandbox: Sandbox, log_in: LogIn
) -> None:
    sandbox.settings(device_interval=1)
    command = log_in("--provider", "sandbox", "--device")
    (page, direct) = command.addresses()
    assert page == f"{sandbox.url}/oauth/device"
    assert parse_qs(urlsplit(direct).query)["user_code"]
    confirm(sandbox, command.said, account="alice")
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    kept = stored(home, "alice@example.com")
    assert kept["credential"]["source"] == "login"
    assert outcome.hides(kept["credential"]["access_token"], kept["credential"]["refresh_token"])
    assert "waiting for" not in outcome.err  # which is for a terminal
    assert tokenferry("refresh", "alice@example.com").code == 0


def test_a_terminal_shows_how_long_is_left_and_no_more_than_a_line(home: Home, sandbox: Sandbox) -> None:
    sandbox.settings(device_interval=1)
    terminal = Terminal("login", "work", "--provider", "sandbox", "--device")
    terminal.wait_for("waiting for you to confirm it; 10 min left")
    confirm(sandbox, terminal.shown, account="bob")
    assert terminal.end() == 0
    assert terminal.shown.count("\n") < 12
    assert names(home) == ["work"]


def test_a_code_that_is_refused_or_given_up_leaves_nothing(home: Home, sandbox: Sandbox, log_in: LogIn) -> None:
    sandbox.settings(device_interval=1)
    command = log_in("--provider", "sandbox", "--device")
    command.addresses()
    confirm(sandbox, command.said, deny="1")
    outcome = command.end()
    assert (outcome.code, "the login was refused" in outcome.err) == (1, True)
    command = log_in("--provider", "sandbox", "--device")
    command.addresses()
    command.process.send_signal(signal.SIGINT)
    assert command.end().code == 130
    sandbox.settings(device_lifetime=1)
    command = log_in("--provider", "sandbox", "--device")
    command.addresses()
    outcome = command.end()
    assert (outcome.code, "was not confirmed in time" in outcome.err) == (1, True)
    assert not names(home)


def test_a_device_can_have_an_api_key_made(home: Home, sandbox: Sandbox, log_in: LogIn) -> None:
    sandbox.settings(device_interval=1)
    command = log_in("build", "--provider", "sandbox", "--device", "--create-api-key")
    command.addresses()
    confirm(sandbox, command.said, account="carol")
    assert command.end().code == 0
    assert stored(home, "build")["kind"] == "api-key"


@pytest.mark.parametrize(
    "declared",
    [
        'issuer = "{url}"',
        'device_authorization_endpoint = "{url}/oauth/device_authorization"\ntoken_endpoint = "{url}/v1/oauth/token"',
    ],
    ids=["by its issuer", "by a device_authorization_endpoint alone"],
)
def test_a_provider_with_a_device_endpoint_needs_nothing_else(
    home: Home, sandbox: Sandbox, log_in: LogIn, declared: str
) -> None:
    """With no authorization_endpoint there is no other way, so the flag isn't needed."""
    sandbox.settings(device_interval=1)
    declaration = (
        '[[providers]]\nname = "idp"\nbase_url = "https://llm.example"\nauth_type = "oauth"\n\n'
        f'[providers.oauth]\nclient_id = "some-client"\n{declared.format(url=sandbox.url)}\n'
    )
    configure(home, sandbox.url, declaration)
    command = log_in("work", "--provider", "idp", *(["--device"] if "issuer" in declared else []))
    command.addresses()
    confirm(sandbox, command.said, account="alice")
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert stored(home, "work")["provider"] == "idp"


def test_an_enterprises_own_host_takes_logins_and_renewals_for_a_known_type(
    home: Home, tokenferry_sandbox: Sandbox, log_in: LogIn
) -> None:
    """Two servers: the API of one, the logins of the other, which alone sees them."""
    with Sandbox() as enterprise:
        home.config.write_text(
            '[[providers]]\nname = "corp"\nprovider_type = "sandbox"\n'
            f'base_url = "{tokenferry_sandbox.url}"\n\n[providers.oauth]\nenterprise_url = "{enterprise.url}/"\n'
            'authorize_parameters = { login_hint = "alice" }\n'
        )
        home.config.chmod(0o600)
        command = log_in("work", "--provider", "corp")
        local, hosted = command.addresses()
        assert hosted.startswith(f"{enterprise.url}/oauth/authorize?")
        browse(local)
        outcome = command.end()
        assert outcome.code == 0, outcome.err
        assert tokenferry("refresh", "work").code == 0
        assert tokenferry("logout", "work").code == 0
        there: dict[str, Any] = enterprise.counters()["accounts"]["alice"]
        assert (there["grants"], there["revocations"]) == (2, 1)
        assert not tokenferry_sandbox.requests()
