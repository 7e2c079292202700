import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.cli._raw_answer import read_raw_answer
from tokenferry.errors import TokenferryError

BODY = b'{"error": {"type": "x"}}'


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\n\n",
        b"HTTP/1.1 100 Continue\n\n",
        b"HTTP/1.1 200 Connection established\nVia: 1.1 proxy\n\n",
        b"HTTP/2 302 \nlocation: /elsewhere\n\nHTTP/1.1 103 Early Hints\nlink: </a>\n\n",
    ],
)
def test_the_last_head_and_what_follows_it_count(before: bytes, end: bytes) -> None:
    head = (before + b"HTTP/2 429 \nRetry-After:  7 \nX-Empty:\n\n").replace(b"\n", end)
    answer = read_raw_answer(head + BODY)
    assert answer.status == 429
    assert answer.headers == {"retry-after": "7", "x-empty": ""}
    assert answer.body == BODY


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 500 Oh", b"HTTP/1.1 500\r\n", b"HTTP/1.0 500 Oh\r\n\r\n", b"HTTP/3 500\n\n"]
)
def test_an_answer_may_end_with_its_head(raw: bytes) -> None:
    answer = read_raw_answer(raw)
    assert (answer.status, answer.headers, answer.body) == (500, {}, b"")


def test_repeated_and_folded_headers_are_joined() -> None:
    answer = read_raw_answer(b"HTTP/1.1 200 OK\nvia: a\nvia: b\nx: one\n  two\n\n")
    assert answer.headers == {"via": "a, b", "x": "one two"}


def test_a_body_that_begins_like_a_blank_line_is_kept() -> None:
    assert read_raw_answer(b"HTTP/1.1 200 OK\n\n\nHTTP/1.1 is old").body == b"\nHTTP/1.1 is old"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5\r\nHello\r\n0\r\n\r\n", b"Hello"),
        (b"3\r\nHel\r\n2;x=y\r\nlo\r\n0\r\ntrailer: 1\r\n\r\n", b"Hello"),
        (b"5\nHello\n0\n\n", b"Hello"),
        (b"3\r\nHel\r\nff\r\nlo", b"Hello"),
        (b"Hello", b"Hello"),
        (BODY, BODY),
        (b"event: error\n\n", b"event: error\n\n"),
        (b"", b""),
    ],
)
def test_chunks_are_joined_where_they_are_still_framed(body: bytes, expected: bytes) -> None:
    assert read_raw_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body).body == expected


def test_a_body_counts_as_compressed_only_if_it_still_is() -> None:
    head = b"HTTP/1.1 200 OK\ncontent-encoding: gzip\n\n"
    assert read_raw_answer(head + b"\x1f\x8b\x08").encoding == "gzip"
    assert read_raw_answer(head + BODY).encoding is None


def test_the_date_tells_when_it_came() -> None:
    assert read_raw_answer(b"HTTP/1.1 200 OK\ndate: Fri, 15 Jan 2027 08:00:00 GMT\n\n").sent_at == 1_800_000_000
    assert read_raw_answer(b"HTTP/1.1 200 OK\ndate: soon\n\n").sent_at is None
    assert read_raw_answer(b"HTTP/1.1 200 OK\n\n").sent_at is None


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "not an HTTP response"),
        (BODY, "not an HTTP response"),
        (b"HTTP/1.1 999 No\n\n", "not an HTTP response"),
        (b"GET / HTTP/1.1\n\n", "not an HTTP response"),
        (b"HTTP/1.1 100 Continue\n\n", r"only an interim response \(100\)"),
        (b"HTTP/1.1 200 OK\na: b\nsecret sentence\n\n", "line 3 of the response is not a header"),
    ],
)
def test_what_is_no_answer_is_reported_in_a_sentence_that_quotes_nothing(raw: bytes, told: str) -> None:
    with pytest.raises(TokenferryError, match=told) as fault:
        read_raw_answer(raw)
    assert "secret sentence" not in str(fault.value)


@given(
    st.binary(),
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\ndate: ", b"HTTP/1.1 100 A\n\nHTTP/2 200\n"])
    | st.just(b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n"),
)
def test_other_errors_there_are_none(raw: bytes, head: bytes) -> None:
    with contextlib.suppress(TokenferryError):
        _ = read_raw_answer(head + raw).sent_at
