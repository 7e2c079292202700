"""Whatever stands in the place of a value: a codec says in one sentence that it can't, or goes on."""

import json
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import Unfit, UnreadableAnswer
from wire.rig import DONE, USAGE, ask, chat_ask, fragment, to_chat, to_messages

ODD: Final = tuple(
    map(
        json.dumps,
        [
            None,
            True,
            -1,
            0,
            1.5,
            10**30,
            "",
            "\x00",
            "x" * 300,
            [],
            {},
            [None],
            [[]],
            {"type": "x"},
            [{"type": "text"}],
            {"a": {}},
        ],
    )
)
"""As texts, for what is drawn is changed again."""
CALL: Final = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}
IMAGE: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
TOOL: Final = {"name": "look", "description": "d", "input_schema": {"type": "object"}, "strict": True}
REQUEST: Final = ask(
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, IMAGE]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, CALL]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "r", "is_error": True}]},
    system=[{"type": "text", "text": "s"}],
    tools=[TOOL],
    tool_choice={"type": "tool", "name": "look"},
    thinking={"type": "enabled", "budget_tokens": 2000},
    output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    stop_sequences=["a"],
    temperature=0.5,
    metadata={"user_id": "u"},
)
CHAT_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CHAT_REQUEST: Final = chat_ask(
    {"role": "system", "content": "s"},
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "x"}}],
    },
    {"role": "assistant", "content": "a", "tool_calls": [CHAT_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    tool_choice={"type": "function", "function": {"name": "look"}},
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    stream_options={"include_usage": True},
    reasoning_effort="low",
    stop="x",
)
CHOICE: Final = {"index": 0, "message": {"content": "a", "tool_calls": [CHAT_CALL]}, "finish_reason": "stop"}
ANSWER: Final = {"id": "1", "model": "m", "choices": [CHOICE], "usage": USAGE, "error": None}
CHUNK: Final = {
    "id": "1",
    "choices": [
        {
            "index": 0,
            "delta": {"content": "a", **fragment(0, id="c", name="n", arguments="{}")},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
MESSAGE: Final = {
    "id": "1",
    "content": [{"type": "text", "text": "a"}, CALL],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
EVENTS: Final = [
    {"type": "message_start", "message": {"id": "1", "model": "m", "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": CALL},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document."""
    steps = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, value in steps:
        yield (*path, step)
        yield from places(value, (*path, step))


def spoilt(draw: st.DrawFn, document: Any) -> bytes:
    """The document with something odd in up to three places."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(document))))
        inner = document
        for step in way:
            inner = inner[step]
        inner[last] = json.loads(draw(st.sampled_from(ODD)))
        if not list(places(document)):
            break
    return json.dumps(document).encode()


@given(st.data())
@settings(max_examples=effort(300))
def test_a_request_is_translated_or_unfit_with_a_short_reason(data: st.DataObject) -> None:
    for using, body in ((to_chat(), REQUEST), (to_messages(thinking="budget"), CHAT_REQUEST)):
        try:
            sent = using.request(data.draw(st.composite(spoilt)(json.loads(body))), "m")
        except Unfit as fault:
            reason = str(fault)
        else:
            reason = ""
            assert json.loads(sent.body)["model"] == "m"
        assert len(reason) < 400


@given(st.data())
@settings(max_examples=effort(300))
def test_an_answer_is_translated_or_unreadable(data: st.DataObject) -> None:
    for using, asked, answer in ((to_chat(), ask(), ANSWER), (to_messages(), chat_ask(), MESSAGE)):
        try:
            found, counted = using.answer(data.draw(st.composite(spoilt)(answer)), using.request(asked, "m"))
        except UnreadableAnswer:
            pass
        else:
            assert json.loads(found)["usage"]
            assert all(count is None or count >= 0 for count in (counted.input, counted.output))


@given(st.data())
@settings(max_examples=effort(300))
def test_a_stream_ends_well_or_with_one_error(data: st.DataObject) -> None:
    chunks = [data.draw(st.composite(spoilt)(CHUNK)) for _ in range(2)]
    events = [data.draw(st.composite(spoilt)(event)) for event in EVENTS]
    for using, asked, pieces in ((to_chat(), ask(stream=True), chunks), (to_messages(), chat_ask(stream=True), events)):
        stream = using.stream(using.request(asked, "m"), "r")
        out = b"".join(stream.feed(b"data: %b\n\n" % piece) for piece in pieces)
        out += stream.feed(DONE) + stream.end()
        assert out.endswith(b"\n\n")
        assert stream.is_complete == (stream.error is None)
        assert stream.feed(DONE) == stream.end() == stream.fail("x") == b""
