"""Event names of streamed Responses answers, and the event that ends a stream with an error."""

from typing import Final

from tokenferry.wire._codec import Sent
from tokenferry.wire._json import encode
from tokenferry.wire._openai_errors import words_of_kind
from tokenferry.wire.responses._output import response_document, response_id

PREFACE: Final = frozenset(("response.created", "response.queued", "response.in_progress"))
"""Events before the first content."""
FAILED: Final = "response.failed"
_LAST_SEQUENCE_NUMBER: Final = 2**31 - 1


def responses_error_event(kind: str, message: str, request_id: str) -> bytes:
    """Give the event that ends a stream with an error. `kind` is one of Anthropic's types."""
    word, code = words_of_kind(kind)
    error = {"code": code or word, "message": message}
    document = response_document(response_id(request_id), "", Sent(body=b"", model="", stream=True))
    failed = {**document, "status": "failed", "error": error}
    written = encode({"type": FAILED, "sequence_number": _LAST_SEQUENCE_NUMBER, "response": failed})
    return b"event: %b\ndata: %b\n\n" % (FAILED.encode(), written)
