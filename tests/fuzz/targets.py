"""Every parser that meets the outside, as a function of bytes: it gives something, or refuses in one sentence."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from tokenferry.claude_code import parse as parse_claude_code
from tokenferry.config import examine_content
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError, Unfit, UnreadableAnswer
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.server.connection import ClientConnection, Connections
from tokenferry.interchange import FORMATS, detect, parse
from tokenferry.limits import classify, read_usage
from tokenferry.oauth import OAuthEndpoints, TokenResponse, read_device, read_metadata, read_refresh
from tokenferry.routing import BodyFacts, scan
from tokenferry.secret import Secret
from tokenferry.stores import Document
from tokenferry.streaming import SseUsageReader, TokenUsage
from tokenferry.upstream._response_parser import ResponseParser
from tokenferry.wire import EventBoundary, Quirks, WireFormat, codec, end_of, split
from tokenferry.wire import parse as parse_event

NOW: Final = 1_790_000_000.0
PATH: Final = Path("/nowhere/work.json")
_FORMATS: Final[tuple[WireFormat, ...]] = ("anthropic", "openai", "openai-responses", "gemini")
_PAIRS: Final = (*product(_FORMATS, _FORMATS[:3]), *product(_FORMATS[:3], _FORMATS[3:]))
_CODECS: Final = [
    found for pair in _PAIRS if (found := codec(*pair, Quirks(thinking="level", efforts=("low",)))) is not None
]
_OLD: Final = OAuthToken(Secret("sk-ant-oat01-old"), refresh=Secret("sk-ant-ort01-old"))
_ENDPOINTS: Final = OAuthEndpoints(
    issuer="https://auth.example.com",
    token_endpoint="https://auth.example.com/token",
    device_authorization_endpoint="https://auth.example.com/device",
)
_REQUESTS: Final = (
    b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hello"}]}',
    b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}',
    b'{"model":"m","stream":true,"input":"hello"}',
    b'{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}',
)


def request_heads(data: bytes) -> None:
    """The listener, fed in two reads: whatever reaches a handler is framed soundly."""
    asyncio.run(_listen(data))


async def _listen(data: bytes) -> None:
    wire = _Wire()
    connection = ClientConnection(cast("Any", wire), Connections(100))
    connection.connection_made(cast("Any", wire))
    middle = len(data) // 2
    for part in (data[:middle], data[middle:]):
        if not wire.closing:
            connection.data_received(part)
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for line in wire.requests:
        assert line.target.startswith(b"/")
        assert line.target.isascii()
        assert len(line.read.hosts) == 1
        assert all(mark not in name + value for name, value in line.headers for mark in (b"\r", b"\n", b"\0"))
        assert not (line.length is not None and line.read.codings)


class _Wire:
    """A transport without a socket, and a gateway that answers nothing."""

    def __init__(self) -> None:
        self.closing = False
        self.requests: list[RequestLine] = []

    def exchange(self, head: RequestLine, writer: AnswerWriter) -> "_Handler":
        self.requests.append(head)
        return _Handler(writer)

    def take_note(self, *_: object) -> None:
        pass

    def get_extra_info(self, _: str) -> None:
        return None

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close

    def write(self, _: bytes) -> None:
        pass

    writelines = pause_reading = resume_reading = lambda *_: None


class _Handler:
    def __init__(self, writer: AnswerWriter) -> None:
        self.writer = writer

    take = complete = proceed = pause = resume = refuse = disconnected = lambda *_: None


def responses(data: bytes) -> None:
    """An upstream's answer: two reads give the body that one read gives."""
    whole, halves = ResponseParser(), ResponseParser()
    middle = len(data) // 2
    read = whole.feed(data)
    first = halves.feed(data[:middle])
    if first.fault is None and not first.complete:
        second = halves.feed(data[middle:])
        if read.fault is None:
            assert second.fault is None
            assert b"".join(first.parts + second.parts) == b"".join(read.parts)


