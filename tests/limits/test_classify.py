import json
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import Verdict, WireFormat, classify

NOW = 1_800_000_000.0
UNIFIED = "anthropic-ratelimit-unified-"


def body(message: str, kind: str = "invalid_request_error", **more: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **more}}).encode()


def judge(
    status: int, headers: dict[str, str] | None = None, content: bytes = b"", wire_format: WireFormat = "anthropic"
) -> Verdict:
    return classify(status, headers or {}, content, now=NOW, provider_format=wire_format)


@pytest.mark.parametrize(
    "message",
    [
        "tools.credit balance is too low: Field required",
        "credit balance is too low: Extra inputs are not permitted",
        "Your credit balance is too low to access the API: Extra inputs are not permitted",
        "messages.0.content: 'Your credit balance is too low' is no list",
        'model "out of extra usage" is unknown',
        "out of extra usage: Extra inputs are not permitted",
        "metadata.user_id: only authorized for use with Claude Code",
        "x" * 500 + "credit balance is too low",
    ],
)
def test_no_client_benches_an_account_by_what_is_quoted_of_its_request(message: str) -> None:
    verdict = judge(400, content=body(message))
    assert (verdict.scope, verdict.hold) == ("request", "none")


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Your credit balance is too low to access the API.", "no-credit"),
        ("CREDIT BALANCE IS TOO LOW", "no-credit"),
        ("You\u2019re out of extra usage. Add more.", "no-extra-usage"),
        ("Your plan is used up. You are out of extra usage.", "no-extra-usage"),
    ],
)
def test_the_words_count_however_they_are_led_to(message: str, cause: str) -> None:
    assert judge(400, content=body(message)).cause == cause


def test_words_count_with_their_status_alone() -> None:
    assert judge(500, content=body("Your credit balance is too low")).scope == "provider"
    assert judge(404, content=body("out of extra usage")).scope == "provider"


@pytest.mark.parametrize("window", ["5h", "7d", "90m", "2d"])
@pytest.mark.parametrize("after", [1, 600, 86_400 * 18])
def test_a_rejected_window_ends_by_its_reset_and_never_later_than_its_length(window: str, after: int) -> None:
    headers = {f"{UNIFIED}{window}-status": "rejected", f"{UNIFIED}{window}-reset": str(int(NOW) + after)}
    length = {"5h": 18_000, "7d": 604_800, "90m": 5400, "2d": 172_800}[window]
    assert judge(429, headers).until == NOW + min(after, length)


def test_of_windows_of_families_the_latest_counts() -> None:
    headers = {f"{UNIFIED}status": "rejected"}
    for name, after in (("7d_sonnet", 500), ("7d_opus", 900), ("7d_oi", 100)):
        headers |= {f"{UNIFIED}{name}-status": "rejected", f"{UNIFIED}{name}-reset": str(int(NOW) + after)}
    verdict = judge(429, headers)
    assert (verdict.scope, verdict.models, verdict.until) == ("account", "family", NOW + 900)
    assert verdict.reason.count("window 7d") == 3


def test_windows_without_a_word_about_the_whole_are_enough() -> None:
    assert judge(429, {f"{UNIFIED}5h-status": "rejected"}).cause == "window"
    assert judge(429, {f"{UNIFIED}5h-status": "allowed"}).scope == "transient"


def test_a_rejection_that_names_no_window_ends_by_the_reset_of_the_whole() -> None:
    headers = {f"{UNIFIED}status": "rejected", f"{UNIFIED}reset": str(int(NOW) + 60)}
    verdict = judge(429, headers)
    assert (verdict.scope, verdict.cause, verdict.hold, verdict.until) == (
        "account",
        "rejected",
        "retry-after",
        NOW + 60,
    )
    far = headers | {f"{UNIFIED}reset": str(int(NOW) + 90 * 86_400)}
    assert judge(429, far).until == NOW + 7 * 86_400
    assert judge(429, {f"{UNIFIED}status": "rejected"}).hold == "back-off"


def test_a_word_about_the_whole_that_nobody_knows_leaves_what_else_is_told() -> None:
    headers = {f"{UNIFIED}status": "paused", f"{UNIFIED}5h-status": "allowed", "retry-after": "9"}
    assert judge(429, headers).until == NOW + 9


def test_a_compressed_body_is_not_read() -> None:
    told = body("Your credit balance is too low")
    assert judge(400, {"Content-Encoding": "gzip"}, told).cause == "invalid-request"
    assert judge(400, {"content-encoding": "identity"}, told).cause == "no-credit"


@pytest.mark.parametrize("kind", ["api_error", "nobody_knows_this"])
def test_an_error_in_a_stream_that_nobody_knows_is_the_providers(kind: str) -> None:
    event = b"event: error\ndata: " + body("Oh", kind) + b"\n\n"
    assert judge(200, content=event).scope == "provider"


def test_overload_is_never_the_accounts_whatever_else_is_said() -> None:
    limited = {f"{UNIFIED}status": "rejected", f"{UNIFIED}5h-status": "rejected", "retry-after": "9"}
    for status, content in ((529, b""), (503, body("", "overloaded_error")), (529, b"<html>")):
        verdict = judge(status, limited, content)
        assert (verdict.scope, verdict.models, verdict.hold) == ("provider", "model", "none")


_headers = st.dictionaries(
    st.sampled_from(
        [f"{UNIFIED}{name}" for name in ("status", "reset", "5h-status", "5h-reset", "7d_x-status", "7d_x-reset")]
        + [f"{UNIFIED}representative-claim", "anthropic-ratelimit-tokens-remaining", "retry-after", "content-encoding"]
    )
    | st.text(),
    st.sampled_from(["rejected", "allowed", "1800000100", "17", "five_hour", "gzip", "0"]) | st.text(),
)
_bodies = st.binary() | st.builds(
    body,
    st.text() | st.just("credit balance is too low"),
    st.sampled_from(["rate_limit_error", "overloaded_error", ""]),
)
_formats: st.SearchStrategy[WireFormat] = st.sampled_from(["anthropic", "openai", "other"])


@given(st.integers(-1, 2000) | st.sampled_from([200, 400, 429, 529]), _headers, _bodies, _formats)
def test_whatever_comes_there_is_a_verdict(
    status: int, headers: dict[str, str], content: bytes, wire_format: WireFormat
) -> None:
    verdict = judge(status, headers, content, wire_format)
    assert (verdict.until is not None) == (verdict.hold in {"window", "retry-after"})
    assert verdict.until is None or isfinite(verdict.until)
    assert verdict.scope not in {"request", "transient"} or verdict.hold == "none"
    assert verdict.reason
    assert "{" not in verdict.reason
