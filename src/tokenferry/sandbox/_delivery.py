"""Carry out a plan of faults."""

from collections.abc import Callable
from typing import Any

from tokenferry.sandbox import _chat_stream, _gemini, _responses, _sse
from tokenferry.sandbox._clock import Clock
from tokenferry.sandbox._faults import STREAMS, Fault, Plan
from tokenferry.sandbox._http import ERROR_TYPES, Answer, Event, Request, error_answer, json_answer
from tokenferry.sandbox._line import Line

_HUGE = 8 * 1024 * 1024
_SSE_ERROR = "overloaded_error"


class Delivery:
    """One request, answered with its faults.

    `work` carries out the request (and may rotate tokens); `limit_headers` gives the caller's headers.
    """

    def __init__(
        self,
        request: Request,
        plan: Plan,
        clock: Clock,
        request_id: str,
        *,
        arrived: float,
        work: Callable[[], Answer],
        limit_headers: Callable[[], list[tuple[str, str]]],
        answered: Callable[[int], None],
    ) -> None:
        self._request = request
        self._plan = plan
        self._clock = clock
        self._request_id = request_id
        self._do = work
        self._limit_headers = limit_headers
        self._answered = answered
        self._done: Answer | None = None
        self._due = arrived  # not the start of the pause: the clock may have moved since

    def _work(self) -> Answer:
        """Do the work once, however many faults ask for it."""
        if self._done is None:
            self._done = self._do()
        return self._done

    async def run(self, line: Line) -> None:
        for pause in self._plan.pauses:
            if pause.parameters.get("after_work"):
                self._work()
            await self._pause(pause)
        fault = self._plan.fault
        if fault is None:
            await self._send(line, self._work())
            return
        if fault.kind == "cut_before":
            await line.cut()
        elif fault.kind == "lose_answer":
            await self._lose(line, self._work(), fault.parameters.get("bytes"))
        elif fault.kind == "gemini_quirks":
            await self._send(line, _gemini.with_quirks(self._work(), fault.parameters))
        elif fault.kind in STREAMS:
            await self._send(line, self._work(), fault)
        elif fault.kind == "drip":
            await self._drip(line, self._work(), fault)
        else:
            if fault.parameters.get("after_work"):
                self._work()
            await self._send(line, self._instead(fault))

    async def _pause(self, fault: Fault) -> None:
        seconds = fault.parameters.get("seconds")
        if seconds is not None:
            self._due += seconds
        await self._clock.pause_until(None if seconds is None else self._due, lambda: fault.cleared)

    def _instead(self, fault: Fault) -> Answer:
        given = fault.parameters
        match fault.kind:
            case "redirect":
                answer = Answer(given.get("status", 307), [("location", given["location"])])
            case "unreadable":
                body = given.get("body", "<<< this is no JSON")
                answer = Answer(200, [("content-type", "application/json")], body.encode())
            case "huge":
                answer = Answer(200, [("content-type", "application/json")], b" " * given.get("bytes", _HUGE))
            case _:
                answer = self._status(given)
        return answer

    def _status(self, given: dict[str, Any]) -> Answer:
        status = given.get("status", 500)
        headers = [(str(name).lower(), str(value)) for name, value in given.get("headers", {}).items()]
        if given.get("limit_headers"):
            headers = [*self._limit_headers(), *headers]
        kind, message = given.get("type"), given.get("message", "The sandbox fails on request.")
        if "body" in given:
            content_type = ("content-type", given.get("content_type", "text/html; charset=utf-8"))
            return Answer(status, [content_type, *headers], given["body"].encode())
        if self._request.is_oauth:
            kind = kind or ("server_error" if status not in ERROR_TYPES else "invalid_request")
            return json_answer({"error": kind, "error_description": message}, status, headers)
        dialect = self._request.dialect
        return error_answer(status, message, self._request_id, kind=kind, headers=headers, dialect=dialect)

    def _head(self, answer: Answer) -> Answer:
        answer.headers.append(("request-id", self._request_id))
        return answer

    async def _send(self, line: Line, answer: Answer, fault: Fault | None = None) -> None:
        self._head(answer)
        self._answered(answer.status)
        if answer.events is None:
            await line.whole(answer)
            return
        await line.start(answer, length=None)
        events, cut = answer.events, False
        if fault is not None and fault.kind == "truncate":
            events = events[: fault.parameters.get("events", 3)]
            cut = fault.parameters.get("cut", False)
        elif fault is not None and fault.kind == "sse_error":
            events = self._with_error(events, fault.parameters)
        elif fault is not None and fault.kind == "chat_quirks":
            events = _chat_stream.with_quirks(events, fault.parameters)
        for number, event in enumerate(events):
            await line.chunk(event.encode())
            if fault is not None and fault.kind == "slow" and number >= fault.parameters.get("events", 0):
                seconds = fault.parameters.get("seconds", 0.1)
                await self._clock.pause(seconds, lambda: fault.cleared)
        if cut:
            await line.cut(flush=True)
        else:
            await line.end()

    def _with_error(self, events: list[Event], given: dict[str, Any]) -> list[Event]:
        if self._request.gemini is not None:
            return _gemini.with_error(events, given)
        if self._request.is_responses:
            return _responses.with_error(events, given)
        return (_chat_stream.with_error if self._request.is_chat else _with_error)(events, given)

    async def _lose(self, line: Line, answer: Answer, length: int | None) -> None:
        if length is not None:
            body = _bytes(answer)
            await line.start(self._head(answer), length=len(body))
            await line.chunk(body[: min(length, len(body) - 1)])
        await line.cut(flush=length is not None)

    async def _drip(self, line: Line, answer: Answer, fault: Fault) -> None:
        self._head(answer)
        self._answered(answer.status)
        body, size = _bytes(answer), max(1, fault.parameters.get("bytes", 1))
        await line.start(answer, length=None if answer.events is not None else len(body))
        for start in range(0, len(body), size):
            await line.chunk(body[start : start + size])
            await self._clock.pause(fault.parameters.get("seconds", 0), lambda: fault.cleared)
        await line.end()


def _bytes(answer: Answer) -> bytes:
    return answer.body if answer.events is None else b"".join(event.encode() for event in answer.events)


def _with_error(events: list[Event], given: dict[str, Any]) -> list[Event]:
    error = _sse.error_event(given.get("type", _SSE_ERROR), given.get("message", "Overloaded"))
    wanted, shown, seen = given.get("deltas", 0), [], 0
    for event in events:
        ends = event.name == "content_block_start" if wanted == 0 else seen == wanted
        if ends or event.name == "message_delta":
            break
        shown.append(event)
        seen += event.name == "content_block_delta"
    return [*shown, error]
