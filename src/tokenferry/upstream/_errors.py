"""What can go wrong between the gateway and an upstream.

* UpstreamError
  x BadRequest
  x ConnectError
  x AnswerTimeout
  x AnswerCut
  x BadAnswer
  x UpstreamClosed
"""

from typing import ClassVar, Literal

from tokenferry.errors import TokenferryError

__all__ = [
    "AnswerCut",
    "AnswerTimeout",
    "BadAnswer",
    "BadRequest",
    "ConnectError",
    "Phase",
    "UpstreamClosed",
    "UpstreamError",
]

Phase = Literal["busy", "connect", "first-byte", "idle"]

_WAITED_FOR: dict[Phase, str] = {
    "busy": "all connections to {host} were busy for {seconds:g} s",
    "connect": "no connection to {host} within {seconds:g} s",
    "first-byte": "{host} began no answer within {seconds:g} s",
    "idle": "{host} fell silent for {seconds:g} s in the middle of an answer",
}


class UpstreamError(TokenferryError):
    """One exchange with an upstream failed."""

    kind: ClassVar[str] = "upstream"

    host: str
    sent: bool
    """Whether a byte of the request may have reached the peer; if not, it is free to go elsewhere."""
    answered: bool
    """Whether a byte of an answer came back."""

    def __init__(self, message: str, *, host: str, sent: bool = False, answered: bool = False) -> None:
        super().__init__(message)
        self.host = host
        self.sent = sent
        self.answered = answered

    @property
    def cause(self) -> str:
        """A word for it, as logs and programs take it."""
        return f"upstream_{self.kind.replace('-', '_')}"


class BadRequest(UpstreamError):  # noqa: N818  # named for what happened, as in tokenferry.errors
    """The request was refused here before anything was sent: it can't be framed soundly."""

    kind = "bad-request"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"The request to {host} was not sent: {reason}", host=host)


class ConnectError(UpstreamError):  # see BadRequest
    """No connection: the name, TCP or TLS. `sent` only if a stale connection took a copy of the request before."""

    kind = "connect"

    def __init__(self, host: str, reason: str, *, sent: bool = False) -> None:
        super().__init__(f"No connection to {host}: {reason}", host=host, sent=sent)


class AnswerTimeout(UpstreamError):  # noqa: N818  # see BadRequest
    """The upstream took too long to accept the connection, to begin its answer, or to go on with it."""

    kind = "timeout"

    def __init__(self, host: str, phase: Phase, seconds: float, *, sent: bool, answered: bool) -> None:
        message = _WAITED_FOR[phase].format(host=host, seconds=seconds)
        super().__init__(message[0].upper() + message[1:], host=host, sent=sent, answered=answered)
        self.phase = phase


class AnswerCut(UpstreamError):  # noqa: N818  # see BadRequest
    """The connection was lost before the answer was complete, by its own framing."""

    kind = "cut"

    def __init__(self, host: str, *, after_head: bool, sent: bool, answered: bool) -> None:
        where = "in the middle of its answer" if answered else "before it answered"
        super().__init__(f"The connection to {host} was lost {where}", host=host, sent=sent, answered=answered)
        self.after_head = after_head


class BadAnswer(UpstreamError):  # noqa: N818  # see BadRequest
    """The answer breaks HTTP/1.1 or a limit."""

    kind = "bad-answer"

    def __init__(self, host: str, reason: str, *, after_head: bool) -> None:
        super().__init__(f"{host} sent an answer that can't be used: {reason}", host=host, sent=True, answered=True)
        self.after_head = after_head


class UpstreamClosed(UpstreamError):  # noqa: N818  # see BadRequest
    """This side ended the exchange, or takes no more of them."""

    kind = "closed"

    def __init__(self, host: str, *, sent: bool = False, answered: bool = False) -> None:
        super().__init__(f"The exchange with {host} was ended from this side", host=host, sent=sent, answered=answered)
