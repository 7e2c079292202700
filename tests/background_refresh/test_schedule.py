"""What is renewed when, and what follows a failure: no clock, file or network is in here."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.background_refresh import Moment, Renewal, Schedule, next_renewal
from tokenferry.credentials import ApiKey, FederatedToken, Federation, OAuthToken, SetupToken
from tokenferry.errors import (
    ChainCopied,
    CredentialRefused,
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    RefreshUncertain,
    StorageFailed,
    TokenferryError,
)
from tokenferry.secret import Secret
from tokenferry.settings import BackgroundRefreshSettings
from tokenferry.stores import Account, Document, Owner

NOW = 1_800_000_000.0
HOURS = 3600.0
DAYS = 86_400.0
SETTINGS = BackgroundRefreshSettings()
NONE: frozenset[str] = frozenset()
WORK = frozenset({"work"})


def document(name: str = "work", owner: Owner = "tokenferry", generation: int = 1, **changes: Any) -> Document:
    given_: dict[str, Any] = {
        "secret": Secret(f"access-{name}"),
        "refresh": Secret(f"refresh-{name}"),
        "expires_at": int(NOW + 8 * HOURS),
        "obtained_at": int(NOW),
        "lifetime": 28_800,
        "source": "refresh",
    }
    account = Account(name, "fake", "oauth", owner, labels=MappingProxyType({}), created_at=0)
    return Document(account, OAuthToken(**(given_ | changes)), generation)


def ending(left: float, name: str = "work", **changes: Any) -> Document:
    """One whose token was made a while ago, and has so many seconds left."""
    return document(name, expires_at=int(NOW + left), obtained_at=int(NOW - HOURS), **changes)


def renewal(one: Document, *, is_published: bool = False, now: float = NOW) -> Renewal:
    found = next_renewal(one, is_published=is_published, now=now, settings=SETTINGS)
    assert found is not None
    return found


def moment(seconds: float, *, slept: float = 0.0) -> Moment:
    return Moment(NOW + seconds + slept, 100.0 + seconds)


# -- when


def test_a_published_token_is_renewed_ten_minutes_before_its_end_or_a_little_earlier() -> None:
    found = renewal(document(), is_published=True)
    assert found.reason == "published"
    assert 600 <= NOW + 8 * HOURS - found.at <= 660


def test_a_published_workload_is_renewed_ahead_and_an_idle_one_never() -> None:
    """There is no refresh token that would lapse."""
    one = document()
    assert isinstance(one.credential, OAuthToken)
    federated = FederatedToken.of(one.credential, Federation("/identity"))
    one = replace(one, account=replace(one.account, kind="federated"), credential=federated)
    found = renewal(one, is_published=True)
    assert (found.reason, 600 <= NOW + 8 * HOURS - found.at <= 660) == ("published", True)
    assert next_renewal(one, is_published=False, now=NOW, settings=SETTINGS) is None


def test_a_token_of_a_short_life_is_renewed_in_its_second_half() -> None:
    found = renewal(document(lifetime=100, expires_at=int(NOW + 100)), is_published=True)
    assert 45 <= found.at - NOW <= 50


@pytest.mark.parametrize("lifetime", [1, 2, 8])
def test_however_short_its_life_no_token_is_renewed_right_after_it_was_made(lifetime: int) -> None:
    found = renewal(document(lifetime=lifetime, expires_at=int(NOW + lifetime)), is_published=True)
    assert found.at >= NOW + 3.5


def test_logins_of_one_moment_are_spread() -> None:
    times = {renewal(document(f"n{number}"), is_published=True).at for number in range(20)}
    assert len(times) == 20


def test_an_idle_login_is_renewed_after_two_thirds_of_its_refresh_tokens_life() -> None:
    found = renewal(document())
    assert found.reason == "idle"
    assert 17 * DAYS < found.at - NOW <= 20 * DAYS
    known = renewal(document(refresh_expires_at=int(NOW + 1800)))
    assert 1000 < known.at - NOW <= 1200


@pytest.mark.parametrize(
    ("changes", "days"),
    [
        ({"obtained_at": None}, 20),
        ({"obtained_at": None, "expires_at": int(NOW - 10 * DAYS)}, 10),
        ({"obtained_at": int(NOW - 25 * DAYS)}, -5),
        ({"refresh_expires_at": int(NOW + DAYS), "obtained_at": int(NOW - 29 * DAYS)}, -9),
    ],
    ids=["by its expiry", "by its old expiry", "overdue", "about to lapse"],
)
def test_its_age_is_computed_from_what_is_known(changes: dict[str, Any], days: float) -> None:
    assert renewal(document(**changes)).at == pytest.approx(NOW + days * DAYS, abs=3 * DAYS)


def test_of_a_token_that_lives_for_a_year_the_account_tells_the_age() -> None:
    one = document(obtained_at=None, lifetime=None, expires_at=int(NOW + 365 * DAYS))
    assert next_renewal(one, is_published=False, now=NOW, settings=SETTINGS) is None
    made = Document(Account("work", "fake", "oauth", created_at=int(NOW - DAYS)), one.credential)
    assert 15 * DAYS < renewal(made).at - NOW < 20 * DAYS


def test_what_claude_code_owns_is_left_alone_while_its_token_lives() -> None:
    end = NOW + 8 * HOURS
    assert renewal(document(owner="claude-code"), is_published=True).at > end
    short = document(owner="claude-code", refresh_expires_at=int(NOW + HOURS))
    assert renewal(short).at > end
    assert (
        next_renewal(document(owner="claude-code", expires_at=None), is_published=True, now=NOW, settings=SETTINGS)
        is None
    )


@pytest.mark.parametrize("owner", ["ant", "external"])
def test_other_owners_chains_are_theirs(owner: Owner) -> None:
    assert next_renewal(document(owner=owner), is_published=True, now=NOW + 90 * DAYS, settings=SETTINGS) is None


@pytest.mark.parametrize(
    "credential",
    [ApiKey(Secret("k")), SetupToken(Secret("sk-ant-oat01-" + "s" * 80)), OAuthToken(Secret("a"), expires_at=1)],
    ids=["API key", "setup token", "no refresh token"],
)
def test_what_can_not_be_renewed_is_not(credential: Any) -> None:
    one = Document(Account("work", "fake", credential.kind), credential)
    assert next_renewal(one, is_published=True, now=NOW, settings=SETTINGS) is None


def test_a_token_that_was_obtained_in_the_future_is_renewed_for_its_times_are_wrong() -> None:
    one = document(obtained_at=int(NOW + 365 * DAYS), expires_at=int(NOW + 365 * DAYS + 28_800))
    assert (renewal(one).at, renewal(one).reason) == (NOW, "clock")
    a_little = document(obtained_at=int(NOW + 60))
    assert renewal(a_little).reason == "idle"


def test_a_lapse_that_a_later_grant_disproves_is_ignored() -> None:
    assert (
        next_renewal(document(refresh_expires_at=int(NOW - DAYS)), is_published=False, now=NOW, settings=SETTINGS)
        is None
    )


def test_refresh_tokens_of_one_fixed_end_are_renewed_a_few_times_not_for_ever() -> None:
    """A provider may give each refresh token what is left of the first one's life."""
    end, now, grants = NOW + 30 * DAYS, NOW, 0
    while True:
        one = document(obtained_at=int(now), expires_at=int(now + 28_800), refresh_expires_at=int(end))
        found = next_renewal(one, is_published=False, now=now, settings=SETTINGS)
        if found is None or found.at > end:
            break
        now, grants = found.at, grants + 1
    assert grants < 15


