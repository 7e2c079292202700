import gzip
import json
import zlib
from collections.abc import Callable
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import Classification, WireFormat, classify, readable
from tokenferry.limits._rules import REVOKED

NOW = 1_800_000_000.0
UNIFIED = "anthropic-ratelimit-unified-"


def body(message: str, kind: str = "invalid_request_error", **more: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **more}}).encode()


def judge(
    status: int, headers: dict[str, str] | None = None, content: bytes = b"", wire_format: WireFormat = "anthropic"
) -> Classification:
    return classify(status, headers or {}, content, now=NOW, provider_format=wire_format)


# As the vendors' pages of errors list them: Anthropic's, OpenAI's streamed codes, google.rpc.Code.
DOCUMENTED = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "usage_limit_reached": 429,
    "exceeded_current_quota_error": 429,
    "request_quota_exceeded": 429,
    "token_quota_exceeded": 429,
    "queue_exceeded": 429,
    "server_is_overloaded": 529,
    "timeout_error": 504,
    "overloaded_error": 529,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_an_error_in_a_stream_is_judged_as_with_its_documented_status(kind: str) -> None:
    assert judge(200, content=body("no", kind)) == judge(DOCUMENTED[kind], content=body("no", kind))


@pytest.mark.parametrize(("code", "status"), [(1001, 504), (1002, 429), (1004, 401), (1008, 402), (1039, 429)])
def test_an_error_of_minimax_is_judged_as_with_its_status(code: int, status: int) -> None:
    """It answers each with 200."""
    content = json.dumps({"base_resp": {"status_code": code, "status_msg": "no"}}).encode()
    assert judge(200, content=content, wire_format="openai") == judge(status, content=content, wire_format="openai")


def test_only_a_2xx_status_can_hide_an_error() -> None:
    overloaded = body("no", "overloaded_error")
    assert judge(299, content=overloaded) == judge(529, content=overloaded)
    assert judge(300, content=overloaded) != judge(529, content=overloaded)


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


@pytest.mark.parametrize("status", [-1, 0, 101, 302, 999, 1000, 2000])
def test_a_status_that_means_nothing_here_is_returned_as_it_is(status: int) -> None:
    verdict = judge(status)
    assert (verdict.scope, verdict.action, verdict.hold) == ("request", "return", "none")


def test_a_page_of_a_proxy_is_named_as_one() -> None:
    assert "its own page" in judge(502, content=b"<html>").reason
    assert "page" not in judge(502, content=body("no")).reason


def test_words_count_with_their_status_alone() -> None:
    assert judge(500, content=body("Your credit balance is too low")).scope == "provider"
    assert judge(404, content=body("out of extra usage")).cause == "not-found"


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


def test_an_unknown_overall_status_leaves_the_rest_in_force() -> None:
    headers = {f"{UNIFIED}status": "paused", f"{UNIFIED}5h-status": "allowed", "retry-after": "9"}
    assert judge(429, headers).until == NOW + 9


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-Gzip", gzip.compress),
        ("identity, gzip", gzip.compress),
        ("gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
        ("gzip", lambda content: gzip.compress(content) + b"no member"),
        ("deflate", zlib.compress),
        ("deflate", lambda content: zlib.compress(content, wbits=-15)),
        ("identity", bytes),
    ],
)
def test_of_a_compressed_body_a_copy_is_read(coding: str, compress: Callable[[bytes], bytes]) -> None:
    reported = compress(body("Your credit balance is too low"))
    assert judge(400, {"Content-Encoding": coding}, reported).cause == "no-credit"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, gzip", "deflate", "nonsense"])
def test_a_body_that_cannot_be_read_counts_for_nothing(coding: str) -> None:
    assert judge(400, {"content-encoding": coding}, body("Your credit balance is too low")).cause == "invalid-request"


@pytest.mark.parametrize("first", [0, 40 << 10, 64 << 10])
def test_no_more_than_64_kib_are_inflated(first: int) -> None:
    """Of one member, and of several, wherever the limit is among them."""
    bomb = gzip.compress(b" " * first) + gzip.compress(b" " * (8 << 20), 1)
    assert readable({"content-encoding": "gzip"}, bomb) == b" " * (64 << 10)
    padded = gzip.compress(body("Your credit balance is too low") + b" " * (1 << 20))
    assert judge(400, {"content-encoding": "gzip"}, padded).cause == "no-credit"


@pytest.mark.parametrize("kind", ["api_error", "nobody_knows_this"])
def test_an_unknown_error_in_a_stream_is_the_providers(kind: str) -> None:
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
def test_every_answer_has_a_classification(
    status: int, headers: dict[str, str], content: bytes, wire_format: WireFormat
) -> None:
    verdict = judge(status, headers, content, wire_format)
    assert (verdict.until is not None) == (verdict.hold in {"window", "retry-after"})
    assert verdict.until is None or isfinite(verdict.until)
    assert verdict.scope not in {"request", "transient"} or verdict.hold == "none"
    assert verdict.reason
    assert "{" not in verdict.reason


