"""The jwt-bearer grant: what it wants, and what it says to the rest."""

from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BETAS = "oauth-2025-04-20,oidc-federation-2026-04-01"


def exchange(http: httpx2.Client, sandbox: Sandbox, betas: str = BETAS, **changes: Any) -> httpx2.Response:
    given: dict[str, str | None] = {
        "grant_type": GRANT,
        "assertion": sandbox.identity_token("carol"),
        "federation_rule_id": "rule",
    }
    given |= {"organization_id": "org"} | changes
    body = {name: value for name, value in given.items() if value is not None}
    return http.post("/v1/oauth/token", json=body, headers={"anthropic-beta": betas})


def test_it_gives_an_access_token_for_inference_and_nothing_to_renew_it(
    http: httpx2.Client, sandbox: Sandbox, say: Any, bearer: Any
) -> None:
    answer = exchange(http, sandbox)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert "refresh_token" not in given
    assert (given["scope"], given["account"]["email_address"]) == ("user:inference", "carol@example.com")
    assert say(headers=bearer(given["access_token"])).status_code == 200
    assert sandbox.counters()["accounts"]["carol"]["exchanges"] == 1


@pytest.mark.parametrize("betas", ["", "oauth-2025-04-20", "oidc-federation-2026-04-01"])
def test_both_betas_are_wanted(http: httpx2.Client, sandbox: Sandbox, betas: str) -> None:
    answer = exchange(http, sandbox, betas)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert sandbox.counters()["accounts"]["carol"]["exchanges"] == 0


def test_the_federations_beta_goes_with_no_other_grant(http: httpx2.Client, login: Any) -> None:
    refresh = {"grant_type": "refresh_token", "client_id": "sandbox-client"}
    refresh["refresh_token"] = login.tokens()["refresh_token"]
    answer = http.post("/v1/oauth/token", json=refresh, headers={"anthropic-beta": BETAS})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert http.post("/v1/oauth/token", json=refresh, headers={"anthropic-beta": "oauth-2025-04-20"}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"assertion": "no-jwt"}, "invalid_grant"),
        ({"assertion": "a.b.c"}, "invalid_grant"),
        ({"assertion": None}, "invalid_request"),
        ({"federation_rule_id": None}, "invalid_request"),
        ({"organization_id": None}, "invalid_request"),
    ],
)
def test_what_is_missing_or_no_identity_is_refused(
    http: httpx2.Client, sandbox: Sandbox, changes: dict[str, Any], error: str
) -> None:
    answer = exchange(http, sandbox, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_an_identity_token_expires(http: httpx2.Client, sandbox: Sandbox) -> None:
    token = sandbox.identity_token("carol", expires_in=60)
    assert exchange(http, sandbox, assertion=token).status_code == 200
    sandbox.advance(61)
    answer = exchange(http, sandbox, assertion=token)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_grant")
