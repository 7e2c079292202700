import re
from typing import Any, Final

from msgspec import Struct

from tokenferry.secret import parse_json
from tokenferry.wire import PREFACE, event_stage, unusable_end

_LONGEST_BODY: Final = 1024 * 1024
_BEGINNING: Final = 256
_STREAM: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?::[^\r\n]*[\r\n]|\s)*(?:event|data|id|retry):")
_BEFORE_CONTENT: Final = PREFACE | {"ping", "message_start"}
_CODES: Final = ("type", "code", "error_code", "reason", "status")
MODERATED: Final = "moderated"
"""A code of ours, for an error with the reasons why a prompt was flagged."""
FILTERED: Final = "google-filtered"
"""The same for a prompt or an answer of Gemini that Google's filters withheld."""
BROKEN: Final = "google-broken"
"""For an answer of Gemini that ends empty or broken."""
QUOTA: Final = "google-quota"
"""For a quota of a minute that is used up, and any whose length isn't known."""
QUOTA_OF_DAY: Final = "google-quota-of-day"
NO_QUOTA: Final = "google-no-quota"
"""For a model that the project has no quota for."""
_NO_LIMIT: Final = re.compile(r"\blimit: 0(?![.\d])")
_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_BAD_REQUEST: Final = 400
_LONGEST_MESSAGE: Final = 2000
_STATUSES: Final = range(400, 600)
_DIGITS: Final = 16
_LAST_MOMENT: Final = 4_102_444_800


class AnswerError(Struct, frozen=True):
    """The error that a body tells of. Its words are the upstream's: they may hold anything."""

    type: str = ""
    message: str = ""
    codes: frozenset[str] = frozenset()
    """Whatever names the kind of error, its type among them."""
    status: int | None = None
    """The HTTP status that the error itself names, in a stream or a document that began as a success."""
    resets_in: float | None = None
    """Seconds until it ends, if the body says so."""
    resets_at: float | None = None
    """The same as seconds since 1970 UTC."""
    is_page: bool = False
    """HTML or XML, so not by the API itself."""
    is_after_content: bool = False
    """In a stream, after content that the client may already have."""


def read_error(body: bytes) -> AnswerError | None:
    """Read the error of a body in the shape of Anthropic, OpenAI or other vendors, or of a stream that has one.

    It never raises. None for a body that tells of none. A body of more than 1 MiB is not looked at.
    """
    if len(body) > _LONGEST_BODY:
        return None
    if body[:_BEGINNING].lstrip().startswith(b"<"):
        return AnswerError(is_page=True)
    if _STREAM.match(body):
        return _in_stream(body)
    return _of(parse_json(body))


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
    """Whether an event is more than the beginning of an answer."""
    kind = event.get("type") if isinstance(event, dict) else ""
    if kind is None:
        return event_stage(event) == "content"
    return not isinstance(kind, str) or kind not in _BEFORE_CONTENT


def _of(document: Any, *, is_after_content: bool = False) -> AnswerError | None:
    error = _object(document)
    if isinstance(error, str) and error:
        return AnswerError(message=error[:_LONGEST_MESSAGE], is_after_content=is_after_content)
    if not isinstance(error, dict) or not error:
        return _ended(document, is_after_content=is_after_content)
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


def _ended(document: Any, *, is_after_content: bool) -> AnswerError | None:
    """What is wrong with an answer of Gemini that is no error, and has no content either."""
    fault = unusable_end(document) if isinstance(document, dict) else None
    if fault is None:
        return None
    code = FILTERED if fault.status == _BAD_REQUEST else BROKEN
    return AnswerError(code, fault.message, frozenset((code,)), fault.status, is_after_content=is_after_content)


def _google_codes(details: list[dict[str, Any]], message: str) -> set[str]:
    """What the details of an error of Google's name: https://cloud.google.com/apis/design/errors#error_details."""
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
    """Seconds until Google takes the request again, if it says so."""
    delays = (one.get("retryDelay") for one in details if str(one.get("@type")).endswith(".RetryInfo"))
    found = next((match for delay in delays if isinstance(delay, str) and (match := _DELAY.fullmatch(delay))), None)
    return (float(found[1]) or None) if found else None


def _object(document: Any) -> Any:
    """What describes the error: below `error`, or the document itself; None if nothing does."""
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    if "error" in document:
        return document["error"]
    if isinstance(response := document.get("response"), dict):  # of an event of Responses
        return response.get("error")
    base = document.get("base_resp")  # MiniMax's, with status 200
    if isinstance(base, dict) and isinstance(base.get("status_code"), int) and base["status_code"]:
        return {"code": f"minimax-{base['status_code']}", "message": base.get("status_msg")}
    is_flat = isinstance(document.get("message"), str) and "code" in document and isinstance(document.get("type"), str)
    return document if is_flat else document.get("detail")


def _reset_of(headers: Any) -> float | None:
    """When OpenRouter's limit ends: it gives the header within the error, in milliseconds since 1970 UTC."""
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
