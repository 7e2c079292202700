"""Logins over the API: paths and fields, states and codes, and what may be seen of secrets."""

import logging
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from admin.rig import Api, code_of, refused, running_api
from leaks import shows
from tokenferry.actions import LoginService
from tokenferry.config import load
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings

FIELDS = {"url", "state", "instructions", "expires_in", "verifier"}


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


# -- the paths and fields


def test_a_login_is_begun_and_finished_as_tools_of_this_kind_do(api: Api) -> None:
    begun = api.begin()
    assert set(begun) == FIELDS
    assert re.fullmatch("[A-Za-z0-9_-]{43}", begun["verifier"])
    assert begun["expires_in"] == 600
    assert "CODE#STATE" in begun["instructions"]
    code = code_of(begun["url"])
    # An old client sends the verifier that it was given, and its oauth_type.
    given = {"code": code, "verifier": begun["verifier"], "provider_id": "work", "oauth_type": "max"}
    answer = api.post("/api/oauth/exchange", given)
    assert answer.status_code == 200
    done = answer.json()
    assert set(done) == {"success", "message", "provider_id", "expires_at"}
    assert (done["success"], done["provider_id"]) == (True, "work")
    assert done["message"] == "OAuth authentication successful! Token saved."
    assert done["expires_at"].endswith("Z")
    assert datetime.fromisoformat(done["expires_at"]) > datetime.now(UTC)
    assert api.broker.resolve("work").kind == "oauth"


def test_the_provider_is_that_of_the_state_whatever_the_name(api: Api) -> None:
    api.exchange(code_of(api.begin()["url"]), "console")
    assert api.broker.book.read("console").account.provider == "sandbox"


@pytest.mark.parametrize("body", [{}, {"oauth_type": "max"}, None])
def test_max_is_the_default_and_needs_the_policy(api: Api, body: object) -> None:
    message = refused(api.post("/api/oauth/authorize", body), 403)
    assert "the subscription is theirs alone" in message
    assert message.endswith("tokenferry policy set own-use")


def test_console_carries_the_declared_redirect_and_never_the_loopback_one(api: Api) -> None:
    begun = api.begin("console", fields={"redirect_uri": "http://127.0.0.1:1/steal"})
    assert set(begun) == FIELDS
    query = query_of(begun["url"])
    assert begun["url"].startswith("https://platform.claude.com/oauth/authorize?")
    assert query["redirect_uri"] == "https://platform.claude.com/oauth/code/callback"
    assert (query["code"], query["code_challenge_method"], query["response_type"]) == ("true", "S256", "code")
    assert query["state"] == begun["state"]
    assert "public client id of the Claude Code CLI" in begun["instructions"]


OWN = """
[[providers]]
name = "mine"
base_url = "{url}"
auth_type = "oauth"
subscription = true

[providers.oauth]
authorization_endpoint = "{url}/oauth/authorize"
token_endpoint = "{url}/v1/oauth/token"
client_id = "mine"
scopes = ["user:inference"]
redirect_uri = "{url}/oauth/code/callback"
state_in_exchange = true
token_body = "json"

[policy]
subscriptions = "own-use"
"""


@pytest.fixture
def own(home: Home, sandbox: Sandbox) -> Iterator[Api]:
    """Where the operator has stated that the subscription is theirs alone."""
    with running_api(home, sandbox.url, config=OWN.format(url=sandbox.url)) as api:
        yield api


def test_where_the_policy_allows_it_max_leads_to_the_vendors_page_for_pasting(own: Api) -> None:
    begun = own.begin("max")
    assert set(begun) == FIELDS
    assert begun["url"].startswith("https://claude.ai/oauth/authorize?")
    query = query_of(begun["url"])
    assert query["redirect_uri"] == "https://platform.claude.com/oauth/code/callback"
    assert query["scope"] == "org:create_api_key user:profile user:inference"
    assert "claude /login" in begun["instructions"]


def test_the_policy_is_asked_again_when_the_login_is_finished(own: Api) -> None:
    code = code_of(own.begin("mine")["url"])
    config = load(own.home.config)
    own.broker.adopt(replace(config, policy=PolicySettings()))
    assert refused(own.exchange(code, "work"), 403).endswith("tokenferry policy set own-use")
    own.broker.adopt(config)
    assert own.exchange(code, "work").status_code == 200


def test_an_unknown_provider_is_a_404_and_one_without_logins_a_400(api: Api) -> None:
    message = refused(api.post("/api/oauth/authorize", {"oauth_type": "nobody"}), 404)
    assert "'nobody'" in message
    assert "console" in message
    assert "there is no login there" in refused(api.post("/api/oauth/authorize", {"oauth_type": "anthropic"}), 400)


