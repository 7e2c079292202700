"""The accounts in the dashboard: what is shown of each, and what its forms do."""

import time
from datetime import UTC, datetime
from html import unescape
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from admin.rig import Api
from dashboard.person import Person
from leaks import shows
from ledger.books import PRICES
from tokenferry.audit import note_change
from tokenferry.credentials import ApiKey
from tokenferry.ledger import Ledger, WindowPoint
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.state import Cooldown, Scope
from tokenferry.stores import Account

KEY = "sk-ant-api03-the-key-of-somebody-who-trusts-us"
LIST = "/dashboard/accounts"


@pytest.fixture
def work(api: Api) -> str:
    api.broker.add(Account("work", "anthropic", "api-key", created_at=int(time.time())), ApiKey(Secret(KEY)))
    return f"{LIST}/work"


def last(api: Api) -> tuple[str, str, str]:
    line = api.audit()[-1]
    return line["action"], line["name"], line["client"]


def test_a_key_is_added_and_never_shown(api: Api, boss: Person) -> None:
    page = boss.act(LIST, LIST, name="work", provider="anthropic", key=KEY)
    assert "Stored account work." in page.text
    assert 'href="/dashboard/keys/new">Create a key</a>' in page.text
    assert "Create a key" not in boss.open(f"{LIST}/work").text
    assert not shows(page.text, KEY)
    assert api.broker.book.read("work").credential.secret.reveal() == KEY
    assert last(api) == ("account.add", "work", "boss")
    assert "Stored account work." not in boss.open(LIST).text, "a message is shown once"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "a b", "key": KEY}, "be an account&#39;s name"),
        ({"name": "work", "key": ""}, "the key is empty"),
        ({"name": "work", "key": KEY, "provider": "nobody"}, "no provider &#39;nobody&#39;"),
    ],
)
def test_a_rejected_account_is_reported_and_the_typed_text_stays(
    api: Api, boss: Person, fields: dict[str, str], told: str
) -> None:
    page = boss.act(LIST, LIST, **{"provider": "anthropic", **fields})
    assert page.status_code >= 400
    assert told.lower() in page.text.lower()
    assert 'role="alert"' in page.text
    assert f'value="{fields["name"]}"' in page.text
    assert not shows(page.text, KEY)
    assert api.broker.book.store.names() == []


def test_an_account_is_paused_and_resumed(api: Api, boss: Person, work: str) -> None:
    page = boss.act(f"{work}?pause=1", f"{work}/pause")
    assert "out of service until you resume it" in page.text
    assert api.broker.book.read("work").account.paused
    for path in (LIST, work):
        assert '<span class="state calm"><span aria-hidden="true">○</span> paused</span>' in boss.open(path).text
        assert "</span> fresh" not in boss.open(path).text
    boss.act(LIST, f"{work}/pause")
    assert not api.broker.book.read("work").account.paused
    assert last(api) == ("account.resume", "work", "boss")


def test_a_pause_ends_in_the_time_zone_of_the_browser(api: Api, boss: Person, work: str) -> None:
    form = f"{work}?pause=1"
    page = boss.act(form, f"{work}/pause", until="tomorrow", zone="Pacific/Auckland").text
    account = api.broker.book.read("work").account
    auckland = ZoneInfo("Pacific/Auckland")
    end = datetime.fromtimestamp(account.paused_until or 0, auckland)
    assert account.paused
    assert (end.hour, (end.date() - datetime.now(auckland).date()).days) == (8, 1)
    assert f"out of service until {end:%Y-%m-%d} 08:00 NZ" in page
    for path in (LIST, work):
        state = boss.open(path).text.partition('<span class="state calm">')[2].partition("</time></span>")[0]
        assert "paused until" in state
        assert f'datetime="{end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"' in state
    assert f'href="{work}?pause=1"' not in boss.open(LIST).text
    boss.act(work, f"{work}/pause")
    for field, value, wrong in (
        ("until", "2026-01-01T08:00", "is in the past"),
        ("for", "a while", "not a span of time"),
    ):
        refused = boss.act(form, f"{work}/pause", **{field: value})
        assert wrong in refused.text
        assert 'role="alert"' in refused.text
    assert "not a time zone" in boss.act(form, f"{work}/pause", **{"for": "1h", "zone": "../../etc/passwd"}).text
    assert not api.broker.book.read("work").account.paused
    boss.act(form, f"{work}/pause", **{"for": "1h", "zone": ""})
    assert 0 < (api.broker.book.read("work").account.paused_until or 0) - time.time() <= 3601


