"""Chat Completions requests, translated to the Messages API."""

from typing import Any

import pytest

from tokenferry.errors import Unfit
from wire.rig import chat_ask, sent, to_messages

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def document(body: bytes, **quirks: Any) -> dict[str, Any]:
    return sent(body, to_messages(**quirks))[0]


def unfit(body: bytes) -> str:
    with pytest.raises(Unfit) as caught:
        to_messages().request(body, "m")
    return str(caught.value)


def test_a_conversation_with_a_tool() -> None:
    body = chat_ask(
        {"role": "system", "content": "You look."},
        {"role": "developer", "content": [{"type": "text", "text": "Well."}]},
        user("look"),
        user([{"type": "text", "text": "there"}]),
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a"},
        {"role": "tool", "tool_call_id": "call_2", "content": "b"},
        user("and then?"),
        {"role": "system", "content": "be brief"},
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=100,
        max_tokens=5,
        stop=["END", " "],
        stream=True,
        stream_options={"include_usage": True},
    )
    found, remembered = sent(body, to_messages())
    blocks = [{"type": "text", "text": "look"}, {"type": "text", "text": "there"}]
    uses = [{"type": "tool_use", "id": f"call_{n}", "name": "look", "input": {"at": "x"}} for n in (1, 2)]
    results = [{"type": "tool_result", "tool_use_id": f"call_{n}", "content": c} for n, c in ((1, "a"), (2, "b"))]
    reminder = "<system-reminder>\nbe brief\n</system-reminder>"
    after = [{"type": "text", "text": "and then?"}, {"type": "text", "text": reminder}]
    assert found == {
        "model": "model",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "You look."}, {"type": "text", "text": "Well."}],
        "messages": [
            {"role": "user", "content": blocks},
            {"role": "assistant", "content": uses},
            {"role": "user", "content": results + after},
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "stream": True,
    }
    assert (remembered.stream, remembered.wants_usage, remembered.at) == (True, True, 7)


def test_calls_one_at_a_time_need_no_choice_of_a_tool() -> None:
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    assert document(chat_ask(tools=[TOOL], parallel_tool_calls=False))["tool_choice"] == alone
    assert "tool_choice" not in document(chat_ask(tools=[TOOL], parallel_tool_calls=True))


def test_the_output_limit_defaults_to_the_models_or_32000() -> None:
    assert document(chat_ask())["max_tokens"] == 32_000
    assert document(chat_ask(), max_output_tokens=8192)["max_tokens"] == 8192
    assert document(chat_ask(max_tokens=9000), max_output_tokens=8192)["max_tokens"] == 8192


def test_empty_texts_and_trailing_white_space_are_dropped() -> None:
    """BiFangKNT/mtga#68, vercel/ai#5576, NousResearch/hermes-agent#11929: such texts are refused."""
    turns = [user([{"type": "text", "text": ""}, {"type": "text", "text": "a"}]), {"role": "assistant", "content": ""}]
    found = document(chat_ask(*turns, {"role": "assistant", "content": "b \n"}))
    assert [turn["content"] for turn in found["messages"]] == [
        [{"type": "text", "text": "a"}],
        [{"type": "text", "text": "b"}],
    ]


def test_images_and_documents() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}},
        {"type": "file", "file": {"filename": "z.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
    ]
    found, remembered = sent(chat_ask(user(parts)), to_messages())
    assert found["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}},
        {
            "type": "document",
            "title": "z.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
        },
    ]
    assert remembered.left_out == ("detail",)


CALLED = {"role": "assistant", "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (chat_ask(n=2), "n must be 1"),
        (chat_ask(logprobs=True), "logprobs"),
        (chat_ask(modalities=["text", "audio"]), "modalities"),
        (chat_ask(functions=[{"name": "x"}]), "functions"),
        (chat_ask(web_search_options={"x": 1}), "web_search_options"),
        (chat_ask(tools=[{"type": "custom", "custom": {"name": "x"}}]), "custom"),
        (chat_ask(user([{"type": "input_audio", "input_audio": {}}])), "input_audio"),
        (chat_ask(user([{"type": "file", "file": {"file_id": "f"}}])), "file"),
        (chat_ask(user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])), "image"),
        (chat_ask(user("a"), CALLED), "call_1"),
        (chat_ask(user("a"), CALLED, user("b"), {"role": "tool", "tool_call_id": "call_2", "content": ""}), "call_2"),
        (chat_ask(user("a"), {"role": "tool", "tool_call_id": "call_1", "content": ""}), "call_1"),
        (chat_ask(user("")), "empty"),
        (chat_ask({"role": "system", "content": "s"}, user("")), "only a system prompt"),
        (chat_ask(tool_choice="required"), "tool_choice"),
        (chat_ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}), "tool_choice"),
        (chat_ask(response_format={"type": "json_schema"}), "response_format"),
        (chat_ask(system="be brief"), "system"),
        (chat_ask(instructions="be brief"), "instructions"),
        (chat_ask(input="hi"), "input"),
    ],
)
def test_a_part_that_cannot_be_translated_is_unfit_and_named(body: bytes, word: str) -> None:
    assert word in unfit(body)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("data:image/JPG;base64,AA", {"type": "base64", "media_type": "image/jpeg", "data": "AA"}),
        ("DATA:image/png;name=a.png;base64,AA", {"type": "base64", "media_type": "image/png", "data": "AA"}),
        ("HTTPS://host/a.png", {"type": "url", "url": "HTTPS://host/a.png"}),
    ],
)
def test_images_are_found_in_urls_however_they_are_spelled(url: str, source: dict[str, str]) -> None:
    found = document(chat_ask(user([{"type": "image_url", "image_url": {"url": url}}])))
    assert found["messages"][0]["content"][0]["source"] == source


