import re
from typing import Any, Final

from msgspec import Struct

from tokenferry.secret import parse_json
from tokenferry.wire import PREFACE, event_stage, unusable_end

_LONGEST_BODY: Final = 1024 * 1024
_BEGINNING: Final = 256
_STREAM: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?::[^\r\n]*[\r\n]|\s)*(?:event|data|id|retry):")
_BEGINS_WITH_ERROR: Final = re.compile(rb'\s*\{\s*(?:"error"\s*:\s*[{"]|"type"\s*:\s*"error"|"promptFeedback"\s*:)')
_MINIMAX: Final = b'"base_resp"'
_MINIMAX_ERROR: Final = re.compile(rb'"base_resp"\s*:\s*\{\s*"status_code"\s*:\s*[1-9]')
_BEFORE_CONTENT: Final = PREFACE | {"ping", "message_start"}
_CODES: Final = ("type", "code", "error_code", "reason", "status")
MODERATED: Final = "moderated"
"""Our code for an error with the reasons why a prompt was flagged."""
FILTERED: Final = "google-filtered"
"""Our code for a prompt or an answer that Google's filters blocked."""
BROKEN: Final = "google-broken"
"""Our code for an answer of Gemini that is empty or broken."""
QUOTA: Final = "google-quota"
"""Our code for a used-up quota of a minute, or of unknown length."""
QUOTA_OF_DAY: Final = "google-quota-of-day"
NO_QUOTA: Final = "google-no-quota"
"""Our code for a model without quota in the project."""
_NO_LIMIT: Final = re.compile(r"\blimit: 0(?![.\d])")
_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_BAD_REQUEST: Final = 400
_LONGEST_MESSAGE: Final = 2000
_STATUSES: Final = range(400, 600)
_DIGITS: Final = 16
_LAST_MOMENT: Final = 4_102_444_800


class AnswerError(Struct, frozen=True):
    """The error in a body. Its strings come from the upstream and may hold anything."""

    type: str = ""
    message: str = ""
    codes: frozenset[str] = frozenset()
    """Everything that names the kind of error, its type included."""
    status: int | None = None
    """The HTTP status that the error names, in a stream or a document with status 200."""
    resets_in: float | None = None
    """Seconds until the limit ends, if the body says so."""
    resets_at: float | None = None
    """When the limit ends, in seconds since 1970 UTC."""
    is_page: bool = False
    """Whether the body is HTML or XML, so not the API's."""
    is_after_content: bool = False
    """Whether it follows content of a stream, which the client may already have."""


def read_error(body: bytes) -> AnswerError | None:
    """Read the error in a body or a stream, in the shape of Anthropic, OpenAI and others; None without one.

    It never raises. A body of more than 1 MiB is not read.
    """
    if len(body) > _LONGEST_BODY:
        return None
    if body[:_BEGINNING].lstrip().startswith(b"<"):
        return AnswerError(is_page=True)
    if _STREAM.match(body):
        return _in_stream(body)
    return _of(parse_json(body))


def may_be_error(beginning: bytes) -> bool:
    """Whether a JSON document may be an error, though its status is good: OpenRouter, MiniMax and Gemini send such."""
    if _MINIMAX in beginning:
        return _MINIMAX_ERROR.search(beginning) is not None
    return _BEGINS_WITH_ERROR.match(beginning) is not None


def _in_stream(body: bytes) -> AnswerError | None:
    is_after_content = False
    for event in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line for line in event.splitlines() if line.startswith(b"data:")]
        if not lines:
            continue
        data = parse_json(b"\n".join(line[5:].removeprefix(b" ") for line in lines))
        if error := _of(data, is_after_content=is_after_content):
            return error
        is_after_content = is_after_content or _has_content(data)
    return None


def _has_content(event: Any) -> bool:
    """Whether an event brings content."""
    kind = event.get("type") if isinstance(event, dict) else ""
    if kind is None:
        return event_stage(event) == "content"
    return not isinstance(kind, str) or kind not in _BEFORE_CONTENT