@pytest.mark.parametrize("family", ["", "claude-sonnet"])
def test_a_limited_account_says_until_when_wherever_it_is_shown(api: Api, boss: Person, work: str, family: str) -> None:
    until = int(time.time()) + 3600
    api.state.cooldowns.put(Cooldown(Scope("account", "work", family), "rate-limit", "answer", until))
    with Ledger(api.home.ledger) as ledger:
        ledger.write([], PRICES, [WindowPoint("work", "5h", time.time(), 0.5, time.time() + 60)])
    for path in (LIST, work, "/dashboard/"):
        page = boss.open(path).text
        state = page.partition('<span class="state warning">')[2].partition("</time></span>")[0]
        assert "limited until" in state
        assert f"{datetime.fromtimestamp(until, UTC):%H:%M} UTC" in state
        assert "</span> fresh" not in page
    assert family in boss.open(LIST).text


def test_order_and_labels_are_set(api: Api, boss: Person, work: str) -> None:
    assert "has priority 10" in boss.act(work, f"{work}/order", priority="10").text
    assert "whole number" in boss.act(work, f"{work}/order", priority="soon").text
    boss.act(work, f"{work}/label", label="team", value="build")
    account = api.broker.book.read("work").account
    assert (account.priority, dict(account.labels)) == (10, {"team": "build"})
    boss.act(work, f"{work}/label", label="team", value="")
    assert not api.broker.book.read("work").account.labels


def test_a_key_is_replaced_by_another(api: Api, boss: Person, work: str) -> None:
    assert "Replaced account work." in boss.act(work, f"{work}/key", key=KEY + "2").text
    assert api.broker.book.read("work").credential.secret.reveal() == KEY + "2"


def test_a_cooldown_is_shown_with_its_evidence_and_ended(api: Api, boss: Person, work: str) -> None:
    until = int(time.time()) + 600
    api.state.cooldowns.put(Cooldown(Scope("account", "work"), "rate_limited", "headers", until, "5h is used up", 0))
    page = boss.open(work).text
    assert "5h is used up" in page
    assert "rate_limited" in page
    assert "Ended 1 cooldowns" in boss.act(work, f"{work}/clear").text
    assert not api.state.cooldowns.list()


def test_removing_asks_again_in_place_and_says_what_becomes_of_the_key(api: Api, boss: Person, work: str) -> None:
    page = boss.open(work).text
    assert "It stays good at anthropic until you delete it there" in page
    assert "Removed account work." in boss.act(work, f"{work}/remove").text
    assert api.broker.book.store.names() == []
    assert boss.open(work).status_code == 404
    assert last(api) == ("account.remove", "work", "boss")


def test_a_table_sorts_and_filters_by_links(api: Api, boss: Person, work: str) -> None:
    for name in ("alpha", "zulu"):
        api.broker.add(Account(name, "sandbox", "api-key", created_at=int(time.time())), ApiKey(Secret(KEY + name)))

    def order(query: str) -> list[int]:
        page = boss.open(f"{LIST}{query}").text
        return [page.find(f'{LIST}/{name}">{name}</a>') for name in ("alpha", "work", "zulu")]

    assert order("?sort=name") == sorted(order("?sort=name"))
    assert order("?sort=-name") == sorted(order("?sort=-name"), reverse=True)
    assert [at < 0 for at in order("?provider=sandbox")] == [False, True, False]
    assert [at < 0 for at in order("?q=ZU&state=fresh")] == [True, True, False]
    assert 'aria-sort="ascending"' in boss.open(f"{LIST}?sort=name").text
    assert boss.open(f"{LIST}?sort=nonsense&state=%00").status_code == 200


