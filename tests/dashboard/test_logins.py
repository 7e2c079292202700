"""Logging in from the dashboard: the way to the provider, the code that comes back, and a dead login's return."""

import json
import re
import time
from html import unescape

import httpx2
import pytest
from msgspec.structs import replace

from admin.rig import Api, Browser, code_of, with_query
from dashboard.person import Person
from tokenferry.config import load
from tokenferry.credentials import OAuthToken, SetupToken
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.stores import Account

ACCOUNTS = "/dashboard/accounts"
LOGIN = "/dashboard/login"
NOW = "/dashboard/"
LED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def led_to(page: str) -> str:
    """Where the tab that a form opened leads by itself."""
    [url] = re.findall(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', page)
    return unescape(url)


def begun(person: Person, page: str, action: str, **fields: str) -> str:
    answer = person.act(page, action, **fields)
    assert answer.status_code == 200, answer.text
    return led_to(answer.text)


def test_a_pasted_code_finishes_the_login(api: Api, boss: Person) -> None:
    url = begun(boss, LOGIN, LOGIN, provider="sandbox", account="work")
    page = boss.open(ACCOUNTS).text
    assert "Waiting for the login of work at sandbox" in page
    done = boss.act(ACCOUNTS, f"{LOGIN}/finish", code=code_of(url))
    assert "Logged in as alice@example.com: account work was stored." in done.text
    assert api.broker.book.read("work").credential.kind == "oauth"
    assert "Waiting for" not in boss.open(ACCOUNTS).text
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["client"]) == ("account.login", "work", "boss")


def test_a_login_begun_on_the_first_page_is_finished_there(api: Api, boss: Person) -> None:
    api.log_in("work")
    token = api.broker.book.read("work").credential
    assert isinstance(token, OAuthToken)
    api.broker.add(api.broker.book.read("work").account, replace(token, refresh=None, expires_at=1), replacing=True)
    assert "Waiting for" not in boss.open(NOW).text
    url = begun(boss, NOW, f"{ACCOUNTS}/work/login")
    assert "Waiting for the login of work at sandbox" in boss.open(NOW).text
    done = boss.act(NOW, f"{LOGIN}/finish", code=code_of(url))
    assert "account work was updated" in done.text
    assert "Waiting for" not in boss.open(NOW).text


def test_a_login_that_comes_home_by_the_browser_needs_no_code(api: Api, boss: Person) -> None:
    url = begun(boss, LOGIN, LOGIN, provider="idp", account="mine")
    assert url.startswith(f"{api.url}/oauth/callback?login=")
    page = Browser().open(url, LED)  # from another site: the dashboard has an address of its own
    assert "account mine was stored" in page.text
    assert api.broker.book.store.names() == ["mine"]


def test_another_sites_page_cannot_lead_a_login_of_the_api(api: Api) -> None:
    assert Browser().get(api.begin("idp")["login_url"], LED).status_code == 403


def test_a_login_again_keeps_the_account_with_all_that_it_has(api: Api, boss: Person) -> None:
    api.log_in("work")
    boss.act(f"{ACCOUNTS}/work", f"{ACCOUNTS}/work/order", priority="7")
    before = api.broker.book.read("work")
    url = begun(boss, f"{ACCOUNTS}/work", f"{ACCOUNTS}/work/login")  # the first click
    done = boss.act(f"{ACCOUNTS}/work", f"{LOGIN}/finish", code=code_of(url))  # the second is at the provider
    assert "account work was updated" in done.text
    after = api.broker.book.read("work")
    assert after.account.priority == 7
    assert after.account.created_at == before.account.created_at
    assert after.credential.secret != before.credential.secret


def test_another_persons_login_changes_nothing_and_is_ended(api: Api, boss: Person, sandbox: Sandbox) -> None:
    api.log_in("work")
    before = api.broker.book.read("work")
    url = begun(boss, f"{ACCOUNTS}/work", f"{ACCOUNTS}/work/login")
    page = boss.act(ACCOUNTS, f"{LOGIN}/finish", code=code_of(url, "bob"))
    assert page.status_code == 400
    assert "this login is bob@example.com" in page.text
    assert api.broker.book.read("work") == before
    assert sandbox.counters()["accounts"]["bob"]["revocations"] == 1


def test_a_code_is_good_for_the_session_that_began_its_login_alone(api: Api, boss: Person) -> None:
    code = code_of(begun(boss, LOGIN, LOGIN, provider="sandbox", account="work"))
    other = Person(api)
    other.sign_in(api.admin)
    begun(other, LOGIN, LOGIN, provider="sandbox")
    page = other.act(LOGIN, f"{LOGIN}/finish", code=code)
    assert page.status_code == 400
    assert "The state of this login is unknown" in page.text
    assert "log in again" in page.text
    assert api.broker.book.store.names() == []


