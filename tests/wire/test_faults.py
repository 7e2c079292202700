"""An error says the same to a client of any format, and to the next gateway."""

import json
from typing import Any

import pytest

from tokenferry.wire import (
    Codec,
    chat_error_event,
    envelope,
    error_event,
    foreign_error,
    gemini_error_event,
    gemini_refusal,
    responses_error_event,
)
from wire.rig import (
    ask,
    chat_ask,
    events,
    from_gemini,
    from_responses,
    gemini_ask,
    responses_ask,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
)

KINDS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
PAIRS = {
    "chat": (to_messages(), chat_ask(), to_chat(), chat_error_event),
    "responses": (from_responses(), responses_ask(), to_responses(), responses_error_event),
    "gemini": (from_gemini(), gemini_ask(), to_gemini(), gemini_error_event),
}
LESS = {"gemini": {"billing_error": "rate_limit_error", "request_too_large": "invalid_request_error"}}
"""Kinds that a format can't say. Whole errors with the status 429 are of that kind in every format."""


def last_error(using: Codec, body: bytes, *pieces: bytes) -> dict[str, str]:
    """The error of a stream for a client of the Messages API."""
    stream = using.stream(using.request(body, "m"), "req_1")
    found: dict[str, str] = events(b"".join(map(stream.feed, pieces)) + stream.end())[-1]["error"]
    assert found["type"] == stream.error
    return found


@pytest.mark.parametrize("client", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_passes_through_another_format_stays_the_same(client: str, kind: str) -> None:
    there, _, back, _ = PAIRS[client]
    expected = {"billing_error": "rate_limit_error", **LESS.get(client, {})}.get(kind, kind)
    found = back.error(*there.error(KINDS[kind], envelope(kind, "why", "req_0"), "req_0"), "req_1")
    assert found == (KINDS[expected], envelope(expected, "why", "req_1"))


@pytest.mark.parametrize("client", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_amid_a_stream_that_passes_through_another_format_stays_the_same(client: str, kind: str) -> None:
    there, asked, back, own_event = PAIRS[client]
    translated = there.stream(there.request(asked, "m"), "req_1").feed(error_event(kind, "why", "req_0"))
    expected = {"type": LESS.get(client, {}).get(kind, kind), "message": "why"}
    assert last_error(back, ask(stream=True), translated) == expected
    assert last_error(back, ask(stream=True), own_event(kind, "why", "req_1")) == expected


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1001, "timeout_error"),
        (1002, "rate_limit_error"),
        (1004, "authentication_error"),
        (1008, "billing_error"),
        (1039, "rate_limit_error"),
        (2013, "invalid_request_error"),
        (1000, "api_error"),
    ],
)
def test_minimax_says_errors_with_numbers_of_its_own(code: int, kind: str) -> None:
    """platform.minimax.io/docs/api-reference/errorcode."""
    event = b'data: {"base_resp": {"status_code": %d, "status_msg": "why"}, "choices": null}\n\n' % code
    assert last_error(to_chat(), ask(stream=True), event) == {"type": kind, "message": "why"}


@pytest.mark.parametrize(
    ("status", "error", "kind", "expected"),
    [
        (413, {"message": "prompt is too long"}, "invalid_request_error", 400),
        (500, {"message": "prompt is too long"}, "api_error", 500),
        (404, {"message": "prompt is too long"}, "not_found_error", 404),
        (500, {"message": "x", "type": "overloaded_error"}, "overloaded_error", 529),
        (429, {"message": "x", "type": "overloaded_error"}, "rate_limit_error", 429),
        (400, {"message": "x", "details": [{"reason": "API_KEY_INVALID"}]}, "authentication_error", 401),
        (400, {"message": {"a": 1}}, "invalid_request_error", 400),
    ],
)
def test_the_status_and_the_words_of_an_error_make_its_kind(
    status: int, error: dict[str, Any], kind: str, expected: int
) -> None:
    found, body = to_chat().error(status, json.dumps({"error": error}).encode(), "req_1")
    read = json.loads(body)["error"]
    assert (found, read["type"]) == (expected, kind)
    assert read["message"].startswith("prompt is too long: ") == (status == 413)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"x[0] is missing", "x[0] is missing"),
        (b" <html>no</html>", "the upstream failed"),
        (b"[1]", "the upstream failed"),
        (b"a\nb", "the upstream failed"),
        (b'{"message": "of no error"}', "the upstream failed"),
    ],
)
def test_a_line_of_text_is_a_message_and_a_page_or_a_document_is_none(body: bytes, message: str) -> None:
    assert json.loads(to_chat().error(500, body, "req_1")[1])["error"]["message"] == message


def test_only_an_error_of_another_shape_is_written_anew() -> None:
    assert foreign_error(429, envelope("rate_limit_error", "why", "req_0"), "req_1") is None
    for body in (b"why", b'{"error": {"message": "why"}}', b'{"error": "why", "type": "x"}'):
        assert foreign_error(429, body, "req_1") == (429, envelope("rate_limit_error", "why", "req_1"))


@pytest.mark.parametrize(
    ("status", "name"),
    [(400, "INVALID_ARGUMENT"), (404, "NOT_FOUND"), (409, "INVALID_ARGUMENT"), (500, "INTERNAL"), (503, "UNAVAILABLE")],
)
def test_a_refusal_for_a_client_of_gemini_says_when_to_come_again(status: int, name: str) -> None:
    error = json.loads(gemini_refusal(status, "why", 7))["error"]
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    assert error == {"code": status, "message": "why", "status": name, "details": [wait]}
    assert "details" not in json.loads(gemini_refusal(status, "why", None))["error"]
