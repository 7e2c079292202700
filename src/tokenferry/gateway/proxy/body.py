import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tokenferry.gateway.http.client_api import ClientApi
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.model_path import ModelPath
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.routing import BodyFacts, Malformed, rewrite, scan, with_members
from tokenferry.wire import SEALED, SEALED_SIGNATURE, Codec, Sent, without_sealed, without_signatures

if TYPE_CHECKING:
    from tokenferry.gateway.http.headers import EncodedCredential

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COUNT_TOKENS: Final = b"/v1/messages/count_tokens"
BODY_LIMIT: Final = 32 * 1024 * 1024
TOTAL_LIMIT: Final = 256 * 1024 * 1024
STALLED_SECONDS: Final = 5.0
_SMALL: Final = 16 * 1024
_MOST_HOLDERS: Final = 1024
_RARE: Final = SEALED[2:10]
"""Fewer of the letters that texts are made of than in all of it: the search skips more, and costs a fifth."""


class ClientGone(Exception):  # noqa: N818  # no error: the client has left
    """The client closed its connection before its answer was complete."""


class ProxyRequest(msgspec.Struct, eq=False):
    """One request to forward. Its repr shows neither headers nor body."""

    method: str
    target: bytes
    """Path and query, relative to the base URL of an upstream that speaks the client's format."""
    head: RequestHead
    body: "RequestBody"
    client: ClientApi
    is_side: bool
    """Whether it asks for anything but an answer of the model, such as a count of tokens."""
    is_read: bool
    """Whether the gateway reads the answer, which must then not be compressed."""
    models: str | None = None
    """Of a request for models: the part of its path after `/v1/models`."""
    wants_stream: bool = False
    """Whether it asks for a stream."""
    without_tag: bool = False
    """Whether to remove a sub-agent's tag from the body."""
    without_thinking: bool = False
    """Whether Claude has refused its thinking blocks, or the lack of one."""
    conversation: str = ""
    """The key of its conversation; set only for Responses, where reasoning is encrypted for one account."""
    is_named: bool = False
    """Whether the client named the conversation."""
    thoughts: Sequence[int] = ()
    """The encrypted reasoning in its body: see `ReasoningOwners`."""
    foreign: Collection[int] = ()
    """Those of `thoughts` that must not be sent to the current account."""
    own: "EncodedCredential | None" = None
    """The client's own credential, if it replaces an account's."""
    is_budgeted: bool = False
    """Whether the limit headers of the answer describe a budget instead of the account."""
    path: ModelPath | None = None
    """The model and the action that the path names, in APIs where it does."""
    sent: dict[Codec, Sent] = {}  # msgspec copies it
    """Its translations, by codec."""

    def __repr__(self) -> str:
        return f"ProxyRequest({self.method!r})"

    @property
    def has_thread(self) -> bool:
        """Whether the upstream is to store the conversation, as Anthropic's SDK asks of each run of tools."""
        return self.body.facts is not None and self.body.facts.has_thread

    @property
    def is_count(self) -> bool:
        """Whether it asks for a count of its tokens."""
        if self.path is not None:
            return self.path.is_count
        return self.is_side and self.target.partition(b"?")[0] == COUNT_TOKENS

    def pieces(
        self, model: str, *, is_native: bool = True, member: bytes | None = None
    ) -> Sequence[bytes | bytearray | memoryview]:
        """Give the body with this name of the model, or with `member` in its place.

        `is_native`: the upstream speaks the client's API. It refuses reasoning of translated answers, which is removed.
        """
        facts = self.body.facts
        if facts is None:
            return self.body.chunks
        if is_native and self.path is not None:
            pieces = self.body.without_members(keep_signatures=not self.without_thinking)
            return [self.path.renamed(b"".join(pieces), model)] if self.path.is_count else pieces
        if is_native and (
            self.foreign or self.without_thinking or (facts.body.find(_RARE) >= 0 and SEALED in facts.body)
        ):
            found = scan([without_sealed(facts.body, foreign=self.foreign, keep_thinking=not self.without_thinking)])
            facts = facts if isinstance(found, Malformed) else found
        return rewrite(facts, model or None, without_tag=self.without_tag, member=member)


class Holder:
    """The bytes that one client key holds of a budget."""

    __slots__ = ("bodies", "held")

    def __init__(self) -> None:
        self.held = 0
        self.bodies: set[RequestBody] = set()
        """The large bodies that are still arriving, and may be dropped for others."""


