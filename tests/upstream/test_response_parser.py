from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.upstream import ResponseHead
from tokenferry.upstream._response_parser import HEAD_LIMIT, HEADER_LIMIT, ResponseParser

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-A: b  \r\nset-cookie: 1\r\nSet-Cookie: 2\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5\r\nhello\r\n6;name="value"\r\n world\r\n0\r\nx-trailer: t\r\n\r\n'
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n"
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 11\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello world"


class Outcome:
    """What a reader made of an answer cut in the given pieces."""

    def __init__(self, *pieces: bytes, head_only: bool = False, reader: ResponseParser | None = None) -> None:
        self.reader = reader or ResponseParser()
        self.reader.expect(head_only=head_only)
        self.head: ResponseHead | None = None
        self.body = b""
        self.fault: str | None = None
        for piece in pieces:
            news = self.reader.feed(piece)
            self.fault = news.fault
            if news.head is not None:
                assert self.head is None
                self.head = news.head
            self.body += b"".join(news.parts)
            if self.fault:
                break

    @property
    def verdict(self) -> tuple[object, ...]:
        reader = self.reader
        ends = reader.ends_with_connection()
        return self.head, self.body, reader.complete, reader.keep_alive, reader.surplus, bool(self.fault), ends


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, INTERIM])
def test_reads_an_answer_whole(answer: bytes) -> None:
    outcome = Outcome(answer)
    assert outcome.head is not None
    assert (outcome.head.status, outcome.body) == (200, b"hello world")
    assert outcome.reader.complete
    assert outcome.reader.keep_alive
    assert not outcome.reader.surplus


def test_lowers_names_trims_values_and_keeps_order_and_repetitions() -> None:
    outcome = Outcome(PLAIN)
    assert outcome.head is not None
    assert outcome.head.headers == [
        (b"content-length", b"11"),
        (b"x-a", b"b"),
        (b"set-cookie", b"1"),
        (b"set-cookie", b"2"),
    ]


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, INTERIM, EMPTY, UNCHANGED, UNTIL_CLOSE])
def test_makes_the_same_of_an_answer_split_at_every_byte(answer: bytes) -> None:
    expected = Outcome(answer).verdict
    for at in range(1, len(answer)):
        assert Outcome(answer[:at], answer[at:]).verdict == expected
    assert Outcome(*bytewise(answer)).verdict == expected


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    framing=st.sampled_from(["length", "chunked", "close"]),
    cuts=st.lists(st.integers(0, 600), max_size=12),
    interim=st.booleans(),
)
def test_returns_any_body_in_any_framing_however_it_is_cut(
    parts: list[bytes], framing: str, cuts: list[int], *, interim: bool
) -> None:
    body = b"".join(parts)
    answer = b"HTTP/1.1 103 E\r\n\r\n" * interim
    if framing == "length":
        answer += b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunked":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        answer += b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        answer += b"HTTP/1.1 200 OK\r\n\r\n" + body
    edges = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    outcome = Outcome(*(answer[a:b] for a, b in pairwise(edges)))
    assert outcome.body == body
    assert outcome.fault is None
    assert outcome.reader.complete is (framing != "close")
    assert outcome.reader.ends_with_connection() is (framing == "close")


