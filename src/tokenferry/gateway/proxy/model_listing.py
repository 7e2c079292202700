from typing import Final

from tokenferry.gateway.http.client_api import GEMINI, api_asked
from tokenferry.gateway.http.errors import GatewayError, refusal_to_route
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.http.model_path import without_version
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.exchange import Exchange, ProxyState
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.routing import model_denied
from tokenferry.upstream import ResponseHead, UpstreamError

_LIST: Final = b"/models"
_LIMIT: Final = 4 * 1024 * 1024
_OK: Final = 200
_LOOP: Final = 508


class ListingExchange(Exchange):
    """A request for models. The answer has mapped models before the upstream's, and only those that the key may use.

    If that changes the upstream's answer, it is held until it is complete. If it isn't a list, only the mapped models
    are listed.
    """

    def __init__(self, state: ProxyState, head: RequestLine, writer: AnswerWriter, record: RequestRecord) -> None:
        super().__init__(state, head, writer, record, is_inference=False)
        self._client = GEMINI if head.path.startswith(GEMINI.path) else api_asked(head.headers)
        if self._client is GEMINI:
            self._target = without_version(head.target)
        self._models = state.forwarder.model_list(self._client)
        self._is_list = head.path.endswith(_LIST)
        self._is_held = False
        self._held: list[bytes] | None = None
        self._size = 0

    def begin(self, head: ResponseHead, headers: ResponseHeaders) -> None:
        if self._is_held and head.status != _OK and (not self._models or head.status == _LOOP):
            self._is_held = False  # forward the error: there are no mapped models, or the request is in a loop
        if self._is_held:
            self._held = [] if head.status == _OK and headers.is_json else None
        else:
            super().begin(head, headers)

    def feed(self, chunk: bytes) -> None:
        if not self._is_held:
            super().feed(chunk)
        elif self._held is not None:
            self._size += len(chunk)
            self._held.append(chunk)
            if self._size > _LIMIT:
                self._held = None

    def end(self) -> None:
        if not self._is_held:
            super().end()
        elif not self._is_over:
            theirs = None if self._held is None else b"".join(self._held)
            merged = None if theirs is None else self._models.merged(self._target, theirs, self._allows)
            if merged is None:
                self._answer_alone()
            else:
                self._answer(merged)

    def cut(self, failure: UpstreamError) -> None:
        if self._is_held and not self._is_over:
            self._answer_alone()
        else:
            super().cut(failure)

    def fail(self, fault: Exception) -> None:
        is_upstreams = self._is_held and bool(self._models) and not self.writer.is_started
        if is_upstreams and not self._is_over:
            self._answer_alone()
        else:
            super().fail(fault)

    def _forward(self) -> None:
        key, request = self._key, self._request
        assert key is not None
        assert request is not None
        request.models = self._head.path.partition(_LIST)[2].decode("ascii")
        if self._is_list:
            self._is_held = request.is_read = bool(self._models or key.rights.models)
            if self._models and not self._forwarder.lists_upstreams:
                self._answer_alone()
                return
        elif (found := self._models.one(self._head.path, self._allows)) is not None:
            self._answer(found)
            return
        else:
            denied = model_denied(key, [self._models.name(self._head.path)])
            if denied is not None:
                raise refusal_to_route(denied)
        super()._forward()

    def _answer_alone(self) -> None:
        if self._models:
            self._answer(self._models.alone(self._target, self._allows))
        else:
            self._is_held = False
            message = "the upstream gave no readable list of models; try again in a moment"
            self.fail(GatewayError(502, "api_error", message, should_retry=True, cause="model_list_failed"))

    def _allows(self, name: str) -> bool:
        return self._key is not None and self._key.rights.allows_model(name)

    def _answer(self, content: bytes) -> None:
        self._start(
            _OK, [b"content-type: application/json\r\n", b"content-length: %d\r\n" % len(content)], len(content)
        )
        self._write(content)
        self._end()
