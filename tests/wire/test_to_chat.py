"""Messages requests, translated to Chat Completions. Numbers name the issues where others met the fault."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.errors import Unfit
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, ask, sent, to_chat

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False}
TOOL = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def result(content: Any = "seen", known: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": known, "content": content, **fields}


def unfit(body: bytes, **quirks: Any) -> str:
    with pytest.raises(Unfit) as caught:
        to_chat(**quirks).request(body, "m")
    return str(caught.value)


def test_a_conversation_with_a_tool() -> None:
    body = ask(
        user(text("look there")),
        assistant(text("I will."), CALL),
        user(text("and then?"), result()),
        system=[text("x-anthropic-billing-header: 1"), text("You look."), text("Well.")],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stream=True,
        stop_sequences=["END"],
        temperature=0.5,
    )
    document, remembered = sent(body)
    assert document == {
        "model": "model",
        "messages": [
            {"role": "system", "content": "You look.\n\nWell."},
            {"role": "user", "content": "look there"},
            {
                "role": "assistant",
                "content": "I will.",
                "tool_calls": [
                    {"type": "function", "id": "toolu_1", "function": {"name": "look", "arguments": '{"at": "x"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "seen"},
            {"role": "user", "content": "and then?"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 1000,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
    }
    assert remembered.stream
    assert remembered.left_out == ()
    assert "look" not in repr(remembered)


def test_the_output_limit_has_the_field_and_the_size_that_the_upstream_takes() -> None:
    """ericc-ch/copilot-api#222, router-for-me/CLIProxyAPI#5040, Gitlawb/openclaude#331: max_tokens was refused."""
    document, _ = sent(ask(max_tokens=64_000), to_chat(max_field="max_completion_tokens", max_output_tokens=8192))
    assert document["max_completion_tokens"] == 8192
    assert "max_tokens" not in document


LEAKS = {
    "metadata": {"user_id": "account_1"},
    "context_management": {"edits": [1]},
    "service_tier": "auto",
    "container": "c",
    "betas": ["x"],
    "cache_control": {"type": "ephemeral"},
    "of_a_new_kind": 1,
}


def test_hints_are_left_out_and_named_and_none_leaks() -> None:
    """farion1231/cc-switch#3841, CaddyGlow/ccproxy-api#59, decolua/9router#1468: the upstream refused such fields."""
    marked = text("x", cache_control={"type": "ephemeral"}, citations=[{"type": "y"}], newer=1)
    document, remembered = sent(ask(user(marked), top_k=3, **LEAKS))
    assert document.keys() == {"model", "messages", "max_tokens"}
    assert document["messages"] == [{"role": "user", "content": "x"}]
    assert set(remembered.left_out) == {*LEAKS, "top_k", "citations", "newer"}


def test_what_a_vendor_limits_is_limited_and_named() -> None:
    body = ask(stop_sequences=list("abcde"), top_k=3)
    document, remembered = sent(body)
    assert (document["stop"], remembered.left_out) == (list("abcd"), ("stop_sequences", "top_k"))
    document, remembered = sent(ask(stop_sequences=list("abcd"), top_k=3), to_chat(top_k=True))
    assert (document["stop"], document["top_k"], remembered.left_out) == (list("abcd"), 3, ())
    remote = {"type": "document", "source": {"type": "url", "url": "https://x"}}
    assert "a document is given by its URL" in unfit(ask(user(remote)), documents=True)


def test_a_system_turn_stays_at_its_place() -> None:
    """CLIProxyAPI#3608, UKGovernmentBEIS/inspect_ai#4095, inflaborg/ccrelay#124: it was moved to the front."""
    document, _ = sent(ask(user(text("a")), {"role": "system", "content": "be brief"}, user(text("b"))))
    (only,) = document["messages"]  # some models take no two of one role in a row
    assert [part["text"] for part in only["content"]] == [
        "a",
        "<system-reminder>\nbe brief\n</system-reminder>",
        "b",
    ]


@pytest.mark.parametrize("kind", ["web_search_20250305", "code_execution_20250825", "bash_20250124"])
def test_a_server_tool_is_unfit_and_does_not_become_a_function(kind: str) -> None:
    """Alishahryar1/free-claude-code#1470, CLIProxyAPI#3199: the client was asked to run it."""
    body = ask(tools=[{"type": kind, "name": "x", "max_uses": 3}, TOOL])
    assert kind in unfit(body)
    document, remembered = sent(body, to_chat(drop=(kind[:8],)))
    assert [tool["function"]["name"] for tool in document["tools"]] == ["look"]
    assert kind in remembered.left_out


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "web_search"}, {"type": "any"}])
def test_demanding_a_call_of_a_dropped_tool_is_unfit(choice: dict[str, str]) -> None:
    """It would be an answer without the call, or an error about a field that the client never sent."""
    server = {"type": "web_search_20250305", "name": "web_search"}
    body = ask(tools=[server], tool_choice=choice)
    with pytest.raises(Unfit, match="demands a call of a tool that is not sent"):
        to_chat(drop=("web_search",)).request(body, "model")


