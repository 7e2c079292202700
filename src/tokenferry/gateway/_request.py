from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._request_head import RequestHead
from tokenferry.routing import BodyFacts, rewrite

if TYPE_CHECKING:
    from tokenferry.gateway._headers import Presented

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT: Final = 32 * 1024 * 1024
TOTAL_LIMIT: Final = 256 * 1024 * 1024
_SMALL: Final = 16 * 1024


class ClientGone(Exception):  # noqa: N818  # nothing went wrong: nobody is there to answer
    """The client closed its connection before it had its answer."""


class Request:
    """One request to relay. Its repr shows neither headers nor body."""

    __slots__ = ("body", "head", "is_inference", "is_read", "method", "own", "target", "wants_stream", "without_tag")

    def __init__(
        self, method: str, target: bytes, head: RequestHead, body: "Body", *, is_inference: bool = False
    ) -> None:
        self.method = method
        self.target = target
        self.head = head
        self.body = body
        self.is_inference = is_inference
        self.is_read = is_inference
        """Whether the answer is looked into, so that it must not be compressed."""
        self.wants_stream = False
        """Whether the answer is to be a stream."""
        self.without_tag = False
        """Whether a sub-agent's tag is to be taken out of the body."""
        self.own: Presented | None = None
        """The client's own credential, where that is presented in place of an account's."""

    def pieces(self, model: str) -> Sequence[bytes | bytearray | memoryview]:
        """The body for an upstream that calls the model so."""
        facts = self.body.facts
        return self.body.chunks if facts is None else rewrite(facts, model or None, without_tag=self.without_tag)


class Budget:
    """How many bytes of request bodies may be held at once, over all requests."""

    def __init__(self, limit: int = TOTAL_LIMIT) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Raises `Refusal` (503) when there is no room."""
        if self.held + size > self.limit:
            raise Refusal(
                503,
                "api_error",
                "the gateway holds as many request bodies as it may; try again in a moment",
                should_retry=True,
                retry_after=1,
            )
        self.held += size


class Body:
    """A request's body in chunks, much as it came, so that it can be sent twice without being copied."""

    __slots__ = ("_budget", "chunks", "facts", "size")

    def __init__(self, budget: Budget) -> None:
        self.chunks: list[bytes | bytearray] = []
        self.facts: BodyFacts | None = None
        """What it says, once it was read."""
        self._budget = budget
        self.size = 0
        """In bytes; nothing once it is released."""

    def add(self, chunk: bytes, limit: int) -> None:
        """Raises `Refusal`: 413 above the limit, 503 where the budget is used up."""
        size = len(chunk)
        if self.size + size > limit:
            raise too_large(limit)
        self._budget.take(size)
        self.size += size
        chunks = self.chunks
        if chunks and len(chunks[-1]) + size <= _SMALL:
            # Of a body that comes in crumbs each object would take more room than its bytes, and each copy more time.
            last = chunks[-1]
            if isinstance(last, bytes):
                last = chunks[-1] = bytearray(last)
            last += chunk
        else:
            chunks.append(chunk)

    def release(self) -> None:
        """Forget it; harmless the second time."""
        if not self.size:
            return
        self._budget.held -= self.size
        self.size = 0
        self.chunks = []
        self.facts = None


def too_large(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"the request's body is larger than {limit >> 20} MiB; send less")


async def read_body(receive: Receive, body: Body, limit: int) -> None:
    """Read a request's body to its end. Raises `Refusal` and `ClientGone`."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        if chunk:
            body.add(chunk, limit)
        more = message.get("more_body", False)
