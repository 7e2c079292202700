"""Joins two codecs, with the Messages API between them."""

from msgspec import structs

from tokenferry.wire._codec import Codec, Sent, StreamTranslator, Tokens, WireFormat


class CodecChain:
    """Translates from a client's format to the Messages API, and from there to an upstream's format."""

    def __init__(self, client: Codec, upstream: Codec) -> None:
        self._client = client
        self._upstream = upstream

    @property
    def upstream(self) -> WireFormat:
        return self._upstream.upstream

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        hub = self._client.request(body, model, at=at)
        sent = self._upstream.request(hub.body, model, at=at)
        left_out = tuple(sorted({*hub.left_out, *sent.left_out}))
        return structs.replace(sent, left_out=left_out, hub=structs.replace(hub, body=b""))

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        message, counted = self._upstream.answer(body, sent)
        return self._client.answer(message, _hub(sent))[0], counted

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        return self._client.error(*self._upstream.error(status, body, request_id), request_id)

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator:
        return _ChainedStream(self._client.stream(_hub(sent), request_id), self._upstream.stream(sent, request_id))


class _ChainedStream:
    def __init__(self, client: StreamTranslator, upstream: StreamTranslator) -> None:
        self._client = client
        self._upstream = upstream

    @property
    def is_complete(self) -> bool:
        return self._client.is_complete

    @property
    def error(self) -> str | None:
        return self._client.error

    @property
    def usage(self) -> Tokens:
        return self._upstream.usage

    def feed(self, chunk: bytes) -> bytes:
        return self._client.feed(self._upstream.feed(chunk))

    def end(self) -> bytes:
        return self._client.feed(self._upstream.end()) + self._client.end()

    def fail(self, why: str) -> bytes:
        return self._client.feed(self._upstream.fail(why)) + self._client.fail(why)


def _hub(sent: Sent) -> Sent:
    assert sent.hub is not None
    return sent.hub
