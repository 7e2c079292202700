"""The errors of calls to an upstream.

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
    "idle": "{host} sent nothing for {seconds:g} s within an answer",
}


class UpstreamError(TokenferryError):
    """A call to an upstream failed."""

    kind: ClassVar[str] = "upstream"

    host: str
    sent: bool
    """Whether a byte of the request may have reached the peer; if not, it may be sent elsewhere."""
    answered: bool
    """Whether a byte of the answer has arrived."""

    def __init__(self, message: str, *, host: str, sent: bool = False, answered: bool = False) -> None:
        super().__init__(message)
        self.host = host
        self.sent = sent
        self.answered = answered

    @property
    def cause(self) -> str:
        """The code for logs and programs."""
        return f"upstream_{self.kind.replace('-', '_')}"


class BadRequest(UpstreamError):  # noqa: N818  # named like the errors of tokenferry.errors
    """The request was refused before anything was sent: it can't be framed safely."""

    kind = "bad-request"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"The request to {host} was not sent: {reason}", host=host)


class ConnectError(UpstreamError):  # see BadRequest
    """No connection could be opened. `sent` is true only if a stale connection took the request before."""

    kind = "connect"

    def __init__(self, host: str, reason: str, *, sent: bool = False) -> None:
        super().__init__(f"No connection to {host}: {reason}", host=host, sent=sent)


class AnswerTimeout(UpstreamError):  # noqa: N818  # see BadRequest
    """The upstream took too long to accept the connection, or to begin or continue its answer."""

    kind = "timeout"

    def __init__(self, host: str, phase: Phase, seconds: float, *, sent: bool, answered: bool) -> None:
        message = _WAITED_FOR[phase].format(host=host, seconds=seconds)
        super().__init__(message[0].upper() + message[1:], host=host, sent=sent, answered=answered)
        self.phase = phase


class AnswerCut(UpstreamError):  # noqa: N818  # see BadRequest
    """The connection was lost before the answer was complete."""

    kind = "cut"

    def __init__(self, host: str, *, after_head: bool, sent: bool, answered: bool) -> None:
        where = "within its answer" if answered else "before it answered"
        super().__init__(f"The connection to {host} was lost {where}", host=host, sent=sent, answered=answered)
        self.after_head = after_head


class BadAnswer(UpstreamError):  # noqa: N818  # see BadRequest
    """The answer breaks HTTP/1.1 or a limit."""

    kind = "bad-answer"

    def __init__(self, host: str, reason: str, *, after_head: bool) -> None:
        super().__init__(f"{host} sent an answer that can't be used: {reason}", host=host, sent=True, answered=True)
        self.after_head = after_head


class UpstreamClosed(UpstreamError):  # noqa: N818  # see BadRequest
    """The client was closed."""

    kind = "closed"

    def __init__(self, host: str, *, sent: bool = False, answered: bool = False) -> None:
        super().__init__(f"The gateway closed the connection to {host}", host=host, sent=sent, answered=answered)
