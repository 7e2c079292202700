"""Requests and answers of many shapes, as bytes."""

import gzip
from typing import Final

BODY: Final = '{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"Ärger ⛴"}]}'.encode()
DOCUMENT: Final = b'{"type":"message","usage":{"input_tokens":1,"output_tokens":2}}'
STREAM: Final = (
    'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
    'event: ping\r\ndata: {"type": "ping"}\r\n\r\n'
    'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"⛴"}}\n\n'
    'event: message_stop\ndata: {"type":"message_stop"}\n\n'
).encode()
TARGET: Final = "/v1/messages"


def chunked(body: bytes, size: int = 7, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def request(
    *lines: str, target: str = TARGET, method: str = "POST", body: bytes | None = BODY, framed: bool = True
) -> bytes:
    """A request; `KEY` stands for the client key."""
    head = [f"{method} {target} HTTP/1.1", "Host: HOST", "x-api-key: KEY", "content-type: application/json", *lines]
    if body is not None and framed:
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


def answer(*lines: str, body: bytes = DOCUMENT, status: str = "200 OK", framed: bool = True) -> bytes:
    head = [f"HTTP/1.1 {status}", *(lines or ("content-type: application/json",))]
    if framed:
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def event_stream(body: bytes, *, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + (chunked(body, 11) if end else chunked(body, 11).removesuffix(b"0\r\n\r\n"))


def error(status: int, kind: str = "api_error") -> bytes:
    return answer(
        "content-type: application/json",
        "retry-after: 3",
        "x-should-retry: false",
        status=f"{status} Reason",
        body=b'{"type":"error","error":{"type":"%b","message":"So it is."}}' % kind.encode(),
    )


REQUESTS: Final = {
    "a length": request(),
    "chunks": request("Transfer-Encoding: chunked", body=chunked(BODY), framed=False),
    "chunks with extensions": request(
        "transfer-encoding: CHUNKED", body=chunked(BODY, 9, b';name="value"'), framed=False
    ),
    "a trailer": request("transfer-encoding: chunked", body=chunked(BODY, trailer=b"x-late: 1\r\n"), framed=False),
    "no length": request("accept: */*", method="GET", target="/v1/models", body=None),
    "a megabyte": request(body=b'{"model":"claude-x","fill":"' + b"f" * (1 << 20) + b'"}'),
    "a query": request(target=TARGET + "?beta=true&a=%20%2F%c3%a4&b=1+2;c=[x]&&d=%00&e?f"),
    "a path with colons": request(method="GET", target="/v1/models/claude-x:1@2+3-4.5_6", body=None),
    "many headers": request(*(f"x-header-{number}: {number}" for number in range(90))),
    "a large header": request(f"x-large: {'v' * 7000}"),
    "repeated headers": request("x-twice: 1", "X-Between: 2", "X-TWICE: 3", "anthropic-beta: a", "anthropic-beta: b"),
    "odd headers": request("x-empty:", "x_under_score: 1", "x-1!#$%&'*+.^_`|~: 2"),
    "blanks around a value": request("x-blanks: \t a  b "),
    "a header in Latin-1": request("x-name: Jérôme"),
    "a body announced first": request("Expect: 100-continue"),
    "what the client is": request("user-agent: nobody/1 (a; b)", "anthropic-version: 2023-06-01", "accept: a/b;q=0.1"),
    "a cookie": request("cookie: a=b"),
    "a header of this connection": request("connection: keep-alive, x-hop", "x-hop: 1"),
    "a header of ours": request("x-tokenferry-account: other"),
}
ANSWERS: Final = {
    "a length": answer(),
    "nothing": answer(body=b""),
    "204": answer("x-a: b", status="204 No Content", body=b"", framed=False),
    "304": answer('etag: "1"', status="304 Not Modified", body=b"", framed=False),
    "chunks": answer(
        "content-type: application/json", "transfer-encoding: chunked", body=chunked(DOCUMENT), framed=False
    ),
    "chunks with extensions": answer("transfer-encoding: chunked", body=chunked(DOCUMENT, 5, b";a=b"), framed=False),
    "a trailer": answer("transfer-encoding: chunked", body=chunked(DOCUMENT, trailer=b"x-late: 1\r\n"), framed=False),
    "until the end": answer(framed=False),
    "HTTP/1.0": answer(framed=False).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "compressed": answer("content-type: application/json", "content-encoding: gzip", body=gzip.compress(DOCUMENT)),
    "three megabytes": answer(body=b"\x00\xff\r\n" * 786_432),
    "three megabytes of chunks": answer(
        "transfer-encoding: chunked", body=chunked(b"\x00\xff\r\n" * 786_432, 50_000), framed=False
    ),
    "many headers": answer(*(f"x-header-{number}: {number}" for number in range(100))),
    "a large header": answer(f"x-large: {'v' * 30_000}"),
    "repeated headers": answer("x-twice: 1", "X-Between: 2", "X-TWICE: 3", "vary: a", "vary: b"),
    "odd headers": answer("x-empty:", "x_under_score: 1", "x-latin: Jérôme", "x-1!#$%&'*+.^_`|~: 2"),
    "another status": answer(status="299 So So"),
    "no reason": answer(status="200"),
    "an early hint": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + answer(),
    **{str(status): error(status) for status in (400, 401, 403, 404, 413, 422, 429, 500, 503, 504, 529)},
    "a stream": event_stream(STREAM),
    "a stream until the end": answer("content-type: text/event-stream", body=STREAM, framed=False),
    "a stream of a length": answer("content-type: text/event-stream", body=STREAM),
    "a compressed stream": answer(
        "content-type: text/event-stream", "content-encoding: gzip", body=gzip.compress(STREAM), framed=False
    ),
    "an error within a stream": event_stream(
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Too much."}}\n\n'
    ),
    "a length cut off": answer(body=DOCUMENT)[:-9],
    "chunks cut off": answer("transfer-encoding: chunked", body=chunked(DOCUMENT)[:-12], framed=False),
    "a stream cut off": event_stream(STREAM[:-60], end=False),
    "a redirect": answer("location: https://example.com/", status="307 Temporary Redirect"),
    "a cookie": answer("set-cookie: a=b"),
    "a header of this connection": answer("connection: x-hop", "x-hop: 1"),
    "a page": answer("content-type: text/html; charset=utf-8", body=b"<script>alert(1)</script>"),
    "the account's limits": answer("anthropic-ratelimit-requests-remaining: 1", "anthropic-organization-id: o"),
    "two lengths": answer("content-length: 5"),
    "a length and chunks": answer("transfer-encoding: chunked", body=chunked(DOCUMENT)),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nx-a: b",
    "no answer": b"",
}
REFUSED: Final = {
    "a length and chunks": request("transfer-encoding: chunked", body=chunked(BODY)),
    "two lengths": request("content-length: 5"),
    "a length twice": request(f"content-length: {len(BODY)}"),
    "a signed length": request("content-length: +5", body=b"12345", framed=False),
    "a length that is none": request("content-length: 5x", body=b"12345", framed=False),
    "another coding": request("transfer-encoding: gzip", body=chunked(BODY), framed=False),
    "two codings": request("transfer-encoding: gzip, chunked", body=chunked(BODY), framed=False),
    "a disguised coding": request("transfer-encoding: xchunked", body=chunked(BODY), framed=False),
    "chunks twice": request(
        "transfer-encoding: chunked", "transfer-encoding: chunked", body=chunked(BODY), framed=False
    ),
    "a chunk size that is none": request("transfer-encoding: chunked", body=b"xyz\r\n12345\r\n0\r\n\r\n", framed=False),
    "an endless chunk size": request("transfer-encoding: chunked", body=b"f" * 40 + b"\r\n1", framed=False),
    "a blank before the colon": request("x-a : b"),
    "a folded header": request("x-a: b", " c"),
    "a header without a name": request(": b"),
    "a header without a colon": request("nothing"),
    "a null in a header": request("x-a: b\x00c"),
    "a carriage return in a header": request("x-a: b\rc"),
    "lines that end in a line feed": request().replace(b"\r\n", b"\n", 5),
    "two hosts": request("Host: HOST"),
    "no host": request().replace(b"Host: HOST\r\n", b""),
    "HTTP/1.0": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a whole address": request(target="http://HOST/v1/messages"),
    "an authority": request(target="HOST", method="CONNECT", body=None),
    "an asterisk": request(target="*", method="OPTIONS", body=None),
    "a blank in the target": request(target="/v1/messages x"),
    "a fragment": request(target="/v1/messages#x"),
    "an unknown method": request(method="BREW"),
    "a header of 100 kB": request(f"x-large: {'v' * 100_000}"),
    "500 headers": request(*(f"x-header-{number}: {'v' * 200}" for number in range(500))),
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
