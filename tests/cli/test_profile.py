"""`profile publish` and `profile unpublish`: an account as a profile of the official SDKs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cli.conftest import configure
from cli.harness import Outcome, bundle, tokenferry
from tokenferry.broker import Broker
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


@pytest.fixture
def folder() -> Path:
    """Where the SDKs of the throw-away person look."""
    return Path(os.environ["HOME"]) / ".config" / "anthropic"


def ask(profile: str | None = None) -> str:
    """A program of the SDK that names no key, token or address."""
    with anthropic.Anthropic(profile=profile, max_retries=0) as client:
        message = client.messages.create(
            model="claude-sonnet-5-5", max_tokens=20, messages=[{"role": "user", "content": "hi"}]
        )
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_program_of_the_sdk_needs_no_change(
    sandbox: Sandbox, login: Login, folder: Path, home: Home, inside: Inside
) -> None:
    issued = login(expires_in=-60)
    outcome = inside("profile", "publish", "work")
    assert outcome.code == 0
    assert outcome.out.startswith("published account work as profile work (fingerprint ")
    assert "expires in 8 h" in outcome.out
    assert "profile work is the active one" in outcome.err
    assert ask().startswith("Hello from the sandbox")
    assert inside("refresh", "work").code == 0
    token = inside("token", "work").out.strip()
    assert json.loads((folder / "credentials" / "work.json").read_text())["access_token"] == token
    assert ask().startswith("Hello from the sandbox")
    assert outcome.hides(issued["access_token"], issued["refresh_token"], token)
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 2
    assert [one["path"] for one in sandbox.requests()].count("/v1/messages") == 2


def test_its_refresh_token_is_published_nowhere(login: Login, folder: Path, home: Home, inside: Inside) -> None:
    issued = login()
    inside("profile", "publish", "work")
    texts = [path.read_text() for place in (folder, home.published) for path in place.rglob("*") if path.is_file()]
    assert len(texts) == 4
    assert not [text for text in texts if issued["refresh_token"] in text]


def test_what_is_published_is_listed_and_shown(login: Login, folder: Path, inside: Inside) -> None:
    login()
    assert "nothing is published yet" in inside("profile", "list").one_line()
    assert inside("profile", "list", "--json").json == []
    made = inside("profile", "publish", "work", "--profile", "other", "--json").json
    assert made == inside("profile", "list", "--json").json[0]
    assert (made["profile"], made["account"], made["state"], made["active"]) == ("other", "work", "current", True)
    assert made["credentials"] == str(folder / "credentials" / "other.json")
    heading, line = inside("profile", "list").out.splitlines()
    assert heading.split() == ["PROFILE", "ACTIVE", "SOURCE", "FINGERPRINT", "EXPIRES", "STATE"]
    assert line.split()[:3] == ["other", "*", "work"]
    assert "published as profile other" in inside("account", "show", "work").out
    assert "published as profile other" in inside("status").out
    [account] = inside("account", "list", "--json").json
    assert account["profiles"] == ["other"]


def test_which_programs_use_it_is_reported(login: Login, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    login()
    inside("profile", "publish", "work")
    assert (
        "ANTHROPIC_PROFILE=second; the active profile is work"
        in inside("profile", "publish", "work", "--profile", "second").err
    )
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-unused")
    outcome = inside("profile", "publish", "work", "--profile", "second", "--activate")
    assert "profile second is the active one" in outcome.err
    assert "ANTHROPIC_API_KEY is set here" in outcome.err
    assert "sk-ant" not in outcome.err


def test_an_api_key_is_refused_with_what_to_do_instead(
    sandbox: Sandbox, home: Home, folder: Path, inside: Inside
) -> None:
    inside("account", "add", "key", "--provider", "sandbox", stdin=sandbox.api_key("dave"))
    outcome = tokenferry("profile", "publish", "key")
    assert outcome.code == 2
    assert "which this prints: tokenferry token key --env" in outcome.one_line()
    assert not folder.exists()


def test_a_subscription_is_refused_under_policy_off(sandbox: Sandbox, home: Home, folder: Path, inside: Inside) -> None:
    configure(home, sandbox.url)
    with home.config.open("a") as file:
        file.write("subscription = true\n")
    inside("account", "add", "mine", "--provider", "sandbox", stdin=bundle(sandbox.issue("alice")))
    assert inside("profile", "publish", "mine").code == 7
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["profile", "publish", "--gateway", "work"], "leave 'work' out"),
        (["profile", "publish", "work", "--profile", "../evil"], "must not begin with a dot"),
        (["profile", "unpublish"], "an account, --profile or --gateway"),
        (["profile", "unpublish", "work", "--gateway"], "give one of them"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(login: Login, inside: Inside, arguments: list[str], word: str) -> None:
    login()
    outcome = inside(*arguments)
    assert outcome.code == 2
    assert word in outcome.one_line()


def test_unpublishing_removes_what_is_ours_and_keeps_the_account(login: Login, folder: Path, inside: Inside) -> None:
    login()
    inside("profile", "publish", "work")
    inside("profile", "publish", "work", "--profile", "second")
    assert (
        inside("profile", "unpublish", "work", "--profile", "second").out
        == "unpublished profile second of account work\n"
    )
    assert inside("profile", "unpublish", "work").code == 0
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert inside("profile", "unpublish", "work").code == 4
    assert inside("token", "work").code == 0


def test_files_changed_by_another_program_stay_and_are_reported(login: Login, folder: Path, inside: Inside) -> None:
    login()
    inside("profile", "publish", "work")
    (folder / "credentials" / "work.json").write_text("{}")
    outcome = inside("profile", "publish", "work")
    assert outcome.code == 1
    assert "was changed by another program" in outcome.one_line()
    assert inside("profile", "list", "--json").json[0]["state"] == "changed"
    findings = inside("doctor", "--json").json
    assert "was changed by another program" in next(one["what"] for one in findings if one["where"] == "profile work")
    outcome = inside("profile", "unpublish", "work")
    assert (outcome.code, outcome.out) == (0, "unpublished profile work of account work\n")
    assert "so it was left" in outcome.err


def test_removing_the_account_unpublishes_it(login: Login, folder: Path, inside: Inside) -> None:
    login()
    inside("profile", "publish", "work")
    assert inside("account", "remove", "work", "--yes").code == 0
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_doctor_tells_of_a_profile_that_is_behind_and_of_one_whose_token_has_expired(
    login: Login, inside: Inside, home: Home
) -> None:
    login()
    inside("profile", "publish", "work")

    def findings() -> list[dict[str, str]]:
        return [one for one in inside("doctor", "--json").json if one["where"] == "profile work"]

    assert findings() == []
    path = home.accounts / "work.json"
    fields = json.loads(path.read_text())
    fields["credential"]["expires_at"] = 1_700_000_000
    path.write_text(json.dumps(fields))
    [finding] = findings()
    assert (finding["what"], finding["cure"]) == (
        "is behind its account",
        "tokenferry profile publish work --profile work",
    )
    broker = Broker.from_home(home)
    broker.republish()
    broker.drain(10)
    [finding] = findings()
    assert (finding["what"], finding["cure"]) == ("holds a token that has expired", "tokenferry refresh work")


def test_the_gateway_is_published_by_its_address_and_key(
    login: Login, folder: Path, registered: GatewayRegistration, inside: Inside
) -> None:
    login()
    outcome = tokenferry("profile", "publish", "--gateway")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("published the gateway as profile tokenferry")
    key = tokenferry("token", "--gateway").out.strip()
    fields = json.loads((folder / "credentials" / "tokenferry.json").read_text())
    assert (fields["access_token"], fields.get("expires_at")) == (key, None)
    assert json.loads((folder / "configs" / "tokenferry.json").read_text())["base_url"] == "http://127.0.0.1:13456"
    assert outcome.hides(key)
    assert tokenferry("profile", "unpublish", "--gateway").code == 0
    registered.end()
    assert (
        "no gateway of this home listens on http://127.0.0.1:13456"
        in inside("profile", "publish", "--gateway").one_line()
    )


def test_a_gateway_without_an_address_of_its_own_is_not_published(home: Home, inside: Inside) -> None:
    home.config.write_text("[server]\nport = 0\n")
    home.config.chmod(0o600)
    assert "set a port in config.toml" in inside("profile", "publish", "--gateway").one_line()
