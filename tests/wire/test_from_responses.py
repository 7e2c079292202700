"""Responses requests, translated to the Messages API. Numbers name the issues where others met the fault."""

from typing import Any

import pytest

from tokenferry.errors import Unfit
from tokenferry.wire._codec import ClientTool
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, from_responses, responses_ask, sent

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at": "x"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: patch"}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Patches.", "format": GRAMMAR}


def said(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


def user(content: Any = "a") -> dict[str, Any]:
    return said("user", content)


def document(body: bytes, **quirks: Any) -> dict[str, Any]:
    return sent(body, from_responses(**quirks))[0]


def unfit(body: bytes) -> str:
    with pytest.raises(Unfit) as caught:
        from_responses().request(body, "m")
    return str(caught.value)


def test_a_conversation_with_a_tool() -> None:
    body = responses_ask(
        said("developer", [{"type": "input_text", "text": "Well."}]),
        user([{"type": "input_text", "text": "look"}, IMAGE]),
        said("assistant", [{"type": "output_text", "text": "I will.", "annotations": []}], id="msg_1", phase="x"),
        CALL,
        {**CALL, "call_id": "call_2"},
        OUTPUT,
        {**OUTPUT, "call_id": "call_2", "output": [{"type": "input_text", "text": "b"}, IMAGE]},
        said("system", "be brief"),
        instructions="You look.",
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=100,
        stream=True,
        store=False,
        include=["reasoning.encrypted_content"],
        background=False,
        previous_response_id=None,
    )
    found, remembered = sent(body, from_responses())
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    uses = [{"type": "tool_use", "id": f"call_{n}", "name": "look", "input": {"at": "x"}} for n in (1, 2)]
    assert found == {
        "model": "model",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "You look."}, {"type": "text", "text": "Well."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": [{"type": "text", "text": "I will."}, *uses]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "seen"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_2",
                        "content": [{"type": "text", "text": "b"}, image],
                    },
                    {"type": "text", "text": "<system-reminder>\nbe brief\n</system-reminder>"},
                ],
            },
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stream": True,
    }
    assert (remembered.stream, remembered.at, remembered.left_out) == (True, 7, ("phase",))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "input": "hello"}',
        b'{"model": "m", "input": [{"role": "user", "content": "hello"}]}',
        b'{"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}',
    ],
)
def test_a_string_or_an_untyped_message_is_a_user_message(body: bytes) -> None:
    content = [{"type": "text", "text": "hello"}]
    assert document(body)["messages"] == [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id can't be translated: answers are not stored"),
        ({"conversation": "conv_1"}, "conversation can't be translated: answers are not stored"),
        ({"store": True}, "store can't be translated: answers are not stored; send `store: false`"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "logprobs"),
        ({"tools": [{"type": "web_search", "external_web_access": False}]}, "'web_search'"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "'mcp'"),
        ({"tools": [{**TOOL, "async": True}]}, "async"),
        ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "file_search"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"tools": [TOOL, {**PATCH, "name": "look"}]}, "'look'"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "b"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "schema"),
    ],
)
def test_a_part_that_cannot_be_translated_is_unfit_and_named(fields: dict[str, Any], word: str) -> None:
    """Alishahryar1/free-claude-code#1470, CLIProxyAPI#3199: server tools became functions."""
    assert word in unfit(responses_ask(**fields))


@pytest.mark.parametrize(
    ("items", "word"),
    [
        ([{"id": "msg_1"}], "answers are not stored"),
        ([user(), CALL], "call_1"),
        ([user(), CALL, OUTPUT, OUTPUT], "call_1"),
        ([user(), CALL, {**CALL, "call_id": "call_2"}, OUTPUT, said("assistant", "b")], "call_2"),
        ([user(), OUTPUT], "call_1"),
        ([user(), {**CALL, "arguments": "[1]"}, OUTPUT], "call_1"),
        ([user(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}], "web_search_call"),
        ([user([{"type": "input_image", "file_id": "f"}])], "id"),
        ([user([{"type": "input_file", "file_data": "data:text/plain;base64,AA"}])], "PDF"),
        ([user(""), said("assistant", "")], "empty"),
    ],
)
def test_items_that_cannot_be_translated_are_unfit(items: list[dict[str, Any]], word: str) -> None:
    assert word in unfit(responses_ask(*items))


def test_custom_tools_take_one_string_and_namespaces_precede_names() -> None:
    """decolua/9router#2611, #1371, Wei-Shaw/sub2api#3390: Codex's own kinds of tools."""
    inner = {"type": "function", "name": "close", "description": "Closes."}
    space = {"type": "namespace", "name": "agents", "description": "About agents.", "tools": [inner]}
    more = {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "late"}]}
    call = {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": "*** Begin"}
    spaced = {**CALL, "call_id": "call_2", "name": "close", "namespace": "agents", "arguments": ""}
    body = responses_ask(
        user(),
        call,
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"},
        more,
        spaced,
        {**OUTPUT, "call_id": "call_2"},
        tools=[PATCH, space, TOOL],
    )
    found, remembered = sent(body, from_responses())
    assert [tool["name"] for tool in found["tools"]] == ["apply_patch", "agents__close", "look", "late"]
    patch, close = found["tools"][:2]
    assert patch["description"] == "Patches.\n\nThe input follows this grammar (lark):\nstart: patch"
    assert patch["input_schema"]["required"] == ["input"]
    assert close["description"] == "About agents.\n\nCloses."
    uses = [block for turn in found["messages"] for block in turn["content"] if block["type"] == "tool_use"]
    assert [(use["name"], use["input"]) for use in uses] == [
        ("apply_patch", {"input": "*** Begin"}),
        ("agents__close", {}),
    ]
    assert remembered.tools == {
        "apply_patch": ClientTool("apply_patch", None, is_custom=True),
        "agents__close": ClientTool("close", "agents"),
    }


def test_only_allowed_tools_are_sent() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    found = document(responses_ask(tools=[TOOL, {**TOOL, "name": "b"}], tool_choice=choice))
    assert [tool["name"] for tool in found["tools"]] == ["b"]
    assert found["tool_choice"] == {"type": "any"}


def test_a_server_tool_is_left_out_if_the_mapping_drops_it() -> None:
    body = responses_ask(tools=[TOOL, {"type": "web_search", "external_web_access": False}])
    found, remembered = sent(body, from_responses(drop=("web_search",)))
    assert [tool["name"] for tool in found["tools"]] == ["look"]
    assert "web_search" in remembered.left_out
    with pytest.raises(Unfit, match="web_search"):
        from_responses(drop=("file_search",)).request(body, "m")


def reasoning(mark: str | None, words: str = "hm") -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": words}] if words else [],
        "encrypted_content": mark,
    }


