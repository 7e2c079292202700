"""Accounts and status over the API."""

from typing import Any

import pytest

from admin.rig import Api, refused
from leaks import shows
from tokenferry.credentials import ApiKey
from tokenferry.secret import Secret
from tokenferry.stores import Account

KEY = "sk-ant-api03-the-key-of-somebody-who-trusts-us"
SETUP = "sk-ant-oat01-" + "s" * 80
LOGIN = {"access_token": "access-token-of-somebody", "refresh_token": "refresh-token-of-somebody", "expires_at": 4e9}


def added(api: Api, status: int = 201, **fields: Any) -> dict[str, Any]:
    answer = api.post("/api/accounts", fields)
    assert answer.status_code == status, answer.text
    assert not shows(answer.text, KEY, SETUP, str(LOGIN["access_token"]), str(LOGIN["refresh_token"]))
    document: dict[str, Any] = answer.json()
    assert document["success"] is True
    return document


def test_an_api_key_is_stored_under_its_name(api: Api) -> None:
    reported = added(api, name="work", key=KEY)
    assert reported["message"] == "stored account work"
    account = reported["account"]
    assert (account["name"], account["provider"], account["kind"], account["state"]) == (
        "work",
        "anthropic",
        "api-key",
        "fresh",
    )
    held = api.broker.book.read("work").credential
    assert held.secret.reveal() == KEY
    assert account["fingerprint"] == held.secret.fingerprint
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["client"]) == ("account.add", "work", "boss")
    assert line["fingerprint"] == held.secret.fingerprint


def test_the_tokens_of_a_login_are_stored_as_one(api: Api) -> None:
    account = added(api, name="work", provider="sandbox", login=LOGIN)["account"]
    assert (account["kind"], account["owner"], account["expires_at"]) == ("oauth", "tokenferry", "2096-10-02T07:06:40Z")


def test_a_setup_token_of_the_vendors_is_stored_and_the_policy_noted(api: Api) -> None:
    reported = added(api, name="mine", provider="claude-max", key=SETUP)
    assert reported["account"]["kind"] == "setup-token"
    assert "tokenferry policy set own-use" in reported["message"]


def test_a_name_that_is_taken_needs_to_be_replaced_on_purpose(api: Api) -> None:
    added(api, name="work", key=KEY)
    assert '"replace": true' in refused(api.post("/api/accounts", {"name": "work", "key": KEY + "2"}), 409)
    reported = added(api, 200, name="work", key=KEY + "2", replace=True)
    assert reported["message"] == "replaced account work"
    assert api.broker.book.read("work").credential.secret.reveal() == KEY + "2"
    assert api.audit()[-1]["action"] == "account.replace"
    assert "differs in case alone" in refused(api.post("/api/accounts", {"name": "Work", "key": KEY}), 400)


@pytest.mark.parametrize(
    ("fields", "status", "reported"),
    [
        ({"name": "a b", "key": KEY}, 400, "can't be an account's name"),
        ({"name": "../a", "key": KEY}, 400, "can't be an account's name"),
        ({"name": "work"}, 400, "give either key"),
        ({"name": "work", "key": KEY, "login": LOGIN}, 400, "give either key"),
        ({"name": "work", "key": "other"}, 400, "say who issued it"),
        ({"name": "work", "key": KEY, "provider": "nobody"}, 404, "no provider 'nobody'"),
        ({"name": "work", "key": KEY + "\r\nx: y", "provider": "anthropic"}, 400, "key: a secret must be printable"),
        ({"name": "work", "key": "\u00e4" + KEY, "provider": "anthropic"}, 400, "key: a secret must be printable"),
        ({"name": "work", "key": "sk-ant-oat01-short", "provider": "claude-max"}, 400, "at least 80 characters"),
        ({"name": "work", "login": {"access_token": 1}, "provider": "sandbox"}, 400, "access_token"),
        ({"name": "work", "login": {**LOGIN, "expires_at": 4e12}, "provider": "sandbox"}, 400, "unit mistake"),
        ({"name": "work", "key": KEY, "kind": "password"}, 400, "kind"),
        ({"key": KEY}, 400, "name: field required"),
        ({"name": "work", "key": [KEY]}, 400, "key"),
        ({"name": "work", "login": KEY}, 400, "login"),
    ],
)
def test_a_rejected_credential_is_reported_without_being_quoted(
    api: Api, fields: dict[str, Any], status: int, reported: str
) -> None:
    message = refused(api.post("/api/accounts", fields), status)
    assert reported in message
    assert not shows(message, KEY, "sk-ant-oat01-short", str(LOGIN["access_token"]))
    assert api.broker.book.store.names() == []


