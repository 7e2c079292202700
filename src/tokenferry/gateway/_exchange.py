"""One request to relay, from its head to the end of its answer."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.gateway._access_log import told
from tokenferry.gateway._answering import Answering
from tokenferry.gateway._answers import REQUEST_ID, Refusal, combined, refusal_of
from tokenferry.gateway._guard import Guard
from tokenferry.gateway._headers import lines_of
from tokenferry.gateway._pass_on import EventPassage, Passage, passage
from tokenferry.gateway._reading import facts_of
from tokenferry.gateway._record import Attempt, Decision, Record
from tokenferry.gateway._relay import Relay
from tokenferry.gateway._request import Body, Budget, Request, too_large
from tokenferry.gateway._turn import Head
from tokenferry.gateway.upstream import BadAnswer, UpstreamError
from tokenferry.gateway.upstream import Exchange as Call
from tokenferry.gateway.upstream import Head as AnswerHead
from tokenferry.stores import Account

if TYPE_CHECKING:
    from tokenferry.gateway._routing import Choice

logger = logging.getLogger("tokenferry.gateway")

CLIENT_GONE: Final = 499  # nginx's word for it; only ever logged
_UNAUTHORIZED: Final = 401
_HELD_LIMIT: Final = 1024 * 1024


class Desk(Protocol):
    """What the exchanges of a gateway share."""

    guard: Guard
    relay: Relay
    budget: Budget
    body_limit: int
    clock: Callable[[], float]
    in_flight: int
    streams: int

    def keep(self, record: Record, /) -> None:
        """Take a record that changes no more."""


class _Held:
    """An answer that is read whole before it is known whether it passes."""

    def __init__(self, head: AnswerHead) -> None:
        self.head = head
        self.chunks: list[bytes] = []
        self.size = 0


class Exchange:
    """A request and its answer, driven by call-backs alone: a `Turn` of the listener's, a `Sink` of the upstream's.

    A task is needed only where an account's credential isn't at hand.
    """

    # As defaults of the class these cost nothing for the many requests that need none of them.
    _is_begun = _is_whole = _is_opened = _is_over = _is_paused = _is_stream = _was_renewed = False
    _overflow: Refusal | None = None
    _request: Request | None = None
    _choice: "Choice | None" = None
    _next_account = 0
    _faults: tuple[TokenferryError, ...] = ()
    _account: "Account | None" = None
    _credential: Credential | None = None
    _task: "asyncio.Task[None] | None" = None
    _call: "Call | None" = None
    _held: "_Held | None" = None
    _passage: "Passage | None" = None

    def __init__(self, desk: Desk, head: Head, answering: Answering, record: Record, *, is_inference: bool) -> None:
        self.answering = answering
        self._desk = desk
        self._relay = desk.relay
        self._head = head
        self._record = record
        self._is_inference = is_inference
        self._started = desk.clock()
        self._body = Body(desk.budget)
        desk.in_flight += 1

    # What the listener tells.

    def take(self, chunk: bytes) -> None:
        if self._overflow is None and not self._is_over:
            try:
                self._body.add(chunk, self._desk.body_limit)
            except Refusal as refusal:
                self._overflow = refusal  # told in its turn, after whatever else speaks against the request

    def complete(self) -> None:
        self._is_whole = True

    def proceed(self) -> None:
        if self._is_over or self._is_opened:
            return
        try:
            if not self._is_begun:
                self._is_begun = True
                self._begin()
            if self._overflow is not None:
                self._fail(self._overflow)
            elif self._is_whole:
                self._is_opened = True
                self._open()
        except Exception as fault:  # noqa: BLE001  # told to the client, and those that are no answer to the log
            self._fail(fault)

    def pause(self) -> None:
        self._is_paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._call is not None:
            self._call.resume()

    def refuse(self, refusal: Refusal) -> None:
        self.answering.keep = False
        self._fail(refusal)

    def gone(self) -> None:
        if not self._is_over:
            self._record.status = CLIENT_GONE
            self._record.error = "client_gone"
            self._conclude()

    # What the upstream tells.

    def on_head(self, head: AnswerHead) -> None:
        try:
            self._weigh(head)
        except Exception as fault:  # noqa: BLE001  # see `proceed`
            self._fail(fault)

    def on_body(self, chunk: bytes) -> None:
        passage = self._passage
        try:
            if passage is None:
                self._hold(chunk)
                return
            passing = passage.feed(chunk)
            if passing:
                self._record.bytes_out += len(passing)
                self.answering.write(passing)
            if passage.is_over:
                self._end()
        except Exception as fault:  # noqa: BLE001  # see `proceed`
            self._fail(fault)

    def on_end(self) -> None:
        self._call = None
        try:
            if self._passage is None:
                self._renew()
                return
            self._write(self._passage.end())
            self._end()
        except Exception as fault:  # noqa: BLE001  # see `proceed`
            self._fail(fault)

    def on_failure(self, failure: UpstreamError) -> None:
        self._call = None
        try:
            if self._passage is None:
                self._fail(failure)
            elif (rest := self._passage.cut(failure)) is None:
                self._cut()
            else:
                self._write(rest)
                self._end()
        except Exception as fault:  # noqa: BLE001  # see `proceed`
            self._fail(fault)

    # One step after the other.

    def _begin(self) -> None:
        """Check who calls, before anything is read or sent. Raises `Refusal`."""
        desk, head, record = self._desk, self._head, self._record
        if not head.has_room:
            raise no_room()
        read = head.read
        record.client = desk.guard.admit(read, head.address, has_body=head.method == "POST").name
        if read.session is not None:
            record.session = told(read.session)
            record.agent = None if read.agent is None else told(read.agent)
            record.parent_agent = None if read.parent_agent is None else told(read.parent_agent)
        # The parser has made sure that it is a number, and the only one.
        if read.length is not None and int(read.length) > desk.body_limit:
            raise too_large(desk.body_limit)
        if not self._is_whole:
            self.answering.go_on()

    def _open(self) -> None:
        """The request is there as a whole: find who serves it."""
        head, record, body = self._head, self._record, self._body
        record.bytes_in = body.size
        self._request = Request(head.method, head.target, head.read, body)
        if self._is_inference:
            facts = facts_of(body)
            self._request.wants_stream = facts.stream
            record.model = None if facts.model is None else told(facts.model)
        record.decision = Decision()
        self._choose()

    def _choose(self) -> None:
        record = self._record
        assert record.decision is not None
        choice = self._choice = record.decision.choice = self._relay.choose()
        record.provider = choice.provider.name
        self._try_next()

    def _try_next(self) -> None:
        """Send it with the first account that has a credential; nothing was sent yet, so the next one may be asked."""
        choice, relay = self._choice, self._relay
        assert choice is not None
        while self._next_account < len(choice.accounts):
            account = choice.accounts[self._next_account]
            self._next_account += 1
            credential = relay.source.fresh(account.name)
            if credential is None:
                self._resolve(account, self._resolved)
                return
            self._send(account, credential)
            return
        raise combined([*self._faults])

    def _resolve(self, account: Account, then: "Callable[[Account, Credential | TokenferryError], None]") -> None:
        async def resolve() -> None:
            found: Credential | TokenferryError
            try:
                found = await self._relay.source.aresolve(account.name)
            except TokenferryError as fault:
                found = fault
            except Exception as fault:  # noqa: BLE001  # see `proceed`
                self._fail(fault)
                return
            if not self._is_over:
                self._task = None
                try:
                    then(account, found)
                except Exception as fault:  # noqa: BLE001  # see `proceed`
                    self._fail(fault)

        self._task = asyncio.get_running_loop().create_task(resolve())

    def _resolved(self, account: Account, found: Credential | TokenferryError) -> None:
        if not isinstance(found, TokenferryError):
            self._send(account, found)
            return
        logger.warning("account %s is passed over: %s", account.name, found)
        assert self._record.decision is not None
        self._record.decision.passed_over.append((account.name, str(found)))
        self._faults = (*self._faults, found)
        self._try_next()

    def _send(self, account: Account, credential: Credential) -> None:
        record, choice, request = self._record, self._choice, self._request
        assert choice is not None
        assert request is not None
        assert record.decision is not None
        if not self._relay.is_current(choice.provider):
            self._catch_up()
            return
        self._account, self._credential = account, credential
        record.account = account.name
        record.attempts += 1
        record.upstream_status = None
        record.decision.attempts.append(Attempt(account.name, credential.secret.fingerprint))
        self._call = self._relay.send(
            request, choice.provider, account, credential, self, is_inference=self._is_inference
        )
        if self._is_paused:
            self._call.pause()

    def _catch_up(self) -> None:
        """The credential may be meant for another host than the one chosen: begin anew if nothing was sent."""
        if self._record.attempts or self._relay is self._desk.relay:
            message = "the provider's address changed in the middle of this request; send it again"
            raise Refusal(503, "api_error", message, should_retry=True, retry_after=1, cause="reconfigured")
        self._relay = self._desk.relay
        self._next_account = 0
        self._choose()

    def _weigh(self, head: AnswerHead) -> None:
        """Pass the answer on, or hold it until it is known whether it passes."""
        record = self._record
        assert record.decision is not None
        record.upstream_status = record.decision.attempts[-1].status = head.status
        if head.status != _UNAUTHORIZED:
            self._pass(head)
            return
        assert self._account is not None
        if not isinstance(self._credential, OAuthToken):
            logger.warning("account %s: its %s was refused by the provider", self._account.name, self._credential.kind)  # type: ignore[union-attr]
            self._pass(head)
        elif self._was_renewed:
            logger.warning("account %s: its renewed token was refused, too", self._account.name)
            self._pass(head)
        else:
            self._held = _Held(head)

    def _hold(self, chunk: bytes) -> None:
        held = self._held
        assert held is not None
        held.size += len(chunk)
        held.chunks.append(chunk)
        if held.size > _HELD_LIMIT:
            assert self._choice is not None
            host = self._relay.host(self._choice.provider)
            raise BadAnswer(host, f"a body of more than {_HELD_LIMIT} bytes", after_head=True)

    def _renew(self) -> None:
        """The token was refused: send the request once more if there is another one."""
        assert self._account is not None
        assert self._credential is not None
        self._was_renewed = True
        self._relay.source.invalidate(self._account.name, self._credential.secret)
        self._resolve(self._account, self._renewed)

    def _renewed(self, account: Account, found: Credential | TokenferryError) -> None:
        assert self._credential is not None
        assert self._held is not None
        if isinstance(found, TokenferryError):
            logger.warning("account %s: its token was refused by the provider: %s", account.name, found)
        elif found.secret == self._credential.secret:
            logger.warning("account %s: its token was refused by the provider, and there is no other", account.name)
        else:
            self._held = None
            self._send(account, found)
            return
        held, self._held = self._held, None
        self._pass(held.head)
        for chunk in held.chunks:
            self.on_body(chunk)
        self.on_end()

    def _pass(self, head: AnswerHead) -> None:
        """Begin to pass the answer on: from here on nothing is sent again."""
        headers = self._relay.down(head)
        self._request = None
        self._body.release()
        found = self._passage = passage(head.status, headers, self._record)
        if type(found) is EventPassage:
            self._is_stream = True
            self._desk.streams += 1
        self._start(head.status, headers.lines, headers.length)
        if self._is_stream:
            self.answering.flush()

    def _start(self, status: int, lines: list[bytes], length: int | None) -> None:
        record = self._record
        record.status = status
        record.first_byte = self._desk.clock() - self._started
        lines.append(b"%b: %b\r\n" % (REQUEST_ID, record.request_id.encode("ascii")))
        self.answering.start(status, lines, length)

    def _write(self, data: bytes) -> None:
        if data:
            self._record.bytes_out += len(data)
            self.answering.write(data)

    def _end(self) -> None:
        """The answer is whole."""
        if not self._is_over:
            self._conclude()
            self.answering.end()

    def _cut(self) -> None:
        if not self._is_over:
            self._conclude()
            self.answering.cut()

    def _fail(self, fault: Exception) -> None:
        """Tell the client what went wrong, if anything can still be told."""
        if self._is_over:
            return
        record = self._record
        refusal = refusal_for(fault, record)
        record.error = refusal.cause
        if record.decision is not None:
            record.decision.message = refusal.message
        if self.answering.is_started:
            self._cut()
            return
        content = refusal.body(record.request_id)
        if self.answering.is_awaited:
            # The client may or may not send its body now: only a new connection is unambiguous (RFC 9110, 10.1.1).
            self.answering.keep = False
        self._start(refusal.status, *lines_of(refusal.head(len(content))))
        self._write(content)
        self._end()

    def _conclude(self) -> None:
        """Nothing more comes of it; take note."""
        self._is_over = True
        desk, record = self._desk, self._record
        record.duration = desk.clock() - self._started
        self._body.release()
        self._request = self._held = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._call is not None:
            self._call.abort()
            self._call = None
        desk.in_flight -= 1
        if self._is_stream:
            desk.streams -= 1
        desk.keep(record)


def no_room() -> Refusal:
    return Refusal(
        503,
        "api_error",
        "the gateway has as many connections as it may; close some, or try again in a moment",
        should_retry=True,
        retry_after=1,
        cause="no_room",
    )


def refusal_for(fault: Exception, record: Record) -> Refusal:
    """The answer that tells the client what went wrong; what a client isn't told is logged."""
    if isinstance(fault, Refusal):
        return fault
    if isinstance(fault, TokenferryError):
        logger.warning("%s %s", record.request_id, fault)
        return refusal_of(fault)
    logger.error("%s failed", record.request_id, exc_info=fault)
    message = "the gateway failed; its log says why, under this request's id"
    return Refusal(500, "api_error", message, cause="defect")
