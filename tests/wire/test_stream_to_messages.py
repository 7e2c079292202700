"""Streamed Chat answers as events of the Messages API. Numbers name the threads where others met the fault."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.wire import codec
from wire.rig import (
    DONE,
    USAGE,
    ask,
    chat_stream,
    chunk,
    events,
    fragment,
    message,
    to_chat,
    translated,
)

LONG_NAME = "mcp__a-server-with-a-long-name__" + "x" * 200
LONG_TOOL = ask(stream=True, tools=[{"name": LONG_NAME, "input_schema": {"type": "object"}}])

TRANSCRIPT = [
    b": OPENROUTER PROCESSING\n\n",
    chunk({"role": "assistant", "content": None}),
    chunk({"reasoning_content": "let me think — ☃"}),
    chunk({"content": "It is 🌧️ outside.\n"}),
    chunk({"content": ""}),
    chunk(fragment(0, id="call_a", name="weather", arguments="")),
    chunk(fragment(0, arguments='{"city": "Zür')),
    chunk(fragment(1, id="call_b", name="time", arguments='{"zone":')),
    chunk(fragment(0, arguments='ich"}')),
    chunk(fragment(1, arguments=' "CET"}')),
    chunk(finish="tool_calls"),
    chunk(usage=USAGE, choices=[]),
    DONE,
]
WHOLE = b"".join(TRANSCRIPT)


def calls(built: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(block["name"], block["input"]) for block in built["content"] if block["type"] == "tool_use"]


def test_a_whole_answer_with_thinking_text_and_two_calls() -> None:
    built = message(translated(WHOLE))
    assert [block["type"] for block in built["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert built["content"][0]["thinking"] == "let me think — ☃"
    assert built["content"][1]["text"] == "It is 🌧️ outside.\n"
    assert [block["id"] for block in built["content"][2:]] == ["call_a", "call_b"]
    assert calls(built) == [("weather", {"city": "Zürich"}), ("time", {"zone": "CET"})]
    assert built["stop_reason"] == "tool_use"
    assert built["model"] == "gpt"
    assert built["over"]


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    """farion1231/cc-switch#1923, librefang/librefang#3448: characters split over reads."""
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == by_event()


def by_event() -> bytes:
    return translated(*TRANSCRIPT)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(100))
def test_however_it_is_cut_into_chunks_the_message_is_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    assert message(translated(*pieces)) == message(by_event())


def test_cut_after_any_byte_it_ends_with_an_error_or_is_whole() -> None:
    """dativo-io/talon#254, open-webui/open-webui#29628: a stream without its end looks like a short answer."""
    finished = WHOLE.index(b'"tool_calls"}')
    for end in range(len(WHOLE)):
        stream = chat_stream()
        out = stream.feed(WHOLE[:end])
        is_complete = stream.is_complete
        out += stream.fail("the upstream's connection was reset")
        assert stream.end() == b""
        last = events(out)[-1]
        assert last["type"] == ("message_stop" if is_complete else "error")
        assert is_complete or stream.error == "api_error"
        assert not is_complete or end > finished
        ended = events(translated(WHOLE[:end]))[-1]["type"]
        assert ended == "error" or end > finished


def test_fragments_of_parallel_calls_are_put_together_each_on_its_own() -> None:
    """BerriAI/litellm#15315, maximhq/bifrost#1829, headroomlabs-ai/headroom#2890: they were mixed."""
    pieces = [chunk(fragment(index, id=f"call_{index}", name=f"tool_{index}")) for index in range(3)]
    for character in '{"a": [1, 2, {"b": "}"}]}':
        pieces += [chunk(fragment(index, arguments=character)) for index in range(3)]
    built = message(translated(*pieces, chunk(finish="tool_calls"), DONE))
    assert calls(built) == [(f"tool_{index}", {"a": [1, 2, {"b": "}"}]}) for index in range(3)]


@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("has_id", [True, False])
def test_calls_with_the_same_index_or_none_are_different_calls(index: int | None, *, has_id: bool) -> None:
    """huggingface/smolagents#1958, ollama/ollama#7881, litellm#37792: Ollama gives every call index 0."""
    first, second = ({"id": "one"}, {"id": "two"}) if has_id else ({}, {})
    built = message(
        translated(
            chunk(fragment(index, name="a", arguments='{"x": 1}', **first)),
            chunk(fragment(index, name="a", arguments='{"x": ', **second)),
            chunk(fragment(index, arguments="2}")),
            chunk(finish="stop"),
            DONE,
        )
    )
    assert calls(built) == [("a", {"x": 1}), ("a", {"x": 2})]
    assert len({block["id"] for block in built["content"]}) == 2


