"""Requests that two parsers could read differently: each is refused once, and nothing behind it is ever served."""

import asyncio
import json

import pytest

from gateway.rig import Gate, Origin, read_rest

pytestmark = pytest.mark.anyio

# Would be served if the parser took it for a request: it needs no key and answers to GET.
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
POST = b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer KEY\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n"
OFFER = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"

HEADS = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a length with a blank in it": POST + b"Content-Length: 1 2\r\n\r\n{}",
    "a length with a plus": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length that overflows": POST + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "a length behind a vertical tab": POST + b"Content-Length: \x0b2\r\n\r\n{}",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked before a form feed": POST + b"Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in a list": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "identity, then chunked": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, then chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an empty coding and a length": POST + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a blank before the name": POST + b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded header": GET + b"X: 1\r\n\t2\r\n\r\n",
    "a header behind a lone line feed": POST + b"X: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare carriage return": GET + b"X: 1\rContent-Length: 5\r\n\r\n",
    "lone line feeds": b"GET /healthz HTTP/1.1\nHost: HOST\n\n",
    "lone carriage returns": b"GET /healthz HTTP/1.1\rHost: HOST\r\r",
    "a head that ends in a line feed": GET + b"\n",
    "a NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "a NUL in a name": GET + b"X\0: a\r\n\r\n",
    "a NUL in the target": b"GET /healthz\0 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a control character in a value": GET + b"X: \x1b[31m\r\n\r\n",
    "an empty name": GET + b": a\r\n\r\n",
    "a line without a colon": GET + b"abc\r\n\r\n",
    "a name that is no token": GET + b"a(b): 1\r\n\r\n",
    "two hosts": GET + b"Host: HOST\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "an absolute target": b"GET http://HOST/healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "an absolute target with a user": b"GET http://a@HOST/healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "an authority": b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a fragment": b"GET /healthz#a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a backslash": b"GET \\healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a blank in the target": b"GET /healthz x HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a tab behind the method": b"GET\t/healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a blank before the method": b" GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a blank behind the version": b"GET /healthz HTTP/1.1 \r\nHost: HOST\r\n\r\n",
    "a method in lower case": b"get /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a method that nobody knows": b"FETCH /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: HOST\r\n\r\n",
    "HTTP/1.10": b"GET /healthz HTTP/1.10\r\nHost: HOST\r\n\r\n",
    "HTTP/11": b"GET /healthz HTTP/11\r\nHost: HOST\r\n\r\n",
    "a version in lower case": b"GET /healthz http/1.1\r\nHost: HOST\r\n\r\n",
    "an upgrade with a body": GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
    "two offers of HTTP/2": GET + b"Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: h2c\r\n\r\n",
    "an offer of HTTP/2 and of another": GET + b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
    "an offer of HTTP/2 with two lengths": OFFER + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "an offer of HTTP/2 with length and chunked": OFFER
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an offer of HTTP/2 for a tunnel": OFFER.replace(b"POST /v1/messages", b"CONNECT HOST") + b"\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
}  # fmt: skip

OTHER_VERSIONS = {
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: HOST\r\n\r\n",
    "HTTP/1.0 that is kept alive": b"GET /healthz HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n",
    "chunked on HTTP/1.0": b"POST /v1/messages HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: HOST\r\n\r\n",
}  # fmt: skip

CHUNKS = {
    "no number": b"zz\r\n\r\n",
    "a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a plus": b"+2\r\n{}\r\n0\r\n\r\n",
    "a minus": b"-2\r\n{}\r\n0\r\n\r\n",
    "a blank before it": b" 2\r\n{}\r\n0\r\n\r\n",
    "a blank behind it": b"2 \r\n{}\r\n0\r\n\r\n",
    "nothing": b"\r\n{}\r\n0\r\n\r\n",
    "an overflow": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a lone line feed": b"2\n{}\r\n0\r\n\r\n",
    "an extension that ends in a line feed": b"2;a\n{}\r\n0\r\n\r\n",
    "an extension with a carriage return": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    "an extension with a NUL": b"2;\0\r\n{}\r\n0\r\n\r\n",
    "data without an end of line": b"2\r\n{}0\r\n\r\n",
    "more data than announced": b"2\r\n{}}\r\n0\r\n\r\n",
    "data that ends in a line feed": b"2\r\n{}\n0\r\n\r\n",
    "a length in the trailer": b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a coding in the trailer": b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded trailer": b"2\r\n{}\r\n0\r\nA: 1\r\n 2\r\n\r\n",
    "a trailer without a colon": b"2\r\n{}\r\n0\r\nabc\r\n\r\n",
}


def shape(gate: Gate, raw: bytes) -> bytes:
    return raw.replace(b"HOST", gate.host).replace(b"KEY", gate.key)


