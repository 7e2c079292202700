"""The view of now says what serves, what a person has to do, and where each number comes from."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.books import PRICES, entry
from tokenferry.accounts import AccountChanges
from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.ledger import Ledger, UsageReport, WindowPoint
from tokenferry.readiness import ServiceStatus, services
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import Cooldown, GatewayRegistration, Scope, State
from tokenferry.stores import Account
from tokenferry.views import LedgerReader, NowView, now_view, open_windows

SERVED = ServiceStatus(None, 200, "it comes first", "work", "anthropic")
NOON = datetime.now().replace(hour=12, minute=0, second=0, microsecond=0).timestamp()  # noqa: DTZ005  # this machine's
Look = Callable[..., NowView]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path / "home"))
    found = Home.from_environment()
    found.path.mkdir(mode=0o700)
    return found


@pytest.fixture
def broker(home: Home) -> Broker:
    broker = Broker.from_home(home)
    broker.add(Account("work", "anthropic", "api-key", created_at=1), ApiKey(Secret("sk-ant-api03-fake")))
    return broker


@pytest.fixture
def look(home: Home, broker: Broker) -> Look:
    def look(*services: ServiceStatus, now: float = NOON) -> NowView:
        return now_view(home, broker, LedgerReader(home), services, now=now)

    return look


@pytest.fixture
def running(home: Home) -> Iterator[GatewayRegistration]:
    registration = GatewayRegistration(home, url="http://127.0.0.1:9")
    yield registration
    registration.end()


def figures(view: NowView) -> dict[str, tuple[str, str]]:
    return {one.name: (one.text, one.provenance) for one in view.figures}


def test_without_accounts_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path / "none"))
    home = Home.from_environment()
    view = now_view(home, Broker.from_home(home), LedgerReader(home), [], now=NOON)
    assert (view.sentence, view.needs, view.windows) == ("There is no account yet.", (), ())
    assert not home.path.exists(), "to look makes no file"


def test_a_dead_login_is_what_a_person_has_to_see_to(broker: Broker, look: Look) -> None:
    login = OAuthToken(Secret("fake"), None, expires_at=int(time.time()) - 60)
    broker.add(Account("dead", "claude-max", "oauth", owner="tokenferry"), login)
    view = look(SERVED, now=time.time())
    assert view.usable == {"work"}
    assert view.sentence == "No gateway runs. 1 of 2 accounts usable."
    assert [(one.account, one.cure) for one in view.needs] == [("dead", "tokenferry login dead")]


def test_an_unserved_request_is_reported_with_the_clients_answer(look: Look) -> None:
    view = look(ServiceStatus("fast", 429, "work: limited"))
    assert [(one.subject, one.text) for one in view.needs] == [
        ("model fast", "nothing serves it, a client gets 429: work: limited")
    ]
    assert not view.is_serving


def test_a_login_that_a_person_must_renew_is_not_usable_though_its_token_works(broker: Broker, look: Look) -> None:
    now = int(time.time())
    login = OAuthToken(Secret("fake"), Secret("dead"), expires_at=now + 3600, refresh_expires_at=now - 60)
    broker.add(Account("dead", "claude-max", "oauth", owner="tokenferry"), login)
    assert look(SERVED, now=now).usable == {"work"}


def test_models_whose_accounts_are_all_limited_are_said_to_be_with_the_end(
    home: Home, look: Look, running: GatewayRegistration
) -> None:
    now = time.time()
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "work", "claude-sonnet"), "limit", "answer", int(now) + 38))
    limited = ServiceStatus("claude-sonnet", 429, "work: It is limited")
    view = look(SERVED, limited, now=int(now))
    assert view.sentence == (
        "Serving all but claude-sonnet: its accounts are limited. 1 of 1 account usable; the next one is back in 38 s."
    )
    assert view.is_serving
    assert not view.is_whole
    assert look(SERVED, now=now).is_whole
    two = look(SERVED, limited, ServiceStatus("fast", 503, "nobody"), now=now)
    assert two.sentence.startswith("Serving all but claude-sonnet, fast. ")


def test_a_paused_account_that_would_serve_is_offered(home: Home, broker: Broker, look: Look) -> None:
    broker.amend("work", AccountChanges(paused=True))
    with State(home.state) as state:
        found = services(load(home.config), broker, state, {"work": "fresh"})
    view = look(*found)
    (need,) = view.needs
    assert (need.paused, need.cure) == (("work",), "tokenferry account resume work")
    assert need.text.endswith("work: It is paused")
    assert view.usable == frozenset()


def test_a_limited_account_is_not_usable_and_comes_back(home: Home, look: Look) -> None:
    now = time.time()
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "work"), "limit", "answer", int(now) + 7260))
    view = look(SERVED, now=now)
    assert view.usable == frozenset()
    assert view.sentence.endswith("0 of 1 account usable; the next one is back in 2 h.")


def test_numbers_are_those_of_their_time_and_say_where_they_come_from(home: Home, look: Look) -> None:
    assert figures(look())["cost today"] == ("$0.00", "official")
    told = [
        entry(1, at=NOON - 60, input=1000, output=0),
        entry(2, at=NOON - 1800, input=10**6, output=0, error="overloaded_error", status=529),
        entry(3, at=NOON - 13 * 3600, input=10**9, output=0),
        entry(4, at=NOON - 90, billing="plan", input=10**6, output=0, account="max"),
    ]
    with Ledger(home.ledger) as ledger:
        ledger.write(told, PRICES)
    view = look()
    assert figures(view) == {
        "requests a minute": ("0.4", "official"),
        "tokens a minute": ("200.2k", "official"),
        "failed in the last hour": ("1 of 3", "official"),
        "cost today": (view.figures[3].text, "estimate"),
        "covered by plans today": (view.figures[4].text, "estimate"),
    }
    assert view.today["alice"].cost > view.today["alice"].plan == 0
    assert view.today["max"].plan > view.today["max"].cost == 0
    assert [one.request_id for one in view.errors] == ["tf_2"]
    assert sum(point.requests for point in view.minutes) == 3


@pytest.mark.parametrize(
    ("fields", "provenance"),
    [({"input": None, "output": None}, "unknown"), ({"is_estimated": True}, "estimate"), ({}, "official")],
)
def test_tokens_are_only_as_sure_as_the_answers_were(
    home: Home, look: Look, fields: dict[str, Any], provenance: str
) -> None:
    with Ledger(home.ledger) as ledger:
        ledger.write([entry(1, at=NOON - 60, **fields)], PRICES)
    assert figures(look())["tokens a minute"][1] == provenance


def test_a_ledger_that_cannot_be_read_hides_nothing_else(home: Home, look: Look) -> None:
    home.ledger.write_bytes(b"no database" * 100)
    home.ledger.chmod(0o600)
    view = look(SERVED)
    assert "ledger.db" in view.fault
    assert view.usable == {"work"}


def points(*used: float, every: float = 600, reset: float = 7200) -> list[WindowPoint]:
    first = NOON - every * (len(used) - 1)
    return [WindowPoint("work", "5h", first + every * at, one, NOON + reset) for at, one in enumerate(used)]


@pytest.mark.parametrize(
    ("given", "dry_after"),
    [
        (points(0.4, 0.5, 0.6), 2400),
        (points(0.5, 0.5), None),
        (points(0.1, 0.11, 0.12), None),
        (points(0.9, 0.2, 0.6), 600),
        (points(0.8, 1.0), None),
        (points(0.5, 0.6, every=60), None),
    ],
    ids=["rises", "rests", "ends before", "rolled over", "is used up", "is too short"],
)
def test_when_a_window_runs_dry_follows_from_its_last_hour(
    tmp_path: Path, given: list[WindowPoint], dry_after: float | None
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write([], PRICES, given)
        (found,) = open_windows(UsageReport(ledger), NOON)
        assert open_windows(UsageReport(ledger), NOON + 7200) == []
    assert (found.used, found.reset) == (given[-1].used, NOON + 7200)
    assert (found.dry_at is None) == (dry_after is None)
    assert found.dry_at == pytest.approx(None if dry_after is None else NOON + dry_after, abs=1)
