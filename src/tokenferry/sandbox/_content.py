"""The sandbox's answers in all dialects: an echo of the user's last text, and calls of the offered tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenferry.sandbox import _sse
from tokenferry.sandbox._settings import AnswerSettings

_LONGEST = 200
_SAMPLES: dict[str, Any] = {
    "string": "Zürich ⛴",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}

Call = tuple[str, dict[str, Any]]
"""The name of a tool, and its input."""


def words(messages: Sequence[Mapping[str, Any]], knobs: AnswerSettings) -> list[str]:
    """The answer's text in pieces, each of which counts as a token."""
    if knobs.text is not None:
        return _sse.pieces(knobs.text)
    found_results = results(messages)
    said = f"your tools said: {', '.join(found_results)}" if found_results else f"you said: {_last_words(messages)}"
    return _sse.pieces(f"Hello from the sandbox, {said} ⛴")


def results(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The results of tools since the last answer, in either dialect."""
    found: list[str] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            break
        content = message["content"]
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        if message["role"] == "tool":
            found.insert(0, _text(content))
        else:
            found_results = [block.get("content") for block in blocks if block.get("type") == "tool_result"]
            found[:0] = map(_text, found_results)
    return found


def _text(content: Any) -> str:
    if isinstance(content, list):
        blocks = [block for block in content if isinstance(block, dict)]
        content = " ".join(str(block.get("text", "")) for block in blocks)
    return str(content or "")[:_LONGEST].strip()


def calls(
    offered: Mapping[str, Any], knobs: AnswerSettings, *, named: str | None, forced: bool, has_results: bool
) -> list[Call]:
    """The calls in the answer. `offered` has the tools' schemas by name; `named` is the tool that must be called."""
    if named is not None:
        return [(named, _filled(offered[named]))] if named in offered else []
    if knobs.calls and not has_results and all(one["name"] in offered for one in knobs.calls):
        return [(one["name"], one.get("input", {})) for one in knobs.calls]
    return [(name, _filled(schema)) for name, schema in list(offered.items())[:1]] if forced else []


def _last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        content = message["content"]
        if isinstance(content, str):
            return content[:_LONGEST]
        texts = [
            str(block.get("text", "")) for block in content if isinstance(block, dict) and block.get("type") == "text"
        ]
        if texts:
            return texts[-1][:_LONGEST]
    return "nothing"


def _filled(schema: Any) -> dict[str, Any]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    filled = {}
    for name, each in properties.items():
        kind = each.get("type") if isinstance(each, dict) else None
        choices = each.get("enum") if isinstance(each, dict) else None
        filled[name] = choices[0] if choices else _SAMPLES.get(kind if isinstance(kind, str) else "string")
    return filled