def test_a_name_in_every_fragment_makes_one_call() -> None:
    pieces = [chunk(fragment(0, id="c", name="a", arguments=part)) for part in ("", '{"x"', ": 1", "}", "")]
    assert calls(message(translated(*pieces, chunk(finish="tool_calls"), DONE))) == [("a", {"x": 1})]


def test_stop_beside_calls_is_tool_use_and_tool_calls_without_any_is_not() -> None:
    """litellm#35663, routatic/proxy#173, ollama#7963: the client never ran the tool."""
    call = chunk(fragment(0, id="c", name="a", arguments="{}"))
    assert message(translated(call, chunk(finish="stop"), DONE))["stop_reason"] == "tool_use"
    text = chunk({"content": "x"})
    assert message(translated(text, chunk(finish="tool_calls"), DONE))["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("of a new kind", "end_turn")],
)
def test_stop_reasons(finish: str, reason: str) -> None:
    assert message(translated(chunk({"content": "x"}), chunk(finish=finish), DONE))["stop_reason"] == reason


WITH_USAGE = chunk(usage=USAGE, choices=[])


@pytest.mark.parametrize(
    "pieces",
    [
        [WITH_USAGE, chunk({"content": "x"}), chunk(finish="stop"), DONE],
        [chunk({"content": "x"}), chunk(finish="stop", usage=USAGE), DONE],
        [chunk({"content": "x"}), chunk(finish="stop"), WITH_USAGE, DONE],
        [chunk({"content": "x"}), chunk(finish="stop"), WITH_USAGE],
        [chunk({"content": "x"}), chunk(finish="stop"), chunk(usage=USAGE), DONE],
        [
            chunk({"content": "x"}, usage={"prompt_tokens": 100, "completion_tokens": 1}),
            chunk(finish="stop", usage=USAGE),
        ],
    ],
    ids=["before", "with", "after", "after, no end", "after, with a choice", "in every chunk"],
)
def test_usage_counts_in_any_event_and_is_given_once(pieces: list[bytes]) -> None:
    """litellm#31091, tingly-dev/tingly-box#1065, mozilla-ai/any-llm#1392: lost after the finish, or given twice."""
    usage = message(translated(*pieces))["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"] == 100
    assert (usage["cache_read_input_tokens"], usage["output_tokens"]) == (60, 20)


def test_without_any_usage_the_answer_ends_all_the_same() -> None:
    stream = chat_stream()
    out = stream.feed(chunk({"content": "x"}) + chunk(finish="stop") + DONE)
    assert message(out)["over"]
    assert stream.usage.output is None


@given(
    prompt=st.integers(0, 10**6),
    cached=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
)
@settings(max_examples=effort(50))
def test_cached_tokens_are_counted_once(prompt: int, cached: int, written: int, output: int) -> None:
    """ogx-ai/ogx#6415, larsderidder/context-lens#51: the cached ones were in the input, too."""
    reported = {
        "prompt_tokens": prompt + cached + written,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
    }
    usage = message(translated(chunk({"content": "x"}), chunk(finish="stop", usage=reported), DONE))["usage"]
    assert usage["input_tokens"] == prompt
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (cached, written)
    assert usage["output_tokens"] == output


def test_deepseeks_name_for_cached_tokens_is_known() -> None:
    reported = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}
    usage = message(translated(chunk({"content": "x"}), chunk(finish="stop", usage=reported), DONE))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (6, 4)


ERROR = b'data: {"error": {"message": "no more", "code": "rate_limit_exceeded"}}\n\n'


