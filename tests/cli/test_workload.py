"""A workload's account: added, used, renewed, explained and removed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.conftest import configure
from cli.harness import PATIENCE, Outcome, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Add = Callable[..., Outcome]

Inside = Callable[..., Outcome]
RULE = ("--federation", "federation_rule_id=rule", "--federation", "organization_id=org")


@pytest.fixture
def identity(tmp_path: Path, sandbox: Sandbox) -> Path:
    """What the platform puts there; carol's, and readable by all."""
    path = tmp_path / "identity-token"
    path.write_text(sandbox.identity_token("carol"))
    path.chmod(0o644)
    return path


@pytest.fixture
def add(identity: Path) -> Add:
    def add(*arguments: str, name: str = "ci", provider: str = "sandbox", **variables: str) -> Outcome:
        given = arguments or ("--identity-token-file", str(identity), *RULE)
        base = ("account", "add", name, "--provider", provider, "--workload-identity")
        return tokenferry(*base, *given, **variables)

    return add


def stored(home: Home, name: str = "ci") -> dict[str, Any]:
    data: dict[str, Any] = json.loads((home.accounts / f"{name}.json").read_text())
    return data


def test_it_is_added_by_an_exchange_and_its_token_works(home: Home, sandbox: Sandbox, add: Add, identity: Path) -> None:
    outcome = add()
    assert outcome.code == 0, outcome.err
    assert "stored account ci (sandbox, federated, fingerprint" in outcome.out
    assert f"renewed by the identity token in file {identity}" in outcome.out
    kept = stored(home)
    assert (kept["kind"], kept["owner"]) == ("federated", "tokenferry")
    assert kept["credential"]["federation"] == {"federation_rule_id": "rule", "organization_id": "org"}
    assert outcome.hides(kept["credential"]["access_token"], identity.read_text())
    assert identity.read_text() not in json.dumps(kept)
    token = tokenferry("token", "ci").out.strip()
    headers = {"authorization": f"Bearer {token}", "anthropic-beta": "oauth-2025-04-20"}
    headers["anthropic-version"] = "2023-06-01"
    assert httpx2.get(f"{sandbox.url}/v1/models", headers=headers, timeout=PATIENCE).status_code == 200


def test_it_is_renewed_on_use_by_one_exchange_with_what_the_file_holds_then(
    home: Home, sandbox: Sandbox, add: Add, identity: Path
) -> None:
    assert add().code == 0
    document = stored(home)
    first = document["credential"]
    first["expires_at"] -= first["lifetime"] - 60  # all but used up, whatever the machine's speed
    (home.accounts / "ci.json").write_text(json.dumps(document))
    identity.write_text(sandbox.identity_token("carol", expires_in=7200))
    renewed = tokenferry("token", "ci", "--min-ttl", "600")
    assert renewed.code == 0, renewed.err
    assert renewed.out.strip() != first["access_token"]
    assert tokenferry("token", "ci").out == renewed.out
    assert sandbox.counters()["accounts"]["carol"]["exchanges"] == 2
    asked = [one for one in sandbox.requests() if one["path"] == "/v1/oauth/token"]
    assert len(asked) == 2


def test_listings_know_the_kind_and_what_renews_it(home: Home, add: Add, identity: Path, inside: Inside) -> None:
    add()
    (listed,) = inside("account", "list", "--json").json
    assert (listed["kind"], listed["state"]) == ("federated", "fresh")
    assert listed["identity_token_file"] == str(identity)
    assert listed["federation"]["federation_rule_id"] == "rule"
    shown = inside("account", "show", "ci").out
    assert f"identity     file {identity}" in shown
    assert "federation   federation_rule_id=rule, organization_id=org" in shown
    why = inside("explain", "account", "ci").out
    assert "tokenferry refreshes it, one process at a time" in why
    assert f"the identity token in file {identity} is exchanged each time" in why
    assert "advisory" in why
    assert inside("status").code == 0


def test_an_identity_token_that_is_no_good_any_more_is_reported_with_its_place(
    home: Home, sandbox: Sandbox, add: Add, identity: Path
) -> None:
    add()
    identity.write_text(sandbox.identity_token("carol", expires_in=-5))
    outcome = tokenferry("refresh", "ci")
    assert outcome.code == 6
    assert (
        "its identity token was not exchanged: HTTP 401 (invalid_grant: The identity token has expired.)" in outcome.err
    )
    assert tokenferry("token", "ci").code == 0  # the present one works
    identity.unlink()
    outcome = tokenferry("refresh", "ci")
    assert (outcome.code, f"file {identity} can't be read" in outcome.err) == (6, True)
    identity.write_text(sandbox.identity_token("carol"))
    assert tokenferry("refresh", "ci").code == 0


def test_the_variables_of_the_sdks_will_do(home: Home, sandbox: Sandbox, add: Add, identity: Path) -> None:
    variables = {
        "ANTHROPIC_IDENTITY_TOKEN_FILE": str(identity),
        "ANTHROPIC_FEDERATION_RULE_ID": "rule",
        "ANTHROPIC_ORGANIZATION_ID": "org",
        "ANTHROPIC_SERVICE_ACCOUNT_ID": "service",
        "ANTHROPIC_WORKSPACE_ID": "default",
    }
    outcome = add("--federation", "workspace_id=mine", **variables)
    assert outcome.code == 0, outcome.err
    kept = stored(home)["credential"]
    assert kept["identity_token_file"] == str(identity)
    assert kept["federation"] == {
        "federation_rule_id": "rule",
        "organization_id": "org",
        "service_account_id": "service",
        "workspace_id": "mine",
    }