@pytest.mark.parametrize(
    "body",
    [
        {"code": "c#s"},
        {"provider_id": "work"},
        {"code": 1, "provider_id": "work"},
        {"code": "", "provider_id": "work"},
        {"code": "c#s", "provider_id": ["work"]},
        [],
        "text",
    ],
)
def test_what_is_malformed_is_a_400_in_the_same_shape_and_quotes_nothing(api: Api, body: object) -> None:
    message = refused(api.post("/api/oauth/exchange", body), 400)
    assert "c#s" not in message


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"code": 1' + b"0" * 5000 + b"}", b"{'a': 1}"])
def test_what_is_no_json_is_a_400(api: Api, raw: bytes) -> None:
    assert refused(api.post("/api/oauth/exchange", content=raw), 400)


# -- states


def test_a_state_is_good_once(api: Api) -> None:
    begun = api.begin()
    code = code_of(begun["url"])
    assert api.exchange(code, "work").status_code == 200
    message = refused(api.exchange(code, "work"), 400)
    assert "the state of this login is unknown: it was used" in message


@pytest.mark.parametrize(
    ("state", "reason"),
    [("", "state"), ("f" * 64, "state"), ("no", "state"), ("%00", "state"), ("\u00e4\u00f6", "code: a secret must be")],
)
def test_a_forged_or_missing_state_exchanges_nothing(api: Api, sandbox: Sandbox, state: str, reason: str) -> None:
    code, _, _ = code_of(api.begin()["url"]).partition("#")
    assert reason in refused(api.exchange(f"{code}#{state}", "work"), 400).lower()
    assert sandbox.counters()["accounts"]["alice"]["grants"] == 0


def test_a_code_without_its_state_exchanges_nothing(api: Api) -> None:
    code, _, _ = code_of(api.begin()["url"]).partition("#")
    assert "CODE#STATE" in refused(api.exchange(code, "work"), 400)


def test_another_keys_state_is_worth_nothing_and_then_used_up(api: Api) -> None:
    _, other = api.state.keys.create("other", role="admin")
    code = code_of(api.begin()["url"])
    assert "another key" in refused(api.exchange(code, "work", key=other.reveal()), 400)
    assert refused(api.exchange(code, "work"), 400)
    assert api.broker.book.store.names() == []


def test_an_expired_state_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    code = code_of(api.begin()["url"])
    monkeypatch.setattr(api.state.logins, "_now", lambda: time.time() + 600)
    assert "has expired" in refused(api.exchange(code, "work"), 400)