@pytest.mark.parametrize(
    "before",
    [b"", chunk({"content": "It"}), chunk(fragment(0, id="c", name="a", arguments='{"x": "fi'))],
    ids=["first", "amid text", "amid arguments"],
)
@pytest.mark.parametrize("error", [ERROR, b'data: {"error": "no more", "choices": []}\n\n'], ids=["object", "text"])
def test_an_error_amid_the_stream_never_looks_like_success(before: bytes, error: bytes) -> None:
    """litellm#32475, diegosouzapw/OmniRoute#8210, saberjack/SHTUCodeProxy#4: it became a bare message_stop."""
    stream = chat_stream()
    out = stream.feed(before + error + chunk({"content": "more"}) + DONE)
    last = events(out)[-1]
    assert last["type"] == "error"
    assert last["error"]["message"] == "no more"
    assert last["error"]["type"] == stream.error == ("rate_limit_error" if error is ERROR else "api_error")
    assert stream.end() == stream.feed(DONE) == b""
    assert not stream.is_complete


def test_a_conversation_that_proves_too_long_amid_the_stream_has_the_words_that_make_clients_shorten_it() -> None:
    error = b'data: {"error": {"message": "9 > 8", "code": "context_length_exceeded", "status": 400}}\n\n'
    last = events(translated(chunk({"content": "x"}), error))[-1]["error"]
    assert last == {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "insufficient_quota", "type": "invalid_request_error"}, "billing_error"),
        ({"type": "invalid_request_error"}, "invalid_request_error"),
        ({"code": "invalid_api_key"}, "authentication_error"),
        ({"code": 502}, "api_error"),
        ({"code": "429"}, "rate_limit_error"),
        ({"code": "9" * 5000}, "api_error"),
        ({"status": "UNAVAILABLE", "code": 503}, "overloaded_error"),
        ({"type": "of a new kind"}, "api_error"),
    ],
)
def test_an_error_amid_the_stream_is_of_the_kind_that_its_code_or_type_says(error: dict[str, Any], kind: str) -> None:
    text = b"data: " + json.dumps({"error": {"message": "no", **error}}).encode() + b"\n\n"
    assert events(translated(chunk({"content": "x"}), text))[-1]["error"]["type"] == kind


def test_finish_reason_error_is_one() -> None:
    assert events(translated(chunk({"content": "x"}), chunk(finish="error"), DONE))[-1]["type"] == "error"


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk(fragment(0, id="c", name="write", arguments='{"text": "all of it"}')), chunk(finish="tool_calls")],
        [
            chunk(fragment(0, id="c", name="write")),
            chunk(fragment(0, arguments='{"text": "all of it"}'), finish="stop"),
        ],
        [chunk(fragment(0, id="c", arguments='{"text": ')), chunk(fragment(0, name="write", arguments='"all of it"}'))],
        [
            chunk({"function_call": {"name": "write", "arguments": '{"text": "all of it"}'}}),
            chunk(finish="function_call"),
        ],
    ],
    ids=["in one chunk", "with the finish", "name last", "the old form"],
)
def test_the_input_of_a_call_is_whole_however_it_comes(pieces: list[bytes]) -> None:
    """litellm#25836, #29491: arguments beside the name, or in the finish chunk, were lost."""
    assert calls(message(translated(*pieces, DONE))) == [("write", {"text": "all of it"})]


def test_a_call_without_arguments_has_an_empty_input() -> None:
    assert calls(message(translated(chunk(fragment(0, id="c", name="a")), chunk(finish="tool_calls"), DONE))) == [
        ("a", {})
    ]


