"""Streamed answers of the Responses API as events of the Messages API. Numbers name where others met the fault."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.wire import StreamTranslator
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, ask, events, message, named, to_responses

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
}


def response(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt", "status": "in_progress", "output": [], "error": None, **fields}


def added(index: int | None, **item: Any) -> bytes:
    return named("response.output_item.added", **place(index), item=item)


def done(index: int | None, **item: Any) -> bytes:
    return named("response.output_item.done", **place(index), item=item)


def place(index: int | None, **fields: Any) -> dict[str, Any]:
    return fields if index is None else {"output_index": index, **fields}


def text_delta(index: int | None, text: str, **fields: Any) -> bytes:
    return named("response.output_text.delta", **place(index, **fields), content_index=0, delta=text)


def argument_delta(index: int | None, text: str, **fields: Any) -> bytes:
    return named("response.function_call_arguments.delta", **place(index, **fields), delta=text)


def call(number: int, arguments: str = "", **fields: Any) -> dict[str, Any]:
    known = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": f"tool_{number}"}
    return {"type": "function_call", **known, "arguments": arguments, **fields}


CREATED = named("response.created", response=response())
COMPLETED = named("response.completed", response=response(status="completed", usage=USAGE))
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
TRANSCRIPT = [
    CREATED,
    named("response.in_progress", response=response()),
    added(0, **REASONING),
    named("response.reasoning_summary_part.added", output_index=0, summary_index=0, part={"type": "summary_text"}),
    named("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="let me "),
    named("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="think — ☃"),
    named("response.reasoning_summary_text.done", output_index=0, summary_index=0, text="let me think — ☃"),
    named("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="so"),
    done(0, **REASONING),
    added(1, type="web_search_call", id="ws_1", status="in_progress", action={"type": "search"}),
    named("response.web_search_call.searching", output_index=1, item_id="ws_1"),
    done(1, type="web_search_call", id="ws_1", status="completed"),
    added(2, **MESSAGE),
    named("response.content_part.added", output_index=2, content_index=0, part={"type": "output_text", "text": ""}),
    text_delta(2, "It is 🌧️"),
    text_delta(2, " outside.\n"),
    named("response.output_text.done", output_index=2, content_index=0, text="It is 🌧️ outside.\n"),
    done(2, **MESSAGE),
    added(3, **call(3)),
    argument_delta(3, '{"city":'),
    argument_delta(3, ' "Zürich"}'),
    named("response.function_call_arguments.done", output_index=3, arguments='{"city": "Zürich"}'),
    done(3, **call(3, '{"city": "Zürich"}')),
    added(4, **call(4)),
    done(4, **call(4)),
    COMPLETED,
]
WHOLE = b"".join(TRANSCRIPT)


def translator(body: bytes | None = None, **quirks: Any) -> StreamTranslator:
    using = to_responses(**quirks)
    return using.stream(using.request(body or ask(stream=True), "m"), "req_1")


def translated(*pieces: bytes, body: bytes | None = None) -> bytes:
    stream = translator(body)
    return b"".join(map(stream.feed, pieces)) + stream.end()


def calls(built: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(block["name"], block["input"]) for block in built["content"] if block["type"] == "tool_use"]


def texts(built: dict[str, Any]) -> list[str]:
    return [block.get("thinking") or block.get("text") for block in built["content"]]


def test_a_whole_answer_with_reasoning_text_and_two_calls() -> None:
    built = message(translated(WHOLE))
    assert [block["type"] for block in built["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert built["content"][0]["thinking"] == "let me think — ☃\n\nso"
    assert built["content"][0]["signature"] == seal(DOMAIN, "rs_1 gAAAA")
    assert built["content"][1]["text"] == "It is 🌧️ outside.\n"
    assert [block["id"] for block in built["content"][2:]] == ["call_3", "call_4"]
    assert calls(built) == [("tool_3", {"city": "Zürich"}), ("tool_4", {})]
    assert (built["stop_reason"], built["model"], built["id"], built["over"]) == ("tool_use", "gpt", "msg_resp_1", True)


def test_the_reasoning_comes_back_to_its_issuer_as_it_was() -> None:
    """A session's next request has the item before what it led to, with the encrypted content."""
    content = message(translated(WHOLE))["content"]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "x"}
        for block in content
        if block["type"] == "tool_use"
    ]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
    body = ask(*turns, {"role": "user", "content": results})
    assert json.loads(to_responses().request(body, "m").body)["input"][1] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "let me think — ☃\n\nso"}],
        "encrypted_content": "gAAAA",
    }


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    """farion1231/cc-switch#1923, librefang/librefang#3448: characters split over reads."""
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == translated(*TRANSCRIPT)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(50))
def test_however_it_is_cut_into_chunks_the_message_is_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    assert translated(*pieces) == translated(*TRANSCRIPT)


