from typing import Final

from tokenferry.gateway.http.client_api import GEMINI
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.http.model_path import ModelPath
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.exchange import Exchange, ProxyState
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.streaming import BodyFilter, EventStreamFilter, JsonArrayFilter

_AS_EVENTS: Final = b"alt=sse"
_TYPE: Final = b"content-type:"
_JSON_TYPE: Final = b"content-type: application/json; charset=UTF-8\r\n"


class GeminiExchange(Exchange):
    """A request whose path names the model and the action. They are added to its body.

    A stream without `alt=sse` is answered as one JSON array.
    """

    _side = "/v1beta/models:countTokens"

    def __init__(
        self, state: ProxyState, head: RequestLine, writer: AnswerWriter, record: RequestRecord, asked: ModelPath
    ) -> None:
        super().__init__(state, head, writer, record, is_inference=True)
        self._client = GEMINI
        self._asked = asked
        self._is_aside = asked.is_count
        if _AS_EVENTS not in head.target.partition(b"?")[2].split(b"&"):
            self._frame = self._as_array

    def _open(self) -> None:
        self._body.add_members({"model": self._asked.model, "stream": self._asked.is_stream})
        super()._open()

    def _forward(self) -> None:
        assert self._request is not None
        self._request.path = self._asked
        super()._forward()

    def _as_array(self, events: EventStreamFilter, headers: ResponseHeaders) -> BodyFilter:
        headers.lines = [_JSON_TYPE if line.lower().startswith(_TYPE) else line for line in headers.lines]
        return JsonArrayFilter(events)
