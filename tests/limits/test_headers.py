import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import Bucket, LimitState, Window, WireFormat, read_limits

NOW = 1_800_000_000.0
UNIFIED = "anthropic-ratelimit-unified-"
FORMATS: tuple[WireFormat, ...] = ("anthropic", "openai", "other")


def read(wire_format: WireFormat = "anthropic", /, **headers: str) -> LimitState:
    named = {name.replace("__", "-"): value for name, value in headers.items()}
    return read_limits(named, now=NOW, provider_format=wire_format)


def unified(**reported: str) -> LimitState:
    named = {f"{UNIFIED}{name.lstrip('_').replace('__', '-')}": value for name, value in reported.items()}
    return read_limits(named, now=NOW, provider_format="anthropic")


def test_windows_are_known_by_their_pattern_not_by_a_list() -> None:
    state = unified(
        status="rejected", reset="1800000600", representative__claim="seven_day", fallback__percentage="0.5",
        _5h__status="allowed", _5h__reset="1800000300", _5h__utilization="0.4",
        _7d__status="rejected", _7d__reset="1800000600", _7d__utilization="1.04", _7d__surpassed__threshold="0.9",
        _30d_new_name__status="allowed_warning",
        overage__status="rejected", overage__disabled__reason="out_of_credits", upgrade__paths="max,team",
    )  # fmt: skip
    assert state.status == "rejected"
    assert state.reset == 1_800_000_600
    assert state.representative_claim == "seven_day"
    assert state.fallback_percentage == 0.5
    assert state.windows == (
        Window("5h", "allowed", 1_800_000_300, 0.4),
        Window("7d", "rejected", 1_800_000_600, 1.04, 0.9),
        Window("30d_new_name", "allowed_warning"),
    )
    assert state.overage == Window("overage", "rejected")
    assert state.overage_disabled_reason == "out_of_credits"
    assert state.rejected == (state.windows[1],)
    assert state.buckets == ()


def test_buckets_are_known_by_their_pattern_too() -> None:
    state = read(
        **{
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
            "anthropic-priority-input-tokens-remaining": "7",
            "anthropic-fast-output-tokens-limit": "8",
            "anthropic-organization-id": "6f2c4c1e",
            "retry-after": "30",
        }
    )
    assert state.buckets == (
        Bucket("requests", 50, 0, NOW + 30),
        Bucket("priority-input-tokens", remaining=7),
        Bucket("fast-output-tokens", limit=8),
    )
    assert state.organization == "6f2c4c1e"
    assert state.retry_after == 30
    assert state.windows == ()


def test_openai_names_its_buckets_the_other_way_round_and_writes_durations() -> None:
    headers = {
        "X-RateLimit-Limit-Tokens": "30000", "X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6m0s",
        "openai-organization": "org-1",
    }  # fmt: skip
    state = read_limits(headers, now=NOW, provider_format="openai")
    assert state == LimitState("org-1", buckets=(Bucket("tokens", 30_000, 0, NOW + 360),))


def test_a_reset_in_plain_seconds_and_groqs_requests_of_a_day_are_known() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "33011.5"}
    groq = read_limits({**headers, "x-groq-region": "fra"}, now=NOW, provider_format="openai")
    other = read_limits(headers, now=NOW, provider_format="openai")
    assert groq.buckets == (Bucket("requests-day", None, 0, NOW + 33011.5),)
    assert other.buckets == (Bucket("requests", None, 0, NOW + 33011.5),)
    assert [one.is_of_day for one in (*groq.buckets, *other.buckets)] == [True, False]


def test_of_other_providers_retry_after_counts_alone() -> None:
    headers = {"retry-after": "5", f"{UNIFIED}status": "rejected", "x-ratelimit-limit-tokens": "1"}
    assert read_limits(headers, now=NOW, provider_format="other") == LimitState(retry_after=5.0)


def test_names_are_read_in_any_case() -> None:
    headers = {"Anthropic-Ratelimit-Unified-5h-Status": "Rejected", "Retry-After": "5"}
    state = read_limits(headers, now=NOW, provider_format="anthropic")
    assert (state.windows, state.retry_after) == ((Window("5h", "rejected"),), 5.0)


def test_no_answer_makes_it_hold_more_than_the_maximum_of_windows_and_buckets() -> None:
    headers = {f"{UNIFIED}{number}h-status": "allowed" for number in range(1000)}
    headers |= {f"anthropic-ratelimit-b{number}-limit": "1" for number in range(1000)}
    headers |= {f"{UNIFIED}{'x' * 500}-status": "rejected"}
    state = read_limits(headers, now=NOW, provider_format="anthropic")
    assert (len(state.windows), len(state.buckets)) == (32, 32)


def test_a_state_cannot_be_changed() -> None:
    state = unified(status="allowed")
    with pytest.raises(AttributeError, match="immutable"):
        state.status = "rejected"  # type: ignore[misc]  # the point of the test
    assert hash(state) == hash(unified(status="allowed"))


_names = st.one_of(
    st.text(),
    st.builds(
        "{}{}-{}".format,
        st.sampled_from([UNIFIED, "anthropic-ratelimit-", "x-ratelimit-reset-", "x-ratelimit-"]),
        st.sampled_from(["5h", "7d_sonnet", "overage", "", "-", "tokens", "unified"]) | st.text(max_size=5),
        st.sampled_from(["status", "reset", "utilization", "limit", "remaining", "tokens", "representative-claim"]),
    ),
    st.sampled_from([f"{UNIFIED}status", f"{UNIFIED}representative-claim", f"{UNIFIED}reset", "retry-after"]),
)
_values = st.one_of(
    st.text(),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["rejected", "allowed", "five_hour", "seven_day_", "6m0s", "2027-01-15T08:00:00Z", "9" * 400]),
)


@given(st.dictionaries(_names, _values), st.sampled_from(FORMATS))
def test_junk_never_raises_and_leaves_no_number_that_is_none(headers: dict[str, str], wire_format: WireFormat) -> None:
    state = read_limits(headers, now=NOW, provider_format=wire_format)
    numbers = [state.retry_after, state.reset, state.fallback_percentage]
    for window in (*state.windows, *state.rejected, *filter(None, [state.overage])):
        numbers += [window.reset, window.utilization, window.surpassed_threshold]
        assert window.length > 0
    for bucket in state.buckets:
        numbers += [bucket.limit, bucket.remaining, bucket.reset]
    assert all(number is None or (math.isfinite(number) and number >= 0) for number in numbers)
    assert state.bills_overage in {True, False}