def test_parallel_logins_do_not_mix(api: Api) -> None:
    begun = [api.begin() for _ in range(3)]
    assert len({one["state"] for one in begun}) == 3
    assert len({query_of(one["url"])["code_challenge"] for one in begun}) == 3
    people = ["alice", "bob", "carol"]
    codes = [code_of(one["url"], person) for one, person in zip(begun, people, strict=True)]
    threads = [
        threading.Thread(target=api.exchange, args=(code, person))
        for code, person in reversed(list(zip(codes, people, strict=True)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emails = {name: getattr(api.broker.book.read(name).credential, "email", None) for name in people}
    assert emails == {person: f"{person}@example.com" for person in people}


def test_another_logins_code_is_refused_by_the_verifier(api: Api, sandbox: Sandbox) -> None:
    first, second = api.begin(), api.begin()
    code, _, _ = code_of(first["url"]).partition("#")
    answer = api.exchange(f"{code}#{second['state']}", "work")
    message = refused(answer, 400)
    assert "invalid_grant" in message
    assert api.broker.book.store.names() == []


@pytest.mark.parametrize(
    ("kind", "words", "cure"),
    [
        ("invalid_client", "Who is that?", "check client_id"),
        ("invalid_grant", "The redirect_uri is another one.", "check redirect_uri"),
        ("invalid_grant", "The code_verifier is wrong.", "the code belongs to another login"),
        ("invalid_grant", "No such code.", "the code was used before, has expired, or belongs to another login"),
    ],
)
def test_the_reasons_of_a_refused_code_are_distinguished(
    api: Api, sandbox: Sandbox, kind: str, words: str, cure: str
) -> None:
    code = code_of(api.begin()["url"])
    sandbox.fault("status", path="/v1/oauth/token", status=400, type=kind, message=words)
    assert cure in refused(api.exchange(code, "work"), 400)
    assert api.broker.book.store.names() == []


def test_a_thousand_logins_stay_bounded_and_the_last_one_works(api: Api) -> None:
    key = next(one for one in api.state.keys.list() if one.name == "boss")
    for _ in range(999):
        api.state.logins.begin("sandbox", Secret(key.id))
    begun = api.begin()
    (count,) = api.state.logins._database.rows("SELECT count(*) FROM logins")[0]
    assert count <= 101
    assert api.exchange(code_of(begun["url"]), "work").status_code == 200


@pytest.mark.parametrize("issuer", ["https://evil.example", ""])
def test_a_pasted_address_is_checked_as_the_redirect_is(api: Api, sandbox: Sandbox, issuer: str) -> None:
    code, _, state = code_of(api.begin()["url"]).partition("#")
    page = f"{sandbox.url}/oauth/code/callback?code={code}&state={state}&iss={issuer}"
    assert "not accepted" in refused(api.exchange(page, "work"), 400) if issuer else api.exchange(page, "work")
    assert sandbox.counters()["accounts"]["alice"]["grants"] == (0 if issuer else 1)


def test_an_address_that_is_not_the_redirects_is_refused(api: Api, sandbox: Sandbox) -> None:
    code, _, state = code_of(api.begin()["url"]).partition("#")
    refused(api.exchange(f"https://evil.example/callback?code={code}&state={state}", "work"), 400)
    assert sandbox.counters()["accounts"]["alice"]["grants"] == 0


# -- what the provider refuses is told apart


def test_a_used_code_is_reported(api: Api) -> None:
    begun, again = api.begin(), api.begin()
    code = code_of(begun["url"])
    assert api.exchange(code, "work").status_code == 200
    used = code.partition("#")[0]
    assert "the code was used before" in refused(api.exchange(f"{used}#{again['state']}", "work"), 400)


# -- names and accounts


@pytest.mark.parametrize("name", ["../etc", "a/b", ".hidden", "a\nb", "a b", "x" * 65, "\u00e4"])
def test_a_name_that_no_account_can_have_is_refused_before_the_state_is_used_up(api: Api, name: str) -> None:
    code = code_of(api.begin()["url"])
    refused(api.exchange(code, name), 400)
    assert api.exchange(code, "work").status_code == 200


def test_the_account_of_that_person_is_updated_and_it_is_said(api: Api) -> None:
    api.log_in("work")
    done = api.log_in("other")
    assert done["provider_id"] == "work"
    assert "It is already account work" in done["message"]
    assert api.broker.book.store.names() == ["work"]


def test_who_logged_in_is_asked_of_the_profile_where_the_answer_says_nothing(api: Api, sandbox: Sandbox) -> None:
    sandbox.settings(token_answer={"account": None, "organization": None})
    assert api.log_in("work")["provider_id"] == api.log_in("other")["provider_id"] == "work"
    assert api.get("/api/accounts").json()[0]["email"] == "alice@example.com"


def test_another_persons_account_is_left_alone_and_the_login_is_revoked(api: Api, sandbox: Sandbox) -> None:
    api.log_in("work")
    before = api.broker.book.read("work")
    answer = api.exchange(code_of(api.begin()["url"], "bob"), "work")
    assert "is alice@example.com, and this login is bob@example.com" in refused(answer, 400)
    assert api.broker.book.read("work") == before
    assert sandbox.counters()["accounts"]["bob"]["revocations"] == 1


# -- secrets


def test_no_secret_of_a_login_is_shown_stored_or_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    begun = api.begin()
    code = code_of(begun["url"])
    login = api.exchange(code, "work")
    token = api.broker.book.read("work").credential
    bodies = [login.text, api.get("/api/oauth/tokens").text, api.get("/api/accounts").text, api.get("/api/status").text]
    bodies += [api.post("/api/oauth/tokens/refresh", {"provider_id": "work"}).text]
    secrets = [code.partition("#")[0], begun["state"], token.secret.reveal(), token.refresh.reveal()]  # type: ignore[union-attr]
    assert not shows("\n".join(bodies), *secrets)
    # The sandbox and the person's browser run in this process, too, and log what they see.
    ours = [record for record in caplog.records if record.name.startswith(("tokenferry", "asyncio"))]
    assert ours
    logged = "\n".join(record.getMessage() for record in ours)
    assert not shows(logged + api.home.audit.read_text(), *secrets, api.admin)


def test_the_verifier_is_nowhere_but_in_the_exchange(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    begun = api.begin()
    made: list[Secret] = []
    verifier = LoginService._verifier

    def note(desk: LoginService, state: Secret) -> Secret:
        made.append(verifier(desk, state))
        return made[-1]

    monkeypatch.setattr(LoginService, "_verifier", note)
    assert api.exchange(code_of(begun["url"]), "work").status_code == 200
    [secret] = set(made)
    assert len(secret.reveal()) == 43
    assert not shows(str(begun), secret.reveal())
    assert secret.reveal() not in begun["verifier"]
    assert begun["verifier"] not in secret.reveal()
    assert not shows(caplog.text + api.home.audit.read_text(), begun["verifier"])
    for path in api.home.path.rglob("*"):
        if path.is_file():
            assert secret.reveal().encode() not in path.read_bytes()
            assert begun["state"].encode() not in path.read_bytes()


def test_the_audit_log_says_which_key_logged_in(api: Api) -> None:
    api.log_in("work")
    [line] = [line for line in api.audit() if line["action"] == "account.login"]
    assert (line["name"], line["client"], line["provider"], line["kind"]) == ("work", "boss", "sandbox", "oauth")
    assert line["fingerprint"] == api.broker.book.read("work").credential.secret.fingerprint
