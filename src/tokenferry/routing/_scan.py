"""Reads the facts of a request's body and their positions, in one validating pass without copying."""

import re
from codecs import utf_8_decode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from tokenferry.routing._members import (
    MOST_COMMAS,
    Key,
    TooComplex,
    decode_text,
    locate,
    place_of,
    read_members,
)
from tokenferry.routing._tag import Tag, find_tag, may_hold_tag
from tokenferry.wire import BodySize, measure

LONGEST_MODEL: Final = 512

_STRIDE: Final = 1024
_PIECE: Final = 16 * 1024
_DIGITS: Final = re.compile(rb"[0-9](?=[0-9])")
_LONGEST_ESCAPE: Final = len(rb"\ud83d\ude00")
_LONGEST_STAND_INS: Final = 16 * 1024
_MOST_TOOLS: Final = 10_000
_MODEL: Final = "model"
_MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The output limits of Messages and older Chat clients, of Chat Completions, and of Responses."""
_MODEL_LENGTH: Final = len(_MODEL)
_UNREAD: Final = "unread"
_QUOTE: Final = ord('"')
_LETTER: Final = ord("x")


class _Kind(msgspec.Struct):
    type: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


_GENERATION: Final = ("generationConfig", "generation_config")
_GOOGLE_SEARCH: Final = re.compile(rb'"google_?[sS]earch"\s*:')
_EFFORTS: Final = {"none": "disabled", "high": "enabled", "xhigh": "enabled", "max": "enabled"}
_thinking: Final = msgspec.json.Decoder(_Kind)
_effort: Final = msgspec.json.Decoder(str | None)
_reasoning: Final = msgspec.json.Decoder(_Reasoning)
_generation: Final = msgspec.json.Decoder(dict[str, Any])
_tools: Final = msgspec.json.Decoder(list[_Kind])
_anything: Final = msgspec.json.Decoder()
_whole: Final = msgspec.json.Decoder(int)


class Malformed(Struct, frozen=True):
    """Why a body is refused: one sentence for the client, and a code for the log."""

    message: str
    cause: str = "no_json"


class BodyFacts(msgspec.Struct, eq=False):
    """The facts of a JSON object. Facts that only some rules need are computed on demand."""

    body: bytes
    """The whole body."""
    _text: bytes
    _members: Mapping[Key, msgspec.Raw]
    _last: Mapping[str, msgspec.Raw]
    model: str | None = None
    """The top-level `model`; None if it is missing or not a string."""
    model_at: tuple[int, int] = (0, 0)
    """The position of its value in the body, quotes included."""
    _thinking: str | None = _UNREAD
    _web_search: bool | None = None
    _size: BodySize | None = None
    _tag: Tag | str | None = _UNREAD

    def __repr__(self) -> str:
        return f"BodyFacts({self.model!r}, {len(self.body)} bytes)"

    @property
    def stream(self) -> bool:
        """Whether the client asks for a stream."""
        raw = self._last.get("stream")
        return raw is not None and len(raw) == len(b"true") and bytes(raw) == b"true"

    @property
    def cache_key(self) -> str:
        """The prompt cache key of OpenAI clients; empty without one."""
        raw = self._last.get("prompt_cache_key")
        text = b"" if raw is None else bytes(raw)
        return decode_text(text) if text.startswith(b'"') else ""

    @property
    def has_thread(self) -> bool:
        """Whether a Messages request begins or continues a conversation that the upstream stores."""
        return bytes(self._last.get("thread", b"null")) != b"null"

    @property
    def max_tokens(self) -> int | None:
        """The largest output limit in the request, under any name; None without a valid one."""
        most = 0
        for name in _MAX_TOKENS:
            if (raw := self._last.get(name)) is not None:
                most = max(most, _count_of(raw))
        gemini = _either(self._generation, "maxOutputTokens", "max_output_tokens")
        return (max(most, gemini) if type(gemini) is int else most) or None

    @property
    def _generation(self) -> dict[str, Any]:
        """The `generationConfig` of a Gemini request."""
        raw = _either(self._last, *_GENERATION)
        try:
            return {} if raw is None else _generation.decode(raw)
        except msgspec.MsgspecError:
            return {}

    @property
    def size(self) -> BodySize:
        """The size of the body, by which tokens are estimated."""
        if self._size is None:
            self._size = measure(self.body)
        return self._size

    @property
    def thinking(self) -> str | None:
        """The type of `thinking`; None without one.

        OpenAI's efforts `high` and above count as `enabled`, `none` as `disabled`, others as `adaptive`.
        """
        if self._thinking is _UNREAD:
            raw = self._last.get("thinking")
            if raw is not None:
                self._thinking = _type_of(raw)
            elif isinstance(config := _either(self._generation, "thinkingConfig", "thinking_config"), dict):
                self._thinking = _thinking_of_gemini(config)
            else:
                self._thinking = _effort_of(self._last)
        return self._thinking

    @property
    def web_search(self) -> bool:
        """Whether the tools include a web search that the server runs. Raises `TooComplex`."""
        if self._web_search is None:
            raw = self._last.get("tools")
            options = self._last.get("web_search_options")  # of Chat Completions
            self._web_search = (raw is not None and _has_web_search(raw)) or (
                options is not None and bytes(options) != b"null"
            )
        return self._web_search

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """The fallbacks in `models`, which upstreams like OpenRouter use if the first model is unavailable.

        An item that is not a string is an empty name. Raises `TooComplex`.
        """
        lists = [raw for key, raw in self._members.items() if key.name == "models"]
        return tuple(name for raw in lists for name in _names(raw))

    @property
    def tag(self) -> Tag | None:
        """The sub-agent's tag in the system prompt; None without one. Raises `TooComplex`."""
        if isinstance(self._tag, str):
            self._tag = self._find_tag() if "system" in self._last else None
        return self._tag

    def _find_tag(self) -> Tag | None:
        if not any(may_hold_tag(raw) for key, raw in self._members.items() if key.name == "system"):
            return None
        systems = [member for member in locate(self._members, self._text) if member.name == "system"]
        return find_tag(self.body, self._text, systems)


