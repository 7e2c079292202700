"""Translates the response of an upstream that speaks another format than the client."""

from collections.abc import Callable
from typing import Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.gateway.http.headers import EncodedCredential, Header
from tokenferry.limits import readable
from tokenferry.providers import Provider
from tokenferry.streaming import DIALECTS, EventStreamFilter, Inflater, TokenUsage, estimate_output, inflater_of
from tokenferry.upstream import BadAnswer, Call, ResponseHead, Sink, UpstreamError
from tokenferry.wire import Codec, Sent, StreamTranslator

_MULTIPLE_CHOICES: Final = 300
_BAD_GATEWAY: Final = 502
_LONGEST_DOCUMENT: Final = 8 * 1024 * 1024
"""In bytes. A document is held until it is complete."""
_TYPE: Final = b"content-type"
_EVENTS: Final = b"text/event-stream"
_JSON: Final = b"application/json"
_OWN_LINES: Final = {"anthropic": (b"anthropic-version: 2023-06-01\r\n",)}
"""Headers that an API requires in each request."""
_OF_THE_BODY: Final = frozenset((_TYPE, b"content-length", b"content-encoding", b"transfer-encoding"))


class Translation:
    """A sink that translates an upstream's response for another sink.

    Events are translated as they arrive. A document is held until it is complete, since it may be invalid. Errors and
    redirects pass unchanged, because failover classifies them by the upstream's text; `error` translates one for the
    client. `fail` receives unexpected exceptions.
    """

    call: Call | None = None
    """The upstream call, once there is one."""
    _head: ResponseHead | None = None
    """The head of a document that is held."""
    _stream: StreamTranslator | None = None
    _inflater: Inflater | None = None
    """Inflates an answer that the upstream compresses unasked."""
    _events: EventStreamFilter | None = None
    """Reads the usage of the upstream's stream."""

    def __init__(
        self,
        codec: Codec,
        sent: Sent,
        sink: Sink,
        *,
        provider: Provider,
        request_id: str,
        fail: Callable[[Exception], None],
        is_answer: bool = True,
    ) -> None:
        self.sent = sent
        self.usage = TokenUsage()
        """The usage that the upstream reports."""
        self._dialect = DIALECTS[codec.upstream]
        self._provider = provider
        self._codec = codec
        self._sink = sink
        self._request_id = request_id
        self._fail = fail
        self._is_answer = is_answer
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def target(self) -> bytes:
        return self.sent.path.encode("ascii")

    def lines(self, presented: EncodedCredential) -> list[bytes]:
        """Give the request's header lines. None are the client's, since those are for another API."""
        return [
            *((b"content-type: application/json\r\n",) if self.sent.body else ()),
            b"accept: %b\r\n" % (_EVENTS if self.sent.stream else _JSON),
            b"accept-encoding: identity\r\n",
            b"user-agent: tokenferry\r\n",
            *_OWN_LINES.get(self._codec.upstream, ()),
            *(b"anthropic-beta: %b\r\n" % beta.encode("ascii") for beta in presented.betas),
            *presented.lines,
        ]

    @property
    def beginning(self) -> bytes:
        """The untranslated beginning of the upstream's stream."""
        return b"" if self._events is None else self._events.beginning

    def error(self, head: ResponseHead, body: bytes) -> tuple[ResponseHead, bytes]:
        """Translate an error for the client."""
        fields = {"content-encoding": _value_of(head, b"content-encoding").decode("latin-1")}
        status, content = self._codec.error(head.status, readable(fields, body) or body, self._request_id)
        return error_head(head, status, content), content

    def on_head(self, head: ResponseHead) -> None:
        if head.status >= _MULTIPLE_CHOICES:
            self._sink.on_head(head)
            return
        self._inflater = inflater_of(_value_of(head, b"content-encoding"))
        if _kind_of(head) == _EVENTS and self.sent.stream:
            self._stream = self._codec.stream(self.sent, self._request_id)
            self._events = EventStreamFilter(self.usage, self._request_id, self._dialect)
            self._sink.on_head(ResponseHead(head.status, _headers(head, _EVENTS)))
        else:
            self._head = head

    def on_body(self, chunk: bytes) -> None:
        if self._inflater is not None:
            try:
                chunk = self._inflater.feed(chunk)
            except ValueError as fault:
                self._give_up(f"its body can't be inflated: {fault}")
                return
        if self._stream is not None and self._events is not None:
            self._pass(self._stream.feed, self._events.feed(chunk))
        elif self._head is None:
            self._sink.on_body(chunk)
        else:
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size > _LONGEST_DOCUMENT:
                self._give_up("its body is too large to translate")

    def on_end(self) -> None:
        if self._stream is not None and self._events is not None:
            self._pass(self._stream.feed, self._events.end())
            self._pass(self._stream.end)
            self._sink.on_end()
        elif self._head is None:
            self._sink.on_end()
        else:
            try:
                head, content = self._document(self._head, b"".join(self._chunks))
            except Exception as fault:  # noqa: BLE001  # a defect of a codec: answered
                self._fail(fault)
                return
            self._sink.on_head(head)
            self._sink.on_body(content)
            self._sink.on_end()

    def on_failure(self, failure: UpstreamError) -> None:
        if self._stream is not None and self._stream.is_complete:
            self._sink.on_end()  # only the end of the framing is missing
        else:
            self._sink.on_failure(failure)

    def close(self) -> None:
        """End it, and estimate the tokens that the upstream didn't report."""
        if self._events is not None:
            self._events.close()

    def _pass(self, translate: Callable[..., bytes], *given: bytes) -> None:
        try:
            content = translate(*given)
        except Exception as fault:  # noqa: BLE001  # see `on_end`
            self._fail(fault)
            return
        if content:
            self._sink.on_body(content)

    def _document(self, head: ResponseHead, body: bytes) -> tuple[ResponseHead, bytes]:
        """Give the translated answer, or an error in the upstream's format."""
        try:
            content, _ = self._codec.answer(body, self.sent)
            self._dialect.read_usage(body, self.usage)
            if self._is_answer and self.usage.output is None:
                estimate_output(body, self.usage)
            if self.sent.stream:
                return _error(head, "the upstream answered a request for a stream with a document")
        except UnreadableAnswer as fault:
            if fault.status is not None:
                return ResponseHead(fault.status, _headers(head, _JSON, len(body))), body
            return _error(head, str(fault))
        return ResponseHead(head.status, _headers(head, _JSON, len(content))), content

    def _give_up(self, why: str) -> None:
        assert self.call is not None
        self.call.abort()
        self._sink.on_failure(BadAnswer(self._provider.name, why, after_head=True))


def error_head(head: ResponseHead, status: int, content: bytes) -> ResponseHead:
    """Give the head for an error whose body was replaced."""
    return ResponseHead(status, _headers(head, _JSON, len(content)))


def _error(head: ResponseHead, why: str) -> tuple[ResponseHead, bytes]:
    """Give a 502 that replaces an unreadable answer."""
    content = why.encode()
    return ResponseHead(_BAD_GATEWAY, _headers(head, b"text/plain", len(content))), content


def _kind_of(head: ResponseHead) -> bytes:
    return _value_of(head, _TYPE).partition(b";")[0].strip().lower()


def _value_of(head: ResponseHead, header: bytes) -> bytes:
    return next((value for name, value in head.headers if name == header), b"")


def _headers(head: ResponseHead, kind: bytes, length: int | None = None) -> list[Header]:
    """Give the upstream's headers, with those that describe the replaced body."""
    others = [header for header in head.headers if header[0] not in _OF_THE_BODY]
    sized = [] if length is None else [(b"content-length", b"%d" % length)]
    return [*others, (_TYPE, kind), *sized]