def test_who_only_looks_sees_no_form(api: Api, work: str) -> None:
    _, key = api.state.keys.create("looker", role="viewer")
    viewer = Person(api)
    viewer.sign_in(key.reveal())
    for path in (LIST, work):
        assert viewer.open(path).text.count('method="post"') == 1, "signing out"
    assert viewer.open("/dashboard/login").status_code == 403


MARKUP = [
    "<img src=x onerror=alert(1)>",
    "'><svg onload=alert(1)>",
    "{{7*7}}",
    "javascript:alert(1)",
    "\u2028<b>",
    'x" hx-get="/x',
]


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_names_from_outside_is_text(api: Api, boss: Person, work: str, markup: str) -> None:
    boss.act(work, f"{work}/label", label="note", value=markup.replace("\u2028", ""))
    until = int(time.time()) + 600
    api.state.cooldowns.put(Cooldown(Scope("account", "work"), "rate_limited", "headers", until, markup, 0))
    shown = [boss.open(path).text for path in (LIST, work, "/dashboard/", f"{LIST}?q={quote(markup)}")]
    shown += [boss.open(f"{LIST}/{quote(markup, safe='')}").text]
    shown += [boss.act(LIST, LIST, name=markup, provider="anthropic", key=KEY).text]
    for page in shown:
        for tag in ("<img src=x", "<svg onload", "<b>", 'hx-get="/x"', 'href="javascript:'):
            assert tag not in page
        assert ">49<" not in page
    assert markup.replace("\u2028", "") in unescape(shown[1]), "it is there, as text"


def test_a_key_that_a_check_finds_refused_serves_no_more_until_it_is_accepted(
    api: Api, boss: Person, sandbox: Sandbox
) -> None:
    good = sandbox.api_key("alice")
    api.broker.add(Account("work", "sandbox", "api-key", created_at=1), ApiKey(Secret("sk-ant-api03-" + "x" * 80)))
    path = f"{LIST}/work"
    page = boss.act(path, f"{path}/check")
    assert page.status_code == 409
    assert "refuses it (HTTP 401)" in page.text
    assert "</span> refused</span>" in page.text
    assert "refused" in boss.open("/dashboard/").text
    (cooldown,) = api.state.cooldowns.list()
    assert (cooldown.cause, cooldown.source) == ("refused", "check")
    boss.act(path, f"{path}/key", key=good)
    assert "</span> refused</span>" not in boss.open(path).text, "what was said of one key isn't true of the next"
    assert "accepts it" in boss.act(path, f"{path}/check").text
    assert not api.state.cooldowns.list()


def test_a_page_shows_how_windows_were_used_and_what_was_changed(api: Api, boss: Person, work: str) -> None:
    now = time.time()
    with Ledger(api.home.ledger) as ledger:
        ledger.write([], PRICES, [WindowPoint("work", "5h", now - 3600 * at, 0.1 * at, now + 3600) for at in range(4)])
    boss.act(work, f"{work}/order", priority="7")
    note_change(api.home, "account.import", "work", client="<img src=x>", source="<b>")
    page = boss.open(work).text
    assert '<polyline class="l1" points="' in page
    assert "audit.log" in page
    assert ">account.set</td>" in page
    assert "priority 7" in page
    assert "&lt;img src=x&gt;" in page
    assert "<b>" not in page


def test_a_copied_login_is_confirmed_by_a_button(api: Api, boss: Person) -> None:
    api.log_in("work")
    document = api.broker.book.read("work")
    api.broker.book.store.swap("work", document.generation, replace(document, machine="another"))
    path = f"{LIST}/work"
    assert "copied" in boss.open(path).text
    assert "Account work belongs to this machine now." in boss.act(path, f"{path}/confirm").text
    assert "copied" not in boss.open(LIST).text