def _count_of(raw: msgspec.Raw) -> int:
    try:
        return max(_whole.decode(raw), 0)
    except msgspec.MsgspecError:
        return 0


def _type_of(raw: msgspec.Raw) -> str | None:
    try:
        return _thinking.decode(raw).type
    except msgspec.MsgspecError:
        return None


def _effort_of(members: Mapping[str, msgspec.Raw]) -> str | None:
    """Give the effort of a Chat or Responses request as a type of `thinking`."""
    raw, nested = members.get("reasoning_effort"), members.get("reasoning")
    try:
        if raw is not None:
            effort = _effort.decode(raw)
        else:
            effort = None if nested is None else _reasoning.decode(nested).effort
    except msgspec.MsgspecError:
        return None
    return None if effort is None else _EFFORTS.get(effort, "adaptive")


def _either(members: Mapping[str, Any], name: str, other: str) -> Any:
    """Give a member by either spelling that protobuf's JSON accepts; None without it."""
    return members.get(name, members.get(other))


def _thinking_of_gemini(config: Mapping[str, Any]) -> str | None:
    """Give the thinking that a Gemini request asks for as a type of `thinking`."""
    level = _either(config, "thinkingLevel", "thinking_level")
    if isinstance(level, str):
        return "enabled" if level.lower() == "high" else "adaptive"
    budget = _either(config, "thinkingBudget", "thinking_budget")
    if type(budget) is not int:
        return None
    return "disabled" if budget == 0 else "adaptive" if budget < 0 else "enabled"


def _names(raw: msgspec.Raw) -> list[str]:
    if len(raw) > _LONGEST_STAND_INS:
        raise TooComplex(f"its models are longer than {_LONGEST_STAND_INS:,} bytes")
    try:
        found = _anything.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return [""]
    if found is None:
        return []
    return [name if isinstance(name, str) else "" for name in (found if isinstance(found, list) else [found])]


