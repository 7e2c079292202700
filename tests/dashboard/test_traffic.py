"""Requests, sessions and their stories in the dashboard."""

import csv
import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from admin.rig import Api
from dashboard.person import Person
from dashboard.test_now import MARKUP
from ledger.books import PRICES, entry
from tokenferry.ledger import Ledger, LedgerEntry
from tokenferry.sandbox import Sandbox
from tokenferry.state import Decision


@pytest.fixture
def ledger(api: Api) -> Iterator[Ledger]:
    with Ledger(api.home.ledger) as ledger:
        yield ledger


def lately(number: int, ago: float = 60, **fields: object) -> LedgerEntry:
    return entry(number, at=time.time() - ago, **fields)


def test_without_requests_it_says_how_to_send_one(boss: Person) -> None:
    page = boss.open("/dashboard/traffic").text
    assert "No request yet" in page
    assert "tokenferry run -- claude" in page
    assert "tokenferry token --gateway" in page


def test_links_filter_sort_and_page(boss: Person, ledger: Ledger) -> None:
    many = [lately(number, ago=number + 1, account=("alice", "bob")[number % 2]) for number in range(120)]
    ledger.write(many, PRICES)
    page = boss.open("/dashboard/traffic").text
    assert page.count('<td data-label="When">') == 50
    older = page.split('">Older requests')[0].rpartition('href="')[2].replace("&amp;", "&")
    second = boss.open(f"/dashboard/traffic{older}").text
    assert "requests/tf_49?" not in second
    assert "requests/tf_50?" in second
    bob = boss.open("/dashboard/traffic?account=bob&sort=cost").text
    assert 'aria-sort="descending"' in bob
    assert "requests/tf_99?" in bob
    assert "requests/tf_98?" not in bob
    assert "<option selected>bob</option>" in bob
    assert "No request matches" in boss.open("/dashboard/traffic?account=nobody").text


def test_headings_lead_to_the_order_and_back(boss: Person, ledger: Ledger) -> None:
    ledger.write([lately(number, ago=number + 1, session=f"s-{number % 3}") for number in range(60)], PRICES)

    def rows(page: str, kind: str) -> list[str]:
        return re.findall(rf"/traffic/{kind}/([^?\"]+)", page)

    def follow(page: str, label: str) -> str:
        href = re.findall(rf'<a href="([^"]*)">{label}(?: <span[^>]*>.</span>)?</a>', page)[0].replace("&amp;", "&")
        return boss.open(f"/dashboard/traffic{href}").text

    page = boss.open("/dashboard/traffic").text
    oldest = follow(page, "When")
    assert rows(oldest, "requests")[:2] == ["tf_59", "tf_58"]
    assert 'aria-sort="ascending"' in oldest
    assert rows(follow(oldest, "Newer requests"), "requests")[-1] == "tf_0"
    assert rows(follow(oldest, "When"), "requests")[0] == "tf_0"
    tokens = follow(page, "Tokens")
    assert 'aria-sort="descending"' in tokens
    assert 'aria-sort="ascending"' in follow(tokens, "Tokens")
    sessions = boss.open("/dashboard/traffic?shows=sessions").text
    assert rows(sessions, "sessions") == ["s-0", "s-1", "s-2"]
    turned = follow(sessions, "Last request")
    assert rows(turned, "sessions") == ["s-2", "s-1", "s-0"]
    assert 'aria-sort="ascending"' in turned
    assert 'aria-sort="descending"' in follow(turned, "Tokens")


def test_a_request_is_found_by_its_id_and_an_unknown_one_says_so(api: Api, boss: Person, ledger: Ledger) -> None:
    ledger.write([lately(1)], PRICES)
    assert 'action="/dashboard/traffic/requests"' in boss.open("/dashboard/traffic").text
    for text in ("tf_1", "%20tf_1%20", "x-tokenferry-request-id:%20tf_1"):
        assert "Request <code>tf_1</code>" in boss.open(f"/dashboard/traffic/requests?id={text}").text
    unknown = boss.open(f"/dashboard/traffic/requests?id={quote(MARKUP)}")
    assert unknown.status_code == 404
    assert "Nothing is stored about request" in unknown.text
    assert "<img src=x" not in unknown.text
    assert boss.open("/dashboard/traffic/requests?id=").status_code == 400


def test_requests_under_way_are_the_first_rows(api: Api, boss: Person, sandbox: Sandbox) -> None:
    api.log_in("work")
    _, key = api.state.keys.create("laptop")
    body = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    sandbox.fault("hang", path="/v1/messages")
    call = threading.Thread(target=lambda: api.post("/v1/messages", body, key=key.reveal()))
    call.start()
    try:
        sandbox.wait_until(lambda counters: counters["in_flight"] == 1)
        page = boss.open("/dashboard/traffic").text
        assert "in flight" in page
        assert "waits for the provider" in page
        assert '<td data-label="Key">laptop</td>' in page
        (request_id,) = re.findall(r'/traffic/requests/(tf_[^"]+)"', page)
        assert "it waits for the provider; it began" in boss.open(f"/dashboard/traffic/requests?id={request_id}").text
        for query in ("status=failed", "key=nobody", "shows=sessions", f"since={int(time.time() * 1000) - 9000}"):
            assert "waits for the provider" not in boss.open(f"/dashboard/traffic?{query}").text
        assert "waits for the provider" in boss.open("/dashboard/traffic?key=laptop&range=1h&sort=cost").text
    finally:
        sandbox.clear()
        call.join()
    assert "in flight" not in boss.open("/dashboard/traffic").text