@pytest.mark.parametrize("arguments", ["[1]", "{", '{"a": 1}}', "none"])
def test_arguments_that_are_no_object_are_an_error(arguments: str) -> None:
    text = translated(chunk(fragment(0, id="c", name="a", arguments=arguments)), chunk(finish="tool_calls"), DONE)
    assert "'a'" in events(text)[-1]["error"]["message"]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_arguments_cut_by_a_limit_or_a_filter_pass_as_far_as_they_came(finish: str) -> None:
    text = translated(chunk(fragment(0, id="c", name="a", arguments='{"x": "lo')), chunk(finish=finish), DONE)
    assert [event["type"] for event in events(text)][-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_more_calls_than_any_model_makes_are_an_error() -> None:
    pieces = [chunk(fragment(index, id=f"c{index}", name="a", arguments="{}")) for index in range(1001)]
    assert events(translated(*pieces, chunk(finish="tool_calls"), DONE))[-1]["type"] == "error"
    assert len(calls(message(translated(*pieces[:1000], chunk(finish="tool_calls"), DONE)))) == 1000


def test_only_the_first_choice_is_passed_on() -> None:
    other = [{"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}]
    built = message(translated(chunk({"content": "a"}), chunk(choices=other), chunk(finish="stop"), DONE))
    assert (built["content"], built["stop_reason"]) == ([{"type": "text", "text": "a"}], "end_turn")


def test_a_call_without_a_name_is_an_error() -> None:
    assert (
        events(translated(chunk(fragment(0, id="c", arguments="{}")), chunk(finish="stop"), DONE))[-1]["type"]
        == "error"
    )


def test_no_empty_text_block_comes_before_a_call() -> None:
    """BiFangKNT/mtga#68, vercel/ai#5576, NousResearch/hermes-agent#11929: the next request is refused for it."""
    call = chunk({"content": "", **fragment(0, id="c", name="a", arguments="{}")})
    built = message(translated(chunk({"role": "assistant", "content": ""}), call, chunk(finish="tool_calls"), DONE))
    assert [block["type"] for block in built["content"]] == ["tool_use"]


def test_reasoning_and_content_in_one_delta_are_two_blocks() -> None:
    """litellm#27492."""
    built = message(translated(chunk({"reasoning": "hm", "content": "so"}), chunk(finish="stop"), DONE))
    assert [block.get("thinking") or block.get("text") for block in built["content"]] == ["hm", "so"]


def test_reasoning_amid_the_text_stays_at_its_place() -> None:
    """vllm-project/vllm#34745, sgl-project/sglang#26795."""
    deltas = [{"reasoning": "1"}, {"content": "2"}, {"content": "3"}, {"reasoning": "4"}, {"content": "5"}]
    built = message(translated(*map(chunk, deltas), chunk(finish="stop"), DONE))
    assert [block.get("thinking") or block.get("text") for block in built["content"]] == ["1", "23", "4", "5"]


def test_text_between_two_calls_comes_between_or_after_them_whole() -> None:
    a, b = '{"x": 1}', '{"y": 2}'
    pieces = [
        chunk(fragment(0, id="a", name="a", arguments=a[:4])),
        chunk({"content": "so "}),
        chunk(fragment(0, arguments=a[4:])),
        chunk({"content": "it is"}),
        chunk(fragment(1, id="b", name="b", arguments=b)),
    ]
    built = message(translated(*pieces, chunk(finish="stop"), DONE))
    assert calls(built) == [("a", {"x": 1}), ("b", {"y": 2})]
    assert "".join(block.get("text", "") for block in built["content"]) == "so it is"


def test_text_that_waited_for_a_call_precedes_reasoning_that_follows_the_call() -> None:
    head, tail = fragment(0, id="a", name="a", arguments='{"x"'), fragment(0, arguments=": 1}")
    deltas = [head, {"content": "1"}, tail, {"reasoning": "2"}, {"content": "3"}]
    built = message(translated(*map(chunk, deltas), chunk(finish="stop"), DONE))
    assert [block.get("thinking") or block.get("text") for block in built["content"]] == [None, "1", "2", "3"]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "so"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "so"},
            ]
        },
    ],
    ids=["OpenRouter", "Mistral"],
)
def test_other_forms_of_reasoning(delta: dict[str, Any]) -> None:
    built = message(translated(chunk(delta), chunk(finish="stop"), DONE))
    assert [block.get("thinking") or block.get("text") for block in built["content"]] == ["hm", "so"]


