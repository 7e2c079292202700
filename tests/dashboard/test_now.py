"""The first page: what serves, what needs a person, and numbers that say where they come from."""

import time
from collections.abc import Iterator

import pytest

from admin.rig import Api
from dashboard.person import Person
from ledger.books import PRICES, entry
from tokenferry.accounts import AccountChanges
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.ledger import Ledger, LedgerEntry, WindowPoint
from tokenferry.secret import Secret
from tokenferry.stores import Account

NOW = "/dashboard/"
MARKUP = "<img src=x onerror=alert(1)>\u2028{{7*7}}"


@pytest.fixture
def ledger(api: Api) -> Iterator[Ledger]:
    with Ledger(api.home.ledger) as ledger:
        yield ledger


def lately(number: int, **fields: object) -> LedgerEntry:
    return entry(number, at=time.time() - 30, **fields)


def test_an_empty_home_leads_to_the_first_account(boss: Person) -> None:
    page = boss.open("/dashboard/").text
    assert "There is no account yet." in page
    assert 'href="/dashboard/accounts"' in page


def test_a_dead_login_is_two_clicks_from_its_cure(api: Api, boss: Person) -> None:
    dead = OAuthToken(Secret("fake"), None, expires_at=int(time.time()) - 60)
    api.broker.add(Account("me@example.com", "sandbox", "oauth", owner="tokenferry"), dead)
    page = boss.open("/dashboard/").text
    assert "needs login" in page
    assert 'href="/dashboard/accounts/me%40example.com"' in page


def test_a_paused_account_that_would_serve_is_resumed_there(api: Api, boss: Person) -> None:
    api.broker.add(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-fake")))
    api.broker.amend("work", AccountChanges(paused=True))
    page = boss.open(NOW).text
    assert "Resume work" in page
    assert "tokenferry account resume" not in page
    after = boss.act(NOW, "/dashboard/accounts/work/pause").text
    assert "Account work is back in service." in after
    assert "Needs you" not in after
    assert not api.broker.book.read("work").account.paused


def test_numbers_say_where_they_come_from(api: Api, boss: Person, ledger: Ledger) -> None:
    api.broker.add(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-fake")))
    failed = lately(2, status=529, error="overloaded_error")
    ledger.write([lately(1), failed], PRICES, [WindowPoint("work", "5h", time.time(), 0.5, time.time() + 60)])
    page = boss.open("/dashboard/").text
    assert "estimate: at list prices" in page
    assert "as answers reported them" in page
    assert 'aria-label="5h: 50% used"' in page
    assert f"/dashboard/traffic/requests/tf_2?at={int(failed.at * 1000)}" in page


def test_markup_in_what_comes_from_outside_is_text(api: Api, boss: Person, ledger: Ledger) -> None:
    api.broker.add(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-fake")))
    ledger.write([lately(1, error=MARKUP, model=MARKUP, asked=MARKUP, account=MARKUP, key_name=MARKUP)], PRICES)
    page = boss.open("/dashboard/").text
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 4
    assert "49" not in page.partition("&lt;img")[2][:60]


def test_a_client_key_sees_its_own_requests_alone(api: Api, ledger: Ledger) -> None:
    key, secret = api.state.keys.create("mine")
    ledger.write(
        [
            lately(1, key_id=key.id, key_name="mine", model="claude-opus-5"),
            lately(2, key_id="key_other", key_name="other", model="claude-haiku-4-5", account="secret-account"),
        ],
        PRICES,
    )
    api.state.keys.allot("mine", ["20usd/day"])
    person = Person(api)
    person.sign_in(secret.reveal())
    page = person.open("/dashboard/").text
    assert "mine: your usage" in page
    assert "$20.00 a day" in page
    assert "claude-opus-5" in page
    assert "claude-haiku-4-5" not in page
    assert "secret-account" not in page
    assert "alice" not in page


def test_a_form_is_sent_with_the_origin_of_its_page(boss: Person) -> None:
    """With the policy `no-referrer` browsers send `Origin: null` with forms, which the guard refuses."""
    assert boss.open("/dashboard/").headers["referrer-policy"] == "same-origin"


def test_used_up_budgets_need_a_person_those_of_a_key_and_the_shared_ones(
    api: Api, boss: Person, ledger: Ledger
) -> None:
    api.broker.add(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-fake")))
    key, _ = api.state.keys.create("anna", budgets=["1usd/day"])
    with api.home.config.open("a") as config:
        config.write('[[budgets]]\nsubject = "all"\nlimit = "2usd/total"\n')
    ledger.write([lately(1, key_id=key.id, key_name="anna", input=10**7, output=0)], PRICES)
    page = boss.open(NOW).text
    assert "client key anna" in page
    assert "its budget of $1.00 a day is used up, so its requests are refused for" in page
    assert f'href="/dashboard/keys/{key.id}#budgets">Raise the budget</a>' in page
    assert "all client keys" in page
    assert "its budget of $2.00 in total is used up, so its requests are refused until it is raised" in page
    api.state.keys.allot("anna", ["100usd/day"])
    assert "client key anna" not in boss.open(NOW).text