def test_cut_after_any_byte_it_ends_with_an_error() -> None:
    """dativo-io/talon#254, open-webui/open-webui#29628: a stream without its end looks like a short answer."""
    last = len(WHOLE) - 2  # whole but for the blank line
    for end in range(len(WHOLE)):
        stream = translator()
        out = stream.feed(WHOLE[:end]) + stream.end()
        assert events(out)[-1]["type"] == ("message_stop" if end > last else "error"), end
        assert stream.is_complete == (end > last)


def test_pieces_of_items_at_the_same_time_are_put_together_each_on_its_own() -> None:
    """BerriAI/litellm#15315, maximhq/bifrost#1829, headroomlabs-ai/headroom#2890: they were mixed."""
    arguments = '{"a": [1, 2, {"b": "}"}]}'
    pieces = [added(index, **call(index)) for index in range(3)] + [added(3, **MESSAGE)]
    for character in arguments:
        pieces += [argument_delta(index, character) for index in (2, 0, 1)] + [text_delta(3, character)]
    pieces += [done(index, **call(index, arguments)) for index in (1, 2, 0)] + [done(3, **MESSAGE)]
    built = message(translated(CREATED, *pieces, COMPLETED))
    assert calls(built) == [(f"tool_{index}", {"a": [1, 2, {"b": "}"}]}) for index in range(3)]
    assert built["content"][3]["text"] == arguments


@pytest.mark.parametrize("index", [0, None])
def test_items_with_the_same_index_or_none_are_different_items(index: int | None) -> None:
    """huggingface/smolagents#1958, ollama/ollama#7881, litellm#37792; llama.cpp sends no index."""
    pieces = []
    for number in (1, 2):
        known = {} if index == 0 else {"item_id": f"fc_{number}"}
        pieces += [added(index, **call(number)), argument_delta(index, '{"x": ', **known)]
        pieces += [argument_delta(index, f"{number}}}", **known), done(index, **call(number, f'{{"x": {number}}}'))]
    said = text_delta(index, "so", **({} if index == 0 else {"item_id": "msg_1"}))
    built = message(translated(CREATED, *pieces, added(index, **MESSAGE), said, done(index, **MESSAGE), COMPLETED))
    assert calls(built) == [("tool_1", {"x": 1}), ("tool_2", {"x": 2})]
    assert texts(built)[2] == "so"


@pytest.mark.parametrize(
    "pieces",
    [
        [done(0, **call(1, '{"text": "all of it"}'))],
        [added(0, **call(1)), done(0, **call(1, '{"text": "all of it"}'))],
        [
            added(0, **call(1)),
            named("response.function_call_arguments.done", output_index=0, arguments='{"text": "all of it"}'),
        ],
        [added(0, **call(1)), argument_delta(0, '{"text": "all of it"}')],
    ],
    ids=["at its end alone", "at its end", "in one piece", "without its end"],
)
def test_the_input_of_a_call_is_whole_however_it_comes(pieces: list[bytes]) -> None:
    """litellm#25836, #29491: arguments that came otherwise than in pieces were lost, or came twice."""
    assert calls(message(translated(CREATED, *pieces, COMPLETED))) == [("tool_1", {"text": "all of it"})]


def test_an_answer_that_comes_whole_in_the_last_event() -> None:
    said = {**MESSAGE, "content": [{"type": "output_text", "text": "so"}]}
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}], "summary": []}
    output = [thought, said, call(1, '{"x": 1}')]
    built = message(translated(named("response.completed", response=response(output=output, status="completed"))))
    assert texts(built)[:2] == ["hm", "so"]
    assert (calls(built), built["content"][2]["id"], built["stop_reason"]) == (
        [("tool_1", {"x": 1})],
        "call_1",
        "tool_use",
    )


def test_completed_beside_calls_is_tool_use_and_without_any_is_not() -> None:
    """litellm#35663, routatic/proxy#173, ollama#7963: the client never ran the tool."""
    assert message(translated(CREATED, done(0, **call(1, "{}")), COMPLETED))["stop_reason"] == "tool_use"
    said = [added(0, **MESSAGE), text_delta(0, "so"), done(0, **MESSAGE)]
    assert message(translated(CREATED, *said, COMPLETED))["stop_reason"] == "end_turn"