def test_a_think_tag_is_a_thinking_block_however_it_is_split() -> None:
    text = "\n<think>a < b</thin </think>\n\nso <think>"
    for size in range(1, len(text) + 1):
        pieces = [chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
        built = message(translated(*pieces, chunk(finish="stop"), DONE, using=to_chat(think_tag=True)))
        assert [block.get("thinking") or block.get("text") for block in built["content"]] == [
            "a < b</thin ",
            "so <think>",
        ]


def test_what_is_no_think_tag_is_text() -> None:
    pieces = [chunk({"content": part}) for part in ("<", "thing", ">")]
    built = message(translated(*pieces, chunk(finish="stop"), DONE, using=to_chat(think_tag=True)))
    assert [block["text"] for block in built["content"]] == ["<thing>"]


def test_a_long_name_comes_back_as_the_client_knows_it() -> None:
    """anthropics/claude-code#21136: names of more than 64 characters."""
    using = to_chat()
    short = json.loads(using.request(LONG_TOOL, "m").body)["tools"][0]["function"]["name"]
    assert len(short) <= 64
    out = translated(chunk(fragment(0, id="c", name=short, arguments="{}")), chunk(finish="stop"), DONE, body=LONG_TOOL)
    assert calls(message(out)) == [(LONG_NAME, {})]


def test_a_comment_keeps_the_client_waiting_and_an_empty_chunk_says_nothing() -> None:
    stream = chat_stream()
    assert [event["type"] for event in events(stream.feed(b": keep-alive\n\n"))] == ["ping"]
    assert stream.feed(b'data: {"choices": [], "prompt_filter_results": []}\n\n') == b""


def test_a_stream_of_nothing_is_an_error() -> None:
    assert events(translated(DONE))[-1]["type"] == events(translated())[-1]["type"] == "error"


def test_nothing_is_parsed_for_a_client_of_the_upstreams_own_format() -> None:
    assert codec("anthropic", "anthropic") is codec("openai", "openai") is None


@pytest.mark.parametrize(
    "text",
    [
        b"data: \x00\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": {}}\n\n',
        b'data: {"choices": [{"delta": {"content": 1}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]}\n\n',
        b'data: {"choices": [{"finish_reason": 1}]}\n\n',
        b"data: " + b"[" * 200_000 + b"\n\n",
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    ],
)
def test_a_hostile_event_is_one_error_and_the_end(text: bytes) -> None:
    stream = chat_stream()
    assert [event["type"] for event in events(stream.feed(text + chunk({"content": "x"})))] == ["error"]
    assert stream.feed(DONE) == stream.end() == b""


def test_an_endless_event_is_an_error_and_not_held() -> None:
    stream = chat_stream()
    piece, out, fed = b"x" * (1 << 20), b"", 0
    while not out:
        out, fed = stream.feed(piece), fed + len(piece)
    assert fed <= 9 << 20
    assert events(out)[-1]["type"] == "error"


def test_endless_arguments_are_an_error() -> None:
    stream = chat_stream()
    pieces = [chunk(fragment(0, id="c", name="a", arguments='{"x": "'))]
    pieces += [chunk(fragment(0, arguments="x" * (1 << 20)))] * 9
    assert events(b"".join(map(stream.feed, pieces)))[-1]["type"] == "error"


def test_more_of_a_call_that_was_ended_is_an_error_and_a_blank_is_none() -> None:
    pieces = [chunk(fragment(0, id="c", name="a", arguments="{}")), chunk({"content": "so"})]
    blank = chunk(fragment(0, id="c", arguments="\n"))
    assert message(translated(*pieces, blank, chunk(finish="stop"), DONE))["over"]
    more = chunk(fragment(0, id="c", arguments="{}"))
    assert events(translated(*pieces, more, chunk(finish="stop"), DONE))[-1]["type"] == "error"


@pytest.mark.parametrize(
    "reported",
    [
        b'event: error\ndata: {"message":"boom"}\n\n',
        b'data: {"object":"error","message":"boom"}\n\n',
        b'data: {"id":"c1","choices":null}\n\n',
    ],
)
def test_an_error_in_a_form_of_its_own_is_no_end_of_a_turn(reported: bytes) -> None:
    out = events(translated(chunk({"content": "abc"}), reported, DONE))
    assert [event["type"] for event in out if event["type"] in {"error", "message_stop"}] == ["error"]


def test_an_event_without_choices_is_no_error_where_the_answer_finishes() -> None:
    built = message(translated(chunk({"content": "x"}), b'data: {"id":"c1"}\n\n', chunk(finish="stop"), DONE))
    assert (built["stop_reason"], built["over"]) == ("end_turn", True)


def test_done_without_a_finish_reason_ends_an_answer_that_has_content_alone() -> None:
    assert message(translated(chunk({"role": "assistant"}), chunk({"content": "x"}), DONE))["over"]
    assert events(translated(chunk({"role": "assistant", "content": ""}), DONE))[-1]["type"] == "error"


def test_comments_that_come_together_are_one_heartbeat() -> None:
    stream = chat_stream()
    assert stream.feed(b": ping\n\n" * 1000) == stream.feed(b": data\n\n") == b'event: ping\ndata: {"type":"ping"}\n\n'
