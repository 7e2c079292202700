"""Two other translators translate the same requests: wherever they differ from ours, request_oracles.toml says why."""

import itertools
import json
import tomllib
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pytest
from divyam_llm_interop.translate.chat.api_types import ModelApiType
from divyam_llm_interop.translate.chat.translate import ChatTranslator
from divyam_llm_interop.translate.chat.types import ChatRequest, Model
from llm_rosetta import convert

from tokenferry.wire import Quirks, WireFormat, codec

pytestmark = pytest.mark.e2e

Document: TypeAlias = dict[str, Any]
Difference: TypeAlias = tuple[str, str, Literal["lacks", "adds", "differs", "refuses"]]
JUDGED: Final = Path(__file__).with_name("request_oracles.toml")
CLAUDE, GPT = "claude-sonnet-4-5", "gpt-4.1"
PNG: Final = "iVBORw0KGgo="
CITY: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED: Final = {**CITY, "additionalProperties": False}
_translator: Final = ChatTranslator()


def ours(body: Document, source: WireFormat, target: WireFormat) -> Document:
    quirks = Quirks(efforts=("low", "medium", "high"), thinking="budget")
    known = codec(source, target, quirks, domain="up/model")
    assert known is not None
    return json.loads(known.request(json.dumps(body).encode(), "model").body)  # type: ignore[no-any-return]


def divyam(body: Document, source: WireFormat, target: WireFormat) -> Document:
    names = {
        "anthropic": (CLAUDE, ModelApiType.ANTHROPIC_MESSAGES),
        "openai": (GPT, ModelApiType.COMPLETIONS),
        "openai-responses": (GPT, ModelApiType.RESPONSES),
    }
    here, there = (Model(name=names[one][0], api_type=names[one][1]) for one in (source, target))
    return _translator.translate_request(ChatRequest(body=body), here, there).body


def rosetta(body: Document, source: WireFormat, target: WireFormat) -> Document:
    names = {"anthropic": "anthropic", "openai": "openai_chat", "openai-responses": "openai_responses"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it leaves out
        return convert(body, names[target], names[source])


ORACLES: Final[dict[str, Callable[[Document, WireFormat, WireFormat], Document]]] = {
    "divyam-llm-interop": divyam,
    "llm-rosetta": rosetta,
}


def user(*blocks: Any) -> Document:
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def assistant(*blocks: Any, **fields: Any) -> Document:
    return {"role": "assistant", "content": list(blocks), **fields}


def text(words: str, **fields: Any) -> Document:
    return {"type": "text", "text": words, **fields}


def use(number: int) -> Document:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "weather", "input": {"city": "Köln"}}


def result(number: int, content: Any = "sunny", **fields: Any) -> Document:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content, **fields}


def call(number: int) -> Document:
    function = {"name": "weather", "arguments": '{"city": "Köln"}'}
    return {"id": f"call_{number}", "type": "function", "function": function}


def told(number: int, content: Any = "sunny") -> Document:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


IMAGE: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
LINK: Final = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
TOOLS: Final = {"tools": [{"name": "weather", "description": "says it", "input_schema": CITY}]}
MARK: Final = {"cache_control": {"type": "ephemeral"}}
THOUGHT: Final = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
ASKED: Final = user("weather?")

