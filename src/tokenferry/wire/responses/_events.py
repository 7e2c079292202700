"""Events of a streamed answer, for whoever holds one back until its first content, or has to end one."""

from typing import Final

from tokenferry.wire._codec import Sent
from tokenferry.wire._json import encode
from tokenferry.wire._openai_errors import words_of_kind
from tokenferry.wire.responses._output import response_document, response_id

PREFACE: Final = frozenset(("response.created", "response.queued", "response.in_progress"))
"""Events before the first content."""
FAILED: Final = "response.failed"
_AFTER_ALL: Final = 2**31 - 1


def responses_error_event(kind: str, message: str, request_id: str) -> bytes:
    """The event that ends a stream truthfully. `kind` is one of Anthropic's types."""
    word, code = words_of_kind(kind)
    error = {"code": code or word, "message": message}
    document = response_document(response_id(request_id), "", Sent(body=b"", model="", stream=True))
    failed = {**document, "status": "failed", "error": error}
    written = encode({"type": FAILED, "sequence_number": _AFTER_ALL, "response": failed})
    return b"event: %b\ndata: %b\n\n" % (FAILED.encode(), written)