def events(data: bytes) -> None:
    """Server-sent events: what passes is a prefix of what came, in whole events, however it was cut."""
    middle = len(data) // 3
    boundary = EventBoundary()
    passed = boundary.feed(data[:middle]) + boundary.feed(data[middle:])
    assert data.startswith(passed)
    parts = split(passed)
    assert not parts or end_of(passed, len(parts) - 1) == len(passed)
    for part in parts:
        parse_event(part)
    SseUsageReader(TokenUsage()).read(passed)


def codecs(data: bytes) -> None:
    """A codec, picked by the first byte: a request, an answer, an error and a stream of it."""
    pick, body = data[:1] or b"\0", data[1:]
    one = _CODECS[pick[0] % len(_CODECS)]
    if isinstance(scan([body]), BodyFacts):  # no other body comes so far
        with contextlib.suppress(Unfit):
            json.loads(one.request(body, "model").body)
    sent = None
    for request in _REQUESTS:
        with contextlib.suppress(Unfit):
            sent = one.request(request, "model")
            break
    assert sent is not None
    with contextlib.suppress(UnreadableAnswer):
        json.loads(one.answer(body, sent)[0])
    status, error = one.error(500, body, "req_1")
    assert 400 <= status < 600
    json.loads(error)
    stream = one.stream(sent, "req_1")
    middle = len(body) // 2
    out = stream.feed(body[:middle]) + stream.feed(body[middle:]) + stream.end()
    assert stream.is_complete or stream.error is not None
    for event in split(out):
        written = parse_event(event)[1]
        assert written in {b"", b"[DONE]"} or json.loads(written) is not None  # nothing is a comment's


def bodies(data: bytes) -> None:
    """The scan of a request's body agrees with a parser about the model."""
    found = scan([data])
    if isinstance(found, BodyFacts):
        assert found.model is None or found.model.encode() in data or b"\\" in data


def token_answers(data: bytes) -> None:
    """Answers of token, device and metadata endpoints; the first byte picks the status."""
    status = (200, 400, 401, 429, 500)[(data[:1] or b"\0")[0] % 5]
    answer = TokenResponse(status, {"retry-after": "5"}, data[1:])
    read_refresh(answer, _OLD, NOW, NOW)
    read_metadata(answer, _ENDPOINTS, lambda _: None)
    read_device(answer, _ENDPOINTS, lambda _: None, NOW)


def rate_headers(data: bytes) -> None:
    """An upstream's status, headers and body, as the classifier sees them."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("latin-1").splitlines() or [""]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(lines[0]) if lines[0].isascii() and lines[0].isdigit() and len(lines[0]) == 3 else 429
    for form in ("anthropic", "openai"):
        classify(status, headers, body, now=NOW, provider_format=cast("Any", form))
    read_usage(body)


def configurations(data: bytes) -> None:
    """A config.toml."""
    examine_content(data, PATH, environ={})


def documents(data: bytes) -> None:
    """An account's document: what can be read is written so that it can be read again."""
    found = Document.from_bytes(data, "work", "work.json")
    assert Document.from_bytes(found.to_bytes(), "work", "work.json") == found


def foreign_files(data: bytes) -> None:
    """Credential files of other tools, in every format."""
    for form in FORMATS:
        with contextlib.suppress(TokenferryError):
            parse(data, form, {})
    detect(data)


def claude_code_files(data: bytes) -> None:
    """Claude Code's credentials file."""
    parse_claude_code(data)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType(
    {
        one.__name__: one
        for one in (
            request_heads,
            responses,
            events,
            codecs,
            bodies,
            token_answers,
            rate_headers,
            configurations,
            documents,
            foreign_files,
            claude_code_files,
        )
    }
)


def run(name: str, data: bytes) -> None:
    """Feed one target. Whatever it raises but an error of ours is a defect."""
    with contextlib.suppress(TokenferryError):
        TARGETS[name](data)