def _has_web_search(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    if _GOOGLE_SEARCH.search(text):
        return True
    if b"web_search" not in text and rb"\u" not in text:
        return False
    if text.count(b",") > MOST_COMMAS:
        raise TooComplex(f"its tools hold more than {MOST_COMMAS:,} commas")
    try:
        tools = _tools.decode(raw)
    except msgspec.MsgspecError:
        return False
    if len(tools) > _MOST_TOOLS:
        raise TooComplex(f"it has more than {_MOST_TOOLS:,} tools")
    return any(tool.type is not None and tool.type.startswith("web_search") for tool in tools)


def scan(chunks: Sequence[bytes | bytearray]) -> BodyFacts | Malformed:
    """Read a body. Two top-level models, `Model` included, are refused, since parsers may take either."""
    first = chunks[0] if len(chunks) == 1 else None
    body = first if isinstance(first, bytes) else b"".join(chunks)
    try:
        text, members = _read(body)
        if not body.isascii():
            _check_text(body)  # the decoder does not check skipped strings
    except msgspec.ValidationError:
        return Malformed("the request's body must be a JSON object")
    except TooComplex as fault:
        return Malformed(str(fault), "too_complex")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        return _no_json(_reason(body, fault))
    if len(body) > _STRIDE and _DIGITS.search(body[::_STRIDE]) and _has_long_number(text):
        return _no_json("a number in it has thousands of digits")
    return _with_model(body, text, members)


def _read(body: bytes) -> tuple[bytes, Mapping[Key, msgspec.Raw]]:
    """Read the members, and give the text that they were read from: the body, or one of the same length."""
    try:
        return body, read_members(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Clients cut texts within a surrogate pair; the upstream may refuse them. U+FXXX in place of U+DXXX turns no
        # name into one that matters.
        text = body.replace(rb"\ud", rb"\uf").replace(rb"\uD", rb"\uf")
        if text == body:
            raise
        return text, read_members(text)


def _check_text(body: bytes) -> None:
    """Raise `UnicodeDecodeError` for invalid UTF-8. Decoding in pieces is faster for long texts."""
    view, end, start = memoryview(body), len(body), 0
    while start < end:
        start += utf_8_decode(view[start : start + _PIECE], "strict", start + _PIECE >= end)[1]


def _with_model(body: bytes, text: bytes, members: Mapping[Key, msgspec.Raw]) -> BodyFacts | Malformed:
    models = place = 0
    last: dict[str, msgspec.Raw] = {}  # parsers take the last of duplicate keys
    for number, (key, raw) in enumerate(members.items(), 1):
        name = key.name
        last[name] = raw
        if name == _MODEL:
            place = number
            models += 1
        elif len(name) == _MODEL_LENGTH and name.lower() == _MODEL:
            models += 1
    if models > 1:
        message = 'the request names "model" twice; name it once'
        return Malformed(message, "two_models")
    facts = BodyFacts(body, text, members, last)
    if place:
        start, end = place_of(place, members, text)
        if body[start] == _QUOTE:
            facts.model_at = (start, end)
            is_long = end - start > LONGEST_MODEL * _LONGEST_ESCAPE + len('""')
            model = "" if is_long else decode_text(body[start:end])
            if is_long or len(model) > LONGEST_MODEL:
                return Malformed(f'"model" is longer than {LONGEST_MODEL} characters', "long_model")
            facts.model = model
    return facts


def _has_long_number(text: bytes) -> bool:
    """Whether a number is too long for parsers: two samples in a row are digits, and all between them.

    A digit is replaced by a letter, which is valid in a string but not in a number.
    """
    changed: bytearray | None = None
    for match in _DIGITS.finditer(text[::_STRIDE]):
        start = match.start() * _STRIDE
        if text[start : start + _STRIDE].isdigit():
            if changed is None:
                changed = bytearray(text)
            changed[start + _STRIDE // 2] = _LETTER  # the first digits may belong to an escape
    if changed is None:
        return False
    try:
        read_members(bytes(changed))
    except msgspec.DecodeError:
        return True
    return False


def _reason(body: bytes, fault: Exception) -> str:
    match fault:
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeDecodeError():
            return "it is not in UTF-8"
    if not body.strip():
        return "it is empty"
    reason = str(fault).removeprefix("JSON is malformed: ")
    return "it ends too early" if "truncated" in reason else reason


def _no_json(reason: str) -> Malformed:
    return Malformed(f"the request's body is not JSON: {reason}; send a JSON object")
