"""Keys, accounts, cooldowns and limits over the API; each change is in audit.log with the key that made it."""

import time
from typing import Any

import pytest

from admin.rig import Api, refused
from tokenferry.state import Cooldown, Scope

VENDOR_KEY = "sk-ant-api03-" + "k" * 80


def viewer(api: Api) -> str:
    return api.state.keys.create("watcher", role="viewer")[1].reveal()


def add(api: Api, name: str) -> None:
    assert api.post("/api/accounts", {"name": name, "key": VENDOR_KEY}).status_code == 201


def last(api: Api) -> dict[str, Any]:
    return api.audit()[-1]


@pytest.mark.parametrize(("role", "prefix"), [("client", "tfk_"), ("viewer", "tfv_"), ("metrics", "tfm_")])
def test_a_key_is_made_changed_and_revoked(api: Api, role: str, prefix: str) -> None:
    add(api, "work")
    rights = {"models": ["claude-*"], "accounts": ["work"]} if role == "client" else {}
    asked = {"name": "laptop", "role": role, "labels": {"team": "a"}, "expires_in": 3600, **rights}
    answer = api.post("/api/keys", asked)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["key"].startswith(prefix)
    assert made["info"]["role"] == role
    found = api.state.keys.verify(made["key"])
    assert found is not None
    assert (found.name, found.role, dict(found.labels)) == ("laptop", role, {"team": "a"})
    assert (last(api)["action"], last(api)["client"]) == ("key.create", "boss")
    identity = made["info"]["id"]
    changed = api.call("PATCH", f"/api/keys/{identity}", {"labels": {"team": None, "room": "4"}}).json()["info"]
    assert changed["labels"] == {"room": "4"}
    assert (last(api)["action"], last(api)["client"]) == ("key.label", "boss")
    if role == "client":
        changed = api.call("PATCH", "/api/keys/laptop", {"models": [], "pin": "work"}).json()["info"]
        assert changed["rights"] == {"models": [], "providers": [], "accounts": ["work"], "pin": "work"}
        assert api.call("PATCH", "/api/keys/laptop", {"pin": None}).json()["info"]["rights"]["pin"] is None
        limits = {"requests_per_minute": 60, "max_concurrency": 2}
        api.call("PATCH", "/api/keys/laptop", {"limits": limits})
        changed = api.call("PATCH", "/api/keys/laptop", {"limits": {"max_concurrency": None}}).json()["info"]
        assert changed["limits"] == {"requests_per_minute": 60, "tokens_per_minute": None, "max_concurrency": None}
        refused(api.call("PATCH", "/api/keys/laptop", {"limits": {"requests_per_minute": -1}}), 400)
        changed = api.call("PATCH", "/api/keys/laptop", {"budgets": ["20 usd/day"]}).json()["info"]
        assert changed["budgets"] == ["20usd/day"]
        refused(api.call("PATCH", "/api/keys/laptop", {"budgets": ["much"]}), 400)
    listed = api.get("/api/keys", key=viewer(api))
    assert made["key"] not in listed.text
    assert {one["name"] for one in listed.json()} == {"boss", "laptop", "watcher"}
    assert api.call("DELETE", f"/api/keys/{identity}").json()["info"]["state"] == "revoked"
    assert (last(api)["action"], last(api)["client"]) == ("key.revoke", "boss")
    assert api.state.keys.verify(made["key"]) is None
    refused(api.call("DELETE", f"/api/keys/{identity}"), 404)
    assert made["key"] not in api.home.audit.read_text()


def test_only_the_command_makes_changes_and_revokes_admin_keys(api: Api) -> None:
    before = api.state.keys.list()
    assert "tokenferry key create NAME --role admin" in refused(
        api.post("/api/keys", {"name": "x", "role": "admin"}), 403
    )
    for method, body in (("PATCH", {"labels": {"a": "b"}}), ("DELETE", None)):
        assert "only the command changes" in refused(api.call(method, "/api/keys/boss", body), 403)
    assert api.state.keys.list() == before


def test_what_a_key_cannot_be_is_refused(api: Api) -> None:
    refused(api.post("/api/keys", {"name": "x", "accounts": ["nobody"]}), 404)
    refused(api.post("/api/keys", {"name": "x", "providers": ["nobody"]}), 404)
    refused(api.post("/api/keys", {"name": "x", "role": "viewer", "models": ["a"]}), 400)
    refused(api.post("/api/keys", {"name": "x", "role": "owner"}), 400)
    refused(api.post("/api/keys", {"name": "x", "expires_in": -1}), 400)
    refused(api.post("/api/keys", {"name": "boss"}), 409)
    refused(api.call("DELETE", "/api/keys/nobody"), 404)
    assert [key.name for key in api.state.keys.list()] == ["boss"]


def test_an_account_is_changed_and_removed(api: Api) -> None:
    add(api, "work")
    api.state.keys.create("bound")
    api.state.keys.restrict("bound", lambda rights: type(rights)(pin="work"))
    changed = api.call("PATCH", "/api/accounts/work", {"priority": 5, "paused": True, "labels": {"team": "a"}})
    account = changed.json()["account"]
    assert (account["priority"], account["paused"], account["labels"]) == (5, True, {"team": "a"})
    assert (last(api)["action"], last(api)["client"]) == ("account.set", "boss")
    refused(api.call("PATCH", "/api/accounts/work", {"labels": {"config_dir": "/x"}}), 400)
    refused(api.call("DELETE", "/api/accounts/nobody"), 404)
    done = api.call("DELETE", "/api/accounts/work").json()
    assert done["message"] == "removed account work; no account serves these keys now: bound"
    assert (last(api)["action"], last(api)["client"]) == ("account.remove", "boss")
    assert api.get("/api/accounts").json() == []


def test_cooldowns_are_listed_and_ended(api: Api) -> None:
    add(api, "work")
    until = int(time.time()) + 7200
    api.state.cooldowns.put(Cooldown(Scope("account", "work"), "window", "answer", until, "It is used up."))
    api.state.cooldowns.put(Cooldown(Scope("organization", "org", "claude-opus"), "rate-limit", "answer", until))
    api.state.organizations.put("work", "org")
    key = viewer(api)
    listed = api.get("/api/cooldowns", key=key).json()
    assert [(one["kind"], one["name"], one.get("family")) for one in listed] == [
        ("account", "work", None),
        ("organization", "org", "claude-opus"),
    ]
    assert api.get("/api/status", key=key).json()["cooldowns"] == listed
    refused(api.call("DELETE", "/api/cooldowns/nobody"), 404)
    refused(api.call("DELETE", "/api/cooldowns/work", key=key), 403)
    assert api.call("DELETE", "/api/cooldowns/work").json()["message"] == "ended 2 cooldowns of work"
    assert (last(api)["action"], last(api)["client"]) == ("cooldown.clear", "boss")
    assert api.get("/api/cooldowns", key=key).json() == api.get("/api/limits", key=key).json() == []
