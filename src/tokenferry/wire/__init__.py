"""Wire formats: translates requests and answers between vendors' APIs, and reads server-sent events.

The package is pure: bytes in, bytes out, without sockets, clocks or randomness.
"""

from tokenferry.wire._codec import Codec, Sent, StreamTranslator, Tokens, WireFormat
from tokenferry.wire._envelope import SEALED, refuses_reasoning, without_sealed
from tokenferry.wire._estimate import BYTES_PER_TOKEN, SMALLEST_FILE, BodySize, measure
from tokenferry.wire._event_stage import event_stage
from tokenferry.wire._model_lists import LIST_FIELDS, UNKNOWN_DATE, ModelsCodec, model_entry, model_list
from tokenferry.wire._openai_errors import chat_error_event, openai_envelope
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._sse import EventBoundary, end_of, next_event, parse, split
from tokenferry.wire._translation import codec, count_codec, load_codecs
from tokenferry.wire.chat._first_content import ChatStage, chat_stage
from tokenferry.wire.gemini._errors import gemini_envelope, gemini_error_event, gemini_refusal
from tokenferry.wire.gemini._meaning import unusable_end
from tokenferry.wire.gemini._thoughts import SEALED_SIGNATURE, without_signatures
from tokenferry.wire.messages._errors import envelope, error_event, foreign_error
from tokenferry.wire.responses._events import FAILED, PREFACE, responses_error_event

__all__ = [
    "BYTES_PER_TOKEN",
    "FAILED",
    "LIST_FIELDS",
    "PREFACE",
    "SEALED",
    "SEALED_SIGNATURE",
    "SMALLEST_FILE",
    "UNKNOWN_DATE",
    "BodySize",
    "ChatStage",
    "Codec",
    "EventBoundary",
    "ModelsCodec",
    "Quirks",
    "Sent",
    "StreamTranslator",
    "Tokens",
    "WireFormat",
    "chat_error_event",
    "chat_stage",
    "codec",
    "count_codec",
    "end_of",
    "envelope",
    "error_event",
    "event_stage",
    "foreign_error",
    "gemini_envelope",
    "gemini_error_event",
    "gemini_refusal",
    "load_codecs",
    "measure",
    "model_entry",
    "model_list",
    "next_event",
    "openai_envelope",
    "parse",
    "refuses_reasoning",
    "responses_error_event",
    "split",
    "unusable_end",
    "without_sealed",
    "without_signatures",
]