MESSAGES: Final[dict[str, Document]] = {
    "plain": {},
    "texts": {"messages": [user(text("a"), text("b"))]},
    "system": {"system": "be kind"},
    "system of blocks": {"system": [text("be kind", **MARK), text("be short")]},
    "turns": {"messages": [user("a"), {"role": "assistant", "content": "b"}, user("c")]},
    "sampling": {"temperature": 0.5, "top_p": 0.9},
    "top k": {"top_k": 40},
    "stops": {"stop_sequences": ["END", "STOP"]},
    "stream": {"stream": True},
    "user": {"metadata": {"user_id": "u"}},
    "image": {"messages": [user(text("what?"), IMAGE)]},
    "image by address": {"messages": [user(LINK, text("what?"))]},
    "tools": TOOLS,
    "tool auto": {**TOOLS, "tool_choice": {"type": "auto"}},
    "tool any": {**TOOLS, "tool_choice": {"type": "any"}},
    "tool one": {**TOOLS, "tool_choice": {"type": "tool", "name": "weather"}},
    "tool none": {**TOOLS, "tool_choice": {"type": "none"}},
    "one at a time": {**TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "strict tool": {"tools": [{**TOOLS["tools"][0], "strict": True, "input_schema": CLOSED}]},
    "call": {**TOOLS, "messages": [ASKED, assistant(text("I look"), use(1)), user(result(1))]},
    "call without words": {**TOOLS, "messages": [ASKED, assistant(use(2)), user(result(2))]},
    "calls": {**TOOLS, "messages": [ASKED, assistant(use(3), use(4)), user(result(3), result(4, "rain"))]},
    "result of blocks": {
        **TOOLS,
        "messages": [ASKED, assistant(use(5)), user(result(5, [text("sunny"), text("warm")]))],
    },
    "empty result": {**TOOLS, "messages": [ASKED, assistant(use(6)), user(result(6, []))]},
    "failed call": {**TOOLS, "messages": [ASKED, assistant(use(7)), user(result(7, "no", is_error=True))]},
    "result and words": {**TOOLS, "messages": [ASKED, assistant(use(8)), user(result(8), text("and now?"))]},
    "result with an image": {**TOOLS, "messages": [ASKED, assistant(use(9)), user(result(9, [text("see"), IMAGE]))]},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 4096},
    "effort": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    "thought": {"messages": [user("a"), assistant(THOUGHT, text("b")), user("c")]},
    "schema": {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
}
FUNCTION: Final = {"name": "weather", "description": "says it", "parameters": CITY}
FUNCTIONS: Final = {"tools": [{"type": "function", "function": FUNCTION}]}
SCHEMA: Final = {"name": "x", "strict": True, "schema": CLOSED}
CHAT: Final[dict[str, Document]] = {
    "plain": {},
    "system": {"messages": [{"role": "system", "content": "be kind"}, user("a")]},
    "developer": {"messages": [{"role": "developer", "content": "be kind"}, user("a")]},
    "turns": {"messages": [user("a"), {"role": "assistant", "content": "b"}, user("c")]},
    "image": {
        "messages": [
            user(text("a"), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}),
        ]
    },
    "image by address": {
        "messages": [user({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}})]
    },
    "two in a row": {"messages": [user("a"), user("b")]},
    "sampling": {"temperature": 0.5},
    "both samplings": {"temperature": 0.5, "top_p": 0.9},
    "hot": {"temperature": 1.5},
    "stop": {"stop": "END"},
    "stops": {"stop": ["END", "STOP"]},
    "old limit": {"max_tokens": 50},
    "limit": {"max_completion_tokens": 50},
    "stream": {"stream": True, "stream_options": {"include_usage": True}},
    "user": {"user": "u"},
    "tools": FUNCTIONS,
    "tool auto": {**FUNCTIONS, "tool_choice": "auto"},
    "tool any": {**FUNCTIONS, "tool_choice": "required"},
    "tool one": {**FUNCTIONS, "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "tool none": {**FUNCTIONS, "tool_choice": "none"},
    "one at a time": {**FUNCTIONS, "parallel_tool_calls": False},
    "strict tool": {
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True, "parameters": CLOSED}}],
    },
    "call": {
        **FUNCTIONS,
        "messages": [ASKED, {"role": "assistant", "content": "I look", "tool_calls": [call(1)]}, told(1)],
    },
    "calls": {
        **FUNCTIONS,
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [call(2), call(3)]},
            told(2),
            told(3, "rain"),
            user("so?"),
        ],
    },
    "effort": {"reasoning_effort": "low"},
    "schema": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    "JSON": {"response_format": {"type": "json_object"}},
    "penalty": {"frequency_penalty": 0.5},
    "seed": {"seed": 5},
}
WITHOUT_STOPS: Final = {case: fields for case, fields in MESSAGES.items() if case != "stops"}  # Responses has none
DIRECTIONS: Final[dict[str, tuple[WireFormat, WireFormat, Document, dict[str, Document]]]] = {
    "to chat": ("anthropic", "openai", {"model": CLAUDE, "max_tokens": 100}, MESSAGES),
    "to messages": ("openai", "anthropic", {"model": GPT}, CHAT),
    "to responses": ("anthropic", "openai-responses", {"model": CLAUDE, "max_tokens": 100}, WITHOUT_STOPS),
}