def test_what_is_listed_is_saved_as_a_table_without_formulas(api: Api, boss: Person, ledger: Ledger) -> None:
    ledger.write([lately(number, ago=number, account="=cmd()" if number else "alice") for number in range(70)], PRICES)
    answer = boss.open("/dashboard/traffic.csv?account=%3Dcmd()&order=up")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="tokenferry-requests.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["request_id"] for row in rows] == [f"tf_{number}" for number in range(69, 0, -1)]
    assert {row["account"] for row in rows} == {"'=cmd()"}
    (session,) = csv.DictReader(io.StringIO(boss.open("/dashboard/traffic.csv?shows=sessions").text))
    assert (session["session"], session["requests"]) == ("s-1", "70")
    assert Person(api).open("/dashboard/traffic.csv").status_code == 401
    _, key = api.state.keys.create("laptop")
    client = Person(api)
    client.sign_in(key.reveal())
    assert client.open("/dashboard/traffic.csv").status_code == 403
    assert client.open("/dashboard/traffic/requests?id=tf_1").status_code == 403


def test_a_time_that_is_none_is_refused_with_a_sentence(boss: Person) -> None:
    answer = boss.open("/dashboard/traffic?since=yesterday")
    assert answer.status_code == 400
    assert "&#39;yesterday&#39; is not a time" in answer.text


def test_the_story_of_a_request_has_its_steps_and_its_numbers(api: Api, boss: Person, ledger: Ledger) -> None:
    one = lately(1, status=200, attempts=2, duration=40)
    ledger.write([one], PRICES)
    steps = [
        {"ms": 0, "what": "tried", "account": "alice", "why": "it comes first"},
        {"ms": 38_000, "what": "answered", "account": "alice", "status": 529, "means": "overloaded", "plan": "choose"},
        {
            "ms": 38_000,
            "what": "tried",
            "account": "bob",
            "why": "it is next",
            "wait_ms": 14_569,
            "wait_why": "it asked",
        },
        {"ms": 66_000, "what": "served", "account": "bob"},
    ]
    content = {
        "client": "laptop",
        "method": "POST",
        "path": "/v1/messages",
        "status": 200,
        "ms": 40_000,
        "steps": steps,
    }
    api.state.decisions.add([Decision("tf_1", int(one.at), content | {"steps": steps})])
    page = boss.open("/dashboard/traffic/requests/tf_1").text
    assert "+38000 ms" in page
    assert "alice answered 529: overloaded; on to the next account" in page
    assert "waits 14.6 s: it asked" in page
    assert "+52569 ms" in page
    assert "bob answered 200, which went to the client (the provider took 13.4 s)" in page
    assert "14.6 s of it waiting here" in page
    assert "200 after 40000 ms" in page
    assert "as the answer reported them" in page
    assert 'href="/dashboard/traffic/sessions/s-1"' in page
    assert boss.open("/dashboard/traffic/requests/tf_2").status_code == 404


def test_a_session_shows_its_agents_as_a_tree(boss: Person, ledger: Ledger) -> None:
    ledger.write(
        [
            lately(1),
            lately(2, agent="child", parent_agent="top"),
            lately(3, agent="top"),
            lately(4, agent="a", parent_agent="b"),
            lately(5, agent="b", parent_agent="a"),
        ],
        PRICES,
    )
    page = boss.open("/dashboard/traffic/sessions/s-1").text
    places = [page.index(f"agent={name}") for name in ("top", "child", "a", "b")]
    assert places == sorted(places), "each once, below the one that started it; none is lost"
    assert "s-1" in boss.open("/dashboard/traffic?shows=sessions").text
    assert boss.open("/dashboard/traffic/sessions/s-9").status_code == 404


@pytest.mark.parametrize("path", ["/traffic", "/traffic?shows=sessions", "/traffic/requests/tf_1"])
def test_markup_in_what_comes_from_outside_is_text(boss: Person, ledger: Ledger, path: str) -> None:
    names: dict[str, Any] = dict.fromkeys(
        ("error", "model", "asked", "account", "key_name", "session", "agent", "provider"), MARKUP
    )
    ledger.write([lately(1, **names)], PRICES)
    page = boss.open(f"/dashboard{path}").text
    assert "<img src=x" not in page
    assert "onerror" in page


@pytest.mark.parametrize(
    "query",
    [
        "since=0&until=999999999999999",
        "status=99999999999999999999",
        "status=failed%00",
        "behind=999999999999999999.tf_x&sort=cost",
        "behind=-1.",
        "account=%F0%9F%9A%A2%ED%A0%80&sort=nonsense&by=nonsense&of=nonsense&shows=nonsense&range=9y",
    ],
)
def test_no_address_makes_a_page_fail_or_grow(boss: Person, ledger: Ledger, query: str) -> None:
    ledger.write([lately(1)], PRICES)
    answer = boss.open(f"/dashboard/traffic?{query}")
    assert answer.status_code == 200
    assert len(answer.content) < 300_000
