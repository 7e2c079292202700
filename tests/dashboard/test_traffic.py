"""Requests, sessions and their stories in the dashboard."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from admin.rig import Api
from dashboard.person import Person
from dashboard.test_now import MARKUP
from ledger.books import PRICES, entry
from tokenferry.ledger import Ledger, LedgerEntry
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


def test_a_time_that_is_none_is_refused_with_a_sentence(boss: Person) -> None:
    answer = boss.open("/dashboard/traffic?since=yesterday")
    assert answer.status_code == 400
    assert "&#39;yesterday&#39; is no time" in answer.text


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
