"""How long what nobody renews lasts, and what a limit of age means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.accounts import Aging, aging, check_age, parse_max_age, too_old_at
from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.errors import NeedsLogin, UsageError
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document

DAY = 86_400
NOW = 1_800_000_000
KEY = ApiKey(Secret("sk-ant-api03-x"))
TOKEN = Secret("sk-ant-oat01-" + "s" * 90)


def document(credential: Credential, **account: Any) -> Document:
    return Document(Account("work", "anthropic", credential.kind, **account), credential)


def login(**changes: Any) -> OAuthToken:
    return OAuthToken(Secret("access"), Secret("refresh"), **changes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (document(KEY, created_at=NOW), None),
        (document(KEY, max_age=90 * DAY), None),
        (document(KEY, created_at=NOW, max_age=90 * DAY), Aging("max-age", NOW + 90 * DAY, 9 * DAY)),
        (document(ApiKey(KEY.secret, obtained_at=NOW + 5), created_at=NOW, max_age=1000 * DAY), None),
        (document(SetupToken(TOKEN)), None),
        (
            document(SetupToken(TOKEN), created_at=NOW),
            Aging("setup-token", NOW + 365 * DAY, 30 * DAY, is_estimate=True),
        ),
        (document(SetupToken(TOKEN, expires_at=NOW)), Aging("setup-token", NOW, 30 * DAY)),
        (
            document(SetupToken(TOKEN, NOW, NOW + 365 * DAY), max_age=10 * DAY),
            Aging("max-age", NOW + 10 * DAY, DAY),
        ),
        (document(login(refresh_expires_at=NOW)), Aging("refresh-token", NOW, 5 * DAY)),
        (document(login(obtained_at=NOW)), Aging("refresh-token", NOW + 30 * DAY, 5 * DAY, is_estimate=True)),
        (document(login(), created_at=5), None),
        (
            document(login(expires_at=NOW, lifetime=600), created_at=5),
            Aging("refresh-token", NOW - 600 + 30 * DAY, 5 * DAY, is_estimate=True),
        ),
        (document(login(obtained_at=NOW), owner="claude-code"), None),
        (document(OAuthToken(Secret("access"), obtained_at=NOW)), None),
    ],
)
def test_the_end_that_comes_first(given: Document, expected: Aging | None) -> None:
    if expected is None and given.account.max_age == 1000 * DAY:
        expected = Aging("max-age", NOW + 5 + 1000 * DAY, 14 * DAY)
    assert aging(given) == expected


@given(st.integers(0, 4_000_000_000), st.integers(0, 10**8), st.integers(-(10**8), 10**8))
def test_it_is_shown_from_the_notice_on_and_in_two_words_at_most(at: int, notice: int, off: int) -> None:
    end = Aging("max-age", at, notice)
    now = at + off
    assert end.stage(now) == ("over" if off >= 0 else "soon" if off >= -notice else "fine")
    assert bool(end.text(now)) == (end.stage(now) != "fine")
    assert end.text(at - notice) == end.text(at - 1) or notice == 0, "the same words from one crossing to the next"


def test_a_key_is_refused_from_the_very_second_on() -> None:
    limited = document(KEY, created_at=NOW, max_age=DAY)
    assert too_old_at(limited) == NOW + DAY
    check_age(limited, NOW + DAY - 1)
    with pytest.raises(NeedsLogin, match=r"older than the 1d .* account add work --replace"):
        check_age(limited, NOW + DAY)


def test_an_end_that_the_vendor_sets_refuses_nothing() -> None:
    """The vendor does that; its estimate may be wrong."""
    for one in (SetupToken(TOKEN), login(refresh_expires_at=5)):
        check_age(document(one, created_at=1, max_age=None), NOW)


@pytest.mark.parametrize(("text", "seconds"), [("36h", 129_600), ("90d", 90 * DAY), ("12w", 84 * DAY), ("none", None)])
def test_spans(text: str, seconds: int | None) -> None:
    assert parse_max_age(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "59m", "99999w", "90d ", "\uff190d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-age"):
        parse_max_age(text)
