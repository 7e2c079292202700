"""Marks reasoning with its issuer, so that it goes back only to the model that wrote it.

The mark is in the one field that clients send back unchanged: the signature of a thinking block, or the encrypted
content of a reasoning item.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import msgspec

PREFIX: Final = "tokenferry.reasoning."
SEALED: Final = PREFIX.encode()
"""Every body with reasoning of a translated answer contains these bytes."""


def seal(domain: str, payload: str = "") -> str:
    """Mark reasoning with `domain`, a provider and a family of its models. `payload` is what the model wants back."""
    mark = PREFIX + urlsafe_b64encode(domain.encode()).decode("ascii")
    return f"{mark}.{payload}" if payload else mark


def opened(mark: str | None, domain: str) -> str | None:
    """Give the payload of reasoning from this domain; None for reasoning of another."""
    issuer, _, payload = (mark or "").removeprefix(PREFIX).partition(".")
    return payload if mark and f"{PREFIX}{issuer}" == seal(domain) else None


def refuses_reasoning(wire_format: str, error: bytes) -> bool:
    """Whether an API's error complains of reasoning that it did not write, or of the lack of its own."""
    if wire_format == "openai-responses":
        return b"invalid_encrypted_content" in error or b"encrypted content" in error.lower()
    if wire_format == "gemini":
        return b"thought signature" in error.lower() or b"thought_signature" in error
    return wire_format == "anthropic" and (
        b"Invalid `signature` in `thinking` block" in error or b"Expected `thinking` or `redacted_thinking`" in error
    )


def without_sealed(body: bytes, *, foreign: Collection[int] = (), keep_thinking: bool = True) -> bytes:
    """Give a request without reasoning of translated answers, which vendors' own APIs refuse.

    Reasoning items of Responses are dropped, too, if the `hash` of their encrypted content is in `foreign`; the items
    that follow lose their ids, which refer to that reasoning.

    `keep_thinking=False` drops every thinking block of Messages, and turns that hold nothing else. If a thinking budget
    demands thoughts before the last calls and these are gone, thinking is turned off for the request.
    A body that can't be read is returned unchanged.
    """
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(document, dict):
        return body
    for name in ("messages", "input"):
        if isinstance(parts := document.get(name), list):
            is_dropped = _is_sealed if keep_thinking else _is_thinking
            document[name] = [rest for part in parts if (rest := _without(part, is_dropped)) is not None]
    if foreign and isinstance(items := document.get("input"), list):
        document["input"] = [*_without_foreign(items, foreign)]
    if _demands_thoughts(document.get("thinking")) and _lacks_thoughts(document.get("messages")):
        del document["thinking"]
        if isinstance(management := document.get("context_management"), dict):
            edits = [edit for edit in management.get("edits") or () if not _type(edit).startswith("clear_thinking")]
            document["context_management"] = {**management, "edits": edits}  # this edit needs thinking
    return msgspec.json.encode(document)


def _demands_thoughts(thinking: Any) -> bool:
    """Whether calls must follow a thought, as they must with a budget, but not with adaptive thinking."""
    return _type(thinking) == "enabled"


def _lacks_thoughts(turns: Any) -> bool:
    """Whether the request answers calls of the model's last turn, and that turn begins without a thought."""
    results = False
    known: list[Any] = turns if isinstance(turns, list) else []
    for turn in reversed(known):
        if not isinstance(turn, dict) or not isinstance(content := turn.get("content"), list):
            return False
        if turn.get("role") == "assistant":
            return results and not {"thinking", "redacted_thinking"} & {*map(_type, content[:1])}
        results = results or any(_type(block) == "tool_result" for block in content)
    return False


def _without(part: Any, is_dropped: Callable[[Any], bool]) -> Any:
    """Give a turn or an item without dropped blocks; None if nothing is left."""
    if is_dropped(part):
        return None
    content = part.get("content") if isinstance(part, dict) else None
    if not isinstance(content, list):
        return part
    rest = [block for block in content if not is_dropped(block)]
    return part if len(rest) == len(content) else {**part, "content": rest} if rest else None


def _without_foreign(items: list[Any], foreign: Collection[int]) -> Iterator[Any]:
    is_orphaned = False
    for item in items:
        if _type(item) == "reasoning":
            is_orphaned = hash(str(item.get("encrypted_content")).encode()) in foreign
            if is_orphaned:
                continue
        yield _without_id(item) if is_orphaned else item


def _without_id(item: Any) -> Any:
    return {name: value for name, value in item.items() if name != "id"} if isinstance(item, dict) else item


def _is_sealed(block: Any) -> bool:
    field = {"thinking": "signature", "reasoning": "encrypted_content"}.get(_type(block))
    mark = block.get(field) if field else None
    return isinstance(mark, str) and mark.startswith(PREFIX)


def _is_thinking(block: Any) -> bool:
    return _type(block) in {"thinking", "redacted_thinking"} or _is_sealed(block)


def _type(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, dict) else ""
