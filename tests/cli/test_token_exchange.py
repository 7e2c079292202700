"""A long-lived token of a provider that exchanges it: logged in for, added, used, explained."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.harness import Outcome, tokenferry
from cli.test_login import stored
from tokenferry.broker import Broker
from tokenferry.cli._login import keep
from tokenferry.credentials import OAuthToken
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

DECLARED = """
[[providers]]
name = "copilot"
base_url = "http://127.0.0.1:9"
wire_format = "openai"
auth_type = "oauth"

[providers.oauth]
device_authorization_endpoint = "{url}/login/device/code"
token_endpoint = "{url}/login/oauth/access_token"
client_id = "the-operators-own"
scopes = ["read:user"]
token_body = "form"

[providers.token_exchange]
url = "{url}/copilot_internal/v2/token"
method = "GET"
headers = {{ authorization = "token {{token}}" }}
token_field = "token"
expiry_field = "expires_at"
endpoint_field = "endpoints.api"
endpoint_hosts = ["127.0.0.1"]
"""


@pytest.fixture
def copilot(home: Home, tokenferry_sandbox: Sandbox) -> Sandbox:
    """A home that declares the sandbox's exchange; its `base_url` leads nowhere, as the answer names the address."""
    home.config.write_text(DECLARED.format(url=tokenferry_sandbox.url))
    home.config.chmod(0o600)
    return tokenferry_sandbox


@pytest.fixture
def subject(copilot: Sandbox) -> str:
    """A long-lived token of alice's."""
    return str(copilot.issue("alice", kind="long-lived")["key"])


def test_what_a_login_gives_is_exchanged_at_once(
    home: Home, copilot: Sandbox, subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Broker.from_home(home)
    login = OAuthToken(Secret(subject), email="alice@example.com", source="login")
    assert keep(broker, broker.providers["copilot"], None, login, "oauth") == "alice@example.com"
    kept = stored(home, "alice@example.com")
    assert (kept["kind"], kept["credential"]["endpoint"]) == ("exchanged", f"{copilot.url}/v1")
    assert kept["credential"]["subject_token"] == subject
    said = capsys.readouterr()
    assert "stored account alice@example.com (copilot, exchanged, fingerprint" in said.out
    assert not [secret for secret in (subject, kept["credential"]["access_token"]) if secret in said.out + said.err]
    keep(broker, broker.providers["copilot"], None, login, "oauth")
    assert [path.name for path in home.accounts.glob("*.json")] == ["alice@example.com.json"]  # the same person's


def test_what_is_added_from_stdin_is_exchanged_and_explained(
    home: Home, copilot: Sandbox, subject: str, inside: Inside
) -> None:
    outcome = inside("account", "add", "bot", "--provider", "copilot", stdin=subject)
    assert outcome.code == 0, outcome.err
    assert "stored account bot (copilot, exchanged, fingerprint" in outcome.out
    token = inside("token", "bot").out.strip()
    assert token == stored(home, "bot")["credential"]["access_token"]
    explained = inside("explain", "account", "bot").out
    assert f"copilot, for {copilot.url}/v1" in explained
    assert f"is exchanged at {copilot.url}/copilot_internal/v2/token" in explained
    shown = inside("account", "show", "bot").out
    assert "exchange     of its long-lived token, fingerprint" in shown
    assert f"endpoint     {copilot.url}/v1" in shown
    details: dict[str, Any] = json.loads(inside("account", "show", "bot", "--json").out)
    assert (details["kind"], details["endpoint"], details["state"]) == ("exchanged", f"{copilot.url}/v1", "fresh")
    assert subject not in explained + shown
    refused = inside("logout", "bot")
    assert (refused.code, "remove it with: tokenferry account remove bot" in refused.err) == (2, True)


def test_a_refusal_is_reported_in_the_vendors_words_wherever_it_matters(
    home: Home, copilot: Sandbox, subject: str, inside: Inside
) -> None:
    assert inside("account", "add", "bot", "--provider", "copilot", stdin=subject).code == 0
    copilot.settings("alice", exchange=False)
    refused = inside("refresh", "bot")
    assert refused.code == 5
    assert "HTTP 403 (alice@example.com has no access. Ask the administrator" in refused.err
    assert "or, after fixing the cause at the vendor, try again with: tokenferry refresh bot" in refused.err
    assert "has no access" in inside("doctor").out
    assert "needs login" in inside("status").out
    copilot.settings("alice", exchange=True)
    assert inside("refresh", "bot").code == 0
    assert "needs login" not in inside("status").out


def test_a_refused_token_is_not_stored_and_exits_with_5(home: Home, copilot: Sandbox, inside: Inside) -> None:
    outcome = inside("account", "add", "bot", "--provider", "copilot", stdin="gho_somebody-elses-token")
    assert outcome.code == 5
    assert "HTTP 401 (Bad credentials); nothing was stored" in outcome.err
    assert not (home.accounts / "bot.json").exists()


def test_a_key_of_the_configuration_can_not_be_exchanged(home: Home, copilot: Sandbox) -> None:
    home.config.write_text(home.config.read_text().replace("[providers.oauth]", 'api_key = "$K"\n[providers.oauth]', 1))
    outcome = tokenferry("account", "list", K="gho_x")
    assert outcome.code == 3
    assert "api_key can't be exchanged; take it out, and run: tokenferry account add copilot" in outcome.err