PIECES = st.sampled_from(
    [
        *(PLAIN, CHUNKED, INTERIM, EMPTY, UNCHANGED, UNTIL_CLOSE),
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.1 426 U\r\n"),
        *(b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n"),
        *(b"connection: close\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b"x: y\r\n", b"0\r\n\r\n"),
        *(b"3\r\nabc\r\n", b"3;a=b\r\n", b"ffffffffffffffff\r\n"),
    ]
)
ANYTHING = st.lists(PIECES | st.binary(max_size=8), max_size=8).map(b"".join)


@settings(max_examples=effort(1000))
@given(data=ANYTHING, cuts=st.lists(st.integers(0, 300), max_size=8), head_only=st.booleans())
def test_no_bytes_make_it_raise_and_every_fault_is_reported(data: bytes, cuts: list[int], *, head_only: bool) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    outcome = Outcome(*(data[a:b] for a, b in pairwise(edges)), head_only=head_only)
    assert outcome.fault is None or outcome.fault
    if outcome.head is not None:
        assert 200 <= outcome.head.status <= 599


def second_opinion(data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """What h11 makes of an answer to a GET after which the connection ends; None if it refuses it or finds it cut."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    peer.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = b""
    try:
        peer.receive_data(data)
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                peer.receive_data(b"")
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return head.status_code, [(name, value) for name, value in head.headers], body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=effort(1000))
@given(data=ANYTHING)
def test_what_it_takes_for_an_answer_another_parser_takes_for_the_same(data: bytes) -> None:
    outcome = Outcome(*bytewise(data))
    reader = outcome.reader
    if outcome.fault or outcome.head is None or not (reader.complete or reader.ends_with_connection()):
        return
    other = second_opinion(data)
    if other is not None:
        status, headers, body = other
        assert (status, body) == (outcome.head.status, outcome.body)
        assert headers == outcome.head.headers


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
def test_no_beginning_of_a_framed_answer_passes_for_the_whole(answer: bytes) -> None:
    for at in range(len(answer)):
        reader = Outcome(answer[:at]).reader
        assert not reader.complete
        assert not reader.ends_with_connection()


@pytest.mark.parametrize("answer", [EMPTY, UNCHANGED])
def test_no_body_follows_204_and_304(answer: bytes) -> None:
    outcome = Outcome(answer)
    assert outcome.reader.complete
    assert outcome.reader.keep_alive


@pytest.mark.parametrize("answer", [PLAIN[:-11], CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", UNTIL_CLOSE[:-11]])
def test_no_body_follows_an_answer_to_head_and_its_connection_ends(answer: bytes) -> None:
    outcome = Outcome(answer, head_only=True)
    assert outcome.head is not None
    assert outcome.reader.complete
    assert not outcome.reader.keep_alive
    assert Outcome(answer + b"hello", head_only=True).body == b""


def test_trailers_are_dropped() -> None:
    assert Outcome(*bytewise(CHUNKED)).head == ResponseHead(200, [(b"transfer-encoding", b"chunked")])


def test_one_reader_reads_answer_after_answer() -> None:
    reader = ResponseParser()
    for answer in (PLAIN, CHUNKED, EMPTY, INTERIM, PLAIN):
        assert Outcome(answer, reader=reader).reader.complete


@pytest.mark.parametrize("extra", [b"X", b"HTTP/1.1 200 OK\r\n", PLAIN])
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, EMPTY, PLAIN.replace(b"X-A: b", b"Connection: close")])
def test_bytes_after_the_end_are_surplus_and_no_part_of_the_answer(answer: bytes, extra: bytes) -> None:
    outcome = Outcome(answer + extra)
    assert outcome.reader.complete
    assert outcome.reader.surplus
    assert outcome.fault is None
    assert outcome.body == Outcome(answer).body


@pytest.mark.parametrize(
    ("answer", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", True),
    ],
)
def test_keeps_a_connection_only_when_the_peer_does(answer: bytes, *, keep_alive: bool) -> None:
    assert Outcome(answer).reader.keep_alive is keep_alive


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(head(b"content-length: 5", b"transfer-encoding: chunked"), id="CL+TE"),
        pytest.param(head(b"transfer-encoding: chunked", b"content-length: 5"), id="TE+CL"),
        pytest.param(head(b"content-length: 5", b"content-length: 5"), id="two CL"),
        pytest.param(head(b"content-length: 5, 5"), id="CL list"),
        pytest.param(head(b"content-length: +5"), id="signed CL"),
        pytest.param(head(b"content-length: -5"), id="negative CL"),
        pytest.param(head(b"content-length: 0x5"), id="hexadecimal CL"),
        pytest.param(head(b"content-length: 5 5"), id="CL with a blank"),
        pytest.param(head(b"content-length:"), id="empty CL"),
        pytest.param(head(b"content-length: 99999999999999999999"), id="CL beyond 64 bits"),
        pytest.param(head(b"content-length : 5"), id="blank before the colon"),
        pytest.param(head(b"transfer-encoding: gzip, chunked"), id="compressed chunks"),
        pytest.param(head(b"transfer-encoding: chunked, chunked"), id="chunks in chunks"),
        pytest.param(head(b"transfer-encoding: chunked", b"transfer-encoding: chunked"), id="two TE"),
        pytest.param(head(b"transfer-encoding: identity"), id="TE identity"),
        pytest.param(head(b"transfer-encoding: xchunked"), id="TE obfuscated"),
        pytest.param(head(b"transfer-encoding: \x0bchunked"), id="TE after a control character"),
        pytest.param(head(b"x: a", b" folded"), id="folded header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\n\r\n", id="bare LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n", id="bare CR"),
        pytest.param(head(b"x: a\0b"), id="NUL"),
        pytest.param(head(b": a"), id="empty name"),
        pytest.param(head(b"a b: c"), id="name with a blank"),
        pytest.param(head(b"no colon"), id="no colon"),
        pytest.param(b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", id="chunks in HTTP/1.0"),
        pytest.param(b"HTTP/2.0 200 OK\r\n\r\n", id="HTTP/2.0"),
        pytest.param(b"HTTP/0.9 200 OK\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", id="101"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="101 alone"),
        pytest.param(b"HTTP/1.1 103 Hints\r\ncontent-length: 3\r\n\r\nabc", id="interim with a body"),
        pytest.param(b"HTTP/1.1 099 Low\r\n\r\n", id="status 99"),
        pytest.param(b"HTTP/1.1 600 High\r\n\r\n", id="status 600"),
        pytest.param(b"HTTP/1.1 2000 Long\r\n\r\n", id="status 2000"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x50", id="TLS alert"),
        pytest.param(head(b"transfer-encoding: chunked") + b"0x5\r\nhello\r\n", id="chunk size 0x"),
        pytest.param(head(b"transfer-encoding: chunked") + b"-5\r\nhello\r\n", id="chunk size negative"),
        pytest.param(head(b"transfer-encoding: chunked") + b"5\nhello\n", id="chunk with LF"),
        pytest.param(head(b"transfer-encoding: chunked") + b"5\r\nhelloX\r\n", id="chunk too long"),
        pytest.param(head(b"transfer-encoding: chunked") + b"f" * 17 + b"\r\n", id="chunk beyond 64 bits"),
    ],
)
def test_refuses_ambiguous_framing_and_broken_heads_split_anywhere(answer: bytes) -> None:
    assert Outcome(answer).fault
    assert Outcome(*bytewise(answer)).fault


def test_a_long_head_passes_and_a_longer_one_does_not() -> None:
    assert Outcome(head(b"x: " + b"a" * (HEAD_LIMIT - 100), b"content-length: 0")).fault is None
    assert Outcome(head(b"x: " + b"a" * HEAD_LIMIT)).fault
    assert Outcome(head(*[b"x: y"] * HEADER_LIMIT)).fault is None
    assert Outcome(head(*[b"x: y"] * (HEADER_LIMIT + 1))).fault


@pytest.mark.parametrize(
    ("start", "more"),
    [
        pytest.param(b"HTTP/1.1 200 ", b"a" * 4096, id="reason"),
        pytest.param(b"HTTP/1.1 200 ", b"a" * HEAD_LIMIT, id="reason in two reads"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", b"a" * 4096, id="header value"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a" * 4096, id="header name"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, id="interim answers"),
        pytest.param(b"", b"\r\n" * 2048, id="empty lines"),
        pytest.param(head(b"transfer-encoding: chunked") + b"5;", b"a" * 4096, id="chunk extension"),
        pytest.param(head(b"transfer-encoding: chunked") + b"0\r\nx: ", b"a" * 4096, id="trailer"),
        pytest.param(head(b"transfer-encoding: chunked") + b"0\r\n", b"x: y\r\n" * 600, id="trailers"),
    ],
)
def test_endless_framing_is_cut_off(start: bytes, more: bytes) -> None:
    outcome = Outcome(start, *[more] * (2 * HEAD_LIMIT // len(more)))
    assert outcome.fault


def test_a_long_chunked_body_is_not_taken_for_endless_framing() -> None:
    chunk = b"1000\r\n" + bytes(4096) + b"\r\n"
    outcome = Outcome(head(b"transfer-encoding: chunked"), *[chunk] * 200, b"0\r\n\r\n")
    assert outcome.fault is None
    assert len(outcome.body) == 200 * 4096