def merged(one: Document, other: Document) -> Document:
    """Both conversations, one after the other, with the fields of both."""
    talks = [found["messages"] for found in (one, other) if "messages" in found]
    said = {"role": "assistant", "content": "I see"}
    messages = [message for talk in talks for message in (said, *talk)][1:]
    return {**one, **other, "messages": messages or [user("hello")]}


def requests(direction: str) -> Iterator[tuple[str, Document]]:
    *_, base, cases = DIRECTIONS[direction]
    for one, fields in cases.items():
        yield one, {**base, **merged(fields, {})}
    for one, other in itertools.combinations(cases, 2):
        yield f"{one} + {other}", {**base, **merged(cases[one], cases[other])}


def plain(value: Any) -> Any:
    """A document without what every reader takes for the same."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = {name: plain(each) for name, each in value.items() if each is not None and name != "model"}
    if "max_completion_tokens" in known:
        known["max_tokens"] = known.pop("max_completion_tokens")
    if isinstance(known.get("arguments"), str):
        known["arguments"] = json.loads(known["arguments"])
    defaults = {"detail": "auto", "strict": False, "caller": {"type": "direct"}, "status": "completed"}
    if "role" in known:
        defaults["type"] = "message"
    known = {name: each for name, each in known.items() if defaults.get(name) != each}
    for name in ("content", "system"):
        match known.get(name):
            case [{"type": "text" | "input_text" | "output_text", "text": str(words), **rest}] if not rest:
                known[name] = words
    return known


def differences(mine: Any, others: Any, place: str = "") -> Iterator[tuple[str, Literal["lacks", "adds", "differs"]]]:
    match mine, others:
        case dict(), dict():
            for name in sorted(mine.keys() | others.keys()):
                inner = f"{place}.{name}".lstrip(".")
                if name not in others:
                    yield inner, "lacks"
                elif name not in mine:
                    yield inner, "adds"
                else:
                    yield from differences(mine[name], others[name], inner)
        case list(), list() if len(mine) == len(others):
            for one, other in zip(mine, others, strict=True):
                label = one.get("role", one.get("type", "")) if isinstance(one, dict) else ""
                yield from differences(one, other, f"{place}[{label}]")
        case _ if mine != others:
            yield place, "differs"


def found(oracle: str, direction: str, body: Document) -> set[Difference]:
    source, target, *_ = DIRECTIONS[direction]
    mine = ours(deepcopy(body), source, target)
    try:
        others = ORACLES[oracle](deepcopy(body), source, target)
    except Exception as fault:  # noqa: BLE001 - whatever it has
        return {(direction, str(fault), "refuses")}
    return {(direction, place, how) for place, how in differences(plain(mine), plain(others))}


def judged(oracle: str) -> set[Difference]:
    known = tomllib.loads(JUDGED.read_text(encoding="utf-8"))[oracle]
    rows = [(entry["direction"], entry.get("place", entry.get("message")), entry["it"]) for entry in known]
    assert len(rows) == len({*rows})
    assert all(len(entry["why"]) > 10 for entry in known)
    return {*rows}


@pytest.mark.parametrize("oracle", ORACLES)
def test_each_difference_is_judged_and_none_is_judged_in_vain(oracle: str) -> None:
    seen: dict[Difference, str] = {}
    for direction in DIRECTIONS:
        for case, body in requests(direction):
            for difference in found(oracle, direction, body):
                seen.setdefault(difference, case)
    known = judged(oracle)
    assert {difference: case for difference, case in seen.items() if difference not in known} == {}
    assert known - seen.keys() == set()
