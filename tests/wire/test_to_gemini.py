"""Messages requests, translated to Gemini. Numbers name the issues where others met the fault."""

import json
from typing import Any

import pytest

from tokenferry.errors import Unfit
from tokenferry.wire import Quirks
from tokenferry.wire._envelope import seal
from tokenferry.wire.gemini._codecs import CountOnGemini
from wire.rig import DOMAIN, ask, sent, to_gemini

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}
INLINE_PNG = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
SKIPPED = "skip_thought_signature_validator"
TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "$schema": "x"}, "strict": True}
SECOND: dict[str, Any] = {"thinking": "budget"}
"""The quirks of models of the second generation."""


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(known: str, name: str = "look", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": known, "name": name, "input": arguments}


def result(known: str, content: Any = "seen", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": known, "content": content, **fields}


def signed(payload: str, domain: str = DOMAIN) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", "signature": seal(domain, payload)}


def document(body: bytes, **quirks: Any) -> dict[str, Any]:
    return sent(body, to_gemini(**quirks))[0]


def contents(body: bytes, **quirks: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(body, **quirks)["contents"]
    return found


def unfit(body: bytes, **quirks: Any) -> str:
    with pytest.raises(Unfit) as caught:
        to_gemini(**quirks).request(body, "m")
    return str(caught.value)


def test_a_conversation_with_a_tool() -> None:
    body = ask(
        user(text("look there")),
        assistant(text("I "), call("toolu_1", at="x")),
        user(text("and then?"), result("toolu_1")),
        {"role": "system", "content": "be brief"},
        system=[text("x-anthropic-billing-header: 1"), text("You look."), text("Well.")],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        stream=True,
        temperature=0.5,
        top_k=3,
        stop_sequences=[*"abcdef"],
        metadata={"user_id": "u"},
    )
    found, remembered = sent(body, to_gemini())
    assert found == {
        "systemInstruction": {"parts": [{"text": "You look.\n\nWell."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "look there"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "I "},
                    {"functionCall": {"name": "look", "args": {"at": "x"}}, "thoughtSignature": SKIPPED},
                ],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"output": "seen"}}}]},
            {
                "role": "user",
                "parts": [{"text": "and then?"}, {"text": "<system-reminder>\nbe brief\n</system-reminder>"}],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "look", "description": "Looks.", "parametersJsonSchema": {"type": "object"}}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {
            "maxOutputTokens": 1000,
            "temperature": 0.5,
            "topK": 3,
            "stopSequences": [*"abcde"],
        },
    }
    assert remembered.path == "/models/model:streamGenerateContent?alt=sse"
    assert remembered.left_out == ("disable_parallel_tool_use", "metadata", "stop_sequences", "strict")


@pytest.mark.parametrize(("choice", "mode"), [("auto", "AUTO"), ("any", "ANY"), ("none", "NONE")])
def test_the_choice_of_tool(choice: str, mode: str) -> None:
    found = document(ask(tools=[TOOL], tool_choice={"type": choice}))
    assert found["toolConfig"] == {"functionCallingConfig": {"mode": mode}}
    assert "toolConfig" not in document(ask(tool_choice={"type": "auto"}))


def test_there_is_one_response_per_call_in_order_and_text_is_separate() -> None:
    """google-gemini/gemini-cli#4217, OmniRoute#1412: the vendor counts them, and matches by order where ids miss."""
    calls = [
        call(known, name, n=number) for number, (known, name) in enumerate(zip("abc", ("f", "f", "g"), strict=True))
    ]
    results = [result("c", "C"), text("beside"), result("a", "A"), result("b", "B", is_error=True)]
    found = contents(ask(user(text("go")), assistant(*calls), user(*results)))
    assert [part.get("thoughtSignature") for part in found[1]["parts"]] == [SKIPPED, None, None]
    assert [part["functionResponse"] for part in found[2]["parts"]] == [
        {"name": "f", "response": {"output": "A"}},
        {"name": "f", "response": {"error": "B"}},
        {"name": "g", "response": {"output": "C"}},
    ]
    assert found[3] == {"role": "user", "parts": [{"text": "beside"}]}


def test_results_of_two_turns_are_one_content_and_a_missing_one_is_unfit() -> None:
    calls = assistant(call("a"), call("b"))
    found = contents(ask(user(text("go")), calls, user(result("a"), text("1")), user(text("2"), result("b"))))
    assert [len(one["parts"]) for one in found] == [1, 2, 2, 2]
    found = contents(ask(user(text("go")), assistant(call("a")), user(result("a")), user(text("1")), user(text("2"))))
    assert [len(one["parts"]) for one in found] == [1, 1, 1, 2], "texts stay apart from results"
    assert "has no result" in unfit(ask(user(text("go")), calls, user(result("a"))))


