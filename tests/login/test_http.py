from http import HTTPStatus

import pytest

from tokenferry.login._http import CallbackReply, CallbackRequest


def test_a_head_is_read_with_lower_case_names() -> None:
    request = CallbackRequest.of(
        b"GET /callback?code=c&state=s HTTP/1.1\r\nHost: localhost:1\r\nX-Empty:\r\nCookie: a=b; c=d "
    )
    assert request is not None
    assert (request.method, request.path, request.query) == ("GET", "/callback", "code=c&state=s")
    assert request.headers == {"host": "localhost:1", "x-empty": "", "cookie": "a=b; c=d"}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/2",
        b"GET  / HTTP/1.1",
        b"GET http://localhost/ HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b",
        b"GET / HTTP/1.1\r\n folded: a",
        b"GET / HTTP/1.1\r\nHost : a",
        b"GET / HTTP/1.1\r\nHost: a\nX: b",
        b"GET / HTTP/1.1\r\nHost: \x00",
        b"GET /\xff HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_what_is_ambiguous_or_no_head_is_none(head: bytes) -> None:
    assert CallbackRequest.of(head) is None


def test_a_page_is_whole_escaped_and_brings_nothing_from_elsewhere() -> None:
    raw = CallbackReply(HTTPStatus.OK, "<b>", "'\"><script>", (("x-more", "1"),)).to_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"content-length: {len(body)}" in lines
    for header in ("cache-control: no-store", "referrer-policy: no-referrer", "x-content-type-options: nosniff"):
        assert header in lines
    assert any(line.startswith("content-security-policy: default-src 'none'") for line in lines)
    assert "x-more: 1" in lines
    assert b"<script" not in body
    assert b"<b>" not in body
    assert b"http" not in body
