"""Listing, renewing and deleting logins over the API."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from admin.rig import Api, refused
from tokenferry import extract_login_url_from_error
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.stores import Account

REFRESH, DELETE = "/api/oauth/tokens/refresh", "/api/oauth/tokens/delete"


def counts(sandbox: Sandbox, account: str = "alice") -> dict[str, int]:
    found: dict[str, int] = sandbox.counters()["accounts"][account]
    return found


def age(api: Api, name: str, left: int) -> None:
    """Have the login's token expire so soon (seconds)."""
    store = api.broker.book.store
    with store.exclusive(name, 5):
        held = store.read(name)
        assert isinstance(held.credential, OAuthToken)
        token = replace(held.credential, expires_at=int(time.time()) + left)
        store.swap(name, held.generation, replace(held, credential=token))


def listed(api: Api) -> dict[str, dict[str, Any]]:
    answer = api.get("/api/oauth/tokens")
    assert answer.status_code == 200
    return {one["provider_id"]: one for one in answer.json()}


def test_logins_are_listed_by_their_fingerprints(api: Api) -> None:
    api.log_in("work")
    api.broker.add(Account("key", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-of-somebody")))
    [one] = listed(api).values()
    token = api.broker.book.read("work").credential
    assert isinstance(token, OAuthToken)
    assert token.refresh is not None
    assert one == {
        "provider_id": "work",
        "expires_at": datetime.fromtimestamp(token.expires_at or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "is_expired": False,
        "needs_refresh": False,
        "provider": "sandbox",
        "owner": "tokenferry",
        "state": "fresh",
        "fingerprint": token.secret.fingerprint,
        "refresh_fingerprint": token.refresh.fingerprint,
    }


@pytest.mark.parametrize(("left", "is_expired", "needs_refresh"), [(290, False, True), (-1, True, True)])
def test_a_token_that_expires_soon_or_has_expired_is_reported(
    api: Api, left: int, *, is_expired: bool, needs_refresh: bool
) -> None:
    api.log_in("work")
    age(api, "work", left)
    one = listed(api)["work"]
    assert (one["is_expired"], one["needs_refresh"]) == (is_expired, needs_refresh)


def test_without_a_login_the_list_is_empty(api: Api) -> None:
    assert listed(api) == {}


def test_what_cannot_be_read_is_left_out(api: Api) -> None:
    api.log_in("work")
    (api.home.accounts / "work.json").write_text("{")
    assert listed(api) == {}


def test_a_forced_refresh_is_one_grant_and_done_when_it_is_answered(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    before = api.broker.book.read("work").credential
    answer = api.post(REFRESH, {"provider_id": "work"})
    assert answer.status_code == 200
    done = answer.json()
    after = api.broker.book.read("work").credential
    assert set(done) == {"success", "message", "provider_id", "expires_at"}
    assert (done["success"], done["provider_id"]) == (True, "work")
    assert after.secret != before.secret
    assert datetime.fromisoformat(done["expires_at"]).timestamp() == after.expires_at
    assert counts(sandbox)["refreshes"] == 1
    assert counts(sandbox)["reuses"] == 0


@pytest.mark.parametrize("path", [REFRESH, DELETE])
@pytest.mark.parametrize("name", ["nobody", "../work", "a/b", "\u00e4", "WORK"])
def test_an_unknown_name_is_a_404(api: Api, path: str, name: str) -> None:
    api.log_in("work")
    assert "GET /api/oauth/tokens" in refused(api.post(path, {"provider_id": name}), 404)
    assert list(listed(api)) == ["work"]


@pytest.mark.parametrize("path", [REFRESH, DELETE])
def test_an_api_key_is_no_login(api: Api, path: str) -> None:
    api.broker.add(Account("key", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-of-somebody")))
    assert "no OAuth login 'key'" in refused(api.post(path, {"provider_id": "key"}), 404)
    assert api.broker.book.store.names() == ["key"]


def test_a_dead_logins_refusal_names_the_page_about_that(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    sandbox.revoke("alice", "family")
    message = refused(api.post(REFRESH, {"provider_id": "work"}), 409)
    assert "tokenferry login work" in message
    assert message.endswith(f"Please log in: {api.url}/login")
    assert extract_login_url_from_error(message) == f"{api.url}/login"
    page = api.get("/login", key="")
    assert page.status_code == 200
    assert "tokenferry login NAME" in page.text


def test_a_token_endpoint_that_fails_is_a_503_that_says_when(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    sandbox.fault("status", path="/v1/oauth/token", status=503)
    answer = api.post(REFRESH, {"provider_id": "work"})
    assert "could not be refreshed" in refused(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("by_path", [True, False])
def test_a_deleted_login_is_gone_ended_at_the_provider_and_in_the_audit_log(
    api: Api, sandbox: Sandbox, *, by_path: bool
) -> None:
    api.log_in("work")
    answer = api.call("DELETE", "/api/oauth/tokens/work") if by_path else api.post(DELETE, {"provider_id": "work"})
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "message": "Token for 'work' deleted"}
    assert api.broker.book.store.names() == []
    assert counts(sandbox)["revocations"] == 1
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["revoked"], line["client"]) == ("account.remove", "work", True, "boss")
    refused(api.call("DELETE", "/api/oauth/tokens/work"), 404)


def test_a_login_that_cannot_be_ended_is_removed_and_it_is_said(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    sandbox.fault("status", path="/v1/oauth/token/revoke", status=500)
    answer = api.call("DELETE", "/api/oauth/tokens/work")
    assert answer.status_code == 200
    assert "could not be revoked at the provider" in answer.json()["message"]
    assert api.broker.book.store.names() == []


def test_a_chain_of_another_program_is_forgotten_and_not_ended(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    store = api.broker.book.store
    held = store.read("work")
    store.swap("work", held.generation, replace(held, account=replace(held.account, owner="external")))
    assert api.call("DELETE", "/api/oauth/tokens/work").status_code == 200
    assert counts(sandbox)["revocations"] == 0
    assert api.broker.book.store.names() == []


def test_one_whose_document_cannot_be_read_can_be_deleted(api: Api) -> None:
    api.log_in("work")
    (api.home.accounts / "work.json").write_text("{")
    answer = api.call("DELETE", "/api/oauth/tokens/work")
    assert answer.status_code == 200
    assert api.broker.book.store.names() == []
