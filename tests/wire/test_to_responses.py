"""Messages requests, translated to the Responses API. Numbers name the issues where others met the fault."""

from typing import Any

import pytest

from tokenferry.errors import Unfit
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, ask, sent, to_responses

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False}
TOOL = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
LONG_NAME = "mcp__a-server-with-a-long-name__" + "x" * 200


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def result(content: Any = "seen", known: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": known, "content": content, **fields}


def document(body: bytes, **quirks: Any) -> dict[str, Any]:
    return sent(body, to_responses(**quirks))[0]


def unfit(body: bytes, **quirks: Any) -> str:
    with pytest.raises(Unfit) as caught:
        to_responses(**quirks).request(body, "m")
    return str(caught.value)


def test_a_conversation_with_a_tool() -> None:
    body = ask(
        user(text("look there")),
        assistant(text("I "), text("will."), CALL),
        user(text("and then?"), result()),
        {"role": "system", "content": "be brief"},
        user(text("a"), PNG),
        system=[text("x-anthropic-billing-header: 1"), text("You look."), text("Well.")],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stream=True,
        temperature=0.5,
        top_k=3,
    )
    found, remembered = sent(body, to_responses())
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
    assert found == {
        "model": "model",
        "instructions": "You look.\n\nWell.",
        "input": [
            {"type": "message", "role": "user", "content": "look there"},
            {"type": "message", "role": "assistant", "content": "I will."},
            {"type": "function_call", "call_id": "toolu_1", "name": "look", "arguments": '{"at": "x"}'},
            {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"},
            {"type": "message", "role": "user", "content": "and then?"},
            {"type": "message", "role": "system", "content": "be brief"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, image]},
        ],
        "tools": [{"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": False}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 1000,
        "stream": True,
        "temperature": 0.5,
        "store": False,
    }
    assert (remembered.stream, remembered.left_out) == (True, ("top_k",))


def test_a_system_turn_stays_at_its_place() -> None:
    """router-for-me/CLIProxyAPI#3608, UKGovernmentBEIS/inspect_ai#4095, inflaborg/ccrelay#124."""
    turns = [user(text("a")), {"role": "system", "content": "brief"}, assistant(text("b")), user(text("c"))]
    for role in ("system", "developer"):
        found = document(ask(*turns), system_role=role)["input"]
        assert [item["role"] for item in found] == ["user", role, "assistant", "user"]


def test_a_schema_is_strict_only_if_asked_for_and_closed() -> None:
    """The default of `strict` is true, and Responses refuses an open schema."""
    tools = [{**TOOL, "strict": True}, {"name": "b", "input_schema": {"type": "object"}, "strict": True}, TOOL]
    found, remembered = sent(ask(tools=tools), to_responses())
    assert [tool["strict"] for tool in found["tools"]] == [True, False, False]
    assert remembered.left_out == ("strict",)


def test_the_images_and_errors_of_results_stay_in_them() -> None:
    """griffinwork40/agent-afk#127, TriDefender/zcode-api#23: they were lost."""
    calls = [{**CALL, "id": f"toolu_{number}"} for number in range(3)]
    results = [
        result([text("one"), PNG], "toolu_0"),
        result("no such place", "toolu_1", is_error=True),
        result([PNG], "toolu_2", is_error=True),
    ]
    found = document(ask(user(text("a")), assistant(*calls), user(*results)))
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
    assert [item["output"] for item in found["input"] if item["type"] == "function_call_output"] == [
        [{"type": "input_text", "text": "one"}, image],
        "[tool error] no such place",
        [{"type": "input_text", "text": "[tool error] "}, image],
    ]


def test_documents_are_sent_if_the_model_takes_them() -> None:
    linked = {"type": "document", "title": "t", "source": {"type": "url", "url": "https://x.example/y.pdf"}}
    found = document(ask(user(PDF, linked)), documents=True)
    assert found["input"][0]["content"] == [
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,BBBB"},
        {"type": "input_text", "text": "t"},
        {"type": "input_file", "file_url": "https://x.example/y.pdf"},
    ]
    assert "document" in unfit(ask(user(PDF)))


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, {"effort": "medium", "summary": "auto"}),
        ({"thinking": {"type": "adaptive"}}, {"summary": "auto"}),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "max"}}, {"effort": "high", "summary": "auto"}),
        ({}, None),
    ],
)
def test_thinking_is_reasoning_whose_encrypted_content_is_asked_for(
    fields: dict[str, Any], reasoning: dict[str, Any] | None
) -> None:
    found = document(ask(**fields), efforts=("low", "medium", "high"))
    assert found.get("reasoning") == reasoning
    assert found.get("include") == (["reasoning.encrypted_content"] if reasoning else None)
    assert "reasoning" not in document(ask(**fields)), "a model that takes no efforts refuses the field"