def test_an_identity_token_in_a_variable_is_read_where_the_exchange_is_made(
    home: Home, sandbox: Sandbox, add: Add
) -> None:
    value = sandbox.identity_token("carol")
    outcome = add(*RULE, ANTHROPIC_IDENTITY_TOKEN=value)
    assert outcome.code == 0, outcome.err
    assert stored(home)["credential"]["identity_token_variable"] == "ANTHROPIC_IDENTITY_TOKEN"
    assert value not in json.dumps(stored(home))
    outcome = tokenferry("refresh", "ci")
    assert outcome.code == 6
    assert (
        "variable ANTHROPIC_IDENTITY_TOKEN holds no usable identity token: it isn't set for this process" in outcome.err
    )
    assert tokenferry("refresh", "ci", ANTHROPIC_IDENTITY_TOKEN=value).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (RULE, 2, "--identity-token-file or --identity-token-variable, or set ANTHROPIC_IDENTITY_TOKEN_FILE"),
        (("--identity-token-file", "/a", "--identity-token-variable", "B", *RULE), 2, "--identity-token-file or"),
        (
            ("--identity-token-file", "/a"),
            2,
            "--federation federation_rule_id=… (or ANTHROPIC_FEDERATION_RULE_ID)",
        ),
        (("--identity-token-file", "/a", "--federation", "x"), 2, "--federation takes KEY=VALUE"),
        (("--identity-token-file", "/a", "--federation", "federation_rule_id=fdrl_…"), 2, "takes printable ASCII"),
        (("--identity-token-file", "/none", *RULE), 6, "file /none can't be read (No such file or directory)"),
        (("--identity-token-file", "/a", "--kind", "oauth", *RULE), 2, "excludes --kind and --store"),
    ],
)
def test_what_is_missing_or_wrong_is_reported_before_anything_is_stored(
    home: Home, add: Add, arguments: tuple[str, ...], code: int, words: str
) -> None:
    outcome = add(*arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert not list(home.accounts.glob("*.json"))


def test_its_options_alone_are_no_request_for_it(home: Home, inside: Inside) -> None:
    outcome = inside("account", "add", "ci", "--identity-token-file", "/a")
    assert (outcome.code, "needs --workload-identity" in outcome.err) == (2, True)


def test_a_refusal_stores_nothing_and_says_what_to_check(
    home: Home, sandbox: Sandbox, add: Add, identity: Path
) -> None:
    identity.write_text("not-a-jwt")
    outcome = add()
    assert outcome.code == 1
    assert "HTTP 400 (invalid_grant: The assertion is not a JWT.); check the federation's parameters" in outcome.err
    assert outcome.hides("not-a-jwt-but-long-enough-to-tell")
    assert not list(home.accounts.glob("*.json"))


@pytest.mark.parametrize("provider", ["console", "claude-max"])
def test_a_login_of_a_person_is_no_place_for_a_workload(home: Home, add: Add, provider: str, identity: Path) -> None:
    outcome = add("--identity-token-file", str(identity), *RULE, provider=provider)
    assert outcome.code == 2
    assert "declares no federation_url" in outcome.err
    assert "anthropic" in outcome.err


def test_it_takes_another_ones_place_only_when_that_is_meant(home: Home, add: Add, identity: Path) -> None:
    assert add().code == 0
    outcome = add()
    assert (outcome.code, "give --replace" in outcome.err) == (2, True)
    outcome = add("--identity-token-file", str(identity), *RULE, "--replace")
    assert (outcome.code, "replaced account ci" in outcome.out) == (0, True)


def test_it_is_removed_without_a_revocation_and_there_is_no_logging_out_of_it(
    home: Home, sandbox: Sandbox, add: Add, inside: Inside
) -> None:
    add()
    assert "is a workload's, which has no logout" in tokenferry("logout", "ci").err
    assert "has a workload's identity and no login" in tokenferry("login", "ci").err
    assert inside("account", "remove", "ci", "--yes").code == 0
    assert sandbox.counters()["accounts"]["carol"]["revocations"] == 0


def test_a_declared_provider_needs_no_options_but_the_place(home: Home, sandbox: Sandbox, identity: Path) -> None:
    """Everything else is the provider's, found by its issuer; no policy stands in the way of workloads."""
    configure(
        home,
        sandbox.url,
        f"""
[[providers]]
name = "cloud"
base_url = "{sandbox.url}"
auth_type = "oauth"

[providers.oauth]
issuer = "{sandbox.url}"
federation_parameters = {{ federation_rule_id = "rule", organization_id = "org" }}
federation_headers = {{ anthropic-beta = "oauth-2025-04-20,oidc-federation-2026-04-01" }}
""",
    )
    base = ("account", "add", "ci", "--provider", "cloud", "--workload-identity")
    outcome = tokenferry(*base, "--identity-token-file", str(identity))
    assert outcome.code == 0, outcome.err
    assert "federation" not in stored(home)["credential"]
    assert tokenferry("refresh", "ci").code == 0
