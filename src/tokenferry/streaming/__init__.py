"""Streams of server-sent events: where events end, the first content, usage, and how a stream that is cut ends."""

from tokenferry.streaming._body_filter import BodyFilter, DocumentFilter, EventStreamFilter
from tokenferry.streaming._events import EventBoundary, envelope, error_event, parse, split
from tokenferry.streaming._first_content import GATE_SECONDS, FirstContentBuffer
from tokenferry.streaming._usage import JsonUsageReader, SseUsageReader, TokenUsage

__all__ = [
    "GATE_SECONDS",
    "BodyFilter",
    "DocumentFilter",
    "EventBoundary",
    "EventStreamFilter",
    "FirstContentBuffer",
    "JsonUsageReader",
    "SseUsageReader",
    "TokenUsage",
    "envelope",
    "error_event",
    "parse",
    "split",
]
