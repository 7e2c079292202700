"""The meaning of a Responses answer's fields in the Messages API, for whole answers and streams."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Tokens, count, table, tokens_with_cache
from tokenferry.wire._faults import UNEXPLAINED, UpstreamFault, read_fault
from tokenferry.wire._json import encode
from tokenferry.wire.responses._models import AnswerItem, ResponsesAnswer

_REASONS: Final = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
_FAILED: Final = frozenset(("failed", "cancelled"))


def fault_of(answer: ResponsesAnswer) -> UpstreamFault | None:
    """Give the error of an answer; None if it has none."""
    if answer.error:
        return read_fault(encode({"error": answer.error})) or UNEXPLAINED
    return UNEXPLAINED if answer.status in _FAILED else None


def stop_reason(answer: ResponsesAnswer, *, has_calls: bool, is_refused: bool) -> str:
    """Give the stop reason of a finished answer."""
    if is_refused:
        return "refusal"
    if answer.status == "incomplete" and answer.incomplete_details is not None:
        return _REASONS.get(answer.incomplete_details.reason or "", "max_tokens")
    return "tool_use" if has_calls else "end_turn"


def is_cut(answer: ResponsesAnswer) -> bool:
    """Whether a limit cut the answer."""
    return answer.status == "incomplete"


def tokens(usage: Any) -> Tokens:
    """Give the token counts of a `usage` object."""
    reported = table(usage)
    details, more = table(reported.get("input_tokens_details")), table(reported.get("output_tokens_details"))
    return tokens_with_cache(
        count(reported.get("input_tokens")),
        count(reported.get("output_tokens")),
        count(details.get("cached_tokens")),
        count(details.get("cache_write_tokens")),
        count(more.get("reasoning_tokens")),
    )


def message_text(item: AnswerItem) -> tuple[str, bool]:
    """Give the text of a message, and whether it is a refusal."""
    parts = _parts(item.content)
    refusals = [part["refusal"] for part in parts if isinstance(part.get("refusal"), str)]
    return "".join([*_texts(parts), *refusals]), bool(refusals)


def reasoning_text(item: AnswerItem) -> str:
    """Give the text of a reasoning item: its summary, or the reasoning itself if there is no summary."""
    return "\n\n".join(_texts(_parts(item.summary))) or "".join(_texts(_parts(item.content)))


def _parts(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableAnswer("the upstream's answer has an item whose parts are not a list")
    return [part for part in value if isinstance(part, dict)]


def _texts(parts: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]
