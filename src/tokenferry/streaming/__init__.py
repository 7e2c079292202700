"""Answers on their way to the client: the first content of a stream, token usage, and the end of a cut stream."""

from tokenferry.streaming._body_filter import BodyFilter, DocumentFilter, EventStreamFilter, estimate_output
from tokenferry.streaming._dialects import DIALECTS, Dialect
from tokenferry.streaming._first_content import GATE_SECONDS, FirstContentBuffer
from tokenferry.streaming._inflater import Inflater, inflater_of
from tokenferry.streaming._json_array import JsonArrayFilter
from tokenferry.streaming._usage import SseUsageReader, TokenUsage

__all__ = [
    "DIALECTS",
    "GATE_SECONDS",
    "BodyFilter",
    "Dialect",
    "DocumentFilter",
    "EventStreamFilter",
    "FirstContentBuffer",
    "Inflater",
    "JsonArrayFilter",
    "SseUsageReader",
    "TokenUsage",
    "estimate_output",
    "inflater_of",
]