@pytest.mark.parametrize("code", ["", "nonsense", "a#b", "\u00e4", "https://evil.example/?code=a&state=b"])
def test_a_code_that_cannot_be_read_says_so(boss: Person, code: str) -> None:
    begun(boss, LOGIN, LOGIN, provider="sandbox")
    page = boss.act(LOGIN, f"{LOGIN}/finish", code=code)
    assert page.status_code == 400
    assert 'role="alert"' in page.text


def test_a_session_that_ended_meanwhile_stores_nothing(api: Api, boss: Person) -> None:
    url = begun(boss, LOGIN, LOGIN, provider="idp", account="mine")
    browser = Browser()
    location = browser.get(url, LED).headers["location"]
    back = browser.get(with_query(location, login_hint="alice")).headers["location"]
    [session] = api.state.sessions.list()
    api.state.sessions.end(session.id)
    assert "was revoked or has expired" in browser.get(back, LED).text
    assert api.broker.book.store.names() == []


def test_a_subscriptions_login_shows_the_command_for_the_statement(boss: Person) -> None:
    page = boss.open(LOGIN).text
    assert "tokenferry policy set own-use" in page
    answer = boss.act(LOGIN, LOGIN, provider="claude-max")
    assert answer.status_code == 403
    assert "tokenferry policy set own-use" in answer.text


def test_a_code_is_confirmed_on_another_device(api: Api, boss: Person, sandbox: Sandbox) -> None:
    sandbox.settings(device_interval=1)
    page = boss.act(LOGIN, f"{LOGIN}/device", provider="idp", account="phone")
    assert page.status_code == 200, page.text
    [code] = re.findall(r'<span class="big-code">([^<]+)</span>', page.text)
    given = {"user_code": unescape(code), "account": "alice"}
    assert httpx2.post(f"{sandbox.url}/oauth/device", data=given).status_code == 200
    deadline = time.monotonic() + 30
    while api.broker.book.store.names() != ["phone"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert api.broker.book.store.names() == ["phone"]
    assert "account phone was stored" in boss.open(ACCOUNTS).text


# -- the statement about a subscription

STATEMENT = {"mine": "yes", "read": "yes"}


def at_the_machine(api: Api) -> Person:
    """Somebody whom `tokenferry dashboard` has signed in."""
    person = Person(api)
    assert person.post("/dashboard/enter", {"code": api.state.sessions.make_code().reveal()}).status_code == 303
    return person


def test_the_person_at_the_machine_states_it_and_takes_it_back(api: Api) -> None:
    person = at_the_machine(api)
    page = person.act(LOGIN, f"{LOGIN}/statement", **STATEMENT)
    assert "Recorded: the policy is own-use." in page.text
    document = json.loads(api.home.statement.read_text())
    assert document["statement"] == "The subscription is mine alone, and I have read the vendor's terms."
    line = api.audit()[-1]
    assert (line["action"], line["client"], line["by"]) == ("policy.own", "dashboard", "dashboard")
    api.broker.adopt(load(api.home.config, statement=api.home.statement))
    assert "as stated" in person.open(LOGIN).text
    person.act(LOGIN, f"{LOGIN}/statement/withdraw")
    assert not api.home.statement.exists()


@pytest.mark.parametrize("missing", ["mine", "read"])
def test_half_a_statement_is_none(api: Api, missing: str) -> None:
    page = at_the_machine(api).act(LOGIN, f"{LOGIN}/statement", **{**STATEMENT, missing: ""})
    assert page.status_code == 400
    assert not api.home.statement.exists()


def test_a_key_cannot_state_it(api: Api, boss: Person) -> None:
    page = boss.open(LOGIN).text
    assert f'action="{LOGIN}/statement"' not in page
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    answer = boss.post(f"{LOGIN}/statement", {"csrf": token, **STATEMENT})
    assert answer.status_code == 403
    assert "the person at this machine" in answer.text
    assert not api.home.statement.exists()


def test_it_can_not_be_stated_if_another_persons_key_would_be_served(api: Api) -> None:
    api.broker.add(
        Account("mine", "claude-max", "setup-token", created_at=1), SetupToken(Secret("sk-ant-oat01-" + "s" * 80))
    )
    api.state.keys.create("colleague", labels={"owner": "somebody"})
    page = at_the_machine(api).act(LOGIN, f"{LOGIN}/statement", **STATEMENT)
    assert page.status_code == 403
    assert "Client key colleague is somebody&#39;s" in page.text
    assert not api.home.statement.exists()
