"""What a gateway raises alerts for: dead logins, budgets at 75 and 95 %, requests that no account could serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool import runs as j
from tokenferry.alerts import Alert, Alerts
from tokenferry.config import Config
from tokenferry.ledger import BudgetState
from tokenferry.serve._alerts import alerts_of
from tokenferry.state import State

END = 1_800_057_600


class Told:
    """A gateway's alerts, and what is wrong with it."""

    def __init__(self, state: State) -> None:
        self.rig = j.Rig(("a", "b"))
        self.states: dict[str, str] = {}
        self.used = 0
        self.alerts = alerts_of(
            Config(), state.alerts, self.rig.pool, states=lambda: self.states, budgets=lambda: [self.budget()]
        )

    def budget(self) -> BudgetState:
        title = "the budget of $20.00 a day for client key ci"
        return BudgetState("key:ci", title, "", "usd", "day", 20_000_000, self.used, 0, 0, END * 1000)

    def look(self, monkeypatch: pytest.MonkeyPatch) -> list[Alert]:
        said: list[Alert] = []

        def deliver(_: Alerts, alert: Alert) -> float:
            said.append(alert)
            return float("inf")

        monkeypatch.setattr(Alerts, "_deliver", deliver)
        self.alerts.look()
        return said


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with State(tmp_path / "home" / "state.db") as state:
        yield Told(state)


def test_a_dead_login_is_sent_with_its_cure(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.states = {"alice": "fresh", "bob": "needs-login", "carol": "refused", "dave": "limited"}
    said = told.look(monkeypatch)
    assert [(one.kind, one.subject) for one in said] == [("needs-login", "bob"), ("needs-login", "carol")]
    assert "tokenferry account show bob" in said[0].message


def test_a_budget_is_sent_at_75_and_at_95_per_cent_once_a_period(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for used in (14_900_000, 15_000_000, 18_000_000, 19_100_000, 25_000_000):
        told.used = used
        found.append([(one.message.partition(" of")[0], one.until) for one in told.look(monkeypatch)])
    assert found == [[], [("75 %", END)], [], [("95 %", END)], []]
    told.used = 0
    told.look(monkeypatch)
    told.used = 15_500_000
    (alert,) = told.look(monkeypatch)
    assert alert.message == "77 % of the budget of $20.00 a day for client key ci is used, until 2027-01-16 00:00 UTC"


def test_a_request_that_no_account_can_serve_is_sent(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told.rig.serve(j.ANY, j.limited(), j.limited()) == ["a", "b"]
    (alert,) = told.look(monkeypatch)
    assert (alert.kind, alert.subject) == ("exhausted", "")
    assert alert.message.startswith("no account can serve this now (a: ")
