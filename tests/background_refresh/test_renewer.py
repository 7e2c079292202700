"""A renewer over real files, with the clocks and the token endpoint in the test's hands."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from effort import FULL
from refresh.rig import LIFETIME, NAME, PATIENCE, PROVIDERS, START, Rig, answer, put, token, wait_for
from tokenferry.accounts import AccountChanges
from tokenferry.background_refresh import RenewalEvent, Renewer, renewer_of
from tokenferry.broker import Broker
from tokenferry.claude_code.moves import MoveFile, MoveRecord
from tokenferry.credentials import ApiKey
from tokenferry.errors import UnsafeFile, UsageError
from tokenferry.oauth import TokenResponseLost
from tokenferry.secret import Secret
from tokenferry.settings import BackgroundRefreshSettings, Home
from tokenferry.stores import Account, Document, FileLock, MemoryStore

DAY = 86_400.0
QUICK = BackgroundRefreshSettings(look=0.01)


class Kept:
    """A renewer that looks when it is told to, and all that it says."""

    def __init__(self, rig: Rig, **broker: Any) -> None:
        self.rig = rig
        self.steady = 1000.0
        self.events: list[RenewalEvent] = []
        self.broker = rig.broker(**broker)
        self.renewer = self.another()

    def another(self, settings: BackgroundRefreshSettings | None = None) -> Renewer:
        return Renewer(
            self.broker, settings=settings, tell=self.events.append, now=self.rig.clock, steady=lambda: self.steady
        )

    def pass_time(self, seconds: float) -> None:
        self.steady += seconds
        self.rig.clock.advance(seconds)

    def look(self) -> list[RenewalEvent]:
        """One look, the renewals that it begins, and the look after those. Gives what was told."""
        seen = len(self.events)
        self.renewer.step()
        wait_for(lambda: not self.renewer.step())
        return self.events[seen:]

    def told(self, *kinds: str) -> list[RenewalEvent]:
        return [event for event in self.events if event.kind in kinds]


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


@pytest.fixture
def kept(rig: Rig) -> Kept:
    return Kept(rig)


def granted(seconds_ago: float = 0.0, number: int = 0, **changes: Any) -> Any:
    at = int(START - seconds_ago)
    return token(LIFETIME - seconds_ago, number, obtained_at=at, source="refresh", **changes)


def profile_token(name: str = NAME) -> str:
    path = Path.home() / ".config" / "anthropic" / "credentials" / f"{name}.json"
    found: str = json.loads(path.read_text())["access_token"]
    return found


# -- renewing


def test_a_published_account_is_renewed_in_time_and_its_profile_with_it(rig: Rig, kept: Kept) -> None:
    rig.put(granted())
    kept.broker.publish(NAME)
    assert kept.look() == []
    kept.pass_time(LIFETIME - 700)
    assert kept.look() == []
    assert rig.endpoint.requests == 0
    kept.pass_time(100)
    [event] = kept.look()
    assert (event.kind, event.account, event.expires_at) == ("refreshed", NAME, int(rig.clock()) + LIFETIME)
    assert event.fingerprint == Secret("access-1").fingerprint
    assert profile_token() == "access-1"
    assert kept.look() == []
    assert rig.endpoint.requests == 1


def test_over_days_it_is_renewed_once_a_life(rig: Rig, kept: Kept) -> None:
    days = 7 if FULL else 2
    rig.put(granted())
    kept.broker.publish(NAME)
    for _ in range(days * 24 * 12):
        kept.pass_time(300)
        kept.look()
    assert rig.endpoint.requests == days * 24 * 3600 // (LIFETIME - 600)
    assert profile_token() == f"access-{rig.endpoint.requests}"


def test_an_account_that_is_not_published_is_renewed_only_before_its_login_lapses(rig: Rig, kept: Kept) -> None:
    rig.put(granted())
    for day in range(90):
        kept.pass_time(DAY)
        kept.look()
        assert rig.endpoint.requests <= (day + 1) / 17
    assert rig.endpoint.requests == 4


def test_accounts_and_publications_of_others_count_at_the_next_look(rig: Rig, kept: Kept) -> None:
    other = rig.broker()
    assert kept.look() == []
    rig.put(granted(LIFETIME - 300))
    assert kept.look() == []
    other.publisher.publish(NAME)
    [event] = kept.look()
    assert event.kind == "refreshed"
    other.publisher.unpublish(other.publisher.find(NAME, None))
    kept.pass_time(LIFETIME)
    assert kept.look() == []


def test_what_another_process_renewed_since_is_not_renewed_again(rig: Rig, kept: Kept) -> None:
    """The decision was made on a document that is not the present one any more."""
    rig.put(granted(LIFETIME - 300))
    kept.broker.publisher.publish(NAME)
    [before] = [kept.broker.book.read(NAME)]
    rig.broker().renew(NAME)
    wait_for(lambda: [one.standing.state for one in kept.broker.publisher.published()] == ["current"])
    kept.renewer._documents = [before]
    kept.renewer._published = frozenset({NAME})
    kept.renewer._stamps, kept.renewer._next_sweep = kept.renewer._look_at_stamps(), float("inf")
    [event] = kept.look()
    assert event.kind == "refreshed"
    assert event.fingerprint == Secret("access-1").fingerprint
    assert rig.endpoint.requests == 1


def test_many_that_are_due_at_once_are_renewed_a_few_at_a_time(rig: Rig, kept: Kept) -> None:
    for number in range(9):
        rig.put(granted(LIFETIME - 300, number), f"n{number}")
        kept.broker.publisher.publish(f"n{number}")
    rig.endpoint.gate.clear()
    kept.renewer.step()
    wait_for(lambda: rig.endpoint.requests == 4)
    for _ in range(20):
        kept.renewer.step()
    assert rig.endpoint.requests == 4
    rig.endpoint.gate.set()
    kept.look()
    assert sorted(event.account or "" for event in kept.told("refreshed")) == [f"n{number}" for number in range(9)]
    assert rig.endpoint.requests == 9


def test_policy_is_not_asked_for_the_accounts_own_sake(rig: Rig) -> None:
    providers = {"fake": replace(PROVIDERS["fake"], subscription=True)}
    kept = Kept(rig, providers=providers)
    rig.put(granted(25 * DAY))
    assert [event.kind for event in kept.look()] == ["refreshed"]


def test_claude_codes_own_login_is_left_alone_while_its_token_lives(rig: Rig, kept: Kept) -> None:
    rig.put(granted(LIFETIME - 60), owner="claude-code")
    kept.broker.publisher.publish(NAME)
    assert kept.look() == []
    kept.pass_time(62)
    assert [event.kind for event in kept.look()] == ["refreshed"]


def test_chains_of_others_and_what_can_not_be_renewed_are_left_alone(rig: Rig, kept: Kept) -> None:
    rig.put(granted(90 * DAY), "theirs", owner="external")
    rig.put(granted(90 * DAY, refresh=None), "bare")
    assert kept.look() == []
    assert rig.endpoint.requests == 0


# -- failures


def test_a_failing_provider_is_asked_no_more_often_than_the_shared_back_off_allows(rig: Rig, kept: Kept) -> None:
    rig.put(granted(LIFETIME - 600))
    kept.broker.publisher.publish(NAME)
    rig.endpoint.script.extend(answer(500) for _ in range(1000))
    for _ in range(1800):
        kept.pass_time(1)
        kept.look()
    assert 8 < rig.endpoint.requests < 40
    assert len(kept.told("failed")) == 1
    rig.endpoint.script.clear()
    kept.pass_time(301)
    assert [event.kind for event in kept.look()] == ["refreshed"]


def test_a_dead_login_is_reported_once_and_not_tried_again_until_a_new_login(rig: Rig, kept: Kept) -> None:
    rig.put(granted(LIFETIME - 300))
    kept.broker.publisher.publish(NAME)
    rig.endpoint.script.append(answer(400, error="invalid_grant"))
    [event] = kept.look()
    assert event.kind == "needs-login"
    assert "tokenferry login work" in event.text
    for _ in range(50):
        kept.pass_time(3600)
        kept.look()
    assert rig.endpoint.requests == 1
    assert kept.told("needs-login", "failed") == [event]
    rig.put(token(300, 7, lifetime=600, obtained_at=int(rig.clock())))
    kept.pass_time(6)
    assert "refreshed" in [event.kind for event in kept.look()]


def test_a_lost_answer_is_not_asked_for_again_while_the_token_lives(rig: Rig, kept: Kept) -> None:
    rig.put(granted(LIFETIME - 500))
    kept.broker.publisher.publish(NAME)
    rig.endpoint.script.append(TokenResponseLost("the connection broke"))
    assert [event.kind for event in kept.look()] == ["failed"]
    for _ in range(8):
        kept.pass_time(60)
        kept.look()
    assert rig.endpoint.requests == 1
    kept.pass_time(60)
    assert [event.kind for event in kept.look()] == ["refreshed"]


def test_a_broken_document_is_said_once_and_the_others_are_kept(rig: Rig, kept: Kept, home: Home) -> None:
    rig.put(granted(LIFETIME - 300))
    kept.broker.publisher.publish(NAME)
    path = home.accounts / "torn.json"
    path.write_text("{")
    path.chmod(0o600)
    assert sorted(event.kind for event in kept.look()) == ["broken", "refreshed"]
    kept.pass_time(600)
    assert kept.look() == []
    path.unlink()
    assert kept.look() == []
    path.write_text("{")
    path.chmod(0o600)
    assert [event.kind for event in kept.look()] == ["broken"]


def test_a_key_that_grows_old_is_reported_once_at_each_crossing(rig: Rig, kept: Kept) -> None:
    put(
        rig.store,
        Document(
            Account("key", "fake", "api-key", created_at=int(START), max_age=int(100 * DAY)), ApiKey(Secret("k" * 9))
        ),
    )
    for _ in range(89 * 4):
        kept.pass_time(DAY / 4)
        assert kept.look() == []
    for _ in range(43):
        kept.pass_time(DAY / 4)
        kept.look()
    told = kept.told("aging")
    assert [event.text for event in told] == ["account key: the age that is allowed for its key ends 2027-04-25"]
    assert (told[0].account, told[0].is_trouble) == ("key", True)
    for _ in range(40):
        kept.pass_time(DAY)
        kept.look()
    assert [event.text.rpartition(" key ")[2] for event in kept.told("aging")] == [
        "ends 2027-04-25",
        "ended 2027-04-25",
    ]
    kept.broker.amend("key", AccountChanges(max_age="none"))
    assert kept.look() == []
    kept.broker.amend("key", AccountChanges(max_age=int(130 * DAY)))
    kept.pass_time(61)
    kept.look()
    assert len(kept.told("aging")) == 3, "what was mended and comes again is news"


def test_a_defect_in_one_look_is_not_the_end(rig: Rig, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(granted(LIFETIME - 300))
    kept.broker.publisher.publish(NAME)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("sk-ant-a-secret")

    with monkeypatch.context() as broken:
        broken.setattr(kept.renewer, "_sweep", fail)
        for _ in range(2):
            kept.renewer._guarded(kept.renewer.step)
            kept.pass_time(61)
    assert [event.kind for event in kept.events] == ["internal-error"]
    assert "secret" not in kept.events[0].text
    kept.pass_time(120)
    assert [event.kind for event in kept.look()] == ["refreshed"]


def test_an_account_that_is_removed_since_is_no_trouble(rig: Rig, kept: Kept) -> None:
    rig.put(granted(25 * DAY))
    rig.endpoint.gate.clear()
    kept.renewer.step()
    wait_for(rig.endpoint.entered.is_set)
    rig.store.path(NAME).unlink()
    rig.endpoint.gate.set()
    kept.look()
    assert kept.told("failed", "needs-login", "broken", "internal-error") == []


# -- clocks


def test_neither_sleep_nor_a_jumping_clock_makes_a_storm(rig: Rig, kept: Kept) -> None:
    for number in range(12):
        rig.put(granted(0, number), f"n{number}")
        kept.broker.publisher.publish(f"n{number}")
    kept.look()
    jumps = (9 * 3600.0, 365 * DAY, -365 * DAY, 3600.0, -3600.0)
    for number, jump in enumerate(jumps, 1):
        rig.clock.advance(jump)
        for _ in range(120):
            kept.pass_time(0.5)
            kept.look()
        assert rig.endpoint.requests <= 12 * number
    assert len(kept.told("clock")) == len(jumps)
    assert kept.told("failed", "needs-login", "internal-error") == []
    settled = rig.endpoint.requests
    for _ in range(100):
        kept.pass_time(60)
        kept.look()
    assert rig.endpoint.requests == settled


def test_after_a_wrong_clock_is_set_right_published_tokens_are_reported_right(rig: Rig, kept: Kept) -> None:
    rig.put(granted())
    kept.broker.publisher.publish(NAME)
    kept.look()
    for jump in (365 * DAY, -365 * DAY):
        rig.clock.advance(jump)
        for _ in range(60):
            kept.pass_time(0.5)
            kept.look()
    [one] = kept.broker.publisher.published()
    assert one.expires_at is not None
    assert rig.clock() < one.expires_at <= rig.clock() + LIFETIME


# -- what others left


def test_a_profile_that_was_left_behind_is_rewritten(rig: Rig, kept: Kept) -> None:
    rig.put(granted())
    kept.broker.publisher.publish(NAME)
    kept.look()
    rig.put(granted(0, 5))  # by somebody who was killed before the profile was written
    [event] = kept.look()
    assert (event.kind, event.profile, event.is_trouble) == ("profile", NAME, False)
    assert profile_token() == "access-5"


def test_a_profile_changed_by_another_program_is_reported_once_and_its_account_not_refreshed_for_it(
    rig: Rig, kept: Kept
) -> None:
    rig.put(granted())
    kept.broker.publisher.publish(NAME)
    path = Path.home() / ".config" / "anthropic" / "credentials" / f"{NAME}.json"
    path.write_text("{}")
    [event] = kept.look()
    assert event.is_trouble
    assert "was changed by another program" in event.text
    kept.pass_time(LIFETIME)
    assert kept.look() == []
    assert path.read_text() == "{}"


def test_an_interrupted_move_is_completed_unless_another_process_does_so(rig: Rig, kept: Kept, home: Home) -> None:
    rig.put(granted(0, 1), "alice")
    rig.put(granted(0, 2), "bob")
    claude = Path.home() / ".claude"
    claude.mkdir(mode=0o700)
    record = MoveRecord(
        to="bob",
        home="alice",
        step="preparing",
        place=str(claude / ".credentials.json"),
        config_dir=str(claude),
        present="a digest",
        coming="a digest",
        account_id=None,
        organization_id=None,
        at=int(START),
    )
    MoveFile(home.move_to_claude_code).write(record)
    with FileLock(home.move_to_claude_code, home.locks).held(1):
        assert kept.look() == []
    kept.pass_time(60)
    assert "move" in [event.kind for event in kept.look()]
    assert not home.move_to_claude_code.exists()
    kept.pass_time(60)
    assert kept.look() == []


# -- one renewer a home


def test_one_of_several_keeps_and_another_takes_over_when_it_ends(rig: Rig, kept: Kept, home: Home) -> None:
    rig.put(granted())
    assert renewer_of(home) is None
    first, second = kept.another(QUICK), kept.another(QUICK)
    with first.in_background():
        wait_for(lambda: kept.told("watching"))
        with second.in_background():
            wait_for(lambda: kept.told("waiting"))
            assert "process" in kept.told("waiting")[0].text
            assert not kept.another().once()
            assert str(renewer_of(home)).startswith("process ")
            first.stop(PATIENCE)
            wait_for(lambda: len(kept.told("watching")) == 2)
    assert renewer_of(home) is None
    assert len(kept.told("waiting")) == 1


def test_it_says_what_there_is_to_keep(rig: Rig, kept: Kept) -> None:
    for name, left in (("alice", 1200), ("bob", 3600)):
        rig.put(granted(LIFETIME - left), name)
        kept.broker.publisher.publish(name)
    rig.put(granted(), "carol")
    with kept.another(QUICK).in_background():
        wait_for(lambda: kept.told("watching"))
    assert kept.events[0].text in {
        f"keeping 3 logins, 2 of them published; next is alice, in {minutes} min" for minutes in (9, 10)
    }


def test_asked_to_stop_it_ends_at_once_and_the_renewal_in_flight_is_not_lost(rig: Rig, kept: Kept, home: Home) -> None:
    rig.put(granted(LIFETIME - 300))
    kept.broker.publisher.publish(NAME)
    rig.endpoint.gate.clear()
    with kept.another(QUICK).in_background():
        wait_for(rig.endpoint.entered.is_set)
    assert renewer_of(home) is None
    assert kept.broker.refreshing() == (NAME,)
    rig.endpoint.gate.set()
    assert kept.broker.drain(PATIENCE)
    assert profile_token() == "access-1"
    assert kept.told("failed") == []


def test_without_a_lock_it_says_why(rig: Rig, kept: Kept, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.locks.mkdir(mode=0o700, exist_ok=True)
    home.locks.chmod(0o777)
    with caplog.at_level(logging.WARNING), kept.another(QUICK).in_background() as renewer:
        assert renewer.has_ended(PATIENCE)
        wait_for(lambda: "no renewer refreshes the logins here" in caplog.text)
    assert isinstance(renewer.fault, UnsafeFile)


def test_in_the_background_it_logs_what_it_does(rig: Rig, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    rig.put(granted(LIFETIME - 300))
    broker = rig.broker()
    broker.publisher.publish(NAME)
    rig.endpoint.script.append(answer(503))
    with (
        caplog.at_level(logging.INFO, "tokenferry.background_refresh"),
        Renewer(broker, settings=QUICK, now=rig.clock).in_background(),
    ):
        wait_for(lambda: "could not be refreshed" in caplog.text)
        rig.clock.advance(2)
        wait_for(lambda: "has a new token" in caplog.text)
    assert renewer_of(home) is None
    assert not [one for one in ("access-0", "access-1", "refresh-0", "refresh-1") if one in caplog.text]


def test_a_home_of_files_is_needed() -> None:
    with pytest.raises(UsageError, match="home of files"):
        Renewer(Broker(store=MemoryStore()))


# -- once


def test_once_does_what_is_due_and_leaves_word_of_it(rig: Rig, kept: Kept, home: Home) -> None:
    for number in range(6):
        rig.put(granted(LIFETIME - 300, number), f"n{number}")
        kept.broker.publisher.publish(f"n{number}")
    rig.put(granted(), "fresh")
    assert kept.another(QUICK).once()
    assert rig.endpoint.requests == len(kept.told("refreshed")) == 6
    assert renewer_of(home) == "tokenferry refresh --due"
    assert renewer_of(home, home.renewer.stat().st_mtime + 700) is None
