import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import AnswerError, read_error
from wire.rig import chunk

ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
EVENT = b"event: error\ndata: " + json.dumps(ERROR).encode() + b"\n\n"
START = (
    b'event: message_start\ndata: {"type": "message_start", "message": {}}\n\nevent: ping\ndata: {"type": "ping"}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n'


def test_both_shapes_are_read() -> None:
    assert read_error(json.dumps(ERROR).encode()) == AnswerError(
        "overloaded_error", "Overloaded", frozenset({"overloaded_error"})
    )
    openai = {"error": {"message": "No", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
    assert read_error(json.dumps(openai).encode()) == AnswerError(
        "tokens", "No", frozenset({"tokens", "rate_limit_exceeded"})
    )
    assert read_error(b'{"error": "slow down"}') == AnswerError(message="slow down")


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"message": "No", "type": "t", "code": "c"}, AnswerError("t", "No", frozenset({"t", "c"}))),
        ([{"error": {"message": "No", "status": "X"}}], AnswerError("", "No", frozenset({"X"}))),
        ({"detail": "not like this"}, AnswerError("", "not like this")),
        (
            {"base_resp": {"status_code": 1002, "status_msg": "slow"}},
            AnswerError("", "slow", frozenset({"minimax-1002"})),
        ),
        ({"error": {"code": 502, "message": "No"}}, AnswerError("", "No", status=502)),
        (
            {"type": "response.failed", "response": {"error": {"code": "slow_down", "message": "No"}}},
            AnswerError("", "No", frozenset({"slow_down"})),
        ),
        *(
            ({"error": {"code": code, "message": "No"}}, AnswerError("", "No", status=status))
            for code, status in ((7, None), (399, None), (400, 400), (599, 599), (600, None))
        ),
    ],
)
def test_other_vendors_shapes_are_read(document: object, error: AnswerError) -> None:
    assert read_error(json.dumps(document).encode()) == error


@pytest.mark.parametrize(
    "document",
    [
        {"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []},
        {"base_resp": {"status_code": [1002]}},
        {"base_resp": "no"},
        {"type": "message", "message": "hello"},
        {"message": {"role": "assistant"}, "code": 1, "type": "x"},
        {"detail": {}},
    ],
)
def test_what_only_resembles_an_error_is_none(document: object) -> None:
    assert read_error(json.dumps(document).encode()) is None


@pytest.mark.parametrize("shape", ["{}", '{{"type": "t", "message": {}}}'])
def test_a_message_is_read_up_to_2000_characters(shape: str) -> None:
    error = read_error(f'{{"error": {shape.format(json.dumps("x" * 5000))}}}'.encode())
    assert error is not None
    assert error.message == "x" * 2000


def test_details_name_the_kind_as_well() -> None:
    body = {"error": {"type": "a", "message": "", "details": {"error_code": "enforced_spend_limit_reached", "code": 5}}}
    error = read_error(json.dumps(body).encode())
    assert error is not None
    assert error.codes == {"a", "enforced_spend_limit_reached"}


@pytest.mark.parametrize("body", [b"<html>", b"\r\n <!DOCTYPE html><html>", b"<?xml version='1.0'?><Error/>"])
def test_a_page_is_known_as_one(body: bytes) -> None:
    assert read_error(body) == AnswerError(is_page=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"upstream error",
        b"[]",
        b"null",
        b'{"error": null}',
        b'{"error": {}}',
        b'{"error": 5}',
        b'{"id": "msg_1"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"data:",
        START + DELTA,
    ],
)
def test_a_body_without_an_error_tells_of_none(body: bytes) -> None:
    assert read_error(body) is None


@pytest.mark.parametrize(("size", "message"), [(1 << 20, "late"), ((1 << 20) + 1, None)])
def test_a_body_of_at_most_a_mebibyte_is_read(size: int, message: str | None) -> None:
    error = read_error(b'{"error": "late"}'.rjust(size))
    assert (error and error.message) == message


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("before", "is_after"), [(b"", False), (START, False), (START + DELTA, True)])
def test_an_error_in_a_stream_is_found_and_distinguished_from_one_after_content(
    before: bytes, *, is_after: bool, end: bytes
) -> None:
    error = read_error((b": hello\n\n" + before + EVENT).replace(b"\n", end))
    assert error is not None
    assert (error.type, error.is_after_content) == ("overloaded_error", is_after)


@pytest.mark.parametrize(
    ("before", "is_after"),
    [
        (chunk({"role": "assistant", "content": ""}), False),
        (chunk(choices=[]), False),
        (chunk({"content": "so"}), True),
    ],
)
def test_an_error_in_a_chat_completions_stream_is_distinguished_from_one_after_content(
    before: bytes, *, is_after: bool
) -> None:
    error = read_error(before + b'data: {"error": {"message": "busy", "code": "server_is_overloaded"}}\n\n')
    assert error is not None
    assert (set(error.codes), error.is_after_content) == ({"server_is_overloaded"}, is_after)


def test_an_event_of_several_lines_and_unknown_ones_are_read() -> None:
    body = b'event: error\ndata: {"error":\ndata:{"type": "x", "message": "y"}}\n\n'
    assert read_error(body) == AnswerError("x", "y", frozenset({"x"}))
    assert read_error(body.replace(b"data: ", b"data:")) == read_error(body), "the blank is optional"
    unknown = b'event: new\ndata: {"type": "new_thing"}\n\n'
    error = read_error(unknown + body)
    assert error is not None
    assert error.is_after_content, "what nobody knows may be content"


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_body_raises(body: bytes) -> None:
    for one in (body, b'{"error": ' + body + b"}", b"data: " + body + b"\n\n" + EVENT, b"<" + body):
        read_error(one)


@pytest.mark.parametrize("piece", [b"<!-- -->", b":\n", b"\n", b"\r", b'{"error":', b"data:\n\n"])
def test_no_body_keeps_it_busy_for_ever(piece: bytes) -> None:
    assert (read_error(piece * (1_000_000 // len(piece))) is None) == (piece != b"<!-- -->")