def test_an_id_returns_only_if_gemini_issued_it() -> None:
    calls = [call("gemini_x1"), call("call_2")]
    found = contents(ask(user(text("go")), assistant(*calls), user(result("gemini_x1"), result("call_2"))))
    assert [part["functionCall"].get("id") for part in found[1]["parts"]] == ["x1", None]
    assert [part["functionResponse"].get("id") for part in found[2]["parts"]] == ["x1", None]


def test_signatures_return_to_their_parts() -> None:
    """router-for-me/CLIProxyAPI#2098, lbjlaq/Antigravity-Manager#139: a call without its own is refused."""
    steps = [
        user(text("go")),
        assistant(signed("S1"), call("a"), call("b")),
        user(result("a"), result("b")),
        assistant(signed(""), text("so"), signed("S2"), call("c"), signed(""), call("d")),
        user(result("c"), result("d")),
    ]
    for quirks in ({}, SECOND):
        found = contents(ask(*steps), **quirks)
        assert [part.get("thoughtSignature") for part in found[1]["parts"]] == ["S1", None]
        assert [(part.get("text"), part.get("thoughtSignature")) for part in found[3]["parts"]] == [
            ("so", None),
            (None, "S2"),
            (None, None),
        ]


@pytest.mark.parametrize(
    "block",
    [
        signed("S1", "other/model"),
        {"type": "thinking", "thinking": "hm", "signature": "EqQBCg"},
        {"type": "redacted_thinking", "data": "x"},
    ],
)
def test_a_foreign_signature_is_never_sent(block: dict[str, Any]) -> None:
    """CLIProxyAPI#1584, #570, kaitranntt/ccs#415: "Corrupted thought signature"."""
    body = ask(user(text("go")), assistant(block, call("a")), user(result("a")))
    found, remembered = sent(body, to_gemini())
    assert found["contents"][1]["parts"] == [
        {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": SKIPPED}
    ]
    assert remembered.left_out == ("thinking",)
    assert "thoughtSignature" not in contents(body, **SECOND)[1]["parts"][0]


def test_images_of_results_are_in_them_since_the_third_generation() -> None:
    turns = [user(text("go")), assistant(call("a"), call("b")), user(result("a", [text("this"), PNG]), result("b"))]
    response = contents(ask(*turns))[2]["parts"][0]["functionResponse"]
    assert response == {"name": "look", "response": {"output": "this"}, "parts": [INLINE_PNG]}
    found = contents(ask(*turns), **SECOND)
    assert "parts" not in found[2]["parts"][0]["functionResponse"]
    assert found[3]["parts"] == [{"text": "From the result of the call of look:"}, INLINE_PNG]


def test_images_and_documents() -> None:
    assert contents(ask(user(PNG, PDF)))[0]["parts"] == [
        INLINE_PNG,
        {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
    ]
    assert "no documents but text" in unfit(ask(user(PDF)), documents=False)
    for kind in ("image", "document"):
        source = {"type": "url", "url": "https://example.com/x"}
        assert "by its URL" in unfit(ask(user({"type": kind, "source": source})))


@pytest.mark.parametrize(
    ("fields", "third", "second"),
    [
        ({}, None, None),
        ({"thinking": {"type": "disabled"}}, {"thinkingLevel": "LOW"}, {"thinkingBudget": 0}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 20_000}},
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
            {"includeThoughts": True, "thinkingBudget": 20_000},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 60_000}},
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
            {"includeThoughts": True, "thinkingBudget": 24_576},
        ),
        (
            {"thinking": {"type": "adaptive"}},
            {"includeThoughts": True},
            {"includeThoughts": True, "thinkingBudget": -1},
        ),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}},
            {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
            {"includeThoughts": True, "thinkingBudget": 16_384},
        ),
        ({"output_config": {"effort": "max"}}, {"thinkingLevel": "HIGH"}, {"thinkingBudget": 24_576}),
    ],
)
def test_thinking_is_asked_for_by_level_or_by_budget_not_both(
    fields: dict[str, Any], third: dict[str, Any] | None, second: dict[str, Any] | None
) -> None:
    body = ask(**fields, max_tokens=64_000)
    assert document(body)["generationConfig"].get("thinkingConfig") == third
    assert document(body, **SECOND)["generationConfig"].get("thinkingConfig") == second
    found, remembered = sent(body, to_gemini(thinking="never", efforts=()))
    assert "thinkingConfig" not in found["generationConfig"]
    assert bool(remembered.left_out) == ("includeThoughts" in (third or {}) or "effort" in str(fields))


