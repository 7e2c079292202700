"""What the fields of a Responses answer mean in the Messages API, whether it is whole or a stream."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Tokens
from tokenferry.wire._faults import UNEXPLAINED, UpstreamFault, read_fault
from tokenferry.wire._json import encode
from tokenferry.wire.responses._models import AnswerItem, ResponsesAnswer, ResponsesUsage

_REASONS: Final = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
_MOST: Final = 10**9  # no request has more
_FAILED: Final = frozenset(("failed", "cancelled"))


def fault_of(answer: ResponsesAnswer) -> UpstreamFault | None:
    """What went wrong with an answer; None for one that is well."""
    if answer.error:
        return read_fault(encode({"error": answer.error})) or UNEXPLAINED
    return UNEXPLAINED if answer.status in _FAILED else None


def stop_reason(answer: ResponsesAnswer, *, has_calls: bool, is_refused: bool) -> str:
    """Why a finished answer ended."""
    if is_refused:
        return "refusal"
    if answer.status == "incomplete" and answer.incomplete_details is not None:
        return _REASONS.get(answer.incomplete_details.reason or "", "max_tokens")
    return "tool_use" if has_calls else "end_turn"


def is_cut(answer: ResponsesAnswer) -> bool:
    """Whether an answer ends anywhere, because it came to a limit."""
    return answer.status == "incomplete"


def tokens(usage: ResponsesUsage | None) -> Tokens:
    """What was counted. Responses' input includes what the cache read and wrote, Messages' input does not."""
    if usage is None:
        return Tokens()
    details = usage.input_tokens_details
    read = _count(details.cached_tokens if details is not None else None)
    written = _count(details.cache_write_tokens if details is not None else None)
    given = _count(usage.input_tokens)
    return Tokens(
        input=None if given is None else max(given - (read or 0) - (written or 0), 0),
        output=_count(usage.output_tokens),
        cache_read=read,
        cache_creation=written,
    )


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MOST else None


def message_text(item: AnswerItem) -> tuple[str, bool]:
    """The text of a message, and whether it is a refusal."""
    parts = _parts(item.content)
    refusals = [part["refusal"] for part in parts if isinstance(part.get("refusal"), str)]
    return "".join([*_texts(parts), *refusals]), bool(refusals)


def reasoning_text(item: AnswerItem) -> str:
    """What a reasoning item says: its summary, or else the reasoning itself, of models that show it."""
    return "\n\n".join(_texts(_parts(item.summary))) or "".join(_texts(_parts(item.content)))


def _parts(told: Any) -> list[dict[str, Any]]:
    if told is None:
        return []
    if not isinstance(told, list):
        raise UnreadableAnswer("the upstream's answer has an item whose parts are no list")
    return [part for part in told if isinstance(part, dict)]


def _texts(parts: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]