def test_accounts_are_listed_with_their_states_and_no_secret(api: Api) -> None:
    api.log_in("work")
    added(api, name="key", key=KEY)
    api.broker.book.use("key")
    (api.home.accounts / "bad.json").write_text("{")
    (api.home.accounts / "bad.json").chmod(0o600)
    answer = api.get("/api/accounts")
    found = {one["name"]: one for one in answer.json()}
    assert {name: one["state"] for name, one in found.items()} == {"work": "fresh", "key": "fresh", "bad": "broken"}
    assert [name for name, one in found.items() if one["active"]] == ["key"]
    assert found["work"]["email"] == "alice@example.com"
    assert found["work"]["created_at"].endswith("Z")
    assert "bad.json" in found["bad"]["fault"]
    token = api.broker.book.read("work").credential
    assert not shows(answer.text, KEY, token.secret.reveal())


def test_the_status_tells_what_the_gateway_is(api: Api) -> None:
    added(api, name="key", key=KEY)
    status = api.get("/api/status").json()
    assert status["listening"] == [api.url]
    assert status["policy"] == {"subscriptions": "claude-code-only"}
    assert [one["name"] for one in status["accounts"]] == ["key"]
    assert set(status["logins"]) == {"max", "sandbox", "idp", "claude-max", "console"}
    assert status["refreshing"] == []
    assert "active" not in status


def test_an_account_without_a_provider_is_reported(api: Api) -> None:
    api.broker.add(Account("lost", "gone", "api-key"), ApiKey(Secret(KEY)))
    [one] = api.get("/api/accounts").json()
    assert (one["name"], one["state"]) == ("lost", "broken")


def test_an_api_key_is_made_by_a_login_and_stored_as_an_account(api: Api) -> None:
    api.log_in("work", "carol")
    answer = api.post("/api/accounts/work/api-keys", {"name": "made"})
    assert answer.status_code == 201, answer.text
    key = api.broker.book.read("made").credential
    assert not shows(answer.text, key.secret.reveal())
    made = answer.json()["account"]
    assert (made["kind"], made["provider"], made["fingerprint"]) == ("api-key", "sandbox", key.secret.fingerprint)
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["made_by"], line["client"]) == ("account.add", "made", "work", "boss")
    refused(api.post("/api/accounts/work/api-keys", {"name": "made"}), 409)
    refused(api.post("/api/accounts/nobody/api-keys", {"name": "other"}), 404)
    assert "can't make API keys" in refused(api.post("/api/accounts/made/api-keys", {"name": "other"}), 400)
    refused(api.post("/api/accounts/work/api-keys", {"name": "../a"}), 400)


def test_a_login_that_may_make_no_key_says_so(api: Api) -> None:
    api.log_in("work", "alice")
    assert "made no API key: HTTP 403" in refused(api.post("/api/accounts/work/api-keys", {"name": "made"}), 400)
    assert api.broker.book.store.names() == ["work"]


def test_a_pause_has_an_end_in_any_time_zone(api: Api) -> None:
    api.log_in("work")
    answer = api.call("PATCH", "/api/accounts/work", {"paused": True, "paused_until": "2099-01-01T08:00:00+01:00"})
    assert answer.json()["account"]["paused_until"] == "2099-01-01T07:00:00Z"
    refused(api.call("PATCH", "/api/accounts/work", {"paused_until": "2099-01-01T08:00:00Z"}), 400)
    refused(api.call("PATCH", "/api/accounts/work", {"paused": True, "paused_until": "2020-01-01T08:00:00Z"}), 400)
    assert api.call("PATCH", "/api/accounts/work", {"paused": True, "paused_until": "tomorrow"}).status_code >= 400
    assert api.call("PATCH", "/api/accounts/work", {"paused": False}).json()["account"].get("paused_until") is None
