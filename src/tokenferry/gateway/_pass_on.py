"""An upstream's answer on its way to the client: the bytes pass, and a copy of them is read."""

import logging
from typing import Final

from tokenferry.gateway._access_log import told
from tokenferry.gateway._answers import cause_of, error_event
from tokenferry.gateway._events import EventBoundary
from tokenferry.gateway._headers import is_event_stream, is_json
from tokenferry.gateway._out import Out
from tokenferry.gateway._record import Record
from tokenferry.gateway._relay import Answer
from tokenferry.gateway._usage import DocumentNotes, StreamNotes, error_type
from tokenferry.gateway.upstream import UpstreamError

logger = logging.getLogger("tokenferry.gateway")

_BAD_REQUEST: Final = 400


class Truncated(Exception):  # noqa: N818  # what happened, told to who holds the connection
    """The upstream was cut, and only a cut connection can tell the client so."""


def is_stream(answer: Answer) -> bool:
    """Tell whether the answer is a stream of events, which can be ended by one that says that it was cut."""
    return answer.status < _BAD_REQUEST and is_event_stream(answer.headers)


async def pass_document(answer: Answer, out: Out, record: Record) -> None:
    """Pass an answer that is no stream of events. Raises `Truncated`."""
    notes = DocumentNotes() if is_json(answer.headers) else None
    await out.head(answer.status, answer.headers)
    try:
        async for chunk in answer.body():
            if notes is not None:
                notes.read(chunk)
            await out.body(chunk)
    except UpstreamError as fault:
        logger.warning("%s %s", record.request_id, fault)
        record.error = cause_of(fault)
        raise Truncated from None
    if answer.status >= _BAD_REQUEST:
        record.error = (None if notes is None else error_type(notes.document())) or "upstream_error"
    elif notes is not None:
        notes.tell(record.usage)
    await out.end()


async def pass_events(answer: Answer, out: Out, record: Record) -> None:
    """Pass a stream of events. It ends with its own last event, or with an error that says what is missing."""
    events, notes = EventBoundary(), StreamNotes(record.usage)
    await out.head(answer.status, answer.headers)
    try:
        async for chunk in answer.body():
            passing = events.feed(chunk)
            if not passing:
                continue
            end = notes.read(events.whole)
            if notes.error is not None:
                await out.end(passing[: passing.index(events.whole) + end])
                break
            await out.body(passing)
        else:
            await _end(events, notes, out, record)
    except UpstreamError as fault:
        await _end_cut(fault, events, notes, out, record)
    record.error = notes.error or record.error
    if notes.model is not None and record.model is None:
        record.model = told(notes.model)


async def _end(events: EventBoundary, notes: StreamNotes, out: Out, record: Record) -> None:
    """The upstream ended it of its own accord."""
    rest = events.rest()
    if b"data:" in rest and rest.endswith((b"\n", b"\r")):
        notes.read(rest)  # a whole event but for its blank line
    if notes.error is not None:
        await out.end(rest + b"\n\n")
    elif notes.is_complete:
        await out.end(rest)
    else:
        # What is left of an event that never ended is nothing that a client may act on.
        logger.warning("%s the upstream ended its stream without message_stop", record.request_id)
        record.error = "truncated"
        await _end_in_error("the upstream ended the answer before it was complete", events, out, record)


async def _end_cut(fault: UpstreamError, events: EventBoundary, notes: StreamNotes, out: Out, record: Record) -> None:
    if notes.is_complete and not events.is_inside and not events.rest():
        await out.end()  # nothing is missing but the end of the framing
        return
    logger.warning("%s %s", record.request_id, fault)
    record.error = cause_of(fault)
    await _end_in_error(f"the answer was cut off: {fault}", events, out, record)


async def _end_in_error(reason: str, events: EventBoundary, out: Out, record: Record) -> None:
    # Inside an event that has partly passed, a further line makes that one the error.
    start = b"\n" if events.is_inside else b""
    await out.end(start + error_event("api_error", reason, record.request_id))