OURS = seal(DOMAIN, "rs_1 gAAAA.b c")


def thought(signature: str, words: str = "hm") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def test_reasoning_returns_to_its_model_before_what_it_led_to() -> None:
    body = ask(user(text("a")), assistant(thought(OURS), text("b"), thought(OURS, ""), CALL), user(result()))
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA.b c"}
    found, remembered = sent(body, to_responses())
    assert found["input"][1:5] == [
        {**item, "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": "b"},
        {**item, "summary": []},
        {"type": "function_call", "call_id": "toolu_1", "name": "look", "arguments": '{"at": "x"}'},
    ]
    assert remembered.left_out == ()


@pytest.mark.parametrize(
    "block",
    [
        thought("of Claude"),
        thought(seal("up/other model", "rs_1 gAAAA")),
        thought(seal("other/model", "rs_1 gAAAA")),
        thought(seal(DOMAIN)),
        {"type": "redacted_thinking", "data": "x"},
    ],
)
def test_reasoning_of_another_model_is_never_sent(block: dict[str, Any]) -> None:
    """router-for-me/CLIProxyAPI#1584, #570, kaitranntt/ccs#415: foreign signatures are refused."""
    found, remembered = sent(ask(user(text("a")), assistant(block, CALL), user(result())), to_responses())
    assert [item["type"] for item in found["input"]] == ["message", "function_call", "function_call_output"]
    assert remembered.left_out == ("thinking",)


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    found = document(ask(user(text("a")), assistant(thought(OURS)), user(text("b"))))
    assert [item["type"] for item in found["input"]] == ["message", "message"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (ask(stop_sequences=["END"]), "stop_sequences"),
        (ask(user(text("a")), assistant(text("The answer is"))), "can't continue"),
        (ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "web_search_20250305"),
        (ask(user({"type": "image", "source": {"type": "file", "file_id": "f"}})), "file id"),
        (ask(user(text("a")), assistant(CALL), user(text("b"))), "toolu_1"),
        (ask(user(text("a")), assistant(CALL), user(result()), user(result())), "toolu_1"),
        (ask(mcp_servers=[{"x": 1}]), "mcp_servers"),
        (ask(tools=[TOOL], tool_choice={"type": "tool", "name": "b"}), "tool_choice"),
        (ask(inference_geo="eu"), "inference_geo"),
    ],
)
def test_a_part_that_cannot_be_translated_is_unfit_and_named(body: bytes, word: str) -> None:
    """Alishahryar1/free-claude-code#1470, CLIProxyAPI#3199: server tools became functions."""
    assert word in unfit(body)


def test_a_server_tool_is_left_out_if_the_mapping_drops_it() -> None:
    found, remembered = sent(
        ask(tools=[TOOL, {"type": "web_search_20250305", "name": "web_search"}]), to_responses(drop=("web_search",))
    )
    assert [tool["name"] for tool in found["tools"]] == ["look"]
    assert remembered.left_out == ("web_search_20250305",)


def test_limits_and_names_obey_the_vendor() -> None:
    """ericc-ch/copilot-api#222, CLIProxyAPI#5040, #2758; anthropics/claude-code#21136: names above 64 characters."""
    assert document(ask(max_tokens=1))["max_output_tokens"] == 16
    assert document(ask(max_tokens=64_000), max_output_tokens=8192)["max_output_tokens"] == 8192
    found, remembered = sent(ask(tools=[{"name": LONG_NAME, "input_schema": {}}]), to_responses())
    name = found["tools"][0]["name"]
    assert len(name) <= 64
    assert remembered.names == {name: LONG_NAME}
    assert document(ask(tools=[TOOL], tool_choice={"type": "tool", "name": "look"}))["tool_choice"] == {
        "type": "function",
        "name": "look",
    }


def test_a_schema_for_the_answer() -> None:
    found = document(ask(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}))
    assert found["text"] == {
        "format": {"type": "json_schema", "name": "output", "schema": SCHEMA, "strict": True},
    }