def _of(document: Any, *, is_after_content: bool = False) -> AnswerError | None:
    error = _object(document)
    if isinstance(error, str) and error:
        return AnswerError(message=error[:_LONGEST_MESSAGE], is_after_content=is_after_content)
    if not isinstance(error, dict) or not error:
        return _unusable(document, is_after_content=is_after_content)
    details, metadata, code = error.get("details"), error.get("metadata"), error.get("code")
    objects = [error, *([details] if isinstance(details, dict) else [])]
    codes = {one[key] for one in objects for key in _CODES if isinstance(one.get(key), str) and one[key]}
    metadata = metadata if isinstance(metadata, dict) else {}
    if isinstance(metadata.get("reasons"), list):
        codes.add(MODERATED)
    resets_in = _number(error, "resets_in_seconds")
    if isinstance(details, list):
        known = [one for one in details if isinstance(one, dict)]
        codes |= _google_codes(known, _text(error, "message"))
        resets_in = resets_in or _retry_delay(known)
    return AnswerError(
        _text(error, "type"),
        _text(error, "message")[:_LONGEST_MESSAGE],
        frozenset(codes),
        code if type(code) is int and code in _STATUSES else None,
        resets_in,
        _number(error, "resets_at") or _reset_of(metadata.get("headers")),
        is_after_content=is_after_content,
    )


def _unusable(document: Any, *, is_after_content: bool) -> AnswerError | None:
    """Give the error of a Gemini answer that ends without content."""
    fault = unusable_end(document) if isinstance(document, dict) else None
    if fault is None:
        return None
    code = FILTERED if fault.status == _BAD_REQUEST else BROKEN
    return AnswerError(code, fault.message, frozenset((code,)), fault.status, is_after_content=is_after_content)


def _google_codes(details: list[dict[str, Any]], message: str) -> set[str]:
    """Give the codes in the details of Google's errors: https://cloud.google.com/apis/design/errors#error_details."""
    codes = {one["reason"] for one in details if isinstance(one.get("reason"), str)}
    quotas = [
        quota
        for one in details
        if str(one.get("@type")).endswith(".QuotaFailure") and isinstance(one.get("violations"), list)
        for quota in one["violations"]
        if isinstance(quota, dict)
    ]
    if not quotas:
        return codes
    if _NO_LIMIT.search(message) or any(str(quota.get("quotaValue")) == "0" for quota in quotas):
        return codes | {NO_QUOTA}
    is_of_day = any("PerDay" in str(quota.get("quotaId")) for quota in quotas)
    return codes | {QUOTA_OF_DAY if is_of_day else QUOTA}


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """Give Google's retry delay in seconds; None without one."""
    delays = (one.get("retryDelay") for one in details if str(one.get("@type")).endswith(".RetryInfo"))
    found = next((match for delay in delays if isinstance(delay, str) and (match := _DELAY.fullmatch(delay))), None)
    return (float(found[1]) or None) if found else None


def _object(document: Any) -> Any:
    """Give what describes the error: `error`, or the document itself; None without an error."""
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    if "error" in document:
        return document["error"]
    if isinstance(response := document.get("response"), dict):  # an event of Responses
        return response.get("error")
    base = document.get("base_resp")  # MiniMax's, with status 200
    if isinstance(base, dict) and isinstance(base.get("status_code"), int) and base["status_code"]:
        return {"code": f"minimax-{base['status_code']}", "message": base.get("status_msg")}
    is_flat = isinstance(document.get("message"), str) and "code" in document and isinstance(document.get("type"), str)
    return document if is_flat else document.get("detail")


def _reset_of(headers: Any) -> float | None:
    """Give the end of OpenRouter's limit, whose errors contain the header, in milliseconds since 1970 UTC."""
    value = headers.get("X-RateLimit-Reset") if isinstance(headers, dict) else None
    seconds = int(value) / 1000 if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS else 0.0
    return seconds if 0 < seconds <= _LAST_MOMENT else None


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _number(table: dict[str, Any], key: str) -> float | None:
    value = table.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value <= _LAST_MOMENT else None
