"""Streamed Messages answers as answers of the Responses API. Numbers name the threads where others met the fault."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from effort import effort
from tokenferry.wire import Codec, StreamTranslator, parse, split
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, events, from_responses, named, responses_ask

SDK: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
PATCH = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
SPACE = {"type": "namespace", "name": "agents", "description": "", "tools": [{"type": "function", "name": "close"}]}
ASKED = responses_ask(stream=True, tools=[PATCH, SPACE, {"type": "function", "name": "look"}])


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[bytes]:
    return [
        named("content_block_start", index=index, content_block={"type": kind, **fields}),
        *(named("content_block_delta", index=index, delta=delta) for delta in deltas),
        named("content_block_stop", index=index),
    ]


def text(words: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": words}


def part(words: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": words}


USAGE = {"input_tokens": 40, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10, "output_tokens": 1}
START = named("message_start", message={"id": "msg_1", "model": "claude", "usage": USAGE})


def end(reason: str = "tool_use") -> bytes:
    delta = named("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 20})
    return delta + named("message_stop")


TRANSCRIPT = [
    START,
    named("ping"),
    *block(0, "thinking", {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}),
    *block(1, "redacted_thinking", data="d"),
    *block(2, "text", text("It is "), text="", citations=[]),
    *block(3, "text", text("🌧️"), text=""),
    *block(4, "server_tool_use", part("{}"), id="s", name="web_search"),
    *block(5, "tool_use", part(""), part('{"city":'), part(' "Zürich"}'), id="toolu_1", name="look", input={}),
    *block(6, "tool_use", part('{"input": "*** Be'), part('gin\\n"}'), id="toolu_2", name="apply_patch", input={}),
    *block(7, "tool_use", id="toolu_3", name="agents__close", input={}),
    end(),
]
WHOLE = b"".join(TRANSCRIPT)


def translator(using: Codec | None = None) -> StreamTranslator:
    using = using or from_responses()
    return using.stream(using.request(ASKED, "m", at=9), "req_1")


def translated(*pieces: bytes) -> bytes:
    stream = translator()
    return b"".join(map(stream.feed, pieces)) + stream.end()


def of_kind(out: bytes, kind: str) -> list[dict[str, Any]]:
    return [event for event in events(out) if event["type"] == kind]


def test_a_whole_answer_as_the_sdk_reads_it() -> None:
    out = translated(*TRANSCRIPT)
    for event in events(out):
        SDK.validate_python(event, strict=False)
    assert b": ping\n\n" in out
    last = events(out)[-1]
    answer = Response.model_validate(last["response"])
    assert (last["type"], answer.status, answer.id, answer.created_at) == (
        "response.completed",
        "completed",
        "resp_1",
        9,
    )
    assert [item.type for item in answer.output] == [
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
        "function_call",
    ]
    assert answer.output_text == "It is 🌧️"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (100, 20, 120)
    assert answer.usage.input_tokens_details.cached_tokens == 50


def test_the_events_are_what_codex_needs() -> None:
    """Wei-Shaw/sub2api#3390, decolua/9router#2611, #1371, rynfar/meridian#654, router-for-me/CLIProxyAPI#4798."""
    out = events(translated(*TRANSCRIPT))
    assert [event["sequence_number"] for event in out] == list(range(len(out)))
    assert [event["type"] for event in out[:2]] == ["response.created", "response.in_progress"]
    begun = [event for event in out if event["type"] == "response.output_item.added"]
    ended = [event for event in out if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in begun] == [event["output_index"] for event in ended] == list(range(6))
    assert [event["item"]["id"] for event in begun] == [event["item"]["id"] for event in ended]
    assert len({event["item"]["id"] for event in begun}) == 6
    assert [event["item"] for event in ended] == out[-1]["response"]["output"]
    for event in out:
        if "item_id" in event:
            assert event["item_id"] == begun[event["output_index"]]["item"]["id"]
            parts = {"content_index", "summary_index"} & event.keys()
            assert len(parts) == ("argument" not in event["type"] and "input" not in event["type"])
            assert {event[part] for part in parts} <= {0}  # each item has one part
    call, patch, close = (event["item"] for event in ended[3:])
    assert (call["call_id"], call["name"], json.loads(call["arguments"])) == ("toolu_1", "look", {"city": "Zürich"})
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", "*** Begin\n")
    assert (close["namespace"], close["name"], close["arguments"]) == ("agents", "close", "{}")


def test_deltas_add_up_to_what_is_done() -> None:
    out = translated(*TRANSCRIPT)
    for kind, field in (
        ("output_text", "text"),
        ("reasoning_summary_text", "text"),
        ("function_call_arguments", "arguments"),
        ("custom_tool_call_input", "input"),
    ):
        said: dict[int, str] = {}
        for event in of_kind(out, f"response.{kind}.delta"):
            said[event["output_index"]] = said.get(event["output_index"], "") + event["delta"]
        whole = {event["output_index"]: event[field] for event in of_kind(out, f"response.{kind}.done")}
        assert {index: words for index, words in whole.items() if words != "{}"} == said


def test_a_summary_begins_once_before_its_first_words() -> None:
    deltas = [{"type": "thinking_delta", "thinking": words} for words in ("h", "m")]
    stream = from_responses().stream(from_responses().request(ASKED, "claude"), "req_1")
    out = stream.feed(b"".join([START, *block(0, "thinking", *deltas), end("end_turn")])) + stream.end()
    kinds = [kind for kind, _ in map(parse, split(out)) if "summary" in kind]
    name = "response.reasoning_summary_"
    assert kinds[:3] == [f"{name}part.added", f"{name}text.delta", f"{name}text.delta"]
    assert kinds.count(f"{name}part.added") == 1