def test_thinking_returns_to_its_model_before_what_it_led_to() -> None:
    items = [
        user(),
        reasoning(seal(DOMAIN, "tsig/na+ture=")),
        reasoning(seal(DOMAIN, "rdata"), ""),
        CALL,
        OUTPUT,
    ]
    found, remembered = sent(responses_ask(*items, reasoning={"effort": "low"}), from_responses(thinking="adaptive"))
    assert found["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig/na+ture="},
        {"type": "redacted_thinking", "data": "data"},
    ]
    assert found["thinking"] == {"type": "adaptive"}
    assert remembered.left_out == ()


@pytest.mark.parametrize("mark", ["gAAAA of OpenAI", seal("other/model", "tsig"), seal(DOMAIN), None])
def test_reasoning_of_another_model_is_never_sent(mark: str | None) -> None:
    """router-for-me/CLIProxyAPI#1584, #570, kaitranntt/ccs#415: foreign signatures are refused."""
    body = responses_ask(user(), reasoning(mark), CALL, OUTPUT, reasoning={"effort": "low"})
    found, remembered = sent(body, from_responses(thinking="budget"))
    assert [block["type"] for block in found["messages"][1]["content"]] == ["tool_use"]
    assert "thinking" not in found, "Claude refuses a budget amid calls that came without thinking"
    assert remembered.left_out == ("reasoning", "reasoning item")


@pytest.mark.parametrize("between", [[], [said("assistant", "")]])
def test_thinking_that_led_to_nothing_is_not_sent(between: list[dict[str, Any]]) -> None:
    found = document(responses_ask(user(), reasoning(seal(DOMAIN, "tsig")), *between, user("b")))
    assert [turn["role"] for turn in found["messages"]] == ["user"]


def test_a_budget_is_asked_for_after_a_call_that_came_with_its_thinking() -> None:
    items = [user(), reasoning(seal(DOMAIN, "tsig")), CALL, OUTPUT]
    found, remembered = sent(responses_ask(*items, reasoning={"effort": "low"}), from_responses(thinking="budget"))
    assert found["thinking"] == {"type": "enabled", "budget_tokens": 4096}
    assert remembered.left_out == ()


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tool_choice": {"type": "function", "name": "look"}}, {"type": "tool", "name": "look"}),
        ({"tool_choice": {"type": "custom", "name": "apply_patch"}}, {"type": "tool", "name": "apply_patch"}),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_a_choice_of_tools_reaches_the_model(fields: dict[str, Any], choice: dict[str, Any] | None) -> None:
    assert document(responses_ask(tools=[TOOL, PATCH], **fields)).get("tool_choice") == choice


def test_strict_functions_stay_strict_and_custom_tools_have_no_strictness() -> None:
    found = document(responses_ask(tools=[{**TOOL, "strict": True}, {**PATCH, "strict": True}]))
    assert [tool.get("strict") for tool in found["tools"]] == [True, None]


def test_a_refusal_of_the_model_stays_in_the_conversation() -> None:
    refused = said("assistant", [{"type": "refusal", "refusal": "no"}])
    found = document(responses_ask(user(), refused, user("why?")))
    assert found["messages"][1] == {"role": "assistant", "content": [{"type": "text", "text": "no"}]}


def test_hints_are_left_out_and_named() -> None:
    hints = {"client_metadata": {"a": "b"}, "prompt_cache_key": "k", "truncation": "auto", "service_tier": "auto"}
    found, remembered = sent(
        responses_ask(temperature=1.5, text={"verbosity": "low"}, include=["x"], new=1, **hints), from_responses()
    )
    assert found.keys() == {"model", "messages", "max_tokens", "temperature"}
    assert found["temperature"] == 1
    assert set(remembered.left_out) == {*hints, "temperature", "verbosity", "include", "new"}


def test_a_schema_for_the_answer_is_closed() -> None:
    schema = {"type": "object", "properties": {}}
    asked = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    assert document(responses_ask(text=asked))["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "JSON" in document(responses_ask(text={"format": {"type": "json_object"}}))["system"][-1]["text"]


def test_a_document_by_its_data_or_its_url() -> None:
    parts = [
        {"type": "input_file", "filename": "z.pdf", "file_data": "data:application/pdf;base64,BBBB"},
        {"type": "input_file", "file_url": "https://x.example/y.pdf"},
    ]
    assert [block["source"]["type"] for block in document(responses_ask(user(parts)))["messages"][0]["content"]] == [
        "base64",
        "url",
    ]