def test_thinking_leaves_room_for_an_answer() -> None:
    """Thinking counts towards Gemini's limit of output, which an effort or a provider's own limit may exceed."""
    for fields, quirks in (
        ({"output_config": {"effort": "high"}, "max_tokens": 4000}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}, "max_tokens": 9000}, {"max_output_tokens": 4000}),
    ):
        config = document(ask(**fields), **SECOND, **quirks)["generationConfig"]
        assert (config["maxOutputTokens"], config["thinkingConfig"]["thinkingBudget"]) == (4000, 2000)


def test_a_model_that_always_thinks_is_asked_for_its_least() -> None:
    config = document(ask(thinking={"type": "disabled"}), **SECOND, budgets=(128, 32_768))["generationConfig"]
    assert config["thinkingConfig"] == {"thinkingBudget": 128}


def test_a_schema_for_the_answer_which_older_models_take_only_without_tools() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}
    body = ask(output_config={"format": {"type": "json_schema", "schema": schema}}, tools=[TOOL])
    config = document(body)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert "format and tools" in unfit(body, **SECOND)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (ask(user(text("a")), assistant(text("b"))), "can't continue"),
        (ask(user(text(""))), "every message of the request is empty"),
        (ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "web_search_20250305"),
        (ask(user(text("a")), assistant(call("x"), call("x"))), "two tool calls have the id"),
        (ask(user(result("x"))), "has no call right before it"),
        (ask(mcp_servers=[{}]), "mcp_servers"),
    ],
)
def test_a_part_that_cannot_be_translated_is_unfit_and_named(body: bytes, word: str) -> None:
    assert word in unfit(body)


def test_limits_and_names_obey_the_vendor() -> None:
    odd = ["1st", "-x", "mcp__" + "a" * 100, "a b"]
    body = ask(tools=[{**TOOL, "name": name} for name in odd], max_tokens=64_000)
    found, remembered = sent(body, to_gemini(max_output_tokens=8_000))
    assert found["generationConfig"]["maxOutputTokens"] == 8_000
    names = [one["name"] for one in found["tools"][0]["functionDeclarations"]]
    assert [remembered.names[name] for name in names] == odd
    assert all(len(name) <= 65 and (name[0].isalpha() or name[0] == "_") for name in names)


@pytest.mark.parametrize("model", ["../x", "a/../b", "a?key=b", "a:b", "a#b", "", "/a", "a/", "a%2fb", ".."])
def test_a_models_name_never_changes_the_path(model: str) -> None:
    with pytest.raises(Unfit, match="part of a path"):
        to_gemini().request(ask(), model)


def test_claude_at_vertex_is_pointed_to_its_own_provider() -> None:
    with pytest.raises(Unfit, match="vertex-claude"):
        to_gemini(vertex=True).request(ask(), "claude-opus-4-6")


@pytest.mark.parametrize(
    ("model", "vertex", "path"),
    [
        ("gemini-3", False, "/models/gemini-3:generateContent"),
        ("tunedModels/mine", False, "/tunedModels/mine:generateContent"),
        ("gemini-3", True, "/publishers/google/models/gemini-3:generateContent"),
        ("endpoints/123", True, "/endpoints/123:generateContent"),
    ],
)
def test_the_path_names_the_model(model: str, *, vertex: bool, path: str) -> None:
    assert to_gemini(vertex=vertex).request(ask(), model).path == path


def test_counting_tokens_needs_no_output_limit() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}).encode()
    request = CountOnGemini(Quirks(), DOMAIN).request(body, "gemini-3")
    asked = json.loads(request.body)["generateContentRequest"]
    assert request.path == "/models/gemini-3:countTokens"
    assert (asked["model"], asked["contents"]) == ("models/gemini-3", [{"role": "user", "parts": [{"text": "hi"}]}])
    assert asked["tools"]
    plain = CountOnGemini(Quirks(vertex=True), DOMAIN).request(body, "gemini-3")
    assert json.loads(plain.body).keys() == {"contents", "tools"}
    assert CountOnGemini(Quirks(), DOMAIN).answer(b'{"totalTokens": 7}', request)[0] == b'{"input_tokens":7}'


def test_what_lies_within_the_vendors_limits_is_sent_as_it_is() -> None:
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("a1", "_2")]
    found, remembered = sent(ask(stop_sequences=list("abcde"), tools=tools), to_gemini())
    assert found["generationConfig"]["stopSequences"] == list("abcde")
    assert [one["name"] for one in found["tools"][0]["functionDeclarations"]] == ["a1", "_2"]
    assert (remembered.left_out, remembered.names) == ((), {})


def test_a_budget_as_large_as_the_limit_is_halved() -> None:
    body = ask(max_tokens=5000, thinking={"type": "enabled", "budget_tokens": 5000})
    assert document(body, **SECOND)["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 2500