async def refused(gate: Gate, origin: Origin, raw: bytes, status: int) -> None:
    """It is answered once, with this status, the connection is at its end, and no upstream heard of it."""
    async with gate.open() as (reader, writer):
        writer.write(shape(gate, raw))
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in answer
    assert b"x-tokenferry-request-id: tf_" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert origin.seen == []


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_is_ambiguous_is_refused_and_what_follows_is_not_served(
    gate: Gate, origin: Origin, name: str
) -> None:
    await refused(gate, origin, HEADS[name] + SMUGGLED, 400)


@pytest.mark.parametrize("name", OTHER_VERSIONS)
async def test_another_version_is_refused_and_what_follows_is_not_served(gate: Gate, origin: Origin, name: str) -> None:
    await refused(gate, origin, OTHER_VERSIONS[name] + SMUGGLED, 505)


@pytest.mark.parametrize("name", CHUNKS)
async def test_a_chunk_that_is_ambiguous_is_refused_and_what_follows_is_not_served(
    gate: Gate, origin: Origin, name: str
) -> None:
    await refused(gate, origin, CHUNKED + CHUNKS[name] + SMUGGLED, 400)


@pytest.mark.parametrize("name", ["a fragment", "two hosts", "a bare carriage return", "length and chunked"])
async def test_it_makes_no_difference_how_the_bytes_arrive(gate: Gate, origin: Origin, name: str) -> None:
    async with gate.open() as (reader, writer):
        for byte in shape(gate, HEADS[name]):
            writer.write(bytes((byte,)))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    assert origin.seen == []


async def test_an_unknown_expectation_is_refused(gate: Gate, origin: Origin) -> None:
    await refused(gate, origin, POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED, 417)


async def test_a_request_that_follows_one_that_closes_is_not_served(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(shape(gate, GET + b"Connection: close\r\n\r\n" + SMUGGLED))
        assert (await reader.read()).count(b"HTTP/1.1 ") == 1


async def test_a_body_is_never_taken_for_a_request(gate: Gate, origin: Origin) -> None:
    body = json.dumps({"model": "x", "a": shape(gate, SMUGGLED).decode()}).encode()
    body = body.replace(b"\\r\\n", b"\\u000d\\u000a")
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=len(body)) + body + shape(gate, GET + b"Connection: close\r\n\r\n"))
        assert (await reader.read()).count(b"HTTP/1.1 ") == 2
    assert [seen.body for seen in origin.seen] == [body]


async def test_blank_lines_before_a_request_are_skipped(gate: Gate) -> None:
    """RFC 9112, 2.2: a client may send one too many behind a body."""
    async with gate.open() as (reader, writer):
        writer.write(b"\r\n\r\n" + shape(gate, GET + b"Connection: close\r\n\r\n"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_blank_lines_without_end_are_refused(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(b"\r\n" * 40_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


async def test_an_answer_gets_through_to_a_client_that_still_sends(gate: Gate, origin: Origin) -> None:
    async with gate.open() as (reader, writer):
        writer.write(shape(gate, POST + b"Content-Length: +1\r\n\r\n"))
        for _ in range(64):
            writer.write(b"x" * 65_536)
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.write_eof()


async def test_chunks_with_leading_zeros_and_extensions_are_understood(gate: Gate, origin: Origin) -> None:
    reply = await gate.raw(shape(gate, CHUNKED) + b"0002;a=b\r\n{}\r\n0\r\n\r\n")
    assert reply.status == 200
    assert origin.seen[-1].body == b"{}"


async def test_headers_can_not_be_injected_through_the_target(gate: Gate, origin: Origin) -> None:
    reply = await gate.call(b"/v1/models/%0d%0aset-cookie:%20a=b", method=b"GET")
    assert reply.status == 404
    assert not reply.all(b"set-cookie")
    async with gate.open() as (reader, writer):
        writer.write(b"GET /healthz\r\nset-cookie: a=b HTTP/1.1\r\n\r\n")
        assert b"set-cookie" not in await read_rest(reader)
    assert origin.seen == []


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_an_offer_of_http_2_is_ignored_and_the_body_stays_the_request_s(
    gate: Gate, origin: Origin, framing: bytes, size: int
) -> None:
    raw = shape(gate, (OFFER + framing) * 2 + SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with gate.open() as (reader, writer):
        for start in range(0, len(raw), size):
            writer.write(raw[start : start + size])
            if size == 1:
                await asyncio.sleep(0)
        answer = await reader.read()
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert [seen.body for seen in origin.seen] == [b"{}"] * 2
    assert not [name for seen in origin.seen for name, _ in seen.headers if name in {b"upgrade", b"http2-settings"}]