class BodyBudget:
    """Limits the bytes of all request bodies in memory. One client key may hold half of them.

    At the limit, stalled bodies are dropped: first those of the key that holds the most, the largest first.
    `clock` gives seconds.
    """

    def __init__(self, limit: int = TOTAL_LIMIT, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.held = 0
        self.clock = clock
        self.unclaimed = Holder()
        """Holds the bodies of requests whose key isn't checked yet."""
        self._holders: dict[str, Holder] = {}

    def holder(self, key: str) -> Holder:
        """Give the holder for the key with this id."""
        holder = self._holders.get(key)
        if holder is None:
            if len(self._holders) >= _MOST_HOLDERS:
                self._holders = {name: one for name, one in self._holders.items() if one.held}
            holder = self._holders[key] = Holder()
        return holder

    def take(self, holder: Holder, size: int) -> None:
        """Reserve `size` bytes. Raises `GatewayError` (503) at the limit."""
        if holder.held + size > self.limit // 2:
            raise _no_room("the requests of this client key use their half of the memory for request bodies")
        if self.held + size > self.limit and not self._make_room(size):
            raise _no_room("the memory for request bodies is full")
        self.held += size
        holder.held += size

    def _make_room(self, size: int) -> bool:
        before = self.clock() - STALLED_SECONDS
        for holder in sorted((self.unclaimed, *self._holders.values()), key=lambda one: one.held, reverse=True):
            stalled = [body for body in holder.bodies if body.last_byte <= before]
            for body in sorted(stalled, key=lambda one: one.size, reverse=True):
                body.give_up()
                if self.held + size <= self.limit:
                    return True
        return False


def _no_room(why: str) -> GatewayError:
    return GatewayError(
        503, "api_error", f"{why}; try again in a moment", should_retry=True, retry_after=1, cause="body_memory_full"
    )


class RequestBody:
    """A request's body in chunks, which can be sent repeatedly without a copy."""

    __slots__ = ("_added", "_budget", "_copied", "_given_up", "_holder", "chunks", "facts", "last_byte", "size")

    def __init__(self, budget: BodyBudget) -> None:
        self.chunks: list[bytes | bytearray] = []
        self.facts: BodyFacts | None = None
        """The facts that routing needs, once the body was parsed."""
        self._added: slice | None = None
        self._budget = budget
        self._holder = budget.unclaimed
        self._given_up: Callable[[GatewayError], None] | None = None
        self.size = 0
        """In bytes; 0 after `release`."""
        self._copied = 0
        """The bytes of its translations, which live as long as it does."""
        self.last_byte = 0.0
        """The arrival of the last byte, on the budget's clock; set only for large bodies."""

    def claim(self, key: str, given_up: Callable[[GatewayError], None] | None = None) -> None:
        """Count the body for the client key with this id. Raises `GatewayError` (503) above the key's limit.

        For a body that is still arriving, `given_up` is called if it stalls and its memory is needed. It must call
        `release`.
        """
        size, budget = self.size, self._budget
        if given_up is None and size <= _SMALL:
            return  # most requests: together they use little memory
        holder = budget.holder(key)
        self._holder.held -= size
        budget.held -= size
        self._holder, self.size = holder, 0
        budget.take(holder, size)
        self.size, self._given_up = size, given_up
        if given_up is not None and size > _SMALL:
            self._watch()

    def complete(self) -> None:
        """Mark the body as complete, so that it isn't dropped for others."""
        if self._given_up is not None:
            self._given_up = None
            self._holder.bodies.discard(self)

    def give_up(self) -> None:
        """End the request, since its body has stalled and others need the memory."""
        self._holder.bodies.discard(self)
        if self._given_up is not None:
            self._given_up(_no_room("the body stopped arriving, and the gateway needed its memory for others"))

    def _watch(self) -> None:
        self.last_byte = self._budget.clock()
        self._holder.bodies.add(self)

    def add(self, chunk: bytes, limit: int) -> None:
        """Append a chunk. Raises `GatewayError`: 413 above the limit, 503 if the budget is used up."""
        size = len(chunk)
        if self.size + size > limit:
            raise too_large(limit)
        if self._given_up is not None and self.size + size > _SMALL:
            self._watch()  # first: it hasn't stalled, and must not be dropped for its own chunk
        self._budget.take(self._holder, size)
        self.size += size
        chunks = self.chunks
        if chunks and len(chunks[-1]) + size <= _SMALL:
            # Many tiny chunks would need more memory for the objects than for the bytes, and more time to copy.
            last = chunks[-1]
            if isinstance(last, bytes):
                last = chunks[-1] = bytearray(last)
            last += chunk
        else:
            chunks.append(chunk)

    def add_members(self, members: Mapping[str, object]) -> None:
        """Add members to the body if it is a JSON object."""
        body, self._added = with_members(b"".join(self.chunks), members)
        self.chunks = [body]

    def without_members(self, *, keep_signatures: bool) -> Sequence[bytes | memoryview]:
        """Give the body without the added members, and without signatures of translated answers."""
        assert self.facts is not None
        assert self._added is not None
        body = memoryview(self.facts.body)
        pieces = [body[: self._added.start], body[self._added.stop :]]
        if keep_signatures and SEALED_SIGNATURE not in self.facts.body:
            return pieces
        return [without_signatures(b"".join(pieces), keep_own=keep_signatures)]

    def add_copy(self, size: int) -> None:
        """Count the bytes of a translation. Raises `GatewayError` (503) at the limit."""
        if size > _SMALL:
            self._budget.take(self._holder, size)
            self._copied += size

    def release(self) -> None:
        """Free the body's memory. Further calls do nothing."""
        if self._given_up is not None:
            self.complete()
        if not self.size:
            return
        held = self.size + self._copied
        self._budget.held -= held
        self._holder.held -= held
        self.size = self._copied = 0
        self.chunks = []
        self.facts = None


def too_large(limit: int) -> GatewayError:
    return GatewayError(413, "request_too_large", f"the request's body is larger than {limit >> 20} MiB; send less")


async def read_body(receive: Receive, body: RequestBody, limit: int) -> None:
    """Read a request's body to its end. Raises `GatewayError` and `ClientGone`."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        if chunk:
            body.add(chunk, limit)
        more = message.get("more_body", False)


def parse_body(body: RequestBody, client: ClientApi) -> BodyFacts:
    """Parse a request's body, and join its chunks. Raises `GatewayError` (400) for an invalid request."""
    facts = client.read(body.chunks)
    if isinstance(facts, Malformed):
        raise GatewayError(400, "invalid_request_error", facts.message, cause=facts.cause)
    body.chunks, body.facts = [facts.body], facts
    return facts