@given(
    expires=st.none() | st.integers(0, 4_102_444_800),
    obtained=st.none() | st.integers(0, 4_102_444_800),
    lapse=st.none() | st.integers(0, 4_102_444_800),
    lifetime=st.none() | st.integers(1, 10**8),
    is_published=st.booleans(),
)
def test_right_after_a_grant_nothing_is_due_whatever_the_times_of_the_last_one(
    *, expires: int | None, obtained: int | None, lapse: int | None, lifetime: int | None, is_published: bool
) -> None:
    """So no document can make the renewer renew in a row."""
    one = document(expires_at=expires, obtained_at=obtained, refresh_expires_at=lapse, lifetime=lifetime)
    found = next_renewal(one, is_published=is_published, now=NOW, settings=SETTINGS)
    if found is None or found.at > NOW:
        return
    life = lifetime or 28_800
    granted = document(
        secret=Secret("next"), obtained_at=int(NOW), expires_at=int(NOW) + life, lifetime=life, refresh_expires_at=lapse
    )
    after = next_renewal(granted, is_published=is_published, now=NOW, settings=SETTINGS)
    assert after is None or after.at >= NOW + 3.5


# -- what is due


def due(schedule: Schedule, one: Document, now: Moment, published: frozenset[str] = WORK) -> list[str]:
    return [found.name for found in schedule.due(schedule.plan([one], published, now), now)]


def test_the_most_pressing_one_comes_first() -> None:
    schedule = Schedule(SETTINGS)
    documents = [ending(590, "late"), ending(90, "sooner")]
    plan = schedule.plan([*documents, document("idle")], frozenset({"late", "sooner"}), moment(0))
    assert [one.name for one in plan] == ["sooner", "late", "idle"]
    assert [one.name for one in schedule.due(plan, moment(0))] == ["sooner", "late"]