@pytest.mark.parametrize("arguments", ["[1]", "{", "x", "null"])
def test_arguments_that_are_not_an_object_are_unfit_and_the_call_is_named(arguments: str) -> None:
    call = {**CALL, "function": {"name": "look", "arguments": arguments}}
    assert "call_1" in unfit(chat_ask(user("a"), {"role": "assistant", "tool_calls": [call]}))


def test_hints_are_left_out_and_named() -> None:
    hints = {
        "seed": 1,
        "user": "u",
        "logit_bias": {"1": 2},
        "prompt_cache_key": "k",
        "frequency_penalty": 0.1,
        "new": 1,
    }
    found, remembered = sent(chat_ask(temperature=1.5, top_p=0.5, **hints), to_messages())
    assert found.keys() == {"model", "messages", "max_tokens", "temperature"}
    assert found["temperature"] == 1
    assert set(remembered.left_out) == {*hints, "temperature", "top_p"}


def test_a_schema_for_the_answer_is_closed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = document(chat_ask(response_format=asked))["output_config"]["format"]["schema"]
    assert found["additionalProperties"] is found["properties"]["a"]["additionalProperties"] is False
    assert "JSON" in document(chat_ask(response_format={"type": "json_object"}))["system"][-1]["text"]


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, {"type": "enabled", "budget_tokens": 4096}),
        ({"max_tokens": 2000}, {"type": "enabled", "budget_tokens": 1999}),
        ({"max_tokens": 1000}, None),
        ({"reasoning_effort": "none"}, None),
        ({"tools": [TOOL], "tool_choice": "required"}, None),
    ],
)
def test_thinking_is_asked_for_if_the_model_allows_it(fields: dict[str, Any], thinking: dict[str, Any] | None) -> None:
    body = chat_ask(**{"reasoning_effort": "low", **fields})
    assert document(body, thinking="budget").get("thinking") == thinking
    assert "thinking" not in document(body)


def test_no_budget_is_asked_for_after_a_call_without_its_thinking() -> None:
    """With a budget Claude answers 400; with adaptive thinking it does not."""
    body = chat_ask(
        user("a"), CALLED, {"role": "tool", "tool_call_id": "call_1", "content": ""}, reasoning_effort="low"
    )
    found, remembered = sent(body, to_messages(thinking="budget"))
    assert "thinking" not in found
    assert remembered.left_out == ("reasoning_effort",)
    assert document(body, thinking="adaptive")["thinking"] == {"type": "adaptive"}


def test_no_temperature_is_sent_to_models_that_refuse_it() -> None:
    found, remembered = sent(chat_ask(temperature=0.5, top_p=0.5, top_k=3), to_messages(temperature=False))
    assert not found.keys() & {"temperature", "top_p", "top_k"}
    assert remembered.left_out == ("temperature", "top_k", "top_p")


def test_adaptive_thinking_has_an_effort_and_no_temperature() -> None:
    found = document(chat_ask(reasoning_effort="high", temperature=0.2), thinking="adaptive")
    assert (found["thinking"], found["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    assert "temperature" not in found


def test_the_least_effort_and_the_largest_temperature_are_within_claudes_limits() -> None:
    found, remembered = sent(chat_ask(reasoning_effort="minimal"), to_messages(thinking="budget"))
    assert (found["thinking"], remembered.left_out) == ({"type": "enabled", "budget_tokens": 1024}, ())
    found, remembered = sent(chat_ask(temperature=1), to_messages())
    assert (found["temperature"], remembered.left_out) == (1, ())