def test_images_and_errors_of_results_reach_the_model() -> None:
    """griffinwork40/agent-afk#127, TriDefender/zcode-api#23: both were lost."""
    other = {**CALL, "id": "toolu_2"}
    document, _ = sent(
        ask(
            user(text("go")),
            assistant(CALL, other),
            user(result([text("shot"), PNG]), result("no such page", "toolu_2", is_error=True), text("see?")),
        )
    )
    _, _, first, second, after = document["messages"]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("toolu_1", "toolu_2")
    assert first["content"].startswith("shot\n")
    assert second["content"] == "[tool error] no such page"
    assert [part["type"] for part in after["content"]] == ["text", "image_url", "text"]
    assert "toolu_1" in after["content"][0]["text"]
    assert after["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"


def test_foreign_reasoning_is_never_sent_and_own_reasoning_only_if_wanted() -> None:
    """CLIProxyAPI#1584, #570, kaitranntt/ccs#415 (foreign signatures); earendil-works/pi#3636 (not returned)."""
    own = {"type": "thinking", "thinking": "mine", "signature": seal(DOMAIN)}
    foreign = {"type": "thinking", "thinking": "theirs", "signature": "EqQB"}
    other = {"type": "thinking", "thinking": "of another", "signature": seal("other/model")}
    body = ask(
        user(text("a")),
        assistant(own, foreign, other, {"type": "redacted_thinking", "data": "z"}, text("b")),
        user(text("c")),
    )
    document, remembered = sent(body)
    assert document["messages"][1] == {"role": "assistant", "content": "b"}
    assert remembered.left_out == ("thinking",)
    document, _ = sent(body, to_chat(returns_reasoning=True))
    assert document["messages"][1] == {"role": "assistant", "content": "b", "reasoning_content": "mine"}


@pytest.mark.parametrize(
    "turns",
    [
        [user(text("a")), assistant(CALL), user(text("b"))],
        [user(text("a")), assistant(CALL)],
        [user(text("a")), assistant(CALL), assistant(text("b"))],
        [user(text("a")), user(result())],
        [user(text("a")), assistant(CALL), user(result(), result())],
        [user(text("a")), assistant(CALL, CALL), user(result())],
    ],
)
def test_a_call_without_exactly_one_result_is_unfit(turns: list[dict[str, Any]]) -> None:
    assert "toolu_1" in unfit(ask(*turns))


def test_results_in_two_user_turns_precede_the_text_between_them() -> None:
    other = {**CALL, "id": "toolu_2"}
    turns = [user(text("a")), assistant(CALL, other), user(result(), text("x")), user(result("2", "toolu_2"))]
    document, _ = sent(ask(*turns))
    assert [one["role"] for one in document["messages"]] == ["user", "assistant", "tool", "tool", "user"]


@pytest.mark.parametrize(
    ("block", "word"),
    [
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "image"),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, "document"),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A"}}, "document"),
        ({"type": "server_tool_use", "id": "x", "name": "y", "input": {}}, "server_tool_use"),
        ({"type": "container_upload", "file_id": "x"}, "container_upload"),
        ({"type": "of_a_new_kind"}, "of_a_new_kind"),
        (CALL, "tool_use"),
    ],
)
def test_content_that_cannot_be_translated_is_unfit_and_named(block: dict[str, Any], word: str) -> None:
    assert word in unfit(ask(user(block)))


@pytest.mark.parametrize("field", ["mcp_servers", "thread", "inference_geo"])
def test_a_field_that_changes_what_is_asked_for_is_unfit_unless_it_is_empty(field: str) -> None:
    assert field in unfit(ask(**{field: [{"x": 1}]}))
    assert sent(ask(**{field: None}))[1].left_out == sent(ask(**{field: []}))[1].left_out == ()