def test_thinking_comes_back_to_its_issuer_as_it_was() -> None:
    output = events(translated(*TRANSCRIPT))[-1]["response"]["output"]
    assert output[0]["encrypted_content"] == seal(DOMAIN, "ts")
    body = responses_ask({"role": "user", "content": "a"}, *output[:3])
    content = json.loads(from_responses().request(body, "m").body)["messages"][1]["content"]
    assert content == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "It is 🌧️"},
    ]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(50))
def test_however_it_is_cut_into_chunks_the_bytes_are_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:stop] for start, stop in itertools.pairwise(places)]
    assert translated(*pieces) == translated(*TRANSCRIPT)


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == translated(WHOLE)


def test_cut_after_any_byte_it_ends_with_failed() -> None:
    """dativo-io/talon#254, open-webui/open-webui#29628: Codex waits for one of the last events."""
    last = len(WHOLE) - 2  # whole but for the blank line
    for stop in range(len(WHOLE)):
        kinds = [event["type"] for event in events(translated(WHOLE[:stop]))]
        assert kinds[-1] == ("response.completed" if stop > last else "response.failed"), stop
        assert kinds.count("response.failed") + kinds.count("response.completed") == 1


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("max_tokens", "incomplete", {"reason": "max_output_tokens"}),
        ("model_context_window_exceeded", "incomplete", {"reason": "max_output_tokens"}),
        ("refusal", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ends(reason: str, status: str, details: dict[str, str] | None) -> None:
    last = events(translated(START, *block(0, "text", text("so"), text=""), end(reason)))[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    assert last["response"]["incomplete_details"] == details


@pytest.mark.parametrize("before", [b"", START, b"".join(TRANSCRIPT[:9])], ids=["first", "amid", "amid text"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "overloaded_error", "message": "why"}, "server_is_overloaded"),
        ({"type": "rate_limit_error", "message": "why"}, "rate_limit_exceeded"),
        ({"type": "invalid_request_error", "message": "prompt is too long: why"}, "context_length_exceeded"),
        ({"type": "api_error", "message": "why"}, "server_error"),
    ],
)
def test_an_error_amid_the_stream_is_the_last_event(before: bytes, error: dict[str, str], code: str) -> None:
    """litellm#32475, diegosouzapw/OmniRoute#8210, saberjack/SHTUCodeProxy#4."""
    stream = translator()
    out = events(stream.feed(before + named("error", error=error) + end()) + stream.end())
    assert [event["type"] for event in out].count("response.completed") == 0
    assert out[-1]["type"] == "response.failed"
    assert out[-1]["response"]["error"] == {"code": code, "message": error["message"]}
    Response.model_validate({**out[-1]["response"], "error": None})
    assert stream.error is not None
    assert not stream.is_complete


@pytest.mark.parametrize(
    "piece",
    [
        b"data: \x00\n\n",
        b"data: [1]\n\n",
        named("content_block_delta", index="x"),
        named("content_block_delta", index=0, delta={"type": "text_delta", "text": 1}),
        named("content_block_delta", index=0, delta={"type": "text_delta", "text": "before the start"}),
        named("message_stop"),
        b"data: " + b"[" * 200_000 + b"\n\n",
        b"x" * (9 << 20),
    ],
    ids=range(8),
)
def test_a_hostile_event_is_one_failure_and_the_end(piece: bytes) -> None:
    stream = translator()
    assert [event["type"] for event in events(stream.feed(piece))] == ["response.failed"]
    assert stream.feed(WHOLE) == stream.end() == b""


def test_an_id_of_odd_characters_spoils_no_event() -> None:
    start = named("message_start", message={"id": 'msg_"\n\\', "model": "m"})
    out = events(translated(start, *block(0, "text", text("so"), text=""), end()))
    assert out[-1]["response"]["output"][0]["content"][0]["text"] == "so"


def test_an_endless_answer_is_an_error() -> None:
    pieces = [START, block(0, "text", text=""[:0])[0]]
    pieces += [named("content_block_delta", index=0, delta=text("x" * (1 << 20)))] * 33
    assert events(translated(*pieces))[-1]["type"] == "response.failed"


@pytest.mark.parametrize(
    ("arguments", "given"), [('{"input": "a"}', "a"), ('{"patch": "a"}', '{"patch": "a"}'), ("", "{}"), ("{", "{")]
)
def test_a_custom_tool_gets_its_input_or_all_that_the_model_said(arguments: str, given: str) -> None:
    out = translated(START, *block(0, "tool_use", part(arguments), id="t", name="apply_patch", input={}), end())
    assert events(out)[-1]["response"]["output"][0]["input"] == given


@pytest.mark.parametrize("tool", ["look", "apply_patch"])
def test_a_call_that_the_most_tokens_cut_is_incomplete(tool: str) -> None:
    whole = block(0, "tool_use", part('{"input":"a"}'), id="toolu_1", name=tool, input={})
    cut = block(1, "tool_use", part('{"input":'), id="toolu_2", name=tool, input={})
    out = translated(START, *whole, *cut, end("max_tokens"))
    done = [event["item"]["status"] for event in of_kind(out, "response.output_item.done")]
    [last] = of_kind(out, "response.incomplete")
    assert done == [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]
