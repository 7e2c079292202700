"""Requests that pass in their own format and whose price isn't known: embeddings, files, and batches of messages."""

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
    """For keys without limits that such a request could get around: on models, or on what is spent.

    What lies in one account, files and batches, is for keys that are pinned to an account, or where one is pinned for
    all. A subscription's credential is never presented.
    """

    def __init__(self, state: ProxyState, head: RequestLine, writer: AnswerWriter, record: RequestRecord) -> None:
        super().__init__(state, head, writer, record, is_inference=head.path == EMBEDDINGS)
        self._route = next(one for one in _ROUTES if head.path.startswith(one)).decode("ascii")
        self._is_json = head.path != FILES
        self._side = self._route
        self._client = {EMBEDDINGS: CHAT, FILES: api_asked(head.headers)}.get(self._route.encode(), MESSAGES)

    def begin(self, head: ResponseHead, headers: ResponseHeaders) -> None:
        super().begin(head, headers)
        self._record.usage = TokenUsage()  # what the filter reads is of no price

    def _open(self) -> None:
        assert self._key is not None
        self._record.is_unpriced = True
        if (why := self._refusal(self._key)) is not None:
            message = f"client key {self._key.name} may not use {self._route}: {why}"
            raise GatewayError(403, "permission_error", message, cause="unpriced")
        super()._open()

    def _refusal(self, key: ClientKey) -> str | None:
        """Why the key may not ask for this, and what to do; None if it may."""
        if key.rights.models:
            return "it may use some models alone, which can't be held to here; use a key without --model"
        if key.budgets or self._state.budgets.counters_of(key, self._record.at):
            return "a budget limits it, and what this costs isn't known; use a key that no budget covers"
        if self._route != EMBEDDINGS.decode() and not self._forwarder.is_pinned(key):
            return f"what is stored lies in one account; {self._forwarder.how_to_pin(key)}"
        return None