@pytest.mark.parametrize(
    "words",
    [
        "This organization has been disabled.",
        "You have reached your specified API usage limits. You will regain access on 2027-01-20 at 00:00 UTC.",
        "The long context beta is not yet available for this subscription.",
        "OAuth authentication is currently not allowed for this organization.",
        "OAuth token has been revoked. Please obtain a new token.",
        "Usage limit reached for 5 hour. Your limit will reset at 2027-01-15 21:38:28",
        "You've reached your weekly (7-day) usage limit.",
    ],
)
@pytest.mark.parametrize(
    "quoting",
    [
        "{words}: Extra inputs are not permitted",
        "messages.0.content: {words}",
        "tools.0.name: '{words}' does not match",
        'model "{words}" is unknown',
        "`{words}` is no model",
    ],
)
@pytest.mark.parametrize("status", [400, 403, 404, 429])
def test_no_client_benches_a_whole_account_by_what_it_makes_the_upstream_quote(
    words: str, quoting: str, status: int
) -> None:
    verdict = judge(status, content=body(quoting.format(words=words)))
    assert verdict.models == "model" or verdict.hold == "none"
    assert verdict.action != "refresh"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("OAuth authentication is currently not allowed for this organization.", "not-allowed"),
        ("OAuth authentication is not permitted", "not-allowed"),
        ("OAuth tokens are not allowed by your organization.", "not-allowed"),
        ("Your account does not have access to Claude Code. Please run /login.", "not-allowed"),
        ("Your organization does not have access to Claude. Please login again.", "not-allowed"),
        ("This organization has been disabled.", "not-allowed"),
        ("Your organization does not have access to Claude Opus 4.", "forbidden"),
        ("Your organization does not have access to this model.", "forbidden"),
        ("OAuth token does not meet scope requirement user:inference", "forbidden"),
        ("oauth is not allowed is no model", "forbidden"),
    ],
)
def test_a_403_is_about_the_account_only_where_it_says_so(words: str, cause: str) -> None:
    verdict = judge(403, content=body(words, "permission_error"))
    assert (verdict.cause, verdict.action) == (cause, "fail-over")


@pytest.mark.parametrize("quoted", ["{} is no model that you may use", "{}: no", " x {}", "{} Please."])
@pytest.mark.parametrize("sentence", sorted(REVOKED))
def test_a_403_refuses_a_token_by_the_whole_message_alone(sentence: str, quoted: str) -> None:
    assert judge(403, content=body(sentence)).action == "refresh"
    assert judge(403, content=body(quoted.format(sentence))).cause == "forbidden"


@pytest.mark.parametrize(
    ("challenge", "cause"),
    [
        ('Bearer error="invalid_token"', "refused"),
        ("Bearer realm=x, error=invalid_token", "refused"),
        ('Basic realm="x", Bearer ERROR="invalid_token", error_description="a, b"', "refused"),
        ('Bearer error="insufficient_scope", error_description="no error=invalid_token here"', "forbidden"),
        ('Bearer realm="error=invalid_token"', "forbidden"),
        ("Bearer", "forbidden"),
        ('"' * 5000, "forbidden"),
    ],
)
def test_a_403_refuses_a_token_by_the_error_that_its_challenge_names(challenge: str, cause: str) -> None:
    assert judge(403, {"WWW-Authenticate": challenge}, body("no")).cause == cause


@pytest.mark.parametrize(
    ("date", "hold", "until"),
    [
        ("2027-01-20 at 00:00 UTC", "date", 1_800_403_200),
        ("2027-01-20", "date", 1_800_403_200),
        ("2027-01-20 at 06:30 UTC", "date", 1_800_426_600),
        ("2027-02-15 at 00:00 UTC", "date", 1_802_649_600),
        ("2027-02-16 at 00:00 UTC", "hour", None),
        ("2026-12-31 at 00:00 UTC", "hour", None),
        ("2027-13-45 at 00:00 UTC", "hour", None),
        ("some day", "hour", None),
    ],
)
def test_a_date_counts_within_31_days_else_an_hour(date: str, hold: str, until: float | None) -> None:
    reported = f"You have reached your specified API usage limits. You will regain access on {date}."
    verdict = judge(400, content=body(reported))
    assert (verdict.cause, verdict.hold, verdict.until) == ("usage-limit", hold, until)


@pytest.mark.parametrize(
    ("reported", "hold", "until"),
    [
        ({"resets_in_seconds": 600}, "retry-after", NOW + 600),
        ({"resets_in_seconds": 1}, "retry-after", NOW + 1),
        ({"resets_at": NOW + 700}, "retry-after", NOW + 700),
        ({"resets_in_seconds": 600, "resets_at": NOW + 700}, "retry-after", NOW + 600),
        ({"resets_in_seconds": 40 * 86_400}, "long", None),
        ({"resets_at": NOW - 5}, "long", None),
        ({"resets_in_seconds": True}, "long", None),
        ({"resets_in_seconds": "600"}, "long", None),
        ({"resets_in_seconds": float("inf")}, "long", None),
        ({}, "long", None),
    ],
)
def test_a_usage_limit_ends_when_its_body_says(reported: dict[str, Any], hold: str, until: float | None) -> None:
    verdict = judge(429, content=body("The usage limit has been reached", "usage_limit_reached", **reported))
    assert (verdict.cause, verdict.scope, verdict.hold, verdict.until) == ("usage-limit", "account", hold, until)
