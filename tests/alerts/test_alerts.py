"""Each cause is said once, by one process, and never holds up anything."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenferry.alerts import Alert, Alerts
from tokenferry.errors import StorageFailed
from tokenferry.secret import Secret
from tokenferry.settings import AlertSettings
from tokenferry.state import State

NOW = 1_800_000_000.0
HOUR = 3600
DEAD = Alert("needs-login", "work", "account work needs a login")
LOGGED = AlertSettings()
POSTED = AlertSettings(webhook=Secret("https://hooks.example.com/secret-path"))


class Process:
    """One of several, with what it has posted."""

    def __init__(self, state: State, settings: AlertSettings = POSTED) -> None:
        self.wrong: list[Alert] = []
        self.posted: list[str] = []
        self.fault: str | None = None
        self.at = NOW
        self.alerts = Alerts(settings, state.alerts, lambda: self.wrong, send=self._send, now=lambda: self.at)

    def _send(self, settings: AlertSettings, alert: Alert, now: float) -> str | None:
        self.posted.append(alert.message)
        return self.fault


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "home" / "state.db") as state:
        yield state


def test_what_holds_is_said_once_and_again_when_it_comes_back_after_an_hour(state: State) -> None:
    process = Process(state)
    process.wrong = [DEAD]
    for _ in range(3):
        process.alerts.look()
        process.at += HOUR
    assert process.posted == [DEAD.message]
    process.wrong = []
    process.alerts.look()
    process.wrong = [DEAD]
    process.alerts.look()
    assert process.posted == [DEAD.message] * 2


def test_it_is_not_said_twice_within_an_hour_however_often_it_comes_and_goes(state: State) -> None:
    process = Process(state)
    for _ in range(5):
        process.wrong = [DEAD]
        process.alerts.look()
        process.wrong = []
        process.alerts.look()
        process.at += 600
    assert process.posted == [DEAD.message]


def test_of_several_processes_one_says_it(state: State, caplog: pytest.LogCaptureFixture) -> None:
    processes = [Process(state) for _ in range(4)]
    with caplog.at_level(logging.WARNING):
        for process in processes:
            process.wrong = [DEAD]
            process.alerts.add(Alert("exhausted", "", "no account can serve this now"))
            process.alerts.look()
    assert sorted(message for process in processes for message in process.posted) == [
        DEAD.message,
        "no account can serve this now",
    ]
    assert caplog.messages == [
        "alert exhausted: no account can serve this now",
        "alert needs-login: account work needs a login",
    ]


def test_a_cause_with_an_end_of_its_own_is_not_said_again_before(state: State) -> None:
    """A budget is said once a period, whoever starts anew."""
    alert = Alert("budget", "all", "76 % is used", NOW + 24 * HOUR, "75")
    for hours, expected in ((0, 1), (5, 0), (23, 0), (25, 1)):
        started = Process(state)
        started.at += hours * HOUR
        started.wrong = [alert._replace(until=NOW + 48 * HOUR) if hours > 24 else alert]
        started.alerts.look()
        assert len(started.posted) == expected
    later = Process(state)
    later.wrong = [alert._replace(stage="95")]
    later.alerts.look()
    assert len(later.posted) == 1, "the next stage is another cause"


def test_a_webhook_that_fails_is_a_warning_and_is_asked_again_after_five_minutes(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(state)
    process.wrong, process.fault = [DEAD], "the webhook at hooks.example.com answered 500"
    process.alerts.look()
    process.at += 200
    process.alerts.look()
    assert len(process.posted) == 1
    process.at, process.fault = NOW + 301, None
    process.alerts.look()
    process.at += HOUR * 5
    process.alerts.look()
    assert len(process.posted) == 2
    assert "an alert was not delivered: the webhook at hooks.example.com answered 500" in caplog.messages


def test_an_event_that_the_webhook_does_not_take_is_sent_again_for_an_hour(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    process, other = Process(state), Process(state)
    event = Alert("exhausted", "", "no account can serve this now")
    process.fault = "the webhook at hooks.example.com answered 500"
    process.alerts.add(event)
    for _ in range(40):
        process.alerts.look()
        process.at += 30
    assert len(process.posted) == 4, "at once, and after 5, 10 and 15 minutes"
    assert caplog.messages.count("alert exhausted: no account can serve this now") == 1
    process.fault = None
    for _ in range(300):
        process.alerts.look()
        process.at += 30
    assert len(process.posted) == 5
    other.at, other.fault = process.at, "the webhook at hooks.example.com answered 500"
    other.alerts.add(event)
    for _ in range(300):
        other.alerts.look()
        other.at += 30
    assert len(other.posted) == 12, "it is old news after an hour"


def test_what_is_not_asked_for_is_not_said(state: State, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(state, AlertSettings(on=("budget",)))
    process.wrong = [DEAD]
    process.alerts.look()
    process.alerts.adopt(AlertSettings(on=("needs-login",)))
    process.wrong = []
    process.alerts.look()
    process.wrong = [DEAD]
    process.alerts.look()
    assert (process.posted, len(caplog.messages)) == ([], 1), "without a webhook it is in the log alone"


def test_what_the_log_has_already_is_posted_alone(state: State, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(state)
    process.wrong = [DEAD._replace(is_logged=True)]
    process.alerts.look()
    assert (process.posted, caplog.messages) == ([DEAD.message], [])


def test_a_state_that_cannot_be_written_says_it_rather_twice_than_never(
    state: State, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(state.alerts, "claim", fail)
    process = Process(state)
    process.wrong = [DEAD]
    process.alerts.look()
    process.alerts.look()
    assert process.posted == [DEAD.message]


def test_what_waits_is_bounded(state: State) -> None:
    process = Process(state)
    for number in range(500):
        process.alerts.add(Alert("exhausted", str(number), f"number {number}"))
    process.alerts.look()
    assert len(process.posted) == 100


def test_its_thread_says_what_happens(state: State) -> None:
    process = Process(state)
    with process.alerts:
        process.alerts.add(DEAD)
    process.alerts.look()
    assert process.posted == [DEAD.message]