@pytest.mark.parametrize("place", ["first", "last", "nowhere"])
def test_usage_counts_in_any_event_and_is_given_once(place: str) -> None:
    """litellm#31091, tingly-dev/tingly-box#1065, mozilla-ai/any-llm#1392: lost, or in two events."""
    first = named("response.created", response=response(**({"usage": USAGE} if place == "first" else {})))
    last = named("response.completed", response=response(**({"usage": USAGE} if place == "last" else {"usage": None})))
    usage = message(translated(first, text_delta(0, "so"), last))["usage"]
    assert (usage["cache_read_input_tokens"], usage["output_tokens"]) == ((0, 0) if place == "nowhere" else (60, 20))


def test_a_summary_and_the_reasoning_itself_are_not_both_said() -> None:
    pieces = [
        added(0, **REASONING),
        named("response.reasoning_text.delta", output_index=0, content_index=0, delta="hm"),
        named("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="short"),
        done(0, **REASONING),
    ]
    assert texts(message(translated(CREATED, *pieces, COMPLETED))) == ["hm"]


def test_reasoning_amid_the_text_stays_at_its_place_and_encrypted_alone_is_kept() -> None:
    """vllm-project/vllm#34745, sgl-project/sglang#26795."""
    pieces = [done(0, **REASONING), added(1, **MESSAGE), text_delta(1, "1"), done(1, **MESSAGE)]
    pieces += [added(2, **{**REASONING, "id": "rs_2"}), done(2, **{**REASONING, "id": "rs_2"})]
    pieces += [added(3, **MESSAGE), text_delta(3, "2"), done(3, **MESSAGE)]
    built = message(translated(CREATED, *pieces, COMPLETED))
    assert [block["type"] for block in built["content"]] == ["thinking", "text", "thinking", "text"]
    assert built["content"][2] == {"type": "thinking", "thinking": "", "signature": seal(DOMAIN, "rs_2 gAAAA")}


def test_no_empty_block_is_written() -> None:
    """BiFangKNT/mtga#68, vercel/ai#5576, NousResearch/hermes-agent#11929: the next request is refused for it."""
    empty = {"type": "reasoning", "id": "rs_1", "summary": []}
    pieces = [done(0, **empty), added(1, **MESSAGE), text_delta(1, ""), done(1, **MESSAGE), done(2, **call(1, "{}"))]
    assert [block["type"] for block in message(translated(CREATED, *pieces, COMPLETED))["content"]] == ["tool_use"]


@pytest.mark.parametrize(
    ("reason", "stop"), [("max_output_tokens", "max_tokens"), ("content_filter", "refusal"), ("new", "max_tokens")]
)
def test_an_incomplete_answer_ends_with_its_reason(reason: str, stop: str) -> None:
    end = named("response.incomplete", response=response(incomplete_details={"reason": reason}))
    pieces = [added(0, **call(1)), argument_delta(0, '{"x": "lo'), end]
    out = events(translated(CREATED, *pieces))
    assert [event["type"] for event in out][-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert out[-2]["delta"]["stop_reason"] == stop


def test_a_refusal_is_text_and_says_so() -> None:
    pieces = [added(0, **MESSAGE), named("response.refusal.delta", output_index=0, delta="no"), done(0, **MESSAGE)]
    built = message(translated(CREATED, *pieces, COMPLETED))
    assert (texts(built), built["stop_reason"]) == (["no"], "refusal")


def test_texts_that_come_in_one_piece_each_are_all_there() -> None:
    def whole(kind: str, index: int, **fields: Any) -> bytes:
        return named(f"response.{kind}.done", output_index=index, **fields)

    pieces = [
        added(0, **REASONING),
        *(whole("reasoning_summary_text", 0, summary_index=number, text=f"hm {number}") for number in range(2)),
        done(0, **REASONING),
        added(1, **MESSAGE),
        *(whole("output_text", 1, content_index=number, text=f"so {number}") for number in range(2)),
        done(1, **MESSAGE),
        added(2, **MESSAGE),
        whole("refusal", 2, refusal="no"),
        done(2, **MESSAGE),
    ]
    built = message(translated(CREATED, *pieces, COMPLETED))
    assert (texts(built), built["stop_reason"]) == (["hm 0\n\nhm 1", "so 0so 1", "no"], "refusal")


@given(
    given_tokens=st.integers(0, 10**6),
    cached=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
)
@settings(max_examples=effort(30))
def test_cached_tokens_are_counted_once(given_tokens: int, cached: int, written: int, output: int) -> None:
    """ogx-ai/ogx#6415, larsderidder/context-lens#51: the cached ones were in the input, too."""
    reported = {
        "input_tokens": given_tokens + cached + written,
        "output_tokens": output,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
    }
    usage = message(translated(named("response.completed", response=response(usage=reported))))["usage"]
    assert usage == {
        "input_tokens": given_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": output,
    }


FAILED = named(
    "response.failed", response=response(status="failed", error={"code": "rate_limit_exceeded", "message": "no more"})
)
ERROR = named("error", code="rate_limit_exceeded", message="no more", param=None, sequence_number=3)
NESTED = named("error", error={"type": "rate_limit_error", "message": "no more"})
BEFORE = [
    b"",
    CREATED + added(0, **MESSAGE) + text_delta(0, "It"),
    CREATED + added(0, **call(1)) + argument_delta(0, '{"x": "fi'),
]


@pytest.mark.parametrize("before", BEFORE, ids=["first", "amid text", "amid arguments"])
@pytest.mark.parametrize("error", [FAILED, ERROR, NESTED], ids=["failed", "error", "nested"])
def test_an_error_amid_the_stream_never_looks_like_success(before: bytes, error: bytes) -> None:
    """litellm#32475, diegosouzapw/OmniRoute#8210, saberjack/SHTUCodeProxy#4: it became a bare message_stop."""
    stream = translator()
    last = events(stream.feed(before + error + COMPLETED))[-1]
    assert last["error"] == {"type": "rate_limit_error", "message": "no more"}
    assert stream.error == "rate_limit_error"
    assert stream.end() == stream.feed(COMPLETED) == b""
    assert not stream.is_complete


def test_a_conversation_that_is_too_long_has_the_words_that_make_clients_shorten_it() -> None:
    error = {"code": "context_length_exceeded", "message": "9 > 8"}
    out = translated(CREATED, named("response.failed", response=response(status="failed", error=error)))
    assert events(out)[-1]["error"] == {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}


@pytest.mark.parametrize("arguments", ["[1]", "{", '{"a": 1}}', "none"])
def test_arguments_that_are_no_object_are_an_error(arguments: str) -> None:
    out = translated(CREATED, done(0, **call(1, arguments)), COMPLETED)
    assert "'tool_1'" in events(out)[-1]["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        b"data: \x00\n\n",
        b"data: [1]\n\n",
        b'data: {"type": 1}\n\n',
        named("response.output_text.delta", output_index=0, delta=1),
        named("response.output_item.done", output_index=0, item={"type": "message", "content": "x"}),
        named(
            "response.output_item.done",
            output_index=0,
            item={"type": "function_call", "arguments": [1], "name": "x"},
        ),
        named("response.output_item.done", output_index=0, item={"type": "function_call", "arguments": "{}"}),
        done(0, **call(1, "{}")) + argument_delta(0, "{}"),
        named("response.created", response=[]),
        b"data: " + b"[" * 200_000 + b"\n\n",
        b'data: {"type": "\xff"}\n\n',
        b"x" * (9 << 20),
    ],
    ids=range(12),
)
def test_a_hostile_event_is_one_error_and_the_end(text: bytes) -> None:
    stream = translator()
    out = events(stream.feed(text))
    assert [event["type"] for event in out][-1] == "error"
    assert [event["type"] for event in out].count("error") == 1
    assert stream.feed(COMPLETED) == stream.end() == b""


def test_endless_items_and_arguments_are_an_error() -> None:
    pieces = [added(0, **call(1))] + [argument_delta(0, "x" * (1 << 20))] * 9
    assert events(translated(CREATED, *pieces))[-1]["type"] == "error"
    pieces = [added(0, **call(1)), added(1, **MESSAGE)] + [text_delta(1, "x" * (1 << 20))] * 9
    assert events(translated(CREATED, *pieces))[-1]["type"] == "error"
    assert events(translated(CREATED, *(added(index, **MESSAGE) for index in range(1001))))[-1]["type"] == "error"


def test_unknown_kinds_of_events_and_items_are_passed_over() -> None:
    pieces = [
        named("response.new.delta", output_index=0, delta={"x": 1}, item_id="x"),
        added(0, type="new", content="x", arguments={"x": 1}, summary=1),
        done(0, type="new", content="x", arguments={"x": 1}, summary=1),
        added(1, **MESSAGE),
        text_delta(1, "so"),
        b"data: [DONE]\n\n",
    ]
    assert texts(message(translated(CREATED, *pieces, COMPLETED))) == ["so"]


def test_a_long_name_comes_back_as_the_client_knows_it() -> None:
    """anthropics/claude-code#21136: names of more than 64 characters."""
    name = "x" * 200
    body = ask(stream=True, tools=[{"name": name, "input_schema": {"type": "object"}}])
    short = json.loads(to_responses().request(body, "m").body)["tools"][0]["name"]
    out = translated(CREATED, done(0, **call(1, "{}", name=short)), COMPLETED, body=body)
    assert calls(message(out)) == [(name, {})]
