"""Requests without a known price, which are never translated: embeddings, files, and batches of messages."""

from typing import Final

from tokenferry.gateway.http.client_api import CHAT, MESSAGES, api_asked
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.exchange import Exchange, ProxyState
from tokenferry.gateway.routes import BATCHES, EMBEDDINGS, FILES
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.state import ClientKey
from tokenferry.streaming import TokenUsage
from tokenferry.upstream import ResponseHead

_ROUTES: Final = (EMBEDDINGS, BATCHES, FILES)


class UnpricedExchange(Exchange):
    """An unpriced request. It is refused for keys with limits that it could bypass: on models or spending.

    Files and batches are stored in one account, so they require a key or a gateway that is pinned to an account. A
    subscription is never used.
    """

    def __init__(self, state: ProxyState, head: RequestLine, writer: AnswerWriter, record: RequestRecord) -> None:
        super().__init__(state, head, writer, record, is_inference=head.path == EMBEDDINGS)
        self._route = next(one for one in _ROUTES if head.path.startswith(one)).decode("ascii")
        self._is_json = head.path != FILES
        self._side = self._route
        self._client = {EMBEDDINGS: CHAT, FILES: api_asked(head.headers)}.get(self._route.encode(), MESSAGES)

    def begin(self, head: ResponseHead, headers: ResponseHeaders) -> None:
        super().begin(head, headers)
        self._record.usage = TokenUsage()  # the filter's usage has no price

    def _open(self) -> None:
        assert self._key is not None
        self._record.is_unpriced = True
        if (why := self._refusal(self._key)) is not None:
            message = f"client key {self._key.name} may not use {self._route}: {why}"
            raise GatewayError(403, "permission_error", message, cause="unpriced")
        super()._open()

    def _refusal(self, key: ClientKey) -> str | None:
        """Give the reason why the key may not do this, with a way out; None if it may."""
        if key.rights.models:
            return "it is limited to some models, which can't be enforced here; use a key without --model"
        if key.budgets or self._state.budgets.counters_of(key, self._record.at):
            return "a budget covers it, and the cost of this request is unknown; use a key without a budget"
        if self._route != EMBEDDINGS.decode() and not self._forwarder.is_pinned(key):
            return f"files and batches are stored in one account; {self._forwarder.how_to_pin(key)}"
        return None