def test_failures_are_followed_by_pauses_that_grow_to_a_bound() -> None:
    schedule, one = Schedule(SETTINGS), ending(300)
    now, pauses = 0.0, []
    for _ in range(8):
        assert due(schedule, one, moment(now)) == ["work"]
        [found] = schedule.plan([one], WORK, moment(now))
        schedule.failed(found, RefreshFailed("not now"), moment(now))
        pause = next(step for step in range(1, 4000) if due(schedule, one, moment(now + step)))
        pauses.append(pause)
        now += pause
    assert pauses == sorted(pauses)
    assert pauses[0] < 10
    assert pauses[-1] == 60


def test_an_idle_login_that_fails_is_not_tried_every_minute() -> None:
    schedule, one = Schedule(SETTINGS), document(obtained_at=int(NOW - 25 * DAYS))
    [found] = schedule.plan([one], NONE, moment(0))
    schedule.failed(found, RefreshFailed("not now"), moment(0))
    assert due(schedule, one, moment(200), NONE) == []
    assert due(schedule, one, moment(300), NONE) == ["work"]


@pytest.mark.parametrize("fault", [NeedsLogin("dead"), CredentialRefused("no"), ChainCopied("copied")])
def test_a_dead_login_is_reported_once_and_left_alone_until_its_document_is_another(fault: TokenferryError) -> None:
    schedule, one = Schedule(SETTINGS), ending(0)
    [found] = schedule.plan([one], WORK, moment(0))
    assert schedule.failed(found, fault, moment(0))
    assert not schedule.failed(found, fault, moment(1))
    assert schedule.plan([one], WORK, moment(90 * DAYS)) == []
    again = ending(0, generation=2)
    assert due(schedule, again, moment(2)) == ["work"]


def test_a_lost_answer_is_waited_out_until_the_token_has_expired() -> None:
    schedule, one = Schedule(SETTINGS), ending(500)
    [found] = schedule.plan([one], WORK, moment(0))
    schedule.failed(found, RefreshUncertain("lost"), moment(0))
    assert due(schedule, one, moment(499)) == []
    assert due(schedule, one, moment(502)) == ["work"]


def test_it_is_waited_out_by_the_wall_clock_so_sleep_counts() -> None:
    schedule, one = Schedule(SETTINGS), ending(500)
    [found] = schedule.plan([one], WORK, moment(0))
    schedule.failed(found, RefreshUncertain("lost"), moment(0))
    assert due(schedule, one, moment(70, slept=600)) == ["work"]


def test_the_same_failure_is_news_once_an_hour() -> None:
    schedule, one = Schedule(SETTINGS), ending(0)
    [found] = schedule.plan([one], WORK, moment(0))
    news = [schedule.failed(found, RefreshFailed("not now"), moment(60 * step)) for step in range(120)]
    assert [step for step, is_news in enumerate(news) if is_news] == [0, 60]
    assert schedule.failed(found, StorageFailed("full"), moment(7300))
    schedule.succeeded("work")
    assert schedule.failed(found, RefreshBusy("busy"), moment(7301))


def test_after_a_success_nothing_of_a_failure_is_left() -> None:
    schedule, one = Schedule(SETTINGS), ending(0)
    [found] = schedule.plan([one], WORK, moment(0))
    schedule.failed(found, RefreshFailed("not now"), moment(0))
    assert due(schedule, one, moment(1)) == []
    schedule.succeeded("work")
    assert due(schedule, one, moment(1)) == ["work"]


# -- clocks


def test_after_sleep_it_waits_a_moment_before_it_begins() -> None:
    schedule, one = Schedule(SETTINGS), document()
    assert schedule.observe(moment(0)) == 0
    woken = moment(1, slept=9 * HOURS)
    assert schedule.observe(woken) == pytest.approx(9 * HOURS)
    assert due(schedule, one, woken) == []
    assert due(schedule, one, moment(2, slept=9 * HOURS)) == []
    assert due(schedule, one, moment(12, slept=9 * HOURS)) == ["work"]
    assert schedule.observe(moment(13, slept=9 * HOURS)) == 0


def test_a_jump_that_is_taken_back_within_that_moment_causes_nothing() -> None:
    schedule, one = Schedule(SETTINGS), document()
    schedule.observe(moment(0))
    schedule.observe(moment(1, slept=365 * DAYS))
    assert due(schedule, one, moment(1, slept=365 * DAYS)) == []
    assert schedule.observe(moment(2)) < 0
    assert due(schedule, one, moment(60)) == []


def test_a_clock_that_is_slewed_is_no_jump() -> None:
    schedule = Schedule(SETTINGS)
    assert [schedule.observe(moment(step, slept=step / 10)) for step in range(100)] == [0.0] * 100