def test_documents_and_search_results_are_text() -> None:
    found = {"type": "search_result", "source": "https://x", "title": "T", "content": [text("body")]}
    plain = {"type": "document", "title": "D", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    document, _ = sent(ask(user(found, plain)))
    assert [part["text"] for part in document["messages"][0]["content"]] == ["T\nhttps://x\nbody", "D\nwords"]


def test_a_pdf_is_sent_if_the_model_takes_it() -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    document, _ = sent(ask(user(pdf)), to_chat(documents=True))
    assert document["messages"][0]["content"][0]["file"]["file_data"] == "data:application/pdf;base64,AAAA"


def test_images_are_unfit_for_a_model_that_takes_none() -> None:
    assert "image" in unfit(ask(user(PNG)), images=False)


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16385}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, None),
    ],
)
def test_thinking_is_an_effort_that_the_model_takes(fields: dict[str, Any], effort: str | None) -> None:
    document, remembered = sent(ask(**fields), to_chat(efforts=("low", "medium", "high")))
    assert document.get("reasoning_effort") == effort
    assert remembered.left_out == ()


def test_thinking_is_left_out_for_a_model_that_takes_none() -> None:
    document, remembered = sent(ask(thinking={"type": "enabled", "budget_tokens": 9000}))
    assert "reasoning_effort" not in document
    assert remembered.left_out == ("thinking",)


def test_disabled_thinking_is_sent_if_the_model_has_an_effort_for_it() -> None:
    document, _ = sent(ask(thinking={"type": "disabled"}), to_chat(efforts=("none", "low")))
    assert document["reasoning_effort"] == "none"


OPEN = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {"b": {}}}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(("schema", "strict"), [(SCHEMA, True), (OPEN, None), ({"type": "object"}, None)])
def test_strict_is_set_only_for_closed_schemas(schema: dict[str, Any], strict: bool | None) -> None:  # noqa: FBT001
    body = ask(
        tools=[{**TOOL, "input_schema": schema, "strict": True}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    document, _ = sent(body)
    assert document["tools"][0]["function"].get("strict") is strict
    assert document["tools"][0]["function"]["parameters"] == schema
    assert document["response_format"]["json_schema"].get("strict") is strict
    assert document["response_format"]["json_schema"]["schema"] == schema


@given(st.text(min_size=1, max_size=200).filter(lambda one: one.isprintable()))
def test_ids_and_names_obey_the_vendor_and_are_the_same_in_every_turn(odd: str) -> None:
    """anomalyco/opencode#1680, nearai/ironclaw#1241: Mistral takes nine letters and digits alone."""
    turns = [user(text("a")), assistant({**CALL, "id": odd, "name": odd}), user(result(known=odd))]
    for quirks, longest in (({}, 40), ({"tool_ids": "nine"}, 9)):
        document, remembered = sent(ask(*turns, tools=[{**TOOL, "name": odd}]), to_chat(**quirks))
        call = document["messages"][1]["tool_calls"][0]
        assert call["id"] == document["messages"][2]["tool_call_id"]
        assert 0 < len(call["id"]) <= longest
        assert re.fullmatch("[A-Za-z0-9_-]+", call["id"])
        name = call["function"]["name"]
        assert name == document["tools"][0]["function"]["name"]
        assert len(name) <= 64
        assert name.isascii()
        assert remembered.names.get(name, name) == odd


def test_a_text_that_was_cut_in_a_surrogate_pair_is_sent_without_its_half() -> None:
    document, _ = sent(rb'{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a\ud83d"}]}')
    assert document["messages"][0]["content"] == "a?"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "Expecting value"),
        (b"[]", "object"),
        (b'{"model": 1}', "model"),
        (b'{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [1]}]}', "messages[0].content"),
        (b'{"model": "m", "max_tokens": "1", "messages": []}', "max_tokens"),
        (b'{"model": "m", "max_tokens": 1}', "messages"),
        (b'{"model": "m\x00"}', "control character"),
        (b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"tools": [{"input_schema": ' + b'{"a":' * 100_000, "nested"),
        (b'{"messages": [' + b'{"role":"user","content":""},' * 300_000 + b"]}", "objects"),
        (json.dumps({"model": "m", "messages": [], "input": "x"}).encode(), "max_tokens"),
    ],
)
def test_an_invalid_body_is_one_clear_error(body: bytes, word: str) -> None:
    reason = unfit(body)
    assert word in reason
    assert len(reason) < 300


def test_a_temperature_that_is_the_default_is_neither_sent_nor_named() -> None:
    for fields in ({}, {"temperature": 1}):
        for using in (to_chat(), to_chat(temperature=False)):
            document, remembered = sent(ask(**fields), using)
            assert ("temperature" in document, remembered.left_out) == (False, ())
